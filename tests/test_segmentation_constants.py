"""The numbers of the segmentation stand in one place, and none moves unseen."""

from numbers_of import beside, stated

from napari_shiftseg.segmentation import constants

NUMBERS = {
    "BASE": 440401920,
    "PER_PIXEL": 28,
    "DISK_PER_PIXEL": 1.0,
    "DEFAULT_MEMORY": 4294967296,
    "RESULT_SHARE": 0.6,
    "SMALLEST_PASS": 16777216,
    "MOST_TILES": 1048576,
    "CHUNK_BUDGET": 268435456,
    "LOOK_BUDGET": 33554432,
    "CACHE": 268435456,
    "LARGEST": {2: 4096, 3: 512},
    "WORTH_IT": 0.8,
    "MOST_THREADS": 4,
    "KEPT_FACES": 256,
    "PATIENCE": 0.2,
    "WRITERS": 2,
    "LABELS": 2,
    "PARTS": 1,
    "SMALLEST_LEVEL": 256,
    "AHEAD": 4,
    "LEAST_PIXELS": 2097152,
    "WORKER_BYTES": 200000000,
    "TRIES": {"killed": 10, "failed": 3},
    "SCHEDULER_PATIENCE": 0.5,
    "CONNECT": 6,
    "CLOSING": 10,
    "ASK_EVERY": 1.0,
    "BELOW": 0.8,
    "ABOVE": 0.25,
    "NARROW": 0.1,
    "FAINT": 0.25,
    "SPARSE": 4.0,
    "SLAB": 4194304,
    "AT_ONCE": 65536,
    "FRAMES": 5,
    "FOUND_EDGE": {2: 512, 3: 96},
    "SCALES": (0.25, 0.5, 2.0, 4.0),
    "RUNS": 100,
    "FEW": 32,
    "SMALL": {2: 128, 3: 48},
    "PLACES": (0.5, 0.25, 0.75),
    "LONGEST": 3.0,
    "TRIED": ((1, 4), (3, 8), (1, 2), (3, 4), (1, 1), (3, 2), (2, 1), (3, 1), (4, 1)),
    "MEASURED_PLACES": 3,
    "MEASURED_EDGE": {2: 256, 3: 64},
    "LEAST_MEASURED": {2: 24, 3: 8},
    "UNUSUAL": 0.1,
    "ABOUT": (1.0, 4 / 3),
    "MICROMETRES": {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "meter": 1e6, "angstrom": 1e-4},
    "JOB_VERSION": 1,
    "EVERYTHING": 67108864,
    "LINE": 100,
}


def test_no_number_moves_unseen():
    assert stated(constants) == NUMBERS
    assert beside("segmentation/*.py") == []


def test_numbers_follow_from_their_reasons():
    assert constants.LOOK_BUDGET < constants.CHUNK_BUDGET <= constants.DEFAULT_MEMORY
    # a clustering window, 256 px or 64 px in 3D, fits the smallest blocks, which are a sixteenth of the largest
    assert constants.LARGEST[2] // 16 == 256 and constants.LARGEST[3] // 16 * 2 == 64
    assert constants.MOST_TILES > 400 * (12_288 // 256) ** 2, "far more than any image has of tiles that pay"
    assert constants.TRIES["killed"] > constants.TRIES["failed"] > 1, "workers die of other things than their task"
