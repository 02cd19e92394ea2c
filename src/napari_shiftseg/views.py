"""A window into an array of any kind: picks, drops and reorders axes, and reads only what is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import ImageError

__all__ = ["ArrayLike", "Pick", "View"]

Index: TypeAlias = "int | slice | EllipsisType"

Pick: TypeAlias = "int | Sequence[int]"
"""What to take of one axis: one position (the axis goes away) or the positions in a range or tuple."""


class ArrayLike(Protocol):
    """What numpy, zarr and dask arrays have in common and what is used of them here."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""

    @property
    def dtype(self) -> Any:
        """Type of one value."""

    @property
    def ndim(self) -> int:
        """Number of axes."""

    def __getitem__(self, key: Any, /) -> Any:
        """Part of the array, for a tuple of integers and slices with positive steps."""


class View:
    """Axes of an array picked, dropped and reordered, without reading it.

    Parameters
    ----------
    source : array-like
        Numpy, zarr or dask array, or another `View`.
    picks : sequence of (int or sequence of int)
        Per axis of the source the positions to show; an integer drops the axis.
    order : sequence of (int or None)
        Per axis of the view the axis of the source; None makes a new axis of size 1.
    name : str
        How error messages call the source.

    Notes
    -----
    Indexing takes integers, slices and an ellipsis and returns a numpy array in native byte order. Errors of the
    source while it reads (a damaged file, a disk that is gone) become `ImageError`.

    >>> view = View(np.arange(6).reshape(2, 3), picks=(range(2), range(1, 3)), order=(1, None, 0))
    >>> view.shape, view[0].tolist()
    ((2, 1, 2), [[1, 4]])
    """

    def __init__(self, source: ArrayLike, picks: Sequence[Pick], order: Sequence[int | None], *, name: str = "image") -> None:
        self._source = source
        self._picks = tuple(picks)
        self._order = tuple(order)
        self._name = name

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return tuple(1 if axis is None else len(self._positions(axis)) for axis in self._order)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of one value, in native byte order."""
        dtype: np.dtype[Any] = np.dtype(self._source.dtype).newbyteorder("=")
        return dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._order)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes that the whole view takes once read."""
        return self.size * self.dtype.itemsize

    @property
    def in_memory(self) -> bool:
        """Whether nothing has to be read from a disk."""
        return isinstance(self._source, np.ndarray) or bool(getattr(self._source, "in_memory", False))

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"View({self._name!r}, shape={self.shape}, dtype={self.dtype})"

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        whole = self[...]
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __getitem__(self, key: Index | tuple[Index, ...]) -> npt.NDArray[Any]:
        picks = list(self._picks)
        after: list[int | slice] = []
        for out, (item, axis) in enumerate(zip(self._full_key(key), self._order, strict=True)):
            at = item if isinstance(item, slice) else self._inside(int(item), out)
            if axis is None:
                after.append(at)
            elif isinstance(at, slice):
                picks[axis] = self._positions(axis)[at]
                after.append(slice(None))
            else:
                picks[axis] = self._positions(axis)[at : at + 1]
                after.append(0)
        return self._read(picks)[tuple(after)]

    def _positions(self, axis: int) -> Sequence[int]:
        return cast("Sequence[int]", self._picks[axis])  # an axis in `order` is never picked by an integer

    def _inside(self, position: int, axis: int) -> int:
        size = self.shape[axis]
        if not -size <= position < size:
            raise IndexError(f"index {position} is out of bounds for axis {axis} with size {size}")
        return position % size

    def _full_key(self, key: Index | tuple[Index, ...]) -> tuple[int | slice, ...]:
        items = key if isinstance(key, tuple) else (key,)
        given = [item for item in items if item is not Ellipsis]
        if len(given) > self.ndim:
            raise IndexError(f"{len(given)} indices for {self.ndim} axes")
        fill = [slice(None)] * (self.ndim - len(given))
        at = next((n for n, item in enumerate(items) if item is Ellipsis), len(items))
        return cast("tuple[int | slice, ...]", (*given[:at], *fill, *given[at:]))

    def _read(self, picks: Sequence[Pick]) -> npt.NDArray[Any]:
        kept = [axis for axis, pick in enumerate(picks) if not isinstance(pick, int)]
        sizes = [len(cast("Sequence[int]", picks[axis])) for axis in kept]
        block = np.empty(sizes, self.dtype) if 0 in sizes else self._fetch(picks)
        block = block.transpose([kept.index(axis) for axis in self._order if axis is not None])
        new = tuple(out for out, axis in enumerate(self._order) if axis is None)
        return np.expand_dims(block, new) if new else block

    def _fetch(self, picks: Sequence[Pick]) -> npt.NDArray[Any]:
        key: list[int | slice] = []
        for axis, pick in enumerate(picks):
            item = _basic(pick)
            if item is None:
                # Uneven positions (a choice of channels): what zarr and dask allow here differs, so one at a time.
                parts = [self._fetch([*picks[:axis], (at,), *picks[axis + 1 :]]) for at in cast("Sequence[int]", pick)]
                return np.concatenate(parts, axis=sum(not isinstance(p, int) for p in picks[:axis]))
            key.append(item)
        try:
            return np.asarray(self._source[tuple(key)]).astype(self.dtype, copy=False)
        except (OSError, ValueError, RuntimeError) as exc:
            if isinstance(exc, ImageError):
                raise
            raise ImageError(f"{self._name} cannot be read to the end ({exc}); the file is damaged or gone.") from exc


def _basic(pick: Pick) -> int | slice | None:
    """The pick as an integer or a slice with positive step, None where it is neither."""
    if isinstance(pick, int):
        return pick
    step = pick[1] - pick[0] if len(pick) > 1 else 1
    even = range(pick[0], pick[0] + step * len(pick), step) if step > 0 else None
    if even is None or (not isinstance(pick, range) and tuple(even) != tuple(pick)):
        return None
    return slice(pick[0], pick[-1] + 1, step)
