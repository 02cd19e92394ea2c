"""`ChunkReader`: an array on disk that decodes each of its chunks once, although many windows share them."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from itertools import product
from math import prod
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.io.view import ArrayLike

__all__ = ["ChunkReader", "chunks_of"]

Key = tuple[Any, ...]


def chunks_of(source: ArrayLike) -> tuple[int, ...] | None:
    """Edges of the chunks that are decoded as a whole; None for arrays without chunks of equal size."""
    chunks = getattr(source, "chunks", None)
    if not chunks or len(chunks) != source.ndim:
        return None
    if all(isinstance(edge, int) for edge in chunks):
        return tuple(chunks)
    if any(len(set(edges[:-1])) > 1 or edges[-1] > edges[0] for edges in chunks):  # of dask, per axis all edges
        return None
    return tuple(int(edges[0]) for edges in chunks)


class ChunkReader:
    """An array seen through a store of decoded chunks.

    Parameters
    ----------
    source : array-like
        Zarr or dask array with chunks of equal size.
    budget : int
        Bytes of decoded chunks that are kept.

    Attributes
    ----------
    budget : int
        As given; a change holds from the next read on.
    decoded : int
        Chunks that were read from the source so far.

    Notes
    -----
    Told in advance what will be read (`expect`), it keeps a chunk as long as somebody still needs it and not longer; else it
    keeps those that were used last. Beyond the budget, chunks are decoded again.
    """

    def __init__(self, source: ArrayLike, budget: int) -> None:
        chunks = chunks_of(source)
        assert chunks is not None
        self._source, self._chunks, self.budget = source, chunks, budget
        self._kept: OrderedDict[tuple[int, ...], npt.NDArray[Any]] = OrderedDict()
        self._bytes = 0
        self._left: Counter[tuple[int, ...]] | None = None
        self._lock = Lock()
        self.decoded = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return tuple(self._source.shape)

    @property
    def dtype(self) -> Any:
        """Type of one value."""
        return self._source.dtype

    @property
    def chunks(self) -> tuple[int, ...]:
        """Edges of a chunk."""
        return self._chunks

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._chunks)

    def expect(self, keys: Iterable[Key]) -> None:
        """Say what will be read from now on, each key once."""
        with self._lock:
            self._left = Counter(chunk for key in keys for chunk in self._touched(self._ranges(key)))
            self._kept.clear()
            self._bytes = 0

    def __getitem__(self, key: Key) -> npt.NDArray[Any]:
        ranges = self._ranges(key)
        out = np.empty(tuple(len(r) for r in ranges), self.dtype)
        with self._lock:
            for chunk in self._touched(ranges):
                block = self._chunk(chunk)
                places, parts = [], []
                for r, index, edge, size in zip(ranges, chunk, self._chunks, self.shape, strict=True):
                    begin, end = index * edge, min((index + 1) * edge, size)
                    first = max(0, -(-(begin - r.start) // r.step))
                    stop = min(len(r), -(-(end - r.start) // r.step))
                    places.append(slice(first, stop))
                    start = r.start + first * r.step - begin
                    parts.append(slice(start, start + (stop - first - 1) * r.step + 1, r.step))
                out[tuple(places)] = block[tuple(parts)]
                self._used(chunk, block)
        given = key if isinstance(key, tuple) else (key,)
        return out[tuple(0 if isinstance(item, int) else slice(None) for item in given)]

    def _ranges(self, key: Key) -> list[range]:
        items = key if isinstance(key, tuple) else (key,)
        full = [*items, *(slice(None),) * (self.ndim - len(items))]
        pairs = zip(full, self.shape, strict=True)
        return [range(item, item + 1) if isinstance(item, int) else range(*item.indices(size)) for item, size in pairs]

    def _touched(self, ranges: list[range]) -> Iterable[tuple[int, ...]]:
        if any(len(r) == 0 for r in ranges):
            return ()
        places = [
            range(r.start // edge, r[-1] // edge + 1) if r.step <= edge else sorted({at // edge for at in r})
            for r, edge in zip(ranges, self._chunks, strict=True)
        ]
        return product(*places)

    def _chunk(self, chunk: tuple[int, ...]) -> npt.NDArray[Any]:
        if chunk in self._kept:
            self._kept.move_to_end(chunk)
            return self._kept[chunk]
        self.decoded += 1
        window = tuple(
            slice(index * edge, min((index + 1) * edge, size))
            for index, edge, size in zip(chunk, self._chunks, self.shape, strict=True)
        )
        return np.asarray(self._source[window])

    def _used(self, chunk: tuple[int, ...], block: npt.NDArray[Any]) -> None:
        """Keep a chunk that is needed again, as far as the budget goes."""
        needed = True
        if self._left is not None:
            self._left[chunk] -= 1
            needed = self._left[chunk] > 0
        if not needed:
            old = self._kept.pop(chunk, None)
            self._bytes -= 0 if old is None else old.nbytes
        elif chunk not in self._kept and (self._left is None or self._bytes + block.nbytes <= self.budget):
            self._kept[chunk] = block
            self._bytes += block.nbytes
        while self._bytes > self.budget and self._kept:
            _, old = self._kept.popitem(last=False)
            self._bytes -= old.nbytes

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one decoded chunk."""
        return prod(self._chunks) * int(np.dtype(self.dtype).itemsize)
