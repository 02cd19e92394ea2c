"""Density of points under a Gaussian kernel, carried by small cells; lengths are in bandwidths.

Points fall into cells whose counts and exact means stand for them. Sums over the kernels of cells give the density anywhere;
in up to three dimensions, where the occupied box is small enough, one blur of a grid gives it everywhere, to find its peaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import ceil, prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

__all__ = ["REACH", "Cells", "Grid", "Kernels", "cells_of", "grid_of", "kernels_of"]

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]

# Edge of a cell: small against the kernel, so that cells do not show; wider where many dimensions spread the points thin.
EDGE = 0.5
WIDE_EDGE = 0.9
# Radius at which the kernel is cut: exp(-4.5) = 0.011.
REACH = 3.0
# Where there is no grid, the heaviest cells carry the density: one for so many points, within these bounds, and for very many
# points fewer, if that is a large enough share of them.
_POINTS_PER_CELL = 64
_FEWEST_CELLS = 4000
_MOST_CELLS = 12_000
_ENOUGH = 0.9
# Nodes of a grid.
_MOST_NODES = 4_000_000
# Positions that are looked at at once.
_BLOCK = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """Occupied cells.

    Attributes
    ----------
    index : ndarray
        (N,) cell of each point.
    means : ndarray
        (C, E) float64, mean of the points of each cell.
    counts : ndarray
        (C,) float64, number of points.
    corners : ndarray
        (C, E) float64, smallest corner of each cell.
    edge : float
    """

    index: IntArray
    means: FloatArray
    counts: FloatArray
    corners: FloatArray
    edge: float


def cells_of(points: npt.NDArray[np.floating], bandwidth: float) -> Cells:
    """Cells of points (N, E), with lengths in bandwidths."""
    count, dim = points.shape
    edge = EDGE if dim <= 3 else WIDE_EDGE
    lowest = np.floor(points.min(axis=0) / (bandwidth * edge)).astype(np.int64)
    span = np.floor(points.max(axis=0) / (bandwidth * edge)).astype(np.int64) - lowest + 1
    dense = prod(int(n) for n in span) <= 8 * count
    steps = np.cumprod(np.append(1, span[:0:-1]))[::-1].astype(np.uint64) if dense else _odd_numbers(dim)
    keys = np.zeros(count, np.uint64)
    for column, low, step in zip(points.T, lowest, steps, strict=True):
        places = np.floor(column / (bandwidth * edge)) - low
        keys += places.astype(np.int64).view(np.uint64) * step
    if dense:
        filled = np.bincount(keys.view(np.int64), minlength=1) > 0
        index = (np.cumsum(filled) - 1)[keys.view(np.int64)]
        size = int(filled.sum())
    else:
        found, inverse = torch.unique(torch.from_numpy(keys.view(np.int64)), return_inverse=True)
        index, size = inverse.numpy(), len(found)
    counts = np.bincount(index, minlength=size).astype(np.float64)
    means = np.stack([np.bincount(index, column, size) for column in points.T], axis=1) / (counts[:, None] * bandwidth)
    # rounding may put the mean of points on a wall beyond it
    member = np.empty(size, np.int64)
    member[index] = np.arange(count)
    corners = np.floor(np.asarray(points[member], np.float64) / (bandwidth * edge)) * edge
    return Cells(index=index, means=means, counts=counts, corners=corners, edge=edge)


@dataclass(frozen=True, kw_only=True, eq=False)
class Kernels:
    """Weighted positions, each the centre of a kernel.

    Attributes
    ----------
    means, weights : ndarray
        (M, E) and (M,) float64.
    """

    means: FloatArray
    weights: FloatArray

    def sums(self, at: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Density at positions (S, E), and the kernel-weighted mean of their surroundings (S, E).

        Where the density is 0 the mean is the position itself.
        """
        density, mean = np.zeros(len(at)), at.copy()
        for start in range(0, len(at), _BLOCK):
            rows = slice(start, start + _BLOCK)
            kernel = self._kernel(at[rows])
            total = kernel @ self.weights
            sums = kernel @ self._weighted
            density[rows] = total
            mean[rows] = np.where(total[:, None] > 0, sums / np.maximum(total, 1e-300)[:, None], at[rows])
        return density, mean

    def _kernel(self, at: FloatArray) -> Any:
        """(S, M) values of the kernel, sparse where few of them are above 0."""
        few = self.tree.query_ball_point(at[:: _BLOCK // 8], REACH, return_length=True).mean() < len(self.means) / 25
        if few:
            found = cKDTree(at).sparse_distance_matrix(self.tree, REACH, output_type="ndarray")
            shares = np.exp(-0.5 * found["v"] ** 2)
            return csr_array((shares, (found["i"], found["j"])), shape=(len(at), len(self.means)))
        here, centres = at - self._middle, self.means - self._middle
        exponent = here @ centres.T
        exponent -= 0.5 * (centres * centres).sum(axis=1)
        exponent -= 0.5 * (here * here).sum(axis=1)[:, None]
        return np.exp(exponent) * (exponent >= -0.5 * REACH**2)

    @cached_property
    def tree(self) -> cKDTree:
        """For the neighbours of a position."""
        return cKDTree(self.means)

    @cached_property
    def _middle(self) -> FloatArray:
        return np.asarray(self.means.mean(axis=0))

    @cached_property
    def _weighted(self) -> FloatArray:
        return self.means * self.weights[:, None]

    def peaks(self, distance: float) -> FloatArray:
        """(S, E) means that no other one within `distance` exceeds in density, as far as their kernels reach that far."""
        pairs = self.tree.sparse_distance_matrix(self.tree, distance, output_type="ndarray")
        density = np.bincount(pairs["i"], np.exp(-0.5 * pairs["v"] ** 2) * self.weights[pairs["j"]], len(self.means))
        one, other = pairs["i"], pairs["j"]
        # of equals the first is the peak
        below = (density[one] < density[other]) | ((density[one] == density[other]) & (one > other))
        return np.delete(self.means, one[below], axis=0)


def kernels_of(cells: Cells, seed: int) -> Kernels:
    """Kernels at the means of cells: of all, or of the heaviest, which then stand for all.

    Of equal cells a hash of their place decides, so noise in one point redraws no other.
    """
    points = len(cells.index)
    chosen = np.lexsort((_mix(np.rint(cells.corners / cells.edge).astype(np.int64), seed), -cells.counts))
    together = np.cumsum(cells.counts[chosen])
    enough = int(np.searchsorted(together, _ENOUGH * points)) + 1
    usual = min(max(_FEWEST_CELLS, points // _POINTS_PER_CELL), _MOST_CELLS)
    chosen = np.sort(chosen[: max(usual, min(enough, points // (2 * _POINTS_PER_CELL)))])
    kept = cells.counts[chosen]
    return Kernels(means=cells.means[chosen], weights=kept * (points / kept.sum()))


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """Density on a grid.

    Attributes
    ----------
    density : ndarray
        Of each node.
    corner : ndarray
        (E,) position of the first node.
    edge : float
        Distance of two nodes.
    """

    density: npt.NDArray[np.float32]
    corner: FloatArray
    edge: float

    def peaks(self) -> FloatArray:
        """(S, E) nodes that no neighbour exceeds, diagonals included."""
        top = ndimage.maximum_filter(self.density, 3, mode="constant")
        # a mode of points has at least the density of one of them
        return np.argwhere((self.density == top) & (self.density > 0.5)) * self.edge + self.corner


def grid_of(cells: Cells) -> Grid | None:
    """The density of all cells, or None if its grid would have too many dimensions or nodes."""
    means, edge, dim = cells.means, cells.edge, cells.means.shape[1]
    margin = ceil(REACH / edge)
    low = np.floor(means.min(axis=0) / edge).astype(np.int64) - margin
    shape = np.floor(means.max(axis=0) / edge).astype(np.int64) - low + margin + 2
    if dim > 3 or prod(int(n) for n in shape) > max(_MOST_NODES, 8 * len(cells.index)):
        return None
    places = means / edge - low
    first = np.floor(places).astype(np.int64)
    part = places - first
    density = np.zeros(prod(shape))
    for step in product((0, 1), repeat=dim):
        share = np.where(step, part, 1 - part).prod(axis=1)
        nodes = np.ravel_multi_index((first + step).T, shape)
        density += np.bincount(nodes, cells.counts * share, density.size)
    # linear shares widen the kernel by 1/6 of a node squared, which is taken off before
    width = (1 / edge**2 - 1 / 6) ** 0.5
    blurred = ndimage.gaussian_filter(density.reshape(shape).astype(np.float32), width, mode="constant", radius=margin)
    blurred *= np.float32(((2 * np.pi) ** 0.5 / edge) ** dim)
    return Grid(density=blurred, corner=low * edge, edge=edge)


def _odd_numbers(count: int) -> npt.NDArray[np.uint64]:
    """Multipliers that make one key of several integers; two cells of an image share one with a chance of 1e-8 or so."""
    return np.random.default_rng(7).integers(1 << 60, 1 << 63, count).astype(np.uint64) | np.uint64(1)


def _mix(keys: IntArray, seed: int) -> npt.NDArray[np.uint64]:
    """One well-mixed 64-bit number per row of integers (splitmix64); equal rows get equal numbers."""
    mixed = np.full(len(keys), seed, np.uint64)
    for column in keys.T:
        mixed = mixed + column.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed
