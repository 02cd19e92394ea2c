"""Scores as values: what matching counts in an image, the scores that follow from it, and those of several images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

from napari_shiftseg.errors import SettingsError

_NOT_SUMMED = ("iou", "at_seams", "elsewhere")


@dataclass(frozen=True, kw_only=True)
class MatchScore:
    """Agreement of predicted objects with the truth at one IoU threshold.

    All scores derive from sums over objects, so scores of several images can be pooled. A score that has nothing to
    measure (no object at all; for `mean_iou`: no match) is nan.

    A truth object is *missed* if nothing matches it (a false negative), whether it has no label at all, too small a one, or
    shares one with others. A predicted object is *extra* if it matches nothing (a false positive).

    Attributes
    ----------
    iou : float
        Threshold: a pair matches at this IoU (intersection over union) or above.
    tp, fp, fn : int
        Matched pairs, extra predicted objects, missed truth objects.
    unlabelled : int
        Of the missed ones, truth objects of which no pixel is labelled.
    invented : int
        Of the extra ones, predicted objects of which no pixel lies on a truth object.
    iou_sum : float
        Sum of the IoU over the matched pairs.
    dice_labels, dice_truth : float
        Sum over predicted (truth) objects of the best Dice with any truth (predicted) object.
    splits : int
        Truth objects that were cut: two or more predicted objects each cover >= 20 % of it and lie in it by > 50 %.
    merges : int
        Predicted objects that each hold more than half of two or more truth objects.
    at_seams, elsewhere : MatchScore or None
        The same for the objects at the seams and for all others; the two add up to the whole. None without seams.
    """

    iou: float
    tp: int
    fp: int
    fn: int
    iou_sum: float
    dice_labels: float
    dice_truth: float
    unlabelled: int
    invented: int
    splits: int
    merges: int
    at_seams: MatchScore | None = None
    elsewhere: MatchScore | None = None

    @property
    def precision(self) -> float:
        """TP / (TP + FP)."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """TP / (TP + FN)."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def ap(self) -> float:
        """Average precision as used for cells: TP / (TP + FP + FN)."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def f1(self) -> float:
        """TP / (TP + FP/2 + FN/2)."""
        return _ratio(self.tp, self.tp + (self.fp + self.fn) / 2)

    @property
    def pq(self) -> float:
        """Panoptic quality: sum of IoU over the matches / (TP + FP/2 + FN/2)."""
        return _ratio(self.iou_sum, self.tp + (self.fp + self.fn) / 2)

    @property
    def mean_iou(self) -> float:
        """Mean IoU of the matched pairs."""
        return _ratio(self.iou_sum, self.tp)

    @property
    def sbd(self) -> float:
        """Symmetric best Dice: the smaller of the mean best Dice of predicted and of truth objects."""
        predicted, true = self.tp + self.fp, self.tp + self.fn
        if predicted == 0 or true == 0:
            return math.nan if predicted == true else 0.0
        return min(self.dice_labels / predicted, self.dice_truth / true)

    @property
    def right(self) -> bool:
        """Whether no object is missed, extra, split or merged."""
        return not (self.fn or self.fp or self.splits or self.merges)

    @property
    def text(self) -> str:
        """The mistakes in words.

        >>> from napari_shiftseg import match_score
        >>> print(match_score([[1, 1, 0, 0]], [[1, 1, 2, 2]]).text)
        1 of 2 true objects is missed (1 has no label at all) and 0 are split;
        0 of 1 found ones are extra and 0 merge true ones
        """
        true, found = self.tp + self.fn, self.tp + self.fp
        if not true and not found:
            return "there is no true object, and none was found"
        if self.right:
            return f"no true object of {true} is missed or split, and no found one is extra or merges true ones"
        bare = f" ({_are(self.unlabelled, 'has', 'have')} no label at all)" if self.fn else ""
        beside = f" ({_are(self.invented, 'lies', 'lie')} on no true object)" if self.fp else ""
        return (
            f"{_are(self.fn, of=f' of {true} true objects')} missed{bare} and {_are(self.splits)} split; "
            f"{_are(self.fp, of=f' of {found} found ones')} extra{beside} and {_are(self.merges, 'merges', 'merge')} true ones"
        )

    def row(self) -> dict[str, float]:
        """All numbers of the whole image by name, for a table or JSON."""
        names = "iou ap f1 pq sbd mean_iou precision recall tp fp fn unlabelled invented splits merges"
        return {name: getattr(self, name) for name in names.split()}


@dataclass(frozen=True, kw_only=True)
class MeanScore:
    """Means over images; an image on which a score has nothing to measure does not count for that score."""

    ap: float
    f1: float
    pq: float
    sbd: float
    mean_iou: float
    fn: float
    fp: float
    unlabelled: float
    invented: float
    splits: float
    merges: float
    images: int


def pool_scores(scores: Iterable[MatchScore]) -> MatchScore:
    """One score over the objects of several images: all sums added up; seam parts too, if every score has them.

    SettingsError if there is no score, or the thresholds differ.
    """
    parts = list(scores)
    if not parts:
        raise SettingsError("no scores were given to pool; give the score of one image at least.")
    if len({part.iou for part in parts}) > 1:
        raise SettingsError(
            f"scores at different IoU thresholds {sorted({part.iou for part in parts})} were given; "
            "pool the scores of one threshold at a time."
        )
    sums = {f.name: sum(getattr(p, f.name) for p in parts) for f in fields(MatchScore) if f.name not in _NOT_SUMMED}
    at_seams = [part.at_seams for part in parts if part.at_seams is not None]
    elsewhere = [part.elsewhere for part in parts if part.elsewhere is not None]
    complete = len(at_seams) == len(elsewhere) == len(parts)
    return MatchScore(
        iou=parts[0].iou,
        at_seams=pool_scores(at_seams) if complete else None,
        elsewhere=pool_scores(elsewhere) if complete else None,
        **sums,
    )


def mean_scores(scores: Iterable[MatchScore]) -> MeanScore:
    """Means over images, each image counting the same; `pool_scores` weighs by objects instead.

    SettingsError if there is no score.
    """
    parts = list(scores)
    if not parts:
        raise SettingsError("no scores were given to average; give the score of one image at least.")
    means = {f.name: _mean([getattr(p, f.name) for p in parts]) for f in fields(MeanScore) if f.name != "images"}
    return MeanScore(images=len(parts), **means)


def _are(count: int, one: str = "is", more: str = "are", *, of: str = "") -> str:
    return f"{count}{of} {one if count == 1 else more}"


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _mean(values: list[float]) -> float:
    measured = [value for value in values if not math.isnan(value)]
    return math.fsum(measured) / len(measured) if measured else math.nan
