"""Density of points as a sum of Gaussian kernels, each at the mean of a cell; lengths are in bandwidths."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree

from napari_shiftseg.instances.cells import Cells
from napari_shiftseg.instances.neighbours import TREE_DIMENSIONS, blocks, has_trees

__all__ = ["REACH", "Kernels", "kernels_of"]

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
Tensor: TypeAlias = torch.Tensor

# Radius at which the kernel is cut: exp(-4.5) = 0.011.
REACH = 3.0
# The heaviest cells carry the density: one for so many points, within these bounds; of few points more, up to this product of
# both numbers; of very many points fewer, if they are a large enough share of them.
_POINTS_PER_CELL = 64
_FEWEST_CELLS = 2000
_MOST_CELLS = 12_000
_PRODUCT = 20_000_000
_ENOUGH = 0.9
# Positions whose near kernels a tree finds at once, and the share of the kernels up to which it pays.
_ROWS = 256
_FEW = 0.04
# Kernels up to which, in many dimensions, products find the pairs near each other faster than a tree.
_MANY = 4096
# Half the extent of the kernels up to which products in float32 give distances to three digits.
_NEAR = 40.0
# The exponent of a kernel beyond its reach: e to it is next to nothing, and not yet one of the slow smallest numbers.
_NOTHING = -60.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Kernels:
    """Weighted positions, each the centre of a kernel.

    Attributes
    ----------
    means, weights : Tensor
        (M, E) and (M,) float64.
    """

    means: Tensor
    weights: Tensor

    def sums(self, at: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Density at positions (S, E), and the kernel-weighted mean of their surroundings (S, E).

        Where the density is 0 the mean is the position itself.
        """
        found = np.empty((len(at), at.shape[1] + 1))
        for start in range(0, len(at), _ROWS):
            rows = slice(start, start + _ROWS)
            found[rows] = self._sparse(at[rows]) if self._few(at[rows]) else self._dense(at[rows])
        density, sums = found[:, 0], found[:, 1:]
        middle = self._middle.cpu().numpy()
        mean = np.where(density[:, None] > 0, sums / np.maximum(density, 1e-300)[:, None] + middle, at)
        return density, mean

    def peaks(self, distance: float) -> FloatArray:
        """(S, E) means that no other one within `distance` exceeds in density, as far as their kernels reach that far."""
        below = self._below_by_pairs(distance) if has_trees(self.means) else self._below_by_distance(distance)
        return np.asarray(self.means[~below].cpu().numpy())

    def _few(self, at: FloatArray) -> bool:
        """Whether so few kernels reach these positions that a tree pays."""
        if not has_trees(self.means) or self.means.shape[1] > TREE_DIMENSIONS:
            return False
        near = self._tree.query_ball_point(at[:: _ROWS // 8], REACH, return_length=True).mean()
        return bool(near < _FEW * len(self.means))

    def _sparse(self, at: FloatArray) -> FloatArray:
        """(S, E + 1) sums over the kernels of weights and of weighted places, by tree."""
        found = cKDTree(at).sparse_distance_matrix(self._tree, REACH, output_type="ndarray")
        shares = np.exp(-0.5 * found["v"] ** 2)
        weighted, rows = self._weighted.numpy()[found["j"]], found["i"]
        return np.stack([np.bincount(rows, shares * column, len(at)) for column in weighted.T], axis=1)

    def _dense(self, at: FloatArray) -> FloatArray:
        """The same over all kernels."""
        far, weighted = self._factors
        here = self._places(torch.from_numpy(at).to(far.device))
        parts = []
        for rows in blocks(len(here), len(self.means), far.device):
            exponent = here[rows] @ far
            kernel = torch.threshold_(exponent, -0.5 * REACH**2, _NOTHING).exp_()
            parts.append(kernel @ weighted)
        sums = torch.cat(parts).double().cpu().numpy()
        sums[sums[:, 0] < 1e-20] = 0
        return np.asarray(sums)

    def _places(self, at: Tensor) -> Tensor:
        """(S, E + 2) factors of positions (S, E), whose products with those of the kernels are exponents."""
        here = at - self._middle
        factors = torch.cat([here, torch.ones_like(here[:, :1]), -0.5 * (here * here).sum(dim=1, keepdim=True)], dim=1)
        return factors.to(self._factors[0].dtype)

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.means.numpy())

    @cached_property
    def _middle(self) -> Tensor:
        return self.means.mean(dim=0)

    @cached_property
    def _weighted(self) -> Tensor:
        """(M, E + 1) weight, and weight times place from the middle."""
        return torch.cat([self.weights[:, None], (self.means - self._middle) * self.weights[:, None]], dim=1)

    @cached_property
    def _factors(self) -> tuple[Tensor, Tensor]:
        """Matrices by which positions become exponents, and kernels sums."""
        centres = self.means - self._middle
        square = (centres * centres).sum(dim=1)
        far = torch.cat([centres, -0.5 * square[:, None], torch.ones_like(square[:, None])], dim=1).T
        exact = float(square.max()) > _NEAR**2
        wanted = torch.float64 if exact else torch.float32
        return far.to(wanted).contiguous(), self._weighted.to(wanted)

    def _below_by_pairs(self, distance: float) -> Tensor:
        one, other, exponents = self._pairs(distance)
        weights = self.weights.numpy()
        density = np.bincount(one, np.exp(exponents) * weights[other], len(weights))
        # of equals the first is the peak
        lower = (density[one] < density[other]) | ((density[one] == density[other]) & (one > other))
        below = torch.zeros(len(weights), dtype=torch.bool)
        below[torch.from_numpy(one[lower].astype(np.int64))] = True
        return below

    def _pairs(self, distance: float) -> tuple[IntArray, IntArray, FloatArray]:
        """(P,) both kernels of each pair within a distance, themselves included, and exponent of one at the other."""
        if self.means.shape[1] <= TREE_DIMENSIONS or len(self.means) > _MANY:
            pairs = self._tree.sparse_distance_matrix(self._tree, distance, output_type="ndarray")
            return pairs["i"], pairs["j"], -0.5 * pairs["v"] ** 2
        count, places, found = len(self.means), self._places(self.means), []
        for rows in blocks(count, count, places.device):
            exponents = (places[rows] @ self._factors[0]).numpy()
            near = np.flatnonzero(exponents >= -0.5 * distance * distance)
            one, other = np.divmod(near, count)
            found.append((one + rows.start, other, exponents.ravel()[near]))
        ones, others, shares = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return ones, others, shares

    def _below_by_distance(self, distance: float) -> Tensor:
        means, count = self.means, len(self.means)
        rows = blocks(count, count, means.device)
        density = torch.cat([self._near_kernels(means[part], distance) @ self.weights for part in rows])
        place = torch.arange(count, device=means.device)
        below = []
        for part in rows:
            near = self._near_kernels(means[part], distance) > 0
            own = density[part, None]
            lower = (own < density) | ((own == density) & (place[part, None] > place))
            below.append((near & lower).any(dim=1))
        return torch.cat(below)

    def _near_kernels(self, at: Tensor, distance: float) -> Tensor:
        """(S, M) values of the kernel, 0 beyond a distance."""
        gaps = torch.cdist(at, self.means, compute_mode="donot_use_mm_for_euclid_dist")
        return torch.exp(-0.5 * gaps * gaps) * (gaps <= distance)


def kernels_of(cells: Cells, seed: int) -> Kernels:
    """Kernels at the means of cells: of all, or of the heaviest, which then stand for all.

    Of equal cells a hash of their place decides, so noise in one point redraws no other.
    """
    points, counts = len(cells.index), cells.counts.cpu().numpy()
    places = np.rint(cells.corners.cpu().numpy() / cells.edge).astype(np.int64)
    chosen = np.lexsort((_mix(places, seed), -counts))
    together = np.cumsum(counts[chosen])
    enough = int(np.searchsorted(together, _ENOUGH * points)) + 1
    usual = min(max(_FEWEST_CELLS, points // _POINTS_PER_CELL, _PRODUCT // points), _MOST_CELLS)
    chosen = np.sort(chosen[: max(usual, min(enough, points // (2 * _POINTS_PER_CELL)))])
    kept = torch.from_numpy(chosen).to(cells.counts.device)
    weights = cells.counts[kept]
    return Kernels(means=cells.means[kept], weights=weights * (points / weights.sum()))


def _mix(keys: IntArray, seed: int) -> npt.NDArray[np.uint64]:
    """One well-mixed 64-bit number per row of integers (splitmix64); equal rows get equal numbers."""
    mixed = np.full(len(keys), seed, np.uint64)
    for column in keys.T:
        mixed = mixed + column.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed
