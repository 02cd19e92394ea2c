"""Feature maps of which only some rows exist: what a convolution still needs, and skips that wait for the decoder.

Rows are the first spatial axis. All memory is made once; who makes rows writes them to where they are needed next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

__all__ = ["HeldRows", "Scratch", "Storage", "WaitingRows", "rectify"]


@dataclass(frozen=True, kw_only=True)
class Storage:
    """How maps lie in memory."""

    device: torch.device
    dtype: torch.dtype
    layout: torch.memory_format

    def empty(self, channels: int, rows: int, across: Sequence[int]) -> Tensor:
        """A map (1, channels, rows, *across)."""
        return torch.empty((1, channels, rows, *across), dtype=self.dtype, device=self.device, memory_format=self.layout)


def rectify(x: Tensor, out: Tensor) -> None:
    """ReLU of `x`, written into `out`, which may have another number format."""
    torch.clamp_min(x, 0, out=out)


class Scratch:
    """One piece of memory in which the input of each convolution is put together in turn.

    Parameters
    ----------
    storage : Storage
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._values = torch.empty(0, dtype=storage.dtype, device=storage.device)
        self._most = 0

    def reserve(self, channels: int, rows: int, across: Sequence[int]) -> None:
        """Say that a map of this size will be asked for: memory is taken once, and not bit by bit."""
        self._most = max(self._most, channels * rows * prod(across))

    def map(self, channels: int, rows: int, across: Sequence[int]) -> Tensor:
        """A map (1, channels, rows, *across) of any content; the one before is lost."""
        count = channels * rows * prod(across)
        if count > len(self._values):
            self._most = max(self._most, count)
            self._values = torch.empty(self._most, dtype=self._storage.dtype, device=self._storage.device)
        if self._storage.layout == torch.contiguous_format:
            return self._values[:count].view(1, channels, rows, *across)
        return self._values[:count].view(1, rows, *across, channels).movedim(-1, 1)


class HeldRows:
    """Input of a convolution, of which the `kernel - 1` rows that it needs again are held.

    Parameters
    ----------
    storage : Storage
    scratch : Scratch
        Where the rows are that are in work.
    channels : int
    most : int
        New rows that come at once at most.
    across : sequence of int
        Edges of the other axes, pixels.
    kernel : int
        Rows of the kernel.
    """

    def __init__(
        self, storage: Storage, scratch: Scratch, channels: int, most: int, across: Sequence[int], kernel: int
    ) -> None:
        scratch.reserve(channels, kernel - 1 + most, across)
        self._held = storage.empty(channels, kernel - 1, across)
        self._scratch, self._across = scratch, across
        self._count = 0  # rows that are held; fewer only at the beginning
        self._rows = self._held[:, :, :0]

    def room(self, count: int) -> Tensor:
        """Place of the next `count` rows, which the caller fills before it asks for room elsewhere."""
        self._rows = self._scratch.map(self._held.shape[1], self._count + count, self._across)
        self._rows[:, :, : self._count] = self._held[:, :, : self._count]
        return self._rows[:, :, self._count :]

    def convolved(self, convolution: Any) -> Tensor | None:
        """Output rows of those that were filled in; None as long as there are too few rows."""
        rows, most = self._rows, self._held.shape[2]
        y: Tensor | None = convolution(rows) if rows.shape[2] > most else None
        self._count = min(most, rows.shape[2])
        self._held[:, :, : self._count] = rows[:, :, rows.shape[2] - self._count :]
        return y

    @property
    def nbytes(self) -> int:
        """Size of what is held, bytes."""
        return self._held.nbytes


class WaitingRows:
    """A skip: rows in the order in which they came, in a ring.

    Parameters
    ----------
    storage : Storage
    channels : int
    most : int
        Rows that can wait at once.
    across : sequence of int
        Edges of the other axes, pixels.
    """

    def __init__(self, storage: Storage, channels: int, most: int, across: Sequence[int]) -> None:
        self._ring = storage.empty(channels, most, across)
        self._first = self._count = 0

    def _pieces(self, start: int, count: int) -> list[slice]:
        """Places in the ring of `count` rows, counted from its `start`."""
        size = self._ring.shape[2]
        start %= size
        stop = min(start + count, size)
        return [slice(start, stop)] + ([slice(0, start + count - size)] if start + count > size else [])

    def push_rectified(self, x: Tensor) -> None:
        """Append the ReLU of some rows."""
        done = 0
        for piece in self._pieces(self._first + self._count, x.shape[2]):
            count = piece.stop - piece.start
            rectify(x[:, :, done : done + count], self._ring[:, :, piece])
            done += count
        self._count += done

    def pop(self, into: Tensor) -> None:
        """Move the oldest rows into a place of as many."""
        done = 0
        for piece in self._pieces(self._first, into.shape[2]):
            count = piece.stop - piece.start
            into[:, :, done : done + count] = self._ring[:, :, piece]
            done += count
        self._first = (self._first + done) % self._ring.shape[2]
        self._count -= done

    @property
    def nbytes(self) -> int:
        """Size, bytes."""
        return self._ring.nbytes
