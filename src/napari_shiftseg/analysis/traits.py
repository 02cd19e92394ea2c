"""What an image looks like, and the objects that were found in it, in numbers that each have a meaning.

All are of intensities as the network sees them, and none depends on how an image is cut into tiles. They are computed on a few
windows, so that their cost does not grow with the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import gamma, pi

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_shiftseg.analysis.constants import (
    FEWEST_OBJECTS,
    FLOOR,
    HEIGHT,
    KERNEL,
    LEVELS,
    MIDDLE,
    MOST_SAMPLES,
    NEARBY,
    NEXT_TO_NONE,
    PROMINENCE,
    REPEATS,
    RING,
    SAMPLE_EDGE,
    SMALLEST,
    UNSURE,
)

Floats = npt.NDArray[np.float64]


def sample_windows(shape: Sequence[int], edge: int = 0, most: int = 0) -> list[tuple[slice, ...]]:
    """Windows on a regular lattice over an image, the same however it is read.

    Parameters
    ----------
    shape : sequence of int
        Spatial, pixels.
    edge : int
        Largest edge, pixels; 0 takes 256 in 2D and 64 in 3D.
    most : int
        Windows per axis; 0 takes 3 in 2D and 2 in 3D.

    >>> sample_windows((100, 600), most=2)
    [(slice(0, 100, None), slice(0, 256, None)), (slice(0, 100, None), slice(344, 600, None))]
    """
    ndim = len(shape)
    edge, most = edge or SAMPLE_EDGE[ndim], most or MOST_SAMPLES[ndim]
    starts = []
    for size in shape:
        count = min(most, -(-size // edge))
        starts.append(np.unique(np.linspace(0, max(0, size - edge), count).round().astype(int)).tolist())
    return [tuple(slice(at, min(at + edge, n)) for at, n in zip(corner, shape, strict=True)) for corner in product(*starts)]


def image_traits(windows: Sequence[npt.NDArray[np.floating]]) -> dict[str, float]:
    """Traits of one channel.

    `windows`: (*shape) each, of one image as the network sees it: normalised, 0 dark and 1 bright.

    Returns
    -------
    dict of str to float
        By the names in `analysis.likeness.TRAITS`; a trait that small windows do not have is left out.

    >>> sorted(image_traits([np.eye(64)]))[:4]
    ['background', 'bright', 'coherence', 'detail0']
    """
    parts = [np.nan_to_num(np.asarray(window, np.float64), nan=0.0, posinf=1.0, neginf=0.0) for window in windows]
    pixels = np.concatenate([part.ravel() for part in parts])
    threshold, separation = bright_threshold(pixels)
    low, middle, high = np.percentile(pixels, (5, 50, 95))
    found = {
        "background": float(middle),
        "lean": float((high + low - 2 * middle) / max(high - low, 1e-6)),
        "separation": separation,
        "bright": float((pixels > threshold).mean()),
    }
    found |= _bands(parts, float(pixels.std()))
    smooth = [_blurred(part) for part in parts]
    found |= _regions([part > threshold for part in smooth])
    found |= _background(parts, [part > threshold for part in smooth])
    found |= _directions(smooth)
    return {name: value for name, value in found.items() if np.isfinite(value)}


def bright_threshold(pixels: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Otsu's threshold of values from 0 to 1, and how well it parts them: variance between the two parts over all variance."""
    counts, edges = np.histogram(np.clip(pixels, 0, 1), 256, (0.0, 1.0))
    centres = (edges[1:] + edges[:-1]) / 2
    below = counts.cumsum()[:-1]
    above = counts.sum() - below
    mass = (counts * centres).cumsum()
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * above * (mass[:-1] / below - (mass[-1] - mass[:-1]) / above) ** 2
    between = np.nan_to_num(between)
    best = int(between.argmax())
    total = float(counts.sum()) * float((counts * centres**2).sum()) - float(mass[-1]) ** 2
    return float(edges[best + 1]), float(between[best] / total) if total > 1e-12 * counts.sum() ** 2 else 0.0


def _bands(parts: Iterable[Floats], spread: float) -> dict[str, float]:
    """How strong detail of each size is against all contrast, whether bright or dark detail prevails, and the noise."""
    bands: list[list[Floats]] = [[] for _ in range(LEVELS)]
    for part in parts:
        level = part
        for pieces in bands:
            if min(level.shape) < 4:
                break
            coarse = _blurred(level)
            pieces.append((level - coarse).ravel())
            level = coarse[(slice(None, None, 2),) * level.ndim]
    found = {}
    for number, pieces in enumerate(bands):
        if not pieces:
            continue
        band = np.concatenate(pieces)
        strength = float(band.std())
        found[f"detail{number}"] = float(np.log10(strength / max(spread, 1e-9) + 1e-3))
        found[f"sign{number}"] = float(np.cbrt((((band - band.mean()) / strength) ** 3).mean())) if strength > 1e-9 else 0.0
        if number == 0:
            # median: of flat parts, not of edges
            found["noise"] = float(np.log10(1.4826 * np.median(np.abs(band)) / max(spread, 1e-9) + FLOOR))
    return found


def _regions(masks: Sequence[npt.NDArray[np.bool_]]) -> dict[str, float]:
    """Bright regions: how thick and how round they are, how far they extend, how much they enclose."""
    ndim = masks[0].ndim
    ball = _ball(ndim)
    depths, sizes, filled, holes = [], [], [], 0
    for mask in masks:
        if not mask.any() or mask.all():
            continue
        # mirrored beyond the window, as a region goes on there
        depth = ndimage.distance_transform_edt(np.pad(mask, 1, mode="symmetric"))[(slice(1, -1),) * ndim]
        depths.append(depth[mask])
        holes += int((ndimage.binary_fill_holes(mask) & ~mask).sum())
        labels, count = ndimage.label(mask)
        size = np.bincount(labels.ravel())[1:]
        radius = ndimage.maximum(depth, labels, np.arange(1, count + 1))
        kept = size >= SMALLEST
        sizes.append(size[kept])
        filled.append(np.minimum(ball * radius[kept] ** ndim / size[kept], 1.0))
    if not depths:
        return {}
    inside = np.concatenate(depths)
    found = {
        # the mean depth of a ball is radius / (ndim + 1)
        "thickness": float(np.log2(2 * (ndim + 1) * inside.mean())),
        "rims": float(np.log10(holes / inside.size + FLOOR)),
    }
    size, round_ = np.concatenate(sizes), np.concatenate(filled)
    if size.size:
        found["roundness"] = float((size * round_).sum() / size.sum())
        diameter = 2 * (size / ball) ** (1 / ndim)
        found["extent"] = float(np.log2((size * diameter).sum() / size.sum()))
    return found


def _background(parts: Sequence[Floats], masks: Sequence[npt.NDArray[np.bool_]]) -> dict[str, float]:
    """How rough and how uneven the dark part is, against the contrast between bright and dark."""
    dark = np.concatenate([part[~mask] for part, mask in zip(parts, masks, strict=True)])
    bright = np.concatenate([part[mask] for part, mask in zip(parts, masks, strict=True)])
    if not dark.size or not bright.size:
        return {}
    contrast = max(float(bright.mean() - dark.mean()), 1e-6)
    levels = []
    for part, mask in zip(parts, masks, strict=True):
        weight = ndimage.gaussian_filter((~mask).astype(np.float64), NEARBY, truncate=2.5)
        level = ndimage.gaussian_filter(np.where(mask, 0.0, part), NEARBY, truncate=2.5)
        levels.append((level / np.maximum(weight, 1e-6))[~mask & (weight > 0.3)])
    level = np.concatenate(levels)
    found = {"roughness": float(np.log10(dark.std() / contrast + FLOOR))}
    if level.size:
        found["unevenness"] = float(np.log10(level.std() / contrast + FLOOR))
    return found


def _directions(parts: Iterable[Floats]) -> dict[str, float]:
    """How far gradients point one way, in the whole image and within 15 px (in the plane of the last two axes)."""
    whole, local, total = 0j, 0.0, 0.0
    for part in parts:
        if part.ndim < 2 or min(part.shape[-2:]) < 2:
            return {}
        down, right = np.gradient(part, axis=(-2, -1))
        double = (right + 1j * down) ** 2  # a direction and its opposite are the same
        window = (1,) * (part.ndim - 2) + (15, 15)
        local += float(np.hypot(ndimage.uniform_filter(double.real, window), ndimage.uniform_filter(double.imag, window)).sum())
        whole += complex(double.sum())
        total += float(np.abs(double).sum())
    return {} if total <= 0 else {"direction": abs(whole) / total, "coherence": local / total}


def _blurred(part: Floats) -> Floats:
    for axis in range(part.ndim):
        part = ndimage.convolve1d(part, KERNEL, axis=axis, mode="reflect")
    return part


@dataclass(frozen=True, kw_only=True, eq=False)
class FoundWindow:
    """A part of an image and what was found there."""

    pixels: npt.NDArray[np.floating]  # (*shape) one channel as the network sees it
    labels: npt.NDArray[np.integer]  # (*shape) integers, 0 is the background
    foreground: npt.NDArray[np.floating] | None = None  # (*shape) probability
    codes: npt.NDArray[np.floating] | None = None  # (E, *shape) what the pixels were clustered by


def found_traits(windows: Sequence[FoundWindow], bandwidth: float = 1.0) -> dict[str, float]:
    """Traits of the objects in some windows of an image.

    `bandwidth`: of the clustering, the unit in which codes are called scattered.

    Returns
    -------
    dict of str to float
        By the names in `analysis.likeness.TRAITS`; what has no value without objects, a foreground or an embedding is left out.
    """
    objects = [_objects(window, bandwidth) for window in windows]
    table = {name: np.concatenate([part[name] for part in objects]) for name in objects[0]}
    size = sum(window.labels.size for window in windows)
    covered = sum(int((window.labels > 0).sum()) for window in windows)
    found = {"coverage": covered / size, "count": float(np.log10(1e4 * len(table["size"]) / size + NEXT_TO_NONE))}
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


def object_diameters(sizes: npt.NDArray[np.number], ndim: int) -> Floats:
    """Diameters of circles (balls) of the given numbers of pixels."""
    ball = _ball(ndim)
    return np.asarray(2 * (np.asarray(sizes, np.float64) / ball) ** (1 / ndim))


def object_contrasts(window: FoundWindow) -> Floats:
    """Mean of each object minus the mean of the background within 3 px of it, for all objects that have some there."""
    ids, index = np.unique(window.labels, return_inverse=True)
    index = index.reshape(window.labels.shape)
    size = np.bincount(index.ravel(), minlength=len(ids)).astype(np.float64)
    contrast = _contrasts(window.pixels, window.labels, ids, index=index, size=size)[ids > 0]
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
        "contrast": _contrasts(window.pixels, window.labels, ids, index=index, size=size),
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
    return whole if whole.sum() >= FEWEST_OBJECTS else ids > 0


def _contrasts(
    pixels: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    ids: npt.NDArray[np.integer],
    *,
    index: npt.NDArray[np.intp],
    size: Floats,
) -> Floats:
    """Mean of each object minus the mean of the background within a few pixels of it; NaN where there is none."""
    values = np.nan_to_num(np.asarray(pixels, np.float64))
    inside = np.bincount(index.ravel(), values.ravel(), len(ids)) / size
    if ids[-1] <= 0 or not (labels == 0).any():
        return np.full(len(ids), np.nan)
    distance, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    ring = (distance > 0) & (distance <= RING)
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
    ball = _ball(ndim)
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
        possible = window.foreground > UNSURE[0]
        maybe += int(possible.sum())
        unsure += int((possible & (window.foreground < UNSURE[1])).sum())
    return {"doubt": unsure / maybe} if maybe else {}


def _ball(ndim: int) -> float:
    """Size of a ball of radius 1."""
    return float(pi ** (ndim / 2) / gamma(ndim / 2 + 1))


# -- lattices: whether an image repeats itself, as arrays of wells or crystals of cells do -----------------------------------


def lattice_spacing(image: npt.NDArray[np.generic]) -> tuple[int, ...] | None:
    """Spacing of a lattice along the axes of an image.

    `image`: (*shape), one channel, any intensities; of a large image the `middle` decides.

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
