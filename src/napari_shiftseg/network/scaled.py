"""`ScaledNet`: a network that is given an image, runs on the scaled one, and says what it finds of the image's own pixels.

Both steps of resampling weigh pixels by numbers that repeat with the period of the plan, in an order that is fixed, so a pixel
gets equal bits whatever tile it lies in. Offsets and bandwidths in pixels become pixels of the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from napari_shiftseg.geometry import AxisScaling, Lattice, Output, Scaling, Window
from napari_shiftseg.geometry.scaling import Taps
from napari_shiftseg.network.between import Between

Weights = tuple[tuple[tuple[int, ...], tuple[float, ...]], ...]
"""Per tap the position that each value takes of an axis, and its weight."""


class ScaledNet(Between):
    """A network in the form in which it runs, between two steps of resampling.

    Parameters
    ----------
    net, enter
        As of `Between`.
    scaling : Scaling
    outputs : mapping of str to Output or None
        What its channels say; None where nothing says it, and all are taken as they are.
    """

    def __init__(
        self,
        net: nn.Module,
        enter: Callable[[nn.Module, Tensor], Tensor],
        scaling: Scaling,
        outputs: Mapping[str, Output] | None,
    ) -> None:
        super().__init__(net, enter)
        self.scaling = scaling
        self._units = _units(outputs, scaling)

    @property
    def lattice(self) -> Lattice:
        """Of the network together with the resampling."""
        return self.scaling.lattice()

    def forward(self, x: Tensor, keep: Window) -> Tensor:
        """Window `keep` of the output, (B, channels, *keep) float32, of pixels (B, C, *in)."""
        needed = []
        for number, (axis, part) in enumerate(zip(self.scaling.axes, keep, strict=True)):
            first, count = axis.read(x.shape[2 + number] - 2 * axis.around)
            x = resampled(x, 2 + number, _shrinking(axis, first, count))
            needed.append(_needed(axis, part, first))
        return self._grown(self.inner(x, tuple(needed)), keep)

    def _grown(self, y: Tensor, keep: Window) -> Tensor:
        """The output at the image's own pixels.

        What instances are clustered by is that of the nearest network pixel: between two objects it would be that of a third.
        All else is interpolated.
        """
        nearest = smooth = y
        shifts = []
        for number, (axis, part) in enumerate(zip(self.scaling.axes, keep, strict=True)):
            taps, away = _nearest(axis, part.start, part.stop)
            nearest = resampled(nearest, 2 + number, taps)
            smooth = resampled(smooth, 2 + number, _growing(axis, part.start, part.stop))
            shape = [1] * len(keep)
            shape[number] = -1
            shifts.append(torch.tensor(away, device=y.device).reshape(shape))
        for unit in self._units:
            at = unit.channels
            if unit.nearest:
                smooth[:, at] = nearest[:, at]
            if unit.gain != 1:
                smooth[:, at] *= unit.gain
            if unit.shift:
                smooth[:, at] += unit.shift
            if unit.axis is not None:
                smooth[:, at] += shifts[unit.axis]
        return smooth


def scaled_pixels(pixels: npt.NDArray[np.float32], scaling: Scaling) -> npt.NDArray[np.float32]:
    """The whole network pixels (C, *scaled) of a window (C, *shape) that begins with one; beyond it, its border is repeated."""
    x = torch.from_numpy(pixels)
    for number, axis in enumerate(scaling.axes, start=1):
        size = x.shape[number]
        taps = [axis.taps(pixel) for pixel in range(max(1, size * axis.steps // axis.per))]
        inside = [tuple((min(max(0, place), size - 1), share) for place, share in one) for one in taps]
        x = resampled(x, number, _table(inside, 0))
    return x.numpy()


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


@lru_cache(maxsize=256)
def _nearest(axis: AxisScaling, start: int, stop: int) -> tuple[Weights, tuple[float, ...]]:
    """The same of the nearest network pixels, and how far away from the image pixels these are."""
    found = [axis.nearest(pixel) for pixel in range(start, stop)]
    origin = axis.taps_back(start)[0][0]
    places = tuple(place - origin for place, _ in found)
    return ((places, (1.0,) * len(found)),), tuple(float(away) for _, away in found)


def _table(taps: Sequence[Taps], origin: int) -> Weights:
    most = max(map(len, taps))
    # a tap that is not there weighs nothing
    filled: list[Taps] = [(*one, *((one[-1][0], Fraction(0)),) * (most - len(one))) for one in taps]
    return tuple((tuple(one[k][0] - origin for one in filled), tuple(float(one[k][1]) for one in filled)) for k in range(most))


@dataclass(frozen=True, kw_only=True)
class _Unit:
    """What becomes of some channels, in this order."""

    channels: slice
    nearest: bool = False  # taken from the nearest network pixel
    # gain, shift: factor and summand that make pixels of the network pixels of the image
    gain: float = 1.0
    shift: float = 0.0
    axis: int | None = None  # along which the way to the nearest network pixel is added


def _units(outputs: Mapping[str, Output] | None, scaling: Scaling) -> tuple[_Unit, ...]:
    """What becomes of the channels that are not interpolated as they are."""
    found = []
    in_pixels = any(output.meaning == "offset" for output in (outputs or {}).values())
    length = math.exp(-sum(map(math.log, scaling.scale)) / len(scaling.scale))
    for output in (outputs or {}).values():
        meaning, first = output.meaning, output.channels.start
        if meaning == "offset":
            for axis, scale in enumerate(scaling.scale):
                one = slice(first + axis, first + axis + 1)
                found.append(_Unit(channels=one, nearest=True, gain=1 / scale, axis=axis))
            first += len(scaling.scale)
        if meaning in ("code", "offset") and first < output.channels.stop:
            found.append(_Unit(channels=slice(first, output.channels.stop), nearest=True))
        if meaning == "bandwidth":
            unit = _Unit(channels=output.channels, nearest=True)
            wide = length if in_pixels else 1.0
            in_log = output.activation == "exp"
            found.append(replace(unit, shift=math.log(wide)) if in_log else replace(unit, gain=wide))
    return tuple(found)
