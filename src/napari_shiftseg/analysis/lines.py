"""Lines across a result: where tiles meet, the lines that such seams are compared with, and what changes at both.

A line `p` on an axis lies between pixels `p - 1` and `p`. Around each seam one slab of `2 * period + 2` pixels is read, and
all lines in it are measured: the seam, the lines of the same phase one period away, and those of all other phases between.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from napari_shiftseg.analysis.constants import (
    CONTROLS,
    FEWEST_LINES,
    FEWEST_SEGMENTS,
    RESAMPLES,
    SEGMENT,
    SLAB_BYTES,
    STRAIGHT_PIXELS,
    STRAIGHT_SHARE,
)
from napari_shiftseg.errors import ImageError, SettingsError
from napari_shiftseg.geometry import TilePlan
from napari_shiftseg.views import ArrayLike, as_array


@dataclass(frozen=True, kw_only=True)
class Lines:
    """What a tile plan says about lines: seams and period per axis, pixels of the result."""

    shape: tuple[int, ...]
    period: tuple[int, ...]
    seams: tuple[tuple[int, ...], ...]

    def chosen(self, most: int) -> tuple[tuple[int, int], ...]:
        """(axis, position) of up to `most` seams per axis, evenly spaced."""
        picked: list[tuple[int, int]] = []
        for axis, seams in enumerate(self.seams):
            count = min(most, len(seams))
            picked += [(axis, seams[i * len(seams) // count]) for i in range(count)]
        return tuple(picked)

    def same_phase(self, axis: int, position: int) -> tuple[int, ...]:
        """Lines one period away that are no seams: the same two output functions meet there."""
        period = self.period[axis]
        return self._no_seams(axis, (position - period, position + period))

    def next_phase(self, axis: int, position: int) -> tuple[int, ...]:
        """Lines where only the deepest pooling has no boundary: the most alike where every line of this phase is a seam."""
        period = self.period[axis]
        factor = next((n for n in range(2, period + 1) if period % n == 0), 1)
        return self._no_seams(axis, (position - period // factor, position + period // factor))

    def nearby(self, axis: int, position: int) -> tuple[int, ...]:
        """Lines of all phases within a period, that are no seams and do not touch this one."""
        reach = max(self.period[axis], 4)
        return self._no_seams(axis, [position + d for d in range(-reach, reach + 1) if abs(d) > 1])

    def extent(self, axis: int, position: int) -> slice:
        """Pixels along `axis` that hold the seam and all lines that it is compared with."""
        reach = max(self.period[axis], 4)
        return slice(max(0, position - reach - 1), min(self.shape[axis], position + reach + 1))

    def _no_seams(self, axis: int, lines: Sequence[int]) -> tuple[int, ...]:
        seams = set(self.seams[axis])
        return tuple(p for p in lines if 0 < p < self.shape[axis] and p not in seams)


def lines_of(plan: TilePlan | Mapping[str, Any]) -> Lines:
    """Seams and period of a plan, of `TilePlan.to_dict()`, or of a whole record that holds it under "plan".

    SettingsError if the mapping is none of these.
    """
    if isinstance(plan, TilePlan):
        return Lines(shape=plan.result_shape, period=plan.lattice.period, seams=plan.seams())
    try:
        values = plan.get("plan", plan)
        lines = Lines(
            shape=tuple(map(int, values["result_shape"])),
            period=tuple(map(int, values["period"])),
            seams=tuple(tuple(map(int, axis)) for axis in values["seams"]),
        )
        if any(size < 1 for size in (*lines.shape, *lines.period)) or any(
            not 0 <= at <= size for size, axis in zip(lines.shape, lines.seams, strict=True) for at in axis
        ):
            raise ValueError("sizes below 1 or seams beyond the image")
        if any(axis and period > size for axis, period, size in zip(lines.seams, lines.period, lines.shape, strict=True)):
            raise ValueError("a period larger than the image, in which there would be no seam")
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as exc:
        raise SettingsError(f"the plan holds no {exc}; give a TilePlan, or the plan that a result's record holds.") from exc
    if not len(lines.shape) == len(lines.period) == len(lines.seams):
        raise SettingsError("the plan's result_shape, period and seams have different numbers of axes; give one plan's.")
    return lines


@dataclass(frozen=True, kw_only=True, eq=False)
class Slab:
    """Pixels around a seam, the axis across it first."""

    first: int  # line of `pixels[..., 1, ...]`'s lower border: line `p` lies between entries `p - first` and `p - first + 1`
    pixels: npt.NDArray[Any]  # (E, lines + 1, *other axes) for an embedding, (lines + 1, *other axes) for labels
    truth: npt.NDArray[Any] | None = None  # (lines + 1, *other axes) int, true objects at the same place


def slabs(array: ArrayLike, lines: Lines, axis: int, *, position: int, truth: ArrayLike | None = None) -> Iterator[Slab]:
    """Read the surroundings of a seam in pieces of bounded memory; a piece holds whole segments.

    Parameters
    ----------
    array : array-like
        (E, *shape) or (*shape), anything that slices to numpy arrays.
    truth : array-like, optional
        (*shape) int, read beside it.
    """
    array = as_array(array, "the embedding or the labels")
    lead = len(array.shape) - len(lines.shape)
    if tuple(array.shape[lead:]) != lines.shape or lead not in (0, 1):
        raise ImageError(
            f"an array of shape {tuple(array.shape)} does not fit the plan's result of {lines.shape} px; "
            "give the result that was computed with this plan, channels first."
        )
    if truth is not None and tuple(truth.shape) != lines.shape:
        raise ImageError(f"a truth of shape {tuple(truth.shape)} does not fit the plan's result of {lines.shape} px.")
    across = lines.extent(axis, position)
    others = [k for k in range(len(lines.shape)) if k != axis]
    for piece in _pieces(array, lines, others, depth=across.stop - across.start):
        window = [slice(None)] * len(lines.shape)
        window[axis] = across
        if others:
            window[others[0]] = piece
        block = np.asarray(array[(*[slice(None)] * lead, *window)])
        yield Slab(
            first=across.start + 1,
            pixels=np.moveaxis(block, lead + axis, lead),
            truth=None if truth is None else np.moveaxis(np.asarray(truth[tuple(window)]), axis, 0),
        )


def _pieces(array: ArrayLike, lines: Lines, others: Sequence[int], *, depth: int) -> Iterator[slice]:
    if not others:
        yield slice(None)
        return
    size, segment = lines.shape[others[0]], SEGMENT[len(lines.shape)]
    channels = prod(array.shape) // prod(lines.shape)
    row = depth * channels * prod(lines.shape[k] for k in others[1:]) * 4
    length = max(1, SLAB_BYTES // (row * segment)) * segment
    for start in range(0, size, length):
        yield slice(start, min(start + length, size))


def jumps(slab: Slab) -> npt.NDArray[np.float64]:
    """L2 distance of the two pixels at each place of each line: (lines, *other axes)."""
    step = np.diff(slab.pixels.astype(np.float64), axis=1)
    lengths = np.asarray(np.sqrt((step**2).sum(axis=0)))
    if not np.isfinite(lengths).all():
        raise ImageError("the embedding holds NaN or infinite values beside a seam; compute it again from a finite image.")
    return lengths


def counted(slab: Slab) -> npt.NDArray[np.bool_]:
    """Which jumps count, (lines, *other axes): all, or with a truth those inside one of its objects."""
    if slab.truth is None:
        return np.ones((slab.pixels.shape[1] - 1, *slab.pixels.shape[2:]), bool)
    below, above = slab.truth[:-1], slab.truth[1:]
    return np.asarray((below == above) & (below > 0))


def segment_sums(values: npt.NDArray[Any], ndim: int) -> npt.NDArray[np.float64]:
    """Sums over the segments of each line: (lines, *other axes) -> (lines, segments)."""
    length = SEGMENT[ndim]
    sums = values.astype(np.float64)
    for axis in range(1, sums.ndim):
        size = sums.shape[axis]
        # the last segment takes what would be a short rest
        starts = np.arange(0, max(1, size // length)) * length
        sums = np.add.reduceat(sums, starts, axis=axis)
    return sums.reshape(len(sums), -1)


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Seams over controls.

    Attributes
    ----------
    value : float
        Ratio of the sums; nan without segments.
    interval : (float, float)
        Confidence interval; nan if there are too few segments.
    superiority : float
        Effect size: share of segments in which the seam exceeds its controls; 0.5 if seams are like other lines.
    lines, segments : int
        That were compared.
    """

    value: float
    interval: tuple[float, float]
    superiority: float
    lines: int
    segments: int

    @property
    def above_one(self) -> bool:
        """Whether the seams exceed the controls, and do so in most places and not only in a few."""
        return self.interval[0] > 1 and self.superiority > 0.5


def ratio_of(lines: Sequence[npt.NDArray[np.float64]], rng: np.random.Generator, level: float) -> Ratio:
    """Ratio of the mean at the seams to the mean at the controls, over all segments of all lines.

    Parameters
    ----------
    lines : sequence of ndarray
        (segments, 4) per line: sum at the seam, sum at its controls, and the numbers of values in these sums; or (segments, 2)
        of sums over equally many values.
    level : float
        Confidence, 0 to 1.

    Notes
    -----
    Segments of one line are alike where an image is regular, and one line may lie on a border of the image's own making
    (the fields of a mosaic). So whole lines are resampled too, and the wider interval counts.
    """
    lines = [_with_counts(line) for line in lines if len(line)]
    segments = np.concatenate(lines) if lines else np.zeros((0, 4))
    totals = segments.sum(axis=0)
    if totals[1] <= 0 or totals[2] == 0:
        # flat everywhere but at the seams is the worst there is; flat everywhere says nothing
        flat, share = (math.inf, 1.0) if totals[0] > 0 and totals[3] > 0 else (math.nan, math.nan)
        return Ratio(value=flat, interval=(flat, flat), superiority=share, lines=len(lines), segments=len(segments))
    value = float(_quotient(totals))
    seam, control, seam_count, control_count = segments[segments[:, 2] > 0].T
    typical = np.full_like(control, totals[1] / totals[3])  # for segments whose own controls hold nothing
    beside = np.divide(control, control_count, out=typical, where=control_count > 0)
    greater = np.sign(seam / seam_count - beside)
    margin = max(
        _margin(segments, rng, level, fewest=FEWEST_SEGMENTS),
        _margin(np.stack([line.sum(axis=0) for line in lines]), rng, level, fewest=FEWEST_LINES),
    )
    interval = (math.nan, math.nan) if margin < 0 else (value * math.exp(-margin), value * math.exp(margin))
    return Ratio(
        value=value,
        interval=interval,
        superiority=float((greater.mean() + 1) / 2),
        lines=len(lines),
        segments=len(segments),
    )


def _margin(sums: npt.NDArray[np.float64], rng: np.random.Generator, level: float, *, fewest: int) -> float:
    """Half width of the interval of the logarithm; -1 if there are too few rows to resample."""
    count = len(sums)
    if count < fewest or sums[:, 0].sum() <= 0:
        return -1.0
    weights = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    drawn = weights @ sums
    drawn = drawn[(drawn > 0).all(axis=1)]
    if len(drawn) < RESAMPLES // 2:
        return -1.0
    spread = float(np.log(_quotient(drawn.T)).std(ddof=1)) * math.sqrt(count / (count - 1))
    return float(stats.t.ppf((1 + level) / 2, count - 1)) * spread


def _quotient(columns: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    seam, control, seam_count, control_count = columns
    return np.asarray(seam / seam_count / (control / control_count))


def _with_counts(line: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.concatenate([line, np.ones_like(line)], axis=1) if line.shape[1] == 2 else line


@dataclass(frozen=True, kw_only=True, eq=False)
class CutCount:
    """Labels along one seam and along its controls."""

    touching: int
    crossing: int
    cut: int
    straight: int
    straight_control: float  # per control line
    segments: npt.NDArray[np.float64]  # (segments, 2): pairs of pixels with two labels at the seam, mean of the controls


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """Labels at all seams beside other lines.

    Attributes
    ----------
    touching, crossing : int
        Instances with a pixel beside a seam, and with pixels on both sides; an instance counts once per seam.
    cut : Ratio
        Pairs of pixels whose labels differ across the seam (at least one an instance), over those at nearby lines.
    straight, straight_control : float
        Instances that end on a seam with a straight edge, and how many would by chance.
    """

    touching: int
    crossing: int
    cut: Ratio
    straight: int
    straight_control: float

    def text(self, level: float) -> str:
        """The finding in words."""
        if math.isnan(self.cut.value):
            return "no instance ends near a seam"
        found = f"instances end at the seams {self.cut.value:.2f} times as often as at other lines"
        if not math.isnan(self.cut.interval[0]):
            found += f" ({level:.0%} interval {self.cut.interval[0]:.2f} to {self.cut.interval[1]:.2f})"
        return f"{found}, {self.straight} with a straight edge where {self.straight_control:.1f} would by chance"


def count_cuts(labels: ArrayLike, lines: Lines, axis: int, *, position: int, seed: int) -> CutCount:
    """Count along one seam; control lines are drawn from those nearby.

    `labels`: (*shape) int.
    """
    controls = np.asarray(lines.nearby(axis, position), dtype=int)
    if len(controls) > CONTROLS:
        rng = np.random.default_rng([seed, axis, position])
        controls = np.sort(rng.choice(controls, CONTROLS, replace=False))
    segments, faces = [], []
    for slab in slabs(labels, lines, axis, position=position):
        below, above = slab.pixels[:-1], slab.pixels[1:]
        differ = (below != above) & ((below > 0) | (above > 0))
        sums = segment_sums(differ, len(lines.shape))
        seam = position - slab.first
        if len(controls):
            segments.append(np.stack([sums[seam], sums[controls - slab.first].mean(axis=0)], axis=1))
        rows = [seam, *(controls - slab.first)]
        faces.append((below[rows].reshape(len(rows), -1), above[rows].reshape(len(rows), -1)))
    below, above = (np.concatenate(side, axis=1) for side in zip(*faces, strict=True))
    straight = [_straight(a, b) for a, b in zip(below, above, strict=True)]
    both = np.intersect1d(below[0][below[0] == above[0]], below[0])
    touching = np.union1d(below[0], above[0])
    return CutCount(
        touching=int((touching > 0).sum()),
        crossing=int((both > 0).sum()),
        cut=int(((below[0] != above[0]) & ((below[0] > 0) | (above[0] > 0))).sum()),
        straight=straight[0],
        straight_control=float(np.mean(straight[1:])) if len(straight) > 1 else math.nan,
        segments=np.concatenate(segments) if segments else np.zeros((0, 2)),
    )


def _straight(below: npt.NDArray[Any], above: npt.NDArray[Any]) -> int:
    """Instances whose pixels along the line mostly end at it."""
    found: set[int] = set()
    for side, other in ((below, above), (above, below)):
        numbers, index, length = np.unique(side, return_inverse=True, return_counts=True)
        ends = np.bincount(index.ravel(), (side != other).ravel(), len(numbers))
        straight = (numbers > 0) & (length >= STRAIGHT_PIXELS) & (ends >= STRAIGHT_SHARE * length)
        found.update(numbers[straight].tolist())
    return len(found)


def summarise_cuts(counts: Sequence[CutCount], rng: np.random.Generator, level: float) -> Cuts:
    """One summary over all seams."""
    return Cuts(
        touching=sum(count.touching for count in counts),
        crossing=sum(count.crossing for count in counts),
        cut=ratio_of([count.segments for count in counts], rng, level),
        straight=sum(count.straight for count in counts),
        straight_control=float(np.nansum([count.straight_control for count in counts])),
    )
