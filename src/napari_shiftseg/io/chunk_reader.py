"""`ChunkReader`: an array on disk that decodes each of its chunks once, although many windows share them."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.views import ArrayLike, LazyArray, chunks_of, positions

Key = tuple[Any, ...]
Place = tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """Pixels of a chunk, all or those from a corner on."""

    pixels: npt.NDArray[Any]
    corner: tuple[int, ...]

    def holds(self, parts: tuple[slice, ...]) -> bool:
        ends = zip(parts, self.corner, self.pixels.shape, strict=True)
        return all(first <= part.start and part.stop <= first + size for part, first, size in ends)

    def of(self, parts: tuple[slice, ...]) -> npt.NDArray[Any]:
        pairs = zip(parts, self.corner, strict=True)
        return self.pixels[tuple(slice(p.start - first, p.stop - first, p.step) for p, first in pairs)]

    def cropped(self, box: tuple[slice, ...]) -> _Part:
        """What lies in a box; copied where that saves memory."""
        if not self.holds(box) or all(part.stop - part.start == n for part, n in zip(box, self.pixels.shape, strict=True)):
            return self
        return _Part(pixels=self.of(box).copy(), corner=tuple(part.start for part in box))


class ChunkReader(LazyArray):
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
    Told in advance what will be read (`expect`), it keeps of a chunk what somebody still needs, and nothing else; else it
    keeps those that were used last. Beyond the budget, chunks are decoded again.
    """

    def __init__(self, source: ArrayLike, budget: int) -> None:
        chunks = chunks_of(source)
        assert chunks is not None
        self._source, self._chunks, self.budget = source, chunks, budget
        self._kept: OrderedDict[Place, _Part] = OrderedDict()
        self._bytes = 0
        self._left: dict[Place, deque[list[range]]] | None = None
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

    def expect(self, keys: Iterable[Key]) -> None:
        """Say what will be read from now on, each key once."""
        with self._lock:
            self._left = {}
            for key in keys:
                ranges, _ = positions(key, self.shape)
                for chunk in self._touched(ranges):
                    self._left.setdefault(chunk, deque()).append(ranges)
        self.forget()

    def forget(self) -> None:
        """Keep nothing of what was decoded, as of an image that has changed."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def _read(self, ranges: Sequence[range]) -> npt.NDArray[Any]:
        out = np.empty(tuple(len(r) for r in ranges), self.dtype)
        with self._lock:
            for chunk in self._touched(ranges):
                places, parts = self._local(ranges, chunk)
                kept = self._chunk(chunk, parts)
                out[places] = kept.of(parts)
                self._used(chunk, kept)
        return out

    def _touched(self, ranges: Sequence[range]) -> Iterable[tuple[int, ...]]:
        if any(len(r) == 0 for r in ranges):
            return ()
        places = [
            range(r.start // edge, r[-1] // edge + 1) if r.step <= edge else sorted({at // edge for at in r})
            for r, edge in zip(ranges, self._chunks, strict=True)
        ]
        return product(*places)

    def _local(self, ranges: Sequence[range], chunk: Place) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Where a chunk goes in what is read, and which part of the chunk that is."""
        places, parts = [], []
        for r, index, edge, size in zip(ranges, chunk, self._chunks, self.shape, strict=True):
            begin, end = index * edge, min((index + 1) * edge, size)
            first = max(0, -(-(begin - r.start) // r.step))
            stop = min(len(r), -(-(end - r.start) // r.step))
            places.append(slice(first, stop))
            start = r.start + first * r.step - begin
            parts.append(slice(start, start + (stop - first - 1) * r.step + 1, r.step))
        return tuple(places), tuple(parts)

    def _chunk(self, chunk: Place, parts: tuple[slice, ...]) -> _Part:
        kept = self._kept.get(chunk)
        if kept is not None and kept.holds(parts):
            self._kept.move_to_end(chunk)
            return kept
        self.decoded += 1
        window = tuple(
            slice(index * edge, min((index + 1) * edge, size))
            for index, edge, size in zip(chunk, self._chunks, self.shape, strict=True)
        )
        return _Part(pixels=np.asarray(self._source[window]), corner=(0,) * self.ndim)

    def _used(self, chunk: Place, kept: _Part) -> None:
        """Keep what is needed again of a chunk, as far as the budget goes."""
        old = self._kept.pop(chunk, None)
        self._bytes -= 0 if old is None else old.pixels.nbytes
        if self._left is not None:
            waiting = self._left.get(chunk)
            if waiting:
                waiting.popleft()
            if not waiting:
                self._left.pop(chunk, None)
                return
            wanted = [self._local(ranges, chunk)[1] for ranges in waiting]
            box = tuple(slice(min(p.start for p in axis), max(p.stop for p in axis)) for axis in zip(*wanted, strict=True))
            kept = kept.cropped(box)
        if self._left is None or self._bytes + kept.pixels.nbytes <= self.budget:
            self._kept[chunk] = kept
            self._bytes += kept.pixels.nbytes
        while self._bytes > self.budget and self._kept:
            _, old = self._kept.popitem(last=False)
            self._bytes -= old.pixels.nbytes

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one decoded chunk."""
        return prod(self._chunks) * int(np.dtype(self.dtype).itemsize)
