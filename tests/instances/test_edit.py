"""Corrections by hand: what they change, what they leave, and that they can be taken back."""

import doctest
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi

from napari_shiftseg.errors import ImageError, SettingsError
from napari_shiftseg.instances import Edit, delete, merge, split

TYPES = [np.uint8, np.int32, np.uint32, np.int64, np.uint64]


@st.composite
def scenes(draw, most=3):
    """Labels of up to three axes, of numbers with gaps, which are large where the type holds them; and a frame or none."""
    kind = draw(st.sampled_from(TYPES))
    frames = draw(st.sampled_from([(), (2,), (2, 3)]))
    shape = draw(st.lists(st.integers(2, 7), min_size=1, max_size=most))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    offset = {1: 200, 4: 2**31 - 9, 8: 2**53 + 1}[np.dtype(kind).itemsize]
    labels = rng.integers(0, 5, (*frames, *shape)).astype(kind)
    if draw(st.booleans()):
        labels[labels > 0] += kind(offset)
    return labels, tuple(draw(st.integers(0, n - 1)) for n in frames), rng


def numbers(labels, frame):
    return [int(n) for n in np.unique(labels[frame]) if n > 0]


def done(edit, labels):
    after = labels.copy()
    edit.apply(after)
    return after


@given(scenes(), st.data())
@settings(max_examples=150, deadline=None)
def test_merging_names_the_objects_alike_and_leaves_all_else(scene, data):
    labels, frame, _ = scene
    there = numbers(labels, frame)
    if len(there) < 2:
        return
    ids = data.draw(st.lists(st.sampled_from(there), min_size=2, max_size=4, unique=True))
    edit = merge(labels, ids, frame=frame)
    after = done(edit, labels)
    expected = labels.copy()
    expected[frame][np.isin(labels[frame], np.array(ids, labels.dtype))] = ids[0]
    assert np.array_equal(after, expected) and after.dtype == labels.dtype
    edit.undo(after)
    assert np.array_equal(after, labels)
    edit.apply(after)
    assert np.array_equal(after, expected)


@given(scenes(), st.data())
@settings(max_examples=100, deadline=None)
def test_deleting_leaves_background_there_and_all_else_as_it_was(scene, data):
    labels, frame, _ = scene
    there = numbers(labels, frame)
    if not there:
        return
    number = data.draw(st.sampled_from(there))
    edit = delete(labels, number, frame=frame)
    after = done(edit, labels)
    gone = np.zeros(labels.shape, bool)
    gone[frame] = labels[frame] == number
    assert (after[gone] == 0).all() and np.array_equal(after[~gone], labels[~gone])
    edit.undo(after)
    assert np.array_equal(after, labels)


@given(scenes(), st.data(), st.sampled_from(["none", "codes", "noise", "constant"]))
@settings(max_examples=200, deadline=None)
def test_parts_cover_the_object_and_have_numbers_that_nothing_had(scene, data, codes):
    labels, frame, rng = scene
    there = [n for n in numbers(labels, frame) if (labels[frame] == n).sum() > 1]
    if not there:
        return
    number = data.draw(st.sampled_from(there))
    places = np.argwhere(labels[frame] == number)
    count = data.draw(st.integers(2, min(4, len(places))))
    seeds = places[rng.permutation(len(places))[:count]].tolist()
    halves = (np.indices(labels.shape)[-1:] % 2).astype(float)
    embedding = {"none": None, "codes": halves * 9, "noise": rng.normal(size=(3, *labels.shape)), "constant": halves * 0}[codes]
    edit = split(labels, number, embedding, seeds=seeds, frame=frame)
    after = done(edit, labels)
    object_ = np.zeros(labels.shape, bool)
    object_[frame] = labels[frame] == number
    assert np.array_equal(after[~object_], labels[~object_])
    made = set(np.unique(after[object_]).tolist())
    assert made == set(edit.made) and len(edit.made) == count and 0 not in made
    assert not (made - {number}) & set(np.unique(labels).tolist())  # of any frame
    for seed, part in zip(seeds, edit.made, strict=True):
        assert after[frame][tuple(seed)] == part
    again = split(labels, number, embedding, seeds=seeds, frame=frame)
    assert np.array_equal(done(again, labels), after)
    edit.undo(after)
    assert np.array_equal(after, labels)


def two_disks(shape=(40, 60), kind=np.int32):
    """Two touching disks of one number, and what belongs to the left one."""
    y, x = np.indices(shape)
    left, right = np.hypot(y - 20, x - 20) <= 10.5, np.hypot(y - 20, x - 39) <= 9.5
    return np.where(left | right, 5, 0).astype(kind), left


WISHES = {
    "seeds": {"seeds": [(20, 18), (20, 42)]},
    "cut": {"stroke": [(5, 31), (35, 29)]},
    "from one to the other": {"stroke": [(20, 16), (21, 42)]},
}


@pytest.mark.parametrize("wish", WISHES.values(), ids=WISHES)
def test_the_embedding_says_where_the_border_runs(wish):
    labels, left = two_disks()
    embedding = np.where(left, 0.0, 3.0)[None] + np.random.default_rng(0).normal(0, 0.2, (4, *labels.shape))
    edit = split(labels, 5, embedding, **wish)
    after = done(edit, labels)
    assert edit.how == "embedding"
    assert np.array_equal(after == 5, left & (labels > 0)) and len(np.unique(after)) == 3


def test_a_cut_ends_as_drawn_where_the_codes_do_not_tell_the_sides_apart():
    labels, _ = two_disks()
    noise = np.random.default_rng(0).normal(0, 0.2, (4, *labels.shape))
    for embedding in (None, noise, noise * 0):
        edit = split(labels, 5, embedding, stroke=[(2, 25), (38, 25)])
        after = done(edit, labels)
        assert edit.how == "stroke"
        parts = [np.flatnonzero((after == number).any(axis=0)) for number in edit.made]
        assert sorted(int(part.min()) for part in parts) in ([10, 25], [10, 26])


def test_offsets_are_codes_once_their_places_are_added():
    labels, left = two_disks()
    y, x = np.indices(labels.shape)
    away = np.stack([20.0 - y, np.where(left, 20.0, 39.0) - x]) + np.random.default_rng(0).normal(0, 0.5, (2, *labels.shape))
    for seeds in ([(20, 18), (20, 42)], [(13, 18), (26, 42)]):
        edit = split(labels, 5, away, seeds=seeds, offsets=True)
        assert edit.how == "embedding" and np.array_equal(done(edit, labels) == 5, left & (labels > 0))


def test_codes_that_differ_less_than_those_of_a_part_do_among_themselves_are_not_believed():
    labels, left = two_disks()
    across = np.indices(labels.shape)[0] / 4.0  # the same along the object, as with what the network says of rows
    codes = np.stack([np.where(left, 0.0, 0.2), across])
    assert split(labels, 5, codes, seeds=[(20, 15), (20, 42)]).how == "distance"
    assert split(labels, 5, codes * [[[20]], [[1]]], seeds=[(20, 15), (20, 42)]).how == "embedding"


def test_seeds_alone_cut_where_the_object_is_narrow():
    labels, left = two_disks()
    edit = split(labels, 5, seeds=[(20, 15), (20, 36)])
    after = done(edit, labels)
    assert edit.how == "distance" and ((after == 5) == left)[labels > 0].mean() > 0.97


@pytest.mark.parametrize("end", [4, 11, 12], ids=["beyond", "at the rim", "a pixel too short"])
def test_a_stroke_that_ends_a_little_early_is_a_cut(end):
    labels, _ = two_disks()
    edit = split(labels, 5, stroke=[(end, 20), (40 - end, 20)])
    after = done(edit, labels)
    assert edit.how == "stroke" and (after[:, :19][labels[:, :19] > 0] == edit.made[0]).all()


def test_bits_that_a_stroke_cuts_off_a_rough_outline_are_no_parts():
    labels, _ = two_disks()
    labels[9, 30] = labels[8, 30] = 5  # a spike above the neck, apart from it
    labels[9:13, 30] = 5
    edit = split(labels, 5, stroke=[(10, 25), (10, 32), (35, 30)])
    assert len(edit.made) == 2


def test_an_object_in_space_is_split_as_a_whole_by_a_stroke_in_one_plane():
    z, y, x = np.indices((14, 20, 36))
    left = np.sqrt((z - 7) ** 2 + (y - 10) ** 2 + (x - 10) ** 2) <= 6.5
    right = np.sqrt((z - 7) ** 2 + (y - 10) ** 2 + (x - 22) ** 2) <= 6.5
    labels = np.where(left | right, 3, 0).astype(np.uint32)
    codes = np.where(left, 0.0, 4.0)[None]
    for plane, stroke in (((1, 2), [(6, 1, 16), (6, 19, 17)]), ((0, 2), [(0, 10, 16), (13, 10, 17)])):
        for embedding, how in ((codes, "embedding"), (None, "stroke")):
            edit = split(labels, 3, embedding, stroke=stroke, plane=plane)
            after = done(edit, labels)
            assert edit.how == how
            assert ((after == edit.made[0]) == left)[labels > 0].mean() > (0.999 if how == "embedding" else 0.95)


def test_each_part_is_connected_where_the_object_is():
    labels, left = two_disks()
    rng = np.random.default_rng(1)
    stray = rng.random(labels.shape) < 0.1  # pixels with the code of the other disk
    codes = np.where(left ^ stray, 0.0, 3.0)[None]
    after = done(split(labels, 5, codes, seeds=[(20, 20), (20, 39)]), labels)
    assert all(ndi.label(after == number)[1] == 1 for number in np.unique(after[after > 0]))


def test_numbers_of_a_full_type_are_those_that_are_free():
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(2, axis=1)
    labels[labels == 7] = 8
    edit = split(labels, 9, seeds=[(0, 18), (0, 19)])
    assert sorted(edit.made) == [7, 9]
    labels[0, 14] = 7
    with pytest.raises(SettingsError, match="larger type"):
        split(labels, 9, seeds=[(0, 18), (0, 19)])


def test_an_edit_is_not_undone_over_what_was_done_since():
    labels = np.array([[1, 1, 0, 2, 2, 0, 3, 3]])
    first = merge(labels, (1, 2))
    first.apply(labels)
    second = merge(labels, (1, 3))
    second.apply(labels)
    labels[0, 2] = 9  # beside the objects: of no concern
    first.undo(labels)  # the pixels that it changed are as it left them
    assert labels.tolist() == [[1, 1, 9, 2, 2, 0, 1, 1]]
    first.apply(labels)
    labels[0, 3] = 7
    with pytest.raises(SettingsError, match="other numbers now"):
        first.undo(labels)
    assert labels.tolist() == [[1, 1, 9, 7, 1, 0, 1, 1]]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda labels: merge(labels, (1,)), SettingsError),
        (lambda labels: merge(labels, (1, 1)), SettingsError),
        (lambda labels: merge(labels, (1, 0)), SettingsError),
        (lambda labels: merge(labels, (1, 77)), SettingsError),
        (lambda labels: merge(labels, (1, 2**40)), SettingsError),
        (lambda labels: delete(labels, -1), SettingsError),
        (lambda labels: delete(labels, 1, frame=(9,)), SettingsError),
        (lambda labels: delete(labels.astype(float), 1), ImageError),
        (lambda labels: split(labels, 1), SettingsError),
        (lambda labels: split(labels, 1, seeds=[(0, 0)]), SettingsError),
        (lambda labels: split(labels, 1, seeds=[(0, 0), (0, 0)]), SettingsError),
        (lambda labels: split(labels, 1, seeds=[(0, 0), (0, 3)]), SettingsError),
        (lambda labels: split(labels, 1, seeds=[(0, 0), (-1, 0)]), SettingsError),
        (lambda labels: split(labels, 1, seeds=[(0, 0, 0), (0, 1, 0)]), SettingsError),
        (lambda labels: split(labels, 1, stroke=[(9, 9), (9, 12)]), SettingsError),
        (lambda labels: split(labels, 1, stroke=[(0, 0), (np.nan, 1)]), SettingsError),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_changes_nothing(wrong, error):
    labels = np.array([[1, 1, 1, 2, 2], [1, 1, 1, 2, 2]])
    with pytest.raises(error, match="; "):
        wrong(labels)
    assert labels.tolist() == [[1, 1, 1, 2, 2], [1, 1, 1, 2, 2]]


def test_an_edit_goes_into_a_record_and_comes_back():
    labels, _ = two_disks()
    edit = split(labels, 5, seeds=[(20, 15), (20, 36)])
    again = Edit.from_dict(edit.to_dict(), {"places": edit.places, "before": edit.before, "after": edit.after})
    assert np.array_equal(done(again, labels), done(edit, labels)) and again.describe() == edit.describe()


@pytest.mark.parametrize("name", ["edit", "split"])
def test_examples(name):
    assert doctest.testmod(import_module(f"napari_shiftseg.instances.{name}")).failed == 0


def test_several_objects_are_deleted_in_one_step():
    labels = np.arange(1, 13).reshape(3, 4).repeat(2, 0).repeat(2, 1)
    before = labels.copy()
    edit = delete(labels, (12, 3, 3, 7))
    assert edit.ids == (12, 3, 7) and edit.describe() == "deleted 12, 3, 7"
    edit.apply(labels)
    assert np.array_equal(labels, np.where(np.isin(before, [3, 7, 12]), 0, before))
    edit.undo(labels)
    assert np.array_equal(labels, before)
    assert delete(labels, range(1, 9)).describe() == "deleted 8 objects"
    for wrong in ((), (3, 99), (3, 0)):
        with pytest.raises(SettingsError):
            delete(labels, wrong)
