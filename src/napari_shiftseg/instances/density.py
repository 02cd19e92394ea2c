"""Density of points under Gaussian kernels, each at the mean of a cell, or on a grid; lengths are in bandwidths."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import ceil, pi, prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree

from napari_shiftseg.instances.constants import (
    ENOUGH,
    FEW_KERNELS,
    FEWEST_CELLS,
    FLOAT32_EXTENT,
    KERNEL_REACH,
    MANY_KERNELS,
    MOST_CELLS,
    MOST_NODES,
    NOTHING,
    POINTS_PER_CELL,
    POINTS_TIMES_CELLS,
    TREE_DIMENSIONS,
    TREE_ROWS,
)
from napari_shiftseg.instances.neighbours import Cells, Grid, blocks, has_trees, smoothed

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
Tensor: TypeAlias = torch.Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Kernels:
    """Weighted positions, each the centre of a kernel."""

    # means, weights: (M, E) and (M,) float64
    means: Tensor
    weights: Tensor

    def sums(self, at: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Density at positions (S, E), and the kernel-weighted mean of their surroundings (S, E).

        Where the density is 0 the mean is the position itself.
        """
        found = np.empty((len(at), at.shape[1] + 1))
        for start in range(0, len(at), TREE_ROWS):
            rows = slice(start, start + TREE_ROWS)
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
        near = self._tree.query_ball_point(at[:: TREE_ROWS // 8], KERNEL_REACH, return_length=True).mean()
        return bool(near < FEW_KERNELS * len(self.means))

    def _sparse(self, at: FloatArray) -> FloatArray:
        """(S, E + 1) sums over the kernels of weights and of weighted places, by tree."""
        found = cKDTree(at).sparse_distance_matrix(self._tree, KERNEL_REACH, output_type="ndarray")
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
            kernel = torch.threshold_(exponent, -0.5 * KERNEL_REACH**2, NOTHING).exp_()
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
        exact = float(square.max()) > FLOAT32_EXTENT**2
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
        if self.means.shape[1] <= TREE_DIMENSIONS or len(self.means) > MANY_KERNELS:
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
    enough = int(np.searchsorted(together, ENOUGH * points)) + 1
    usual = min(max(FEWEST_CELLS, points // POINTS_PER_CELL, POINTS_TIMES_CELLS // points), MOST_CELLS)
    chosen = np.sort(chosen[: max(usual, min(enough, points // (2 * POINTS_PER_CELL)))])
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


def grid_of(cells: Cells) -> Grid | None:
    """The density of all cells, or None if its grid would have too many dimensions or nodes."""
    means, edge, dim = cells.means, cells.edge, cells.means.shape[1]
    margin = ceil(KERNEL_REACH / edge)
    low = torch.floor(means.amin(dim=0) / edge).long() - margin
    shape = (torch.floor(means.amax(dim=0) / edge).long() - low + margin + 2).tolist()
    if dim > 3 or prod(shape) > max(MOST_NODES, 8 * len(cells.index)):
        return None
    places = means / edge - low
    first = torch.floor(places).long()
    part = places - first
    shares, nodes = [], []
    for step in product((0, 1), repeat=dim):
        share, node = cells.counts, torch.zeros_like(first[:, 0])
        for axis, on in enumerate(step):
            share = share * (part[:, axis] if on else 1 - part[:, axis])
            node = node * shape[axis] + first[:, axis] + on
        shares.append(share)
        nodes.append(node)
    density = torch.bincount(torch.cat(nodes), torch.cat(shares), prod(shape))
    # linear shares widen the kernel by 1/6 of a node squared, which is taken off before
    width = (1 / edge**2 - 1 / 6) ** 0.5
    blurred = density.reshape(shape).float()
    for axis in range(dim):
        blurred = smoothed(blurred, axis, width, reach=margin)
    blurred *= ((2 * pi) ** 0.5 / edge) ** dim
    return Grid(density=blurred, corner=low.double() * edge, edge=edge)
