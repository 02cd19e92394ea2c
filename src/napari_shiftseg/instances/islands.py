"""Islands: pixels whose code only passes by a mode that is at home elsewhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.measure import label as connected

from napari_shiftseg.instances.contacts import PART, borders
from napari_shiftseg.instances.mean_shift import OFF, OPPOSITE
from napari_shiftseg.instances.settings import LabelSettings

__all__ = ["without_islands"]

# Pixels of a mode that lie apart from the others may be none of its own where they are this many times as far from it.
_ELSEWHERE = 1.5

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def without_islands(
    modes: IntArray, mask: npt.NDArray[np.bool_], values: FloatArray, centres: FloatArray, settings: LabelSettings
) -> IntArray:
    """Mode of each pixel, 0 also for those that are islands: they are undecided.

    Where two objects mix over many pixels, a mixture can come close to the code of a third one. Such pixels touch each other,
    but no other pixel of that mode, are fewer, and lie farther from the mode than those do. So may an object that shares a code
    with others. It is one all the same, unless it is a part of what it touches, or its code lies between those of two that it
    touches. Places are not shared, so that with coordinates all of them are undecided.

    Parameters
    ----------
    modes : ndarray
        (*seen), counted from 1, 0 for none.
    mask : ndarray
        (*seen) bool.
    values : ndarray
        (E, N) code of each pixel of the mask.
    centres : ndarray
        (K, E), of the modes.
    settings : LabelSettings
    """
    parts = connected(modes, connectivity=modes.ndim, background=0)
    part, mode = parts[mask], modes[mask]
    sizes, total = np.bincount(part), np.bincount(mode, minlength=len(centres) + 1)
    owner = np.zeros(len(sizes), np.int64)
    owner[part] = mode
    few = 2 * sizes < total[owner]
    few[0] = False
    # distances are needed for modes that are at several places, and only for them
    at_several = np.zeros(len(total), bool)
    at_several[owner[few]] = True
    rows = np.flatnonzero(at_several[mode])
    if not len(rows):
        return modes
    far = np.linalg.norm(values[:, rows] - centres[mode[rows] - 1].T, axis=0)
    usual = np.bincount(mode[rows], far, len(total)) / np.maximum(total, 1)
    own = np.bincount(part[rows], far, len(sizes)) / np.maximum(sizes, 1)
    islands = few & (own > _ELSEWHERE * usual[owner])
    if not settings.coordinates:
        asked = islands & (sizes >= settings.min_size)  # what is smaller is no object in any case
        if asked.any():
            found = _no_objects(np.where(asked[parts], parts, 0), modes, mask, values, centres, settings.bandwidth, len(sizes))
            islands &= found | ~asked
    return np.where(islands[parts], 0, modes) if islands.any() else modes


def _no_objects(
    parts: IntArray,
    modes: IntArray,
    mask: npt.NDArray[np.bool_],
    values: FloatArray,
    centres: FloatArray,
    bandwidth: float,
    count: int,
) -> npt.NDArray[np.bool_]:
    """(count,) which parts belong to one that they touch, or mix the codes of two."""
    touched, pairs, border = borders(parts, _through_undecided(modes, (modes > 0) & (parts == 0), mask & (modes == 0)))
    border = np.pad(border, (0, count - len(border)))
    found = np.zeros(count, bool)
    found[touched[pairs >= PART * border[touched[:, 0]], 0]] = True
    part = parts[mask]
    rows = np.flatnonzero((part > 0) & ~found[part])
    sizes = np.maximum(np.bincount(part[rows], minlength=count), 1)
    codes = np.stack([np.bincount(part[rows], channel[rows], count) / sizes for channel in values], axis=1)
    for number in np.unique(touched[:, 0][~found[touched[:, 0]]]):
        found[number] = _mixes(codes[number], centres[touched[touched[:, 0] == number, 1] - 1], bandwidth)
    return found


def _through_undecided(modes: IntArray, sure: npt.NDArray[np.bool_], undecided: npt.NDArray[np.bool_]) -> IntArray:
    """Modes, at undecided pixels that of the nearest sure pixel: what lies in the midst of a mixture touches its ends."""
    if not undecided.any() or not sure.any():
        return modes
    nearest = ndimage.distance_transform_edt(~sure, return_distances=False, return_indices=True)
    filled = modes.copy()
    filled[undecided] = modes[tuple(axis[undecided] for axis in nearest)]
    return filled


def _mixes(code: FloatArray, others: FloatArray, bandwidth: float) -> bool:
    """Whether a code (E,) lies on the straight way between two of some others (K, E)."""
    way = (others - code) / bandwidth
    product = way @ way.T
    square = np.diag(product)
    crossed = square[:, None] * square
    opposite = product < OPPOSITE * np.sqrt(crossed)
    close = crossed - product * product < OFF * OFF * (square[:, None] + square - 2 * product)
    return bool((opposite & close).any())
