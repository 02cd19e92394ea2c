"""Objects from seeds and bandwidths: sizes side by side, codes, ends of the image, and nothing that depends on an order."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from votes import balls, renamed, said_of

from napari_shiftseg import label_instances
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.instances import LabelSettings
from napari_shiftseg.instances.constants import ALIKE, KERNEL, LEAST_PEAK, VALLEY, WITHIN
from napari_shiftseg.instances.seeds import _apart, _nearest
from napari_shiftseg.instances.votes import Votes, density_of
from napari_shiftseg.network import Clustering

SIZES_SIDE_BY_SIDE = balls((256, 300), (40, 40, 30), (40, 78, 8), (120, 60, 20), (120, 90, 10), (200, 60, 40), (150, 200, 25))
TINY = balls((60, 90), (20, 20, 5), (20, 30, 5), (20, 40, 5), (45, 60, 3), (45, 66, 3), (5, 80, 4))
AT_THE_ENDS = balls((90, 80), (0, 40, 10), (89, 79, 8), (50, -9, 12), (88, 20, 9))
IN_3D = balls((50, 80, 90), (15, 20, 20, 12), (15, 20, 37, 5), (30, 50, 50, 15), (30, 70, 75, 6), (0, 60, 10, 7))
ON_A_LINE = balls((300,), (20, 15), (60, 20), (85, 4), (290, 15))


def found(labels, *, said=None, **wishes):
    offsets, foreground, seeds, widths = said_of(labels) if said is None else said
    return label_instances(offsets, foreground, seeds=seeds, bandwidths=widths, coordinates=True, **{"min_size": 4} | wishes)


@pytest.mark.parametrize("share", [0.4, 0.5, 0.7])
@pytest.mark.parametrize(
    "truth", [SIZES_SIDE_BY_SIDE, TINY, AT_THE_ENDS, IN_3D, ON_A_LINE], ids=["sizes", "tiny", "ends", "3D", "line"]
)
def test_objects_are_found_whatever_their_size(truth, share):
    assert renamed(found(truth, said=said_of(truth, share=share)), truth)


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 8])
def test_objects_share_codes(dim):
    """Squares side by side, each with one of few codes; equal ones apart are two objects."""
    rng = np.random.default_rng(dim)
    codes = np.linspace(-3, 3, 5)[:, None] if dim == 1 else rng.normal(0, 1, (5, dim))
    codes = 3 * codes / (1 if dim == 1 else np.linalg.norm(codes, axis=1, keepdims=True))
    truth = np.kron(np.arange(1, 37).reshape(6, 6), np.ones((20, 20), int))
    truth[::20], truth[:, ::20] = 0, 0
    kind = np.kron((np.arange(6)[:, None] * 2 + np.arange(6)) % 5, np.ones((20, 20), int))
    embedding = np.moveaxis(codes[kind], -1, 0) + rng.normal(0, 0.1 / dim**0.5, (dim, *truth.shape))
    near = np.exp(-0.5 * ((embedding - np.moveaxis(codes[kind], -1, 0)) ** 2).sum(axis=0) / 0.4**2)
    labels = label_instances(
        embedding, truth > 0, seeds=np.where(truth > 0, near, 0), bandwidths=np.full(truth.shape, 0.4), min_size=4
    )
    assert renamed(labels, truth)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    number=st.integers(0, 10**6),
    ndim=st.sampled_from([1, 2, 3]),
    noise=st.sampled_from([0.0, 0.3, 1.0]),
    flips=st.tuples(*[st.booleans()] * 3),
)
def test_a_mirror_changes_nothing_but_the_numbers(number, ndim, noise, flips):
    """Bandwidths that are powers of 2 and offsets in eighths are added without rounding, so that no bit differs."""
    rng = np.random.default_rng(number)
    shape = {1: (200,), 2: (60, 70), 3: (24, 26, 28)}[ndim]
    truth = balls(shape, *((*(rng.uniform(0, n) for n in shape), rng.uniform(2, 10)) for _ in range(8)))
    offsets, foreground, seeds, widths = said_of(truth, noise=noise, seed=number)
    axes = [axis for axis, on in zip(range(ndim), flips, strict=False) if on]
    there = found(truth, said=(offsets, foreground, seeds, widths))
    signs = np.ones((ndim, *[1] * ndim))
    signs[axes] = -1
    mirrored = found(
        truth,
        said=(
            np.flip(offsets, [a + 1 for a in axes]) * signs,
            np.flip(foreground, axes),
            np.flip(seeds, axes),
            np.flip(widths, axes),
        ),
    )
    # the last digits of sums depend on their order: what lies on the edge of a rule may fall on the other side
    assert (np.flip(mirrored, axes) > 0).sum() == pytest.approx((there > 0).sum(), abs=0.02 * there.size)
    assert mirrored.max() == pytest.approx(there.max(), abs=1)
    if noise < 1:
        assert renamed(np.flip(mirrored, axes), there)


@pytest.mark.parametrize(("noise", "valley"), [(0.1, VALLEY), (0.6, VALLEY), (0.6, 0.8)])
def test_windows_are_those_of_the_image(noise, valley):
    """An image without its first window has the labels of the rest; objects are far smaller than what a window sees."""
    rng = np.random.default_rng(4)
    truth = balls((160, 160), *((*rng.uniform(0, 160, 2), rng.uniform(3, 9)) for _ in range(40)))
    said = said_of(truth, noise=noise)
    whole = found(truth, said=said, window=32, halo=32, valley=valley)
    part = found(truth, said=[values[..., 64:, 32:] for values in said], window=32, halo=32, valley=valley)
    np.testing.assert_array_equal(part[40:, 40:] > 0, whole[104:, 72:] > 0)
    assert renamed(part[40:, 40:], whole[104:, 72:])
    one = found(truth, said=said, valley=valley)
    assert noise > 0.1 or renamed(whole, one)


def test_longer_offsets_than_a_window_sees_are_undecided():
    truth = balls((64, 200), (32, 20, 10), (32, 90, 10))
    offsets, foreground, seeds, widths = said_of(truth)
    offsets[1][truth == 2] -= 70  # votes for the middle of the other one
    labels = found(truth, said=(offsets, foreground, seeds, widths), halo=48)
    assert renamed(labels, np.where(truth == 1, 1, 0))


def test_foreground_without_seeds_is_background_and_a_rim_joins_its_object():
    truth = balls((80, 120), (40, 30, 14), (40, 90, 14))
    offsets, foreground, seeds, widths = said_of(truth)
    inner = balls((80, 120), (40, 30, 11))
    seeds[truth == 2] = 0.02
    seeds[(truth == 1) & (inner == 0)] = 0.02
    offsets[:, (truth == 1) & (inner == 0)] = 300.0
    assert renamed(found(truth, said=(offsets, foreground, seeds, widths)), np.where(truth == 1, 1, 0))


def test_a_larger_factor_tells_fewer_apart():
    truth = np.zeros((40, 60), int)
    truth[10:30, 10:30], truth[10:30, 30:50] = 1, 2
    offsets, foreground, seeds, widths = said_of(truth, share=1.2)
    counts = [found(truth, said=(offsets, foreground, seeds, widths), factor=factor).max() for factor in (0.5, 1.0, 4.0)]
    assert counts[0] == counts[1] == 2 and counts[2] == 1


def two_bumps(dim, gap):
    """What a network says of two halves of an image, each with one code; codes are so many bandwidths apart."""
    shape = (20, 40)
    embedding = np.zeros((dim, *shape))
    embedding[0, :, 20:] = gap
    return embedding, {"seeds": np.ones(shape), "bandwidths": np.ones(shape)}


@pytest.mark.parametrize("dim", [2, 5])
def test_the_valley_says_how_deep_the_density_between_two_objects_is(dim):
    """Kernels are a quarter of a bandwidth wide, so that the valley is 2 exp(-2 gap^2): half where codes are 0.83 apart."""
    for gap, depth in ((0.75, 0.65), (0.83, 0.5), (0.93, 0.35), (1.08, 0.2)):
        assert 2 * np.exp(-0.5 * (gap / 2 / KERNEL) ** 2) == pytest.approx(depth, abs=0.01)
        embedding, said = two_bumps(dim, gap)
        counts = [label_instances(embedding, **said, valley=depth + by).max() for by in (-0.15, 0.15)]
        assert counts == [1, 2], (gap, counts)


def test_the_usual_valley_is_that_of_models_and_results_that_do_not_say_one():
    assert LabelSettings().valley == Clustering().valley == VALLEY == 0.35
    embedding, said = two_bumps(2, 0.93 + 0.02)
    assert label_instances(embedding, **said).max() == 2
    embedding, said = two_bumps(2, 0.93 - 0.02)
    assert label_instances(embedding, **said).max() == 1


@settings(max_examples=30, deadline=None, derandomize=True)
@given(number=st.integers(0, 10**6), dim=st.sampled_from([1, 2, 3, 5]), spread=st.sampled_from([0.05, 0.2, 0.6]))
def test_a_larger_valley_keeps_the_modes_of_a_smaller_one(number, dim, spread):
    rng = np.random.default_rng(number)
    centres = rng.uniform(0, 4, (8, dim))
    places = centres[rng.integers(0, 8, 300)].T + rng.normal(0, spread, (dim, 300))
    field = density_of(Votes(places=places, amounts=rng.uniform(0.25, 5, 300), widths=rng.uniform(0.7, 1.5, 300)), None)
    kept = [{tuple(mode) for mode in _apart(field, valley)[0]} for valley in (0.0, 0.2, 0.35, 0.5, 0.8, 1.0)]
    assert all(few <= more for few, more in pairwise(kept))
    assert len(kept[0]) >= 1


@pytest.mark.parametrize(("scatter", "there"), [(0.8 * KERNEL, True), (1.3 * KERNEL, False)])
def test_votes_of_the_least_mass_are_an_object_if_they_scatter_no_more_than_their_kernels(scatter, there):
    rng = np.random.default_rng(0)
    votes = Votes(places=rng.normal(0, scatter, (2, 4000)), amounts=np.full(4000, 2 * LEAST_PEAK / 4000), widths=np.ones(4000))
    modes, _, density = density_of(votes, None).peaks()
    assert (len(modes) == 1) is there
    assert not there or density[0] == pytest.approx(KERNEL**2 / (KERNEL**2 + scatter**2), rel=0.05)


@pytest.mark.parametrize("dim", [2, 4])
def test_the_least_seed_says_which_doubtful_objects_are_there(dim):
    truth = np.zeros((40, 90), int)
    for number, start in enumerate((10, 35, 60), 1):
        truth[10:30, start : start + 20] = number
    offsets, foreground, seeds, widths = said_of(truth, share=0.5)
    seeds = np.where(truth > 0, np.array([0, 0.35, 0.55, 0.9])[truth], 0)
    if dim == 2:
        said = {"coordinates": True}
    else:
        offsets, said = np.where(truth > 0, 1.0, 0.0)[None] * np.ones((dim, 1, 1)), {}
        widths = np.ones(truth.shape)
    counts = [
        label_instances(offsets, foreground, seeds=seeds, bandwidths=widths, **said, **wish).max()
        for wish in ({"least_seed": 0.2}, {}, {"least_seed": 0.5}, {"least_seed": 0.6}, {"least_seed": 0.95})
    ]
    assert counts == [3, 2, 2, 1, 0]


def test_an_object_smaller_than_the_network_knows_is_found():
    """It says the least bandwidth that it learnt, of which such an object has only 0.6."""
    truth = np.zeros((30, 30), int)
    truth[np.hypot(*(np.indices(truth.shape) - 15)) < 7] = 1
    offsets, foreground, _, _ = said_of(truth, share=0.5)
    labels = found(truth, said=(offsets, foreground, np.where(truth > 0, 0.9, 0.0), np.full(truth.shape, 10.0)))
    assert renamed(labels, truth)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seeds": None}, "give both"),
        ({"bandwidths": None}, "give both"),
        ({"bandwidths": np.ones((8, 9))}, "give both with its shape"),
        ({"bandwidths": np.full((8, 8), -1.0)}, "from 0 on"),
        ({"bandwidths": np.full((8, 8), np.nan)}, "from 0 on"),
        ({"seeds": np.full((8, 8), 1.5)}, "from 0 to 1"),
        ({"seeds": np.full((8, 8), np.nan)}, "from 0 to 1"),
        ({"factor": 0.0}, "factor is 0"),
        ({"least_seed": 1.5}, "least_seed is 1.5"),
        ({"least_seed": float("nan")}, "least_seed is nan"),
        ({"valley": 1.1}, "valley is 1.1"),
        ({"valley": -0.1}, "valley is -0.1"),
        ({"valley": float("nan")}, "valley is nan"),
    ],
)
def test_what_cannot_work_is_refused(change, words):
    said = {"seeds": np.ones((8, 8)), "bandwidths": np.ones((8, 8))} | change
    with pytest.raises(SettingsError, match=words):
        label_instances(np.zeros((2, 8, 8)), **said)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("dim", [2, 5])
def test_an_embedding_that_is_not_finite_is_refused(value, dim):
    embedding = np.zeros((dim, 8, 8))
    embedding[0, 3, 3] = value
    with pytest.raises(SettingsError, match="finite"):
        label_instances(embedding, seeds=np.ones((8, 8)), bandwidths=np.ones((8, 8)))


@pytest.mark.parametrize("width", [1e-30, 1e9])
@pytest.mark.parametrize(("dim", "coordinates"), [(2, True), (2, False), (3, False), (5, False)])
def test_a_wild_bandwidth_takes_no_more_memory_than_others(width, dim, coordinates):
    """One pixel of the image says it."""
    widths = np.full((40, 40), 4.0)
    widths[20, 20] = width
    embedding = np.zeros((dim, 40, 40))
    labels = label_instances(embedding, seeds=np.ones((40, 40)), bandwidths=widths, coordinates=coordinates)
    assert labels.shape == (40, 40)


def test_settings_with_seeds_want_them():
    with pytest.raises(SettingsError, match="give both"):
        label_instances(np.zeros((2, 8, 8)), settings=LabelSettings(seeds=True), seeds=np.ones((8, 8)))


def test_an_empty_image_has_no_objects():
    for shape in product((0, 5), (5,)):
        nothing = np.zeros(shape)
        labels = label_instances(np.zeros((2, *shape)), nothing, seeds=nothing, bandwidths=nothing + 1, coordinates=True)
        assert not labels.any() and labels.shape == shape


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
@pytest.mark.parametrize("spread", [0.1, 2.0])
def test_each_vote_is_of_the_mode_that_all_modes_asked_for_all_votes_give(dim, spread):
    """A cell of votes decides what each of them would: widths apart, votes between objects, and votes of none."""
    rng = np.random.default_rng(dim)
    modes, widths = rng.uniform(0, 12, (6, dim)), rng.choice([0.5, 1.0, 2.0, 3.0], 6)  # as many as are looked at
    places = modes[rng.integers(0, 6, 4000)].T + spread * rng.normal(0, 1, (dim, 4000))
    places = np.concatenate([places, rng.uniform(-9, 21, (dim, 1000))], axis=1)
    said = rng.choice(widths, 5000) * np.exp(rng.normal(0, 0.2, 5000))
    gaps = ((places[:, None] - modes.T[:, :, None]) ** 2).sum(axis=0) / widths[:, None] ** 2
    cost = np.where(gaps < WITHIN**2, gaps + ((np.log(said) - np.log(widths)[:, None]) / ALIKE) ** 2, np.inf)
    expected = np.where(np.isfinite(cost.min(axis=0)), cost.argmin(axis=0), -1)
    assert 0 < (expected < 0).sum() < 5000 and len(np.unique(expected)) > 4
    votes = Votes(places=places, amounts=np.ones(5000), widths=said)
    np.testing.assert_array_equal(_nearest(votes, modes, widths), expected)
