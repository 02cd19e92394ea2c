"""Contacts across a face are those that a look at each pair of pixels finds."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_shiftseg.instances.contacts import agreeing, touching


def touching_naively(before, after):
    pairs = set()
    for place in np.ndindex(before.shape):
        for step in product((-1, 0, 1), repeat=before.ndim):
            beside = tuple(p + s for p, s in zip(place, step, strict=True))
            if all(0 <= p < n for p, n in zip(beside, before.shape, strict=True)):
                pairs.add((int(before[place]), int(after[beside])))
    return sorted((a, b) for a, b in pairs if a > 0 and b > 0)


@st.composite
def faces(draw):
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    shape = tuple(rng.integers(1, 12, draw(st.integers(0, 3))) // draw(st.integers(1, 2)) + 1)
    coarse, most = draw(st.integers(1, 4)), draw(st.sampled_from([1, 3, 30]))
    sides = []
    for _ in range(2):
        side = rng.integers(0, most + 1, shape)
        side = side[np.ix_(*(np.arange(n) // coarse for n in shape))] if shape else side
        sides.append(np.where(rng.random(shape) < 0.8, side, 0).astype(draw(st.sampled_from([np.int32, np.int64]))))
    if shape and draw(st.booleans()):  # both sides change at the same places, as they do in an image
        sides[1] = np.where(sides[1] % 2, sides[0], sides[1])
    return sides


@pytest.mark.parametrize("strip", [1, 20, 1 << 17])
def test_contacts_are_those_of_all_pairs_of_pixels(strip):
    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(faces())
    def check(sides):
        found = touching(*sides)
        assert found.shape == (len(found), 2)
        assert list(map(tuple, found.tolist())) == touching_naively(*sides)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_shiftseg.instances.contacts.STRIP", strip)
        check()


def test_large_numbers_make_pairs():
    most = 2**31 - 1
    before, after = np.array([[most, 0], [0, 5]], np.int32), np.array([[0, most], [0, 0]], np.int32)
    assert touching(before, after).tolist() == [[5, most], [most, most]]


def test_modes_agree_within_less_than_a_bandwidth():
    a, b = np.zeros((3, 2)), np.array([[0.3, 0.3], [0.0, 0.5], [0.6, 0.0]])
    assert agreeing(a, b, 0.5).tolist() == [True, False, False]
