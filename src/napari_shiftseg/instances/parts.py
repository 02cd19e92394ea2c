"""Windows of labels in which each object is whole: what needs all of an object reads such a window and not the image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.instances.constants import PART_PIXELS
from napari_shiftseg.instances.table import ObjectTable, object_table
from napari_shiftseg.views import ArrayLike


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Some of the objects of an image, and the smallest window that holds them."""

    # number, total: which part it is, from 1, of how many
    number: int
    total: int
    window: tuple[slice, ...]  # in the image
    index: npt.NDArray[np.int64]  # numbers of the objects, ascending
    places: npt.NDArray[np.int32]  # (*window) where each of them is: 1 for the first of `index`; 0 for everything else

    @property
    def first(self) -> npt.NDArray[np.int64]:
        """Pixel of the image at which the window begins."""
        return np.array([edge.start for edge in self.window], np.int64)


def whole_parts(labels: ArrayLike, table: ObjectTable | None = None, *, pixels: int = PART_PIXELS) -> Iterator[Part]:
    """All objects of an image, each once and in one piece, in parts of about so many pixels.

    Two passes over the labels: the first finds where each object begins and ends, the second reads a window for those that
    begin in the same block. So an object is never cut, and memory is that of a block and of the largest object.

    Parameters
    ----------
    labels : array-like
        (*shape) int, 0 is the background; a zarr array will do.
    table : dict of ndarray, optional
        `object_table` of the labels, where it is known; it saves the first pass.
    pixels : int
        Pixels of a block.

    Yields
    ------
    Part
        In the order of the blocks. Nothing, where there is no object.
    """
    table = object_table(labels) if table is None else table
    names = "zyx"[-len(labels.shape) :]
    first, last = (np.stack([table[f"{end}_{name}"] for name in names], axis=1) for end in ("first", "last"))
    edge = max(1, round(pixels ** (1 / len(names))))
    _, group = np.unique(first // edge, axis=0, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    bounds = np.flatnonzero(np.diff(group.ravel()[order])) + 1
    groups = np.split(order, bounds) if len(order) else []
    for number, rows in enumerate(groups, 1):
        window = tuple(map(slice, first[rows].min(axis=0).tolist(), (last[rows].max(axis=0) + 1).tolist()))
        index = table["index"][rows]
        places = _places(np.asarray(labels[window]), index)
        yield Part(number=number, total=len(groups), window=window, index=index, places=places)


def _places(block: npt.NDArray[Any], index: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    block = block.astype(np.int64)
    at = np.minimum(np.searchsorted(index, block), len(index) - 1)
    places: npt.NDArray[np.int32] = np.where(index[at] == block, at + 1, 0).astype(np.int32)
    return places
