"""`found_traits`: what objects look like that were found in an image, and how sure the network was of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gamma, pi

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_shiftseg.analysis.traits import bright_threshold

__all__ = ["FoundWindow", "found_traits", "object_contrasts", "object_diameters"]

Floats = npt.NDArray[np.float64]

# Width of the ring around an object that it is compared with, pixels.
_RING = 3
# Probabilities between these are undecided; pixels below the lower one are background without a doubt.
_UNSURE = (0.1, 0.9)
# With fewer whole objects, those that the border cuts count as well.
_FEWEST = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class FoundWindow:
    """A part of an image and what was found there.

    Attributes
    ----------
    pixels : ndarray
        (*shape) one channel as the network sees it.
    labels : ndarray
        (*shape) integers, 0 is the background.
    foreground : ndarray or None
        (*shape) probability.
    codes : ndarray or None
        (E, *shape) what the pixels were clustered by.
    """

    pixels: npt.NDArray[np.floating]
    labels: npt.NDArray[np.integer]
    foreground: npt.NDArray[np.floating] | None = None
    codes: npt.NDArray[np.floating] | None = None


def found_traits(windows: Sequence[FoundWindow], bandwidth: float = 1.0) -> dict[str, float]:
    """Traits of the objects in some windows of an image.

    Parameters
    ----------
    windows : sequence of FoundWindow
    bandwidth : float
        Of the clustering, the unit in which codes are called scattered.

    Returns
    -------
    dict of str to float
        By the names in `analysis.wording`; what has no value without objects, a foreground or an embedding is left out.
    """
    objects = [_objects(window, bandwidth) for window in windows]
    table = {name: np.concatenate([part[name] for part in objects]) for name in objects[0]}
    size = sum(window.labels.size for window in windows)
    covered = sum(int((window.labels > 0).sum()) for window in windows)
    found = {"coverage": covered / size, "count": float(np.log10(1e4 * len(table["size"]) / size + _ONE))}
    found |= _agreement(windows)
    found |= _doubt(windows)
    if not len(table["size"]):
        return found
    diameter = np.log2(object_diameters(table["size"], windows[0].labels.ndim))
    for name, share in (("small", 10), ("diameter", 50), ("large", 90)):
        found[name] = float(np.percentile(diameter, share))
    for name in ("contrast", "fullness", "length", "scatter"):
        if np.isfinite(table[name]).any():
            found[name] = float(np.nanmedian(table[name]))
    if np.isfinite(table["contrast"]).any():
        found["brighter"] = float((table["contrast"][np.isfinite(table["contrast"])] > 0).mean())
    return {name: value for name, value in found.items() if np.isfinite(value)}


# Half an object per megapixel, so that none has a logarithm.
_ONE = 0.005


def object_diameters(sizes: npt.NDArray[np.number], ndim: int) -> Floats:
    """Diameters of circles (balls) of the given numbers of pixels."""
    ball = pi ** (ndim / 2) / gamma(ndim / 2 + 1)
    return np.asarray(2 * (np.asarray(sizes, np.float64) / ball) ** (1 / ndim))


def object_contrasts(window: FoundWindow) -> Floats:
    """Mean of each object minus the mean of the background within 3 px of it, for all objects that have some there."""
    ids, index = np.unique(window.labels, return_inverse=True)
    index = index.reshape(window.labels.shape)
    size = np.bincount(index.ravel(), minlength=len(ids)).astype(np.float64)
    contrast = _contrasts(window.pixels, window.labels, ids, index, size)[ids > 0]
    return np.asarray(contrast[np.isfinite(contrast)])


def _objects(window: FoundWindow, bandwidth: float) -> dict[str, Floats]:
    """A column per property, a row per object; NaN where an object is too small to have it."""
    ids, index = np.unique(window.labels, return_inverse=True)
    index = index.reshape(window.labels.shape)
    count, ndim = len(ids), window.labels.ndim
    size = np.bincount(index.ravel(), minlength=count).astype(np.float64)
    chosen = _chosen(ids, index)
    length, fullness = _moments(index, size, ndim)
    columns = {
        "size": size,
        "contrast": _contrasts(window.pixels, window.labels, ids, index, size),
        "fullness": fullness,
        "length": length,
        "scatter": _scatter(window.codes, index, size) / bandwidth,
    }
    return {name: column[chosen] for name, column in columns.items()}


def _chosen(ids: npt.NDArray[np.integer], index: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """Objects that the border of the window does not cut, or all where these are few."""
    whole = ids > 0
    for axis in range(index.ndim):
        for end in (0, -1):
            whole[np.unique(index.take(end, axis))] = False
    return whole if whole.sum() >= _FEWEST else ids > 0


def _contrasts(
    pixels: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    ids: npt.NDArray[np.integer],
    index: npt.NDArray[np.intp],
    size: Floats,
) -> Floats:
    """Mean of each object minus the mean of the background within a few pixels of it; NaN where there is none."""
    values = np.nan_to_num(np.asarray(pixels, np.float64))
    inside = np.bincount(index.ravel(), values.ravel(), len(ids)) / size
    if ids[-1] <= 0 or not (labels == 0).any():
        return np.full(len(ids), np.nan)
    distance, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    ring = (distance > 0) & (distance <= _RING)
    owner = index[tuple(nearest)][ring]
    around = np.bincount(owner, minlength=len(ids))
    total = np.bincount(owner, values[ring], len(ids))
    return np.where(around > 0, inside - total / np.maximum(around, 1), np.nan)


def _moments(index: npt.NDArray[np.intp], size: Floats, ndim: int) -> tuple[Floats, Floats]:
    """Longest over shortest axis, and size over that of the ellipse of equal moments: 1 for an ellipse, less for a net."""
    flat, count = index.ravel(), len(size)
    places = [axis.ravel().astype(np.float64) for axis in np.indices(index.shape, sparse=False)]
    mean = [np.bincount(flat, place, count) / size for place in places]
    spread = np.empty((count, ndim, ndim))
    for a in range(ndim):
        for b in range(a, ndim):
            product = (places[a] - mean[a][flat]) * (places[b] - mean[b][flat])
            spread[:, a, b] = spread[:, b, a] = np.bincount(flat, product, count) / size
    spread += np.eye(ndim) / 12  # a pixel is a square, not a point
    axes = np.linalg.eigvalsh(spread)
    ball = pi ** (ndim / 2) / gamma(ndim / 2 + 1)
    ellipse = ball * ((ndim + 2) ** (ndim / 2)) * np.sqrt(axes.prod(axis=1))
    return np.sqrt(axes[:, -1] / axes[:, 0]), size / ellipse


def _scatter(codes: npt.NDArray[np.floating] | None, index: npt.NDArray[np.intp], size: Floats) -> Floats:
    """Root mean square distance of codes from the mean code of their object."""
    if codes is None:
        return np.full(len(size), np.nan)
    flat, total = index.ravel(), np.zeros(len(size))
    for channel in codes:
        code = np.asarray(channel, np.float64).ravel()
        mean = np.bincount(flat, code, len(size)) / size
        total += np.bincount(flat, (code - mean[flat]) ** 2, len(size)) / size
    return np.sqrt(total)


def _agreement(windows: Sequence[FoundWindow]) -> dict[str, float]:
    """Share of all that is bright or an object that is both."""
    pixels = np.concatenate([np.asarray(window.pixels, np.float64).ravel() for window in windows])
    objects = np.concatenate([(window.labels > 0).ravel() for window in windows])
    bright = pixels > bright_threshold(pixels)[0]
    either = int((bright | objects).sum())
    return {"agreement": int((bright & objects).sum()) / either} if either and objects.any() else {}


def _doubt(windows: Sequence[FoundWindow]) -> dict[str, float]:
    """Share of undecided pixels among those that may be foreground."""
    unsure = maybe = 0
    for window in windows:
        if window.foreground is None:
            return {}
        possible = window.foreground > _UNSURE[0]
        maybe += int(possible.sum())
        unsure += int((possible & (window.foreground < _UNSURE[1])).sum())
    return {"doubt": unsure / maybe} if maybe else {}
