"""`ScaledNet`: a network that is given an image, runs on the scaled one, and says what it finds of the image's own pixels.

Both steps of resampling weigh pixels by numbers that repeat with the period of the plan, in an order that is fixed, so a pixel gets
equal bits whatever tile it lies in. Offsets and bandwidths in pixels become pixels of the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from napari_shiftseg.geometry import AxisScaling, Lattice, Output, Scaling, Window
from napari_shiftseg.geometry.scaling import Taps

Weights = tuple[tuple[tuple[int, ...], tuple[float, ...]], ...]
"""Per tap the position that each value takes of an axis, and its weight."""


class ScaledNet(nn.Module):
    """A network in the form in which it runs, between two steps of resampling.

    Parameters
    ----------
    net : Module
        (B, C, *in), window -> (B, channels, *window), with a `layout`.
    enter : callable
        As `unet.entered`: pixels in the number format of the network.
    scaling : Scaling
    outputs : mapping of str to Output or None
        What its channels say; None where nothing says it, and all are taken as they are.
    """

    layout = torch.contiguous_format

    def __init__(
        self,
        net: nn.Module,
        enter: Callable[[nn.Module, Tensor], Tensor],
        scaling: Scaling,
        outputs: Mapping[str, Output] | None,
    ) -> None:
        super().__init__()
        # the first parameter says which number format is wanted: pixels are resampled in full precision
        self.number = nn.Parameter(torch.zeros(1, device="cpu"), requires_grad=False)
        self.net, self.scaling, self._enter = net, scaling, enter
        self._gain, self._shift = _units(outputs, scaling)

    @property
    def lattice(self) -> Lattice:
        """Of the network together with the resampling."""
        return self.scaling.lattice()

    def forward(self, x: Tensor, keep: Window) -> Tensor:
        """Window `keep` of the output, (B, channels, *keep) float32, of pixels (B, C, *in)."""
        inner = []
        for number, (axis, part) in enumerate(zip(self.scaling.axes, keep, strict=True)):
            first, count = axis.read(x.shape[2 + number] - 2 * axis.around)
            x = resampled(x, 2 + number, _shrinking(axis, first, count))
            inner.append(_needed(axis, part, first))
        net: nn.Module = self.net
        pixels = self._enter(net, x).contiguous(memory_format=net.layout)  # type: ignore[arg-type]
        y = net(pixels, tuple(inner)).float()
        for number, (axis, part) in enumerate(zip(self.scaling.axes, keep, strict=True)):
            y = resampled(y, 2 + number, _growing(axis, part.start, part.stop))
        for channels, gain in self._gain:
            y[:, channels] *= gain
        for channels, shift in self._shift:
            y[:, channels] += shift
        return y


def resampled(x: Tensor, axis: int, taps: Weights) -> Tensor:
    """Weighted sums of positions along an axis, tap by tap, so that the order of each sum is the same everywhere."""
    found: Tensor | None = None
    shape = [1] * x.ndim
    shape[axis] = -1
    for places, weights in taps:
        part = x.index_select(axis, torch.tensor(places, device=x.device))
        if any(weight != 1 for weight in weights):
            part = part.mul_(torch.tensor(weights, dtype=x.dtype, device=x.device).reshape(shape))
        found = part if found is None else found.add_(part)
    assert found is not None
    return found


def _needed(axis: AxisScaling, part: slice, first: int) -> slice:
    """What of the network's output the interpolation of some image pixels needs."""
    # a network that pads gives output where it reads, a valid one from `lost` on
    start = first + (axis.lost if axis.inner.padding == "valid" else 0)
    return slice(axis.taps_back(part.start)[0][0] - start, axis.taps_back(part.stop - 1)[-1][0] + 1 - start)


@lru_cache(maxsize=256)
def _shrinking(axis: AxisScaling, first: int, count: int) -> Weights:
    """Of the network's pixels from `first` on, in an array that begins `axis.around` before image pixel 0."""
    return _table([axis.taps(pixel) for pixel in range(first, first + count)], -axis.around)


@lru_cache(maxsize=256)
def _growing(axis: AxisScaling, start: int, stop: int) -> Weights:
    """Of some image pixels, in an array that begins with the first that they need."""
    taps = [axis.taps_back(pixel) for pixel in range(start, stop)]
    return _table(taps, taps[0][0][0])


def _table(taps: Sequence[Taps], origin: int) -> Weights:
    most = max(map(len, taps))
    # a tap that is not there weighs nothing
    filled = [[*one, *[(one[-1][0], 0)] * (most - len(one))] for one in taps]
    return tuple(
        (tuple(one[k][0] - origin for one in filled), tuple(float(one[k][1]) for one in filled)) for k in range(most)
    )


def _units(
    outputs: Mapping[str, Output] | None, scaling: Scaling
) -> tuple[list[tuple[slice, float]], list[tuple[slice, float]]]:
    """Channels in pixels of the network, with the factor that makes them pixels of the image; or a summand of its logarithm."""
    gain: list[tuple[slice, float]] = []
    shift: list[tuple[slice, float]] = []
    if not outputs:
        return gain, shift
    in_pixels = any(output.meaning == "offset" for output in outputs.values())
    mean = math.exp(-sum(map(math.log, scaling.scale)) / len(scaling.scale))
    for output in outputs.values():
        meaning, activation = str(output.meaning), str(output.activation)
        first = output.channels.start
        if meaning == "offset":
            gain += [(slice(first + axis, first + axis + 1), 1 / scale) for axis, scale in enumerate(scaling.scale)]
        elif meaning == "bandwidth" and in_pixels:
            (shift if activation == "exp" else gain).append(
                (output.channels, math.log(mean) if activation == "exp" else mean)
            )
    return gain, shift
