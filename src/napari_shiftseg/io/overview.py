"""`Overview`: a pyramid that is being written block by block, for somebody who looks at it meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr

from napari_shiftseg.io.store import create_level, halved, level_count, reduced

__all__ = ["Overview"]


class Overview:
    """The levels that are written, and the coarser ones, which come later to the result: they are kept up here.

    Parameters
    ----------
    path : Path
        Group of the arrays "0", "1", ... that blocks are written to, each block into all of them.
    beside : Path
        Where coarser levels can lie meanwhile.
    axes : str
        Letters of "tzyx".

    Attributes
    ----------
    levels : tuple of array
        Of the whole pyramid, full resolution first. The coarsest one of a plane is in memory, and is changed in place: viewers
        keep it. Values are those of every second pixel of the level below.
    """

    def __init__(self, path: Path, beside: Path, axes: str) -> None:
        self.axes = axes
        group: Any = zarr.open_group(str(path), mode="r")
        written: list[Any] = []
        while (array := group.get(str(len(written)))) is not None and array.shards is not None:
            written.append(array)
        self._base = len(written) - 1
        levels = list(written)
        count = level_count(dict(zip(axes, written[0].shape, strict=True)))
        more: Any = zarr.open_group(str(beside), mode="a", zarr_format=3)
        for level in range(len(written), count):
            shape = halved(levels[-1].shape, axes)
            there: Any = more.get(str(level))
            made = there if there is not None else create_level(more, str(level), shape, axes, levels[-1].dtype)
            levels.append(made)
        if count > 1 and axes == "yx":
            levels[-1] = reduced(np.asarray(levels[-2][...]), axes, "nearest").copy()
        self.levels: tuple[Any, ...] = tuple(levels)

    def update(self, window: tuple[slice, ...]) -> None:
        """Bring a block that has been written into the levels that are kept up here.

        Parameters
        ----------
        window : tuple of slice
            Of the block at full resolution, one slice per axis.
        """
        window = tuple(_coarser(part, axis, 1 << self._base) for part, axis in zip(window, self.axes, strict=True))
        values = np.asarray(self.levels[self._base][window])
        for level in range(self._base, len(self.levels)):
            array = self.levels[level]
            if level == self._base and not isinstance(array, np.ndarray):
                continue
            step = 1 << (level - self._base)
            place = tuple(_coarser(part, axis, step) for part, axis in zip(window, self.axes, strict=True))
            array[place] = values[tuple(_picked(part, axis, step) for part, axis in zip(window, self.axes, strict=True))]


def _coarser(part: slice, axis: str, step: int) -> slice:
    return slice(-(-part.start // step), -(-part.stop // step)) if axis in "yx" else part


def _picked(part: slice, axis: str, step: int) -> slice:
    """Every `step`-th pixel of the level, within a part of it."""
    return slice(-part.start % step, None, step) if axis in "yx" else slice(None)
