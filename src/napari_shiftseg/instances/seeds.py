"""Objects from votes: mean shift with each object's own bandwidth, from seeds that the network says.

Each pixel votes with its embedding for the centre of its object, says its object's bandwidth, and, as its seed, how near to
the centre its vote is. The density of the votes, each with its seed as weight and under a kernel of its own, has a mode for
each object. Nothing depends on the order of pixels, and nothing on what is farther than the votes reach.

Sources: Neven et al. 2019 and EmbedSeg (Lalit et al. 2021) for bandwidths and seeds; Comaniciu et al. 2001 for mean shift
with variable bandwidths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree
from skimage.measure import label as connected

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.instances.constants import (
    ALIKE,
    ASKED,
    CANDIDATES,
    FAINT,
    LEAST_MASS,
    LEAST_SEED,
    LEAST_WIDTH,
    NOISE,
    SAME,
    VALLEY,
    WAY,
    WITHIN,
)
from napari_shiftseg.instances.neighbours import cells_of, nearest
from napari_shiftseg.instances.votes import VoteGrid, VoteKernels, Votes, density_of

if TYPE_CHECKING:
    from napari_shiftseg.instances.pieces import LabelSettings

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Seeded:
    """Modes of votes, and which mode each vote is of."""

    modes: FloatArray  # (K, E)
    widths: FloatArray  # (K,), bandwidth of each
    assignment: IntArray  # (N,), number of the mode, -1 for none


def seeded_shift(
    votes: Votes, *, edge: float | None = None, spared: npt.NDArray[np.bool_] | None = None, valley: float = VALLEY
) -> Seeded:
    """Modes of the density of votes that have the mass of an object.

    Parameters
    ----------
    votes : Votes
    edge : float, optional
        Least distance of two nodes of the density's grid, embedding units.
    spared : ndarray, optional
        (N,) votes whose mode needs no mass: its object may be cut off.
    valley : float
        Share of a mode's density, 0 to 1.

    Notes
    -----
    A mode is dropped if a denser one is nearer than `SAME` bandwidths, or if the density on the straight way to one within two
    bandwidths stays above `valley` of its own; so a larger valley keeps all modes of a smaller one, and more. A vote goes to
    the mode under whose Gaussian it is likeliest, its place and its width, within `WITHIN` bandwidths. A mode whose votes have
    less than `LEAST_MASS` is dropped in the end, and its votes go to other modes.
    """
    count, dim = votes.places.shape[1], len(votes.places)
    none = Seeded(modes=np.empty((0, dim)), widths=np.empty(0), assignment=np.full(count, -1, np.int64))
    counted = votes.amounts > 0
    if not counted.any():
        return none
    field = density_of(votes.those(counted), edge)
    modes, widths = _apart(field, valley)
    if not len(modes):
        return none
    found = _nearest(votes, modes, widths)
    mass = np.bincount(found + 1, votes.amounts, len(modes) + 1)[1:]
    kept = mass >= LEAST_MASS
    if spared is not None:
        kept[found[spared & (found >= 0)]] = True
    kept &= mass > 0
    if not kept.any():
        return none
    again = (found < 0) | ~kept[found]
    numbers = np.cumsum(kept) - 1
    assignment = np.where(found < 0, -1, numbers[found])
    assignment[again] = _nearest(votes.those(again), modes[kept], widths[kept])
    return Seeded(modes=modes[kept], widths=widths[kept], assignment=assignment)


def _apart(field: VoteGrid | VoteKernels, valley: float) -> tuple[FloatArray, FloatArray]:
    """Maxima of the density that no valley is missing around, densest first, and their widths."""
    modes, widths, density = field.peaks()
    # densities are rounded, so that equal peaks keep their order under float noise
    order = np.lexsort((*modes.T[::-1].round(3), -density.round(3)))
    modes, widths, density = modes[order], widths[order], density[order]
    if len(modes) < 2:
        return modes, widths
    pairs = np.sort(cKDTree(modes).query_pairs(2 * float(widths.max()), output_type="ndarray"), axis=1)
    one, other = pairs.T
    gaps = np.linalg.norm(modes[one] - modes[other], axis=1)
    wide = np.maximum(widths[one], widths[other])
    kept = np.ones(len(modes), bool)
    kept[other[gaps < SAME * wide]] = False
    asked = np.flatnonzero((gaps >= SAME * wide) & (gaps < 2 * wide) & kept[other])
    one, other = one[asked], other[asked]
    ways = modes[one][:, None] * (1 - WAY[:, None]) + modes[other][:, None] * WAY[:, None]
    least = field.at(ways.reshape(-1, modes.shape[1])).reshape(len(one), len(WAY)).min(axis=1)
    kept[other[least > valley * density[other]]] = False
    return modes[kept], widths[kept]


def _nearest(votes: Votes, modes: FloatArray, widths: FloatArray) -> IntArray:
    """(N,) the mode that each vote is likeliest of, -1 for none."""
    count = min(CANDIDATES, len(modes))
    if not votes.places.shape[1]:
        return np.empty(0, np.int64)
    points = torch.from_numpy(np.ascontiguousarray(votes.places)).T
    size = votes.narrow / 2
    cells = cells_of(points, size)
    index, middles = cells.index.numpy(), cells.means.numpy() * size
    few = torch.from_numpy(modes)
    # no vote lies farther from the mean of its cell than the cell is wide
    bound = WITHIN * float(widths.max()) + cells.edge * size * len(votes.places) ** 0.5
    away, near = (
        values.numpy().reshape(len(middles), -1) for values in nearest(torch.from_numpy(middles), few, count, bound=bound)
    )
    reach = WITHIN * np.append(widths, -1.0)[near]
    radius = _radii(votes.places, index, middles)[:, None]
    # float noise decides no vote: what it could is asked one by one
    can, must = away - radius < reach * (1 + NOISE), away + radius < reach * (1 - NOISE)
    alone = can.sum(axis=1) == 1
    first = near[np.arange(len(near)), can.argmax(axis=1)]
    sure = alone & must[np.arange(len(near)), can.argmax(axis=1)]
    decided = np.where(sure, first, np.where(can.any(axis=1), ASKED, -1))
    found: IntArray = decided[index]
    asked = np.flatnonzero(found == ASKED)
    order = np.argsort(~can, axis=1, kind="stable")
    candidates = np.take_along_axis(np.where(can, near, len(modes)), order, axis=1)
    found[asked] = _likeliest(votes, asked, candidates[index[asked]], modes=modes, widths=widths)
    return found


def _radii(places: FloatArray, index: IntArray, middles: FloatArray) -> FloatArray:
    """(C,) distance from the mean of each cell to its farthest vote."""
    square = np.zeros(places.shape[1])
    for along, middle in zip(places, middles.T, strict=True):
        gap = middle[index]
        gap -= along
        gap *= gap
        square += gap
    farthest = np.zeros(len(middles))
    np.maximum.at(farthest, index, square)
    return np.asarray(farthest**0.5)


def _likeliest(votes: Votes, asked: IntArray, candidates: IntArray, *, modes: FloatArray, widths: FloatArray) -> IntArray:
    """(S,) of some votes, the likeliest of their candidates (S, C), of which those that are none come last."""
    best, found = np.full(len(asked), np.inf), np.full(len(asked), -1, np.int64)
    logs, own = np.log(widths), np.log(votes.widths[asked])
    places = votes.places[:, asked]
    for column in candidates.T:
        rows = np.flatnonzero(column < len(modes))
        if not len(rows):
            break
        mode = column[rows]
        gaps = ((places[:, rows] - modes[mode].T) ** 2).sum(axis=0) / widths[mode] ** 2
        cost = gaps + ((own[rows] - logs[mode]) / ALIKE) ** 2
        better = (cost < best[rows]) & (gaps < WITHIN * WITHIN)
        best[rows[better]], found[rows[better]] = cost[better], mode[better]
    return found


def seeded_modes(
    mask: npt.NDArray[np.bool_],
    values: FloatArray,
    seeds: FloatArray,
    *,
    widths: FloatArray,
    cut: Sequence[tuple[bool, bool]],
    first: Sequence[int],
    halo: int,
    settings: LabelSettings,
) -> tuple[IntArray, FloatArray]:
    """Mode of each pixel of a window, counted from 1, 0 for none; modes (K, E + 1) with their bandwidths.

    Parameters
    ----------
    mask : ndarray
        (*seen) bool.
    values : ndarray
        (E, N) embedding of each pixel of the mask; changed if they are offsets.
    seeds, widths : ndarray
        (N,).
    cut : sequence of pair
        Per axis whether the image ends where the window does, at the start and at the end.
    first : sequence of int
        First pixel of the window in the image.
    halo : int
        Pixels; offsets that are longer are undecided, since the windows do not see all that votes there.
    """
    _check(values, seeds, widths)
    whole, axes = settings.coordinates, mask.ndim
    amounts = np.where(seeds >= FAINT, seeds, 0)
    able = widths > 0
    if whole:
        able &= (np.abs(values[:axes]) <= max(halo, 1)).all(axis=0) & (widths <= max(halo, 1))
        widths = np.maximum(widths, LEAST_WIDTH)
        for axis, places in enumerate(np.nonzero(mask)):
            values[axis] += places + first[axis]
        amounts = amounts / widths**axes
    else:
        # codes have no size in pixels
        amounts = amounts * (LEAST_MASS / (LEAST_SEED * max(1, settings.min_size)))
    spared = _at_ends(mask, cut)[mask]
    votes = Votes(places=values, amounts=amounts, widths=widths * settings.factor).those(able)
    found = seeded_shift(votes, edge=1.0 if whole else None, spared=spared[able], valley=settings.valley)
    modes = np.zeros(mask.shape, np.int64)
    assignment = np.zeros(len(seeds), np.int64)
    assignment[able] = found.assignment + 1
    modes[mask] = assignment
    return _sure(modes, mask, seeds, least=settings.least_seed, whole=whole), np.column_stack([found.modes, found.widths])


def _at_ends(mask: npt.NDArray[np.bool_], cut: Sequence[tuple[bool, bool]]) -> npt.NDArray[np.bool_]:
    """(*seen), outermost pixels where the image ends."""
    ends = np.zeros(mask.shape, bool)
    for axis, sides in enumerate(cut):
        for side, there in enumerate(sides):
            if there:
                np.moveaxis(ends, axis, 0)[-side] = True
    return ends


def _sure(
    modes: IntArray, mask: npt.NDArray[np.bool_], seeds: npt.NDArray[np.floating], *, least: float, whole: bool
) -> IntArray:
    """Mode of each pixel, 0 also for those of pieces whose seeds deny it: they are undecided.

    Parameters
    ----------
    modes : ndarray
        (*seen), counted from 1, 0 for none.
    mask : ndarray
        (*seen) bool.
    seeds : ndarray
        (N,) of each pixel of the mask.
    least : float
        Mean seed of a piece that is sure.
    whole : bool
        Whether a mode is one object, so that of its pieces only the largest is sure; codes stand for many objects.
    """
    parts = connected(modes, connectivity=modes.ndim, background=0)
    part, mode = parts[mask], modes[mask]
    sizes = np.bincount(part)
    sure = np.bincount(part, seeds, len(sizes)) >= least * sizes
    if whole:
        owner = np.zeros(len(sizes), np.int64)
        owner[part] = mode
        order = np.lexsort((np.arange(len(sizes)), -sizes, owner))  # of equal ones the first in raster order
        largest = order[np.diff(owner[order], prepend=-1) > 0]
        main = np.zeros(len(sizes), bool)
        main[largest] = True
        sure &= main
    sure[0] = True
    return modes if sure.all() else np.where(sure[parts], modes, 0)


def _check(values: FloatArray, seeds: FloatArray, widths: FloatArray) -> None:
    """Refuse numbers that mean nothing."""
    if not np.isfinite(values).all():
        raise SettingsError("the embedding has values that are no finite numbers; give it without.")
    if not (np.isfinite(widths).all() and (widths >= 0).all()):
        raise SettingsError(
            f"bandwidths range from {widths.min()} to {widths.max()}; give finite numbers from 0 on (embedding units)."
        )
    if not ((seeds >= 0) & (seeds <= 1)).all():
        raise SettingsError(f"seeds range from {seeds.min()} to {seeds.max()}; give numbers from 0 to 1.")
