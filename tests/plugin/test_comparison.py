"""Naive tiles beside compliant ones."""

import doctest

import numpy as np
import pytest
import torch

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from napari.components import ViewerModel
from qtpy.QtCore import Qt

from napari_shiftseg import UNet, UNetSpec, plan_tiles, predict, violations
from napari_shiftseg.analysis import naive
from napari_shiftseg.errors import TilingError
from napari_shiftseg.plugin.comparison import COMPARED
from napari_shiftseg.plugin.inspect_widget import InspectWidget
from napari_shiftseg.plugin.layers import KEY

pytestmark = pytest.mark.gui

NETS = {
    "odd output": (UNetSpec(levels=3), "write-multiple"),
    "even output": (UNetSpec(levels=1, convs=1), "write-multiple"),
    "zero padding": (UNetSpec(levels=2, padding="zero"), "context"),
    "3D": (UNetSpec(ndim=3, levels=2), "write-multiple"),
}


@pytest.mark.parametrize("write", [64, 10**6])
@pytest.mark.parametrize(("spec", "rule"), NETS.values(), ids=NETS)
def test_naive_tiles_break_a_rule_on_each_axis(spec, rule, write):
    plan = plan_tiles(spec, (200,) * spec.ndim, write)
    made = naive.naive_plan(plan)
    assert {v.axis for v in violations(made) if v.rule == rule} == set(range(spec.ndim))
    assert made.result_shape == plan.result_shape
    if rule == "write-multiple" and write == 64:
        natural = spec.output_size(spec.input_size(64, 0), 0)
        assert made.write[0] == (natural if natural % spec.period[0] else natural + spec.period[0] // 2)


def test_a_small_image_has_nothing_to_compare():
    with pytest.raises(TilingError, match="larger"):
        naive.naive_plan(plan_tiles(UNetSpec(levels=3), (10, 10)))


def test_the_example_is_true():
    assert doctest.testmod(naive) == (0, 1)


@pytest.mark.parametrize("spec", [UNetSpec(levels=2, features=2), UNetSpec(levels=1, convs=1, features=2)], ids=["odd", "even"])
def test_the_first_naive_tile_is_in_phase_and_the_next_is_not(spec):
    torch.manual_seed(0)
    net, image = UNet(spec).eval(), np.random.default_rng(0).random((1, 60, 60), np.float32)
    plan = plan_tiles(spec, image.shape[1:], 16)
    made = naive.naive_plan(plan)
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
    assert np.array_equal(changed.data.reshape(40, 48) > 0, naive.changed_pixels(other, labels.data.reshape(40, 48)))
    assert viewer.canvas.grid.enabled and all(layer.visible for layer in layers)
    widget.form.beside.click()
    assert not viewer.canvas.grid.enabled and not any(layer.visible for layer in layers)
    assert widget.layer.metadata[KEY]["role"] in ("instances", "embedding")
