"""Many images in the window: each result lands where it belongs, an error stays with its image, and work goes on."""

import csv
from pathlib import Path
from threading import Event

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

import tifffile
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_shiftseg import SegmentSettings, open_result, segment
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.events import Stage
from napari_shiftseg.plugin import queue_widget
from napari_shiftseg.plugin.constants import LEAST_WIDTH, NAME_WIDTH
from napari_shiftseg.plugin.layers import KEY
from napari_shiftseg.plugin.queue_form import FOLDER, INSIDE
from napari_shiftseg.plugin.queue_jobs import items_of, outside
from napari_shiftseg.plugin.queue_widget import RESULT, SEGMENT, QueueWidget

pytestmark = pytest.mark.gui

STATE, OBJECTS, VERDICT = 1, 2, 5


@pytest.fixture
def open_queue(qtbot, tiny):
    """`open_queue(*layers)`: a viewer with these layers, and the widget with the small model."""

    def open_it(*layers):
        viewer = ViewerModel()
        for layer in layers:
            viewer.add_layer(layer)
        viewer.layers.selection = set(viewer.layers)
        widget = QueueWidget(viewer)
        qtbot.addWidget(widget)
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed, viewer.layers.events.renamed):
            event.connect(widget.reset_choices)
        widget.form.model.choose_file(tiny)
        return viewer, widget

    return open_it


def wait(qtbot, widget):
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)


def press(qtbot, widget, button):
    assert button.isEnabled()
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    wait(qtbot, widget)


def choose_folder(qtbot, widget, folder, out=None):
    widget.form.what.setCurrentText(FOLDER)
    if out is not None:
        widget.form.place.setCurrentText(INSIDE)
        widget.form.out.value = out
    widget.form.folder.value = folder
    wait(qtbot, widget)


def column(widget, number):
    table = widget.form.table
    return [table.item(row, number).text() for row in range(table.rowCount())]


@pytest.fixture
def folder(tmp_path, cells):
    """Three images, of which the second is broken."""
    place = tmp_path / "my images"
    place.mkdir()
    for number in range(3):
        tifffile.imwrite(place / f"{number}.tif", cells((40 + 8 * number, 48)))
    (place / "1.tif").write_bytes(b"no image")
    return place


def test_a_result_lands_on_the_layer_that_it_was_started_on(open_queue, qtbot, cells, tiny):
    """By its place, its units and its name; also where its axes are others than those of its neighbour."""
    layers = [
        ImageLayer(cells((40, 48)), name="first", scale=(2, 3), translate=(5, 7)),
        ImageLayer(
            cells((2, 40, 48)), name="series", scale=(1, 0.5, 0.5), units=("s", "um", "um"), axis_labels=("t", "y", "x")
        ),
        ImageLayer(cells((56, 40)), name="first", rotate=30),
    ]
    viewer, widget = open_queue(*layers)
    assert column(widget, 0) == [layer.name for layer in layers]
    press(qtbot, widget, widget.form.run)
    assert column(widget, STATE) == ["done"] * 3 and "3 done" in widget.form.status.text()
    for row, layer in enumerate(layers):
        made = [one for one in viewer.layers if one.metadata.get(KEY, {}).get("source_id") == layer.unique_id]
        labels = next(one for one in made if one.metadata[KEY]["role"] == "instances")
        np.testing.assert_array_equal(labels.data, segment(layer.data, tiny).labels)
        np.testing.assert_allclose(labels.scale, layer.scale)
        np.testing.assert_allclose(labels.translate, layer.translate)
        np.testing.assert_allclose(labels.rotate, layer.rotate)
        assert labels.units == layer.units and labels.name == f"{layer.name} instances"
        count = sum(len(np.unique(frame)) - 1 for frame in (labels.data if labels.ndim == 3 else [labels.data]))
        assert column(widget, OBJECTS)[row] == str(count)
        widget.open_row(row)
        assert viewer.layers.selection.active is labels


def test_a_path_is_typed_to_its_end_before_images_are_looked_for(open_queue, qtbot, folder):
    """A field that is switched off at the first letter takes no other."""
    _, widget = open_queue()
    widget.form.what.setCurrentText(FOLDER)
    line = widget.form.folder.line_edit.native
    QTest.keyClicks(line, str(folder))
    assert line.text() == str(folder) and not widget.running
    QTest.keyClick(line, Qt.Key.Key_Return)
    wait(qtbot, widget)
    assert len(widget.sources) == 3


def test_a_folder_gives_a_store_per_image_a_sentence_per_error_and_two_tables(open_queue, qtbot, folder, tiny):
    viewer, widget = open_queue()
    choose_folder(qtbot, widget, folder)
    assert "3 images" in widget.form.found.text()
    press(qtbot, widget, widget.form.run)
    assert column(widget, STATE) == ["done", "failed", "done"]
    assert "not a TIFF" in column(widget, VERDICT)[1] and column(widget, VERDICT)[0].startswith("Compliant")
    for number in (0, 2):
        stored = open_result(folder / f"{number}_shiftseg.ome.zarr")
        np.testing.assert_array_equal(stored.labels[:], segment(folder / f"{number}.tif", tiny).labels)
        assert stored.embedding is None
    assert "2 done, 1 failed" in widget.form.status.text() and "shiftseg_images.csv" in widget.form.status.text()
    with (folder / "shiftseg_images.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["objects"] for row in table] == column(widget, OBJECTS)
    with (folder / "shiftseg_objects.csv").open() as file:
        assert {row["image"] for row in csv.DictReader(file)} == {"0.tif", "2.tif"}
    assert not viewer.layers
    widget.open_row(1)
    assert not viewer.layers
    widget.find()
    wait(qtbot, widget)
    assert column(widget, 0) == ["0.tif", "1.tif", "2.tif"], "results are no images"


def test_a_row_opens_its_result(make_napari_viewer, qtbot, folder, tiny):
    viewer = make_napari_viewer()
    widget = QueueWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Many images")
    widget.form.model.choose_file(tiny)
    choose_folder(qtbot, widget, folder)
    press(qtbot, widget, widget.form.run)
    for _ in range(2):  # what is open is selected
        widget.form.table.cellDoubleClicked.emit(2, 0)
    assert [layer.name for layer in viewer.layers] == ["2_shiftseg.ome", "2_shiftseg.ome instances"]
    np.testing.assert_array_equal(viewer.layers[0].data, tifffile.imread(folder / "2.tif"))
    area = (open_result(folder / "2_shiftseg.ome.zarr").labels[:] > 0).sum()
    assert column(widget, 3)[2] == f"{area} pixel\u00b2"


def test_of_a_file_of_several_images_it_is_said_which_was_segmented(open_queue, qtbot, tmp_path, cells, tiny):
    place = tmp_path / "several"
    place.mkdir()
    with tifffile.TiffWriter(place / "three.tif") as file:
        for size in (40, 48, 56):
            file.write(cells((size, 40)), photometric="minisblack")
    tifffile.imwrite(place / "one.tif", cells((40, 48)))
    _, widget = open_queue()
    widget.form.model.choose_file(tiny)
    choose_folder(qtbot, widget, place)
    press(qtbot, widget, widget.form.run)
    said = dict(zip(column(widget, 0), column(widget, VERDICT), strict=True))
    assert said["three.tif"].endswith("The file holds 3 images; the first was read."), said
    assert "first" not in said["one.tif"]
    table = (place / "shiftseg_images.csv").read_text()
    assert table.count("The file holds 3 images; the first was read.") == 1


def test_what_is_done_stays_done_after_cancel_and_resume_does_the_rest(open_queue, qtbot, folder, cells, tmp_path):
    tifffile.imwrite(folder / "1.tif", cells((120, 130)))
    out = tmp_path / "results"
    _, widget = open_queue()
    choose_folder(qtbot, widget, folder, out)
    seen = []

    def stop(row, *texts, **_):
        seen.append((row, texts[0]))
        if row == 1 and texts[0].startswith("network"):
            widget.cancel()

    told = widget.form.tell_row
    widget.form.tell_row = lambda row, *texts, **options: (told(row, *texts, **options), stop(row, *texts))
    press(qtbot, widget, widget.form.run)
    widget.form.tell_row = told
    assert "Cancelled; Resume goes on. 1 done." in widget.form.status.text()
    assert column(widget, STATE) == ["done", "waits", "waits"] and widget.form.run.text() == "Resume"
    assert sorted(path.name for path in out.iterdir()) == ["0.ome.zarr", "shiftseg_images.csv", "shiftseg_objects.csv"]
    first = open_result(out / "0.ome.zarr").record["run"]
    press(qtbot, widget, widget.form.run)
    assert column(widget, STATE) == ["done"] * 3 and widget.form.run.text() == "Run"
    assert open_result(out / "0.ome.zarr").record["run"] == first
    with (out / "shiftseg_images.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["0.tif", "1.tif", "2.tif"], "the table is the same one"
    assert len(list(out.glob("*.csv"))) == 2


def test_another_day_takes_what_is_there_for_done_and_overwrites_no_table(open_queue, qtbot, folder, tmp_path):
    out = tmp_path / "results"
    for states in (["done", "failed", "done"], ["there", "failed", "there"]):
        _, widget = open_queue()
        choose_folder(qtbot, widget, folder, out)
        press(qtbot, widget, widget.form.run)
        assert column(widget, STATE) == states
        (out / "shiftseg_images.csv").write_text("mine")
    assert (out / "shiftseg_images.csv").read_text() == "mine" and (out / "shiftseg_images-2.csv").exists()
    qtbot.waitUntil(lambda: widget.form.model.names.findText("nuclei") >= 0, timeout=60_000)
    widget.form.model.choose("nuclei")
    before = open_result(out / "0.ome.zarr").record["run"]
    press(qtbot, widget, widget.form.run)
    assert column(widget, STATE) == ["failed"] * 3 and "result of another model" in column(widget, VERDICT)[0]
    assert open_result(out / "0.ome.zarr").record["run"] == before


def test_the_settings_of_a_result_and_of_the_segment_widget_are_taken(open_queue, open_widget, qtbot, cells, tiny, monkeypatch):
    viewer, widget = open_queue(ImageLayer(cells((40, 48)), name="one"))
    _, other = open_widget(ImageLayer(cells((40, 48)), name="one"))
    other.form.min_size.setValue(60)
    other.run()
    qtbot.waitUntil(lambda: not other.running, timeout=60_000)
    viewer.add_layer(other.viewer.layers["one instances"])
    viewer.add_layer(ImageLayer(cells((64, 48)), name="two"))
    viewer.layers.selection = {viewer.layers["two"]}
    assert column(widget, 0) == ["two"]
    expected = segment(viewer.layers["two"].data, tiny, SegmentSettings(min_size=60)).labels
    assert not np.array_equal(expected, segment(viewer.layers["two"].data, tiny).labels)
    monkeypatch.setattr(widget, "_segment_widget", lambda: other)
    for choice in (RESULT + "one instances", SEGMENT):
        widget.form.wish.setCurrentText(choice)
        press(qtbot, widget, widget.form.run)
        np.testing.assert_array_equal(viewer.layers["two instances"].data, expected)


def test_a_layer_that_cannot_be_segmented_or_goes_stays_alone_with_its_sentence(open_queue, qtbot, cells):
    layers = [
        ImageLayer(cells((3, 40, 48)), name="colours", axis_labels=("c", "y", "x")),
        ImageLayer(cells((40, 48)), name="b"),
    ]
    viewer, widget = open_queue(*layers)
    press(qtbot, widget, widget.form.run)
    assert column(widget, STATE) == ["failed", "done"] and "3 channels" in column(widget, VERDICT)[0]
    widget.run()
    viewer.layers.remove("b")
    wait(qtbot, widget)
    assert any(layer.name == "b instances" for layer in viewer.layers)


def test_wrong_places_are_said(open_queue, qtbot, tmp_path, folder):
    _, widget = open_queue()
    (tmp_path / "empty").mkdir()
    choose_folder(qtbot, widget, tmp_path / "empty")
    assert "holds no image" in widget.form.found.text() and not widget.form.run.isEnabled()
    import zarr

    choose_folder(qtbot, widget, folder)
    widget.form.place.setCurrentText(INSIDE)
    press(qtbot, widget, widget.form.run)
    assert "no folder for the results was chosen" in widget.form.status.text().lower()
    assert len(list(folder.iterdir())) == 3 and widget.form.run.isEnabled()
    zarr.open_group(tmp_path / "store.zarr", mode="w")
    choose_folder(qtbot, widget, folder, tmp_path / "store.zarr" / "inner")
    press(qtbot, widget, widget.form.run)
    assert "lies in a zarr store" in widget.form.status.text() and not (tmp_path / "store.zarr" / "inner").exists()


def test_results_and_tables_of_a_plate_lie_beside_it_and_never_in_a_store(tmp_path, cells):
    import zarr

    from napari_shiftseg.io import find_images

    plate = tmp_path / "plate.zarr"
    group = zarr.open_group(plate, mode="w")
    group.attrs["ome"] = {"version": "0.5", "plate": {"wells": [{"path": "A/1"}, {"path": "B/2"}]}}
    for well in ("A/1", "B/2"):
        inner = group.require_group(well)
        inner.attrs["ome"] = {"version": "0.5", "well": {"images": [{"path": "0"}, {"path": "1"}]}}
        for name in "01":
            inner.create_array(name, data=cells((8, 8)))
    found = find_images(plate)
    names = [f"plate_{well}_{field}_shiftseg.ome.zarr" for well in ("A_1", "B_2") for field in "01"]
    assert [item.out for item in items_of(found, None)] == [tmp_path / name for name in names]
    assert items_of(found, tmp_path / "r")[3].out == tmp_path / "r" / "plate_B_2_1.ome.zarr"
    assert outside(plate) == outside(plate / "A" / "1") == outside(tmp_path) == tmp_path
    for sources, folder in ((find_images(plate / "A" / "1"), None), (found, plate / "A" / "results")):
        with pytest.raises(SettingsError, match="lies in a zarr store"):
            items_of(sources, folder)


def test_closing_the_window_ends_the_queue(qtbot, folder, tiny):
    widget = QueueWidget(ViewerModel())
    widget.form.model.choose_file(tiny)
    choose_folder(qtbot, widget, folder)
    widget.run()
    (job,) = widget.jobs
    widget.deleteLater()
    qtbot.waitUntil(lambda: job.cancelled.is_set(), timeout=60_000)


def test_nothing_chosen_is_a_hint_and_no_error(open_queue):
    _, widget = open_queue()
    assert "Select image layers" in widget.form.found.text() and not widget.form.run.isEnabled()
    widget.form.what.setCurrentText(FOLDER)
    assert "Choose a folder" in widget.form.found.text() and not widget.form.run.isEnabled()
    assert Path(str(widget.form.folder.value or "")) == Path()


def held():
    """Steps that go on until they are cancelled."""
    while True:
        yield Stage(done=0, total=0, text="one moment")


def test_a_search_that_is_cancelled_says_so_and_lists_nothing(open_queue, qtbot, folder, tmp_path, monkeypatch):
    """> rows of the images before were told of, which the table no longer had: AttributeError"""
    _, widget = open_queue()
    choose_folder(qtbot, widget, folder, tmp_path / "results")
    press(qtbot, widget, widget.form.run)
    with monkeypatch.context() as patch:
        patch.setattr(queue_widget, "find_steps", lambda *_: held())
        widget.form.recursive.toggle()
        assert column(widget, 0) == [] and widget.running
        press(qtbot, widget, widget.form.cancel)
    assert "Looking for images was cancelled" in widget.form.found.text()
    assert widget.form.status.text() == "" and not widget.form.run.isEnabled()
    widget.form.pattern.editingFinished.emit()  # Enter
    wait(qtbot, widget)
    assert column(widget, 0) == ["0.tif", "1.tif", "2.tif"] and widget.form.run.text() == "Run"


def test_tables_that_are_cancelled_are_not_begun_again(open_queue, qtbot, cells, tmp_path, monkeypatch):
    _, widget = open_queue(ImageLayer(cells((40, 48)), name="a"))
    press(qtbot, widget, widget.form.run)
    with monkeypatch.context() as patch:
        patch.setattr(queue_widget, "tables_steps", lambda *_: held())
        widget.save_tables(tmp_path / "t.csv")
        press(qtbot, widget, widget.form.cancel)
    assert widget.form.status.text().endswith("1 done. The tables were not written; Cancel was pressed.")
    assert column(widget, STATE) == ["done"] and widget.form.run.text() == "Run"


def test_a_folder_whose_tables_are_cancelled_is_done_all_the_same(open_queue, qtbot, folder, tmp_path, monkeypatch):
    _, widget = open_queue()
    choose_folder(qtbot, widget, folder, tmp_path / "results")
    begun = []
    monkeypatch.setattr(queue_widget, "tables_steps", lambda *_: (begun.append(1), held())[1])
    widget.run()
    qtbot.waitUntil(lambda: bool(begun), timeout=60_000)
    press(qtbot, widget, widget.form.cancel)
    assert begun == [1] and column(widget, STATE) == ["done", "failed", "done"] and widget.form.run.text() == "Run"


def test_what_was_done_before_an_error_of_the_whole_can_be_saved(open_queue, qtbot, cells, tmp_path, monkeypatch):
    """> the widget did not know how it went: AttributeError"""
    real = queue_widget.layer_steps

    def broken(*given):
        for event in real(*given):
            yield event
            if type(event).__name__ == "ItemDone":
                raise SettingsError("the disk is full.")

    monkeypatch.setattr(queue_widget, "layer_steps", broken)
    _, widget = open_queue(ImageLayer(cells((40, 48)), name="a"), ImageLayer(cells((40, 48)), name="b"))
    press(qtbot, widget, widget.form.run)
    assert column(widget, STATE)[0] == "done"
    widget.save_tables(tmp_path / "t.csv")
    wait(qtbot, widget)
    assert "disk is full" in widget.form.status.text() and "t.csv" in widget.form.status.text()
    assert (tmp_path / "t.csv").exists()


def test_cancel_in_the_last_step_before_the_work_begins_is_heard(open_queue, qtbot, cells, monkeypatch):
    real, gate = queue_widget.ready_steps, Event()

    def slow(wish):
        yield from real(wish)
        gate.wait(60)
        return real(wish)  # of which nothing is taken

    monkeypatch.setattr(queue_widget, "ready_steps", slow)
    viewer, widget = open_queue(ImageLayer(cells((40, 48)), name="a"))
    widget.run()
    qtbot.waitUntil(lambda: "Loading the model" in widget.form.status.text(), timeout=60_000)
    widget.cancel()
    gate.set()
    wait(qtbot, widget)
    assert widget.form.status.text().endswith("Cancelled. Nothing was done.") and widget.form.run.text() == "Run"
    assert [layer.name for layer in viewer.layers] == ["a"]
    assert column(widget, STATE) == ["waits"]


def test_what_became_of_an_image_stands_beside_its_name_however_long_that_is(open_queue, cells):
    viewer, widget = open_queue(ImageLayer(cells((40, 48)), name="plate 7, well B3, field 12, " * 8))
    table = widget.form.table
    assert table.columnViewportPosition(STATE) <= LEAST_WIDTH // 2 and table.item(0, 0).toolTip() == viewer.layers[0].name
    viewer.layers[0].name = "b3"
    widget.find()
    assert table.columnViewportPosition(STATE) < NAME_WIDTH
