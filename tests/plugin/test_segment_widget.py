"""The Segment widget in a real viewer, operated as a user does."""

import threading

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from napari.layers import Image as ImageLayer
from napari.layers import Labels
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt

from napari_shiftseg import SegmentSettings, load_model, segment
from napari_shiftseg.events import Stage
from napari_shiftseg.io import bundled_models
from napari_shiftseg.plugin import segment_widget as module
from napari_shiftseg.plugin.layers import KEY, segment_and_draw

pytestmark = pytest.mark.gui


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)


def layer_of(shape, **options):
    return ImageLayer(noise(shape), name="cells", **options)


def click(qtbot, button):
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def run_to_end(qtbot, widget):
    assert widget.run_button.isEnabled(), widget.form.verdict.text()
    click(qtbot, widget.run_button)
    assert not widget.run_button.isEnabled()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)


def type_into(qtbot, edit, text):
    edit.selectAll()
    qtbot.keyClicks(edit, text)
    qtbot.keyClick(edit, Qt.Key.Key_Return)


@pytest.fixture(autouse=True)
def _no_old_notifications():
    notification_manager.records.clear()
    yield
    notification_manager.records.clear()


@pytest.fixture
def held(monkeypatch):
    """The run waits at its first event until `held.set()`."""
    go = threading.Event()

    def hold(job):
        yield Stage(done=0, total=0, text="held")
        go.wait(10)
        return (yield from segment_and_draw(job))

    monkeypatch.setattr(module, "segment_and_draw", hold)
    yield go
    go.set()


# -- a run ------------------------------------------------------------------------------------------------------------


def test_a_click_on_run_gives_the_layers_that_the_library_gives(open_widget, qtbot, tiny):
    layer = layer_of((40, 48))
    viewer, widget = open_widget(layer, window=True, show=True)
    run_to_end(qtbot, widget)
    assert [found.name for found in viewer.layers] == ["cells", "cells embedding", "cells embedding RGB", "cells instances"]
    expected = segment(layer.data, load_model(tiny), SegmentSettings(write=viewer.layers[1].metadata[KEY]["plan"].write))
    assert np.array_equal(viewer.layers["cells instances"].data, expected.labels)
    assert np.array_equal(viewer.layers["cells embedding"].data, expected.embedding)
    assert expected.labels.max() > 3
    assert "compliant" in widget.status.text()
    assert widget.run_button.isEnabled()
    assert not widget.cancel_button.isEnabled()


def test_what_is_typed_is_what_runs(open_widget, qtbot):
    viewer, widget = open_widget(layer_of((40, 48)))
    type_into(qtbot, widget.form.tile.lineEdit(), "15")
    assert widget.form.tile.currentText() == "16"
    assert "3 x 3 tiles of 16 x 16 px" in widget.form.plan.text()
    widget.form.bandwidth.setValue(0.5)
    widget.form.min_size.setValue(7)
    widget.form.keep_embedding.setChecked(False)
    run_to_end(qtbot, widget)
    assert len(viewer.layers) == 2
    record = viewer.layers[1].metadata[KEY]["record"]
    assert record["plan"]["write"] == [16, 16]
    assert (record["clustering"]["bandwidth"], record["clustering"]["min_size"]) == (0.5, 7)


def test_a_second_run_updates_the_layers(open_widget, qtbot):
    viewer, widget = open_widget(layer_of((40, 48)), window=True)
    run_to_end(qtbot, widget)
    before = list(viewer.layers)
    labels = viewer.layers["cells instances"].data.copy()
    widget.form.min_size.setValue(200)
    run_to_end(qtbot, widget)
    assert [a is b for a, b in zip(before, viewer.layers, strict=True)] == [True] * 4
    assert not np.array_equal(viewer.layers["cells instances"].data, labels)


def test_the_layers_that_it_made_are_not_offered_as_images(open_widget, qtbot):
    _, widget = open_widget(layer_of((40, 48)))
    run_to_end(qtbot, widget)
    assert [layer.name for layer in widget.form.layers.choices] == ["cells"]


SHAPES = {
    "time": ((2, 24, 26), "tyx", {"axis_labels": ("t", "y", "x")}, (2, 24, 26)),
    "planes": ((2, 24, 26), "zyx", {}, (2, 24, 26)),
    "colours": ((24, 26, 3), "yxc", {"rgb": True}, (24, 26)),
    "channels": ((3, 24, 26), "cyx", {"axis_labels": ("c", "y", "x")}, (24, 26)),
}


@pytest.mark.parametrize(("shape", "axes", "options", "expected"), SHAPES.values(), ids=SHAPES)
def test_axes_are_shown_and_obeyed(open_widget, qtbot, shape, axes, options, expected):
    viewer, widget = open_widget(layer_of(shape, **options))
    assert widget.form.axes.text() == axes
    assert len(widget.form.channels.boxes) == int("c" in axes)
    if "c" in axes:
        widget.form.channels.boxes[0].setCurrentIndex(2)
    run_to_end(qtbot, widget)
    assert viewer.layers["cells instances"].data.shape == expected
    wanted = [2] if "c" in axes else None
    assert viewer.layers["cells instances"].metadata[KEY]["record"]["settings"]["channels"] == (wanted and tuple(wanted))


def test_axes_can_be_corrected(open_widget, qtbot):
    viewer, widget = open_widget(layer_of((2, 24, 26)))
    type_into(qtbot, widget.form.axes, "tyx")
    run_to_end(qtbot, widget)
    assert viewer.layers["cells instances"].metadata[KEY]["axes"] == "tyx"
    type_into(qtbot, widget.form.axes, "yx")
    assert not widget.run_button.isEnabled()
    assert "3" in widget.form.verdict.text()


def test_axes_that_nothing_names_are_a_question_in_plain_sight(open_widget, qtbot):
    """It runs by what it says that it assumes, and the record says so as well."""
    viewer, widget = open_widget(layer_of((2, 24, 26)), window=True, show=True)
    axes = widget.form.axes
    assert axes.readings.isVisible() and axes.about.isVisible()
    assert "2 planes of depth are assumed" in axes.about.text()
    assert [axes.readings.itemText(k) for k in range(3)] == ["zyx: 2 planes of depth", "tyx: 2 time points", "cyx: 2 channels"]
    run_to_end(qtbot, widget)
    assert "2 planes of depth are assumed" in viewer.layers["cells instances"].metadata[KEY]["record"]["image"]["note"]
    axes.readings.setCurrentIndex(1)
    axes.readings.activated.emit(1)
    assert axes.text() == "tyx"
    assert not axes.about.isVisible()
    run_to_end(qtbot, widget)
    record = viewer.layers[-1].metadata[KEY]["record"]
    assert (record["image"]["axes"], record["image"]["note"]) == ("tyx", "")


def test_a_choice_is_remembered_for_its_layer(open_widget, qtbot):
    first, other = layer_of((2, 24, 26)), layer_of((2, 24, 26), axis_labels=("c", "y", "x"))
    other.name = "other"
    _, widget = open_widget(first, other)
    widget.form.layers.value = first
    type_into(qtbot, widget.form.axes, "tyx")
    widget.form.layers.value = other
    assert widget.form.axes.text() == "cyx"
    assert not widget.form.axes.readings.isVisibleTo(widget.form)
    widget.form.layers.value = first
    assert widget.form.axes.text() == "tyx"
    first.data = noise((2, 30, 31))
    assert widget.form.axes.text() == "tyx"


def test_what_the_file_says_is_shown(open_widget, tmp_path):
    import tifffile
    from napari.layers._source import layer_source

    data = noise((3, 2, 24, 26))
    metadata = {"axes": "ZCYX", "PhysicalSizeZ": -2, "Channel": {"Name": ["DAPI", "actin"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", data, metadata=metadata)
    with layer_source(path=str(tmp_path / "a.ome.tif"), reader_plugin="napari"):
        layer = ImageLayer(data, name="cells")
    _, widget = open_widget(layer)
    form = widget.form
    assert form.axes.text() == "zcyx"
    assert "a.ome.tif" in form.axes.about.text()
    assert not form.axes.readings.isVisibleTo(form)
    assert [form.channels.boxes[0].itemText(k) for k in range(2)] == ["0 DAPI", "1 actin"]
    assert "-2" in form.about_image.text() and form.about_image.isVisibleTo(form)
    assert widget.image().scale[0] == 2


def test_a_model_of_two_channels_takes_both(open_widget, qtbot, save_tiny):
    viewer, widget = open_widget(layer_of((2, 24, 26)), model=save_tiny("two", in_channels=2))
    assert widget.form.axes.text() == "cyx"
    run_to_end(qtbot, widget)
    assert viewer.layers["cells instances"].data.shape == (24, 26)


def test_a_stack_goes_through_a_3d_model(open_widget, qtbot, save_tiny):
    model = save_tiny("deep", ndim=3, window=(8, 8, 8))
    viewer, widget = open_widget(layer_of((8, 16, 18)), model=model)
    run_to_end(qtbot, widget)
    assert viewer.layers["cells instances"].data.shape == (8, 16, 18)
    assert viewer.layers["cells embedding"].data.shape == (3, 8, 16, 18)


def lazy_levels(kind, tmp_path):
    fine = noise((40, 48))
    if kind == "dask":
        import dask.array

        return dask.array.from_array(fine, chunks=16)
    import zarr

    stored = zarr.create_array(str(tmp_path / "fine.zarr"), data=fine, chunks=(16, 16))
    return [stored, fine[::2, ::2]] if kind == "pyramid of zarr" else stored


@pytest.mark.parametrize("kind", ["dask", "zarr", "pyramid of zarr"])
def test_lazy_layers_give_the_same_instances(open_widget, qtbot, tmp_path, kind, tiny):
    data = lazy_levels(kind, tmp_path)
    viewer, widget = open_widget(ImageLayer(data, name="cells", multiscale=kind.startswith("pyramid")))
    run_to_end(qtbot, widget)
    assert np.array_equal(viewer.layers["cells instances"].data, segment(noise((40, 48)), load_model(tiny)).labels)


def test_a_bundled_model_segments_its_sample(make_napari_viewer, qtbot):
    if "nuclei" not in bundled_models():
        pytest.skip("no model is bundled")
    from napari_shiftseg.plugin.samples import nuclei

    viewer = make_napari_viewer()
    image = nuclei()[0][0][:200, :200]
    viewer.add_image(image, name="nuclei")
    widget = module.SegmentWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Segment")
    qtbot.waitUntil(lambda: widget.run_button.isEnabled(), timeout=60_000)
    widget.form.model.names.setCurrentText("nuclei")
    qtbot.waitUntil(lambda: widget.run_button.isEnabled(), timeout=60_000)
    run_to_end(qtbot, widget)
    assert 5 < viewer.layers["nuclei instances"].data.max() < 100
    assert viewer.layers["nuclei instances"].metadata[KEY]["status"] == "compliant"


# -- what can go wrong ------------------------------------------------------------------------------------------------


def test_it_opens_without_a_layer_and_without_a_model(open_widget):
    _, widget = open_widget(model=None)
    assert not widget.run_button.isEnabled()
    widget.run()
    assert not widget.running


def test_without_a_layer_it_says_what_to_do(open_widget, qtbot):
    viewer, widget = open_widget()
    assert "Open an image" in widget.form.verdict.text()
    viewer.add_layer(layer_of((40, 48)))
    assert widget.run_button.isEnabled()
    viewer.layers.clear()
    assert not widget.run_button.isEnabled()


def test_cancel_leaves_no_layer_and_lets_run_again(open_widget, qtbot, held):
    viewer, widget = open_widget(layer_of((40, 48)), window=True, show=True)
    click(qtbot, widget.run_button)
    qtbot.waitUntil(lambda: "Held" in widget.status.text(), timeout=60_000)
    click(qtbot, widget.cancel_button)
    held.set()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    assert "Cancelled" in widget.status.text()
    assert len(viewer.layers) == 1
    run_to_end(qtbot, widget)
    assert len(viewer.layers) == 4


def test_a_stream_runs_if_it_is_chosen_and_is_what_was_shown(open_widget, qtbot):
    image = ImageLayer(np.random.default_rng(0).random((60, 50), np.float32), name="cells")
    _, widget = open_widget(image)
    widget.form.method.setCurrentText("stream")
    assert widget.form.plan.text().startswith("strips of")
    widget.run()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    known = widget.viewer.layers["cells instances"].metadata[KEY]
    assert known["record"]["method"]["name"] == "stream" and known["plan"].seams()[0] == ()
    widget.form.method.setCurrentText("automatic")
    assert "1 x 1 tile of" in widget.form.plan.text(), "an image of one tile is not streamed"


def test_cancel_acts_within_a_tile(open_widget, qtbot):
    """1024 tiles; the run ends without the rest of them."""
    viewer, widget = open_widget(layer_of((64, 64)))
    type_into(qtbot, widget.form.tile.lineEdit(), "2")
    click(qtbot, widget.run_button)
    qtbot.waitUntil(lambda: widget.progress.maximum() == 1024 and widget.progress.value() > 2, timeout=60_000)
    widget.cancel()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    assert widget.progress.value() < 1024
    assert len(viewer.layers) == 1


def test_the_form_is_locked_during_a_run(open_widget, qtbot, held):
    _, widget = open_widget(layer_of((40, 48)))
    click(qtbot, widget.run_button)
    assert not widget.form.isEnabled()
    widget.run()  # as a script would
    held.set()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    assert widget.form.isEnabled()


def test_a_closed_window_ends_the_run(open_widget, qtbot, held):
    viewer, widget = open_widget(layer_of((40, 48)), window=True)
    widget.run()
    (job,) = widget.jobs
    qtbot.waitUntil(lambda: job.worker.is_running, timeout=60_000)
    with qtbot.capture_exceptions() as raised:
        viewer.close()
        held.set()
        qtbot.waitUntil(lambda: not job.worker.is_running, timeout=60_000)
        qtbot.wait(100)
    assert not raised
    assert len(viewer.layers) <= 1


def test_a_closed_dock_ends_the_run(open_widget, qtbot, held):
    viewer, widget = open_widget(layer_of((40, 48)), window=True)
    widget.run()
    (job,) = widget.jobs
    qtbot.waitUntil(lambda: job.worker.is_running, timeout=60_000)
    with qtbot.capture_exceptions() as raised:
        viewer.window.remove_dock_widget(widget)
        widget.deleteLater()
        qtbot.waitUntil(job.cancelled.is_set, timeout=60_000)
        held.set()
        qtbot.waitUntil(lambda: not job.worker.is_running, timeout=60_000)
        viewer.add_layer(layer_of((10, 10)))  # napari still tells the widget
        qtbot.wait(50)
    assert not raised
    assert [type(layer) for layer in viewer.layers] == [ImageLayer] * 2


def test_the_result_of_a_removed_layer_is_added_and_said(open_widget, qtbot, held):
    layer = layer_of((40, 48), scale=(0.5, 0.5))
    viewer, widget = open_widget(layer, window=True)
    widget.run()
    viewer.layers.remove(layer)
    other = viewer.add_layer(layer_of((20, 20)))
    held.set()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    labels = next(found for found in viewer.layers if isinstance(found, Labels))
    assert (labels.data.shape, labels.scale.tolist()) == ((40, 48), [0.5, 0.5])
    assert "was removed" in notification_manager.records[-1].message
    assert KEY not in other.metadata


def test_a_layer_that_moved_meanwhile_gets_its_result_where_it_is(open_widget, qtbot, held):
    layer = layer_of((40, 48))
    viewer, widget = open_widget(layer)
    widget.run()
    layer.translate = (5, 6)
    held.set()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    assert viewer.layers["cells instances"].translate.tolist() == [5, 6]


def test_an_error_in_the_run_is_one_sentence(open_widget, qtbot):
    broken = np.full((40, 48), np.nan)
    viewer, widget = open_widget(ImageLayer(broken, name="cells", contrast_limits=(0, 255)))
    run_to_end(qtbot, widget)
    assert "NaN" in widget.status.text()
    assert "NaN" in notification_manager.records[-1].message
    assert len(viewer.layers) == 1
    assert widget.run_button.isEnabled()


@pytest.mark.parametrize("content", [b"", b"no weights at all"], ids=["empty", "text"])
def test_a_bad_model_file_is_one_sentence_and_nothing_runs(open_widget, qtbot, tmp_path, content):
    _, widget = open_widget(layer_of((40, 48)))
    assert widget.run_button.isEnabled()
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(content)
    widget.form.model.choose_file(bad)
    assert not widget.run_button.isEnabled()
    qtbot.waitUntil(lambda: widget.equipment is not None, timeout=60_000)
    assert "bad.safetensors" in widget.form.verdict.text()
    assert not widget.run_button.isEnabled()
    assert widget.form.plan.text() == ""


def test_only_the_last_chosen_model_counts(open_widget, qtbot, tiny, save_tiny):
    _, widget = open_widget(layer_of((40, 48)))
    widget.form.model.choose_file(save_tiny("deeper", levels=2))
    widget.form.model.choose_file(tiny)
    widget.form.model.choose_file(save_tiny("deepest", levels=3, window=(16, 16)))
    qtbot.waitUntil(lambda: widget.equipment is not None, timeout=60_000)
    qtbot.wait(200)
    assert "period 8 px" in widget.form.about_model.text()


def test_long_names_do_not_widen_the_dock(open_widget, qtbot):
    """A dock that is wider than its place is cut, and with it the lines that say what to trust."""
    name = "a name as long as those that microscopes give " * 3
    _, widget = open_widget(ImageLayer(noise((40, 48)), name=name))
    box = widget.form.layers.native
    assert box.currentText() == name
    assert widget.form.minimumSizeHint().width() < box.fontMetrics().horizontalAdvance(name) / 2


def test_a_noncompliant_tile_runs_only_if_allowed_and_is_marked(open_widget, qtbot, save_tiny):
    viewer, widget = open_widget(layer_of((40, 48)), model=save_tiny("small", window=(2, 2)))
    assert not widget.run_button.isEnabled()
    assert "Not compliant" in widget.form.verdict.text()
    widget.form.allow.setChecked(True)
    type_into(qtbot, widget.form.tile.lineEdit(), "15")
    assert widget.form.tile.currentText() == "15"
    run_to_end(qtbot, widget)
    assert viewer.layers["cells instances (non-compliant)"].metadata[KEY]["status"] == "non-compliant"
    assert "non-compliant" in widget.status.text()
    widget.form.allow.setChecked(False)
    assert widget.form.tile.currentText() in {"14", "16"}


def test_new_data_of_the_layer_make_a_new_plan(open_widget):
    layer = layer_of((40, 48))
    _, widget = open_widget(layer)
    layer.data = noise((20, 22))
    assert "of 20 x 22 px" in widget.form.plan.text()


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ({"kind": "cpu", "name": "2 threads"}, "3 instances, compliant, 1.5 s on CPU."),
        ({"kind": "cpu", "name": "2 threads, tiles by OpenVINO 9.9"}, "3 instances, compliant, 1.5 s on CPU."),
    ],
)
def test_the_line_under_a_run_names_what_ran(device, said):
    from napari_shiftseg.plugin.run_bar import summary

    assert summary({"instances": [3], "seconds": {"all": 1.5}, "status": "compliant", "device": device}) == ("pass", said)
