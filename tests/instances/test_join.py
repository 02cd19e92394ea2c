"""Labels of blocks, joined at their faces, are those of the whole image to the last pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_shiftseg import label_instances, synthetic
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.events import drain
from napari_shiftseg.geometry import BlockGrid
from napari_shiftseg.instances import (
    BlockFaces,
    LabelSettings,
    block_table,
    faces_of,
    fragments_of,
    join_blocks,
    numbered,
    object_table,
    piece_steps,
    settled_block,
    whole_table,
)


def labels_by_blocks(embedding, foreground, wish, edge):
    """Labels block by block, with nothing but faces passed between blocks."""
    shape = embedding.shape[1:]
    grid = BlockGrid(shape=shape, edge=edge, halo=wish.lattice(len(shape))[1])
    codes, faces = {}, {}
    for block in grid:
        own = None if foreground is None else foreground[block.core]
        seen = None if foreground is None else foreground[block.seen]
        steps = piece_steps(embedding[(slice(None), *block.seen)], seen, wish, block.inner, block.origin)
        found = drain(steps)
        corner = [part.start for part in block.core]
        fragments = fragments_of(found, own, wish, corner, shape)
        codes[block.number] = fragments.codes
        faces[block.number] = BlockFaces.from_arrays(faces_of(found, fragments).to_arrays())
    numbers = join_blocks(grid, faces.__getitem__, wish)
    labels = np.zeros(shape, np.uint32)
    for block in grid:
        labels[block.core] = settled_block(grid, block, codes[block.number], numbers, faces.__getitem__, 32)
    assert numbers.count == labels.max()
    return labels


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
    parts = [block_table(labels[b.core], [part.start for part in b.core], shape, seams) for b in grid]
    ours, whole = whole_table(parts), object_table(labels, seams)
    assert list(ours) == list(whole)
    for name, column in whole.items():
        np.testing.assert_allclose(ours[name], column, rtol=1e-12)


def test_more_instances_than_labels_can_count_are_refused(monkeypatch):
    monkeypatch.setattr("napari_shiftseg.instances.label._MOST_INSTANCES", 3)
    sizes, first = np.array([4, 4, 4, 1]), np.arange(4)
    assert numbered(sizes, first, 2).max() == 3
    with pytest.raises(SettingsError, match="min_size"):
        numbered(sizes, first, 1)
