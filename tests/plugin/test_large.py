"""Runs out of core in the Segment widget, and the embedding that is computed where the viewer looks."""

import threading
import time
from contextlib import closing
from importlib import import_module

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

import zarr
from napari.layers import Labels

from napari_shiftseg import SegmentSettings, load_model, open_result, segment
from napari_shiftseg.errors import ImageError
from napari_shiftseg.events import BlockDone, Stage
from napari_shiftseg.instances import object_table
from napari_shiftseg.io import Image, work_path
from napari_shiftseg.plugin import large as large_module
from napari_shiftseg.plugin import segment_widget as widget_module
from napari_shiftseg.plugin.layers import KEY
from napari_shiftseg.plugin.reader import get_reader
from napari_shiftseg.plugin.refresher import Refresher
from napari_shiftseg.plugin.verdict import free_place

pytestmark = pytest.mark.gui


@pytest.fixture
def stepwise(monkeypatch):
    """The run waits before each event until `stepwise.release()`, or for good after `stepwise.free.set()`."""

    class Stepwise:
        def __init__(self):
            self.free, self.ready, self.events = threading.Event(), threading.Semaphore(0), []

        def steps(self, *args, **options):
            running = large_module.segment_large(*args, **options)
            try:
                while True:
                    try:
                        event = next(running)
                    except StopIteration as stop:
                        return stop.value
                    self.events.append(event)
                    yield event
                    if isinstance(event, BlockDone):
                        while not self.free.is_set() and not self.ready.acquire(timeout=0.05):
                            pass
            finally:
                running.close()

        def release(self):
            self.ready.release()

    made = Stepwise()
    monkeypatch.setattr(widget_module, "segment_large", made.steps)
    yield made
    made.free.set()


def finish(qtbot, widget):
    assert widget.run_button.isEnabled(), widget.form.verdict.text()
    widget.run()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)


def labels_of(viewer):
    return [layer for layer in viewer.layers if isinstance(layer, Labels)]


def in_memory(tiny, data, **settings):
    return segment(data, load_model(tiny), SegmentSettings(out_of_core=False, **settings))


# -- before the run ---------------------------------------------------------------------------------------------------


def test_the_widget_says_before_run_that_it_goes_out_of_core(open_large, tmp_path):
    _, widget = open_large(tmp_path / "r.ome.zarr")
    text = widget.form.writing.text()
    assert "2 x 2 blocks of 512 x 512 px" in text and "r.ome.zarr" in text
    widget.form.large.choice.setCurrentText("Never")
    assert widget.form.writing.text() == f"The result is also written to {tmp_path / 'r.ome.zarr'}."
    widget.form.large.store.value = None
    assert widget.form.writing.text() == ""


def test_a_result_that_does_not_fit_goes_out_of_core_by_itself(open_large, monkeypatch):
    _, widget = open_large(choice="Auto")
    assert widget.form.writing.text() == ""
    module = import_module("napari_shiftseg.segmentation.decision")
    monkeypatch.setattr(module, "free_memory", lambda: 10_000_000)
    widget._refresh()
    text = widget.form.writing.text()
    assert "GB in memory, 0.01 GB are free" in text and "cells_shiftseg.ome.zarr" in text
    assert widget.run_button.isEnabled()
    monkeypatch.setattr("napari_shiftseg.plugin.verdict.free_place", lambda image: None)
    widget._refresh()
    assert not widget.run_button.isEnabled()
    assert "name a store to write under Result" in widget.form.verdict.text()


def test_memory_that_is_too_small_is_refused_with_a_sentence(open_large, tmp_path):
    _, widget = open_large(tmp_path / "r.zarr")
    widget.form.large.memory.setValue(0.3)
    assert not widget.run_button.isEnabled()
    assert "smallest blocks take" in widget.form.verdict.text()
    widget.form.large.memory.setValue(2)
    assert widget.run_button.isEnabled()
    assert widget.settings().memory == 2_000_000_000


def test_no_name_is_taken_twice(tmp_path, cells, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    image = Image.from_array(cells(), "yx", name="my cells/1")
    assert free_place(image) == tmp_path / "my_cells_1_shiftseg.ome.zarr"
    (tmp_path / "my_cells_1_shiftseg.ome.zarr").mkdir()
    assert free_place(image) == tmp_path / "my_cells_1_shiftseg_2.ome.zarr"
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.ome.tif").touch()
    beside = Image(data=image.data, axes="yx", scale=(1, 1), units=(None, None), name="x", source=str(folder / "a.ome.tif"))
    assert free_place(beside) == folder / "a_shiftseg.ome.zarr"


# -- a run ------------------------------------------------------------------------------------------------------------


def test_the_layer_is_the_finished_store(open_large, qtbot, tmp_path, tiny, cells):
    viewer, widget = open_large(tmp_path / "r.ome.zarr", scale=(0.5, 0.5), translate=(3, 4))
    widget.form.deterministic.setChecked(True)
    finish(qtbot, widget)
    (layer,) = labels_of(viewer)
    expected = in_memory(tiny, cells(), deterministic=True)
    assert layer.name == "cells instances"
    assert layer.multiscale and len(layer.data) == 3
    assert all(isinstance(level, zarr.Array) and "r.ome.zarr" in str(level.store_path) for level in layer.data)
    np.testing.assert_array_equal(layer.data[0][:], expected.labels)
    np.testing.assert_array_equal(layer.data[2][:], expected.labels[::4, ::4])
    assert np.allclose(layer.data_to_world((10, 20)), (3 + 5, 4 + 10))
    known = layer.metadata[KEY]
    assert (known["role"], known["status"], known["axes"]) == ("instances", "compliant", "yx")
    assert known["record"]["blocks"]["tasks"] == 4
    table = object_table(expected.labels)
    assert layer.features["index"].tolist() == table["index"].tolist()
    assert layer.features["area"].tolist() == table["area"].tolist()
    assert "instances, compliant" in widget.status.text() and "r.ome.zarr" in widget.status.text()
    assert widget.form.large.place is None  # that store is written
    assert "cells_shiftseg.ome.zarr" in widget.form.writing.text() and widget.run_button.isEnabled()
    widget.form.large.store.value = tmp_path / "r.ome.zarr"
    assert "is there already" in widget.form.verdict.text() and not widget.run_button.isEnabled()


def test_finished_blocks_are_seen_during_the_run(open_large, qtbot, tmp_path, stepwise, monkeypatch):
    monkeypatch.setattr("napari_shiftseg.segmentation.engine.WRITERS", 1)  # else more is written than was shown
    viewer, widget = open_large(tmp_path / "r.zarr")
    widget.run()
    qtbot.waitUntil(lambda: len(labels_of(viewer)) == 1, timeout=60_000)
    (layer,) = labels_of(viewer)
    assert "(unfinished)" in layer.name and layer.multiscale
    assert layer.metadata[KEY]["role"] == "unfinished instances"
    qtbot.waitUntil(lambda: "1 of 4 blocks" in widget.status.text(), timeout=60_000)
    fragments = layer.data[0][:]
    assert fragments[:512, :512].max() > 3 and fragments[:, 512:].max() == 0
    np.testing.assert_array_equal(layer.data[-1][:128, :128], fragments[:512:4, :512:4])
    for _ in range(5):  # three more blocks of the first pass, two of the second
        stepwise.release()
    qtbot.waitUntil(lambda: "Labels (2 of 4 blocks)" in widget.status.text(), timeout=60_000)
    assert labels_of(viewer) == [layer]
    assert layer.name == "cells instances (unfinished)"
    labels = layer.data[0][:]
    assert labels[:512].max() > 3 and labels[512:].max() == 0
    np.testing.assert_array_equal(layer.data[-1][:128], labels[:512:4, ::4])
    stepwise.free.set()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    assert labels_of(viewer) == [layer]
    assert layer.name == "cells instances"
    np.testing.assert_array_equal(layer.data[0][:512], labels[:512])


@pytest.mark.parametrize(
    ("stop", "said", "kept"),
    [
        (
            lambda event: isinstance(event, Stage) and event.text == "network and clustering",
            "No block is finished: Run begins anew.",
            False,
        ),
        (lambda event: isinstance(event, Stage) and event.text == "labels", "The network's work is kept", True),
    ],
    ids=["in the network", "before the labels"],
)
def test_a_cancelled_run_of_one_block_says_what_is_kept(open_large, qtbot, monkeypatch, cells, stop, said, kept):
    """The pass that is shown may be the second one: none of its blocks is finished, and all of the first are."""
    reached, go_on = threading.Event(), threading.Event()
    large = large_module.segment_large

    def slow(*args, **options):
        with closing(large(*args, **options)) as steps:
            for event in steps:
                yield event
                if stop(event):
                    reached.set()
                    go_on.wait(30)

    monkeypatch.setattr(widget_module, "segment_large", slow)
    _, widget = open_large(choice="Always", data=cells()[:300, :300])
    widget.run()
    qtbot.waitUntil(reached.is_set, timeout=60_000)
    widget.cancel()
    go_on.set()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    assert said in widget.status.text() and "0 of 1" not in widget.status.text()
    assert ("Run goes on from there" in widget.status.text()) == kept


def test_a_cancelled_run_goes_on(open_large, qtbot, tmp_path, stepwise, tiny, cells):
    viewer, widget = open_large(choice="Always")
    widget.run()
    stepwise.release()
    qtbot.waitUntil(lambda: "2 of 4 blocks" in widget.status.text(), timeout=60_000)
    widget.cancel()
    stepwise.free.set()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    assert labels_of(viewer) == []
    assert "2 of 4 blocks are kept" in widget.status.text()
    assert work_path(tmp_path / "cells_shiftseg.ome.zarr").is_dir()
    assert "goes on with the unfinished result" in widget.form.writing.text()
    widget.form.large.choice.setCurrentText("Auto")  # although memory would do
    stepwise.events.clear()
    finish(qtbot, widget)
    found = [event for event in stepwise.events if isinstance(event, BlockDone) and not event.final]
    assert [event.done for event in found] == [3, 4]
    (layer,) = labels_of(viewer)
    assert (layer.data[0][:] != in_memory(tiny, cells()).labels).mean() <= 1e-6
    assert not work_path(tmp_path / "cells_shiftseg.ome.zarr").exists()
    widget.form.large.choice.setCurrentText("Always")
    assert "cells_shiftseg_2.ome.zarr" in widget.form.writing.text()


def test_an_error_leaves_no_layer(open_large, qtbot, tmp_path, monkeypatch):
    def fail(self, window):
        raise ImageError("the disk is gone.")

    viewer, widget = open_large(tmp_path / "r.zarr")
    monkeypatch.setattr("napari_shiftseg.io.Overview.update", fail)
    widget.run()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    assert labels_of(viewer) == []
    assert "The disk is gone." in widget.status.text()


@pytest.mark.parametrize("gone", ["window", "dock"])
def test_closing_ends_the_run_and_keeps_its_blocks(open_large, qtbot, tmp_path, stepwise, gone):
    viewer, widget = open_large(tmp_path / "r.zarr", window=True)
    widget.run()
    (job,) = widget.jobs
    qtbot.waitUntil(lambda: len(labels_of(viewer)) == 1, timeout=60_000)
    # a run that ends before a block is done leaves nothing
    qtbot.waitUntil(lambda: any(isinstance(event, BlockDone) for event in stepwise.events), timeout=60_000)
    with qtbot.capture_exceptions() as raised:
        if gone == "window":
            viewer.close()
        else:
            viewer.window.remove_dock_widget(widget)
            widget.deleteLater()
            qtbot.waitUntil(job.cancelled.is_set, timeout=60_000)
        stepwise.free.set()
        qtbot.waitUntil(lambda: not job.worker.is_running, timeout=60_000)
        qtbot.wait(100)
    assert not raised
    assert work_path(tmp_path / "r.zarr").is_dir()
    assert labels_of(viewer) == []


def test_a_series_shows_its_frames(open_large, qtbot, tmp_path, tiny, cells):
    data = cells((2, 530, 40))
    viewer, widget = open_large(tmp_path / "r.zarr", data=data, axis_labels=("t", "y", "x"))
    finish(qtbot, widget)
    (layer,) = labels_of(viewer)
    assert layer.data.shape == (2, 530, 40) and layer.multiscale
    expected = segment(Image.from_array(data, "tyx"), load_model(tiny), SegmentSettings(out_of_core=False)).labels
    assert (np.asarray(layer.data[0]) != expected).mean() <= 1e-6
    assert layer.features.empty  # a number means another object in each frame


def test_an_image_smaller_than_a_pyramid_works(open_large, qtbot, tmp_path, cells):
    viewer, widget = open_large(tmp_path / "r.zarr", data=cells((60, 70)))
    finish(qtbot, widget)
    (layer,) = labels_of(viewer)
    assert not layer.multiscale and isinstance(layer.data, zarr.Array)


def test_a_run_in_memory_leaves_the_layer_on_disk_alone(open_large, qtbot, tmp_path, cells):
    viewer, widget = open_large(tmp_path / "r.zarr", data=cells((300, 280)))
    finish(qtbot, widget)
    widget.form.large.choice.setCurrentText("Never")
    widget.form.large.store.value = tmp_path / "second.zarr"
    finish(qtbot, widget)
    first, second = labels_of(viewer)
    assert first.multiscale and isinstance(second.data, np.ndarray)
    np.testing.assert_array_equal(open_result(tmp_path / "second.zarr").labels[:], second.data)


def test_an_opened_store_has_the_features_of_its_table(tmp_path, tiny, cells, monkeypatch):
    monkeypatch.setattr("napari_shiftseg.plugin.reader.WHOLE_BYTES", 0)  # as if it were large
    result = segment(cells((300, 280)), load_model(tiny), SegmentSettings(out_of_core=True), tmp_path / "r.zarr")
    _, options, kind = get_reader(str(tmp_path / "r.zarr"))(str(tmp_path / "r.zarr"))[-1]
    assert (kind, options["multiscale"]) == ("labels", True)
    table = object_table(result.labels[:])
    assert options["features"]["index"].tolist() == table["index"].tolist()
    assert options["features"]["area"].tolist() == table["area"].tolist()
    monkeypatch.setattr("napari_shiftseg.plugin.large.MOST_FEATURES", len(table["index"]) - 1)
    assert len(get_reader(str(tmp_path / "r.zarr"))(str(tmp_path / "r.zarr"))[-1][1]["features"]) == 0


# -- drawing ----------------------------------------------------------------------------------------------------------


class Drawn:
    def __init__(self, seconds=0.0):
        self.times, self.seconds = [], seconds

    def refresh(self, extent):
        self.times.append(time.perf_counter())
        time.sleep(self.seconds)


def test_a_layer_is_drawn_now_and_then_however_often_it_changes(qtbot):
    layer = Drawn()
    refresher = Refresher(layer, 0.2)
    end = time.perf_counter() + 0.5
    while time.perf_counter() < end:
        refresher.ask()
        qtbot.wait(2)
    qtbot.wait(300)
    assert 3 <= len(layer.times) <= 4
    assert min(np.diff(layer.times)) > 0.18
    refresher.ask()
    assert len(layer.times) <= 5  # at once after a rest


def test_a_slow_layer_is_drawn_in_a_fifth_of_the_time(qtbot):
    layer = Drawn(seconds=0.1)
    refresher = Refresher(layer, 0.01)
    refresher.ask()
    refresher.ask()
    qtbot.waitUntil(lambda: len(layer.times) == 2, timeout=60_000)
    assert np.diff(layer.times)[0] > 0.5


def test_only_blocks_in_view_are_drawn(open_large, qtbot, tmp_path, stepwise):
    viewer, widget = open_large(tmp_path / "r.zarr", window=True, show=True)
    viewer.scene.camera.center = (0, 560, 650)
    viewer.scene.camera.zoom = 20
    widget.run()
    qtbot.waitUntil(lambda: len(labels_of(viewer)) == 1, timeout=60_000)
    asked = []
    widget._live._refresher.ask = lambda: asked.append(stepwise.events[-1].window)
    for _ in range(3):
        stepwise.release()
    qtbot.waitUntil(lambda: "4 of 4 blocks" in widget.status.text() or "Joining" in widget.status.text(), timeout=60_000)
    assert len(asked) == 1 and asked[0][0].start == asked[0][1].start == 512
