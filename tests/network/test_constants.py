"""The numbers of the room stand in one place, and none moves unseen."""

import numpy as np
from numbers_of import beside, stated

from napari_shiftseg.network import Clustering, Limits, constants

NUMBERS = {
    "BATCH_PIXELS": 4194304,
    "MOST_TILES": 8,
    "AHEAD": 2,
    "RIGHT_VOLUMES": 91500,
    "WRONG_SINCE": 90800,
    "BFLOAT16_SINCE": 8,
    "TRIAL_SHARE": 0.9,
    "CLIP": (-1.0, 4.0),
    "SLAB": 262144,
    "SAMPLE": 4194304,
    "PATCH": {1: 4096, 2: 64, 3: 16},
    "FEWEST": 256,
    "FRAMES": 64,
    "EXACT": 9007199254740992,
    "SEEN": 4.0,
    "SQUARE": 16,
    "LEAST_EMPTY": 0.004,
    "MOST_EMPTY": 0.95,
    "GAP": 0.15,
    "FEW": 0.15,
    "AROUND": 5,
    "SMALLEST": 16,
    "HALVINGS": 8,
    "FARTHEST": 1000000.0,
    "FEW_PIECES": 4,
    "MANY": 3,
    "SMALL": 0.25,
    "LEVELS": 8,
    "IGNORE": -1,
    "FIRST_BANDWIDTH": {False: 0.5, True: 5.0},
    "LARGEST_EXPONENT": 20.0,
    "SURROUNDINGS": {2: 24, 3: 8},
    "SURROUNDINGS_SHARE": 0.75,
    "FEWEST_PIXELS": 8,
    "SPREAD_WEIGHT": 4.0,
    "SEED_WEIGHT": 10.0,
    "USUAL_SIZE": {2: 400, 3: 4000},
    "MOST_WEIGHT": 4.0,
    "MOST_AT_ONCE": 2048,
    "STATISTICS_BATCHES": 100,
    "MOST_SEED": 1 << 63,
    "COPY_BYTES": {"cuda": 1073741824, "mps": 268435456, "cpu": 268435456},
    "LARGEST_EDGE": 8192,
    "MOST_POWER": 16,
    "MOST_ZOOM": 100,
    "MOST_STEPS": 1000000000,
}


def test_no_number_moves_unseen():
    assert stated(constants) == NUMBERS
    assert beside("network/*.py") == []


def test_numbers_follow_from_their_reasons():
    assert 2 ** (np.finfo(np.float64).nmant + 1) == constants.EXACT  # integers of double precision
    assert constants.SEEN == constants.CLIP[1] == Limits(low=(0.0,), high=(1.0,)).clip[1]  # what is cut off is not seen
    assert Clustering().min_size == constants.SMALLEST
    assert all(edge**ndim <= constants.SAMPLE // constants.FEWEST for ndim, edge in constants.PATCH.items())
    assert constants.IGNORE < 0  # no label of an object
