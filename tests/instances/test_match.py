"""Matching scores against cases done by hand and against a brute-force matcher."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_shiftseg import synthetic
from napari_shiftseg.errors import ImageError, SettingsError
from napari_shiftseg.instances.match import match_score, mistaken_objects
from napari_shiftseg.instances.score import mean_scores, pool_scores


def line(text):
    """Labels from digits: one pixel per character, in one row of a 2D image."""
    return np.array([[int(c) for c in text]])


def sets(labels):
    return {n: frozenset(zip(*np.nonzero(labels == n), strict=True)) for n in np.unique(labels) if n > 0}


def across(pixels, seams):
    return any(min(p[k] for p in pixels) < seam <= max(p[k] for p in pixels) for k, ps in enumerate(seams) for seam in ps)


def best_matching(predicted, true, threshold):
    """(pairs, sum of IoU) of the best one-to-one matching, by trying all of them."""
    padded = [*true, *[None] * len(predicted)]
    best = (0, 0.0)
    for choice in set(itertools.permutations(padded, len(predicted))):
        ious = [
            len(predicted[p] & true[t]) / len(predicted[p] | true[t])
            for p, t in zip(predicted, choice, strict=True)
            if t is not None
        ]
        kept = [iou for iou in ious if iou >= threshold]
        best = max(best, (len(kept), math.fsum(kept)))
    return best


def small_labels(side):
    return hnp.arrays(np.int16, side, elements=st.integers(0, 3))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(labels=small_labels((3, 4)), truth=small_labels((3, 4)), threshold=st.sampled_from([0.1, 0.25, 0.4, 0.5, 0.6, 1.0]))
def test_scores_equal_those_of_a_brute_force_matcher(labels, truth, threshold):
    predicted, true = sets(labels), sets(truth)
    score = match_score(labels, truth, threshold)
    pairs, iou_sum = best_matching(predicted, true, threshold)
    assert (score.tp, score.fp, score.fn) == (pairs, len(predicted) - pairs, len(true) - pairs)
    assert score.iou_sum == pytest.approx(iou_sum)
    parts = {
        t: [p for p in predicted.values() if len(p & px) >= 0.2 * len(px) and len(p & px) > len(p) / 2]
        for t, px in true.items()
    }
    assert score.splits == sum(len(found) >= 2 for found in parts.values())
    held = [sum(len(p & t) > len(t) / 2 for t in true.values()) for p in predicted.values()]
    assert score.merges == sum(count >= 2 for count in held)
    bare = {t for t, px in true.items() if not any(p & px for p in predicted.values())}
    invented = {p for p, px in predicted.items() if not any(px & t for t in true.values())}
    assert (score.unlabelled, score.invented) == (len(bare), len(invented))
    if threshold == 1:
        assert score.right == (set(predicted.values()) == set(true.values()))
    found = mistaken_objects(labels, truth, threshold)
    counts = [len(getattr(found, name)) for name in ("missed", "extra", "unlabelled", "invented", "split", "merging")]
    assert counts == [score.fn, score.fp, score.unlabelled, score.invented, score.splits, score.merges]
    assert set(found.unlabelled) == bare <= set(found.missed) <= set(true)
    assert set(found.invented) == invented <= set(found.extra) <= set(predicted)
    if predicted and true:
        dice = np.array([[2 * len(p & t) / (len(p) + len(t)) for t in true.values()] for p in predicted.values()])
        assert score.sbd == pytest.approx(min(dice.max(axis=0).mean(), dice.max(axis=1).mean()))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    labels=small_labels((3, 5)),
    truth=small_labels((3, 5)),
    rows=st.sets(st.integers(0, 3)),
    threshold=st.sampled_from([0.3, 0.5]),
)
def test_objects_at_seams_and_elsewhere_add_up_to_the_whole(labels, truth, rows, threshold):
    seams = (sorted(rows), (2,))
    score = match_score(labels, truth, threshold, seams=seams)
    plain = match_score(labels, truth, threshold)
    for name in ("tp", "fp", "fn", "unlabelled", "invented", "splits", "merges", "iou_sum", "dice_labels", "dice_truth"):
        whole = getattr(score, name)
        assert whole == getattr(plain, name)
        assert getattr(score.at_seams, name) + getattr(score.elsewhere, name) == pytest.approx(whole)
        assert getattr(score.elsewhere, name) >= 0
    assert score.at_seams.tp + score.at_seams.fn == sum(across(pixels, seams) for pixels in sets(truth).values())


def test_a_perfect_result_scores_one_whatever_the_numbers():
    truth = synthetic.disks((60, 60), 15, 5).labels
    score = match_score(np.where(truth > 0, 1000 - truth, 0).astype(np.uint16), truth)
    assert (score.ap, score.f1, score.pq, score.sbd, score.mean_iou) == (1, 1, 1, 1, 1)
    assert (score.tp, score.fp, score.fn, score.splits, score.merges) == (16, 0, 0, 0, 0)


def test_scores_of_a_case_done_by_hand():
    #               IoU 3/4 | IoU 1/2 | missed | invented
    score = match_score(line("1110002000004440"), line("1111002203300000"), 0.6)
    assert (score.tp, score.fp, score.fn) == (1, 2, 2)
    assert score.ap == pytest.approx(1 / 5)
    assert score.f1 == pytest.approx(1 / 3)
    assert score.pq == pytest.approx(0.75 / 3)
    assert (score.precision, score.recall, score.mean_iou) == pytest.approx((1 / 3, 1 / 3, 3 / 4))
    assert score.sbd == pytest.approx((6 / 7 + 2 / 3) / 3)


def test_an_iou_at_the_threshold_matches():
    assert match_score(line("0011"), line("1111"), 0.5).tp == 1
    assert match_score(line("11100"), line("11111"), np.arange(0.5, 1, 0.05)[2]).tp == 1  # 0.6000000000000001


def test_two_halves_compete_for_one_object_and_one_wins():
    score = match_score(line("1122"), line("1111"), 0.5)
    assert (score.tp, score.fp, score.fn, score.splits) == (1, 1, 0, 1)


def test_below_one_half_the_matching_with_the_most_pairs_is_taken():
    # Greedy by IoU would pair 1 with 1 (IoU 3/6) and leave 2 and 2, which do not overlap.
    score = match_score(line("111112"), line("221111"), 0.15)
    assert (score.tp, score.fp, score.fn) == (2, 0, 0)
    assert score.iou_sum == pytest.approx(2 / 5 + 1 / 4)


def test_several_thresholds_give_one_score_each():
    scores = match_score(line("1110"), line("1111"), (0.5, 0.75, 0.9))
    assert [(s.iou, s.tp) for s in scores] == [(0.5, 1), (0.75, 1), (0.9, 0)]
    assert match_score(line("1110"), line("1111"), np.array([0.5])) == (match_score(line("1110"), line("1111"), 0.5),)


@pytest.mark.parametrize(
    ("labels", "mistakes"),
    [
        ("1110002220000333", {}),
        ("1110000000000333", {"fn": 1, "unlabelled": 1}),
        ("1110002000000333", {"fn": 1, "fp": 1}),  # too small a label: missed, and yet not without a label
        ("1110002220440333", {"fp": 1, "invented": 1}),
        ("1140002220000333", {"fp": 1, "splits": 1}),
        ("1110002222222222", {"fn": 2, "fp": 1, "merges": 1}),
        ("0000000000000000", {"fn": 3, "unlabelled": 3}),
    ],
    ids=["right", "lost", "too small", "invented", "split", "merged", "all lost"],
)
def test_a_result_is_right_only_without_any_mistake(labels, mistakes):
    score = match_score(line(labels), line("1110002220000333"))
    for name in ("fn", "fp", "unlabelled", "invented", "splits", "merges"):
        assert getattr(score, name) == mistakes.get(name, 0), name
    assert score.right == (not mistakes)
    words = {"fn": "missed", "fp": "extra", "splits": "split", "merges": "merge"}
    for name, word in words.items():
        assert word in score.text and (score.right or f"{mistakes.get(name, 0)} " in score.text)
    assert "missed (3 have no label at all)" in score.text or score.unlabelled != 3


def test_the_numbers_of_mistaken_objects_are_those_of_the_images():
    found = mistaken_objects(line("7700000330"), line("5500880030"))
    assert (found.missed.tolist(), found.unlabelled.tolist()) == ([8], [8])
    assert (found.extra.tolist(), found.invented.tolist()) == ([], [])
    assert mistaken_objects(line("7700000330"), line("5500880030"), 0.6).extra.tolist() == [3]


@pytest.mark.parametrize(
    ("labels", "truth", "splits", "merges"),
    [
        ("1111222200", "1111111100", 1, 0),
        ("1111111120", "1111111110", 0, 0),  # the second piece covers less than 20 %
        ("1111122222", "1111100000", 0, 0),  # touches, but lies outside
        ("1111111110", "1111022220", 0, 1),
        ("1111100000", "1111022220", 0, 0),
        ("1122330000", "1111110000", 1, 0),
        ("1112223333", "1111112222", 1, 0),
    ],
    ids=["cut", "crumb", "neighbour", "merged", "grown", "three-pieces", "cut-and-right"],
)
def test_splits_and_merges(labels, truth, splits, merges):
    score = match_score(line(labels), line(truth))
    assert (score.splits, score.merges) == (splits, merges)


class TestSeams:
    def test_both_halves_of_an_object_cut_at_a_seam_count_there(self):
        score = match_score(line("0112200330"), line("0111100330"), seams=((), (3,)))
        at, rest = score.at_seams, score.elsewhere
        assert (at.tp, at.fp, at.fn, at.splits) == (1, 1, 0, 1)
        assert (rest.tp, rest.fp, rest.fn, rest.splits) == (1, 0, 0, 0)

    def test_an_object_that_ends_at_a_seam_does_not_cross_it(self):
        score = match_score(line("111222"), line("111222"), seams=((), (3,)))
        assert score.at_seams.tp == 0 and score.elsewhere.tp == 2
        assert math.isnan(score.at_seams.ap)

    def test_a_merge_across_a_seam_counts_there(self):
        score = match_score(line("1111111"), line("1111022"), seams=((), (5,)))
        assert (score.tp, score.at_seams.tp, score.elsewhere.tp) == (1, 0, 1)
        assert (score.at_seams.merges, score.elsewhere.merges) == (1, 0)

    def test_an_invented_object_counts_where_it_lies(self):
        score = match_score(line("1101100"), line("0000000"), seams=((), (1,)))
        assert (score.at_seams.fp, score.elsewhere.fp) == (1, 0)
        score = match_score(line("1102200"), line("0000000"), seams=((), (1,)))
        assert (score.at_seams.fp, score.elsewhere.fp) == (1, 1)

    def test_every_axis_has_its_own_seams_in_3d(self):
        truth = synthetic.disks((12, 12, 12), 6, 2).labels  # balls at 2 and 8 on each axis
        score = match_score(truth, truth, seams=((2,), (), ()))
        assert (score.at_seams.tp, score.elsewhere.tp) == (4, 4)
        score = match_score(truth, truth, seams=((2,), (2,), (8,)))
        assert (score.at_seams.tp, score.elsewhere.tp) == (7, 1)

    def test_seams_at_the_image_border_are_crossed_by_nothing(self):
        score = match_score(line("1111"), line("1111"), seams=((0, 1), (0, 4)))
        assert score.at_seams.tp == 0

    def test_seams_need_one_entry_per_axis(self):
        with pytest.raises(SettingsError, match="1 entries for 2 axes"):
            match_score(line("11"), line("11"), seams=((1,),))


def test_nothing_to_find_is_not_a_number_and_a_blank_result_is_zero():
    nothing = match_score(line("000"), line("000"))
    assert math.isnan(nothing.ap) and math.isnan(nothing.pq) and math.isnan(nothing.sbd)
    missed, invented = match_score(line("000"), line("110")), match_score(line("110"), line("000"))
    assert (missed.ap, missed.f1, missed.pq, missed.sbd) == (0, 0, 0, 0)
    assert (invented.ap, invented.f1, invented.pq, invented.sbd) == (0, 0, 0, 0)


def test_pooling_weighs_objects_and_averaging_weighs_images():
    many = match_score(line("1122330"), line("1122330"), seams=((), (1,)))
    few = match_score(line("0000000"), line("1100000"), seams=((), (1,)))
    empty = match_score(line("0000000"), line("0000000"), seams=((), (1,)))
    pooled = pool_scores([many, few, empty])
    assert (pooled.tp, pooled.fn, pooled.ap) == (3, 1, 0.75)
    assert (pooled.at_seams.tp, pooled.at_seams.fn) == (1, 1)
    assert (pooled.unlabelled, pooled.at_seams.unlabelled, pooled.elsewhere.unlabelled) == (1, 1, 0)
    means = mean_scores([many, few, empty])
    assert (means.ap, means.images, means.fn) == (0.5, 3, pytest.approx(1 / 3))
    assert pool_scores([many, match_score(line("1"), line("1"))]).at_seams is None


@pytest.mark.parametrize("gather", [pool_scores, mean_scores])
def test_no_scores_cannot_be_gathered(gather):
    with pytest.raises(SettingsError, match="no scores"):
        gather([])


def test_scores_of_different_thresholds_cannot_be_pooled():
    with pytest.raises(SettingsError, match="thresholds"):
        pool_scores(match_score(line("1"), line("1"), (0.5, 0.6)))


def test_huge_and_sparse_label_numbers_are_fine():
    labels = np.array([[2**63, 2**63, 0, 5]], dtype=np.uint64)
    score = match_score(labels, line("1102"))
    assert (score.tp, score.fp, score.fn) == (2, 0, 0)


def test_a_row_holds_plain_numbers():
    row = match_score(line("1100"), line("1100")).row()
    assert row["ap"] == 1 and {type(value) for value in row.values()} <= {int, float}


@pytest.mark.parametrize(
    ("labels", "truth", "iou", "error", "says"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), 0.5, ImageError, "one shape"),
        (np.zeros((2, 3)), np.zeros((2, 3), int), 0.5, ImageError, "float64"),
        (np.zeros((2, 3), int), np.full((2, 3), -1), 0.5, ImageError, "negative number -1"),
        (np.zeros((2, 3), int), np.zeros((2, 3), int), 0, SettingsError, "threshold 0"),
        (np.zeros((2, 3), int), np.zeros((2, 3), int), (0.5, 1.5), SettingsError, "threshold 1.5"),
    ],
    ids=["shape", "float", "negative", "zero-iou", "large-iou"],
)
def test_bad_input_gets_one_sentence(labels, truth, iou, error, says):
    with pytest.raises(error, match=says):
        match_score(labels, truth, iou)
