"""The embedding of a large result, computed in a thread where the viewer looks."""

import threading
from importlib import import_module

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from napari_shiftseg import SegmentSettings, load_model, segment
from napari_shiftseg.io import Image
from napari_shiftseg.plugin.layers import KEY
from napari_shiftseg.plugin.reader import get_reader
from napari_shiftseg.plugin.subject import VIEWED

pytestmark = pytest.mark.gui


def finish(qtbot, widget):
    assert widget.run_button.isEnabled(), widget.form.verdict.text()
    widget.run()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)


def in_memory(tiny, data, **settings):
    return segment(data, load_model(tiny), SegmentSettings(out_of_core=False, **settings))


@pytest.fixture
def passes(monkeypatch):
    """Threads in which the network ran."""
    module = import_module("napari_shiftseg.network.windows")
    threads, real = [], module._one_pass

    def recorded(*args):
        threads.append(threading.current_thread())
        return real(*args)

    monkeypatch.setattr(module, "_one_pass", recorded)
    return threads


def viewed(viewer):
    return next((layer for layer in viewer.layers if layer.metadata.get(KEY, {}).get("role") == VIEWED), None)


def settled(qtbot, widget, text="computed"):
    qtbot.waitUntil(lambda: text in widget.status.text(), timeout=60_000)


def zoom_to(viewer, center, zoom):
    viewer.scene.camera.zoom = zoom
    viewer.scene.camera.center = (0, *center)


def test_the_embedding_follows_the_view(open_large, qtbot, tmp_path, tiny, passes, cells):
    result = in_memory(tiny, cells(), write=64, keep_embedding=True)
    passes.clear()
    viewer, widget = open_large(tmp_path / "r.zarr", window=True, show=True)
    widget.form.tile.setCurrentText("64")
    widget.form.tile.changed.emit()
    assert not widget.embedding_button.isVisible()
    finish(qtbot, widget)
    assert passes and threading.main_thread() not in passes
    qtbot.waitUntil(widget.embedding_button.isVisible, timeout=60_000)
    zoom_to(viewer, (300, 350), 16)
    passes.clear()
    widget.embedding_button.click()
    settled(qtbot, widget)
    layer = viewed(viewer)
    assert [found.name for found in viewer.layers] == ["cells", "cells embedding", "cells instances"]
    assert layer.multiscale and layer.data.shape == (3, 600, 700)
    assert not widget.embedding_button.isVisible()
    few = len(passes)
    assert 1 <= few <= 6
    part = layer.data[0][:, 300, 345:355]
    np.testing.assert_array_equal(part, result.embedding[:, 300, 345:355])
    assert np.isnan(layer.data[0][0, 20, 20])
    assert layer.contrast_limits != [-1, 1]  # those of the first tile
    widget.status.tell("", "")
    zoom_to(viewer, (40, 40), 16)
    settled(qtbot, widget)
    np.testing.assert_array_equal(layer.data[0][:, 40, 35:45], result.embedding[:, 40, 35:45])
    assert few < len(passes) <= few + 6
    zoom_to(viewer, (300, 350), 1)
    settled(qtbot, widget, "zoom in")
    assert len(passes) <= few + 6
    assert threading.main_thread() not in passes
    assert [image.name for image in widget.form.layers.choices] == ["cells"]


def test_a_hidden_or_removed_embedding_is_not_computed(open_large, qtbot, tmp_path, passes, cells):
    viewer, widget = open_large(tmp_path / "r.zarr", data=cells((300, 280)), window=True, show=True)
    widget.form.tile.setCurrentText("64")
    widget.form.tile.changed.emit()
    finish(qtbot, widget)
    zoom_to(viewer, (30, 30), 20)
    widget.embedding_button.click()
    settled(qtbot, widget)
    layer = viewed(viewer)
    before = len(passes)
    layer.visible = False
    zoom_to(viewer, (200, 200), 20)
    qtbot.wait(500)
    assert len(passes) == before
    layer.visible = True
    qtbot.waitUntil(lambda: len(passes) > before, timeout=60_000)
    qtbot.wait(100)
    viewer.layers["cells instances"].visible = False
    viewer.layers.selection.active = layer
    viewer.layers.remove(layer)
    qtbot.waitUntil(widget.embedding_button.isVisible, timeout=60_000)
    before = len(passes)
    zoom_to(viewer, (100, 250), 20)
    qtbot.wait(600)
    assert len(passes) <= before + 1  # the tile in work when it went


def test_the_embedding_of_an_opened_result_is_computed_from_the_original(open_large, open_widget, qtbot, tmp_path, tiny, cells):
    data = cells((300, 280))
    np.save(tmp_path / "plate.npy", data)
    image = Image.from_array(data, "yx", name="plate")
    image = Image(data=data, axes="yx", scale=image.scale, units=image.units, name="plate", source=str(tmp_path / "plate.npy"))
    # a path, so that the record knows the file of the model
    wish = SegmentSettings(out_of_core=True, write=64, device="cpu")
    result = segment(image, str(tiny), wish, tmp_path / "r.zarr")
    assert result.stored.embedding is None
    viewer, widget = open_widget()
    for made in get_reader(str(tmp_path / "r.zarr"))(str(tmp_path / "r.zarr")):
        getattr(viewer, f"add_{made[2]}")(made[0], **made[1])
    layer = viewer.layers[-1]
    assert layer.features["area"].sum() == np.count_nonzero(result.labels[:])
    layer.metadata[KEY]["model"] = str(tiny)  # no model of that name comes with the package
    widget.embedding_button.show_embedding()
    settled(qtbot, widget)
    whole = in_memory(tiny, data, write=64, keep_embedding=True).embedding
    np.testing.assert_array_equal(np.asarray(viewed(viewer).data[0]), whole)


def test_without_the_image_a_sentence_says_so(open_widget, qtbot, tmp_path, tiny, cells):
    segment(cells((40, 50)), str(tiny), SegmentSettings(out_of_core=True, device="cpu"), tmp_path / "r.zarr")
    viewer, widget = open_widget()
    for made in get_reader(str(tmp_path / "r.zarr"))(str(tmp_path / "r.zarr")):
        getattr(viewer, f"add_{made[2]}")(made[0], **made[1])
    widget.embedding_button.show_embedding()
    settled(qtbot, widget, "saved without its image")
    assert viewed(viewer) is None


@pytest.mark.parametrize("write", [None, 16])
@pytest.mark.parametrize(("shape", "axes"), [((40, 48), "yx"), ((2, 48, 40), "txy")])
def test_it_is_computed_as_the_run_was_decided(put_result, monkeypatch, write, shape, axes):
    """By the plan, the limits and the number format in the record, and nothing is decided anew."""
    from napari.components import ViewerModel

    from napari_shiftseg.events import drain
    from napari_shiftseg.plugin.embedding_view import lazy_steps
    from napari_shiftseg.plugin.subject import subject_of

    viewer = ViewerModel()
    result = put_result(viewer, shape, write=write, axes=axes)
    monkeypatch.setattr("napari_shiftseg.segmentation.lazy.decide", lambda *_, **__: pytest.fail("decided anew"))
    subject = subject_of(viewer, viewer.layers["cells instances"])
    assert subject.dtype == result.record["job"]["dtype"] != result.record["settings"]["dtype"] == "auto"
    lazy = drain(lazy_steps(subject, "cpu"))
    assert lazy.plan.write == tuple(result.record["job"]["plan"]["write"])
    np.testing.assert_array_equal(np.asarray(lazy), result.embedding)
