"""Mean shift with a Gaussian kernel: modes of a density of embedding vectors, and the points that belong to each.

Points fall into small cells whose exact means and counts stand for them; seeds are the local maxima of the density, so the
cost follows the occupied volume of the embedding and not the number of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from napari_shiftseg.errors import SettingsError

__all__ = ["MeanShift", "mean_shift"]

FloatArray: TypeAlias = npt.NDArray[np.float64]

# Edge of a cell, in bandwidths: small against the kernel, so that cells do not show in the density.
_CELL = 0.35
# Radius at which the kernel is cut, in bandwidths: exp(-4.5) = 0.011.
_REACH = 3.0
# Cells that carry the density; beyond it a seeded sample does.
_MOST_CELLS = 12_000


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanShift:
    """Modes and assignment; unpacks as `modes, assignment`.

    Attributes
    ----------
    modes : ndarray
        (K, E) float64, densest first.
    assignment : ndarray
        (N,) int64, index of the mode of each point, -1 for none.
    density : ndarray
        (K,) float64, kernel-weighted number of points at each mode.
    """

    modes: FloatArray
    assignment: npt.NDArray[np.int64]
    density: FloatArray

    def __iter__(self) -> Any:
        return iter((self.modes, self.assignment))


def mean_shift(
    points: npt.ArrayLike,
    bandwidth: float,
    *,
    seeds: int | npt.ArrayLike | None = None,
    seed: int = 0,
    merge: float = 1.0,
    radius: float = 3.0,
    min_density: float = 0.0,
    dip: float = 1.0,
) -> MeanShift:
    """Cluster points by the modes of their density.

    Parameters
    ----------
    points : array-like
        (N, E), finite.
    bandwidth : float
        Standard deviation of the Gaussian kernel, embedding units, > 0.
    seeds : int or array-like, optional
        Where the search starts: None for the local maxima of the density, a number of random points, or an (S, E) array.
    seed : int
        Of the random choices (sample of cells, random seeds).
    merge : float
        Modes closer than this many bandwidths are one (a radius: rounding would split modes on a rounding edge).
    radius : float
        Points farther than this many bandwidths from all modes belong to none.
    min_density : float
        Modes with a lower kernel-weighted number of points are dropped.
    dip : float
        Neighbouring modes are one where the density between them stays above this share of the lower one; 1 keeps all.

    Returns
    -------
    MeanShift

    Raises
    ------
    SettingsError
        If the bandwidth is not positive or the points are not (N, E) and finite.

    Source: Comaniciu and Meer 2002; the kernel as in Rumberger et al. 2021 (there `exp(-d^2 / b)`, `b = 2 bandwidth^2`).

    >>> modes, assignment = mean_shift([[0.0], [0.1], [5.0], [5.1]], bandwidth=0.5)
    >>> assignment.tolist(), modes.round(2).ravel().tolist()
    ([0, 0, 1, 1], [0.05, 5.05])
    """
    values = np.asarray(points, np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise SettingsError(f"points have shape {values.shape}; give (N, E) finite numbers.")
    if not bandwidth > 0:
        raise SettingsError(f"the bandwidth is {bandwidth}; give a positive number (embedding units).")
    scaled = values / bandwidth
    dim = values.shape[1]
    if len(scaled) == 0:
        return MeanShift(modes=np.empty((0, dim)), assignment=np.empty(0, np.int64), density=np.empty(0))
    cells, weights = _cells(scaled, seed)
    tree = cKDTree(cells)
    starts = _starts(scaled, cells, weights, tree, seeds, bandwidth, seed)
    found, density = _climb(starts, cells, weights, tree)
    keep = density >= min_density
    modes, density = _merge(found[keep], density[keep], merge)
    if dip < 1 and len(modes) > 1:
        modes, density = _join_without_dip(modes, density, cells, weights, tree, dip)
    assignment = np.full(len(scaled), -1, np.int64)
    if len(modes):
        _, nearest = cKDTree(modes).query(scaled, distance_upper_bound=radius)
        assignment = np.where(nearest < len(modes), nearest, -1)
    return MeanShift(modes=modes * bandwidth, assignment=assignment, density=density)


def _cells(points: FloatArray, seed: int) -> tuple[FloatArray, FloatArray]:
    """Mean and number of points of each occupied cell; of very many cells, a sample.

    A cell's place in the sample is decided by its own position, so float noise in one point cannot redraw the others.
    """
    for edge in (_CELL, 0.5, 0.7):
        ids = _mix(np.floor(points / edge).astype(np.int64), seed)
        found, index, counts = np.unique(ids, return_inverse=True, return_counts=True)
        if len(found) <= _MOST_CELLS:
            break
    weights = counts.astype(np.float64)
    means = np.stack([np.bincount(index, column, len(found)) for column in points.T], axis=1) / weights[:, None]
    if len(found) <= _MOST_CELLS:
        return means, weights
    # weighted sampling without replacement (Efraimidis and Spirakis 2006) with a hash in place of a random number
    order = -np.log((found.astype(np.float64) + 1) / 2.0**64) / weights
    chosen = np.sort(np.argpartition(order, _MOST_CELLS)[:_MOST_CELLS])
    return means[chosen], np.full(_MOST_CELLS, weights.sum() / _MOST_CELLS)


def _mix(keys: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.uint64]:
    """One well-mixed 64-bit number per row of integers (splitmix64); equal rows get equal numbers."""
    mixed = np.full(len(keys), seed, np.uint64)
    for column in keys.T:
        mixed = mixed + column.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed


def _density(at: FloatArray, cells: FloatArray, weights: FloatArray, tree: Any) -> tuple[FloatArray, FloatArray]:
    """Kernel density at each position and the kernel-weighted mean of its surroundings."""
    found = cKDTree(at).sparse_distance_matrix(tree, _REACH, output_type="ndarray")
    rows, columns = found["i"], found["j"]
    shares = np.exp(-0.5 * found["v"] ** 2) * weights[columns]
    density: FloatArray = np.bincount(rows, shares, len(at)).astype(np.float64, copy=False)
    sums = np.stack([np.bincount(rows, shares * column[columns], len(at)) for column in cells.T], axis=1)
    return density, sums / np.maximum(density, 1e-300)[:, None]


def _starts(
    points: FloatArray,
    cells: FloatArray,
    weights: FloatArray,
    tree: Any,
    seeds: int | npt.ArrayLike | None,
    bandwidth: float,
    seed: int,
) -> FloatArray:
    if isinstance(seeds, int):
        chosen = np.random.default_rng(seed).choice(len(points), min(seeds, len(points)), replace=False)
        return points[np.sort(chosen)]
    if seeds is not None:
        return np.atleast_2d(np.asarray(seeds, np.float64)) / bandwidth
    density, _ = _density(cells, cells, weights, tree)
    pairs = tree.query_pairs(0.75, output_type="ndarray")
    peak = np.ones(len(cells), bool)
    # a cell is a seed unless a neighbour is denser; of equals the first one is
    lower = np.where(density[pairs[:, 0]] >= density[pairs[:, 1]], pairs[:, 1], pairs[:, 0])
    peak[lower] = False
    return cells[peak]


def _climb(starts: FloatArray, cells: FloatArray, weights: FloatArray, tree: Any) -> tuple[FloatArray, FloatArray]:
    """Move each start to the mean of its surroundings until it stands still."""
    modes = starts.copy()
    moving = np.ones(len(modes), bool)
    for _ in range(100):
        if not moving.any():
            break
        density, means = _density(modes[moving], cells, weights, tree)
        means = np.where(density[:, None] > 0, means, modes[moving])
        moved = np.linalg.norm(means - modes[moving], axis=1)
        modes[moving] = means
        moving[np.flatnonzero(moving)] = moved > 5e-3
    density, _ = _density(modes, cells, weights, tree)
    return modes, density


def _merge(modes: FloatArray, density: FloatArray, radius: float) -> tuple[FloatArray, FloatArray]:
    """Keep the densest of modes within `radius` of each other."""
    # densities are rounded, so that equal peaks keep their order under float noise
    order = np.lexsort((*modes.T[::-1].round(3), -density.round(3)))
    modes, density = modes[order], density[order]
    near = cKDTree(modes).query_ball_point(modes, radius) if len(modes) else []
    kept = np.ones(len(modes), bool)
    for index in range(len(modes)):
        if kept[index]:
            others = np.asarray(near[index])
            kept[others[others > index]] = False
    return modes[kept], density[kept]


def _join_without_dip(
    modes: FloatArray,
    density: FloatArray,
    cells: FloatArray,
    weights: FloatArray,
    tree: Any,
    dip: float,
) -> tuple[FloatArray, FloatArray]:
    """Drop a mode from which a path to a denser one nearby stays high: a large object's votes have several bumps."""
    pairs = cKDTree(modes).query_pairs(2 * _REACH, output_type="ndarray")
    if len(pairs) == 0:
        return modes, density
    pairs = np.sort(pairs, axis=1)  # modes are sorted by density: the first of a pair is the denser one
    steps = np.linspace(0, 1, 9)[1:-1]
    a, b = modes[pairs[:, 0]], modes[pairs[:, 1]]
    between = (a[:, None] * (1 - steps[None, :, None]) + b[:, None] * steps[None, :, None]).reshape(-1, modes.shape[1])
    lowest = _density(between, cells, weights, tree)[0].reshape(len(pairs), -1).min(axis=1)
    kept = np.ones(len(modes), bool)
    kept[pairs[lowest > dip * density[pairs[:, 1]], 1]] = False
    return modes[kept], density[kept]
