"""`seam_report`: whether a result changes more at the seams of its tiles than elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_shiftseg.analysis.lines import (
    CutCount,
    Cuts,
    Lines,
    Ratio,
    count_cuts,
    counted,
    jumps,
    lines_of,
    ratio_of,
    segment_sums,
    slabs,
    summarise_cuts,
)
from napari_shiftseg.arguments import told
from napari_shiftseg.errors import ImageError, SettingsError
from napari_shiftseg.geometry import TilePlan
from napari_shiftseg.instances import MatchScore, match_score, mistaken_objects
from napari_shiftseg.views import ArrayLike, as_array

_NOTHING = (math.nan, math.nan)


@dataclass(frozen=True, kw_only=True)
class SeamRow:
    """One seam.

    Attributes
    ----------
    axis, position : int
        The seam lies between pixels `position - 1` and `position` of the axis, result pixels.
    jump : float
        Mean L2 distance of the embeddings on its two sides, embedding units.
    control : float
        The same over the lines that it is compared with.
    ratio : float
        jump / control.
    interval : (float, float)
        Of the ratio; nan for a seam of fewer than three segments.
    touching, crossing, cut, straight : int
        Instances with a pixel on either side, with pixels on both sides, pairs of pixels across the seam with two labels,
        and instances that end on the seam with a straight edge; 0 without labels.
    missed, split : int or None
        True objects with pixels on both sides that nothing matches, and those that are split; None without labels and truth.
    """

    axis: int
    position: int
    jump: float
    control: float
    ratio: float
    interval: tuple[float, float]
    touching: int = 0
    crossing: int = 0
    cut: int = 0
    straight: int = 0
    missed: int | None = None
    split: int | None = None

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """Names of the values of a row in a table."""
        return (*(field.name for field in fields(cls) if field.name != "interval"), "low", "high")


@dataclass(frozen=True, kw_only=True, eq=False)
class SeamReport:
    """What the seams of a result look like beside other lines of it.

    Attributes
    ----------
    ratio : float
        Mean jump of the embedding across the seams over the mean jump across the control lines; 1 if the seams cannot be
        seen, nan without seams or embedding. With a truth, of jumps inside its objects.
    interval : (float, float)
        Confidence interval of the ratio.
    control : {"same phase", "next phase", "none"}
        The control that `ratio` refers to: lines a period away that are no seams; or, where tiles are one period large and
        every such line is a seam, lines half a period away, which only the deepest pooling tells from them.
    alike, nearby : Ratio
        Against that control, and against lines of all phases within a period.
    exposed : bool or None
        Whether the seams show: the interval lies above 1 for both controls. None if this cannot be decided.
    table : tuple of SeamRow
        One row per measured seam.
    cuts : Cuts or None
        What the labels do at the seams.
    score : MatchScore or None
        Labels against the truth at an IoU of 0.5, with `.at_seams` and `.elsewhere`.
    verdict : str
        The finding in words: whether the seams show, and with labels and truth whether the objects are right. The two are
        statements of their own.
    """

    ratio: float
    interval: tuple[float, float]
    control: str
    alike: Ratio
    nearby: Ratio
    exposed: bool | None
    table: tuple[SeamRow, ...]
    cuts: Cuts | None
    score: MatchScore | None
    seams: int
    level: float
    verdict: str

    @property
    def right(self) -> bool | None:
        """Whether no true object is missed or split and no found one is extra or merges; None without labels and truth."""
        return None if self.score is None else self.score.right

    @property
    def finding(self) -> Literal["pass", "warn", "fail", ""]:
        """The colour of the finding.

        "fail" if the seams show. "pass" if they do not and, where labels were measured against a truth, all objects are
        right; a pass without a truth says nothing of the objects. "" if there was nothing to judge; else "warn".
        """
        if self.exposed:
            return "fail"
        if self.right is None:
            return "" if not self.seams else "warn" if self.exposed is None else "pass"
        return "pass" if self.right and (self.exposed is False or not self.seams) else "warn"

    @property
    def meaning(self) -> str:
        """What the finding says and what it does not, in one sentence."""
        seams = {True: "The seams show", False: "No seam shows", None: "Whether seams show is open"}[self.exposed]
        seams = seams if self.seams else "There is no seam"
        if self.right is None:
            return f"{seams}; whether the objects are right, only a truth tells."
        hidden = not self.exposed and (self.exposed is False or not self.seams)
        joint = "but" if (hidden and not self.right) or (self.exposed and self.right) else "and"
        return f"{seams}, {joint} the objects are {'right' if self.right else 'not all right'}."

    def rows(self) -> list[dict[str, float | None]]:
        """The table as plain values, one dict per seam, for CSV or JSON."""
        rows = []
        for row in self.table:
            values = asdict(row)
            values["low"], values["high"] = values.pop("interval")
            rows.append(values)
        return rows

    def worst(self, count: int = 10) -> tuple[SeamRow, ...]:
        """The seams with the largest ratios, largest first."""
        return tuple(sorted(self.table, key=lambda row: -row.ratio if row.ratio == row.ratio else math.inf)[:count])


@told
def seam_report(
    embedding: ArrayLike | None,
    plan: TilePlan | Mapping[str, Any],
    labels: ArrayLike | None = None,
    truth: ArrayLike | None = None,
    *,
    seed: int = 0,
    level: float = 0.99,
    most: int = 256,
) -> SeamReport:
    """Compare the seams of a result with other lines of it.

    Parameters
    ----------
    embedding : array-like or None
        (E, *shape) floating point; only slabs around the seams are read. None measures labels alone.
    plan : TilePlan or mapping
        The plan of the result, `TilePlan.to_dict()`, or the record that holds it.
    labels : array-like, optional
        (*shape) int.
    truth : array-like, optional
        (*shape) int, true objects. Jumps then count inside an object only: an embedding must jump at the borders of
        objects, but nowhere inside one. With labels, they are scored against it, and both are read whole.
    seed : int
        Of the bootstrap.
    level : float
        Of the confidence intervals.
    most : int
        Seams measured per axis, evenly spaced.

    Returns
    -------
    SeamReport

    Raises
    ------
    ImageError
        If an array does not have the shape of the plan's result.
    SettingsError
        If the plan is no plan, `level` is not between 0 and 1, or there is nothing to measure.

    Notes
    -----
    Each segment of a seam is compared with lines in the same strip of the image, so both meet the same mix of objects and
    background. Lines one period away join the same two output functions, so the period grid of a network is not taken for
    a seam. The interval is bootstrapped over segments and over whole lines, and the wider one is reported.

    >>> from napari_shiftseg import UNetSpec, plan_tiles
    >>> plan = plan_tiles(UNetSpec(levels=1), (256, 256), write=16)
    >>> embedding = np.arange(256.0) + 2 * (np.arange(256) // 16) + np.zeros((1, 256, 1))  # three times as steep at a seam
    >>> report = seam_report(embedding, plan)
    >>> report.ratio, report.exposed
    (3.0, True)
    """
    if embedding is None and labels is None:
        raise SettingsError("neither embedding nor labels were given; give at least one.")
    embedding = None if embedding is None else as_array(embedding, "the embedding", kinds="f")
    labels = None if labels is None else as_array(labels, "the labels", kinds="biu")
    truth = None if truth is None else as_array(truth, "the truth", kinds="biu")
    if not 0 < level < 1:
        raise SettingsError(f"level is {level}; give a confidence between 0 and 1, such as 0.99.")
    lines = lines_of(plan)
    chosen = lines.chosen(most)
    measured = [] if embedding is None else [_measure(embedding, lines, axis, position=p, truth=truth) for axis, p in chosen]
    counts = [] if labels is None else [count_cuts(labels, lines, axis, position=p, seed=seed) for axis, p in chosen]
    if seed < 0:
        raise SettingsError(f"the seed is {seed}; give an integer of 0 or more.")
    rng = np.random.default_rng(seed)
    alike = ratio_of([m.against_alike for m in measured], rng, level)
    near = ratio_of([m.against_near for m in measured], rng, level)
    cuts = None if labels is None else summarise_cuts(counts, rng, level)
    score: MatchScore | None = None
    mistaken: Sequence[tuple[int | None, int | None]] = [(None, None)] * len(chosen)
    if truth is not None and labels is not None:
        found, real = _whole(labels, lines), _whole(truth, lines)
        score, mistaken = match_score(found, real, seams=lines.seams), _mistaken_across(found, real, chosen)
    same = all(m.same_phase for m in measured)
    exposed = _exposed(alike, near, same)
    return SeamReport(
        ratio=alike.value,
        interval=alike.interval,
        control="none" if not alike.segments else "same phase" if same else "next phase",
        alike=alike,
        nearby=near,
        exposed=exposed,
        table=tuple(
            replace(_row(k, chosen, measured, counts=counts, rng=rng, level=level), missed=missed, split=split)
            for k, (missed, split) in enumerate(mistaken)
        ),
        cuts=cuts,
        score=score,
        seams=sum(map(len, lines.seams)),
        level=level,
        verdict=_verdict(lines, alike, same, exposed=exposed, cuts=cuts, score=score, level=level, inside=truth is not None),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Measured:
    """Sums over the segments of one seam, each (segments, 4): jumps at the seam and at its controls, and how many."""

    against_alike: npt.NDArray[np.float64]
    against_near: npt.NDArray[np.float64]
    same_phase: bool


def _measure(embedding: ArrayLike, lines: Lines, axis: int, *, position: int, truth: ArrayLike | None) -> _Measured:
    same_phase = lines.same_phase(axis, position)
    most_alike = same_phase or lines.next_phase(axis, position)
    alike: list[npt.NDArray[np.float64]] = []
    near: list[npt.NDArray[np.float64]] = []
    for slab in slabs(embedding, lines, axis, position=position, truth=truth):
        if slab.pixels.ndim != len(lines.shape) + 1:
            raise ImageError(f"the embedding has {slab.pixels.ndim} axes; give (E, *shape), channels first.")
        inside = counted(slab)
        sums = segment_sums(np.where(inside, jumps(slab), 0), len(lines.shape))
        counts = segment_sums(inside, len(lines.shape))
        seam = position - slab.first
        for into, controls in ((alike, most_alike), (near, lines.nearby(axis, position))):
            if controls:
                rows = [p - slab.first for p in controls]
                into.append(np.stack([sums[seam], sums[rows].sum(axis=0), counts[seam], counts[rows].sum(axis=0)], axis=1))
    nothing = np.zeros((0, 4))
    return _Measured(
        against_alike=np.concatenate(alike) if alike else nothing,
        against_near=np.concatenate(near) if near else nothing,
        same_phase=bool(same_phase),
    )


def _row(
    index: int,
    chosen: Sequence[tuple[int, int]],
    measured: Sequence[_Measured],
    *,
    counts: Sequence[CutCount],
    rng: np.random.Generator,
    level: float,
) -> SeamRow:
    axis, position = chosen[index]
    jump = control = math.nan
    ratio = Ratio(value=math.nan, interval=_NOTHING, superiority=math.nan, lines=0, segments=0)
    if measured:
        found = measured[index]
        ratio = ratio_of([found.against_alike], rng, level)
        totals = found.against_alike.sum(axis=0)
        jump, control = (
            float(total / count) if count else math.nan for total, count in zip(totals[:2], totals[2:], strict=True)
        )
    objects = {}
    if counts:
        count = counts[index]
        objects = {"touching": count.touching, "crossing": count.crossing, "cut": count.cut, "straight": count.straight}
    return SeamRow(
        axis=axis, position=position, jump=jump, control=control, ratio=ratio.value, interval=ratio.interval, **objects
    )


def _whole(labels: ArrayLike, lines: Lines) -> npt.NDArray[Any]:
    array = np.asarray(labels[tuple(slice(None) for _ in lines.shape)])
    if array.shape != lines.shape:
        raise ImageError(f"labels of shape {array.shape} do not fit the plan's result of {lines.shape} px.")
    return array


def _mistaken_across(
    labels: npt.NDArray[Any], truth: npt.NDArray[Any], chosen: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """How many missed and how many split true objects lie across each seam."""
    mistakes = mistaken_objects(labels, truth)
    counts = [_lying_across(truth, numbers, chosen) for numbers in (mistakes.missed, mistakes.split)]
    return list(zip(*counts, strict=True))


def _lying_across(truth: npt.NDArray[Any], numbers: npt.NDArray[np.int64], chosen: Sequence[tuple[int, int]]) -> list[int]:
    """Of the objects of these numbers, how many have pixels on both sides of each (axis, position)."""
    kept = np.isin(truth, numbers)
    compact = np.where(kept, np.searchsorted(numbers, truth) + 1, 0)
    boxes = [box for box in ndimage.find_objects(compact) if box is not None]
    extents = np.array([[(edges.start, edges.stop) for edges in box] for box in boxes]).reshape(-1, truth.ndim, 2)
    return [int(((extents[:, axis, 0] < p) & (p < extents[:, axis, 1])).sum()) for axis, p in chosen]


def _exposed(alike: Ratio, near: Ratio, same_phase: bool) -> bool | None:
    if math.isnan(alike.interval[0]) or math.isnan(near.interval[0]):
        return None
    if alike.interval[1] < 1 and near.interval[1] < 1:
        return None  # objects that happen to lie off the seams do this, and so can tiles off the lattice
    if not (alike.above_one and near.above_one):
        return False
    # where every line of this phase is a seam, a network whose grid shows cannot be told from tiles that show
    return True if same_phase else None


def _verdict(
    lines: Lines,
    alike: Ratio,
    same_phase: bool,
    *,
    exposed: bool | None,
    cuts: Cuts | None,
    score: MatchScore | None,
    level: float,
    inside: bool,
) -> str:
    against = "" if score is None else f" Against the truth at an IoU of {score.iou:g}, {score.text}."
    if not any(lines.seams):
        return f"The plan has a single tile, so there are no seams to judge.{against}"
    parts = []
    if alike.segments and not (inside and math.isnan(alike.value)):
        control = f"lines {'a period' if same_phase else 'half a period'} away"
        where = "inside true objects " if inside else ""
        found = f"{where}the embedding jumps {alike.value:.2f} times as much at the seams as at {control}"
        if math.isnan(alike.interval[0]):
            parts.append(f"{found}, but there are too few segments to say whether that is chance")
        else:
            found += f" ({level:.0%} interval {alike.interval[0]:.2f} to {alike.interval[1]:.2f})"
            if exposed:
                parts.append(f"{found}: the tiles show")
            elif exposed is None and alike.value < 1:
                parts.append(f"{found}: less than elsewhere, which misplaced tiles can cause and so can the place of the "
                             "objects; the check against one pass over the whole image tells")  # fmt: skip
            elif exposed is None:
                parts.append(f"{found}: either the tiles show or the period grid of the network does, whose every line is a "
                             "seam here; larger tiles would tell")  # fmt: skip
            else:
                parts.append(f"{found}: the tiles do not show")
    elif alike.segments:
        parts.append("no true object lies across both a seam and a line that it could be compared with")
    elif cuts is None:
        parts.append("no line could be compared with the seams")
    if cuts is not None:
        parts.append(cuts.text(level))
    if score is not None and score.at_seams is not None and score.elsewhere is not None:
        seam, rest = score.at_seams, score.elsewhere
        parts.append(
            f"{seam.splits} of {seam.tp + seam.fn} true objects at seams are split, "
            f"and {rest.splits} of {rest.tp + rest.fn} elsewhere; {seam.fn} at seams are missed, and {rest.fn} elsewhere"
        )
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}.{against}"
