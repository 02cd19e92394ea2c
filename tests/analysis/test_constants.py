"""The numbers of the room stand in one place, and none moves unseen."""

import numpy as np
import torch
from numbers_of import beside, stated

from napari_shiftseg.analysis import constants

NUMBERS = {
    "EQUAL": {torch.float64: 1e-10, torch.float32: 2e-06},
    "SHIFTS": (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 24, 25, 27, 32),
    "SIZES": range(8, 320),
    "DRAWS": 3,
    "SLIGHT": 0.05,
    "COMPARED": {1: 512, 2: 96, 3: 24},
    "TOLERANCE": {"float32": 1e-05, "tf32": 0.002, "float16": 0.002, "bfloat16": 0.02},
    "DEFAULT_MEMORY": 2147483648,
    "SEGMENT": {1: 1, 2: 64, 3: 32},
    "SLAB_BYTES": 67108864,
    "STRAIGHT_PIXELS": 5,
    "STRAIGHT_SHARE": 0.8,
    "CONTROLS": 8,
    "RESAMPLES": 999,
    "FEWEST_SEGMENTS": 3,
    "FEWEST_LINES": 4,
    "LEVELS": 6,
    "SAMPLE_EDGE": {1: 4096, 2: 256, 3: 64},
    "MOST_SAMPLES": {1: 9, 2: 3, 3: 2},
    "KERNEL": [0.0625, 0.25, 0.375, 0.25, 0.0625],
    "FLOOR": 0.01,
    "SMALLEST": 16,
    "NEARBY": 8.0,
    "RING": 3,
    "UNSURE": (0.1, 0.9),
    "FEWEST_OBJECTS": 5,
    "NEXT_TO_NONE": 0.005,
    "TAIL": 0.005,
    "PARTS": 10,
    "ALARMS": 0.02,
    "MARGINS": (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0),
    "SAID": 2,
    "HEIGHT": 0.5,
    "PROMINENCE": 0.3,
    "MIDDLE": 512,
    "REPEATS": 3,
    "SAME_STEP": 1e-6,
    "METERS": {
        "angstrom": 1e-10,
        "picometer": 1e-12,
        "nanometer": 1e-9,
        "micrometer": 1e-6,
        "millimeter": 1e-3,
        "centimeter": 1e-2,
        "decimeter": 1e-1,
        "meter": 1.0,
        "inch": 0.0254,
    },
}


def test_no_number_moves_unseen():
    assert stated(constants) == NUMBERS
    assert beside("analysis/*.py") == []


def test_numbers_follow_from_their_reasons():
    for dtype, equal in constants.EQUAL.items():
        assert 10 * torch.finfo(dtype).eps < equal < 1e-5  # above rounding, below real differences
    assert 10 * np.finfo(np.float32).eps < constants.TOLERANCE["float32"] < 100 * np.finfo(np.float32).eps
    assert all(2 < constants.TOLERANCE[name] / torch.finfo(getattr(torch, name)).eps < 3 for name in ("float16", "bfloat16"))
    kernel, places = constants.KERNEL, np.arange(-2, 3)
    assert kernel.sum() == 1 and (kernel * places**2).sum() == 1  # variance 1
    assert (2 * (constants.RESAMPLES - 1)) ** -0.5 < 0.0225  # the spread of a spread
    assert constants.SEGMENT.keys() == constants.SAMPLE_EDGE.keys() == constants.MOST_SAMPLES.keys() == {1, 2, 3}
    assert [edge**n * most**n for n, edge, most in zip((2, 3), (256, 64), (3, 2), strict=True)] == [589_824, 2_097_152]
