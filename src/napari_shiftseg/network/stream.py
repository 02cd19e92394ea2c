"""`StreamNet`: a valid U-Net that is fed with strips of rows and computes no row of any layer twice.

Each convolution keeps the `kernel - 1` rows that it needs again, and each skip waits in a ring until the decoder, which lags
behind, asks for it. Strips come in sizes that all poolings divide, so a pooling keeps nothing. Prior art: line buffers of
fused layers (Alwani et al., MICRO 2016).

Rows are the first spatial axis. All memory is made once; who makes rows writes them to where they are needed next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from napari_shiftseg.geometry import Layer, Pass
from napari_shiftseg.network.unet import POOL, ConvReLU, InferenceNet, entered


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
    """One piece of memory in which the input of each convolution is put together in turn."""

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
    scratch : Scratch
        Where the rows are that are in work.
    strip : int
        Rows of the input that come at once at most.
    across : sequence of int
        Edges of the other axes, pixels.
    """

    def __init__(self, storage: Storage, scratch: Scratch, layer: Layer, *, strip: int, across: Sequence[int]) -> None:
        again = layer.kernel[0] - 1
        scratch.reserve(layer.source, again + strip // layer.scale[0], across)
        self._held = storage.empty(layer.source, again, across)
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
    pooling : Layer
        Whose input waits.
    most : int
        Rows that can wait at once.
    across : sequence of int
        Edges of the other axes, pixels.
    """

    def __init__(self, storage: Storage, pooling: Layer, *, most: int, across: Sequence[int]) -> None:
        self._ring = storage.empty(pooling.source, most, across)
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


class StreamNet:
    """A network and what it remembers of the rows that it has seen.

    Parameters
    ----------
    net : InferenceNet
        On its device, in its number format.
    plan : Pass
        Over all rows that will come, and over the width of a column; its input starts on the lattice.
    strip : int
        Rows that come at once at most, a multiple of the period.
    layout : torch.memory_format
        Of the feature maps.
    one_step : bool
        Convolutions with their ReLU in one step (`network.unet.ConvReLU`), on CPUs.
    """

    def __init__(
        self, net: InferenceNet, plan: Pass, strip: int, layout: torch.memory_format, *, one_step: bool = False
    ) -> None:
        spec, head = net.spec, net.head
        self._net, self._spec = net, spec
        parameter = next(net.encoder.parameters())
        storage = Storage(device=parameter.device, dtype=parameter.dtype, layout=layout)
        held = _held(plan, "convolution", storage=storage, strip=strip, channels=parameter.shape[1])
        self._encoder = [_Block.of(block, held, one_step) for block in net.encoder]
        self._skips = []
        for pooling, crop, skip in zip(spec.poolings, spec.skip_crops, plan.skips, strict=True):
            most = crop[0] + strip // pooling.scale[0]
            self._skips.append(_Skip.of(plan, pooling.level, WaitingRows(storage, pooling, most=most, across=_across(skip))))
        self._decoder = [_Block.of(block, held, one_step) for block in reversed(net.decoder)][::-1]
        self._head: HeldRows | None = None
        if spec.head_kernel > 1:
            storage = Storage(device=storage.device, dtype=head.weight.dtype, layout=layout)
            self._head = next(_held(plan, "head", storage=storage, strip=strip, channels=spec.channels[0]))

    @torch.inference_mode()
    def push(self, pixels: Tensor) -> Tensor | None:
        """Feed the next rows.

        `pixels`: (1, C, rows, *across) of any type and on any device.

        Returns
        -------
        Tensor or None
            (1, out_channels, rows, *across) of the kept window, as many rows as can be finished; None if that is none.
        """
        x = entered(self._net, pixels)
        self._encoder[0].room(x.shape[2]).copy_(x)
        y: Tensor | None
        for level, skip in enumerate(self._skips):
            if (y := self._encoder[level].run()) is None:
                return None
            fine = skip.split(y)
            if not fine.shape[2]:
                return None
            # ReLU and maximum commute, and there is less to rectify after pooling
            pooled = POOL[self._spec.ndim](fine, self._spec.factors[level])
            rectify(pooled, self._encoder[level + 1].room(pooled.shape[2]))
        y = self._encoder[-1].run()
        for level in reversed(range(self._spec.levels)):
            if y is None or not (y := self._raised(level, y)).shape[2]:
                return None
            room = self._decoder[level].room(y.shape[2])
            fine_channels = self._spec.channels[level]
            self._skips[level].rows.pop(room[:, :fine_channels])
            rectify(y, room[:, fine_channels:])
            y = self._decoder[level].run()
        return None if y is None else self._headed(y)

    def skip(self, rows: int) -> None:
        """Let rows pass that would leave all kept rows as they are."""
        for pooling, skip in zip(self._spec.poolings, self._skips, strict=True):
            skip.advance(rows // pooling.scale[0])

    @property
    def state_bytes(self) -> int:
        """Bytes that are held from strip to strip."""
        held = [rows.nbytes for block in (*self._encoder, *self._decoder) for rows in block.inputs]
        return sum(held) + sum(skip.rows.nbytes for skip in self._skips) + (self._head.nbytes if self._head else 0)

    def _raised(self, level: int, y: Tensor) -> Tensor:
        """Rows for the decoder of a level, before their ReLU."""
        layer: Any = self._net.up[level]
        if self._spec.upsampling == "learnt":
            y = y.relu_()
        return self._skips[level].cut(layer[0](y))

    def _headed(self, y: Tensor) -> Tensor | None:
        head = self._net.head
        if self._head is None:
            z: Tensor = head(y.relu_().to(head.weight.dtype))
            return z
        rectify(y, self._head.room(y.shape[2]))
        return self._head.convolved(head)


def _held(plan: Pass, kind: str, *, storage: Storage, strip: int, channels: int) -> Iterator[HeldRows]:
    """Input of each convolution in the order in which they run, with one scratch for all; the first has so many channels."""
    scratch = Scratch(storage)
    maps = [(layer, before) for layer, before, _ in plan.maps() if layer.kind == kind]
    for number, (layer, before) in enumerate(maps):
        made = layer if number else replace(layer, source=channels)
        yield HeldRows(storage, scratch, made, strip=strip, across=tuple(map(int, before[1:])))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Block:
    """Convolutions of one level, each with its input rows."""

    convolutions: Sequence[Any]
    inputs: Sequence[HeldRows]

    @classmethod
    def of(cls, block: nn.Module, held: Iterator[HeldRows], one_step: bool) -> _Block:
        convolutions: list[Any] = [layer for layer in block.children() if hasattr(layer, "kernel_size")]
        inputs = [rows for _, rows in zip(convolutions, held, strict=False)]
        return cls(convolutions=[ConvReLU(conv) for conv in convolutions] if one_step else convolutions, inputs=inputs)

    def room(self, count: int) -> Tensor:
        return self.inputs[0].room(count)

    def run(self) -> Tensor | None:
        """New rows of the last convolution, before their ReLU."""
        y = self.inputs[0].convolved(self.convolutions[0])
        for rows, conv in zip(self.inputs[1:], self.convolutions[1:], strict=True):
            if y is None:
                return None
            rectify(y, rows.room(y.shape[2]))
            y = rows.convolved(conv)
        return y


@dataclass(kw_only=True, eq=False)
class _Skip:
    """Where the map of an encoder level goes, and what its decoder gets; counts the rows that came by."""

    skip: tuple[slice, ...]
    pooled: tuple[slice, ...]
    raised: tuple[slice, ...]
    rows: WaitingRows
    _fine: int = field(default=0)
    _raised: int = field(default=0)

    @classmethod
    def of(cls, plan: Pass, level: int, rows: WaitingRows) -> _Skip:
        return cls(skip=plan.skips[level], pooled=plan.pooled[level], raised=plan.raised[level], rows=rows)

    def split(self, y: Tensor) -> Tensor:
        """Keep what the decoder will need; give back what is to be pooled."""
        waiting, pooled = (_part(y, window, self._fine) for window in (self.skip, self.pooled))
        self._fine += y.shape[2]
        if waiting.shape[2]:
            self.rows.push_rectified(waiting)
        return pooled

    def cut(self, y: Tensor) -> Tensor:
        """What the decoder gets of an upsampled map."""
        part = _part(y, self.raised, self._raised)
        self._raised += y.shape[2]
        return part

    def advance(self, rows: int) -> None:
        self._fine += rows
        self._raised += rows


def _part(y: Tensor, window: Sequence[slice], before: int) -> Tensor:
    """The window of a map of which `before` rows are gone and these are the next."""
    rows, *across = window
    start = min(max(rows.start - before, 0), y.shape[2])
    stop = min(max(rows.stop - before, start), y.shape[2])
    return y[(slice(None), slice(None), slice(start, stop), *across)]


def _across(window: Sequence[slice]) -> tuple[int, ...]:
    return tuple(part.stop - part.start for part in window[1:])
