"""`Pass`: which part of every map a network has to compute for the pixels of a tile that are kept.

A valid network computes more than a tile keeps: a constant crop, and, where a tile was moved back at the border of an image,
whole periods. Going backwards from the kept pixels through all layers gives the window of each map that they depend on::

    encoder map of a level  |------------- natural --------------|
    computed                     |------ hull of both -----|
    to the next level            |---- pooled --------|
    to the decoder                    |----- skip ---------|

Cropping early changes no value, since no valid layer depends on the extent of its input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_shiftseg.geometry.spec import UNetSpec

__all__ = ["Pass"]

Window = tuple[slice, ...]


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
        axes = [_axis(spec, k, read[k], keep[k]) for k in range(spec.ndim)]
        levels = range(spec.levels)
        return cls(
            spec=spec,
            read=tuple(axis[0] for axis in axes),
            skips=tuple(tuple(axis[1][level] for axis in axes) for level in levels),
            pooled=tuple(tuple(axis[2][level] for axis in axes) for level in levels),
            raised=tuple(tuple(axis[3][level] for axis in axes) for level in levels),
        )

    def layers(self) -> Iterator[tuple[int, int, int, tuple[float, ...]]]:
        """Convolutions of the pass, as `UNetSpec.layers` gives them for a whole input."""
        spec = self.spec
        shape = _shape(self.read)
        loss = tuple(k - 1 for k in spec.kernels)
        volume, channels = prod(spec.kernels), spec.channels

        def block(count: int, source: int, target: int) -> Iterator[tuple[int, int, int, tuple[float, ...]]]:
            nonlocal shape
            for index in range(count):
                shape = tuple(size - lost for size, lost in zip(shape, loss, strict=True))
                yield volume, (target if index else source), target, shape

        for level, factor in enumerate(spec.factors):
            yield from block(spec.convs, channels[level - 1] if level else spec.in_channels, channels[level])
            shape = tuple(size / f for size, f in zip(_shape(self.pooled[level]), factor, strict=True))
        yield from block(spec.convs, channels[-2] if spec.levels else spec.in_channels, channels[-1])
        for level in reversed(range(spec.levels)):
            deep, fine = channels[level + 1], channels[level]
            learnt = spec.upsampling == "learnt"
            if learnt:  # each output pixel of a transposed convolution has one tap
                yield 1, deep, fine, tuple(size * f for size, f in zip(shape, spec.factors[level], strict=True))
            shape = _shape(self.raised[level])
            yield from block(spec.decoder_convs or spec.convs, fine + (fine if learnt else deep), fine)
        shape = tuple(size - (spec.head_kernel - 1) for size in shape)
        yield spec.head_kernel**spec.ndim, channels[0], spec.out_channels, shape

    @property
    def flops(self) -> float:
        """Floating-point operations (a multiply-add counts as two)."""
        return sum(2.0 * volume * source * target * prod(shape) for volume, source, target, shape in self.layers())


def _shape(window: Window) -> tuple[float, ...]:
    return tuple(float(part.stop - part.start) for part in window)


def _axis(spec: UNetSpec, axis: int, read: int, keep: slice) -> tuple[slice, list[slice], list[slice], list[slice]]:
    """Input, skips, pooled and raised windows along one axis."""
    left, right, head = spec.losses(axis)
    factors = [level[axis] for level in spec.factors]
    encoded = [read - 2 * left]  # edges of the encoder's maps
    for factor in factors:
        encoded.append(encoded[-1] // factor - 2 * left)
    offset, size = [0] * spec.levels, encoded[-1]  # where an upsampled map lies in the skip of its level
    for level in reversed(range(spec.levels)):
        offset[level] = (encoded[level] - size * factors[level]) // 2
        size = size * factors[level] - 2 * right
    skips, raised = [], []
    start, stop = keep.start, keep.stop + 2 * head
    for level, factor in enumerate(factors):
        stop += 2 * right
        skips.append((start + offset[level], stop + offset[level]))
        deep = start // factor, -(-stop // factor)
        raised.append(slice(start - deep[0] * factor, stop - deep[0] * factor))
        start, stop = deep
    windows: list[tuple[slice, slice]] = []
    for (skip_start, skip_stop), factor in zip(reversed(skips), reversed(factors), strict=True):
        pooled = start * factor, (stop + 2 * left) * factor
        start, stop = min(pooled[0], skip_start), max(pooled[1], skip_stop)
        windows.append((slice(skip_start - start, skip_stop - start), slice(pooled[0] - start, pooled[1] - start)))
    windows.reverse()
    return slice(start, stop + 2 * left), [skip for skip, _ in windows], [pooled for _, pooled in windows], raised
