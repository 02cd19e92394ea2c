"""Mean shift with a Gaussian kernel: modes of a density of embedding vectors, and the points that belong to each.

Points fall into small cells whose exact means and counts stand for them; seeds are the local maxima of the density, so the
cost follows the occupied volume of the embedding, and hardly the number of pixels or modes. All that is done for each point or
cell is done by PyTorch on the device of the points; what is done for each mode, in main memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree

from napari_shiftseg.arguments import shown, told
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.instances.constants import (
    APART,
    DENSER,
    FLOAT32_POINTS,
    GAPS,
    KERNEL_REACH,
    LONE,
    NEAREST,
    OFF,
    OPPOSITE,
    STEPS,
    STILL,
    THIN,
    TOGETHER,
    WAY,
)
from napari_shiftseg.instances.density import Kernels, grid_of, kernels_of
from napari_shiftseg.instances.neighbours import bounds_of, cells_of, nearest_mode
from napari_shiftseg.network.arithmetic import exact_products
from napari_shiftseg.views import as_array

FloatArray: TypeAlias = npt.NDArray[np.float64]


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

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return iter((self.modes, self.assignment))


def _starts(seeds: npt.ArrayLike, length: int) -> npt.NDArray[np.float64]:
    try:
        starts = np.asarray(seeds, np.float64)
    except (TypeError, ValueError) as exc:
        raise SettingsError(f"seeds is {shown(seeds)}; give how many points are starts, or the starts themselves.") from exc
    if starts.ndim not in (1, 2) or starts.shape[-1] != length:
        raise SettingsError(f"seeds has shape {starts.shape}; give starts as (K, {length}), like the points.")
    return starts


@exact_products()
@told
def mean_shift(
    points: npt.ArrayLike | torch.Tensor,
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
    points : array-like or Tensor
        (N, E), finite; a tensor on a GPU is clustered there.
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
        Neighbouring modes are one where the density between them stays above this share of the lower one; 1 keeps all. Below
        1, modes on the straight way between two three times as dense go too: codes of pixels on the border of two objects.

    Returns
    -------
    MeanShift

    Raises
    ------
    SettingsError
        If the bandwidth is not positive or the points are not (N, E) and finite.

    Notes
    -----
    For free codes whose clusters are to be counted: `dip=0.8, min_density=50`; few pixels on borders heap up as high.

    Source: Comaniciu and Meer 2002; the kernel as in Rumberger et al. 2021 (there `exp(-d^2 / b)`, `b = 2 bandwidth^2`).

    >>> modes, assignment = mean_shift([[0.0], [0.1], [5.0], [5.1]], bandwidth=0.5)
    >>> assignment.tolist(), modes.round(2).ravel().tolist()
    ([0, 0, 1, 1], [0.05, 5.05])
    """
    if not bandwidth > 0:
        raise SettingsError(f"the bandwidth is {bandwidth}; give a positive number (embedding units).")
    values = _tensor(points)
    dim = values.shape[1]
    if len(values) == 0:
        return MeanShift(modes=np.empty((0, dim)), assignment=np.empty(0, np.int64), density=np.empty(0))
    cells = cells_of(values, bandwidth)
    grid = grid_of(cells)
    kernels = kernels_of(cells, seed) if grid is None else Kernels(means=cells.means, weights=cells.counts)
    if seeds is None:
        starts = kernels.peaks(APART) if grid is None else grid.peaks(LONE).cpu().numpy()
    elif isinstance(seeds, int):
        if seeds < 0 or isinstance(seeds, bool):
            raise SettingsError(f"seeds is {seeds}; give how many points are starts, 0 or more, or the starts themselves.")
        if seed < 0:
            raise SettingsError(f"the seed is {seed}; give an integer of 0 or more.")
        chosen = np.random.default_rng(seed).choice(len(values), min(seeds, len(values)), replace=False)
        starts = values[torch.from_numpy(np.sort(chosen)).to(values.device)].double().cpu().numpy() / bandwidth
    else:
        starts = np.atleast_2d(_starts(seeds, values.shape[1])) / bandwidth
    # a start far below the least density lies on the way to a mode that has starts of its own
    density, moved = kernels.sums(starts)
    found, density = _climb(moved[density >= min_density / 4], kernels)
    keep = density >= min_density
    modes, density = _merge(found[keep], density[keep], merge)
    if dip < 1 and len(modes) > 1:
        modes, density = _join_without_dip(modes, density, kernels, dip=dip)
        modes, density = _without_mixtures(modes, density, kernels)
    assignment = nearest_mode(values, bandwidth, cells, modes=torch.from_numpy(modes).to(values.device), radius=radius)
    return MeanShift(modes=modes * bandwidth, assignment=assignment.cpu().numpy(), density=density)


# Types of tensors that PyTorch computes with: not quantised ones, and not floats of eight bits.
_PLAIN = {
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128,
}  # fmt: skip


def _tensor(points: npt.ArrayLike | torch.Tensor) -> torch.Tensor:
    """Points (N, E) as a tensor where they are; in float64, unless there are very many."""
    if not isinstance(points, torch.Tensor):
        array = np.asarray(as_array(points, "points", error=SettingsError))
        real = array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
        points = torch.from_numpy(real.copy() if min(real.strides, default=0) < 0 else real)  # PyTorch knows no such steps
    elif points.is_nested or points.is_meta or points.layout != torch.strided or points.dtype not in _PLAIN:
        raise SettingsError("points is a tensor that is no plain array of numbers; give a dense one with values.")
    elif points.is_complex():
        raise SettingsError("points are complex, of which a part would be lost; give real numbers.")
    points = points.detach()
    # all that is done goes along the columns
    points = points.T.contiguous().T if points.ndim == 2 else points
    whole = points.ndim == 2 and points.shape[1] > 0
    if not whole or (points.numel() and not all(bound.isfinite().all() for bound in bounds_of(points))):
        raise SettingsError(f"points have shape {tuple(points.shape)}; give (N, E) finite numbers.")
    kept: torch.Tensor = points if points.dtype == torch.float32 and len(points) > FLOAT32_POINTS else points.double()
    return kept


def _climb(starts: FloatArray, kernels: Kernels) -> tuple[FloatArray, FloatArray]:
    """Move each start to the mean of its surroundings until it stands still."""
    modes = starts.copy()
    moving = np.arange(len(modes))
    before = np.zeros_like(modes)
    for step in range(STEPS):
        if len(moving) == 0:
            break
        move = kernels.sums(modes[moving])[1] - modes[moving]
        if step % 2:
            # steps shrink by a steady factor, which tells where they lead to (Aitken)
            factor = (move * before).sum(axis=1) / np.maximum((before * before).sum(axis=1), 1e-300)
            move /= 1 - np.clip(factor, 0, 0.95)[:, None]
        length = np.linalg.norm(move, axis=1)
        move /= np.maximum(1, length)[:, None]
        modes[moving] += move
        on = length > STILL
        moving, before = moving[on], move[on]
    return modes, kernels.sums(modes)[0]


def _merge(modes: FloatArray, density: FloatArray, radius: float) -> tuple[FloatArray, FloatArray]:
    """Keep the densest of modes within `radius` of each other."""
    # densities are rounded, so that equal peaks keep their order under float noise
    order = np.lexsort((*modes.T[::-1].round(3), -density.round(3)))
    modes, density = modes[order], density[order]
    tree, kept = cKDTree(modes), np.ones(len(modes), bool)
    # most have no other one so near
    for index in np.flatnonzero(tree.query_ball_point(modes, radius, return_length=True) > 1):
        if kept[index]:
            near = np.asarray(tree.query_ball_point(modes[index], radius))
            kept[near[near > index]] = False
    return modes[kept], density[kept]


def _join_without_dip(modes: FloatArray, density: FloatArray, kernels: Kernels, *, dip: float) -> tuple[FloatArray, FloatArray]:
    """Drop a mode from which a path to a denser one nearby stays high: a large object's votes have several bumps."""
    pairs = cKDTree(modes).query_pairs(2 * KERNEL_REACH, output_type="ndarray")
    pairs = np.sort(pairs, axis=1)  # modes are sorted by density: the first of a pair is the denser one
    a, b, least = modes[pairs[:, 0]], modes[pairs[:, 1]], dip * density[pairs[:, 1]]
    # most ways are out after a look at their middle
    joined = np.flatnonzero(_between(a, b, WAY[3:4], kernels=kernels)[:, 0] > least)
    joined = joined[_between(a[joined], b[joined], WAY, kernels=kernels).min(axis=1) > least[joined]]
    kept = np.ones(len(modes), bool)
    kept[pairs[joined, 1]] = False
    return modes[kept], density[kept]


def _between(a: FloatArray, b: FloatArray, steps: FloatArray, *, kernels: Kernels) -> FloatArray:
    """(P, S) density at steps of the straight way between pairs of positions (P, E)."""
    places = (a[:, None] * (1 - steps[:, None]) + b[:, None] * steps[:, None]).reshape(-1, a.shape[1])
    return kernels.sums(places)[0].reshape(len(a), len(steps))


def _without_mixtures(modes: FloatArray, density: FloatArray, kernels: Kernels) -> tuple[FloatArray, FloatArray]:
    """Drop a mode on the straight way between two denser ones, along most of which there are points.

    Pixels on the border of two objects mix their codes; what such pixels happen to heap up is no object.
    """
    light = np.flatnonzero(density * DENSER < density[0])
    if len(modes) > NEAREST:
        _, others = cKDTree(modes).query(modes[light], k=np.arange(1, NEAREST + 1))
    else:
        others = np.broadcast_to(np.arange(len(modes)), (len(light), len(modes)))
    found = [np.empty((3, 0), np.int64)]
    for first in range(0, len(light), TOGETHER):
        middle, near = light[first : first + TOGETHER], others[first : first + TOGETHER]
        denser = density[near] > DENSER * density[middle, None]
        some = np.flatnonzero(denser.any(axis=0))
        near, way = near[:, some], modes[near[:, some]] - modes[middle, None]
        square = np.einsum("ijk,ijk->ij", way, way)
        # what is not denser points nowhere
        unit = np.where(denser[:, some], 1 / np.sqrt(np.maximum(square, 1e-300)), 0)[:, :, None] * way
        unit = unit.astype(np.float32)
        opposite = unit @ unit.swapaxes(1, 2).copy() < OPPOSITE
        row, one, two = np.unravel_index(np.flatnonzero(opposite), opposite.shape)
        row, one, two = np.stack([row, one, two])[:, one < two]
        # distance of the mode from the line between two others that it lies between
        product = (way[row, one] * way[row, two]).sum(axis=1)
        squares = square[row, one], square[row, two]
        close = squares[0] * squares[1] - product * product < OFF * OFF * (squares[0] + squares[1] - 2 * product)
        found.append(np.stack([middle[row], near[row, one], near[row, two]])[:, close])
    light, one, two = np.concatenate(found, axis=1)
    # each way is looked at once
    ways, back = np.unique(np.concatenate([light, light]) * len(modes) + np.concatenate([one, two]), return_inverse=True)
    start, end = np.divmod(ways, len(modes))
    usual = np.sort(_between(modes[start], modes[end], WAY, kernels=kernels), axis=1)[:, GAPS]
    filled = (usual > THIN * density[start])[back].reshape(2, -1).all(axis=0)
    kept = np.ones(len(modes), bool)
    kept[light[filled]] = False
    return modes[kept], density[kept]
