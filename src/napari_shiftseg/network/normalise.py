"""One normalisation for the whole image: limits are computed once and never per tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import ImageError

__all__ = ["ArrayLike", "Limits", "Normalisation"]

# Pixels per channel that decide the limits of a large image; a regular lattice of them is the same for every tiling.
_SAMPLE = 1 << 22
# Largest edge of a patch by number of axes, and fewest patches.
_PATCH = {1: 4096, 2: 64, 3: 16}
_FEWEST = 256


class ArrayLike(Protocol):
    """What an image must offer: a shape, a type, and slices that give numpy arrays."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Edges, pixels."""

    @property
    def dtype(self) -> Any:
        """Type of a pixel."""

    def __getitem__(self, key: Any, /) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Intensities that become 0 and 1, one pair per channel.

    Attributes
    ----------
    low, high : tuple of float
    clip : (float, float) or None
        Range that scaled intensities are cut to, so that no hot pixel can blow up the features.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    clip: tuple[float, float] | None = (-1.0, 4.0)

    def apply(self, block: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Block of shape (C, *shape) as float32, scaled and clipped."""
        shape = (-1,) + (1,) * (block.ndim - 1)
        low = np.asarray(self.low, np.float32).reshape(shape)
        high = np.asarray(self.high, np.float32).reshape(shape)
        scaled: npt.NDArray[np.float32] = block.astype(np.float32)
        scaled -= low
        scaled /= high - low
        return scaled if self.clip is None else np.clip(scaled, *self.clip, out=scaled)


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Percentiles of the whole image that become 0 and 1, per channel.

    Attributes
    ----------
    low, high : float
        Percentiles, 0 to 100. `low == high == 0` leaves the intensities as they are.
    """

    low: float = 1.0
    high: float = 99.8

    def limits(self, image: ArrayLike) -> Limits:
        """Limits of an image of shape (C, *shape).

        Raises
        ------
        ImageError
            If the image holds no finite values.
        """
        channels = image.shape[0]
        if self.low == self.high == 0:
            return Limits(low=(0.0,) * channels, high=(1.0,) * channels, clip=None)
        low, high = [], []
        for channel in range(channels):
            sample = _sample(image, channel)
            if not np.isfinite(sample).all():
                raise ImageError(
                    f"channel {channel} of the image holds NaN or infinite values; replace them (numpy.nan_to_num) first."
                )
            a, b = np.percentile(sample, (self.low, self.high))
            if b <= a:  # nearly all pixels are equal: take the full range, and leave a constant image at 0
                a, b = float(sample.min()), float(sample.max())
            low.append(float(a))
            high.append(float(b) if b > a else float(a) + 1.0)
        return Limits(low=tuple(low), high=tuple(high))


def _sample(image: ArrayLike, channel: int) -> npt.NDArray[np.float32]:
    """Pixels of one channel: all of them, or those of small patches on a regular lattice.

    Patches and not single pixels, since a file is read by chunks: the number of chunks touched does not grow with the image.
    """
    shape: Sequence[int] = image.shape[1:]
    picked = slice(channel, channel + 1)
    if prod(shape) <= _SAMPLE:
        return np.asarray(image[(picked, *(slice(0, n) for n in shape))], np.float32).ravel()
    edge = min(_PATCH.get(len(shape), 16), max(1, int((_SAMPLE / _FEWEST) ** (1 / len(shape)))))
    wanted = _SAMPLE / edge ** len(shape)
    apart = (prod(shape) / wanted) ** (1 / len(shape))
    starts = []
    for size in shape:
        count = min(max(1, round(size / apart)), -(-size // edge))
        starts.append(np.unique(np.linspace(0, max(0, size - edge), count).round().astype(int)).tolist())
    patches = [
        np.asarray(image[(picked, *(slice(at, at + edge) for at in corner))], np.float32).ravel() for corner in product(*starts)
    ]
    return np.concatenate(patches)
