"""`RawFile`: pixels that lie in a file as they are in memory, read where they are asked for; `unmapped`: those of a memmap."""

from __future__ import annotations

import itertools
import mmap
import os
import stat
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import ImageError
from napari_shiftseg.views import ArrayLike, LazyArray


class RawFile(LazyArray):
    """An array whose values lie one after the other in a file.

    It is read and not mapped: of a mapped file that is cut short meanwhile, or of a disk that goes away, the system ends the
    process without a word.

    Parameters
    ----------
    path : Path
    dtype : dtype
        In the byte order of the file.
    offset : int
        Bytes before the first value.
    shape : tuple of int
        The last axis is the one along which neighbours lie in the file.
    """

    def __init__(self, path: Path, *, dtype: npt.DTypeLike, offset: int, shape: Sequence[int]) -> None:
        self.path, self._dtype, self._offset, self._shape = path, np.dtype(dtype), offset, tuple(map(int, shape))
        if path.stat().st_size < offset + self.nbytes:
            raise self._short()

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of one value."""
        return self._dtype

    def _read(self, ranges: Sequence[range]) -> npt.NDArray[Any]:
        out = np.empty(tuple(map(len, ranges)), self._dtype)
        # as many of the last axes as are read whole make one piece with the axis before them
        axis = len(ranges) - 1
        while axis > 0 and ranges[axis] == range(self._shape[axis]):
            axis -= 1
        with open(self.path, "rb", opener=_opened) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ImageError(f"{self.path.name} was a file and is none any more; give the image back and run again.")
            for place in itertools.product(*(range(len(r)) for r in ranges[:axis])):
                at = [r[k] for r, k in zip(ranges[:axis], place, strict=True)]
                out[place] = self._along(file, at, ranges[axis]).reshape(out[place].shape)
        return out

    def _along(self, file: BinaryIO, at: Sequence[int], along: range) -> npt.NDArray[Any]:
        """Positions of one axis at a place of those before it, with all of those behind it."""
        number, row = 0, self._shape[len(at) + 1 :]
        for position, size in zip((*at, along[0]), self._shape, strict=False):
            number = number * size + position
        file.seek(self._offset + number * prod(row) * self._dtype.itemsize)
        count = (along[-1] - along[0] + 1) * prod(row)
        data = file.read(count * self._dtype.itemsize)
        if len(data) < count * self._dtype.itemsize:
            raise self._short()
        return np.frombuffer(data, self._dtype).reshape(-1, *row)[:: along.step]

    def _short(self) -> ImageError:
        there = self.path.stat().st_size
        return ImageError(
            f"{self.path.name} was cut short: its pixels end at byte {self._offset + self.nbytes} and the file at {there}; "
            "get the whole file."
        )


def _opened(path: str, flags: int) -> int:
    """A file, and at once: who opens a pipe that has taken its place waits for its other end."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


class _MappedFile(RawFile):
    """Of an array that a user mapped, and may write to during a run, as to any array in memory."""

    in_memory = True


def unmapped(array: ArrayLike) -> ArrayLike:
    """An `np.memmap` as the part of its file that it shows; anything else as it is.

    So is one that is not C-contiguous, whose values are those of the process alone (mode "c"), or whose file has another name
    by now, which Linux alone can tell.
    """
    if not isinstance(array, np.memmap) or array.mode == "c" or array.filename is None or not array.size:
        return array
    pages = getattr(array, "_mmap", None)  # None where a function of numpy gave a memmap that shows no file
    if pages is None or not array.flags.c_contiguous:
        return array
    first = np.frombuffer(pages, np.uint8).ctypes.data
    begin = int(array.offset) // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY + array.ctypes.data - first
    if not first <= array.ctypes.data < first + len(pages) or _mapped_at(first) != os.path.realpath(array.filename):
        return array
    return _MappedFile(Path(array.filename), dtype=array.dtype, offset=begin, shape=array.shape)


def _mapped_at(address: int) -> str:
    """The file that is mapped at an address, as the system names it; "" where it does not say."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        begin, end = (int(text, 16) for text in line.split(maxsplit=1)[0].split("-"))
        if begin <= address < end:
            return line.split(maxsplit=5)[-1] if "/" in line else ""
    return ""
