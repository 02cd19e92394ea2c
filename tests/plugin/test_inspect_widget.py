"""The Inspect widget, operated as a user does."""

import csv
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from npe2 import PluginManifest
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage

import napari_shiftseg
from napari_shiftseg.analysis import seam_report
from napari_shiftseg.analysis.bench import Bench
from napari_shiftseg.plugin.inputs import DOTS
from napari_shiftseg.plugin.inspect_jobs import KINDS
from napari_shiftseg.plugin.inspect_widget import InspectWidget
from napari_shiftseg.plugin.layers import KEY

pytestmark = pytest.mark.gui


@pytest.fixture
def inspect(qtbot, put_result):
    """`inspect(shape, **options)`: a viewer with a result, the widget on it, and the `Segmentation`."""

    def open_it(shape=(40, 48), **options):
        viewer = ViewerModel()
        result = put_result(viewer, shape, **options)
        widget = InspectWidget(viewer)
        qtbot.addWidget(widget)
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed, viewer.layers.events.renamed):
            event.connect(widget.reset_choices)
        return viewer, widget, result

    yield open_it
    notification_manager.records.clear()


def click(qtbot, widget, name):
    button = getattr(widget.form, name)
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)


def column(widget, name):
    table = widget.form.table
    names = [table.horizontalHeaderItem(k).text() for k in range(table.columnCount())]
    return [table.item(row, names.index(name)).data(Qt.ItemDataRole.DisplayRole) for row in range(table.rowCount())]


# -- seams ------------------------------------------------------------------------------------------------------------


def test_it_shows_what_the_library_reports(inspect, qtbot):
    _, widget, result = inspect()
    click(qtbot, widget, "measure")
    report = seam_report(result.embedding, result.plan, result.labels)
    assert report.verdict in widget.form.finding.text()
    found = list(zip(column(widget, "axis"), column(widget, "pixel"), strict=True))
    assert found == [("yx"[row.axis], row.position) for row in report.worst(99)]
    assert len(found) == sum(map(len, result.plan.seams()))
    assert column(widget, "cut") == [row.straight for row in report.worst(99)]


def test_each_line_of_the_plot_is_of_its_kind(inspect, qtbot):
    _, widget, result = inspect()
    click(qtbot, widget, "measure")
    groups = widget.form.plot.groups
    plan = result.plan
    seams = [set(axis) for axis in plan.seams()]
    lines = [{p for p in axis if 0 < p < size} for axis, size in zip(plan.grid(), plan.result_shape, strict=True)]
    period = sum(len(of_grid - of_tiles) for of_grid, of_tiles in zip(lines, seams, strict=True))
    count = sum(map(len, seams))
    assert [len(groups[kind]) for kind in KINDS] == [count, period, 39 + 47 - count - period]
    (row,) = widget.findings.lines[(widget.findings.lines["axis"] == 1) & (widget.findings.lines["position"] == 16)]
    jump = np.linalg.norm(result.embedding[:, :, 16] - result.embedding[:, :, 15], axis=0).mean()
    assert row["jump"] == pytest.approx(float(jump), rel=1e-5)


def test_a_click_on_a_row_moves_the_camera_to_the_seam(inspect, qtbot):
    viewer, widget, _ = inspect(scale=(0.5, 0.25), translate=(3, 4), rotate=20)
    click(qtbot, widget, "measure")
    for row in range(widget.form.table.rowCount()):
        widget.form.table.cellClicked.emit(row, 0)
        at = viewer.layers["cells instances"].world_to_data(viewer.scene.camera.center[-2:])
        axis = "yx".index(column(widget, "axis")[row])
        assert at[axis] == pytest.approx(column(widget, "pixel")[row] - 0.5)


def test_a_seam_between_planes_is_a_step_of_the_slider(inspect, qtbot, save_tiny):
    model = save_tiny("deep", ndim=3, window=(8, 8, 8))
    viewer, widget, _ = inspect((12, 16, 18), write=8, model=model, scale=(4, 1, 1))
    click(qtbot, widget, "measure")
    row = column(widget, "axis").index("z")
    widget.form.table.cellClicked.emit(row, 0)
    assert viewer.dims.current_step[-3] == column(widget, "pixel")[row] == 8


def test_a_series_is_measured_at_the_frame_that_is_shown(inspect, qtbot):
    viewer, widget, result = inspect((2, 40, 48), axes="tyx")
    viewer.dims.set_current_step(1, 1)  # axis 0 is the channel of the embedding
    click(qtbot, widget, "measure")
    assert "(t = 1)" in widget.form.finding.text()
    report = seam_report(result.embedding[:, 1], result.plan, result.labels[1])
    assert column(widget, "jump")[0] == pytest.approx(report.worst(1)[0].jump, rel=5e-3)


def test_table_and_plot_are_saved(inspect, qtbot, tmp_path):
    _, widget, _ = inspect()
    click(qtbot, widget, "measure")
    widget.save_table(tmp_path / "seams.csv")
    with open(tmp_path / "seams.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["axis_name"], int(row["position"])) for row in rows] == list(
        zip(column(widget, "axis"), column(widget, "pixel"), strict=True)
    )
    widget.save_plot(tmp_path / "seams.png")
    picture = QImage(str(tmp_path / "seams.png"))
    seen = {picture.pixelColor(x, y).name() for x in range(0, picture.width(), 2) for y in range(0, picture.height(), 2)}
    assert len(seen) > 10


def test_highlight_keeps_the_instances_beside_seams(inspect, qtbot):
    viewer, widget, result = inspect()
    click(qtbot, widget, "highlight")
    beside = set()
    for axis, seams in enumerate(result.plan.seams()):
        for position in seams:
            beside |= set(np.unique(np.take(result.labels, (position - 1, position), axis=axis)).tolist()) - {0}
    assert 0 < len(beside) < result.labels.max()
    found = viewer.layers["cells on seams"].data
    assert set(np.unique(found).tolist()) - {0} == beside
    assert np.array_equal(found[found > 0], result.labels[found > 0])
    click(qtbot, widget, "highlight")
    assert sum("on seams" in layer.name for layer in viewer.layers) == 1


# -- truth ------------------------------------------------------------------------------------------------------------


def truth_of(result):
    """A truth in which all that lies left of column 24 is one object, and the rest another."""
    truth = np.ones(result.labels.shape, np.int32)
    truth[..., 24:] = 2
    return truth


def test_with_a_truth_jumps_inside_objects_are_measured(inspect, qtbot):
    viewer, widget, result = inspect()
    viewer.add_image(np.zeros((40, 48)), name="no labels")
    viewer.add_labels(np.zeros((4, 4), int), name="of another shape")
    viewer.add_labels(truth_of(result), name="outlines")
    assert [str(choice) for choice in widget.form.truth.choices] == ["None", "outlines"]
    assert widget.form.truth.value is None, "a truth is used only when it is chosen"
    widget.form.truth.value = viewer.layers["outlines"]
    click(qtbot, widget, "measure")
    report = seam_report(result.embedding, result.plan, result.labels, truth_of(result))
    assert report.verdict in widget.form.finding.text() and "true objects at seams" in report.verdict
    widget.form.truth.value = None
    assert widget.findings is None, "what was measured with a truth does not stay without it"


def test_true_objects_that_are_split_are_outlined(inspect, qtbot):
    viewer, widget, _ = inspect(write=16)
    halves = np.where(np.arange(48) < 16, 1, 2) * np.ones((40, 1), int)  # cut at a seam, and elsewhere whole
    viewer.layers["cells instances"].data = np.where(np.arange(48) < 32, halves, 3).astype(np.int32)
    truth = np.where(np.arange(48) < 32, 7, 9) * np.ones((40, 1), np.int32)
    viewer.add_labels(truth, name="outlines")
    widget.form.truth.value = viewer.layers["outlines"]
    click(qtbot, widget, "highlight")
    found = viewer.layers["cells split objects"].data
    assert np.array_equal(found, np.where(truth == 7, 7, 0))
    assert "1 true objects are split, 1 of them across seams" in widget.status.text()


def with_truth(widget, viewer, truth):
    viewer.add_labels(truth, name="outlines")
    widget.form.truth.value = viewer.layers["outlines"]


@pytest.mark.parametrize("how", ["right", "missed", "extra"])
def test_the_dot_is_green_only_if_no_seam_shows_and_no_object_is_missed_or_extra(inspect, qtbot, how):
    viewer, widget, result = inspect()
    labels = viewer.layers["cells instances"].data
    numbers = np.unique(labels)[1:]
    truth = np.asarray(labels).astype(np.int32)
    if how == "extra":  # what is no true object was found
        truth = np.where(truth == numbers[-1], 0, truth)
    if how == "missed":  # a true object that was not found
        truth[np.unravel_index(np.flatnonzero(labels == 0)[:1], labels.shape)] = numbers[-1] + 1
    click(qtbot, widget, "measure")
    assert widget.findings.report.exposed is False
    assert DOTS["pass"] in widget.form.finding.text() and "only a truth tells" in widget.form.finding.text()
    assert widget.form.table.isColumnHidden(widget.form.table.columnCount() - 1)
    with_truth(widget, viewer, truth)
    click(qtbot, widget, "measure")
    said = widget.form.finding.text()
    assert (DOTS["pass"] in said) == (how == "right") and (DOTS["warn"] in said) == (how != "right")
    report = seam_report(result.embedding, result.plan, labels, truth)
    assert report.score.text in said and report.meaning in said
    assert (report.score.fn, report.score.fp) == (how == "missed", how == "extra")
    assert column(widget, "missed") == [row.missed for row in report.worst(99)]
    assert not widget.form.table.isColumnHidden(widget.form.table.columnCount() - 1)


def test_missed_and_extra_objects_are_outlined_in_all_frames(inspect, qtbot):
    viewer, widget, _ = inspect((2, 40, 48), axes="tyx")
    labels = np.zeros((2, 40, 48), np.int32)
    labels[:, 4:12, 4:12], labels[1, 20:30, 20:30] = 3, 5
    truth = np.zeros_like(labels)
    truth[:, 4:12, 4:12], truth[0, 30:38, 2:9] = 8, 9
    viewer.layers["cells instances"].data = labels
    with_truth(widget, viewer, truth)
    click(qtbot, widget, "highlight")
    assert np.array_equal(viewer.layers["cells missed objects"].data, np.where(truth == 9, 9, 0))
    assert np.array_equal(viewer.layers["cells extra objects"].data, np.where(labels == 5, 5, 0))
    assert not viewer.layers["cells split objects"].data.any()
    said = widget.status.text()
    assert "1 of 3 true objects is missed (1 has no label at all)" in said
    assert "1 of 3 found ones is extra (1 lies on no true object)" in said


# -- network ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("write", "ok"), [(16, True), (15, False)], ids=["on the lattice", "off the lattice"])
def test_verify_tells_legal_tiles_from_others(inspect, qtbot, write, ok):
    _, widget, _ = inspect(write=write, bad=not ok)
    click(qtbot, widget, "verify")
    assert ("equal one pass" in widget.form.answer.text()) == ok, widget.status.text()
    assert ("differ from one pass" in widget.form.answer.text()) == (not ok)


def test_a_stream_has_no_seams_between_rows_and_is_verified_as_what_it_is(inspect, qtbot):
    _, widget, result = inspect(method="stream")
    assert result.record["method"]["name"] == "stream" and result.plan.seams()[0] == ()
    widget.form.seams.setChecked(True)
    assert "without seams" in widget.form.legend.text() and "one column" in widget.form.legend.text()
    click(qtbot, widget, "verify")
    assert "the stream" in widget.form.answer.text().lower() or "strips" in widget.form.answer.text()
    assert "equal" in widget.form.answer.text()


def test_probe_finds_the_period(inspect, qtbot):
    _, widget, _ = inspect()
    click(qtbot, widget, "probe")
    assert "period of 2 px" in widget.form.answer.text()
    assert "On this image" in widget.form.answer.text() and "effective period is" in widget.form.answer.text()


def test_a_probe_shows_how_far_it_is_and_is_cancelled_within_a_step(inspect, qtbot, monkeypatch):
    passes, go_on, run = [], threading.Semaphore(8), Bench.run

    def one_by_one(self, x):
        passes.append(x.shape)
        go_on.acquire(timeout=30)
        return run(self, x)

    monkeypatch.setattr(Bench, "run", one_by_one)
    _, widget, _ = inspect()
    widget.probe()
    qtbot.waitUntil(lambda: len(passes) == 9, timeout=60_000)  # the ninth is in work
    qtbot.waitUntil(lambda: widget.progress.value() > 3, timeout=60_000)
    assert widget.progress.maximum() > 4 and "Looking how far the network sees" in widget.status.text()
    widget.cancel()
    go_on.release()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    assert len(passes) == 9 and widget.status.text() == "Cancelled." and not widget.form.answer.text()


def test_another_model_is_refused(inspect, qtbot, save_tiny):
    _, widget, _ = inspect()
    widget.form.model.value = save_tiny("other", features=2)
    click(qtbot, widget, "verify")
    assert "is not the model" in widget.status.text()


def test_a_model_that_is_gone_is_asked_for(inspect, qtbot, tiny, monkeypatch):
    viewer, widget, _ = inspect()
    for layer in viewer.layers:
        if KEY in layer.metadata:
            layer.metadata = {KEY: layer.metadata[KEY] | {"model": "gone.safetensors"}}
    click(qtbot, widget, "verify")
    assert "Model file" in widget.status.text()
    widget.form.model.value = tiny
    click(qtbot, widget, "verify")
    assert "equal one pass" in widget.form.answer.text()


def test_an_image_that_is_gone_is_asked_for(inspect, qtbot):
    viewer, widget, _ = inspect()
    viewer.layers.remove("cells")
    click(qtbot, widget, "verify")
    assert "open it" in widget.status.text()


# -- layers and lines -------------------------------------------------------------------------------------------------


def test_the_boxes_show_and_hide_lines_and_follow_the_layer_list(inspect):
    viewer, widget, _ = inspect()
    widget.form.seams.setChecked(True)
    widget.form.grid.setChecked(True)
    assert [layer.name for layer in viewer.layers][-2:] == ["cells period grid", "cells tile seams"]
    assert "not borders of tiles" in widget.form.legend.text()
    viewer.layers["cells tile seams"].visible = False
    assert not widget.form.seams.isChecked()
    viewer.layers.remove("cells period grid")
    assert not widget.form.grid.isChecked()


def test_it_opens_on_nothing_and_takes_the_first_result(qtbot, put_result):
    viewer = ViewerModel()
    widget = InspectWidget(viewer)
    qtbot.addWidget(widget)
    assert not widget.form.measure.isEnabled()
    put_result(viewer)
    widget.reset_choices()
    assert widget.form.measure.isEnabled()
    viewer.layers.clear()
    widget.reset_choices()
    assert not widget.form.measure.isEnabled()


def test_a_new_run_clears_what_was_found(inspect, qtbot):
    _, widget, _ = inspect()
    click(qtbot, widget, "measure")
    assert widget.findings is not None
    layer = widget.layer
    layer.metadata = dict(layer.metadata)
    assert widget.findings is None
    assert widget.form.table.rowCount() == 0


def test_one_tile_has_no_seams(inspect, qtbot):
    _, widget, _ = inspect(write=64)
    click(qtbot, widget, "measure")
    assert "single tile" in widget.form.finding.text()
    assert "no seams" in widget.form.legend.text()
    assert not widget.form.table_button.isEnabled()


def test_it_is_said_that_illegal_tiles_have_grids_of_their_own(inspect):
    _, legal, _ = inspect()
    _, illegal, _ = inspect(write=15, bad=True)
    assert "grid of its own" not in legal.form.legend.text()
    assert "grid of its own" in illegal.form.legend.text()


def test_it_works_in_a_viewer_that_hides_its_private_side(make_napari_viewer, qtbot, put_result, npe2pm):
    """napari hands such a viewer to a plugin that a script docks."""
    viewer = make_napari_viewer()
    result = put_result(viewer)
    with npe2pm.tmp_plugin(manifest=PluginManifest.from_file(Path(napari_shiftseg.__file__).with_name("napari.yaml"))):
        _, widget = viewer.window.add_plugin_dock_widget("napari-shiftseg", "Inspect")
    assert widget.viewer is not viewer
    widget.form.seams.setChecked(True)
    assert len(viewer.layers["cells tile seams"].data) == sum(map(len, result.plan.seams()))
    for name in ("measure", "highlight", "verify"):
        click(qtbot, widget, name)
    widget.form.table.cellClicked.emit(0, 0)
    assert "equal one pass" in widget.form.answer.text()
    viewer.layers.remove("cells tile seams")
    assert not widget.form.seams.isChecked()
    widget.form.seams.setChecked(True)
    viewer.layers.remove("cells instances")
    viewer.layers.remove("cells embedding")
    assert not any("seams" in layer.name for layer in viewer.layers if "on seams" not in layer.name)
    assert not widget.form.measure.isEnabled()


def test_a_closed_dock_takes_its_lines_with_it(make_napari_viewer, qtbot, put_result):
    viewer = make_napari_viewer()
    put_result(viewer)
    widget = InspectWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Inspect")
    widget.form.seams.setChecked(True)
    assert any("seams" in layer.name for layer in viewer.layers)
    with qtbot.capture_exceptions() as raised:
        viewer.window.remove_dock_widget(widget)
        widget.deleteLater()
        qtbot.waitUntil(lambda: not any("seams" in layer.name for layer in viewer.layers), timeout=60_000)
        viewer.scene.camera.zoom = 3
        viewer.layers.remove(viewer.layers[-1])
    assert not raised


def test_a_closed_window_raises_nothing(make_napari_viewer, qtbot, put_result):
    viewer = make_napari_viewer()
    put_result(viewer)
    widget = InspectWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Inspect")
    widget.form.seams.setChecked(True)
    widget.measure()
    (job,) = widget.jobs
    with qtbot.capture_exceptions() as raised:
        viewer.close()
        qtbot.waitUntil(lambda: not job.worker.is_running, timeout=60_000)
        qtbot.wait(50)
    assert not raised
