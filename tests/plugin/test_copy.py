"""The widget copies what Run does as a script and as a command; what it shows is what runs."""

import os
import shlex
from importlib import import_module

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

import tifffile
from napari.layers import Image as ImageLayer
from napari.layers._source import layer_source
from no_memory import FORMS, in_turn
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_shiftseg import SegmentSettings, cli, open_result, segment
from napari_shiftseg.network import unet
from napari_shiftseg.plugin.layers import KEY

pytestmark = pytest.mark.gui


def noise(shape):
    return np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)


def layer_from(path, shape, **options):
    """A layer as napari reads it from a file."""
    tifffile.imwrite(path, noise(shape), photometric="minisblack")
    with layer_source(path=str(path), reader_plugin="napari"):
        return ImageLayer(tifffile.imread(path), name="cells", **options)


def run(qtbot, widget):
    assert widget.run_button.isEnabled(), widget.form.verdict.text()
    widget.run()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    return widget.viewer.layers["cells instances"].metadata[KEY]["record"]


def copied(qtbot, widget, button):
    QApplication.clipboard().setText("")
    button.click()
    qtbot.waitUntil(lambda: QApplication.clipboard().text() != "", timeout=60_000)
    return QApplication.clipboard().text()


def a_tile_size(widget):
    widget.form.tile.setCurrentText("16")
    widget._on_tile()


def axes_and_channel(widget):
    widget.form.axes.selectAll()
    QTest.keyClicks(widget.form.axes, "tcyx")
    widget.form.channels.boxes[0].setCurrentIndex(2)


def clustering(widget):
    widget.form.bandwidth.setValue(0.4)
    widget.form.threshold.setValue(0.6)
    widget.form.min_size.setValue(9)


def percentiles(widget):
    widget.form.intensity.choice.setCurrentText("percentiles")
    widget.form.intensity.low.setText("5")
    widget.form.intensity.high.setText("95")
    widget._refresh()


def out_of_core(widget):
    widget.form.large.choice.setCurrentText("Always")


WISHES = {
    "plain": ((40, 48), lambda widget: None),
    "tile size": ((40, 48), a_tile_size),
    "series with channels": ((2, 3, 40, 48), axes_and_channel),
    "clustering": ((40, 48), clustering),
    "percentiles": ((40, 48), percentiles),
    "out of core": ((40, 48), out_of_core),
}


@pytest.mark.parametrize(("shape", "wish"), WISHES.values(), ids=WISHES)
def test_what_is_copied_gives_the_labels_of_the_run(open_widget, qtbot, tmp_path, monkeypatch, shape, wish):
    (tmp_path / "there").mkdir()
    viewer, widget = open_widget(layer_from(tmp_path / "the cells.tif", shape))
    wish(widget)
    code, command = copied(qtbot, widget, widget.bar.code), copied(qtbot, widget, widget.bar.command)
    run(qtbot, widget)
    data = viewer.layers["cells instances"].data
    expected = np.asarray(data[0] if viewer.layers["cells instances"].multiscale else data).squeeze()  # a layer keeps an axis
    assert len(np.unique(expected)) > 3 and "#" not in command
    monkeypatch.chdir(tmp_path / "there")
    store = f"{tmp_path}{os.sep}the cells_shiftseg.ome.zarr"  # where the run has written
    found = {}
    exec(code.replace(store, "a.zarr"), found)
    np.testing.assert_array_equal(np.asarray(found["labels"]), expected)
    words = [word.replace(store, "b.zarr") for word in shlex.split(command)]
    assert cli.main([*words[1:], "--quiet"]) == 0
    written = open_result("b.zarr").labels if "b.zarr" in words else tifffile.imread(words[-1])
    np.testing.assert_array_equal(np.asarray(written), expected)


def test_a_layer_without_a_file_says_so_and_can_be_copied_all_the_same(open_widget, qtbot):
    _, widget = open_widget(ImageLayer(noise((40, 48)), name="cells"))
    assert "array = ..." in copied(qtbot, widget, widget.bar.code)
    qtbot.waitUntil(lambda: "lies in memory alone" in widget.status.text(), timeout=60_000)


def test_without_anything_to_run_there_is_nothing_to_copy(open_widget):
    viewer, widget = open_widget()
    assert not widget.bar.code.isEnabled() and not widget.bar.command.isEnabled()
    viewer.add_layer(ImageLayer(noise((40, 48)), name="cells"))
    assert widget.bar.code.isEnabled() and widget.bar.command.isEnabled()


# -- one set of defaults, and one job -----------------------------------------------------------------------------------


def test_a_widget_that_was_just_opened_wishes_for_what_the_library_does(open_widget):
    _, widget = open_widget(ImageLayer(noise((40, 48)), name="cells"))
    assert widget.settings() == SegmentSettings()


def test_the_line_under_precision_says_what_runs_and_why(open_widget):
    _, widget = open_widget(ImageLayer(noise((40, 48)), name="cells"))
    boxes = {
        name: [box.itemText(k) for k in range(3)] for name, box in vars(widget.form).items() if name in ("dtype", "method")
    }
    assert boxes == {"dtype": ["automatic", "float32", "bfloat16"], "method": ["automatic", "tiles", "stream"]}
    for choice in boxes["dtype"]:
        widget.form.dtype.setCurrentText(choice)
        job = widget._verdict.job
        assert choice in ("automatic", job.dtype) and job.settings.dtype == {"automatic": "auto"}.get(choice, choice)
        assert f"; {job.dtype} ({job.why})" in widget.form.about_device.text()


@pytest.mark.parametrize("share", [0.01, 100])
def test_what_is_shown_runs_also_when_the_free_memory_has_changed(open_widget, qtbot, monkeypatch, share):
    decision = import_module("napari_shiftseg.segmentation.decision")
    _, widget = open_widget(ImageLayer(noise((300, 200)), name="cells"))
    shown = widget._verdict.job
    monkeypatch.setattr(decision, "free_memory", lambda: int(shown.needs["result"] * share))
    record = run(qtbot, widget)
    assert record["job"] | {"intensity": None, "likeness": ""} == shown.to_dict()
    assert not record["job"]["blocks"]
    widget._refresh()  # now it is looked at anew
    assert widget._verdict.large == (share < 1)


def no_room(monkeypatch, form, largest):
    """Maps of more than so many pixels fit nowhere."""
    pool = unet.POOL[2]

    def pooled(x, factor):
        if x.shape[-1] * x.shape[-2] > largest:
            raise form()
        return pool(x, factor)

    monkeypatch.setitem(unet.POOL, 2, pooled)


@pytest.mark.parametrize("form", **in_turn({name: FORMS[name] for name in ("CUDA", "CPU")}))
@pytest.mark.parametrize("method", ["automatic", "tiles", "stream"])
def test_where_memory_runs_out_the_run_gives_way_and_says_so(open_widget, qtbot, monkeypatch, tiny, form, method):
    _, widget = open_widget(ImageLayer(noise((600, 90)), name="cells"))
    widget.form.method.setCurrentText(method)
    shown = widget._verdict.job
    expected = segment(noise((600, 90)), tiny, SegmentSettings(device="cpu"))
    no_room(monkeypatch, form, 60**2)
    record = run(qtbot, widget)
    np.testing.assert_array_equal(widget.viewer.layers["cells instances"].data, expected.labels)
    assert "instances, compliant" in widget.status.text() and "Memory ran out; again " in widget.status.text()
    assert record["job"]["plan"] == shown.to_dict()["plan"] and record["job"]["plan"]["automatic"]
    monkeypatch.undo()
    run(qtbot, widget)
    assert "ran out" not in widget.status.text(), "what one run said is not said of the next"


def test_a_tile_size_by_hand_that_does_not_fit_ends_with_a_sentence(open_widget, qtbot, monkeypatch):
    viewer, widget = open_widget(ImageLayer(noise((220, 90)), name="cells"))
    widget.form.tile.setCurrentText("128")
    widget._on_tile()
    no_room(monkeypatch, FORMS["CPU"], 60**2)
    widget.run()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    assert "Memory ran out while computing" in widget.status.text() and "use smaller tiles" in widget.status.text()
    assert len(viewer.layers) == 1
