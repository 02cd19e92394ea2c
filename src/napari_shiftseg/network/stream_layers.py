"""Feature maps of which only some rows exist: what a convolution still needs, and skips that wait for the decoder.

Rows are the first spatial axis. Both keep their rows in one array that is made once; who makes rows writes them there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["HeldRows", "Storage", "WaitingRows", "rectify"]


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


class HeldRows:
    """Input of a convolution: the `kernel - 1` rows that it needs again, and behind them room for new ones.

    Parameters
    ----------
    storage : Storage
    channels : int
    most : int
        New rows that can come at once.
    across : sequence of int
        Edges of the other axes, pixels.
    kernel : int
        Rows of the kernel.
    """

    def __init__(self, storage: Storage, channels: int, most: int, across: Sequence[int], kernel: int) -> None:
        self._kept = kernel - 1
        self._rows = storage.empty(channels, self._kept + most, across)
        self._count = 0

    def room(self, count: int) -> Tensor:
        """Place of the next `count` rows, which the caller fills."""
        start, self._count = self._count, self._count + count
        return self._rows[:, :, start : self._count]

    def convolved(self, convolution: Any) -> Tensor | None:
        """Output rows that are new; None as long as there are too few rows."""
        if self._count <= self._kept:
            return None
        y: Tensor = convolution(self._rows[:, :, : self._count])
        if self._kept:
            last = self._rows[:, :, self._count - self._kept : self._count]
            # where new rows are few, the two places overlap
            self._rows[:, :, : self._kept] = last.clone() if self._count < 2 * self._kept else last
        self._count = self._kept
        return y

    @property
    def nbytes(self) -> int:
        """Size, bytes."""
        return self._rows.nbytes


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
