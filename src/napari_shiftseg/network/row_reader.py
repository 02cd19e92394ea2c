"""`RowReader`: the rows of a column, from the first to the last, each row of the image read once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.geometry import Window
from napari_shiftseg.network.normalise import ArrayLike
from napari_shiftseg.network.windows import read_window, reflected

__all__ = ["RowReader"]


class RowReader:
    """Reads a window of the padded image from top to bottom.

    Rows that a reflection at the border needs a second time are held back until then.

    Parameters
    ----------
    image : array-like
        (C, *shape).
    window : tuple of slice
        In the padded image, pixels.
    pad : sequence of (int, int)
        Pixels before and after the image per axis.
    """

    def __init__(self, image: ArrayLike, window: Window, pad: Sequence[tuple[int, int]]) -> None:
        self._image, self._across, self._pad = image, window[1:], pad
        before = pad[0][0]
        self._rows = reflected(np.arange(window[0].start - before, window[0].stop - before), image.shape[1])
        # the lowest row of the image that this or any later row of the window needs
        self._lowest = np.minimum.accumulate(self._rows[::-1])[::-1]
        self._held: npt.NDArray[Any] | None = None
        self._first = self._stop = 0  # rows of the image that are held

    def read(self, part: slice) -> npt.NDArray[Any]:
        """Rows `part` of the window, (C, rows, *across); each call goes on where the one before ended."""
        rows = self._rows[part]
        top = int(rows.max()) + 1
        lowest = int(self._lowest[part.start])  # where the top is reflected, later parts lie above this one
        if self._held is None or self._stop < lowest:
            self._held, self._first, self._stop = None, lowest, lowest
        if top > self._stop:
            before = self._pad[0][0]
            window = (slice(self._stop + before, top + before), *self._across)
            new = read_window(self._image, window, self._pad)
            self._held = new if self._held is None else np.concatenate([self._held, new], axis=1)
            self._stop = top
        held: Any = self._held
        block: npt.NDArray[Any] = np.take(held, rows - self._first, axis=1)
        if part.stop < len(self._rows):
            self._forget(int(self._lowest[part.stop]))
        return block

    def _forget(self, lowest: int) -> None:
        """Let go of the rows below `lowest`."""
        if self._held is not None and lowest > self._first:
            # a copy, because a view would keep all rows alive
            self._held = self._held[:, lowest - self._first :].copy() if lowest < self._stop else None
            self._first = min(lowest, self._stop)
