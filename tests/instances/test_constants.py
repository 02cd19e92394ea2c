"""The numbers of the room stand in one place, and none moves unseen."""

from math import exp, pi

import numpy as np
from numbers_of import beside, stated

from napari_shiftseg.instances import constants

NUMBERS = {
    "WINDOW": {1: 4096, 2: 256, 3: 64},
    "WINDOW_OF_PLACES": {1: 4096, 2: 512, 3: 64},
    "HALO": {1: 256, 2: 64, 3: 24},
    "MOST_THREADS": 4,
    "CODE_STEP": 2.0**-16,
    "EDGE": 0.5,
    "WIDE_EDGE": 0.9,
    "FLOAT32_POINTS": 1_048_576,
    "CROWDED": 4,
    "FARTHEST_CELL": 1 << 52,
    "KERNEL_REACH": 3.0,
    "POINTS_PER_CELL": 64,
    "FEWEST_CELLS": 2000,
    "MOST_CELLS": 12_000,
    "POINTS_TIMES_CELLS": 20_000_000,
    "ENOUGH": 0.9,
    "FLOAT32_EXTENT": 40.0,
    "NOTHING": -60.0,
    "MOST_NODES": 4_000_000,
    "LONE": 0.5,
    "APART": 1.0,
    "STEPS": 60,
    "STILL": 0.002,
    "WAY": [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875],
    "OFF": 0.75,
    "OPPOSITE": -0.8,
    "DENSER": 3.0,
    "THIN": 0.15,
    "GAPS": 1,
    "NEAREST": 256,
    "TOGETHER": 16,
    "TREE_DIMENSIONS": 3,
    "FEW_MODES": 512,
    "MANY_KERNELS": 4096,
    "TREE_ROWS": 256,
    "FEW_KERNELS": 0.04,
    "CPU_VALUES": 262_144,
    "GPU_VALUES": 16_777_216,
    "KERNEL": 0.25,
    "CLASS_STEP": 1.5,
    "NARROW": 0.05,
    "SAME": 0.5,
    "VALLEY": 0.35,
    "WITHIN": 1.6,
    "ALIKE": 0.3,
    "CANDIDATES": 6,
    "LEAST_MASS": 1.0,
    "FAINT": 0.05,
    "LEAST_PEAK": 0.5,
    "CLIMBED": 0.25,
    "LEAST_SEED": 0.5,
    "LEAST_WIDTH": 0.5,
    "NOISE": 1e-5,
    "MOST_KERNELS": 4000,
    "VOTE_STEPS": 12,
    "REACH": 3,
    "RIM": 4,
    "UNDECIDED": 1,
    "NEW": -1,
    "NONE": 0,
    "ELSEWHERE": 1.5,
    "PART": 0.375,
    "STRIP": 131_072,
    "FACE_PIXELS": 33_554_432,
    "FRAGMENT_BITS": 32,
    "ASKED": -2,
    "WINDOW_BYTES": (41_943_040, 100, 45),
    "MOST_INSTANCES": 4_294_967_295,
    "MOST_NAMED": 6,
    "TABLE_PIXELS": 4_194_304,
    "PART_PIXELS": 4_194_304,
    "AHEAD": ((0, 1), (1, 0), (0, -1), (-1, 0)),
    "BEYOND": ((-1, 0), (0, 1), (1, 0), (0, -1)),
    "CORNER": ((0, 0), (0, 1), (1, 1), (1, 0)),
    "SPLIT_SHARE": 0.2,
    "TOLD_APART": 2.0,
    "COHERENT": 0.75,
    "CRUMB": 0.05,
    "LONGER": 0.2,
}


def test_no_number_moves_unseen():
    assert stated(constants) == NUMBERS
    assert beside("instances/*.py") == []


def test_numbers_follow_from_their_reasons():
    assert exp(-(constants.KERNEL_REACH**2) / 2) < 0.0112  # the kernel is cut where it is next to nothing
    assert 0 < exp(constants.NOTHING) * 1e26 < 1 and np.float32(exp(constants.NOTHING)) > np.finfo(np.float32).tiny
    assert 2 / (2 + pi) > constants.PART  # the share of its border that half of a disk has on the other half
    assert np.iinfo(np.uint32).max == constants.MOST_INSTANCES
    assert all(2 * constants.HALO[ndim] < constants.WINDOW[ndim] for ndim in (1, 2, 3))  # more is computed than thrown away
    assert constants.FLOAT32_EXTENT**2 * np.finfo(np.float32).eps < 1e-3  # three digits of a distance
