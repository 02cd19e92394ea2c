"""The numbers of the room stand in one place, and none moves unseen."""

import pytest
from numbers_of import beside, stated

from napari_shiftseg import UNetSpec
from napari_shiftseg.geometry import constants, plan_tiles

NUMBERS = {
    "FLOPS_PER_PIXEL": 1500000.0,
    "BYTES_PER_PIXEL": 1504.0,
    "DEFAULT_MEMORY": 2147483648,
    "LARGEST_EDGE": {1: 1048576, 2: 512, 3: 96},
    "LARGEST_IMAGE": 134217728,
    "CANONICAL_EDGE": {1: 4096, 2: 192, 3: 48},
    "STRIP_PIXELS": {1: 32768, 2: 131072, 3: 32768},
    "STRIP_ROWS": {1: (4096, 65536), 2: (32, 256), 3: (1, 64)},
    "STRIP_PERIODS": {1: 1, 2: 1, 3: 2},
    "TALL": 16,
    "THIN": {1: 0.2, 2: 0.2, 3: 0.05},
    "NARROWER": 0.75,
    "FACTORS": (
        (1, 8), (1, 6), (1, 5), (1, 4), (1, 3), (3, 8), (1, 2), (5, 8), (3, 4),
        (1, 1), (5, 4), (3, 2), (2, 1), (5, 2), (3, 1), (4, 1), (5, 1), (6, 1), (8, 1),
    ),
    "LARGEST_RATIO": 64,
    "RESAMPLED": 8,
    "TURNED": 8,
    "MOST_LEVELS": 27,
    "MOST_CONVS": 256,
    "LEAST_STEP": 1e-30,
    "MOST_STEP": 1e30,
}  # fmt: skip


def test_no_number_moves_unseen():
    assert stated(constants) == NUMBERS
    assert beside("geometry/*.py") == []


def test_numbers_follow_from_their_reasons():
    """> Ronneberger et al. 2015: four poolings, 64 features"""
    assert 8 * max(max(pair) for pair in constants.FACTORS) == constants.LARGEST_RATIO
    unet = UNetSpec(levels=4, features=64).lattice
    assert pytest.approx(unet.flops_per_pixel, rel=0.03) == constants.FLOPS_PER_PIXEL
    assert pytest.approx(unet.bytes_per_pixel, rel=0.001) == constants.BYTES_PER_PIXEL
    edge = constants.LARGEST_EDGE[2]
    assert round(plan_tiles(UNetSpec(levels=3), (16 * edge, 16 * edge), edge).redundancy, 2) == 1.13
