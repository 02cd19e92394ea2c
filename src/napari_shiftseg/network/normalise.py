"""One normalisation for the whole image: limits are computed once and never per tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import ImageError

__all__ = ["ArrayLike", "Limits", "Normalisation"]

# Pixels per channel that decide the limits of a large image; a regular lattice of them is the same for every tiling.
_SAMPLE = 1 << 22


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
        scaled: npt.NDArray[np.float32] = (block.astype(np.float32) - low) / (high - low)
        return scaled if self.clip is None else np.clip(scaled, *self.clip)


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
    """Pixels of one channel on a regular lattice, read in slabs along the first axis."""
    shape: Sequence[int] = image.shape[1:]
    pixels = int(np.prod(shape, dtype=np.int64))
    step = max(1, int(np.ceil((pixels / _SAMPLE) ** (1 / len(shape)))))
    if step == 1:
        return np.asarray(image[(slice(channel, channel + 1), *(slice(0, n) for n in shape))], np.float32).ravel()
    rest = tuple(slice(0, n, step) for n in shape[1:])
    rows = [
        np.asarray(image[(slice(channel, channel + 1), slice(row, row + 1), *rest)], np.float32).ravel()
        for row in range(0, shape[0], step)
    ]
    return np.concatenate(rows)
