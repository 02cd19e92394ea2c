"""Outlines run on the edges of pixels: filling them gives the labels back, whatever the objects look like."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from napari_shiftseg.errors import ImageError, SettingsError
from napari_shiftseg.instances import outlines, parts, whole_parts
from napari_shiftseg.instances import outlines as outline_function

PLANES = arrays.arrays(np.int64, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3))
RING = [[5, 5, 5], [5, 0, 5], [5, 5, 5]]
CASES = {
    "hole": RING,
    "hole that opens at a corner": [[5, 5, 5], [5, 0, 5], [5, 5, 0]],
    "object in a hole": [[5, 5, 5, 5], [5, 8, 8, 5], [5, 8, 8, 5], [5, 5, 5, 5]],
    "holes that touch at a corner": [[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]],
    "pixels that touch at corners": [[7, 0, 7], [0, 7, 0], [7, 0, 7]],
    "two objects across a corner": [[1, 2], [2, 1]],
    "pieces": [[3, 0, 3, 0, 3]],
    "one pixel": [[9]],
    "large numbers, with gaps": [[4_294_967_295, 0, 70_000], [70_000, 70_000, 1]],
    "nothing": [[0, 0], [0, 0]],
}


def crossed(ring):
    """Corners that are met more than once."""
    corners = list(map(tuple, ring.tolist()))
    return len(corners) - len(set(corners))


def filled(polygons, shape):
    """Pixels whose centre is inside by the even-odd rule: to the left of an odd number of upright edges."""
    inside = np.zeros((shape[0], shape[1] + 1), bool)
    for ring in itertools.chain.from_iterable(polygons):
        for (x, y), (next_x, next_y) in zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True):
            assert (x == next_x) != (y == next_y), "an edge follows the edges of pixels"
            if x == next_x:
                inside[min(y, next_y) : max(y, next_y), x:] ^= True
    assert not inside[:, -1].any()
    return inside[:, :-1]


def area(ring):
    x, y = ring.T
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2


def check(labels):
    labels = np.asarray(labels)
    found = list(outlines(labels))
    assert sorted(number for number, _ in found) == np.unique(labels[labels > 0]).tolist()
    for number, polygons in found:
        np.testing.assert_array_equal(filled(polygons, labels.shape), labels == number)
        for outer, *holes in polygons:
            assert area(outer) > 0
            assert all(area(hole) < 0 for hole in holes)
            assert not any(map(crossed, (outer, *holes)))
            pixels = filled([[outer]], labels.shape)
            assert all((filled([[hole]], labels.shape) <= pixels).all() for hole in holes)


@pytest.mark.parametrize("labels", CASES.values(), ids=CASES)
def test_filled_outlines_are_the_labels(labels):
    check(labels)


@settings(max_examples=150, deadline=None)
@given(PLANES)
def test_filled_outlines_are_the_labels_of_any_plane(labels):
    check(labels)


def test_pieces_and_holes_are_told_apart():
    count = {name: [len(polygon) for _, polygons in outlines(np.array(labels)) for polygon in polygons]
             for name, labels in CASES.items()}  # fmt: skip
    assert count["hole"] == [2]
    assert count["hole that opens at a corner"] == [2]  # rings that touch at a point, and none that meets itself
    assert count["pixels that touch at corners"] == [1] * 5
    assert count["two objects across a corner"] == [1] * 4
    assert count["nothing"] == []


@pytest.mark.parametrize("pixels", [1, 16, 1000])
def test_objects_are_whole_in_every_part_whatever_its_size(pixels, monkeypatch):
    labels = np.kron(np.random.default_rng(3).integers(0, 30, (9, 11)), np.ones((3, 2), int))
    found = [part.index.tolist() for part in whole_parts(labels, pixels=pixels)]
    assert sorted(itertools.chain.from_iterable(found)) == np.unique(labels[labels > 0]).tolist()
    for part in whole_parts(labels, pixels=pixels):
        for place, number in enumerate(part.index.tolist(), 1):
            whole = np.zeros(labels.shape, bool)
            whole[part.window] = part.places == place
            np.testing.assert_array_equal(whole, labels == number)
    monkeypatch.setattr(parts.whole_parts, "__kwdefaults__", {"pixels": pixels})
    for number, polygons in outlines(labels):
        np.testing.assert_array_equal(filled(polygons, labels.shape), labels == number)


def test_what_is_no_plane_of_labels_is_refused():
    with pytest.raises(SettingsError, match="3 axes"):
        list(outline_function(np.zeros((2, 3, 4), int)))
    with pytest.raises(ImageError, match="float64"):
        list(outline_function(np.zeros((3, 4))))
    with pytest.raises(ImageError, match="negative"):
        list(outline_function(np.array([[-1, 2]])))
