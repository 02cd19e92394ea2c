"""`bounds`: the intensities that become 0 and 1, whatever lies in the image beside background and objects.

They are read off a `Sample`: all pixels of an image, or small patches on a regular lattice.

Three things are left out, each only where it would decide the scale and the image shows that it is none of its objects: areas
without data, pixels that none of their neighbours is like, and things far brighter than many objects that are few or small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import floor, prod
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import threshold_otsu

from napari_shiftseg.network.constants import (
    AROUND,
    EXACT,
    FARTHEST,
    FEW,
    FEW_PIECES,
    FEWEST,
    FRAMES,
    GAP,
    HALVINGS,
    LEAST_EMPTY,
    LEVELS,
    MANY,
    MOST_EMPTY,
    PATCH,
    SAMPLE,
    SEEN,
    SMALL,
    SMALLEST,
    SQUARE,
)
from napari_shiftseg.views import ArrayLike

Planes = npt.NDArray[np.float64]
Scaled = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Pixels of one channel, as planes."""

    planes: npt.NDArray[np.float64]  # (n, y, x) float64, less `base`
    valid: npt.NDArray[np.bool_]  # (n, y, x) bool: finite, and not the value that stands for no data
    frames: npt.NDArray[np.int64]  # (n,) int, the frame that each plane is of
    base: int  # what was taken off before integers of 64 bits became floats; 0 where they are exact
    infinite: bool  # whether any value is infinite
    whole: bool  # whether borders of planes are borders of the image

    @classmethod
    def of(cls, images: Sequence[ArrayLike], channel: int, no_data: float | None = None) -> Sample:
        """The sample of a channel of one image (C, *shape), or of the frames of a series.

        Patches and not single pixels, since a file is read by chunks: how many are touched does not grow with the image.
        """
        count = len(images)
        pixels = prod(images[0].shape[1:])
        budget = SAMPLE
        chosen = list(range(count))
        if pixels * count > SAMPLE:
            chosen = np.unique(np.linspace(0, count - 1, FRAMES).round().astype(int)).tolist()
            budget = max(SAMPLE // len(chosen), SAMPLE // FRAMES)
        parts = [_planes(images[number], channel, budget) for number in chosen]
        planes = np.concatenate(parts) if len(parts) > 1 else parts[0]
        frames = np.repeat(np.asarray(chosen, np.int64), [len(part) for part in parts])
        finite = np.isfinite(planes) if planes.dtype.kind == "f" else np.ones(planes.shape, bool)
        infinite = planes.dtype.kind == "f" and bool(np.isinf(planes).any())
        valid = finite if no_data is None else finite & (planes != no_data)
        base = 0
        if planes.dtype.kind in "iu" and planes.dtype.itemsize == 8 and max(-int(planes.min()), int(planes.max())) > EXACT:
            base = int(planes.min())
        return cls(planes=minus(planes, base), valid=valid, frames=frames, base=base, infinite=infinite, whole=pixels <= budget)

    def negated(self) -> Sample:
        """The same with dark and bright exchanged."""
        return replace(self, planes=-self.planes)

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """All values that count."""
        return self.planes[self.valid]


def minus(block: npt.NDArray[Any], base: float) -> npt.NDArray[np.float64]:
    """A block less a number, in double precision, rounded after the subtraction and not before it.

    >>> minus(np.array([2**63 + 5], np.uint64), 2**63 + 2).tolist()
    [3.0]
    """
    if block.dtype.kind == "f" and block.dtype.itemsize > 8:
        return np.asarray(block - block.dtype.type(base), np.float64)
    if block.dtype.kind in "iu" and block.dtype.itemsize == 8:
        whole = floor(base)
        halves = (block >> 32).astype(np.int64) - (whole >> 32), (block & 0xFFFFFFFF).astype(np.int64) - (whole & 0xFFFFFFFF)
        return np.asarray(halves[0] * 2.0**32 + (halves[1] - float(base - whole)), np.float64)
    out: npt.NDArray[np.float64] = block.astype(np.float64)
    if base:
        out -= base
    return out


def _planes(image: ArrayLike, channel: int, budget: int) -> npt.NDArray[Any]:
    """Pixels of one channel of an image, (n, y, x): all of them, or those of small patches on a regular lattice."""
    shape: Sequence[int] = image.shape[1:]
    picked = slice(channel, channel + 1)
    if prod(shape) <= budget:
        return _as_planes(np.asarray(image[(picked, *(slice(0, n) for n in shape))])[0])
    edge = min(PATCH.get(len(shape), 16), max(1, int((budget / FEWEST) ** (1 / len(shape)))))
    wanted = budget / edge ** len(shape)
    apart = (prod(shape) / wanted) ** (1 / len(shape))
    starts = []
    for size in shape:
        count = min(max(1, round(size / apart)), -(-size // edge))
        starts.append(np.unique(np.linspace(0, max(0, size - edge), count).round().astype(int)).tolist())
    corners = product(*starts)
    windows = [(picked, *(slice(at, at + edge) for at in corner)) for corner in corners]
    return np.concatenate([_as_planes(np.asarray(image[window])[0]) for window in windows])


def _as_planes(block: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return block.reshape(-1, *(block.shape[-2:] if block.ndim > 1 else (1, block.shape[-1])))


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What `bounds` found."""

    # low, high: less the base of the sample
    low: float
    high: float
    # below, above: values at or below the one, and at or above the other, fill areas without data or are dead pixels; less the
    # base of the sample
    below: float | None = None
    above: float | None = None
    lacking: float = 0.0  # share of the sample in these, 0 to 1
    odd: float = 0.0  # share of pixels that none of their neighbours is like, where these would have decided the limits
    bright: float = 0.0  # share of what is far brighter than many objects


def bounds(sample: Sample, low: float, high: float) -> Bounds:
    """Percentiles `low` and `high` of what is background or object.

    Parameters
    ----------
    sample : Sample
        With at least one value that counts.
    low, high : float
        Percentiles, 0 to 100.
    """
    planes, valid = sample.planes, sample.valid
    values = np.sort(planes[valid])
    below = _empty_end(planes, valid, values, whole=sample.whole)
    above = _empty_end(-planes, valid, -values[::-1], whole=sample.whole, bright=True)
    above = None if above is None else -above
    lacking = 0.0
    for kept in (None if below is None else planes > below, None if above is None else planes < above):
        if kept is not None:
            kept &= valid
            lacking, valid = lacking + float((valid.sum() - kept.sum()) / sample.valid.sum()), kept
    first, last = percentiles(planes[valid], low, high)
    found = Bounds(low=first, high=last, below=below, above=above, lacking=lacking)
    if found.high <= found.low:
        return found
    x = _scaled(planes, valid, found)
    calm = _medians(x)
    kept = _like_neighbours(x, calm, valid, high=high)
    if kept is not None:
        odd = float(1 - kept.sum() / valid.sum())
        first, last = percentiles(planes[kept], low, high)
        dead = planes[valid & ~kept & (planes < first)]
        if below is None and dead.size and dead.min() == dead.max():
            below = float(dead[0])
        found, valid = replace(found, low=first, high=last, odd=odd, below=below), kept
        x = _scaled(planes, valid, found)
        calm = _medians(x)
    rest = _beside_bright(x, calm, valid)
    if rest is None:
        return found
    top, bright = float(np.percentile(planes[rest[0]], high)), rest[1]
    much = found.high - found.low > SEEN * (top - found.low) > 0
    return replace(found, high=top, bright=bright) if much else found


def percentiles(values: Planes, low: float, high: float) -> tuple[float, float]:
    """Two percentiles; the full range where they are equal, which is that of nearly constant images."""
    a, b = (float(value) for value in np.percentile(values, (low, high)))
    return (a, b) if b > a else (float(values.min()), float(values.max()))


# -- areas without data -----------------------------------------------------------------------------------------------


def _empty_end(planes: Planes, valid: Mask, values: Planes, *, whole: bool, bright: bool = False) -> float | None:
    """Value up to which nothing was recorded: the lower end of the sorted values, if it lies apart and fills whole areas.

    These come from the border of the image (or are thick, where only patches of it are seen), and leave thick areas between
    them, whose values lie close together and far away. A dark background is none: it is the objects that it leaves free, and
    their edges reach down to it. The bright end has to fill a side of the image as well: objects can be saturated and touch it.
    """
    steps = values[(np.arange(0, MOST_EMPTY, LEAST_EMPTY / 2) * values.size).astype(int)]
    at = int(np.argmax(np.diff(steps)))
    cut, least = float(steps[at]), float(steps[at + 1])
    if at < 1 or not least > cut:
        return None
    cut = cut if cut == values[0] else (cut + least) / 2
    same = valid & (planes <= cut)
    ends = np.percentile(values[np.searchsorted(values, cut, "right") :], (1, 50, 98))
    gap, spread, width = ends[0] - steps[at], ends[1] - ends[0], ends[2] - ends[0]
    if not width > 0 or gap < max(GAP * width, 2 * spread):
        return None
    flat = ndimage.minimum_filter(same.view(np.uint8), (1, 3, 3), mode="nearest") > 0
    if not flat.any() or not _between(flat, valid & ~same, whole):
        return None
    if bright:
        sides = any(bool(side.all(axis=1).any()) for side in _sides(flat))
        return cut if whole and sides and _from_border(flat) else None
    return cut if not whole or _from_border(flat) else None


def _between(flat: Mask, rest: Mask, whole: bool) -> bool:
    """Whether what areas without data leave free is thick, and in few pieces, as fields of view are and objects are not."""
    share, seen = _squares(flat), _squares(rest) > 0
    full, mixed = int(((share == 0) & seen).sum()), int(((share > 0) & seen).sum())
    if full < mixed or (not whole and int((share == 1).sum()) < mixed):
        return False
    if full >= 4 * mixed:
        return True
    parts, _ = _components(rest)
    pieces = int((np.bincount(parts.ravel())[1:] >= SQUARE**2).sum())
    return pieces <= FEW_PIECES * int(rest.any(axis=(1, 2)).sum())


def _squares(mask: Mask) -> npt.NDArray[np.float64]:
    """Share of a mask per square of each plane."""
    edges = [np.arange(0, size, SQUARE) for size in mask.shape[1:]]
    sums = np.add.reduceat(np.add.reduceat(mask.astype(np.int32), edges[0], axis=1), edges[1], axis=2)
    sizes = [np.diff([*starts, size]) for starts, size in zip(edges, mask.shape[1:], strict=True)]
    return np.asarray(sums / np.outer(*sizes))


def _from_border(flat: Mask) -> bool:
    """Whether nearly all of a mask touches the border of its planes."""
    parts, count = _components(flat)
    if not count:
        return False
    outer = np.unique(np.concatenate([side.ravel() for side in _sides(parts)]))
    return bool(np.isin(parts, outer[outer > 0]).sum() >= 0.8 * flat.sum())


def _sides(planes: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """The four sides of each plane, (n, length) each."""
    return [planes[:, 0], planes[:, -1], planes[:, :, 0], planes[:, :, -1]]


def _components(mask: Mask) -> tuple[Any, int]:
    within = np.zeros((3, 3, 3), bool)  # planes are apart
    within[1] = True
    parts, count = ndimage.label(mask, within)
    return parts, int(count)


# -- pixels that none of their neighbours is like ---------------------------------------------------------------------


def _scaled(planes: Planes, valid: Mask, found: Bounds) -> Scaled:
    """The sample in units of its limits, 0 to 1, in single precision; 0 where nothing counts."""
    x = planes - found.low
    x /= found.high - found.low
    x[~valid] = 0
    return np.clip(x, -FARTHEST, FARTHEST).astype(np.float32)


def _medians(x: Scaled) -> Scaled:
    """Median of each pixel and its eight neighbours."""
    x = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="edge")
    low, mid, high = _sorted(x[:, :-2], x[:, 1:-1], x[:, 2:])
    lowest = np.maximum(np.maximum(low[..., :-2], low[..., 1:-1]), low[..., 2:])
    middling = _sorted(mid[..., :-2], mid[..., 1:-1], mid[..., 2:])[1]
    highest = np.minimum(np.minimum(high[..., :-2], high[..., 1:-1]), high[..., 2:])
    out: Scaled = _sorted(lowest, middling, highest)[1]
    return out


def _sorted(a: Any, b: Any, c: Any) -> tuple[Any, Any, Any]:
    """The least, the middle and the greatest of three, pixel by pixel."""
    low, high = np.minimum(a, b), np.maximum(a, b)
    return np.minimum(low, c), np.maximum(low, np.minimum(high, c)), np.maximum(high, c)


def _noise(x: Scaled, calm: Scaled, valid: Mask) -> float:
    """Standard deviation of a pixel about its neighbours; the hundredth that differs most does not count."""
    residual = np.abs(x - calm)[valid]
    kept = residual[residual <= np.percentile(residual, 99)]
    return float(1.2533 * kept.mean())  # of a normal distribution


def _like_neighbours(x: Scaled, calm: Scaled, valid: Mask, *, high: float) -> Mask | None:
    """Pixels without those far outside of what 3 x 3 px agree on, where these decide a limit; None where they do not.

    Such are hot and dead pixels, lines, and hits of cosmic rays. Above, these have to double the scale: less than that is
    within the gains of the training. Below, they have to shift the background by more than a pixel's noise.
    """
    # not quite the extremes: where two lines cross, five of nine pixels are lit
    least, most = (float(value) for value in np.percentile(calm[valid], (0.05, 100 - (100 - high) / 4)))
    width = most - least
    if not width > 0:
        return None
    noise = _noise(x, calm, valid)
    floor, ceiling = least - GAP * width - 3 * noise, most + width + 3 * noise
    if floor <= 0 and ceiling >= 1:
        return None
    kept: Mask = valid & (x >= floor) & (x <= ceiling)
    return kept if kept.any() else None


# -- few or small things far brighter than many objects ---------------------------------------------------------------


def _beside_bright(x: Scaled, calm: Scaled, valid: Mask) -> tuple[Mask, float] | None:
    """The sample without its brightest things and what surrounds them, and their share; None where they are objects.

    They are none where they are few, or small, and beside them are many objects, with edges. In an empty field there are no
    others, so that few bright nuclei in it decide the scale.
    """
    noise = _noise(x, calm, valid)
    for halving in range(2, HALVINGS + 1):
        level = 0.5**halving
        bright = (calm > level) & valid
        share = float(bright.sum() / valid.sum())
        if share > FEW or level < 4 * noise:
            return None
        if not share:
            continue
        rest = valid & (ndimage.maximum_filter(bright.view(np.uint8), (1, 2 * AROUND + 1, 2 * AROUND + 1)) == 0)
        if rest.sum() < 0.3 * valid.sum():
            return None
        if _many_objects(calm, rest, bright, noise=noise):
            return rest, share
    return None


def _many_objects(calm: Scaled, rest: Mask, bright: Mask, *, noise: float) -> bool:
    """Whether the rest falls into a background and objects that stand out, have edges, and outnumber the bright things."""
    values = calm[rest]
    if values.min() == values.max():
        return False
    upper = rest & (calm > threshold_otsu(values))
    if not upper.sum() >= 2 * bright.sum():
        return False
    step = float(calm[upper].mean() - calm[rest & ~upper].mean())
    if step < max(4 * noise, LEVELS * _level(values)):
        return False
    grown = ndimage.maximum_filter(upper.view(np.uint8), (1, 3, 3)) > 0
    edge = grown & ~upper & rest
    size = (1, 5, 5)
    change = ndimage.maximum_filter(calm, size) - ndimage.minimum_filter(calm, size)
    # out-of-focus light has none: across the 5 px at an edge of an object most of its height is passed
    if not edge.any() or float(np.median(change[edge])) < 0.35 * step:
        return False
    objects = _sizes(upper)
    if not objects.size:
        return False
    # what is thinner than 3 px (hits of cosmic rays, scratches) counts for nothing
    things = _sizes(ndimage.binary_opening(bright, np.ones((1, 3, 3), bool)))
    if not _inside(bright, upper, rest):  # nor does what is far smaller than the objects (letters), unless it is in them
        things = things[things >= SMALL * np.median(objects)]
    return things.size <= FEW_PIECES and objects.size >= MANY * max(1, things.size)


def _inside(bright: Mask, upper: Mask, rest: Mask) -> bool:
    """Whether the bright things lie in the others, as nuclei do in cells."""
    reach = 2 * (AROUND + 2) + 1
    around = rest & (ndimage.maximum_filter(bright.view(np.uint8), (1, reach, reach)) > 0)
    return bool(2 * (upper & around).sum() >= around.sum())


def _level(values: Scaled) -> float:
    """Step between two gray levels: the smallest difference of two values."""
    steps = np.diff(np.unique(values))
    return float(steps.min()) if steps.size else 0.0


def _sizes(mask: Mask) -> npt.NDArray[np.int64]:
    """Pixels of each piece of a mask that can be an object."""
    parts, _ = _components(mask)
    sizes = np.bincount(parts.ravel())[1:]
    return sizes[sizes >= SMALLEST]
