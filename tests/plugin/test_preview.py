"""A preview of what is in view: the pixels of the whole run, by fewer tiles."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from napari.layers import Image as ImageLayer
from qtpy.QtCore import Qt

from napari_shiftseg import SegmentSettings, UNet, UNetSpec, load_model, plan_tiles, predict, segment
from napari_shiftseg.events import drain
from napari_shiftseg.instances import LabelSettings
from napari_shiftseg.io import bundled_models
from napari_shiftseg.network import Clustering, Model, ModelRecord, predict_steps
from napari_shiftseg.plugin.layers import KEY
from napari_shiftseg.plugin.preview import words_on_view
from napari_shiftseg.segmentation import decide, view_steps

pytestmark = pytest.mark.gui


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)


KINDS = {
    "offsets": {"coordinates": True},
    "codes": {},
    "no foreground": {"foreground": False, "levels": 2},
    "zero padding": {"padding": "zero", "levels": 2},
}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_the_tiles_of_a_window_give_the_same_bits(save_tiny, options):
    model = load_model(save_tiny("-".join(map(str, options.values())) or "codes", **options))
    image = noise((1, 90, 75))
    plan = plan_tiles(model.spec, image.shape[1:], 16)
    part = plan.within((slice(37, 52), slice(60, 75)))
    assert part.origin == (32, 48) and part.result_shape == (32, 27) and len(part) == 4
    limits = model.record.normalisation.limits(image)
    whole = predict(model, image, plan)
    few = drain(predict_steps(model, image, part, limits=limits)).embedding
    assert np.array_equal(few, whole[:, 32:64, 48:75])


def kept_inside(labels, window):
    """Pixels (of the window) of each instance that stays 4 px inside, or ends where the image ends."""
    inner = labels[window]
    near = np.zeros(labels.shape, bool)
    near[window] = True
    for axis, part in enumerate(window):
        for edge, out in ((part.start, 0), (part.stop, labels.shape[axis])):
            if edge != out:
                band = [slice(None)] * labels.ndim
                band[axis] = slice(max(0, edge - 4), edge + 4)
                near[tuple(band)] = False
    cut = np.unique(labels[~near])
    return {tuple(np.flatnonzero(inner == n)) for n in np.unique(inner) if n > 0 and n not in cut}


def boxes(shape):
    """Boxes of 7 px in four grey values."""
    rng = np.random.default_rng(0)
    image = np.zeros(shape, np.float32)
    for y, x in np.ndindex(shape[0] // 8, shape[1] // 8):
        if rng.random() < 0.7:
            image[8 * y : 8 * y + 7, 8 * x : 8 * x + 7] = rng.choice([0.4, 0.6, 0.8, 1.0])
    return image


def grey_model(foreground):
    """Weights by hand: the embedding is ten times the grey value."""
    spec = UNetSpec(levels=1, features=3, embedding_dim=2, foreground=foreground)
    net = UNet(spec).eval().requires_grad_(False)
    for block in (net.encoder[0], net.decoder[0]):
        for layer in block:
            if hasattr(layer, "weight"):
                layer.weight[0] = 0
                layer.weight[0, 0, 1, 1] = 1
    net.head.weight.zero_()
    net.head.weight[0, 0] = 10
    if foreground:
        net.head.weight[2, 0] = 40
        net.head.bias[2] = -10
    record = ModelRecord(window=(6, 6), clustering=Clustering(bandwidth=0.4, min_size=4, min_density=1.0))
    return Model(spec=spec, module=net, record=record, name="grey", hash="ab12")


def of_nuclei():
    from napari_shiftseg.plugin.samples import nuclei

    if "nuclei" not in bundled_models():
        pytest.skip("no model is bundled")
    return load_model("nuclei"), nuclei()[0][0][:160, :170]


CASES = {
    "nuclei": of_nuclei,
    "codes": lambda: (grey_model(True), boxes((160, 170))),
    "no foreground": lambda: (grey_model(False), boxes((160, 170))),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_instances_inside_a_preview_are_those_of_the_whole_run(case, monkeypatch):
    model, image = case()
    monkeypatch.setattr(LabelSettings, "lattice", lambda self, ndim: (48, 12))  # several windows in a small image
    settings = SegmentSettings(write=16)
    whole = segment(image, model, settings).labels
    preview = drain(view_steps(decide(image, model, settings), {"y": slice(98, 150), "x": slice(100, 150)}))
    assert preview.origin == (96, 96) and preview.labels.shape == (64, 74)
    assert len(preview.plan) < len(plan_tiles(model.spec, image.shape, 16))
    wanted = kept_inside(whole, (slice(96, 160), slice(96, 170)))
    found = {tuple(np.flatnonzero(preview.labels == n)) for n in range(1, preview.labels.max() + 1)}
    assert wanted
    assert wanted <= found


def test_a_preview_of_all_is_the_whole_run(tiny):
    image = noise((2, 40, 48))
    settings = SegmentSettings(write=16)
    model = load_model(tiny)
    preview = drain(view_steps(decide(image, model, settings), {"z": slice(1, 2)}))
    assert np.array_equal(preview.labels[0], segment(image, model, settings).labels[1])
    assert (preview.axes, preview.origin) == ("zyx", (1, 0, 0))


def test_the_button_segments_what_is_in_view(open_widget, qtbot, tiny):
    cells = np.kron(noise((76, 88)), np.ones((8, 8), np.uint8))[:600, :700]
    layer = ImageLayer(cells, name="cells", scale=(0.5, 0.5), translate=(3, 4))
    viewer, widget = open_widget(layer, window=True, show=True)
    widget.form.tile.setCurrentText("64")
    widget.form.tile.changed.emit()
    viewer.scene.camera.center = (0, *layer.data_to_world((570, 600)))
    viewer.scene.camera.zoom = 24
    qtbot.waitUntil(lambda: layer.corner_pixels[0].min() > 511, timeout=60_000)
    qtbot.mouseClick(widget.preview_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    shown = viewer.layers["cells preview instances"]
    assert [found.name for found in viewer.layers] == ["cells", "cells preview instances"]
    assert shown.data.shape == (88, 188)  # the last clustering windows, 256 px apart
    assert np.allclose(shown.data_to_world((0, 0)), layer.data_to_world((512, 512)))
    assert "Preview of 88 x 188 of 600 x 700 px (3.9 %, " in widget.status.text()
    whole = segment(layer.data, load_model(tiny), SegmentSettings(write=64)).labels
    wanted = kept_inside(whole, (slice(512, 600), slice(512, 700)))
    found = {tuple(np.flatnonzero(shown.data == n)) for n in range(1, shown.data.max() + 1)}
    assert wanted and wanted <= found
    assert shown.metadata[KEY]["plan"].write == (64, 64)
    assert [image.name for image in widget.form.layers.choices] == ["cells"]


@pytest.mark.parametrize(("edge", "said"), [(100, "(100 %, "), (64, "(41 %, "), (20, "(4 %, ")])
def test_the_share_of_a_preview_is_said_in_plain_digits(edge, said):
    plan = plan_tiles(UNetSpec(levels=1, convs=1, features=2), (100, 100), write=20)
    preview = SimpleNamespace(plan=plan, labels=np.zeros((edge, edge), np.int32))
    assert said in words_on_view(preview)
