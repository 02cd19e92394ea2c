"""Matching: which predicted objects are which true ones, and so how well they agree, overall and at the seams of the tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse
from scipy.optimize import linear_sum_assignment

from napari_shiftseg.arguments import told
from napari_shiftseg.errors import ImageError, SettingsError
from napari_shiftseg.instances.constants import SPLIT_SHARE
from napari_shiftseg.instances.score import MatchScore
from napari_shiftseg.views import as_array

IntArray: TypeAlias = npt.NDArray[np.integer[Any]]
Mask: TypeAlias = npt.NDArray[np.bool_]


@overload
def match_score(
    labels: npt.ArrayLike, truth: npt.ArrayLike, iou: float = 0.5, *, seams: Sequence[Sequence[int]] | None = None
) -> MatchScore: ...


@overload
def match_score(
    labels: npt.ArrayLike, truth: npt.ArrayLike, iou: Sequence[float], *, seams: Sequence[Sequence[int]] | None = None
) -> tuple[MatchScore, ...]: ...


@told
def match_score(
    labels: npt.ArrayLike,
    truth: npt.ArrayLike,
    iou: float | Sequence[float] = 0.5,
    *,
    seams: Sequence[Sequence[int]] | None = None,
) -> MatchScore | tuple[MatchScore, ...]:
    """Match predicted objects one to one with the truth and score the result.

    Among all one-to-one matchings of pairs at or above the threshold, the one with the most pairs is taken, and among
    those the one with the largest sum of IoU. Above 0.5 there is only one.

    With `seams`, a truth object is *at a seam* if it has pixels on both sides of one. A matched predicted object goes
    with its truth object; an unmatched one is at a seam if it has pixels on both sides itself, or if the truth object
    that it overlaps most is at a seam (so both halves of a cut object count). A merge is at a seam also if the merging
    object lies across one, whatever it is matched with.

    Parameters
    ----------
    labels, truth : (*shape) int
        Predicted and true objects, 0 is background. Numbers need not be consecutive.
    iou : float or sequence of float
        Threshold in (0, 1], or several.
    seams : sequence of sequence of int, optional
        Per axis the seam positions, pixels: p is the seam between pixels p - 1 and p (as `TilePlan.seams` gives them).

    Returns
    -------
    MatchScore or tuple of MatchScore
        One for a number, one per threshold for a sequence.

    Raises
    ------
    ImageError
        If the arrays differ in shape, are not integers, or hold negative numbers.
    SettingsError
        If a threshold is out of range or `seams` has not one entry per axis.

    Source: PQ, Kirillov et al. 2019; SBD, Scharr et al. 2016; AP as in the 2018 Data Science Bowl.

    >>> match_score([[1, 1, 2, 2]], [[1, 1, 1, 1]], seams=((), (2,))).at_seams.splits
    1
    """
    wanted = iou if isinstance(iou, (Sequence, np.ndarray)) else (iou,)
    thresholds = [_threshold(value) for value in wanted]
    predicted, true = _pair(labels, truth)
    predicted, true = _compact(predicted), _compact(true)
    overlaps = _count_overlaps(predicted, true)
    crossing = None if seams is None else (_crossing(predicted, seams), _crossing(true, seams))
    scores = tuple(_score(overlaps, threshold, crossing) for threshold in thresholds)
    return scores if wanted is iou else scores[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class Mistakes:
    """Numbers of the objects that `MatchScore` counts as mistakes, each (K,) int64, ascending."""

    # missed, unlabelled, split: of true objects, by the rules of `MatchScore.fn`, `.unlabelled` and `.splits`
    missed: npt.NDArray[np.int64]
    unlabelled: npt.NDArray[np.int64]
    split: npt.NDArray[np.int64]
    # extra, invented, merging: of predicted objects, by the rules of `MatchScore.fp`, `.invented` and `.merges`
    extra: npt.NDArray[np.int64]
    invented: npt.NDArray[np.int64]
    merging: npt.NDArray[np.int64]


def mistaken_objects(labels: npt.ArrayLike, truth: npt.ArrayLike, iou: float = 0.5) -> Mistakes:
    """Which objects are missed, extra, split and merged, where `match_score` says how many.

    ImageError, SettingsError as `match_score`.

    Parameters
    ----------
    labels, truth : (*shape) int
        Predicted and true objects, 0 is background.
    iou : float
        Threshold in (0, 1].

    >>> found = mistaken_objects([[1, 1, 0, 0, 3]], [[5, 5, 7, 7, 0]])
    >>> found.missed.tolist(), found.extra.tolist()
    ([7], [3])
    """
    predicted, true = _pair(labels, truth)
    threshold = _threshold(iou)
    overlaps = _count_overlaps(_compact(predicted), _compact(true))
    matched = _pair_up(overlaps, threshold)
    found, real = (np.unique(array[array > 0]).astype(np.int64) for array in (predicted, true))
    return Mistakes(
        missed=np.delete(real, overlaps.truth[matched]),
        unlabelled=real[_untouched(overlaps.truth, real.size)],
        split=real[_split(overlaps)],
        extra=np.delete(found, overlaps.label[matched]),
        invented=found[_untouched(overlaps.label, found.size)],
        merging=found[_merging(overlaps)],
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Overlaps:
    """Pairs of overlapping objects, one entry per pair; objects are numbered from 0."""

    label: npt.NDArray[np.intp]
    truth: npt.NDArray[np.intp]
    shared: npt.NDArray[np.int64]  # pixels
    label_area: npt.NDArray[np.int64]  # per predicted object
    truth_area: npt.NDArray[np.int64]  # per truth object

    def iou(self) -> npt.NDArray[np.float64]:
        union = self.label_area[self.label] + self.truth_area[self.truth] - self.shared
        return self.shared / union

    def dice(self) -> npt.NDArray[np.float64]:
        return 2 * self.shared / (self.label_area[self.label] + self.truth_area[self.truth])


def _pair(labels: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[IntArray, IntArray]:
    predicted, true = _checked(labels, "labels"), _checked(truth, "truth")
    if predicted.shape != true.shape:
        raise ImageError(
            f"labels have shape {predicted.shape} and truth has shape {true.shape}; give two label images of one shape."
        )
    return predicted, true


def _checked(labels: npt.ArrayLike, name: str) -> IntArray:
    array = np.asarray(as_array(labels, name))
    if not np.issubdtype(array.dtype, np.integer):
        raise ImageError(f"{name} have number format {array.dtype}; give integers with one number per object.")
    if array.size and array.min() < 0:
        raise ImageError(f"{name} hold the negative number {array.min()}; give 0 for background and positive objects.")
    return array


def _threshold(iou: float) -> float:
    if not 0 < iou <= 1:
        raise SettingsError(f"IoU threshold {iou} is out of range; give a number above 0, at most 1.")
    return round(float(iou), 9)  # 0.6000000000000001 from np.arange must not exclude an IoU of 3/5


def _compact(labels: IntArray) -> IntArray:
    """The same objects numbered 1..n in the order of their numbers."""
    top = int(labels.max(initial=0))
    if top > 4 * labels.size:  # a table of all numbers would be larger than the image
        values = np.unique(labels)
        return np.searchsorted(values[values > 0], labels, side="right")
    present = np.zeros(top + 1, dtype=bool)
    present[labels] = True
    present[0] = True
    table = (np.cumsum(present) - 1).astype(np.int32)
    return table[labels]


def _count_overlaps(labels: IntArray, truth: IntArray) -> _Overlaps:
    label_area = np.bincount(labels.ravel(), minlength=1)[1:]
    truth_area = np.bincount(truth.ravel(), minlength=1)[1:]
    both = (labels > 0) & (truth > 0)
    rows, columns = labels[both] - 1, truth[both] - 1
    ones = np.ones(rows.size, dtype=np.int64)
    table = sparse.coo_array((ones, (rows, columns)), shape=(label_area.size, truth_area.size)).tocsr().tocoo()
    return _Overlaps(
        label=table.row.astype(np.intp),
        truth=table.col.astype(np.intp),
        shared=table.data,
        label_area=label_area,
        truth_area=truth_area,
    )


def _pair_up(overlaps: _Overlaps, threshold: float) -> npt.NDArray[np.intp]:
    """Which overlapping pairs are matched: the most pairs, then the largest sum of IoU."""
    iou = overlaps.iou()
    candidates = np.flatnonzero(iou >= threshold)
    label, truth = overlaps.label[candidates], overlaps.truth[candidates]
    crowded = (np.bincount(label, minlength=1)[label] > 1) | (np.bincount(truth, minlength=1)[truth] > 1)
    chosen = [candidates[~crowded]]
    # Pairs that compete for an object form small groups; each is a little assignment problem of its own.
    rivals = candidates[crowded]
    for group in _groups(overlaps.label[rivals], overlaps.truth[rivals]):
        chosen.append(_assign(overlaps, iou, rivals[group]))
    return np.sort(np.concatenate(chosen))


def _groups(label: npt.NDArray[np.intp], truth: npt.NDArray[np.intp]) -> list[npt.NDArray[np.intp]]:
    """Pairs (by index) that hang together through a shared object."""
    if label.size == 0:
        return []
    _, left = np.unique(label, return_inverse=True)
    _, right = np.unique(truth, return_inverse=True)
    size = int(left.max() + right.max()) + 2
    graph = sparse.coo_array((np.ones(label.size), (left, right + left.max() + 1)), shape=(size, size))
    _, component = sparse.csgraph.connected_components(graph, directed=False)
    order = np.argsort(component[left], kind="stable")
    return np.split(order, np.flatnonzero(np.diff(component[left][order])) + 1)


def _assign(overlaps: _Overlaps, iou: npt.NDArray[np.float64], pairs: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    rows, row = np.unique(overlaps.label[pairs], return_inverse=True)
    columns, column = np.unique(overlaps.truth[pairs], return_inverse=True)
    gain = np.zeros((rows.size, columns.size))
    gain[row, column] = iou[pairs] + pairs.size  # one pair more always outweighs any sum of IoU
    entry = np.full(gain.shape, -1, dtype=np.intp)
    entry[row, column] = pairs
    matched: npt.NDArray[np.intp] = entry[linear_sum_assignment(gain, maximize=True)]
    return matched[matched >= 0]


def _score(overlaps: _Overlaps, threshold: float, crossing: tuple[Mask, Mask] | None) -> MatchScore:
    matched = _pair_up(overlaps, threshold)
    every_label = np.ones(overlaps.label_area.size, dtype=bool)
    every_truth = np.ones(overlaps.truth_area.size, dtype=bool)
    whole = _count(overlaps, matched, threshold, labels=every_label, truth=every_truth, merging=every_label)
    if crossing is None:
        return whole
    label_across, truth_at = crossing
    label_at = _at_seams(overlaps, matched, label_across, truth_at=truth_at)
    merge_at = label_at | label_across
    return replace(
        whole,
        at_seams=_count(overlaps, matched, threshold, labels=label_at, truth=truth_at, merging=merge_at),
        elsewhere=_count(overlaps, matched, threshold, labels=~label_at, truth=~truth_at, merging=~merge_at),
    )


def _at_seams(overlaps: _Overlaps, matched: npt.NDArray[np.intp], label_across: Mask, *, truth_at: Mask) -> Mask:
    """Which predicted objects count at the seams, by the rule that `match_score` states."""
    at_seams = label_across.copy()
    largest = np.zeros(overlaps.label_area.size, dtype=np.int64)
    np.maximum.at(largest, overlaps.label, overlaps.shared)
    main = overlaps.shared == largest[overlaps.label]
    at_seams[overlaps.label[main & truth_at[overlaps.truth]]] = True
    at_seams[overlaps.label[matched]] = truth_at[overlaps.truth[matched]]
    return at_seams


def _count(
    overlaps: _Overlaps, matched: npt.NDArray[np.intp], threshold: float, *, labels: Mask, truth: Mask, merging: Mask
) -> MatchScore:
    """Score of the chosen predicted objects, truth objects, and predicted objects whose merges count."""
    inside = matched[truth[overlaps.truth[matched]]]
    dice = overlaps.dice()
    best_label, best_truth = np.zeros(labels.size), np.zeros(truth.size)
    np.maximum.at(best_label, overlaps.label, dice)
    np.maximum.at(best_truth, overlaps.truth, dice)
    return MatchScore(
        iou=threshold,
        tp=inside.size,
        fp=int(labels.sum()) - inside.size,
        fn=int(truth.sum()) - inside.size,
        iou_sum=float(overlaps.iou()[inside].sum()),
        dice_labels=float(best_label[labels].sum()),
        dice_truth=float(best_truth[truth].sum()),
        unlabelled=int((_untouched(overlaps.truth, truth.size) & truth).sum()),
        invented=int((_untouched(overlaps.label, labels.size) & labels).sum()),
        splits=int((_split(overlaps) & truth).sum()),
        merges=int((_merging(overlaps) & merging).sum()),
    )


def _split(overlaps: _Overlaps) -> Mask:
    """Which true objects consist of two predicted ones or more."""
    label_area, truth_area = overlaps.label_area[overlaps.label], overlaps.truth_area[overlaps.truth]
    piece = (overlaps.shared >= SPLIT_SHARE * truth_area) & (2 * overlaps.shared > label_area)
    return np.asarray(np.bincount(overlaps.truth[piece], minlength=overlaps.truth_area.size) > 1)


def _merging(overlaps: _Overlaps) -> Mask:
    """Which predicted objects hold more than half of two true ones or more."""
    swallowed = 2 * overlaps.shared > overlaps.truth_area[overlaps.truth]
    return np.asarray(np.bincount(overlaps.label[swallowed], minlength=overlaps.label_area.size) > 1)


def _untouched(objects: npt.NDArray[np.intp], count: int) -> Mask:
    """Which of `count` objects overlap nothing, by those that overlap something."""
    return np.asarray(np.bincount(objects, minlength=count) == 0)


def _crossing(labels: IntArray, seams: Sequence[Sequence[int]]) -> Mask:
    """Which objects have pixels on both sides of a seam."""
    if len(seams) != labels.ndim:
        raise SettingsError(f"seams have {len(seams)} entries for {labels.ndim} axes; give positions for each axis.")
    boxes = ndimage.find_objects(labels)
    across = np.zeros(len(boxes), dtype=bool)
    for axis, positions in enumerate(seams):
        places = np.unique(np.asarray(positions, dtype=np.int64))
        first = np.array([box[axis].start for box in boxes], dtype=np.int64)
        last = np.array([box[axis].stop - 1 for box in boxes], dtype=np.int64)
        # a seam p lies inside an object if first < p <= last
        across |= np.searchsorted(places, last, side="right") > np.searchsorted(places, first, side="right")
    return across
