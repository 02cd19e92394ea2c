"""The walk of a U-Net: its layers in the order in which they run, and what they do to sizes and positions.

All that is known of a `UNetSpec` is a fold over this one list: forwards for sizes, memory and arithmetic, backwards for what an
output pixel sees, and for what has to be computed for the pixels of a tile that are kept. A valid network computes more than
those: a constant crop, and, where a tile was moved back at the border of an image, whole periods. Going backwards from the kept
pixels gives the window of each map that they depend on::

    encoder map of a level  |------------- natural --------------|
    computed                     |------ hull of both -----|
    to the next level            |---- pooled --------|
    to the decoder                    |----- skip ---------|

Cropping early changes no value, since no valid layer depends on the extent of its input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from napari_shiftseg.geometry.spec import UNetSpec

__all__ = ["Layer", "Pass", "layers_of", "lost", "maps", "sees"]

Kind = Literal["convolution", "pooling", "upsampling", "concatenation", "head"]
Path = Literal["encoder", "decoder"]
Edges = tuple[int, ...]
Window = tuple[slice, ...]
Map = tuple["Layer", tuple[float, ...], tuple[float, ...]]
"""A layer, and the shapes of the maps that it reads and writes, pixels."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of a U-Net.

    Attributes
    ----------
    kind : {"convolution", "pooling", "upsampling", "concatenation", "head"}
        What is pooled also waits as a skip, until the concatenation of its level.
    path : {"encoder", "decoder"}
        The bottleneck ends the encoder.
    level : int
        0 is the finest; of a pooling or an upsampling the finer one.
    scale : tuple of int
        Pixels of the image per pixel of the level.
    kernel : tuple of int
        Edge of a convolution's kernel per axis, pixels; 1 of other layers.
    lost : tuple of int
        Pixels that a map loses on each side.
    factor : tuple of int
        What a pooling divides edges by, and an upsampling multiplies them with; 1 of other layers.
    source, target : int
        Channels of the maps that it reads and writes.
    taps : int
        Weights per channel read and channel written that make one value; 0 of layers that only move values.
    """

    kind: Kind
    path: Path
    level: int
    scale: tuple[int, ...]
    kernel: tuple[int, ...]
    lost: tuple[int, ...]
    factor: tuple[int, ...]
    source: int
    target: int
    taps: int = 0

    @property
    def convolves(self) -> bool:
        """Whether a pixel of it sees its neighbours."""
        return self.kind in ("convolution", "head")

    def after(self, shape: tuple[float, ...]) -> tuple[float, ...]:
        """Shape of what it makes of a map, pixels."""
        if self.kind == "pooling":
            return tuple(size / f for size, f in zip(shape, self.factor, strict=True))
        if self.kind == "upsampling":
            return tuple(size * f for size, f in zip(shape, self.factor, strict=True))
        return tuple(size - 2 * lost for size, lost in zip(shape, self.lost, strict=True))

    def flops(self, shape: Sequence[float]) -> float:
        """Floating-point operations of a map of this shape that it writes (a multiply-add counts as two)."""
        return 2.0 * self.taps * self.source * self.target * prod(shape)


def layers_of(spec: UNetSpec) -> Iterator[Layer]:
    """All layers, from the image to the output: encoder, bottleneck, decoder, head."""
    channels, factors, ones = spec.channels, spec.factors, (1,) * spec.ndim
    learnt, valid = spec.upsampling == "learnt", spec.padding == "valid"

    def layer(kind: Kind, path: Path, level: int, *, kernel: Edges = ones, factor: Edges = ones, **counts: int) -> Layer:
        scale = tuple(prod(f[axis] for f in factors[:level]) for axis in range(spec.ndim))
        lost = tuple((k - 1) // 2 * valid for k in kernel)
        return Layer(kind=kind, path=path, level=level, scale=scale, kernel=kernel, lost=lost, factor=factor, **counts)

    def block(path: Path, level: int, *, source: int, count: int) -> Iterator[Layer]:
        taps, kernel = prod(spec.kernels), spec.kernels
        for before in (source, *(channels[level],) * (count - 1)):
            yield layer("convolution", path, level, source=before, target=channels[level], taps=taps, kernel=kernel)

    for level, source in enumerate((spec.in_channels, *channels[:-1])):
        yield from block("encoder", level, source=source, count=spec.convs)
        if level < spec.levels:
            yield layer("pooling", "encoder", level, source=channels[level], target=channels[level], factor=factors[level])
    for level in reversed(range(spec.levels)):
        deep, raised = channels[level + 1], channels[level + (not learnt)]
        # each output pixel of a transposed convolution has one tap
        yield layer("upsampling", "decoder", level, source=deep, target=raised, taps=int(learnt), factor=factors[level])
        joined = channels[level] + raised
        yield layer("concatenation", "decoder", level, source=joined, target=joined)
        yield from block("decoder", level, source=joined, count=spec.decoder_convs or spec.convs)
    kernel = (spec.head_kernel,) * spec.ndim
    yield layer("head", "decoder", 0, source=channels[0], target=spec.out_channels, taps=prod(kernel), kernel=kernel)


# -- folds ------------------------------------------------------------------------------------------------------------


def lost(layers: Iterable[Layer]) -> tuple[int, ...]:
    """Pixels of the image that layers take from each side, per axis."""
    taken = [[side * scale for side, scale in zip(layer.lost, layer.scale, strict=True)] for layer in layers]
    return tuple(map(sum, zip(*taken, strict=True)))


def sees(layers: Sequence[Layer], axis: int, pixel: int) -> tuple[int, int]:
    """First and last input pixel that output pixel `pixel` depends on, along an axis, if no map lost a pixel."""
    lo = hi = pixel
    for layer in reversed(layers):
        side, factor = (layer.kernel[axis] - 1) // 2, layer.factor[axis]
        if layer.kind == "upsampling":
            lo, hi = lo // factor, hi // factor
        elif layer.kind == "pooling":  # which sees whole pools, and so all that the skip beside it sees
            lo, hi = lo * factor, hi * factor + factor - 1
        lo, hi = lo - side, hi + side
    return lo, hi


def maps(layers: Iterable[Layer], read: Sequence[int], part: Pass | None = None) -> Iterator[Map]:
    """Layers with the maps that they read and write in a pass over an input of shape `read`, or over a part of each map."""
    shape = tuple(map(float, read))
    for layer in layers:
        if part is not None and layer.kind in ("pooling", "concatenation"):
            shape = _edges((part.pooled if layer.kind == "pooling" else part.raised)[layer.level])
        before, shape = shape, layer.after(shape)
        yield layer, before, shape


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Windows of one pass of a valid network, each in the map as it is computed, one slice per axis, pixels.

    Attributes
    ----------
    read : tuple of slice
        Part of the input that is used.
    skips, pooled : tuple of tuple of slice
        Of each encoder map, finest first: what the decoder gets, and what is pooled.
    raised : tuple of tuple of slice
        Of each upsampled map, finest first: what the decoder gets.
    """

    spec: UNetSpec
    read: Window
    skips: tuple[Window, ...]
    pooled: tuple[Window, ...]
    raised: tuple[Window, ...]

    @classmethod
    def of(cls, spec: UNetSpec, read: Sequence[int], keep: Window) -> Pass:
        """The pass over an input of shape `read` that gives the window `keep` of its output and nothing else.

        Raises
        ------
        SizeError
            If the input does not pass through the network.
        """
        spec.output_size(tuple(read))
        used, *levels = zip(*(_windows(spec, axis, keep[axis]) for axis in range(spec.ndim)), strict=True)
        skips, pooled, raised = (tuple(zip(*axes, strict=True)) for axes in levels)
        return cls(spec=spec, read=used, skips=skips, pooled=pooled, raised=raised)

    def maps(self) -> Iterator[Map]:
        """Layers with the maps that they read and write."""
        return maps(self.spec.walk, _edges(self.read), self)

    @property
    def flops(self) -> float:
        """Floating-point operations (a multiply-add counts as two)."""
        return sum(layer.flops(after) for layer, _, after in self.maps())


def _windows(spec: UNetSpec, axis: int, keep: slice) -> tuple[slice, list[slice], list[slice], list[slice]]:
    """Input, skips, pooled and raised windows along one axis, finest first."""
    start, stop = keep.start, keep.stop
    skips, pooled, raised = ([slice(0)] * spec.levels for _ in range(3))
    for layer in reversed(spec.walk):
        level, factor = layer.level, layer.factor[axis]
        if layer.kind == "concatenation":
            crop = spec.skip_crops[level][axis]
            skips[level] = slice(start + crop, stop + crop)
        elif layer.kind == "upsampling":
            deep = start // factor, -(-stop // factor)
            raised[level] = slice(start - deep[0] * factor, stop - deep[0] * factor)
            start, stop = deep
        elif layer.kind == "pooling":
            skip, wanted = skips[level], slice(start * factor, stop * factor)
            start, stop = min(wanted.start, skip.start), max(wanted.stop, skip.stop)
            skips[level], pooled[level] = (slice(part.start - start, part.stop - start) for part in (skip, wanted))
        stop += 2 * layer.lost[axis]
    return slice(start, stop), skips, pooled, raised


def _edges(window: Window) -> tuple[int, ...]:
    return tuple(part.stop - part.start for part in window)
