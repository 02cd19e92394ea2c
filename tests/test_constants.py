"""The numbers of the rooms without a folder of tests of their own, and of what is one module: none moves unseen."""

import pytest
from numbers_of import beside, stated

from napari_shiftseg import colours, evaluation, picture
from napari_shiftseg.paper import constants as paper

PAPER = {
    "GAP": 0.5,
    "EQUAL": 1e-10,
    "TEST_SEED": 1000000,
    "STARTS": 16,
    "UNTRAINED_STARTS": 8,
}
EVALUATION = {
    "IOUS": (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95),
    "_GRID": (
        ("bandwidth", (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0)),
        ("dip", (0.6, 0.7, 0.8, 0.85, 0.9, 1.0)),
        ("threshold", (0.3, 0.4, 0.5, 0.6, 0.7)),
        ("min_size", (8, 16, 32, 36, 64)),
    ),
}
PICTURE = {"_SMALLEST": 400, "_LARGEST": 1200, "_GAP": 8, "_GOLDEN": 0.61803398875}


@pytest.mark.parametrize(
    ("module", "numbers"),
    [(paper, PAPER), (evaluation, EVALUATION), (colours, {"_SAMPLE": 100_000}), (picture, PICTURE)],
    ids=["paper", "evaluation", "colours", "picture"],
)
def test_no_number_moves_unseen(module, numbers):
    found = {name: value for name, value in stated(module).items() if name != "TYPE_CHECKING"}
    assert found == numbers


def test_numbers_follow_from_their_reasons():
    assert beside("paper/*.py") == []
    assert round((5**0.5 - 1) / 2, 11) == picture._GOLDEN  # the number that is farthest from every fraction
    assert paper.GAP * 12 == 2 * 3.0  # twelve codes fit between the means that the loss wants, twice delta_dist apart
