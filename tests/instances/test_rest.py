"""No object vanishes: what the foreground shows ends with a label, whatever the codes are."""

import numpy as np
import pytest
from by_blocks import labels_by_blocks
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_shiftseg import label_instances, match_score, synthetic
from napari_shiftseg.instances import LabelSettings
from napari_shiftseg.instances.constants import NEW, NONE
from napari_shiftseg.instances.undecided import placed


def assert_nothing_vanished(labels, foreground, wish):
    """Each connected piece of foreground of `min_size` pixels or more is labelled to the last pixel, and nothing else is.

    Each instance is one connected piece of `min_size` pixels or more, and they are numbered without a gap.
    """
    every = np.ones((3,) * labels.ndim)
    mask = np.ones(labels.shape, bool) if foreground is None else foreground
    mask = mask if mask.dtype == bool else mask >= wish.threshold
    pieces = ndimage.label(mask, every)[0]
    large = np.bincount(pieces.ravel()) >= max(1, wish.min_size)
    large[0] = False
    np.testing.assert_array_equal(labels > 0, large[pieces])
    assert set(np.unique(labels[labels > 0])) == set(range(1, int(labels.max()) + 1))
    for number, box in enumerate(ndimage.find_objects(labels.astype(np.int64)), start=1):
        inside = labels[box] == number
        assert inside.sum() >= wish.min_size
        assert ndimage.label(inside, every)[1] == 1


def truth_of(rng, shape, kind):
    """Cells that touch, apart from each other, or a few blobs; numbered from 1."""
    count = int(rng.integers(1, 2 + np.prod(shape) // 40))
    sites = rng.uniform(0, shape, (count, len(shape)))
    pixels = np.stack(np.indices(shape), -1).reshape(-1, len(shape))
    distance = np.sort(np.linalg.norm(pixels[:, None] - sites[None], axis=-1), axis=1)
    owner = np.linalg.norm(pixels[:, None] - sites[None], axis=-1).argmin(axis=1).reshape(shape) + 1
    second = distance[:, 1] if count > 1 else np.full(len(pixels), np.inf)
    rim = (second - distance[:, 0]).reshape(shape)
    radius = rng.uniform(2, 6, count + 1)[owner]
    mask = {"touching": np.ones(shape, bool), "apart": rim > 2.5, "blobs": distance[:, 0].reshape(shape) < radius}[kind]
    return np.where(mask, owner, 0), rim


def codes_of(rng, truth, rim, dim, spoilt):
    """Codes that several objects share, spread and noisy; mixed at borders; some objects and some islands without any."""
    codes = rng.normal(0, 6, (1 + int(rng.integers(1, 6)), dim))
    own = codes[rng.integers(0, len(codes), truth.max() + 1)] + rng.normal(0, rng.choice([0, 0.6]), (truth.max() + 1, dim))
    values = own[truth]
    near = ndimage.maximum_filter(truth, 3)
    mixed = (rim < rng.choice([0.0, 2.0, 6.0])) & (near > 0)
    part = rng.uniform(0.2, 0.8, truth.shape)[..., None]
    values = np.where(mixed[..., None], part * values + (1 - part) * own[near], values)
    values = values + rng.normal(0, 0.2, values.shape)
    noise = rng.normal(0, 40, values.shape)  # each pixel far from each other and from all modes
    lost = np.isin(truth, rng.permutation(truth.max() + 1)[: int(spoilt * truth.max())])
    islands = ndimage.gaussian_filter(rng.normal(0, 1, truth.shape), 2) > 0.25
    values[lost] = noise[lost]
    passing = islands & (rng.random() < 0.5)
    values[passing] = (codes[rng.integers(len(codes))] + rng.normal(0, 1.2, values.shape))[passing]
    return np.moveaxis(values, -1, 0).astype(np.float32)


def offsets_of(rng, truth, spoilt):
    """Offsets to centres; of some objects to those of others, or anywhere."""
    grid = np.indices(truth.shape)
    centres = np.array(
        [grid[:, truth == n].mean(axis=1) if (truth == n).any() else [0.0] * truth.ndim for n in range(truth.max() + 1)]
    )
    owner = np.arange(truth.max() + 1)
    wrong = rng.random(len(owner)) < spoilt
    owner[wrong] = rng.integers(0, len(owner), wrong.sum())
    values = np.moveaxis(centres[owner[truth]], -1, 0) - grid + rng.normal(0, 0.4, grid.shape)
    anywhere = np.isin(truth, np.flatnonzero(rng.random(len(owner)) < spoilt / 2))
    values[:, anywhere] = rng.normal(0, 200, values[:, anywhere].shape)
    return values.astype(np.float32)


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    ndim = draw(st.sampled_from([1, 2, 2, 3]))
    window = {1: 16, 2: 16, 3: 8}[ndim]
    shape = tuple(int(rng.integers(1, {1: 200, 2: 60, 3: 20}[ndim])) for _ in range(ndim))
    truth, rim = truth_of(rng, shape, draw(st.sampled_from(["touching", "apart", "blobs"])))
    spoilt = draw(st.sampled_from([0.0, 0.4, 1.0]))
    offsets = draw(st.booleans())
    embedding = offsets_of(rng, truth, spoilt) if offsets else codes_of(rng, truth, rim, draw(st.integers(2, 8)), spoilt)
    foreground = {
        "none": None,
        "mask": truth > 0,
        "holes": (truth > 0) & (rng.random(shape) < 0.9),
        "probability": np.where(truth > 0, rng.uniform(0.3, 1, shape), rng.uniform(0, 0.6, shape)).astype(np.float32),
    }[draw(st.sampled_from(["none", "mask", "mask", "holes", "probability"]))]
    wish = LabelSettings(
        bandwidth=draw(st.sampled_from([0.75, 2.0])),
        min_size=draw(st.sampled_from([0, 1, 5, 16, 60])),
        min_density=draw(st.sampled_from([1.0, 4.0, 50.0])),
        radius=draw(st.sampled_from([0.7, 3.0, 8.0])),
        dip=draw(st.sampled_from([0.8, 0.95, 1.0])),
        coordinates=offsets,
        window=window,
        halo=draw(st.sampled_from([0, 4, 9])),
    )
    edge = tuple(window * int(rng.integers(1, 4)) for _ in range(ndim))
    return embedding, foreground, wish, edge


@settings(max_examples=120, deadline=None, derandomize=True)
@given(cases())
def test_whatever_the_codes_are_what_the_foreground_shows_is_labelled(case):
    embedding, foreground, wish, edge = case
    labels = label_instances(embedding, foreground, settings=wish)
    assert_nothing_vanished(labels, foreground, wish)
    np.testing.assert_array_equal(labels_by_blocks(embedding, foreground, wish, edge), labels)


@pytest.mark.parametrize("dip", [0.8, 1.0])
@pytest.mark.parametrize("shape", [(60, 70), (14, 30, 26)], ids=["2d", "3d"])
def test_an_image_all_of_whose_pixels_are_far_from_any_mode_is_labelled(shape, dip):
    """Noise makes no mode at all; one far away makes one that nothing is near to."""
    truth = synthetic.blobs(shape, 4, radius=(4, 6), touching=0.0, seed=0).labels
    apart, count = ndimage.label(truth > 0, np.ones((3,) * truth.ndim))
    noise = np.random.default_rng(0).normal(0, 1000, (3, *shape)).astype(np.float32)
    mode = noise.copy()
    mode[:, apart == 1] = 0
    for embedding in (noise, mode):
        labels = label_instances(embedding, truth > 0, min_size=10, dip=dip)
        assert labels.max() == count
        np.testing.assert_array_equal(labels > 0, truth > 0)
        # raster order, and the same partition as the connected pieces
        assert len(np.unique(labels.astype(np.int64) * (count + 1) + apart)) == count + 1
        everywhere = label_instances(embedding, dip=dip)
        assert everywhere.all()


def test_equal_objects_of_spread_codes_all_stay():
    """> same-looking objects at distances that are multiples of f^l get the same embedding (Corollaries 2 and 3)

    Most are close to the code that they share, some half as far again: none of them vanishes or breaks.
    """
    rng = np.random.default_rng(0)
    drawn = synthetic.disks((200, 200), 14, 5)
    count = int(drawn.labels.max())
    for dim in (2, 3, 8):
        for spread in (0.3, 0.6, 0.9):
            away = rng.normal(0, 1, (count + 1, dim))
            away *= rng.uniform(0, spread * 2, (count + 1, 1)) ** 2 / np.linalg.norm(away, axis=1, keepdims=True)
            values = (away[drawn.labels] + rng.normal(0, 0.1, (*drawn.labels.shape, dim))).astype(np.float32)
            labels = label_instances(
                np.moveaxis(values, -1, 0), drawn.labels > 0, bandwidth=1.0, dip=0.8, radius=10, min_size=4
            )
            assert labels.max() == count and match_score(labels, drawn.labels, 0.99).ap == 1


def dense_cells(seed, codes=12, spread=0.3, jitter=0.5):
    """Cells that touch everywhere, no two neighbours of one code: (3, 150, 150) and (150, 150)."""
    rng = np.random.default_rng(seed)
    table = []
    while len(table) < codes:
        code = rng.uniform(-5, 5, 3)
        if all(np.linalg.norm(code - other) >= 3 for other in table):
            table.append(code)
    sites = (np.stack(np.mgrid[:15, :15], -1).reshape(-1, 2) + 0.5 + rng.uniform(-jitter / 2, jitter / 2, (225, 2))) * 10
    pixels = np.stack(np.mgrid[:150, :150], -1).reshape(-1, 1, 2)
    truth = np.linalg.norm(pixels - sites, axis=-1).argmin(axis=1).reshape(150, 150)
    chosen = []
    for number in range(225):
        near = [k for k in range(number) if np.linalg.norm(sites[k] - sites[number]) < 25]
        free = [k for k in rng.permutation(codes) if k not in {chosen[n] for n in near}]
        chosen.append(free[0] if free else int(rng.integers(codes)))
    own = np.array(table)[chosen] + rng.normal(0, spread / 3**0.5, (225, 3))
    values = own[truth] + rng.normal(0, 0.2 / 3**0.5, (*truth.shape, 3))
    return np.moveaxis(values, -1, 0).astype(np.float32), truth + 1


def test_dense_cells_that_share_few_codes_keep_them():
    """An object lies at others and far from the mode that it shares: it is no island unless it is a part or a mixture."""
    for seed in (0, 1):
        embedding, truth = dense_cells(seed)
        labels = label_instances(embedding, dip=0.8)
        assert match_score(labels, truth).ap >= 0.97
        assert abs(int(labels.max()) - 225) <= 4


def test_an_object_without_a_mode_that_touches_another_stays_one():
    y, x = np.indices((40, 60))
    left, right = np.hypot(y - 20, x - 18) < 11, np.hypot(y - 20, x - 39.5) < 11
    rng = np.random.default_rng(0)
    embedding = rng.normal(0, 0.2, (3, 40, 60))
    embedding[:, right & ~left] = rng.normal(0, 500, (3, int((right & ~left).sum())))
    labels = label_instances(embedding, left | right)
    score = match_score(labels, np.where(left, 1, np.where(right, 2, 0)), 0.8)
    assert labels.max() == 2 and score.tp == 2


def test_a_hole_in_the_codes_of_an_object_is_a_part_of_it():
    """Deeper than any growth reaches, and larger than `min_size`."""
    y, x = np.indices((60, 60))
    mask, hole = np.hypot(y - 30, x - 30) < 26, np.hypot(y - 30, x - 30) < 14
    rng = np.random.default_rng(0)
    embedding = rng.normal(0, 0.2, (3, 60, 60))
    embedding[:, hole] = rng.normal(0, 500, (3, int(hole.sum())))
    np.testing.assert_array_equal(label_instances(embedding, mask), mask)


def test_half_of_a_disk_is_a_part_and_what_touches_is_none():
    sizes, border = np.array([40, 40, 40, 9, 9, 40]), np.array([100, 100, 100, 30, 30, 100])
    contacts = np.array([[0, 7, 38], [1, 7, 37], [1, 8, 37], [2, 7, 20], [2, 7, 18], [3, 5, 1], [3, 4, 1]])
    found = placed(sizes, border, contacts, min_size=10)
    # half of the border; two that hold a third each; a contact seen from two blocks; small; small and alone; alone
    np.testing.assert_array_equal(found, [7, NEW, 7, 4, NONE, NEW])


def test_instances_are_numbered_in_raster_order_with_those_that_become_one_last():
    rng = np.random.default_rng(0)
    mask = np.zeros((30, 70), bool)
    embedding = rng.normal(0, 0.1, (2, 30, 70))
    for number, column in enumerate(range(2, 62, 12)):
        mask[5:15, column : column + 8] = True
        if number % 2 == 0:
            embedding[:, 5:15, column : column + 8] = rng.normal(0, 300, (2, 10, 8))
    labels = label_instances(embedding, mask)
    assert labels[5, [2, 14, 26, 38, 50]].tolist() == [1, 2, 3, 4, 5]
