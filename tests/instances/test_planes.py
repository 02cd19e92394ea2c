"""Objects of the planes of a stack become objects of the stack, whatever their numbers and however the stack is read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_shiftseg.errors import ImageError, SettingsError
from napari_shiftseg.instances import Codes, JoinSettings, Renumbered, join_planes
from napari_shiftseg.synthetic import blobs


def joined(labels, codes=None, window=1 << 20, **wish):
    return np.asarray(Renumbered(labels, join_planes(labels, codes, JoinSettings(**wish), window=window)))


def per_plane(volume, seed):
    """The planes of a volume of labels, each with numbers of its own."""
    rng, made = np.random.default_rng(seed), np.zeros_like(volume)
    for z, plane in enumerate(volume):
        numbers = np.unique(plane[plane > 0])
        made[z] = np.append(0, rng.permutation(50)[: len(numbers)] + 1)[np.searchsorted(np.append(0, numbers), plane)]
    return made


def codes_of(labels, seed=0):
    """Two-dimensional codes with noise around a code per label."""
    rng = np.random.default_rng(seed)
    means = rng.uniform(-3, 3, (int(labels.max()) + 1, 2))
    code = np.moveaxis(means[labels], -1, 0) + rng.normal(0, 0.1, (2, *labels.shape))
    return Codes(embedding=code.astype(np.float32), bandwidth=0.75)


@pytest.fixture(scope="module")
def truth():
    return blobs((24, 64, 64), count=10, radius=(6, 9), touching=0.2, seed=3).labels


def same_partition(a, b):
    pairs = np.unique(np.stack([a.ravel(), b.ravel()], 1), axis=0)
    return len(pairs) == len(np.unique(a)) == len(np.unique(b))


def test_whole_objects_cut_into_planes_come_back(truth):
    assert same_partition(joined(per_plane(truth, 1), codes_of(truth)), truth)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 4), min_size=20, max_size=20), min_size=1, max_size=5),
    st.integers(0, 2),
    st.sampled_from([0.0, 0.1, 0.5]),
)
def test_two_objects_of_a_plane_never_become_one(planes, gap, overlap):
    labels = np.array(planes).reshape(len(planes), 4, 5)
    made = joined(labels, gap=gap, overlap=overlap)
    assert ((made > 0) == (labels > 0)).all()
    for before, after in zip(labels, made, strict=True):
        assert same_partition(before, after)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=20, max_size=20), min_size=2, max_size=5), st.integers(0, 99))
def test_neither_the_numbers_nor_the_parts_nor_the_direction_matter(planes, seed):
    """Few pixels and few objects, so that many pairs overlap alike."""
    labels = np.array(planes).reshape(len(planes), 4, 5)
    codes = codes_of(labels, seed)
    whole = joined(labels, codes)
    other = per_plane(labels, seed)
    np.testing.assert_array_equal(joined(other, codes), whole)
    np.testing.assert_array_equal(joined(labels, codes, window=1), whole)
    np.testing.assert_array_equal(joined(labels, codes, window=11), whole)
    backwards = Codes(embedding=codes.embedding[:, ::-1], bandwidth=0.75)
    assert same_partition(joined(labels[::-1], backwards)[::-1], whole)


def test_sums_of_codes_do_not_depend_on_the_rows_that_are_read_at_once():
    """Rounding of floating point would decide at the limit of agreement."""
    rng = np.random.default_rng(0)
    labels = np.ones((2, 40, 40), int)
    lower = rng.normal(0, 1e3, (1, 40, 40)).astype(np.float32)
    upper = lower + np.float32(0.5)
    embedding = np.stack([lower, upper], axis=1)
    away = float((embedding[:, 1].astype(np.float64) - embedding[:, 0]).mean())
    for agreement in (away - 1e-9, away, away + 1e-9):
        codes = Codes(embedding=embedding, bandwidth=1.0)
        made = [joined(labels, codes, window=window, agreement=agreement).max() for window in (1, 7 * 40, 1 << 20)]
        assert len(set(made)) == 1


def test_codes_keep_apart_what_lies_on_top_of_each_other():
    labels = np.ones((6, 10, 10), int)
    codes = np.zeros((1, 6, 10, 10), np.float32)
    codes[:, 3:] = 2.0
    assert joined(labels).max() == 1
    made = joined(labels, Codes(embedding=codes, bandwidth=0.75))
    assert [np.unique(plane).tolist() for plane in made] == [[1], [1], [1], [2], [2], [2]]


@pytest.mark.parametrize("told", ["one", "each"])
@pytest.mark.parametrize(("factor", "count"), [(1.0, 2), (4.0, 1)])
def test_the_bandwidth_says_what_agrees(told, factor, count):
    labels = np.ones((2, 8, 8), int)
    codes = np.zeros((1, 2, 8, 8), np.float32)
    codes[:, 1] = 2.0
    width = 1.0 if told == "one" else np.ones((2, 8, 8), np.float32)
    assert joined(labels, Codes(embedding=codes, bandwidth=width, factor=factor)).max() == count


def test_offsets_agree_where_their_centres_do():
    """A network with offsets says where the centre lies; without the place of the pixel two shifted pieces seem far apart."""
    labels = np.zeros((2, 20, 20), int)
    labels[0, 2:10, 2:10], labels[1, 2:10, 4:12] = 1, 1
    y, x = np.mgrid[:20, :20].astype(np.float32)
    votes = np.stack([np.stack([6 - y] * 2), np.stack([7 - x] * 2)])
    codes = Codes(embedding=votes, bandwidth=1.0, coordinates=True)
    assert joined(labels, codes).max() == 1
    votes[:, 1] += 5
    assert joined(labels, codes).max() == 2


@pytest.mark.parametrize(("gap", "count"), [(0, 2), (1, 1), (2, 1)])
def test_an_object_may_be_missing_in_a_plane(gap, count):
    labels = np.ones((3, 6, 6), int)
    labels[1] = 0
    assert joined(labels, gap=gap).max() == count


def test_what_is_there_in_between_comes_first():
    """The gap is closed only for what ends there."""
    labels = np.zeros((3, 6, 12), int)
    labels[:, :, :6] = 1
    labels[0, :, 6:], labels[2, :, 6:] = 2, 3
    made = joined(labels, gap=1)
    assert np.unique(made[:, :, :6]).tolist() == [1]
    assert np.unique(made[[0, 2], :, 6:]).tolist() == [2]


@pytest.mark.parametrize("shape", [(1, 5, 5), (3, 5, 5), (0, 5, 5), (2, 0, 4)])
def test_stacks_without_objects_or_with_one_plane(shape):
    labels = np.zeros(shape, np.uint8)
    assert joined(labels).shape == shape
    if shape[0] == 1:
        labels[0, 1, 1] = 9
        assert joined(labels).max() == 1


def test_numbers_are_read_where_they_are_asked_for(truth):
    labels = per_plane(truth, 2)
    lazy = Renumbered(labels, join_planes(labels))
    whole = np.asarray(lazy)
    assert whole.dtype == np.uint32
    np.testing.assert_array_equal(lazy[3:9:2, 5, ::-1], whole[3:9:2, 5, ::-1])


@pytest.mark.parametrize(
    "wish", [{"overlap": 1.5}, {"overlap": -1}, {"agreement": 0}, {"agreement": np.nan}, {"gap": -1}, {"gap": 1.5}]
)
def test_settings_that_cannot_work(wish):
    with pytest.raises(SettingsError, match=next(iter(wish))):
        join_planes(np.zeros((2, 3, 3), int), settings=JoinSettings(**wish))


def test_shapes_and_types_that_do_not_fit():
    with pytest.raises(SettingsError, match="no stack"):
        join_planes(np.zeros((3, 3), int))
    with pytest.raises(ImageError, match="integers"):
        join_planes(np.zeros((2, 3, 3)))
    with pytest.raises(ImageError, match="negative"):
        join_planes(np.full((2, 3, 3), -1))
    labels = np.ones((2, 3, 3), int)
    with pytest.raises(SettingsError, match="embedding has shape"):
        join_planes(labels, Codes(embedding=np.zeros((1, 2, 3, 4)), bandwidth=1.0))
    for width in (0.0, float("inf"), np.ones((2, 3, 4))):
        with pytest.raises(SettingsError, match="bandwidth"):
            join_planes(labels, Codes(embedding=np.zeros((1, 2, 3, 3)), bandwidth=width))
