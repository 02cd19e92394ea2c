"""Undecided pixels: islands, whose code only passes by a mode, and the rest, which no instance reaches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from operator import mul
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.measure import label as connected

from napari_shiftseg.instances.constants import ELSEWHERE, NEW, NONE, OFF, OPPOSITE, PART, REACH
from napari_shiftseg.instances.contacts import Window, borders, neighbour_steps

if TYPE_CHECKING:
    from napari_shiftseg.instances.pieces import LabelSettings

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def without_islands(
    modes: IntArray, mask: npt.NDArray[np.bool_], values: FloatArray, *, centres: FloatArray, settings: LabelSettings
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
    islands = few & (own > ELSEWHERE * usual[owner])
    if not settings.coordinates:
        asked = islands & (sizes >= settings.min_size)  # what is smaller is no object in any case
        if asked.any():
            found = _no_objects(
                np.where(asked[parts], parts, 0),
                modes,
                mask,
                values=values,
                centres=centres,
                bandwidth=settings.bandwidth,
                count=len(sizes),
            )
            islands &= found | ~asked
    return np.where(islands[parts], 0, modes) if islands.any() else modes


def _no_objects(
    parts: IntArray,
    modes: IntArray,
    mask: npt.NDArray[np.bool_],
    *,
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


def settled(
    codes: npt.NDArray[np.int32], numbers: npt.NDArray[np.uint32], block: int, *, inner: Window | None = None
) -> npt.NDArray[np.uint32]:
    """Labels from codes: fragments get their numbers and grow by `REACH` steps into undecided and dissolved pixels.

    At each step an undecided pixel gets the label of the nearest pixel that touches it and has one, of equally near ones the
    first in raster order. What no instance reaches stays 0.

    Parameters
    ----------
    codes : ndarray
        int, of the pixels wanted and of `REACH` pixels around them, as far as the image goes.
    numbers : ndarray
        (F + 2,) uint32, label of each code; 0 for codes 0 and 1 and for what is dissolved.
    block : int
        Edge of the parts that are looked at at once, pixels.
    inner : tuple of slice, optional
        The pixels wanted; all by default.
    """
    inner = tuple(slice(0, n) for n in codes.shape) if inner is None else inner
    labels = numbers[codes[inner]]
    for corner in product(*(range(part.start, part.stop, block) for part in inner)):
        core = tuple(slice(c, min(c + block, part.stop)) for c, part in zip(corner, inner, strict=True))
        around = tuple(slice(max(0, s.start - REACH), s.stop + REACH) for s in core)
        near = codes[around]
        kept = numbers[near]
        undecided = (kept == 0) & (near > 0)
        if not undecided.any() or not kept.any():
            continue
        middle = tuple(slice(c.start - a.start, c.stop - a.start) for c, a in zip(core, around, strict=True))
        target = tuple(slice(c.start - part.start, c.stop - part.start) for c, part in zip(core, inner, strict=True))
        labels[target] = _grown(kept, undecided)[middle]
    return labels


def _grown(kept: npt.NDArray[np.uint32], undecided: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
    """Labels after `REACH` steps into the undecided pixels."""
    wide = np.pad(kept, 1)
    values = wide.ravel()
    strides = [step // wide.itemsize for step in wide.strides]
    steps = [sum(map(mul, step, strides)) for step in neighbour_steps(kept.ndim)]
    open_ = np.flatnonzero(np.pad(undecided, 1))
    for _ in range(REACH):
        found, rest = np.zeros(len(open_), kept.dtype), np.arange(len(open_))
        for step in steps:
            label = values[open_[rest] + step]
            found[rest] = label
            rest = rest[label == 0]
            if not len(rest):
                break
        if len(rest) == len(open_):
            break
        values[open_] = found
        open_ = open_[rest]
    return wide[(slice(1, -1),) * kept.ndim]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rest:
    """Parts of the rest of a block, or of an image."""

    pixels: npt.NDArray[np.int32]  # (*core) int32, number of the part from 1, 0 for none
    # sizes, first: (P,) int64, pixels of each part, and the first one in raster order of the image
    sizes: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    # (P,) int64, pairs of neighbours of which one is in the part and the other is not in the rest
    border: npt.NDArray[np.int64]
    # (N, 3) int64: a part counted from 0, a label that it touches, and the pairs of neighbours that do
    contacts: npt.NDArray[np.int64]


def rest_of(
    labels: npt.NDArray[np.uint32],
    codes: npt.NDArray[np.int32],
    inner: Window | None = None,
    *,
    corner: Sequence[int] | None = None,
    image_shape: Sequence[int] | None = None,
) -> Rest:
    """What is left over in a block.

    Parameters
    ----------
    labels, codes : ndarray
        Of the core and the pixels next to it, as far as the image goes; as `settled` takes and gives them.
    inner : tuple of slice, optional
        The core in these arrays; all by default.
    corner, image_shape : sequence of int, optional
        Image pixel at which the core begins, and the shape of the image; a block that is the whole image by default.
    """
    inner = tuple(slice(0, n) for n in labels.shape) if inner is None else inner
    undecided = (labels == 0) & (codes > 0)
    shape = tuple(part.stop - part.start for part in inner)
    wide, count = np.zeros(labels.shape, np.int32), 0
    if undecided[inner].any():
        count = ndimage.label(undecided[inner], np.ones((3,) * labels.ndim), output=wide[inner])
    parts = wide[inner]
    places = np.flatnonzero(parts)
    owners = parts.ravel()[places].astype(np.int64) - 1
    touched, pairs, border = borders(wide, labels, undecided) if count else _NOTHING
    return Rest(
        pixels=parts,
        sizes=np.bincount(owners, minlength=count),
        first=first_pixels(owners, places, count, shape=shape, corner=corner, image_shape=image_shape),
        border=border[1:],
        contacts=np.column_stack([touched[:, 0] - 1, touched[:, 1], pairs]),
    )


_NOTHING = np.empty((0, 2), np.int64), np.empty(0, np.int64), np.zeros(1, np.int64)


def first_pixels(
    owners: IntArray,
    places: IntArray,
    count: int,
    *,
    shape: Sequence[int],
    corner: Sequence[int] | None,
    image_shape: Sequence[int] | None,
) -> IntArray:
    """(count,) first pixel of each owner in raster order of the image, by the owner of each of some ascending places."""
    first = np.zeros(count, np.int64)
    first[owners[::-1]] = places[::-1]  # the last value written is the first place
    inside = np.unravel_index(first, shape)
    moved = [p + c for p, c in zip(inside, corner or (0,) * len(shape), strict=True)]
    return np.asarray(np.ravel_multi_index(moved, tuple(image_shape or shape)))


def placed(
    sizes: npt.NDArray[np.int64],
    border: npt.NDArray[np.int64],
    contacts: npt.NDArray[np.int64],
    *,
    min_size: int,
    seeds: bool = False,
) -> npt.NDArray[np.int64]:
    """Label of the instance that each part joins, `NEW` for those that become one, `NONE` for what is small and alone.

    Parameters
    ----------
    sizes, border : ndarray
        (P,) as in `Rest`, of whole parts.
    contacts : ndarray
        (N, 3) as in `Rest`; a pair of part and label can come several times.
    min_size : int
        Pixels of an instance.
    seeds : bool
        Whether the network says seeds. What they deny becomes no instance, however large: `NONE` instead of `NEW`.
    """
    joins, most = np.zeros(len(sizes), np.int64), np.zeros(len(sizes), np.int64)
    if len(contacts):
        pairs, back = np.unique(contacts[:, :2], axis=0, return_inverse=True)
        counts = np.zeros(len(pairs), np.int64)
        np.add.at(counts, back.ravel(), contacts[:, 2])
        order = np.lexsort((pairs[:, 1], -counts, pairs[:, 0]))  # of equal ones the first label
        best = order[np.diff(pairs[order, 0], prepend=-1) > 0]
        joins[pairs[best, 0]], most[pairs[best, 0]] = pairs[best, 1], counts[best]
    new = (sizes >= max(1, min_size)) & ((joins == 0) | (most < PART * border))
    return np.where(new, NONE if seeds else NEW, joins)
