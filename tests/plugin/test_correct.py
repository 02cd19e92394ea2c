"""Labels are corrected by hand with the mouse: accept, merge, split, delete, and every edit can be undone."""

import random
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("napari")

from bench import Bench
from napari.layers import Labels
from napari.utils._proxies import ReadOnlyWrapper
from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks
from napari.utils.shortcuts import default_shortcuts
from qtpy.QtWidgets import QApplication

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.instances import object_table
from napari_shiftseg.plugin.correct_tool import KEYS
from napari_shiftseg.plugin.correct_widget import CorrectWidget
from napari_shiftseg.plugin.correction import correction_of
from napari_shiftseg.plugin.edited import edits_of
from napari_shiftseg.plugin.layers import KEY
from napari_shiftseg.plugin.subject import is_result


def squares(shape=(20, 30), kind=np.int32):
    """Two columns and three rows of squares, 1 to 6; 1 and 2, 3 and 4, 5 and 6 touch."""
    labels = np.zeros(shape, kind)
    for number in range(6):
        row, column = divmod(number, 2)
        labels[..., 1 + 6 * row : 6 + 6 * row, 4 + 8 * column : 12 + 8 * column] = number + 1
    return labels


@pytest.fixture
def bench(qtbot):
    return lambda *layers: Bench(qtbot, *layers)


def true_table(layer):
    table = object_table(np.asarray(layer.data))
    shown = layer.features
    assert shown["index"].tolist() == table["index"].tolist()
    for name in table:
        if name in shown:
            assert np.allclose(shown[name].astype(float), table[name].astype(float)), name
    return table


def test_a_click_merges_two_objects_deletes_one_and_a_stroke_splits_one(bench):
    desk = bench(Labels(squares()))
    desk.do("merge", (3, 5), (3, 14))
    assert set(np.unique(desk.layer.data)) == {0, 1, 3, 4, 5, 6} and (desk.layer.data[3, 4:20] == 1).all()
    true_table(desk.layer)
    desk.do("delete", (9, 6))
    assert 3 not in desk.layer.data
    desk.do("split", (0, 12), (4, 12), (7, 12))
    assert set(np.unique(desk.layer.data[3])) == {0, 1, 7} and "along the line" in desk.status()
    table = true_table(desk.layer)
    assert f"{len(table['index'])} objects" in desk.widget.form.about.text()
    assert "Edited by hand: 3 edits" in desk.widget.form.about.text()
    assert [desk.widget.form.edits.item(at).text() for at in range(3)] == [edit.describe() for edit in desk.edits]
    for _ in range(3):
        desk.press("Ctrl+Z")
    assert np.array_equal(desk.layer.data, squares())
    true_table(desk.layer)
    for _ in range(3):
        desk.press("Ctrl+Shift+Z")
    assert set(np.unique(desk.layer.data)) == {0, 1, 4, 5, 6, 7}


def test_keys_choose_a_mode_and_collide_with_none_of_napari(bench):
    desk = bench(Labels(squares()))
    for mode, key in KEYS.items():
        desk.press(key)
        assert desk.widget.tool.mode == mode and desk.widget.form.modes[mode].isChecked()
        desk.press(key)
        assert desk.widget.tool.mode == ""
    others = ("points", "shape", "image", "vector", "tracks", "surface", "plane", "drawing", "direct", "vertex", "_in_slice")
    others += ("_add_", "select_mode", "contrast")
    names = [name for name in default_shortcuts if not any(kind in name for kind in others)]
    theirs = {str(binding) for name in names for binding in default_shortcuts[name]}
    assert {"P", "E", "V"} <= theirs  # of the labels and of the viewer
    theirs |= {str(binding) for binding in Labels.class_keymap} - {"Ctrl+Z", "Ctrl+Shift+Z"}
    assert not theirs & set(KEYS.values())


def test_painting_in_between_is_a_part_of_the_history(bench):
    desk = bench(Labels(squares()))
    layer, states = desk.layer, [squares()]
    desk.do("merge", (3, 5), (3, 14))
    states.append(layer.data.copy())
    layer.mode = "paint"
    assert desk.widget.tool.mode == ""  # napari's tool has the mouse now
    layer.brush_size, layer.selected_label = 4, 9
    desk.mouse((3, 8), (3, 14), (9, 14))
    states.append(layer.data.copy())
    assert 9 in layer.data
    true_table(layer)
    desk.do("delete", (3, 8))  # what was painted
    states.append(layer.data.copy())
    layer.fill((9, 6), 5)
    states.append(layer.data.copy())
    layer.data_setitem((np.array([0, 0]), np.array([0, 1])), 4)
    desk.wait()
    states.append(layer.data.copy())
    true_table(layer)
    for state in states[-2::-1]:
        desk.press("Ctrl+Z")
        assert np.array_equal(layer.data, state)
    for state in states[1:]:
        desk.press("Ctrl+Shift+Z")
        assert np.array_equal(layer.data, state)
    true_table(layer)
    layer.undo()  # napari's own history would bring back pixels of before
    assert np.array_equal(layer.data, states[-1])


def test_a_stroke_ends_what_can_be_done_again_even_before_it_is_in_the_history(bench):
    desk = bench(Labels(squares()))
    correction = desk.widget.correction
    correction.merge((1, 3), ())
    correction.undo()
    desk.layer.data_setitem((np.array([19]), np.array([29])), 6)  # no turn of the event loop since
    with pytest.raises(SettingsError, match="nothing was undone"):
        correction.redo()
    after = squares()
    after[19, 29] = 6
    assert np.array_equal(desk.layer.data, after)


def test_what_a_script_overwrote_is_not_undone_over(bench):
    desk = bench(Labels(squares()))
    desk.do("merge", (3, 5), (3, 14))
    desk.layer.data[3, 15] = 77
    before = desk.layer.data.copy()
    desk.press("Ctrl+Z")
    assert np.array_equal(desk.layer.data, before) and "other numbers now" in desk.status() and len(desk.edits) == 1
    desk.layer.data = np.zeros((4, 4), np.int32)  # another image
    assert not desk.edits


def test_history_survives_slices_other_modes_and_the_widget(bench, qtbot):
    stack = np.stack([squares(), squares() * 2, squares()])
    desk = bench(Labels(stack, axis_labels=("t", "y", "x")))
    desk.viewer.dims.set_point(0, 1)
    desk.do("merge", (1, 3, 5), (1, 3, 14))
    assert np.array_equal(desk.layer.data[0], stack[0]) and np.array_equal(desk.layer.data[2], stack[2])  # one frame
    assert (desk.layer.data[1, 3, 4:20] == 2).all() and "5 objects in this frame" in desk.widget.form.about.text()
    desk.viewer.dims.set_point(0, 2)
    assert "6 objects in this frame" in desk.widget.form.about.text()
    desk.viewer.dims.order = (1, 0, 2)
    desk.viewer.dims.order = (0, 1, 2)
    desk.layer.mode = "fill"
    other = desk.viewer.add_labels(squares())
    desk.widget.form.layers.value = other
    desk.wait()
    desk.widget.form.layers.value = desk.viewer.layers[0]
    desk.wait()
    desk.press("Ctrl+Z")
    assert np.array_equal(desk.layer.data, stack)
    assert str(next(iter(other.keymap), "none")) == "none"  # the other layer has napari's keys


def test_a_click_in_one_plane_edits_the_whole_object_in_space(bench):
    labels = np.zeros((8, 20, 30), np.int32)
    labels[1:7] = squares()
    desk = bench(Labels(labels, scale=(2, 1, 1)))
    desk.viewer.dims.set_point(0, 4)
    desk.do("merge", (2, 3, 5), (2, 3, 14))
    assert (desk.layer.data[1:7, 3, 4:20] == 1).all()
    desk.do("split", (2, 0, 12), (2, 7, 12))
    assert len(np.unique(desk.layer.data[:, 3])) == 3 and len(np.unique(desk.layer.data[5, 3])) == 3
    desk.viewer.dims.order = (1, 0, 2)  # planes of z and x
    desk.do("delete", (4, 9, 6))
    assert 3 not in desk.layer.data
    true_table(desk.layer)
    for _ in range(3):
        desk.press("Ctrl+Z")
    assert np.array_equal(desk.layer.data, labels)


@pytest.mark.parametrize("button", [1, 2])
def test_drags_and_other_buttons_are_no_clicks(bench, button):
    desk = bench(Labels(squares()))
    desk.widget.tool.choose("delete")
    desk.mouse((3, 5), (9, 9), button=button)
    if button == 2:
        desk.mouse((3, 5), button=2)
    assert np.array_equal(desk.layer.data, squares()) and not desk.edits
    desk.mouse((0, 0))
    assert "No object is there" in desk.status()


def test_a_stroke_beside_the_image_splits_nothing(bench):
    desk = bench(Labels(squares()))
    desk.widget.tool.choose("split")
    desk.mouse((-9, -9), (-3, 40))
    assert np.array_equal(desk.layer.data, squares()) and not desk.edits and desk.status()


@pytest.mark.parametrize("shape", [(), (2,)], ids=["plane", "frames"])
def test_a_hidden_layer_can_be_edited(bench, shape):
    start = np.broadcast_to(squares(), (*shape, *squares().shape)).copy()
    desk = bench(Labels(start.copy(), visible=False))
    first, second = (int(number) for number in np.unique(start)[1:3])
    desk.widget.viewer.dims.set_point(0, len(shape))  # elsewhere than where it was last drawn, if it ever was
    edit = desk.widget.correction.merge((first, second), (0,) * len(shape))
    assert not (desk.layer.data[(0,) * len(shape)] == second).any() and edit.describe().startswith(
        f"merged {first}, {second} into {first}"
    )
    desk.widget.correction.undo()
    assert np.array_equal(desk.layer.data, start)


def test_a_locked_layer_is_left_alone(bench):
    desk = bench(Labels(squares()))
    desk.layer.editable = False
    desk.do("delete", (3, 5))
    assert np.array_equal(desk.layer.data, squares()) and "locked" in desk.status()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int64, np.uint64])
def test_numbers_keep_their_type(bench, kind):
    start = squares(kind=kind)
    if np.dtype(kind).itemsize == 8:
        start[start == 2] = 2**53 + 1
    desk = bench(Labels(start.copy()))
    desk.do("merge", (3, 14), (3, 5))
    assert desk.layer.data.dtype == kind and int(desk.layer.data[3, 5]) == int(start[3, 14])
    desk.do("split", (0, 12), (7, 12))
    desk.press("Ctrl+Z")
    desk.press("Ctrl+Z")
    assert np.array_equal(desk.layer.data, start)


@pytest.fixture
def made(bench, put_result):
    """A result of a run, beside its embedding."""

    def make(**options):
        desk = bench()
        result = put_result(desk.viewer, **options)
        desk.widget.reset_choices()
        desk.wait()
        return desk, result

    return make


def two_of(layer):
    """A pixel of each of two objects."""
    numbers = [n for n in np.unique(layer.data) if n > 0][:2]
    return [tuple(np.argwhere(layer.data == number)[0]) for number in numbers]


def test_an_edited_result_is_the_users_and_the_next_run_makes_a_new_layer(made, put_result, tiny):
    from napari_shiftseg import SegmentSettings
    from napari_shiftseg.events import drain
    from napari_shiftseg.plugin.layers import layer_tuples, segment_and_draw
    from napari_shiftseg.plugin.replacement import replace_layers
    from napari_shiftseg.plugin.source import image_of, placement_of

    def run_again(desk):
        image = desk.viewer.layers["cells"]
        drawn = drain(segment_and_draw(image_of(image, "yx"), tiny, SegmentSettings(write=16)))
        place = placement_of(image, "yx", "yx")
        return replace_layers(desk.viewer, layer_tuples(drawn, place, "cells", source_id=image.unique_id), whole=True)

    desk, _ = made()
    layer = desk.layer
    desk.do("merge", *two_of(layer))
    kept, name = layer.data.copy(), layer.name
    assert name.endswith("(edited)") and len(edits_of(layer)) == 1
    put = run_again(desk)
    assert layer in put.kept and layer not in put.layers and np.array_equal(layer.data, kept) and layer.name == name
    desk.widget.form.layers.value = layer
    desk.wait()
    desk.widget.accept()
    assert layer.name == "cells accepted" and not is_result(layer) and layer.metadata[KEY]["accepted"]["role"] == "instances"
    put = run_again(desk)
    assert layer not in put.kept and layer not in put.layers and np.array_equal(layer.data, kept)
    assert layer.name == "cells accepted" and layer.visible
    assert not desk.widget.form.accept.isEnabled()
    desk.press("Ctrl+Z")  # the history goes on
    assert len(desk.edits) == 0 and not np.array_equal(layer.data, kept)


@pytest.mark.parametrize("accepted", [False, True])
def test_a_split_goes_by_the_embedding_of_the_run(made, accepted):
    desk, _ = made()
    layer = desk.layer
    first, second = (layer.data == layer.data[place] for place in two_of(layer))
    embedding = next(other for other in desk.viewer.layers if (other.metadata.get(KEY) or {}).get("role") == "embedding")
    embedding.data[:, first], embedding.data[:, second] = 0.0, 9.0  # as trained: far apart
    if accepted:
        desk.widget.accept()
    desk.do("merge", *two_of(layer))
    ends = [tuple(np.argwhere(part)[0]) for part in (first, second)]
    desk.widget.split(int(layer.data[ends[0]]), (), seeds=ends)
    desk.wait()
    assert "nearer of the two codes" in desk.status()
    assert len({*layer.data[first]}) == 1 and {*layer.data[first]} != {*layer.data[second]}


def test_without_an_embedding_layer_it_is_computed_where_it_is_needed(made):
    desk, result = made()
    layer = desk.layer
    number = int(np.bincount(layer.data.ravel())[1:].argmax()) + 1
    places = np.argwhere(layer.data == number)
    for other in list(desk.viewer.layers):
        if "embedding" in (other.metadata.get(KEY) or {}).get("role", ""):
            desk.viewer.layers.remove(other)
    from napari_shiftseg.plugin import codes

    asked = []
    original = codes.block_steps

    def spied(subject, device, window_of):
        block = yield from original(subject, device, window_of)
        asked.append((window_of(), block))
        return block

    codes.block_steps = spied
    try:
        desk.widget.split(number, (), seeds=[tuple(places[0]), tuple(places[-1])])
        desk.wait()
    finally:
        codes.block_steps = original
    ((window, block),) = asked
    assert np.array_equal(block[(slice(None), *window)], result.embedding[(slice(None), *window)])  # in bits
    assert len(desk.edits) == 1


def test_a_random_walk_keeps_pixels_history_and_features_together(bench):
    rng, desk = random.Random(4), bench(Labels(squares()))
    layer, states = desk.layer, [squares()]
    for _ in range(60):
        before = len(desk.edits)
        what = rng.choice(["merge", "delete", "split", "paint", "undo", "redo"])
        points = [(rng.randrange(20), rng.randrange(30)) for _ in range(2)]
        if what in ("undo", "redo"):
            desk.press({"undo": "Ctrl+Z", "redo": "Ctrl+Shift+Z"}[what])
            assert any(np.array_equal(layer.data, state) for state in states)
        elif what == "paint":
            layer.mode, layer.brush_size, layer.selected_label = "paint", rng.randrange(1, 6), rng.randrange(12)
            desk.mouse(*points)
        else:
            desk.do(what, *(points if what != "delete" else points[:1]))
        if len(desk.edits) > before and what not in ("undo", "redo"):
            del states[before + 1 :]
            states.append(layer.data.copy())
        assert np.array_equal(layer.data, states[len(desk.edits)])
        if "index" in layer.features:
            true_table(layer)
    assert len(states) > 10


def test_mouse_and_keys_of_the_canvas_reach_the_layer(make_napari_viewer, qtbot):
    from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
    from qtpy.QtGui import QMouseEvent

    viewer = make_napari_viewer(show=True)
    layer = viewer.add_labels(squares())
    widget = CorrectWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Correct")
    qtbot.waitUntil(lambda: not widget.jobs, timeout=60_000)
    viewer.reset_view()
    canvas = viewer.window._qt_viewer.canvas.native
    qtbot.wait(100)
    zoom, middle = viewer.scene.camera.zoom, np.array(viewer.scene.camera.center[-2:])

    def place(y, x):
        by = (np.array([y, x]) - middle) * zoom
        return QPoint(round(canvas.width() / 2 + by[1]), round(canvas.height() / 2 + by[0]))

    canvas.setFocus()
    qtbot.keyClick(canvas, Qt.Key.Key_J)
    assert widget.tool.mode == "merge"
    for y, x in ((3, 6), (3, 15)):
        qtbot.mouseMove(canvas, place(y, x))
        qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=place(y, x))
    assert 2 not in layer.data
    qtbot.keyClick(canvas, Qt.Key.Key_K)
    centre = viewer.scene.camera.center
    kinds = (QEvent.Type.MouseButtonPress, *[QEvent.Type.MouseMove] * 6, QEvent.Type.MouseButtonRelease)
    for y, kind in enumerate(kinds):  # what Qt sends while a button is held
        at = place(y, 12)
        held = Qt.MouseButton.LeftButton if kind != QEvent.Type.MouseButtonRelease else Qt.MouseButton.NoButton
        of = Qt.MouseButton.NoButton if kind == QEvent.Type.MouseMove else Qt.MouseButton.LeftButton
        there = QPointF(canvas.mapToGlobal(at))
        QApplication.sendEvent(canvas, QMouseEvent(kind, QPointF(at), there, of, held, Qt.KeyboardModifier.NoModifier))
    assert 7 in layer.data, (widget.form.status.text(), canvas.size(), place(0, 12), zoom, middle)
    assert viewer.scene.camera.center == centre
    qtbot.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert 7 not in layer.data
    viewer.dims.ndisplay = 3
    viewer.dims.ndisplay = 2
    qtbot.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert np.array_equal(layer.data, squares())


def seen_from(layer, direction, *places):
    """Press the mouse on a view of a volume along its first axis, move it over places, pixels, and release it there."""
    first, last = 0.0, float(layer.data.shape[0] - 1)
    events = [
        SimpleNamespace(
            type=kind, button=1, position=(first if direction > 0 else last, *place), pos=(10 * place[0], 10 * place[1]),
            modifiers=[], inverted=False, view_direction=np.array([direction, 0.0, 0.0]), dims_displayed=[0, 1, 2],
            dims_point=[0, 0, 0], is_dragging=kind != "mouse_press",
        )
        for kind, place in [("mouse_press", places[0]), *(("mouse_move", place) for place in places[1:]),
                            ("mouse_release", places[-1])]
    ]  # fmt: skip
    mouse_press_callbacks(layer, ReadOnlyWrapper(events[0]))
    for event in events[1:-1]:
        mouse_move_callbacks(layer, ReadOnlyWrapper(event))
    mouse_release_callbacks(layer, events[-1])


def test_a_view_of_a_volume_takes_the_object_that_is_seen(bench):
    labels = np.zeros((8, 20, 30), np.int32)
    labels[1:3] = squares()
    labels[5:7] = np.where(squares() > 0, squares() + 10, 0)
    desk = bench(Labels(labels))
    desk.viewer.dims.ndisplay = 3
    tool, layer = desk.widget.tool, desk.layer
    tool.choose("delete")
    for direction, gone in ((1.0, 1), (-1.0, 11)):
        seen_from(layer, direction, (3.0, 6.0))
        assert gone not in layer.data
    assert {2, 12} <= set(np.unique(layer.data))


def test_a_stroke_over_a_view_of_a_volume_splits_the_object_that_is_seen(bench):
    labels = np.zeros((8, 20, 30), np.int32)
    labels[1:3, 2:12, 3:25] = 4
    labels[5:7, 2:12, 3:25] = 9
    desk = bench(Labels(labels))
    desk.viewer.dims.ndisplay = 3
    tool, layer = desk.widget.tool, desk.layer
    tool.choose("split")
    for direction, other, there in ((1.0, 9, slice(1, 3)), (-1.0, 4, slice(5, 7))):
        desk.press("Ctrl+Z")
        assert np.array_equal(layer.data, labels)
        seen_from(layer, direction, *((7.0, float(at)) for at in (5, 9, 12, 15, 22)))  # from one part to the other
        assert (layer.data == other).sum() == (labels == other).sum(), "the one behind it is whole"
        left, right = layer.data[there, 7, 5], layer.data[there, 7, 22]
        assert len(set(left.tolist())) == len(set(right.tolist())) == 1 and left[0] != right[0]
        assert (layer.data[there, 2:12, 3:14] == left[0]).all() and (layer.data[there, 2:12, 14:25] == right[0]).all()
        true_table(layer)


def test_objects_of_a_large_image_are_counted_in_a_thread(bench, monkeypatch):
    monkeypatch.setattr("napari_shiftseg.plugin.correction.TABLE_PIXELS", 10)
    desk = bench(Labels(squares()))
    assert "6 objects." in desk.widget.form.about.text() and not desk.widget.jobs
    desk.do("merge", (3, 5), (3, 14))
    assert "5 objects." in desk.widget.form.about.text()
    desk.layer.data = squares() * 2  # by a script, or other settings
    desk.wait()
    assert "6 objects." in desk.widget.form.about.text()


def test_columns_of_others_stay_where_an_object_was_not_edited(bench):
    table = object_table(squares())
    extra = {"mine": np.arange(6) * 1.5, "word": np.array(list("abcdef"), object), "sure": np.arange(6) > 2}
    desk = bench(Labels(squares(), features={**table, **extra}))
    desk.do("merge", (3, 5), (3, 14))
    true_table(desk.layer)
    shown = desk.layer.features.set_index("index")
    assert shown.loc[[3, 4, 5, 6], "word"].tolist() == list("cdef") and shown.loc[6, "mine"] == 7.5
    assert np.isnan(shown.loc[1, "mine"]) and shown["word"].isna()[1] and shown["area"].dtype.kind == "i"


def test_undo_of_nothing_is_a_sentence(bench):
    desk = bench(Labels(squares()))
    for key in ("Ctrl+Z", "Ctrl+Shift+Z"):
        desk.press(key)
        assert "othing" in desk.status()
    with pytest.raises(SettingsError):
        correction_of(desk.layer).undo()


def test_what_was_said_of_a_result_says_that_its_labels_were_edited(open_widget, qtbot):
    from napari.layers import Image as ImageLayer

    data = np.random.default_rng(0).integers(0, 255, (40, 48)).astype(np.uint8)
    viewer, segment = open_widget(ImageLayer(data, name="cells"))
    segment.run()
    qtbot.waitUntil(lambda: not segment.running, timeout=60_000)
    proof = segment.status.text()
    assert "#4caf50" in proof  # the green dot
    desk = Bench(qtbot, viewer=viewer)
    desk.do("merge", *two_of(desk.layer))
    assert "Edited by hand: 1 edit." in segment.status.text() and "#4caf50" not in segment.status.text()
    from napari_shiftseg.plugin.subject import subject_of

    assert subject_of(viewer, desk.layer).edits == 1
    desk.press("Ctrl+Z")
    assert segment.status.text() == proof


def test_metadata_of_an_edited_result_go_with_it_into_a_file(made, tmp_path):
    from napari_shiftseg import open_result, read_labels
    from napari_shiftseg.cli import main
    from napari_shiftseg.plugin.writers import write_labels

    desk, _ = made()
    desk.do("merge", *two_of(desk.layer))
    data, meta, _ = desk.layer.as_layer_data_tuple()
    (path,) = write_labels(str(tmp_path / "cells.ome.zarr"), data, meta)
    record = open_result(path).record
    assert [edit["kind"] for edit in record["edits"]] == ["merge"] and record["run"]
    assert np.array_equal(read_labels(path).data[...], desk.layer.data)
    assert main(["measure", path, "--out", str(tmp_path / "cells.csv")]) == 0
    assert len((tmp_path / "cells.csv").read_text().splitlines()) == 1 + len(np.unique(desk.layer.data)) - 1
    assert main(["export", path, str(tmp_path / "cells.tif")]) == 0
    from napari.layers import Layer

    from napari_shiftseg.plugin.reader import read_result

    layers = [Layer.create(*made) for made in read_result(path)]
    assert len(edits_of(layers[-1])) == 1 and correction_of(layers[-1]).count == 1
