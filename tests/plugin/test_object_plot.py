"""Objects are selected in a histogram and a scatter by the mouse, shown, deleted, kept, copied, and found in the canvas."""

import numpy as np
import pytest

pytest.importorskip("napari")

from measuring import Desk, noise, squares
from napari.layers import Image, Labels, Layer
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit, QListWidget

from napari_shiftseg import measure, open_result
from napari_shiftseg.io import save_result
from napari_shiftseg.plugin.correct_tool import CorrectTool
from napari_shiftseg.plugin.correction import correction_of
from napari_shiftseg.plugin.object_colours import colours_of
from napari_shiftseg.plugin.object_plot import LASSO, RECTANGLE, ObjectPlot
from napari_shiftseg.plugin.reader import read_result


@pytest.fixture
def desk(qtbot):
    return lambda *layers: Desk(qtbot, *layers)


def drag(plot, *places, keys=Qt.KeyboardModifier.NoModifier):
    """Press at the first place, move over the others, release at the last."""
    points = [QPoint(round(x), round(y)) for x, y in places]
    QTest.mousePress(plot, Qt.MouseButton.LeftButton, keys, points[0])
    for point in points[1:]:
        QTest.mouseMove(plot, point)
    QTest.mouseRelease(plot, Qt.MouseButton.LeftButton, keys, points[-1])


@pytest.fixture
def plot(qtbot):
    made = ObjectPlot()
    qtbot.addWidget(made)
    made.resize(400, 300)
    rng = np.random.default_rng(0)
    made.tell(("a", "b"), [np.append(rng.uniform(0, 10, 200), np.nan), np.append(rng.uniform(5, 6, 200), 5.5)])
    return made


@pytest.mark.parametrize("times", [1, 2])  # a hand may go around twice
def test_a_rectangle_and_a_lasso_take_what_lies_inside(plot, qtbot, times):
    places = plot.places()
    with qtbot.waitSignal(plot.chosen) as found:
        drag(plot, (100, 60), (150, 90), (300, 200))
    inside = (places[:, 0] >= 100) & (places[:, 0] <= 300) & (places[:, 1] >= 60) & (places[:, 1] <= 200)
    assert found.args[0].tolist() == np.flatnonzero(inside).tolist() and found.args[1] is False and 0 < inside.sum() < 200
    plot.tool = LASSO  # a triangle
    with qtbot.waitSignal(plot.chosen) as found:
        drag(plot, *[(100, 60), (300, 60), (100, 260)] * times, (100, 60), keys=Qt.KeyboardModifier.ShiftModifier)
    x, y = places.T
    inside = (x > 100) & (y > 60) & ((x - 100) + (y - 60) < 200)
    assert found.args[0].tolist() == np.flatnonzero(inside).tolist() and found.args[1] is True


def test_a_click_points_at_the_nearest_object_and_beside_all_clears(plot, qtbot):
    row = 17
    with qtbot.waitSignal(plot.pointed) as found:
        drag(plot, tuple(plot.places()[row] + 1))
    near = np.hypot(*(plot.places()[plot.known] - np.rint(plot.places()[row] + 1)).T).argmin()
    assert found.args[0] == near
    with qtbot.waitSignal(plot.cleared):
        drag(plot, (50, 290))
    with qtbot.waitSignal(plot.chosen) as found:
        QTest.keyClick(plot, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    assert len(found.args[0]) == 200


def test_a_histogram_counts_all_and_a_drag_takes_a_range(plot, qtbot):
    values = np.random.default_rng(1).normal(50, 10, 500)
    plot.tell(("a",), [np.append(values, np.nan)])
    assert plot._bars.sum() == 500
    with qtbot.waitSignal(plot.chosen) as found:
        drag(plot, (120, 40), (250, 250))
    x = plot.places()[:, 0]
    assert found.args[0].tolist() == np.flatnonzero((x >= 120) & (x <= 250)).tolist()
    with qtbot.waitSignal(plot.chosen) as found:
        drag(plot, (200, 100))
    assert 0 < len(found.args[0]) == plot._bars[np.searchsorted(plot._edges, values[found.args[0][0]], side="right") - 1]


@pytest.mark.parametrize("values", [[], [np.nan, np.nan], [3.0], [3.0, 3.0], [-1e300, 1e300], np.arange(5000.0)])
@pytest.mark.parametrize("two", [False, True])
def test_whatever_the_values_are_it_is_drawn(plot, values, two):
    columns = [np.asarray(values, float)] * (1 + two)
    plot.tell(("a", "b")[: 1 + two], columns)
    plot.select(np.arange(0, len(values), 2), 0 if len(values) else -1)
    assert not plot.grab().isNull() and str(len(values) - sum(np.isnan(values))) in plot.accessibleDescription()


def ready(desk, *layers):
    bench = desk(*layers)
    bench.measure()
    bench.form.across.setCurrentText("area")
    bench.form.up.setCurrentText("eccentricity")
    return bench


def test_a_rectangle_selects_lists_and_a_click_finds_the_object(desk):
    bench = ready(desk, Labels(squares(), scale=(0.5, 0.5), units=("um", "um")))
    plot, rows = bench.form.plot, bench.widget.measured.rows
    plot.resize(400, 300)
    drag(plot, (63, 9), (200, 150), (395, 268))
    assert plot.titles == ("area (\u00b5m\u00b2)", "eccentricity")
    assert len(bench.widget.selected) == 6 and bench.form.list.count() == 6 and "6 of 6" in bench.form.count.text()
    row = 4
    drag(plot, tuple(plot.places()[row]))
    assert bench.widget.selected.tolist() == [row] and f"Object {rows.labels[row]}," in bench.form.list.item(0).text()
    middle = np.argwhere(bench.layer.data == rows.labels[row]).mean(axis=0) * 0.5
    np.testing.assert_allclose(bench.viewer.scene.camera.center[-2:], middle)


def test_a_selection_is_seen_at_once_and_escape_gives_the_colours_back(desk):
    bench = ready(desk, Labels(squares()))
    theirs = bench.layer.colormap
    bench.click((4, 45))
    bench.wait()
    assert bench.layer.colormap.map(7)[3] == 1 > bench.layer.colormap.map(1)[3] > 0
    bench.form.delete.click()  # nothing is selected any more
    bench.wait()
    assert bench.layer.colormap is theirs
    bench.click((4, 5))
    bench.wait()
    assert bench.layer.colormap is not theirs
    QTest.keyClick(bench.form.plot, Qt.Key.Key_Escape)
    bench.wait()
    assert bench.layer.colormap is theirs


def test_a_click_in_the_image_marks_the_point_of_its_object(desk):
    bench = ready(desk, Labels(squares()))
    bench.click((4, 45))
    assert bench.widget.selected.tolist() == [2] and bench.form.plot.marked == 2
    bench.click((0, 0))  # background changes nothing
    assert bench.widget.selected.tolist() == [2]
    tool = CorrectTool(
        bench.viewer, correction_of(bench.layer).sheet, merge=print, split=print, delete=print, undo=print, redo=print,
        tell=lambda *_: None,
    )  # fmt: skip
    tool.choose("delete")
    bench.click((4, 5))
    assert bench.widget.selected.tolist() == [2]  # the click was of Correct
    tool.close()


def test_going_to_an_object_moves_the_sliders_too(desk):
    labels = np.zeros((2, 5, 20, 20), np.int32)
    labels[1, 3:, 10:14, 4:6] = 7
    bench = ready(desk, Labels(labels, scale=(3, 2, 1, 1), axis_labels=("t", "z", "y", "x")))
    bench.widget.go_to(0)
    assert tuple(bench.viewer.dims.point[:2]) == (3.0, 7.0)
    np.testing.assert_allclose(bench.viewer.scene.camera.center[-2:], (11.5, 4.5))


@pytest.mark.parametrize("verb", ["delete", "keep"])
def test_selected_objects_are_deleted_or_kept_in_one_step_that_is_undone(desk, verb):
    bench = ready(desk, Image(noise((40, 60))), Labels(squares()))
    layer, numbers = bench.layer, [1, 7, 13]
    bench.select(*numbers)
    getattr(bench.form, verb).click()
    bench.wait()
    left = set(np.unique(layer.data)) - {0}
    assert left == ({4, 10, 16} if verb == "delete" else set(numbers)) and len(correction_of(layer).edits) == 1
    assert layer.features["label"].tolist() == sorted(left) and len(bench.widget.measured.rows) == 3
    bench.form.undo.click()
    bench.wait()
    assert np.array_equal(layer.data, squares()) and len(layer.features) == 6
    np.testing.assert_allclose(layer.features["area"].astype(float), measure(layer.data)["area"])


def test_nothing_is_deleted_of_a_locked_layer(desk):
    bench = ready(desk, Labels(squares()))
    bench.select(1)
    bench.layer.editable = False
    bench.form.delete.click()
    bench.wait()
    assert "locked" in bench.form.status.text() and np.array_equal(bench.layer.data, squares())


def test_selected_objects_become_a_layer_with_numbers_place_and_features(desk):
    series = np.stack([squares(), squares()[:, ::-1]])
    bench = ready(desk, Labels(series, name="cells", scale=(9, 0.5, 0.5), translate=(0, 3, 4), axis_labels=("t", "y", "x")))
    bench.widget.select(np.array([0, 7]))
    bench.form.copy.click()
    bench.wait()
    made = bench.viewer.layers["cells selected"]
    expected = np.zeros_like(series)
    expected[0][series[0] == 1], expected[1][series[1] == 4] = 1, 4
    assert np.array_equal(made.data, expected) and np.array_equal(made.translate, (0, 3, 4))
    assert made.features["label"].tolist() == [1, 4] and np.array_equal(bench.viewer.layers["cells"].data, series)


def test_a_result_on_a_disk_is_measured_coloured_edited_and_undone(desk, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_shiftseg.plugin.reader.WHOLE_BYTES", 0)
    labels = np.kron(np.arange(1, 26, dtype=np.uint32).reshape(5, 5), np.pad(np.ones((50, 50), np.uint32), 5))
    plan = {"result_shape": [300, 300], "seams": [[32], [64]], "grid_phase": [0, 0], "period": [2, 2], "origin": [0, 0]}
    record = {"run": "one", "status": "compliant", "plan": plan}
    path = save_result(
        tmp_path / "r.ome.zarr", labels=labels, axes="yx", scale=(0.5, 0.5), units=["micrometer"] * 2, record=record
    )
    bench = desk(*(Layer.create(*made) for made in read_result(str(path))))
    layer = bench.layer
    assert layer.multiscale
    bench.measure()
    bench.form.column.setCurrentText("centroid-1")
    bench.select(3, 9, 20)
    bench.form.delete.click()
    bench.wait()
    stored = open_result(path).labels[...]
    assert (
        np.array_equal(stored, np.where(np.isin(labels, [3, 9, 20]), 0, labels)) and len(open_result(path).record["edits"]) == 1
    )
    true = measure(stored, spacing=(0.5, 0.5), units="micrometer")
    for name in ("label", "area", "centroid-1", "num_pixels"):
        np.testing.assert_allclose(layer.features[name].astype(float), true[name])
    assert bench.form.column.currentText() == "centroid-1"
    bench.form.undo.click()
    bench.wait()
    assert np.array_equal(open_result(path).labels[...], labels)
    np.testing.assert_allclose(layer.features["area"].astype(float), measure(labels, spacing=(0.5, 0.5))["area"])


def test_each_control_has_a_name_and_keys_reach_the_plot(desk):
    bench = desk(Labels(squares()))
    kinds = (QAbstractButton, QComboBox, QLineEdit, QListWidget, QAbstractSpinBox)
    for widget in [found for kind in kinds for found in bench.form.findChildren(kind)]:
        assert widget.accessibleName() or (isinstance(widget, QAbstractButton) and widget.text()), widget
    assert bench.form.plot.focusPolicy() == Qt.FocusPolicy.StrongFocus and bench.form.plot.accessibleName()
    assert bench.form.tool.itemText(0) == RECTANGLE


def test_layers_come_and_go_and_the_widget_is_closed(qtbot):
    bench = Desk(qtbot, closes=True)
    assert bench.widget.measured is None and not bench.form.measure.isEnabled()
    first = bench.viewer.add_labels(squares())
    image = bench.viewer.add_image(noise((40, 60)))
    bench.viewer.add_image(noise((9, 9)))  # does not fit
    bench.wait()
    assert bench.layer is first and bench.form.images.count() == 1
    bench.measure()
    second = bench.viewer.add_labels(squares() * 2)
    bench.form.layers.value = second
    bench.wait()
    assert not bench.widget.measured.is_measured
    bench.form.layers.value = first
    bench.wait()
    assert bench.widget.measured.is_measured and image.unique_id in bench.form.ticked()
    bench.form.column.setCurrentText("area")
    bench.wait()
    ours = first.colormap
    bench.select(1)
    bench.widget.close()
    bench.widget.deleteLater()
    qtbot.wait(20)
    assert (
        first.colormap is ours
        and not colours_of(first).selected
        and not [one for one in first.mouse_drag_callbacks if "Measure" in repr(one)]
    )
    first.fill((4, 5), 50)  # what is known goes on following edits
    qtbot.waitUntil(lambda: 50 in first.features["label"].tolist() and first.features["area"].notna().all(), timeout=60_000)


def test_a_series_on_a_disk_follows_edits_that_correct_makes_in_a_frame(qtbot, desk, tmp_path, monkeypatch):
    from napari_shiftseg.plugin.correct_widget import CorrectWidget

    monkeypatch.setattr("napari_shiftseg.plugin.reader.WHOLE_BYTES", 0)
    one = np.kron(np.arange(1, 26, dtype=np.uint32).reshape(5, 5), np.pad(np.ones((50, 50), np.uint32), 5))
    labels = np.stack([one, one[::-1]])
    plan = {"result_shape": [300, 300], "seams": [[32], [64]], "grid_phase": [0, 0], "period": [2, 2], "origin": [0, 0, 0]}
    record = {"run": "one", "status": "compliant", "plan": plan}
    path = save_result(tmp_path / "r.ome.zarr", labels=labels, axes="tyx", record=record)
    bench = desk(*(Layer.create(*made) for made in read_result(str(path))))
    layer = bench.layer
    bench.measure()
    bench.form.column.setCurrentText("area")
    correct = CorrectWidget(bench.viewer)
    qtbot.addWidget(correct)
    qtbot.waitUntil(lambda: correct.correction is not None and not correct.jobs, timeout=60_000)
    for edit in (lambda: correct.merge((1, 2), (1,)), lambda: correct.delete(9, (0,)), correct.undo, correct.redo):
        edit()
        qtbot.waitUntil(lambda: not correct.jobs, timeout=60_000)
        bench.wait()
        true = measure(open_result(path).labels[...], axes="tyx")
        for name in ("t", "label", "area", "centroid-1", "num_pixels", "bbox-2"):
            np.testing.assert_allclose(layer.features[name].astype(float), true[name], err_msg=name)
    bench.widget.select(np.array([0, 30]))  # deleted by the same history
    bench.form.delete.click()
    bench.wait()
    assert len(open_result(path).record["edits"]) == 4 and "deleted" in bench.form.status.text()
    correct.undo()
    qtbot.waitUntil(lambda: not correct.jobs, timeout=60_000)
    assert "changed by another program" not in correct.form.status.text() and len(open_result(path).record["edits"]) == 3


def test_labels_in_dask_of_nobody_s_are_measured_and_not_edited(desk):
    import dask.array as da

    bench = ready(desk, Labels(da.from_array(squares(), chunks=16)))
    np.testing.assert_allclose(bench.layer.features["area"], measure(squares())["area"])
    bench.select(1)
    bench.form.delete.click()
    bench.wait()
    assert "cannot be edited" in bench.form.status.text()


def test_labels_without_objects_are_measured(desk):
    bench = ready(desk, Labels(np.zeros((20, 20), np.int32)))
    assert len(bench.widget.measured.rows) == 0 and "0 objects" in bench.form.status.text()
    bench.form.column.setCurrentText("area")
    bench.layer.selected_label = 3
    bench.layer.paint((5, 5), 3)
    bench.wait()
    assert bench.layer.features["label"].tolist() == [3]
    np.testing.assert_allclose(bench.layer.features["area"].astype(float), measure(bench.layer.data)["area"])
