"""Lazy arrays: what an index asks for is understood here, once; a subclass reads that and nothing else."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from math import prod
from types import EllipsisType
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import ImageError, ShiftsegError, memory_ran_out

Index: TypeAlias = "int | slice | EllipsisType"

Pick: TypeAlias = "int | Sequence[int]"
"""What to take of one axis: one position (the axis goes away) or the positions in a range or tuple."""


class ArrayLike(Protocol):
    """What numpy, zarr, dask and lazy arrays have in common and what is used of them here."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""

    @property
    def dtype(self) -> Any:
        """Type of one value."""

    def __getitem__(self, key: Any, /) -> Any:
        """Part of the array, for a tuple of integers and slices with positive steps."""


def as_array(values: Any, what: str, *, kinds: str = "biuf", error: type[ShiftsegError] = ImageError) -> Any:
    """Values as an array: as they are where they are one, else of lists or a tensor, whose type and shape are looked at.

    `error` where they are no array of real numbers, or do not know their shape.

    Parameters
    ----------
    what : str
        How the error calls them.
    kinds : str
        Letters of numpy for the types that are right.
    """
    if callable(getattr(values, "detach", None)) and callable(getattr(values, "numpy", None)):  # a tensor of PyTorch
        try:
            tensor = values.detach().cpu()
            values = (tensor.float() if "bfloat16" in str(tensor.dtype) else tensor).numpy()
        except (NotImplementedError, RuntimeError, TypeError) as exc:  # of the device "meta", sparse, nested or quantised
            raise error(f"{what} is a tensor that is no plain array of numbers; give a dense one with values.") from exc
    elif isinstance(values, list | tuple):
        try:
            values = np.asarray(values)
        except ValueError as exc:
            raise error(f"{what} is a list of lists of different lengths; give an array.") from exc
    try:
        shape, dtype = tuple(values.shape), np.dtype(values.dtype)
    except (AttributeError, TypeError):
        raise error(f"{what} is {_kind(values)}; give an array of numbers.") from None
    if any(size != size for size in shape):
        raise error(f"{what} does not know its sizes, as after a choice by values in dask; compute_chunk_sizes() finds them.")
    if dtype.kind == "c" and "c" not in kinds:
        raise error(f"{what} holds complex numbers ({dtype}), of which a part would be lost; give np.abs of them, or a part.")
    if dtype.kind not in kinds:
        raise error(f"{what} holds values of type {dtype}; give an array of real numbers.")
    return values


def check_writable(array: Any, what: str, *, error: type[ShiftsegError] = ImageError) -> None:
    """Refuse to fill what cannot be written: an array that says so, or no array. `error`."""
    try:
        np.dtype(array.dtype)  # which a tensor has of another kind
        known = hasattr(array, "shape") and hasattr(array, "__setitem__")
    except (AttributeError, TypeError):
        known = False
    if not known:
        raise error(f"{what} is {_kind(array)}; give an array of numpy or zarr that can be written, as tensor.numpy().")
    flags = getattr(array, "flags", None)
    if getattr(array, "read_only", False) or not getattr(flags, "writeable", True):
        raise error(f"{what} can only be read; give one that can be written (mode 'r+').")


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def in_memory(array: ArrayLike) -> bool:
    """Whether values are there without reading them from somewhere: arrays, and views of arrays that say so."""
    return isinstance(array, np.ndarray) or bool(getattr(array, "in_memory", False))


def chunks_of(array: ArrayLike) -> tuple[int, ...] | None:
    """Edges of the chunks that are decoded as a whole; None for arrays without chunks of equal size."""
    chunks = getattr(array, "chunks", None)
    if not chunks or len(chunks) != len(array.shape):
        return None
    if all(isinstance(edge, int) for edge in chunks):
        return tuple(chunks)
    if any(len(set(edges[:-1])) > 1 or edges[-1] > edges[0] for edges in chunks):  # of dask, per axis all edges
        return None
    return tuple(int(edges[0]) for edges in chunks)


def positions(key: Index | tuple[Index, ...], shape: Sequence[int]) -> tuple[list[range], tuple[int | slice, ...]]:
    """The positions that a key takes of each axis, ascending, and what is left to do with the values that lie there.

    >>> positions((..., slice(4, None, -2), -1), (3, 6, 7))
    ([range(0, 3), range(0, 6, 2), range(6, 7)], (slice(None, None, None), slice(None, None, -1), 0))
    """
    items = key if isinstance(key, tuple) else (key,)
    given: list[Any] = [item for item in items if item is not Ellipsis]
    if len(given) > len(shape):
        raise IndexError(f"{len(given)} indices for {len(shape)} axes")
    if len(items) - len(given) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    at = next((number for number, item in enumerate(items) if item is Ellipsis), len(items))
    full = [*given[:at], *[slice(None)] * (len(shape) - len(given)), *given[at:]]
    pairs = [_along(item, axis, size) for axis, (item, size) in enumerate(zip(full, shape, strict=True))]
    return [taken for taken, _ in pairs], tuple(after for _, after in pairs)


def _along(item: Any, axis: int, size: int) -> tuple[range, int | slice]:
    if isinstance(item, slice):
        taken = range(*item.indices(size))
        return (taken, slice(None)) if taken.step > 0 else (taken[::-1], slice(None, None, -1))
    try:
        if isinstance(item, bool):
            raise TypeError("a mask")  # to numpy, True is no 1
        position = operator.index(item)
    except TypeError as exc:
        raise IndexError(f"index {item!r} is neither an integer nor a slice; a lazy array takes only these") from exc
    if not -size <= position < size:
        raise IndexError(f"index {position} is out of bounds for axis {axis} with size {size}")
    return range(position % size, position % size + 1), 0


class LazyArray:
    """An array whose values are read where it is indexed, by integers, slices and an ellipsis, as numpy arrays.

    A subclass has a `shape` and a `dtype`, and reads (`_read`) the values at some ascending positions of each axis.
    """

    in_memory = False
    """Whether nothing has to be read from a disk or computed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        raise NotImplementedError

    @property
    def dtype(self) -> Any:
        """Type of one value."""
        raise NotImplementedError

    def _read(self, ranges: Sequence[range]) -> npt.NDArray[Any]:
        """Values at ascending positions of each axis, one at least."""
        raise NotImplementedError

    @property
    def source(self) -> Any:
        """The array that is shown; None where values are made here."""
        return getattr(self, "_source", None)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that all values take once read."""
        return self.size * int(np.dtype(self.dtype).itemsize)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype})"

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        whole = self[...]
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __getitem__(self, key: Index | tuple[Index, ...]) -> npt.NDArray[Any]:
        ranges, after = positions(key, self.shape)
        block = self._read(ranges) if all(ranges) else np.empty(tuple(map(len, ranges)), self.dtype)
        return block[after]


class View(LazyArray):
    """Axes of an array picked, dropped and reordered, without reading it.

    Parameters
    ----------
    source : array-like
        Numpy, zarr, dask or lazy array.
    picks : sequence of (int or sequence of int)
        Per axis of the source the positions to show; an integer drops the axis.
    order : sequence of (int or None)
        Per axis of the view the axis of the source; None makes a new axis of size 1.
    name : str
        How error messages call the source.

    Notes
    -----
    Values are in native byte order. Errors of the source while it reads (a damaged file, a disk that is gone) become
    `ImageError`.

    >>> view = View(np.arange(6).reshape(2, 3), picks=(range(2), range(1, 3)), order=(1, None, 0))
    >>> view.shape, view[0].tolist()
    ((2, 1, 2), [[1, 4]])
    """

    def __init__(self, source: ArrayLike, picks: Sequence[Pick], order: Sequence[int | None], *, name: str = "image") -> None:
        self._source, self._picks, self._order, self._name = source, tuple(picks), tuple(order), name
        # an axis in `order` is never picked by an integer
        self._shown = tuple(range(1) if axis is None else cast("Sequence[int]", picks[axis]) for axis in order)
        self._shape = tuple(map(len, self._shown))

    @classmethod
    def at(cls, source: ArrayLike, index: Mapping[int, int], *, name: str = "image") -> View:
        """The source at one position of some of its axes, which go away."""
        picks = [index.get(axis, range(size)) for axis, size in enumerate(source.shape)]
        return cls(source, picks, [axis for axis in range(len(picks)) if axis not in index], name=name)

    @classmethod
    def whole(cls, source: ArrayLike, order: Sequence[int | None] | None = None, *, name: str = "image") -> View:
        """All of the source, with its axes in another order, or with new ones of size 1 (None) between them."""
        picks = [range(size) for size in source.shape]
        return cls(source, picks, range(len(picks)) if order is None else order, name=name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of one value, in native byte order."""
        dtype: np.dtype[Any] = np.dtype(self._source.dtype).newbyteorder("=")
        return np.dtype(dtype.str) if dtype.kind in "iu" else dtype  # one of the names that C has for 64 bits

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Edges of what is decoded as a whole, None without such chunks and where their first positions are not shown."""
        edges = chunks_of(self._source)
        if edges is None or any(shown != range(len(shown)) for shown in self._shown):
            return None
        pairs = zip(self._order, self._shape, strict=True)
        return tuple(1 if axis is None else min(edges[axis], size) for axis, size in pairs)

    @property
    def in_memory(self) -> bool:  # type: ignore[override]
        """Whether nothing has to be read from a disk."""
        return in_memory(self._source)

    def _read(self, ranges: Sequence[range]) -> npt.NDArray[Any]:
        picks = list(self._picks)
        for axis, shown, taken in zip(self._order, self._shown, ranges, strict=True):
            if axis is not None:
                picks[axis] = shown[taken.start : taken.stop : taken.step]
        block = self._fetch(picks)
        kept = [axis for axis, pick in enumerate(picks) if not isinstance(pick, int)]
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
        except (ShiftsegError, MemoryError):
            raise
        except Exception as exc:  # decoders of damaged files raise anything
            if memory_ran_out(exc):
                raise
            said = exc.strerror if isinstance(exc, OSError) and exc.strerror else exc  # without the system's number
            what = " ".join(f"{type(exc).__name__}: {said}".split())[:200]
            raise ImageError(f"{self._name} cannot be read to the end ({what}); the file is damaged or gone.") from exc


def _basic(pick: Pick) -> int | slice | None:
    """The pick as an integer or a slice with positive step, None where it is neither."""
    if isinstance(pick, int):
        return pick
    step = pick[1] - pick[0] if len(pick) > 1 else 1
    even = range(pick[0], pick[0] + step * len(pick), step) if step > 0 else None
    if even is None or (not isinstance(pick, range) and tuple(even) != tuple(pick)):
        return None
    return slice(pick[0], pick[-1] + 1, step)
