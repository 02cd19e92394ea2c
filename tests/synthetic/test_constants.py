"""The numbers of the room stand in one place, and none moves unseen."""

import numpy as np
from numbers_of import beside, stated

from napari_shiftseg.synthetic import BlobRecipe, constants

NUMBERS = {
    "LARGEST_LABEL": 2147483647,
    "LARGEST_EXACT_FLOAT32": 16777216,
    "LARGEST_RADIUS": 10000,
    "CONTROL_SPACING": 20,
    "GAP": 2,
    "OVERLAP": 0.1,
    "TRIES": 300,
    "BACKGROUND": 0.06,
    "BLUR": 0.7,
    "PIXEL_BYTES": 16,
}


def test_no_number_moves_unseen():
    assert stated(constants) == NUMBERS
    assert beside("synthetic/*.py") == []


def test_numbers_follow_from_their_reasons():
    assert constants.LARGEST_LABEL == np.iinfo(np.int32).max >= 3 * constants.LARGEST_RADIUS**2
    assert np.float32(constants.LARGEST_EXACT_FLOAT32) == np.float32(constants.LARGEST_EXACT_FLOAT32 + 1)
    assert round(constants.BACKGROUND / BlobRecipe(shape=(64, 64), count=1).noise, 9) == 3
