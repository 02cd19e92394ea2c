"""Pixels that a tile reads: windows of an image that is reflected at its borders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.geometry import TilePlan, Window
from napari_shiftseg.network.normalise import ArrayLike

__all__ = ["constant_share", "in_memory", "needed_pixels", "read_window", "reflected"]


def read_window(image: ArrayLike, window: Window, pad: Sequence[tuple[int, int]]) -> npt.NDArray[Any]:
    """Pixels of a window of the padded image, reflected where it lies beyond the image.

    Parameters
    ----------
    image : array-like
        (C, *shape).
    window : tuple of slice
        In the padded image, pixels per spatial axis.
    pad : sequence of (int, int)
        Pixels before and after the image per axis.

    Returns
    -------
    ndarray
        (C, *window shape); only pixels of the image that are needed are read.
    """
    indices = [
        reflected(np.arange(w.start - before, w.stop - before), size)
        for w, (before, _), size in zip(window, pad, image.shape[1:], strict=True)
    ]
    slices = tuple(slice(int(i.min()), int(i.max()) + 1) for i in indices)
    block = np.asarray(image[(slice(0, image.shape[0]), *slices)])
    for axis, (index, part) in enumerate(zip(indices, slices, strict=True), start=1):
        if len(index) != part.stop - part.start or index[0] != part.start or index[-1] != part.stop - 1:
            block = np.take(block, index - part.start, axis=axis)
    return block


def needed_pixels(plan: TilePlan, image_shape: Sequence[int]) -> Window:
    """Window of the image that all tiles of a plan read together, reflections folded back; pixels per axis."""
    window = []
    for tiles, (before, _), size in zip(plan.axes, plan.pad, image_shape, strict=True):
        first, last = min(read.start for read, _, _ in tiles), max(read.stop for read, _, _ in tiles)
        folded = reflected(np.arange(first - before, last - before), size)
        window.append(slice(int(folded.min()), int(folded.max()) + 1))
    return tuple(window)


def reflected(index: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """Positions folded back into `[0, size)` without repeating the border pixel, however far they lie outside."""
    if size == 1:
        return np.zeros_like(index)
    folded = np.abs(index) % (2 * size - 2)
    return np.where(folded < size, folded, 2 * size - 2 - folded)


def in_memory(image: ArrayLike) -> bool:
    """Whether pixels are there without reading them from somewhere: arrays, and views of arrays that say so."""
    return isinstance(image, np.ndarray) or bool(getattr(image, "in_memory", False))


def constant_share(image: ArrayLike, plan: TilePlan) -> float:
    """Share of a plan's tiles that read one value per channel, 0 to 1."""
    pads = [before for before, _ in plan.pad]
    found = 0
    for tile in plan:
        # a reflection adds no other values
        inside = [
            (min(max(read.start - before, 0), size - 1), max(min(read.stop - before, size), 1))
            for read, before, size in zip(tile.read, pads, image.shape[1:], strict=True)
        ]
        corners = (slice(0, image.shape[0]), *(slice(start, stop, max(1, stop - start - 1)) for start, stop in inside))
        found += _constant(image[corners]) and _constant(image[(corners[0], *(slice(a, b) for a, b in inside))])
    return found / len(plan)


def _constant(block: Any) -> bool:
    flat = np.asarray(block).reshape(len(block), -1)
    return bool((flat == flat[:, :1]).all())
