"""Labels that lie in a saved result are corrected there by the mouse, and look the same when it is opened again."""

import numpy as np
import pytest

pytest.importorskip("napari")

from bench import Bench
from napari.layers import Layer

from napari_shiftseg import open_result
from napari_shiftseg.instances import object_table
from napari_shiftseg.io import save_result
from napari_shiftseg.plugin import jobs
from napari_shiftseg.plugin.edited import edits_of
from napari_shiftseg.plugin.layers import KEY
from napari_shiftseg.plugin.reader import read_result


def squares(shape):
    """Squares of 8 px at steps of 10, in pairs that touch."""
    count = np.arange(1, 1 + np.prod([n // 10 for n in shape])).reshape([n // 10 for n in shape])
    labels = np.zeros(shape, np.uint32)
    for place in np.ndindex(count.shape):
        window = tuple(slice(10 * at + 1, 10 * at + (11 if axis == 1 and at % 2 == 0 else 9)) for axis, at in enumerate(place))
        labels[window] = count[place]
    for place in np.ndindex(count.shape):  # the right one of a pair begins where the left one ends
        if place[1] % 2:
            labels[10 * place[0] + 1 : 10 * place[0] + 9, 10 * place[1] + 1 : 10 * place[1] + 9] = count[place]
    return labels


@pytest.fixture
def lazy(monkeypatch):
    """Every result is one that is too large to be read whole."""
    monkeypatch.setattr("napari_shiftseg.plugin.reader.WHOLE_BYTES", 0)


@pytest.fixture
def desk(lazy, qtbot, tmp_path):
    labels = squares((300, 280))
    plan = {"result_shape": [300, 280], "seams": [[32], [64]], "grid_phase": [0, 0], "period": [2, 2], "origin": [0, 0]}
    record = {"run": "one", "status": "compliant", "plan": plan}
    path = save_result(tmp_path / "r.ome.zarr", labels=labels, axes="yx", record=record)
    desk = Bench(qtbot, *(Layer.create(*made) for made in read_result(str(path))))
    desk.path, desk.before = path, labels
    return desk


def stored(desk):
    return open_result(desk.path).labels[...]


def test_clicks_and_strokes_are_written_into_the_store_and_undone_there(desk):
    layer = desk.layer
    assert layer.multiscale and "r.ome.zarr at once" in desk.status()
    one, two = (int(desk.before[place]) for place in ((5, 5), (5, 15)))
    desk.do("merge", (5, 5), (5, 15))
    expected = np.where(desk.before == two, one, desk.before)
    assert np.array_equal(stored(desk), expected)
    assert np.array_equal(np.asarray(layer.data[0]), expected) and np.array_equal(np.asarray(layer.data[1]), expected[::2, ::2])
    assert layer.name.endswith("(edited)") and len(edits_of(layer)) == 1
    desk.do("split", (0, 10), (9, 10))
    assert len(np.unique(stored(desk)[1:9, 1:19])) == 2 and "along the line" in desk.status()
    desk.do("delete", (25, 25))
    assert stored(desk)[25, 25] == 0
    kinds = [edit["kind"] for edit in open_result(desk.path).record["edits"]]
    assert kinds == ["merge", "split", "delete"] and "Edited by hand: 3 edits" in desk.widget.form.about.text()
    for _ in range(3):
        desk.press("Ctrl+Z")
    assert np.array_equal(stored(desk), desk.before) and open_result(desk.path).record["edits"] == []
    desk.press("Ctrl+Shift+Z")
    assert np.array_equal(stored(desk), expected)
    later = Bench(desk.qtbot, *(Layer.create(*made) for made in read_result(str(desk.path))))
    assert later.layer.name.endswith("(edited)") and later.widget.form.undo.isEnabled()
    later.press("Ctrl+Z")
    assert np.array_equal(stored(desk), desk.before)


def test_an_edit_that_is_cancelled_before_it_begins_says_so_and_changes_nothing(desk):
    with jobs._LOADING:
        desk.widget.delete(int(desk.before[5, 5]), ())
        assert desk.widget.form.cancel.isVisibleTo(desk.widget)
        desk.widget.cancel()
    desk.wait()
    assert desk.status() == "Cancelled; nothing was changed." and np.array_equal(stored(desk), desk.before)


def test_what_edits_need_is_loaded_also_after_cancel(desk):
    """> the labels could not be edited then until others were chosen, and these again"""
    with jobs._LOADING:
        desk.widget._on_layer()
        assert desk.widget.jobs and not desk.widget.form.cancel.isVisibleTo(desk.widget)
        desk.widget.cancel()
    desk.wait()
    desk.do("delete", (5, 5))
    assert stored(desk)[5, 5] == 0


@pytest.mark.parametrize("level", [0, 1])
def test_what_is_in_view_is_drawn_anew(desk, level):
    layer, place = desk.layer, (5 >> level, 15 >> level)
    layer.locked_data_level = level
    for _ in range(2):
        before = int(layer._slice.image.raw[place])
        desk.do("delete", (5, 15))
        assert before == desk.before[5, 15] and layer._slice.image.raw[place] == 0
        desk.press("Ctrl+Z")


def test_accepting_leaves_the_store_editable(desk):
    desk.widget.accept()
    assert "role" not in desk.layer.metadata[KEY] and desk.layer.name == "r.ome accepted"
    desk.do("delete", (5, 5))
    assert stored(desk)[5, 5] == 0
    desk.press("Ctrl+Z")
    assert np.array_equal(stored(desk), desk.before)


def test_a_store_that_cannot_be_written_is_one_sentence_and_stays(lazy, desk, qtbot, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("napari_shiftseg.files._create", refuse)
    again = Bench(qtbot, *(Layer.create(*made) for made in read_result(str(desk.path))))
    assert "cannot be written" in again.status() and not again.widget.form.merge.isEnabled()
    assert np.array_equal(stored(desk), desk.before)


def test_the_result_of_a_run_out_of_core_is_corrected_with_its_features_and_its_embedding(open_large, qtbot, tmp_path):
    viewer, segment = open_large(tmp_path / "big.ome.zarr")
    segment.run()
    qtbot.waitUntil(lambda: not segment.running, timeout=120_000)
    proof = segment.status.text()
    desk = Bench(qtbot, viewer=viewer)
    desk.path = tmp_path / "big.ome.zarr"
    before = stored(desk)
    one, two = np.unique(before)[[1, 2]].tolist()
    desk.widget.merge((one, two), ())
    desk.wait()
    expected = np.where(before == two, one, before)
    assert np.array_equal(stored(desk), expected)
    table, shown = object_table(expected), desk.layer.features
    assert shown["index"].tolist() == table["index"].tolist() and shown["area"].tolist() == table["area"].tolist()
    assert np.allclose(shown["centroid_y"], table["centroid_y"])
    assert "Edited by hand: 1 edit." in segment.status.text() and segment.status.text() != proof
    seeds = [np.argwhere(before == number)[0].tolist() for number in (one, two)]
    desk.widget.split(one, (), seeds=seeds)
    qtbot.waitUntil(lambda: not desk.widget.jobs, timeout=120_000)
    desk.wait()
    assert "has no embedding" not in desk.status() and len(edits_of(desk.layer)) == 2  # it was computed
    assert len(np.unique(stored(desk)[before > 0])) == len(np.unique(before)) - 1
