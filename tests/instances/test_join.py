"""Labels of blocks, joined at their faces, are those of the whole image to the last pixel."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from by_blocks import labels_by_blocks
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from votes import balls, said_of

from napari_shiftseg import label_instances, synthetic
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.geometry import BlockGrid
from napari_shiftseg.instances import (
    LabelSettings,
    Pieces,
    block_table,
    faces_of,
    fragments_of,
    join_blocks,
    numbered,
    object_table,
    whole_table,
)


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    ndim = draw(st.sampled_from([1, 2, 2, 3]))
    window = {1: 16, 2: 16, 3: 8}[ndim]
    shape = tuple(int(rng.integers(1, {1: 200, 2: 70, 3: 26}[ndim])) for _ in range(ndim))
    smooth = ndimage.gaussian_filter(rng.normal(0, 10, (2, *shape)), (0, *(2,) * ndim)).astype(np.float32)
    foreground = draw(st.sampled_from(["none", "mask", "probability"]))
    mask = {"none": None, "mask": rng.random(shape) < 0.8, "probability": rng.random(shape).astype(np.float32)}[foreground]
    edge = tuple(window * int(rng.integers(1, 4)) for _ in range(ndim))
    wish = LabelSettings(
        bandwidth=draw(st.floats(0.3, 2.0)),
        min_size=draw(st.integers(0, 12)),
        min_density=1.0,
        radius=draw(st.sampled_from([0.7, 3.0])),
        coordinates=draw(st.booleans()) and ndim == 2,
        window=window,
        halo=draw(st.sampled_from([0, 4, 9])),
    )
    return smooth, mask, wish, edge


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases())
def test_blocks_give_the_labels_of_the_whole_image(case):
    embedding, foreground, wish, edge = case
    whole = label_instances(embedding, foreground, settings=wish)
    np.testing.assert_array_equal(labels_by_blocks(embedding, foreground, wish, edge), whole)


@st.composite
def cases_with_seeds(draw):
    """Balls that are cut, votes that scatter, wild seeds and bandwidths; small windows that do not see all that votes."""
    number = draw(st.integers(0, 10_000))
    rng = np.random.default_rng(number)
    ndim = draw(st.sampled_from([1, 2, 2, 3]))
    window = {1: 16, 2: 16, 3: 8}[ndim]
    shape = tuple(int(rng.integers(1, {1: 200, 2: 70, 3: 26}[ndim])) for _ in range(ndim))
    truth = balls(shape, *((*(rng.uniform(0, n) for n in shape), rng.uniform(1, 12)) for _ in range(12)))
    offsets, foreground, seeds, widths = said_of(truth, noise=draw(st.sampled_from([0.1, 0.7, 2.0])), seed=number)
    if draw(st.booleans()):
        seeds, widths = rng.random(shape), rng.uniform(0.3, 9, shape)
    wish = LabelSettings(
        coordinates=draw(st.sampled_from([True, True, False])),
        min_size=draw(st.integers(0, 12)),
        seeds=True,
        factor=draw(st.sampled_from([0.5, 1.0, 2.0])),
        valley=draw(st.sampled_from([0.35, 0.0, 0.9])),
        window=window,
        halo=draw(st.sampled_from([0, 4, 9])),
    )
    edge = tuple(window * int(rng.integers(1, 4)) for _ in range(ndim))
    return offsets, draw(st.sampled_from([None, foreground])), {"seeds": seeds, "bandwidths": widths}, wish, edge


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases_with_seeds())
def test_blocks_give_the_labels_of_the_whole_image_with_seeds(case):
    embedding, foreground, said, wish, edge = case
    whole = label_instances(embedding, foreground, settings=wish, **said)
    np.testing.assert_array_equal(labels_by_blocks(embedding, foreground, wish, edge, **said), whole)


def test_an_object_over_many_blocks_is_one():
    """A spiral that crosses every face and corner of a grid of blocks."""
    place = np.indices((96, 96)) - 47.5
    turn = np.arctan2(*place) / (2 * np.pi) + np.hypot(*place) / 12
    spiral = (turn % 1) < 0.5
    embedding = np.zeros((2, 96, 96), np.float32)
    wish = LabelSettings(window=16, halo=4, min_size=1, min_density=0)
    labels = labels_by_blocks(embedding, spiral, wish, (16, 16))
    truth, count = ndimage.label(spiral, np.ones((3, 3)))
    assert labels.max() == count
    np.testing.assert_array_equal(labels > 0, truth > 0)


@pytest.mark.parametrize("shape", [(90, 70), (30, 28, 26)])
def test_tables_of_blocks_make_the_table_of_the_image(shape):
    labels = synthetic.blobs(shape, 8, radius=(3, 5), seed=3).labels
    seams = [range(16, n, 16) for n in shape]
    grid = BlockGrid(shape=shape, edge=(16,) * len(shape), halo=0)
    parts = [block_table(labels[b.core], [part.start for part in b.core], shape, seams=seams) for b in grid]
    ours, whole = whole_table(parts), object_table(labels, seams)
    assert list(ours) == list(whole)
    for name, column in whole.items():
        np.testing.assert_allclose(ours[name], column, rtol=1e-12)


def test_more_instances_than_labels_can_count_are_refused(monkeypatch):
    monkeypatch.setattr("napari_shiftseg.instances.pieces.MOST_INSTANCES", 3)
    sizes, first = np.array([4, 4, 4, 1]), np.arange(4)
    assert numbered(sizes, first, 2).max() == 3
    with pytest.raises(SettingsError, match="min_size"):
        numbered(sizes, first, 1)


@st.composite
def pieces_of_blocks(draw):
    """An image of blocks with pieces at random: touching or apart, of few modes, one fragment or many, or none at all."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    ndim = draw(st.sampled_from([1, 2, 3]))
    edge = rng.integers(1, 6, ndim)
    shape = tuple(map(int, edge * rng.integers(0, 4, ndim) + [rng.integers(1, n + 1) for n in edge]))
    grid = BlockGrid(shape=shape, edge=tuple(map(int, edge)), halo=0)
    coarse = draw(st.integers(1, 3))
    density = draw(st.sampled_from([0.3, 0.8, 1.0]))
    found = []
    for block in grid:
        pixels = rng.integers(1, 1 + draw(st.integers(1, 12)), block.shape)
        pixels = pixels[np.ix_(*(np.arange(n) // coarse for n in block.shape))]
        pixels = np.where(rng.random(block.shape) < density, pixels, 0) * (rng.random() < 0.8)
        there, pixels = np.unique(np.append(0, pixels), return_inverse=True)
        fragment = np.unique(rng.integers(0, 1 + len(there) // 2, len(there) - 1), return_inverse=True)[1]
        modes = rng.integers(0, 3, (len(there), 2)).astype(float)
        fragment = np.append(-1, fragment).astype(np.int64)
        found.append(Pieces(pixels=pixels[1:].reshape(block.shape), modes=modes, fragment=fragment))
    return grid, found, LabelSettings(bandwidth=draw(st.sampled_from([0.5, 1.2])), min_size=draw(st.integers(0, 9)))


def numbered_naively(grid, found, wish):
    """Labels of the fragments of all blocks: each pair of neighbours in the whole image is looked at."""
    pieces, owner = np.zeros((2, *grid.shape), np.int64)
    modes, fragments, known = [np.empty((0, 2))], [], 0
    for block, one in zip(grid, found, strict=True):
        pieces[block.core] = np.where(one.pixels > 0, one.pixels + sum(map(len, modes)), 0)
        owner[block.core] = block.number
        modes.append(one.modes)
        fragments.append(np.where(one.fragment < 0, -1, one.fragment + known))
        known += one.fragment.max(initial=-1) + 1
    modes, fragment = np.concatenate(modes), np.concatenate(fragments)
    stands = list(range(known))
    for step in product((-1, 0, 1), repeat=len(grid.shape)):
        here = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(step, grid.shape, strict=True))
        there = tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(step, grid.shape, strict=True))
        across = (owner[here] != owner[there]) & (pieces[here] > 0) & (pieces[there] > 0)
        for a, b in zip(pieces[here][across], pieces[there][across], strict=True):
            if np.linalg.norm(modes[a] - modes[b]) < wish.bandwidth:
                old, new = stands[fragment[a]], stands[fragment[b]]
                stands = [new if one == old else one for one in stands]
    pixels = np.where(pieces > 0, np.append(stands, 0)[fragment[pieces]], -1).ravel()
    labels, count = np.zeros(known, np.uint32), 0
    for one in dict.fromkeys(pixels[pixels >= 0]):
        if (pixels == one).sum() >= max(1, wish.min_size):
            count += 1
            labels[np.array(stands) == one] = count
    return labels


@pytest.mark.parametrize("most_pixels", [1, 200, 1 << 25])
def test_the_join_is_that_of_all_pairs_of_neighbours(most_pixels):
    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(pieces_of_blocks())
    def check(case):
        grid, found, wish = case
        corners = [[part.start for part in block.core] for block in grid]
        faces = [
            faces_of(one, fragments_of(one, None, wish, corner=corner, image_shape=grid.shape))
            for one, corner in zip(found, corners, strict=True)
        ]
        asked = Counter()
        numbers = join_blocks(grid, lambda number: asked.update([number]) or faces[number], wish)
        np.testing.assert_array_equal(numbers.labels, numbered_naively(grid, found, wish))
        np.testing.assert_array_equal(np.diff(numbers.offsets), [one.fragment.max() + 1 for one in found])
        assert max(asked.values()) <= (1 if most_pixels > 10_000 else 2 ** len(grid.shape))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_shiftseg.instances.faces.FACE_PIXELS", most_pixels)
        check()
