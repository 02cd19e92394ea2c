"""`Scaling`: a network that runs on a scaled image and says what it finds of the pixels of the image itself.

Between two steps of resampling, a network is a network with another lattice. Network pixel j lies where image pixels
[j / s, (j + 1) / s) do, from the start of the image on, with s = a / b network pixels per image pixel. What it says repeats
with every shift by whole periods of the network that are whole pixels of the image, so that tiles of such a period are
tile-exact, the resampling included. ::

    image    |------- around -------|----------- write -----------|------- around -------|
    scaled        |-- around of the network --|--- its output ---|-- around ... --|
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import gcd, log, prod

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.geometry.constants import FACTORS, LARGEST_RATIO, RESAMPLED
from napari_shiftseg.geometry.lattice import Lattice

Taps = tuple[tuple[int, Fraction], ...]
"""Positions along an axis, and the share that each has in one value."""


@dataclass(frozen=True, kw_only=True)
class AxisScaling:
    """One axis of a network that runs on a scaled image."""

    # steps, per: network pixels per so many image pixels, in lowest terms
    steps: int
    per: int
    inner: Lattice
    axis: int

    @property
    def period(self) -> int:
        """Smallest shift of the image that is whole periods of the network, image pixels."""
        return self.per * self._own // gcd(self.steps, self._own)

    @property
    def _own(self) -> int:
        return self.inner.period[self.axis]

    @property
    def lost(self) -> int:
        """Network pixels between the first one that a pass reads and the first one of its output that is right."""
        return self.inner.margin[self.axis] // 2 if self.inner.padding == "valid" else self.inner.halo[self.axis]

    @property
    def ahead(self) -> int:
        """Network pixels of output before the first pixel of a tile: whole periods that hold what interpolation needs."""
        first = self.taps_back(0)[0][0]
        return -(first // self._own) * self._own

    @cached_property
    def around(self) -> int:
        """Image pixels that a tile reads on each side of what it writes: enough for the network and for resampling."""
        most = 0
        for periods in range(1, 2 + self.inner.smallest[self.axis] // self._own):
            first, count = self.read(periods * self.period)
            before: int = -self.taps(first)[0][0]
            after: int = self.taps(first + count - 1)[-1][0] + 1 - periods * self.period
            most = max(most, before, after)
        return -(-most // self.per) * self.per

    def read(self, write: int) -> tuple[int, int]:
        """First network pixel and edge of what the network reads for a tile that writes so many image pixels from 0 on."""
        needed = self.taps_back(write - 1)[-1][0] + 1 + self.ahead
        if self.inner.padding == "valid":
            count = self.inner.input_size(needed, self.axis)
        else:
            count = max(self.inner.smallest[self.axis], -(-(needed + 2 * self.lost) // self._own) * self._own)
        return -self.ahead - self.lost, count

    def taps(self, pixel: int) -> Taps:
        """Image pixels that a network pixel is made of: the mean over its area, or between two where it is smaller than one.

        >>> AxisScaling(steps=1, per=2, inner=Lattice(period=(8, 8), margin=(8, 8)), axis=0).taps(1)
        ((2, Fraction(1, 2)), (3, Fraction(1, 2)))
        """
        if self.steps >= self.per:
            return _between(Fraction(self.per * (2 * pixel + 1), 2 * self.steps))
        start, stop = Fraction(pixel * self.per, self.steps), Fraction((pixel + 1) * self.per, self.steps)
        whole = range(start.__floor__(), stop.__ceil__())
        pieces = ((at, max(start, Fraction(at)), min(stop, Fraction(at + 1))) for at in whole)
        return tuple((at, (last - first) / (stop - start)) for at, first, last in pieces)

    def taps_back(self, pixel: int) -> Taps:
        """Network pixels that the output at an image pixel is interpolated between."""
        return _between(Fraction(self.steps * (2 * pixel + 1), 2 * self.per))

    def nearest(self, pixel: int) -> tuple[int, Fraction]:
        """The network pixel that the centre of an image pixel lies in, and how far away its own centre is, image pixels."""
        found = self.steps * (2 * pixel + 1) // (2 * self.per)
        return found, Fraction((2 * found + 1) * self.per, 2 * self.steps) - Fraction(2 * pixel + 1, 2)

    def middles(self, size: int) -> list[int]:
        """Image pixels in which the middles of all whole network pixels of so many image pixels lie."""
        return [(2 * pixel + 1) * self.per // (2 * self.steps) for pixel in range(max(1, size * self.steps // self.per))]


def _between(centre: Fraction) -> Taps:
    """The two pixels between whose centres a place lies, or the one on whose centre it does."""
    place = centre - Fraction(1, 2)
    first = place.__floor__()
    after = place - first
    return ((first, 1 - after), (first + 1, after)) if after else ((first, Fraction(1)),)


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """A network, and how many of its pixels there are per pixel of the image."""

    inner: Lattice
    factors: tuple[tuple[int, int], ...]  # per axis network pixels, and image pixels that are as long

    def __post_init__(self) -> None:
        numbers = [number for pair in self.factors for number in pair]
        if len(self.factors) != self.inner.ndim or not all(
            isinstance(number, int) and 1 <= number <= LARGEST_RATIO for number in numbers
        ):
            raise SettingsError(
                f"factors are {self.factors}; give a pair of whole numbers, 1 to {LARGEST_RATIO}, for each axis."
            )
        lowest = tuple((a // gcd(a, b), b // gcd(a, b)) for a, b in self.factors)
        object.__setattr__(self, "factors", lowest)

    @cached_property
    def axes(self) -> tuple[AxisScaling, ...]:
        """Each axis."""
        return tuple(
            AxisScaling(steps=steps, per=per, inner=self.inner, axis=axis) for axis, (steps, per) in enumerate(self.factors)
        )

    @property
    def scale(self) -> tuple[float, ...]:
        """Network pixels per image pixel, per axis."""
        return tuple(steps / per for steps, per in self.factors)

    def read_shape(self, read: Sequence[int]) -> tuple[int, ...]:
        """Input shape of the network where so many image pixels are read."""
        return tuple(axis.read(max(axis.period, edge - 2 * axis.around))[1] for axis, edge in zip(self.axes, read, strict=True))

    def flops(self, read: Sequence[int]) -> float:
        """Operations of a pass that reads so many image pixels; resampling is next to nothing of it."""
        return self.inner.flops(self.read_shape(read))

    def peak_bytes(self, read: Sequence[int], itemsize: int = 4) -> float:
        """Memory of such a pass: of the network, and in float32 of the image and what is said of it."""
        maps = 4.0 * prod(read) * (2 * self.inner.in_channels + RESAMPLED)
        return self.inner.peak_bytes(self.read_shape(read), itemsize) + maps

    def lattice(self) -> Lattice:
        """What a plan needs of the network together with both steps of resampling."""
        inner, axes = self.inner, self.axes
        period, around = tuple(axis.period for axis in axes), tuple(axis.around for axis in axes)
        phases = (
            round(Fraction(phase * axis.per, axis.steps)) % axis.period
            for phase, axis in zip(inner.grid_phase, axes, strict=True)
        )
        area = prod(self.scale)
        return Lattice(
            ndim=inner.ndim,
            period=period,
            margin=tuple(2 * edge for edge in around),
            reach=around,
            padding="valid",
            smallest=tuple(2 * edge + p for edge, p in zip(around, period, strict=True)),
            grid_phase=tuple(phases),
            in_channels=inner.in_channels,
            flops_per_pixel=inner.flops_per_pixel * area,
            bytes_per_pixel=inner.bytes_per_pixel * area,
            scaling=self,
        )


def scaled_lattice(inner: Lattice, factors: Sequence[tuple[int, int]]) -> Lattice:
    """The lattice of a network that runs on an image scaled by so much; that of the network itself where no axis is scaled.

    >>> from napari_shiftseg.geometry import UNetSpec
    >>> scaled_lattice(UNetSpec(levels=3).lattice, ((1, 4), (1, 4))).period
    (32, 32)
    """
    if all(steps == per for steps, per in factors):
        return inner
    return Scaling(inner=inner, factors=tuple((steps, per) for steps, per in factors)).lattice()


def nearest_factor(scale: float) -> tuple[int, int]:
    """The factor among `FACTORS` that is nearest to a scale, as a ratio.

    >>> nearest_factor(0.27), nearest_factor(1.1), nearest_factor(100)
    ((1, 4), (1, 1), (8, 1))
    """
    if not scale > 0:
        raise SettingsError(f"a scale of {scale} was wanted; give a number above 0.")
    return min(FACTORS, key=lambda pair: abs(log(pair[0] / pair[1] / scale)))
