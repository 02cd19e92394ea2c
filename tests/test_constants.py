"""The numbers of the rooms without a folder of tests of their own, and of what is one module: none moves unseen."""

import signal

import pytest
import torch
from numbers_of import beside, stated

from napari_shiftseg import colours, evaluation, picture
from napari_shiftseg.cli import constants as cli
from napari_shiftseg.paper import constants as paper

PAPER = {
    "MARGIN": 6.0,
    "GAP": 0.5,
    "EQUAL": 1e-10,
    "MOST_STEPS": 1000000,
    "TEST_SEED": 1000000,
    "BANDWIDTH": 0.5,
    "SIZES": (49, 50, 51, 52, 53),
    "STARTS": 16,
    "UNTRAINED_STARTS": 8,
}
CLI = {
    "BAD_INPUT": 2,
    "BROKEN_RULE": 3,
    "NO_MEMORY": 4,
    "OUR_MISTAKE": 70,
    "INTERRUPTED": 130,
    "TERMINATED": 143,
    "DEEPEST": 20,
    "MOST_LETTERS": 200,
    "LABEL_WIDTH": 11,
    "WORST_SEAMS": 5,
    "LISTED": 12,
    "PLANNED_EDGE": {1: 65536, 2: 2048, 3: 256},
    "TIMED_EDGE": {1: 4096, 2: 512, 3: 64},
    "WHOLE_EDGE": 1073741824,
    "ITEMSIZES": {"float32": 4, "bfloat16": 2},
    "UNITS": {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40},
    "DRAWN_SHAPE": (256, 256),
    "DRAWN_SPACING": 16,
    "DRAWN_RADIUS": 5.0,
    "DRAWN_COVER": 0.2,
    "LARGEST_TABLE": 16 << 20,
    "MOST_EDGE": 1 << 24,
    "MOST_WHOLE": 1 << 64,
}
EVALUATION = {
    "_FIXED": {"bandwidth", "dip"},
    "_SAID": {"factor", "least_seed", "valley"},
    "VALLEYS": (0.2, 0.35, 0.5, 0.65, 0.8),
    "IOUS": (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95),
    "_GRID": (
        ("bandwidth", (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0)),
        ("factor", (0.7, 0.85, 1.0, 1.2, 1.4)),
        ("least_seed", (0.4, 0.45, 0.5, 0.55, 0.6, 0.65)),
        ("valley", (0.2, 0.35, 0.5, 0.65, 0.8)),
        ("dip", (0.6, 0.7, 0.8, 0.85, 0.9, 1.0)),
        ("threshold", (0.3, 0.4, 0.5, 0.6, 0.7)),
        ("min_size", (8, 16, 32, 36, 64)),
    ),
}
PICTURE = {"_SMALLEST": 400, "_LARGEST": 1200, "_GAP": 8, "_GOLDEN": 0.61803398875}


@pytest.mark.parametrize(
    ("module", "numbers"),
    [(paper, PAPER), (cli, CLI), (evaluation, EVALUATION), (colours, {"_SAMPLE": 100_000}), (picture, PICTURE)],
    ids=["paper", "cli", "evaluation", "colours", "picture"],
)
def test_no_number_moves_unseen(module, numbers):
    found = {name: value for name, value in stated(module).items() if name != "TYPE_CHECKING"}
    assert found == numbers


def test_numbers_follow_from_their_reasons():
    assert beside("paper/*.py") == beside("cli/*.py") == []
    assert (cli.INTERRUPTED, cli.TERMINATED) == (128 + signal.SIGINT, 128 + signal.SIGTERM)
    assert {name: torch.finfo(getattr(torch, name)).bits // 8 for name in ("float32", "bfloat16")} == cli.ITEMSIZES
    assert {edge**ndim for ndim, edge in cli.TIMED_EDGE.items() if ndim > 1} == {1 << 18}
    assert round((5**0.5 - 1) / 2, 11) == picture._GOLDEN  # the number that is farthest from every fraction
    assert paper.GAP * 12 == 2 * 3.0  # twelve codes fit between the means that the loss wants, twice delta_dist apart
