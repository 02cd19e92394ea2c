"""Pixels between two codes: who gets them, and which are no object."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_shiftseg import label_instances
from napari_shiftseg.instances.constants import REACH, UNDECIDED
from napari_shiftseg.instances.undecided import settled


def grown_by_hand(labels, undecided):
    """Labels after `REACH` steps, each to the nearest touching pixel that has a label, of equally near ones the first."""
    for _ in range(REACH):
        before = labels.copy()
        places = np.argwhere(before > 0)
        for pixel in np.argwhere((before == 0) & undecided):
            away = np.abs(places - pixel)
            touching = np.flatnonzero(away.max(axis=1) <= 1)
            if len(touching):
                labels[tuple(pixel)] = before[tuple(places[touching[away[touching].sum(axis=1).argmin()]])]
    return labels


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.one_of(st.tuples(st.integers(1, 17), st.integers(1, 17)), st.tuples(*[st.integers(1, 9)] * 3)),
    share=st.sampled_from([0.0, 0.01, 0.1, 0.6]),
    block=st.sampled_from([3, 8, 100]),
)
def test_undecided_pixels_go_to_the_nearest_instance(seed, shape, share, block):
    rng = np.random.default_rng(seed)
    codes = np.where(rng.random(shape) < share, rng.integers(2, 6, shape), rng.integers(0, 2, shape)).astype(np.int32)
    numbers = np.array([0, 0, 7, 0, 9, 4], np.uint32)  # the second fragment is dissolved
    found = settled(codes, numbers, block)
    np.testing.assert_array_equal(found, grown_by_hand(numbers[codes], codes >= UNDECIDED))


def test_no_instance_reaches_across_the_background():
    codes = np.full((5, 20), UNDECIDED, np.int32)
    codes[:, :8], codes[:, 10] = 2, 0
    labels = settled(codes, np.array([0, 0, 1], np.uint32), 100)
    np.testing.assert_array_equal(labels, np.indices(codes.shape)[1] < 10)


def test_a_part_gets_what_the_whole_image_gives():
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 2, (40, 50)).astype(np.int32)
    codes[rng.random(codes.shape) < 0.02] = 2
    numbers = np.array([0, 0, 3], np.uint32)
    inner = (slice(10, 30), slice(5, 41))
    seen = tuple(slice(part.start - REACH, part.stop + REACH) for part in inner)
    part = settled(codes[seen], numbers, 16, inner=tuple(slice(REACH, REACH + p.stop - p.start) for p in inner))
    np.testing.assert_array_equal(part, settled(codes, numbers, 16)[inner])


def mixing_codes():
    """Two objects whose codes mix over a wide seam, halfway near the code of a third one, far away: (2, 60, 90)."""
    rng = np.random.default_rng(0)
    codes = np.array([[0.0, 0.0], [8.0, 0.0], [4.0, 1.2]])
    truth = np.zeros((60, 90), int)
    truth[:, 30:60], truth[:, 60:] = 1, 2
    embedding = codes[truth] + rng.normal(0, 0.2, (60, 90, 2))
    # a seam of 8 px in which each pixel is somewhere between both
    part = rng.uniform(0.35, 0.65, (60, 8, 1))
    embedding[20:40, 26:34] = ((1 - part) * codes[0] + part * codes[1])[20:40]
    return np.moveaxis(embedding, -1, 0)


def test_pixels_that_pass_by_the_code_of_another_object_are_no_object():
    labels = label_instances(mixing_codes(), bandwidth=0.75, dip=0.8, min_density=50)
    assert labels.max() == 3
    assert [len(np.unique(labels[5:15, part])) for part in (slice(2, 24), slice(36, 55), slice(65, 88))] == [1, 1, 1]


def test_objects_of_one_code_stay_apart_and_stay():
    """A small object far from a large one of the same code is as near to the mode as that, so it is one of its own."""
    rng = np.random.default_rng(0)
    embedding, mask = rng.normal(0, 0.2, (2, 60, 90)), np.zeros((60, 90), bool)
    mask[5:55, 5:40], mask[20:28, 60:68] = True, True
    labels = label_instances(embedding, mask, bandwidth=0.75)
    assert labels.max() == 2
    np.testing.assert_array_equal(labels > 0, mask)
