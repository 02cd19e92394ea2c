"""`image_traits`: what an image looks like, in two dozen numbers that each have a meaning.

All are of intensities as the network sees them, and none depends on how an image is cut into tiles. They are computed on a few
windows, so that their cost does not grow with the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from math import gamma, pi

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["LEVELS", "bright_threshold", "image_traits", "sample_windows"]

Floats = npt.NDArray[np.float64]

LEVELS = 6
"""Bands of detail, each of twice the size of the one before: about 2, 4, 8, 16, 32 and 64 px."""

# Edge of a window and most windows per axis, by number of axes: 0.6 million pixels, 2 million voxels.
_EDGE = {1: 4096, 2: 256, 3: 64}
_MOST = {1: 9, 2: 3, 3: 2}

# Gaussian of variance 1, as in the pyramid of Burt and Adelson (1983).
_KERNEL = np.array([1, 4, 6, 4, 1]) / 16

# Shares below this are all the same: a background without noise is not infinitely cleaner than one with a little.
_FLOOR = 0.01
# Smallest region that counts, pixels, and reach of what is called the background nearby.
_SMALLEST, _NEARBY = 16, 8.0


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
    edge, most = edge or _EDGE[ndim], most or _MOST[ndim]
    starts = []
    for size in shape:
        count = min(most, -(-size // edge))
        starts.append(np.unique(np.linspace(0, max(0, size - edge), count).round().astype(int)).tolist())
    return [tuple(slice(at, min(at + edge, n)) for at, n in zip(corner, shape, strict=True)) for corner in product(*starts)]


def image_traits(windows: Sequence[npt.NDArray[np.floating]]) -> dict[str, float]:
    """Traits of one channel.

    Parameters
    ----------
    windows : sequence of ndarray
        (*shape) each, of one image as the network sees it: normalised, 0 dark and 1 bright.

    Returns
    -------
    dict of str to float
        By the names in `analysis.wording`; a trait that small windows do not have is left out.

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
            found["noise"] = float(np.log10(1.4826 * np.median(np.abs(band)) / max(spread, 1e-9) + _FLOOR))
    return found


def _regions(masks: Sequence[npt.NDArray[np.bool_]]) -> dict[str, float]:
    """Bright regions: how thick and how round they are, how far they extend, how much they enclose."""
    ndim = masks[0].ndim
    ball = pi ** (ndim / 2) / gamma(ndim / 2 + 1)
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
        kept = size >= _SMALLEST
        sizes.append(size[kept])
        filled.append(np.minimum(ball * radius[kept] ** ndim / size[kept], 1.0))
    if not depths:
        return {}
    inside = np.concatenate(depths)
    found = {
        # the mean depth of a ball is radius / (ndim + 1)
        "thickness": float(np.log2(2 * (ndim + 1) * inside.mean())),
        "rims": float(np.log10(holes / inside.size + _FLOOR)),
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
        weight = ndimage.gaussian_filter((~mask).astype(np.float64), _NEARBY, truncate=2.5)
        level = ndimage.gaussian_filter(np.where(mask, 0.0, part), _NEARBY, truncate=2.5)
        levels.append((level / np.maximum(weight, 1e-6))[~mask & (weight > 0.3)])
    level = np.concatenate(levels)
    found = {"roughness": float(np.log10(dark.std() / contrast + _FLOOR))}
    if level.size:
        found["unevenness"] = float(np.log10(level.std() / contrast + _FLOOR))
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
        part = ndimage.convolve1d(part, _KERNEL, axis=axis, mode="reflect")
    return part
