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
from napari_shiftseg.plugin.comparison import COMPARED, Beside
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


def views(viewer):
    """Labels and colours that each view of the grid shows, from left to right."""
    grid = viewer.canvas.grid
    assert grid.enabled
    shown = [[viewer.layers[index] for index in inside] for _, inside in grid.iter_viewboxes(viewer.layers)]
    names = [[layer.name for layer in view if layer.visible] for view in shown]
    return [tuple(name for name in reversed(view) if "instances" in name or "RGB" in name) for view in names if view]


@pytest.mark.parametrize("keep", [("embedding RGB", "instances"), ("instances",)], ids=["all", "labels alone"])
def test_two_views_whatever_layers_there_are(qtbot, put_result, keep):
    viewer = ViewerModel()
    put_result(viewer, (40, 48))
    for layer in [layer for layer in viewer.layers if layer.metadata and layer.metadata[KEY]["role"] not in keep]:
        viewer.layers.remove(layer)
    made = [layer for layer in viewer.layers if layer.metadata]
    known = made[-1].metadata[KEY]
    compared = [viewer.add_image(np.zeros((40, 48)), name=f"cells {role}") for role in COMPARED]
    for layer, role in zip(compared, COMPARED, strict=True):
        layer.metadata = {KEY: {**known, "role": role}}
    beside = Beside(viewer)
    beside.show([*made, *compared], made[-1])
    assert len(views(viewer)) == 2
    assert [("cells instances" in view, "cells naive instances" in view) for view in views(viewer)] in (
        [(True, False), (False, True)],
        [(False, True), (True, False)],
    )
    viewer.layers.remove(compared[0])
    assert len(views(viewer)) == 2
    beside.end()
    assert not viewer.canvas.grid.enabled


@pytest.mark.parametrize("shape", [(40, 48), (3, 40, 48)], ids=["plane", "stack"])
def test_the_button_shows_both(qtbot, put_result, shape):
    viewer = ViewerModel()
    result = put_result(viewer, shape, scale=(2.0,) * len(shape))
    if len(shape) == 3:
        viewer.dims.set_point(0, 2.0)
    widget = InspectWidget(viewer)
    qtbot.addWidget(widget)
    qtbot.mouseClick(widget.form.compare, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
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
    assert views(viewer) == [("cells instances", "cells embedding RGB"), ("cells naive instances", "cells naive embedding RGB")]
    assert [layer.name for layer in viewer.layers if layer.name_overlay.visible] == ["cells instances", "cells naive instances"]
    # who adds, removes or moves other layers sees two views all the same
    other = viewer.add_image(np.zeros((40, 48)), name="mine")
    viewer.layers.move(viewer.layers.index(other), 0)
    assert len(views(viewer)) == 2 and "cells naive instances" in views(viewer)[1]
    camera, canvas = viewer.scene.camera, viewer.canvas.size
    size = 2 * np.array([40, 48]) * camera.zoom
    assert np.all(size <= (canvas[0], canvas[1] / 2)) and np.any(size > 0.9 * np.array([canvas[0], canvas[1] / 2]))
    assert np.allclose(camera.center[-2:], (39, 47))
    widget.form.beside.click()
    assert (viewer.canvas.grid.enabled, viewer.canvas.grid.stride, viewer.canvas.grid.shape) == (False, 1, (-1, -1))
    assert not any(layer.visible for layer in layers) and not any(layer.name_overlay.visible for layer in viewer.layers)
    assert widget.layer.metadata[KEY]["role"] in ("instances", "embedding")


@pytest.mark.parametrize("how", ["one period", "shifted"])
def test_the_rules_can_be_broken_in_other_ways(qtbot, put_result, how):
    viewer = ViewerModel()
    result = put_result(viewer, (40, 48))
    widget = InspectWidget(viewer)
    qtbot.addWidget(widget)
    widget.form.how.setCurrentIndex(widget.form.how.findData(how))
    qtbot.mouseClick(widget.form.compare, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    assert NAIVE[how] in widget.form.answer.text(), widget.status.text()
    known = viewer.layers["cells naive instances"].metadata[KEY]
    assert known["status"] == "non-compliant" and known["violations"]
    assert known["plan"].write == naive_plan(result.plan, how).write
    assert viewer.layers["cells difference"].data.max() > -1
