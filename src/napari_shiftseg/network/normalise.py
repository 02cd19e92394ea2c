"""One normalisation for the whole image: limits are computed once and never per tile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import ImageError, SettingsError
from napari_shiftseg.network.constants import CLIP, SLAB
from napari_shiftseg.network.robust import Bounds, Sample, bounds, minus, percentiles
from napari_shiftseg.views import ArrayLike

_NOWHERE = (None, None)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Intensities that become 0 and 1, one pair per channel, and what counts as no data."""

    low: tuple[int | float, ...]  # no float tells huge integers apart
    high: tuple[int | float, ...]
    # range that scaled intensities are cut to, so that no hot pixel can blow up the features
    clip: tuple[float, float] | None = CLIP
    invert: bool = False  # `high` becomes 0 and `low` becomes 1, for dark objects on a bright background
    no_data: int | float | None = None  # value of pixels without data, besides NaN and infinite ones
    # per channel the values at or below which, and at or above which, pixels lie in areas without data that were found in the
    # image; () where none were. Such pixels are scaled to 0 like those without data, but objects may hold single ones.
    empty: tuple[tuple[int | float | None, int | float | None], ...] = ()

    def apply(self, block: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Block of shape (C, *shape) as float32, scaled and clipped; pixels without data become 0, as the background."""
        scaled = np.empty(block.shape, np.float32)
        for channel in range(len(block)):
            low, high = self.low[channel], self.high[channel]
            first, span = (high, float(low - high)) if self.invert else (low, float(high - low))
            for part in _slabs(block.shape[1:]):
                raw: npt.NDArray[Any] = block[channel][part]
                x = minus(raw, first)
                x /= span
                if self.clip is not None:
                    np.clip(x, *self.clip, out=x)
                lacking = self._lacking(raw, channel)
                if lacking is not None:
                    x[lacking] = 0
                scaled[channel][part] = x
        return scaled

    def missing(self, block: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
        """Pixels (*shape) of a block (C, *shape) that hold data in no channel; None where there are none."""
        found: Any = self.gaps(block)
        if found is None:
            return None
        lacking: npt.NDArray[np.bool_] = found.all(axis=0)
        return lacking if lacking.any() else None

    def gaps(self, block: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
        """Values (C, *shape) of a block that are no data; None where there are none."""
        if block.dtype.kind != "f" and self.no_data is None:
            return None
        found: Any = ~np.isfinite(block) if block.dtype.kind == "f" else np.zeros(block.shape, bool)
        if self.no_data is not None:
            found |= block == self.no_data
        return found if found.any() else None

    def _lacking(self, raw: npt.NDArray[Any], channel: int) -> npt.NDArray[np.bool_] | None:
        found = ~np.isfinite(raw) if raw.dtype.kind == "f" else None
        below, above = self.empty[channel] if self.empty else (None, None)
        tests = ((np.equal, self.no_data), (np.less_equal, below), (np.greater_equal, above))
        for test, value in tests:
            if value is not None:
                lacking = test(raw, value)
                found = lacking if found is None else found | lacking
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Limits, and what they do to the pixels that decided them."""

    limits: Limits
    bounds: tuple[Bounds, ...] = ()  # what was left out, per channel; () where the limits were given
    # below, above: largest share in a channel of what is scaled below 0 and above 1
    below: float = 0.0
    above: float = 0.0
    # largest part of the scale that a channel's own range of intensities takes (1st to 99.8th percentile), 1 being all of it
    reach: float = 1.0
    missing: float = 0.0  # largest share in a channel of pixels without data: not finite, or the value that stands for no data
    infinite: bool = False  # whether any of these is infinite
    # the frames of a series that were looked at, and how far up the scale the brightest of each reaches
    frames: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Percentiles of the whole image that become 0 and 1, per channel."""

    # low, high: percentiles, 0 to 100. `low == high == 0` leaves the intensities as they are.
    low: float = 1.0
    high: float = 99.8
    # leave out areas without data, pixels that none of their neighbours is like, and few things far brighter than many objects
    # (see `network.robust`)
    robust: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 100:
            raise SettingsError(
                f"percentiles {self.low} and {self.high} were given; give two from 0 to 100, the lower one first."
            )

    @property
    def is_none(self) -> bool:
        """Whether intensities stay as they are."""
        return self.low == self.high == 0

    def limits(self, image: ArrayLike) -> Limits:
        """Limits of an image of shape (C, *shape); ImageError if the image holds no finite values."""
        return self.scaling([image]).limits

    def scaling(
        self,
        images: Sequence[ArrayLike],
        *,
        given: Sequence[tuple[float, float]] | None = None,
        invert: bool = False,
        no_data: float | None = None,
    ) -> Scaling:
        """Limits for one image of shape (C, *shape), or for all frames of a series, and what they do.

        ImageError if a channel holds no finite values. SettingsError if there are not as many limits as channels.

        Parameters
        ----------
        images : sequence of array-like
            Of equal shape.
        given : sequence of (float, float), optional
            Limits per channel; the percentiles have no say then.
        invert, no_data
            As in `Limits`.
        """
        channels = images[0].shape[0]
        if given is not None and len(given) != channels:
            raise SettingsError(
                f"limits for {len(given)} channels were given, and the network gets {channels}; give one pair each."
            )
        if self.is_none and given is None:
            if invert:
                raise SettingsError("the model takes intensities as they are; give limits or percentiles to invert them.")
            return Scaling(limits=Limits(low=(0.0,) * channels, high=(1.0,) * channels, clip=None, no_data=no_data))
        parts = [
            self._channel(
                Sample.of(images, channel, no_data), channel, None if given is None else given[channel], invert=invert
            )
            for channel in range(channels)
        ]
        empty = tuple(part.limits.empty[0] for part in parts)
        return Scaling(
            limits=Limits(
                low=tuple(part.limits.low[0] for part in parts),
                high=tuple(part.limits.high[0] for part in parts),
                invert=invert,
                no_data=no_data,
                empty=empty if any(pair != _NOWHERE for pair in empty) else (),
            ),
            bounds=tuple(bound for part in parts for bound in part.bounds),
            below=max(part.below for part in parts),
            above=max(part.above for part in parts),
            reach=max(part.reach for part in parts),
            missing=max(part.missing for part in parts),
            infinite=any(part.infinite for part in parts),
            frames=tuple(
                (each[0][0], max(reach for _, reach in each)) for each in zip(*(part.frames for part in parts), strict=True)
            ),
        )

    def _channel(self, sample: Sample, channel: int, given: tuple[float, float] | None, *, invert: bool) -> Scaling:
        """The scaling of one channel."""
        if not sample.valid.any():
            raise ImageError(
                f"channel {channel} of the image holds no data (only NaN, infinite values or the value for no data); "
                "give an image with intensities."
            )
        if given is not None:
            return _effect(sample, Limits(low=(given[0],), high=(given[1],), invert=invert, empty=(_NOWHERE,)))
        found = self._bounds(sample.negated() if invert else sample)
        ends: list[float | None] = [found.low, found.high, found.below, found.above]
        if invert:
            ends = [None if value is None else -value for value in (found.high, found.low, found.above, found.below)]
        low, high, below, above = (None if value is None else _value(sample, value) for value in ends)
        assert low is not None and high is not None
        if not low < high:  # a constant image stays at 0
            low, high = (low - 1.0, high) if invert else (low, high + 1.0)
        if not low < high:  # farther out than double precision can tell
            high = float(np.nextafter(high, np.inf))
        return _effect(sample, Limits(low=(low,), high=(high,), invert=invert, empty=((below, above),)), found)

    def _bounds(self, sample: Sample) -> Bounds:
        if self.robust:
            return bounds(sample, self.low, self.high)
        low, high = percentiles(sample.values, self.low, self.high)
        return Bounds(low=low, high=high)


def _effect(sample: Sample, limits: Limits, found: Bounds | None = None) -> Scaling:
    """What the limits of one channel do to its sample."""
    counts = sample.valid
    below, above = (None if found is None or value is None else value - sample.base for value in limits.empty[0])
    counts = counts if below is None else counts & (sample.planes > below)
    counts = counts if above is None else counts & (sample.planes < above)
    low, high = (float(value - sample.base) for value in (limits.low[0], limits.high[0]))
    first, span = (high, low - high) if limits.invert else (low, high - low)
    scaled = (sample.planes - first) / span
    own = scaled[counts]
    ends = np.percentile(own, (1, 99.8))
    frames = []
    for frame in np.unique(sample.frames) if sample.frames[0] != sample.frames[-1] else ():
        here = sample.frames == frame
        values = scaled[here][counts[here]]
        if values.size:
            frames.append((int(frame), float(np.percentile(values, 99.8))))
    return Scaling(
        limits=limits,
        bounds=() if found is None else (found,),
        below=float((own < 0).mean()),
        above=float((own > 1).mean()),
        reach=float(ends[1] - ends[0]),
        missing=float(1 - sample.valid.mean()),
        infinite=sample.infinite,
        frames=tuple(frames),
    )


def _value(sample: Sample, value: float) -> float:
    """A value of a sample as an intensity of the image; of huge integers, whose neighbours no float tells apart, an integer."""
    return sample.base + round(value) if sample.base else value


def _slabs(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Parts of a channel that are scaled one after the other."""
    rows = max(1, SLAB // max(1, prod(shape[1:]))) if shape else 1
    for start in range(0, shape[0] if shape else 1, rows):
        yield (slice(start, start + rows),) if shape else ()
