"""The numbers of the room stand in one place, and none moves unseen."""

import numpy as np
from numbers_of import beside, stated

from napari_shiftseg.io import chunk_edges, constants

NUMBERS = {
    "MOST_CHANNELS": 5,
    "EAGER_BYTES": 268435456,
    "LARGEST_PIXEL_UM": 100.0,
    "LARGEST_STEP": 1e6,
    "CHUNK_SPARE": 1 << 20,
    "MOST_LISTED": 100_000,
    "MOST_ABSENT_PIXELS": 1 << 30,
    "MOST_ABSENT_CHUNKS": 1 << 14,
    "LEAST_SHARE": 1000,
    "SLIDES": 16,
    "MOST_PLANES": 65536,
    "PLANE_BYTES": 100,
    "DEEPEST_XML": 100,
    "MOST_ELEMENTS": 1 << 19,
    "INFLATED": 1 << 14,
    "LARGEST_EDGE": 1 << 24,
    "LARGEST_METADATA": 64 << 20,
    "MOST_PARTS": 1 << 22,
    "LARGEST_HEADER": 10_000,
    "DIGEST": 16,
    "STORE_VERSION": 1,
    "LARGEST_LABEL": 4294967295,
    "DEEP": 16,
    "PLANE_CHUNK": (1, 512, 512),
    "STACK_CHUNK": (64, 128, 128),
    "SMALLEST_LEVEL": 256,
    "TABLE_ROWS": 65536,
    "LARGEST_ROI": 60535,
    "ROI_MOVE": 0.0,
    "ROI_LINE": 1.0,
    "ROI_CLOSE": 4.0,
}


def test_no_number_moves_unseen():
    assert stated(constants) == NUMBERS
    assert beside("io/*.py", "views.py") == []


def test_numbers_follow_from_their_reasons():
    assert np.iinfo(np.uint32).max == constants.LARGEST_LABEL
    assert 10 < constants.LARGEST_PIXEL_UM < 25_400 / 72  # a pixel of a microscope, and one of a screen or printer
    for chunk in (constants.PLANE_CHUNK, constants.STACK_CHUNK):
        assert 2**20 <= 4 * np.prod(chunk) <= 2**22
    # blocks of the smallest level hold whole chunks of every level below it
    assert constants.PLANE_CHUNK[1] % constants.SMALLEST_LEVEL == 0
    assert chunk_edges("tczyx", (3, 2, 16, 9, 9)) == {"t": 1, "c": 1, "z": 64, "y": 128, "x": 128}
