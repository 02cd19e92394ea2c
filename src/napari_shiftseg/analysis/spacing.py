"""`lattice_spacing`: whether an image repeats itself along its axes, as arrays of wells or crystals of cells do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_shiftseg.analysis.constants import HEIGHT, MIDDLE, PROMINENCE, REPEATS

__all__ = ["lattice_spacing", "middle"]


def lattice_spacing(image: npt.NDArray[np.generic]) -> tuple[int, ...] | None:
    """Spacing of a lattice along the axes of an image.

    Parameters
    ----------
    image : ndarray
        (*shape), one channel, any intensities; of a large image the `middle` decides.

    Returns
    -------
    tuple of int or None
        Pixels per axis; None unless the image repeats at least three times along each axis.
    """
    values = np.asarray(image[middle(image.shape)], np.float64)
    values = np.clip(values, *np.percentile(values, (1, 99.8)))  # a hot pixel correlates with nothing
    values = values - values.mean()
    found = [_first_peak(_autocorrelation(values, axis)) for axis in range(values.ndim)]
    return None if None in found else tuple(peak for peak in found if peak is not None)


def middle(shape: Sequence[int]) -> tuple[slice, ...]:
    """The window in the middle of an image that decides."""
    starts = [max(0, (size - MIDDLE) // 2) for size in shape]
    return tuple(slice(start, min(size, start + MIDDLE)) for start, size in zip(starts, shape, strict=True))


def _autocorrelation(values: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
    """Correlation of the image with itself moved by 0, 1, ... pixels, over the pixels that they share."""
    size = values.shape[axis]
    lags = min(size, size // REPEATS + 2)  # a peak needs a neighbour on each side
    power = np.abs(np.fft.rfft(values, 2 * size, axis=axis)) ** 2
    others = tuple(k for k in range(values.ndim) if k != axis)
    shared = np.fft.irfft(power.sum(axis=others), 2 * size)[:lags]
    energy = np.concatenate([[0.0], np.cumsum((values**2).sum(axis=others))])
    moved = np.arange(lags)
    scale = np.sqrt(energy[size - moved] * (energy[-1] - energy[moved]))
    correlation = np.zeros(lags)
    np.divide(shared, scale, out=correlation, where=scale > 1e-9 * max(energy[-1], 1e-30))
    return correlation


def _first_peak(correlation: npt.NDArray[np.float64]) -> int | None:
    valley = 1.0
    for lag in range(1, len(correlation) - 1):
        before, here, after = correlation[lag - 1 : lag + 2]
        valley = min(valley, float(here))
        if here >= before and here > after and here > HEIGHT and here - valley > PROMINENCE:
            return lag
    return None
