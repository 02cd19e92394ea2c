"""The numbers of the plugin stand in one place, and none moves unseen; beyond three parameters, they are named."""

import ast

import numpy as np
import pytest

pytest.importorskip("napari")

from numbers_of import PACKAGE, beside, stated

from napari_shiftseg.plugin import constants

NUMBERS = {
    "MOST_TILES": 20000,
    "MOST_SCENES": 24,
    "PREVIEW_PAUSE": 100,
    "PREVIEW_CROP": {1: (256,), 2: (256, 256), 3: (12, 96, 96)},
    "STRIPE": 24,
    "FOOT_LINES": 5,
    "LEAST_WIDTH": 300,
    "NAME_WIDTH": 120,
    "KEEP_PAUSE": 400,
    "MOST_PACES": 50,
    "WASTE": 3.0,
    "LAST_WAIT": 2.0,
    "WHOLE_BYTES": 67108864,
    "MOST_FEATURES": 200000,
    "LIVE_EVERY": 1.0,
    "DRAWING_SHARE": 5,
    "VIEW_REST": 300,
    "VIEW_EVERY": 0.3,
    "MOST_VIEWED": 64,
    "UNKNOWN_RANGE": (-1.0, 1.0),
    "READ_BYTES": 67108864,
    "VERIFIED": 1048576,
    "HIGHLIGHTED_BYTES": 1073741824,
    "DIFFERENCE_FLOOR": 1e-06,
    "VIEW_SHARE": 0.95,
    "MOST_STRIDE": 50,
    "MOST_BOX_LINES": 3000,
    "CLOSE": 3.0,
    "LINE_WIDTH": {"seams": 2.5, "grid": 1.5},
    "LINE_OPACITY": {"seams": 0.9, "grid": 0.7},
    "LINES_AROUND": {"seams": 0.8, "grid": 0.5},
    "PLOT_ROW": 46,
    "PLOT_TOP": 8,
    "PLOT_BOTTOM": 40,
    "PLOT_SIDE": 12,
    "SIZE_PLOT": 110,
    "GRIP": 6,
    "SIZE_BINS": 60,
    "TUNE_PAUSE": 150,
    "CLICK": 4,
    "LOOKED_UP": 16777216,
    "PIXELS_AT_ONCE": 4194304,
    "BACKGROUND": 0,
    "OTHERS": 1,
    "FIRST": 2,
    "OBJECT_PLOT": 210,
    "OBJECT_LEFT": 62,
    "OBJECT_BOTTOM": 34,
    "OBJECT_TOP": 8,
    "OBJECT_BINS": 40,
    "MOST_ROUND": 3000,
    "MOST_LISTED": 500,
    "DIMMED": 0.2,
    "UNKNOWN_COLOUR": (0.5, 0.5, 0.5, 1.0),
}
# Called by Qt or by a job's end, which give what they give by place, and by scripts of users.
CALLED_BACK = {"_on_moved", "_on_end", "layer_tuples"}


def test_no_number_moves_unseen():
    found = {name: value for name, value in stated(constants).items() if name != "TYPE_CHECKING"}
    assert found == NUMBERS
    assert beside("plugin/*.py") == []


def test_numbers_follow_from_their_reasons():
    assert np.finfo(np.float32).eps * 10 == pytest.approx(constants.DIFFERENCE_FLOOR, rel=0.2)
    assert constants.LINES_AROUND["seams"] != constants.LINES_AROUND["grid"]


def test_beyond_three_parameters_they_are_named():
    found = []
    for path in sorted((PACKAGE / "plugin").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name not in CALLED_BACK:
                given = [
                    one.arg for one in (*node.args.posonlyargs, *node.args.args) if one.arg not in ("self", "cls", "parent")
                ]
                found += [f"{path.name}: {node.name}"] if len(given) > 3 else []
    assert found == []
