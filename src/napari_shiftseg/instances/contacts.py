"""Contacts of pieces: which of them touch across a face, which of those are one, and what a piece has on its border."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from math import prod
from operator import mul
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_shiftseg.instances.constants import SAME, STRIP

Window: TypeAlias = tuple[slice, ...]


def touching(before: npt.NDArray[Any], after: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """(N, 2) pairs of numbers above 0 that touch across a face, diagonals included, each once and in ascending order.

    `before`, `after`: equal shapes: the pixels on the two sides of the face, whole numbers from 0 to 2^31 - 1.

    Notes
    -----
    Of all places where the two sides show the same pair, the last one in raster order differs from those that follow it.
    A pair of two places that are neighbours is new only if both sides change from one to the other. Pixels where neither is so
    are compared with their neighbours and passed over, so most of the work is that of comparing whole rows.
    """
    before, after = np.atleast_1d(before, after)
    base = int(after.max(initial=0)) + 1
    strides = [prod(n + 1 for n in before.shape[axis + 1 :]) for axis in range(before.ndim)]
    neighbours = {sum(map(mul, shift, strides)) for shift in product((-1, 0, 1), repeat=before.ndim)}
    steps = sorted(step for step in neighbours if step > 0)
    strips = -(-len(before) * strides[0] // STRIP)
    height = -(-len(before) // strips)
    keys = [np.empty(0, np.int64)]
    for top in range(0, len(before), height):
        a, b = (_line(face[top : top + height + 1], height) for face in (before, after))
        if a.any() and b.any():
            found = _pairs(a, b, height * strides[0], steps=steps, straight=strides)
            keys.append(_each_once([p.astype(np.int64) * base + q for p, q in found]))
    return np.stack(np.divmod(_each_once(keys), base), axis=1)


def agreeing(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], bandwidth: float | None) -> npt.NDArray[np.bool_]:
    """Where modes (N, E) on two sides of a border are one: within a bandwidth.

    `bandwidth`: of all; None if the last component of each mode is its own, of which modes that are two lie `SAME` apart.
    """
    if bandwidth is not None:
        return np.asarray(np.linalg.norm(a - b, axis=1) < bandwidth)
    return np.asarray(np.linalg.norm(a[:, :-1] - b[:, :-1], axis=1) < SAME * np.minimum(a[:, -1], b[:, -1]))


@lru_cache
def neighbour_steps(ndim: int) -> tuple[tuple[int, ...], ...]:
    """Steps from a pixel to those that touch it, diagonals included, nearest first, then in raster order."""
    steps = (step for step in product((-1, 0, 1), repeat=ndim) if any(step))
    return tuple(sorted(steps, key=lambda step: (sum(map(abs, step)), step)))


def borders(
    parts: npt.NDArray[Any], values: npt.NDArray[Any], uncounted: npt.NDArray[np.bool_] | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """What parts of an image have on their borders, as pairs of pixels that touch, one in the part and one beyond it.

    Parameters
    ----------
    parts : ndarray
        (*shape) whole numbers: which part a pixel is in, 0 for none.
    values : ndarray
        (*shape) whole numbers: what a pixel is to those beyond whose border it lies, 0 for nothing.
    uncounted : ndarray, optional
        (*shape), pixels that count to no border.

    Returns
    -------
    touched : ndarray
        (N, 2) part and value, each once and in ascending order.
    pairs : ndarray
        (N,) pairs of pixels that show it.
    border : ndarray
        (P + 1,) pairs of pixels on the border of each part, of part 0 none. The image has no border where it ends.
    """
    wide, around = np.pad(parts, 1), np.pad(values, 1).ravel()
    counted = np.pad(np.ones(parts.shape, bool) if uncounted is None else ~uncounted, 1).ravel()
    strides = [step // wide.itemsize for step in wide.strides]
    flat = wide.ravel()
    places = np.flatnonzero(flat)
    owner = flat[places].astype(np.int64)
    border, base = np.zeros(int(parts.max(initial=0)) + 1, np.int64), int(values.max(initial=0)) + 1
    keys = [np.empty(0, np.int64)]
    for step in neighbour_steps(parts.ndim):
        beside = places + sum(map(mul, step, strides))
        beyond = counted[beside] & (flat[beside] != owner)
        border += np.bincount(owner[beyond], minlength=len(border))
        value = around[beside[beyond]].astype(np.int64)
        keys.append((owner[beyond] * base + value)[value > 0])
    found, pairs = np.unique(np.concatenate(keys), return_counts=True)
    return np.stack(np.divmod(found, base), axis=1), pairs, border


def _line(rows: npt.NDArray[Any], height: int) -> npt.NDArray[Any]:
    """So many rows of a face and the one after them in one line, with zeros where a row ends and after the face."""
    wide = np.zeros((height + 2, *(n + 1 for n in rows.shape[1:])), rows.dtype)
    wide[tuple(slice(0, n) for n in rows.shape)] = rows
    return wide.ravel()


def _pairs(
    a: npt.NDArray[Any], b: npt.NDArray[Any], count: int, *, steps: Sequence[int], straight: Sequence[int]
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Pairs of numbers above 0 that touch, some of them several times, of the first `count` pixels of the lines of two sides.

    `steps`, `straight`: from a pixel to half of its neighbours, the others being as many steps back; those of them along an
    axis.
    """
    some_a, some_b = a > 0, b > 0
    here = slice(0, count)
    last = some_a[here] & some_b[here]
    for step in steps:
        there = slice(step, step + count)
        change_a, change_b = a[here] != a[there], b[here] != b[there]
        if step in straight:
            last &= change_a | change_b
        both = change_a & change_b
        at = np.flatnonzero(both & some_a[here] & some_b[there])
        yield a[at], b[at + step]
        at = np.flatnonzero(both & some_a[there] & some_b[here])
        yield a[at + step], b[at]
    at = np.flatnonzero(last)
    yield a[at], b[at]


def _each_once(keys: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Numbers from 0, ascending: `np.unique` spends more on the same."""
    ascending = np.sort(np.concatenate(keys))
    return ascending[np.diff(ascending, prepend=-1) > 0]
