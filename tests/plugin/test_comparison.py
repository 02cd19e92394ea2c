"""Naive tiles beside compliant ones."""

import doctest

import numpy as np
import pytest
import torch

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from napari.components import ViewerModel
from qtpy.QtCore import Qt

from napari_shiftseg import UNet, UNetSpec, plan_tiles, predict
from napari_shiftseg.analysis import compare
from napari_shiftseg.geometry import NAIVE, naive_plan
from napari_shiftseg.plugin.comparison import COMPARED
from napari_shiftseg.plugin.inspect_widget import InspectWidget
from napari_shiftseg.plugin.layers import KEY

pytestmark = pytest.mark.gui


def test_the_example_is_true():
    assert doctest.testmod(compare) == (0, 1)


@pytest.mark.parametrize("spec", [UNetSpec(levels=2, features=2), UNetSpec(levels=1, convs=1, features=2)], ids=["odd", "even"])
def test_the_first_naive_tile_is_in_phase_and_the_next_is_not(spec):
    torch.manual_seed(0)
    net, image = UNet(spec).eval(), np.random.default_rng(0).random((1, 60, 60), np.float32)
    plan = plan_tiles(spec, image.shape[1:], 16)
    made = naive_plan(plan)
    apart = np.abs(predict(net, image, plan) - predict(net, image, made)).max(axis=0)
    (seam, _, *_), period = made.seams()[0], spec.period[0]
    assert apart[:seam, :seam].max() < 1e-6
    assert apart[seam : seam + period, seam : seam + period].max() > 1e-4


@pytest.mark.parametrize("shape", [(40, 48), (3, 40, 48)], ids=["plane", "stack"])
def test_the_button_shows_both(qtbot, put_result, shape):
    viewer = ViewerModel()
    result = put_result(viewer, shape, scale=(2.0,) * len(shape))
    if len(shape) == 3:
        viewer.dims.set_point(0, 2.0)
    widget = InspectWidget(viewer)
    qtbot.addWidget(widget)
    qtbot.mouseClick(widget.form.compare, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not widget.running, timeout=30_000)
    assert "Naive tiles" in widget.form.answer.text(), widget.status.text()
    layers = [viewer.layers[f"cells {role}"] for role in COMPARED]
    assert all(layer.metadata[KEY]["status"] == "non-compliant" for layer in layers)
    _, difference, labels, changed = layers
    at = (1,) if len(shape) == 3 else ()
    other = result.labels[at]
    assert difference.data.shape == (1,) * len(at) + (40, 48)
    assert np.allclose(labels.data_to_world((0,) * len(shape)), (2.0,) * len(at) + (0, 0))
    # the first tile of both is in phase, so only what follows differs
    period = result.plan.spec.period[0]
    inside = np.zeros((40, 48), bool)
    inside[: 16 - period, : 16 - period] = True
    seen = difference.data.reshape(40, 48)
    assert seen[inside].max() < -4 and seen[~inside].max() > -1
    assert np.array_equal(changed.data.reshape(40, 48) > 0, compare.changed_pixels(other, labels.data.reshape(40, 48)))
    assert viewer.canvas.grid.enabled and all(layer.visible for layer in layers)
    widget.form.beside.click()
    assert not viewer.canvas.grid.enabled and not any(layer.visible for layer in layers)
    assert widget.layer.metadata[KEY]["role"] in ("instances", "embedding")


@pytest.mark.parametrize("how", ["one period", "shifted"])
def test_the_rules_can_be_broken_in_other_ways(qtbot, put_result, how):
    viewer = ViewerModel()
    result = put_result(viewer, (40, 48))
    widget = InspectWidget(viewer)
    qtbot.addWidget(widget)
    widget.form.how.setCurrentIndex(widget.form.how.findData(how))
    qtbot.mouseClick(widget.form.compare, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not widget.running, timeout=30_000)
    assert NAIVE[how] in widget.form.answer.text(), widget.status.text()
    known = viewer.layers["cells naive instances"].metadata[KEY]
    assert known["status"] == "non-compliant" and known["violations"]
    assert known["plan"].write == naive_plan(result.plan, how).write
    assert viewer.layers["cells difference"].data.max() > -1
