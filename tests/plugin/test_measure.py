"""Objects are measured into the features of their layer, and what is known of them follows every edit."""

import csv
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("napari")

from measuring import Desk, noise, squares
from napari.components import ViewerModel
from napari.layers import Image, Labels
from qtpy.QtWidgets import QApplication

from napari_shiftseg import measure
from napari_shiftseg.events import Event as Progress
from napari_shiftseg.plugin import measure_widget
from napari_shiftseg.plugin.correction import correction_of
from napari_shiftseg.plugin.measured import measured_of
from napari_shiftseg.plugin.object_rows import BESIDE, joined, measured_columns, replaced, rows_of_table

EVENT = Progress(done=0, total=2)


@pytest.fixture
def desk(qtbot):
    return lambda *layers: Desk(qtbot, *layers)


def same(features, table, names=None):
    for name in names or table:
        shown, true = features[name].to_numpy(), table[name]
        if true.dtype.kind in "f":
            np.testing.assert_allclose(shown.astype(float), true, rtol=1e-9, atol=1e-9, err_msg=name)
        else:
            assert shown.tolist() == true.tolist(), name


CASES = {
    "plane": (squares(), ("y", "x"), (0.5, 0.5), None),
    "volume": (np.stack([squares()] * 3), ("z", "y", "x"), (2, 0.5, 0.5), None),
    "series": (np.stack([squares(), squares() * 2]), ("t", "y", "x"), (60, 0.5, 0.5), 2),
    "series of volumes": (np.stack([np.stack([squares()] * 3)] * 2), ("t", "z", "y", "x"), (60, 2, 0.5, 0.5), 3),
}


@pytest.mark.parametrize("case", CASES)
def test_features_are_what_measure_gives_with_units_and_intensities(desk, case):
    labels, axes, scale, ndim = CASES[case]
    units = tuple("s" if axis == "t" else "um" for axis in axes)
    place = {"scale": scale, "units": units, "axis_labels": axes}
    layer, image = Labels(labels, **place), Image(noise(labels.shape), name="red", **place)
    bench = desk(image, layer)
    assert bench.form.ticked() == [image.unique_id]
    features = bench.measure()
    names = tuple("second" if axis == "t" else "micrometer" for axis in axes)
    true = measure(labels, image.data, axes="".join(axes), ndim=ndim, spacing=scale, units=names)
    same(features, true)
    assert features["unit"].iloc[0] == "micrometer" and ("index" in features) == (ndim is None)
    assert f"{len(true['label'])} objects" in bench.form.status.text()


def test_several_images_have_columns_by_their_names_and_channels(desk):
    labels = squares()
    two = noise((2, 40, 60), 1)
    layers = [Image(two, name="two", axis_labels=("c", "y", "x")), Image(noise((40, 60)), name="one"), Labels(labels)]
    bench = desk(*layers)
    for at in range(bench.form.images.count()):
        bench.form.images.item(at).setCheckState(bench.form.images.item(at).checkState().Checked)
    features = bench.measure()
    for name, values in {"two-0": two[0], "two-1": two[1], "one": layers[1].data}.items():
        true = measure(labels, values)
        same(features.rename(columns={f"max_intensity-{name}": "max_intensity"}), true, ["max_intensity"])


@pytest.mark.parametrize("verb", ["merge", "split", "delete", "delete many", "paint", "fill", "erase"])
@pytest.mark.parametrize("case", ["plane", "volume", "series"])
def test_rows_follow_every_edit_its_undo_and_its_redo(desk, case, verb):
    labels, axes, scale, ndim = CASES[case]
    labels = labels.copy()
    place = {"scale": scale, "axis_labels": axes}
    layer, image = Labels(labels, **place), Image(noise(labels.shape), **place)
    bench = desk(image, layer)
    bench.measure()
    correction = correction_of(layer)
    frame = (1,) if case == "series" else ()
    numbers = [number for number in np.unique(labels[frame]).tolist() if number]
    point = {"plane": (), "volume": (1,), "series": (1,)}[case]
    if point:
        bench.viewer.dims.set_point(0, point[0] * scale[0])

    def true():
        same(layer.features, measure(layer.data, image.data, axes="".join(axes), ndim=ndim, spacing=scale))

    true()
    if verb == "merge":
        correction.merge((numbers[0], numbers[4]), frame)
    elif verb == "split":
        seeds = [(4.0, 23.0), (5.0, 30.0)] if case != "volume" else [(1.0, 4.0, 23.0), (1.0, 5.0, 30.0)]
        correction.split(numbers[1], frame, seeds=seeds)
    elif verb == "delete":
        correction.delete(numbers[2], frame)
    elif verb == "delete many":
        correction.delete(numbers[:4], frame)
    else:
        layer.selected_label = {"paint": 99, "fill": 99, "erase": 0}[verb]
        getattr(layer, "fill" if verb == "fill" else "paint")((*point, 4, 5), layer.selected_label)
    bench.wait()
    true()
    after = layer.data.copy()
    correction.undo()
    bench.wait()
    assert np.array_equal(layer.data, labels) or verb
    true()
    correction.redo()
    bench.wait()
    assert np.array_equal(layer.data, after)
    true()


def test_napari_s_own_undo_is_followed(desk):
    layer = Labels(squares())
    bench = desk(layer)
    bench.measure()
    layer.paint((4, 5), 99)
    bench.wait()
    assert 99 in layer.features["label"].tolist()
    for step in (layer.undo, layer.redo, layer.undo):
        step()
        bench.wait()
        same(layer.features, measure(layer.data))


def test_edits_while_the_whole_is_measured_are_measured_again(desk):
    layer = Labels(squares())
    bench = desk(layer)
    bench.form.measure.click()
    layer.fill((4, 5), 77)
    layer.paint((30, 50), 78)
    bench.wait()
    same(layer.features, measure(layer.data))


def test_labels_that_are_replaced_lose_what_was_measured_of_the_old_ones(desk):
    layer = Labels(squares(), features={"index": [1, 4], "mine": ["a", "b"]})
    bench = desk(layer)
    bench.measure()
    layer.data = squares()[::-1].copy()
    bench.wait()
    assert not measured_columns(layer.features.columns) and layer.features["mine"].dropna().tolist() == ["a", "b"]
    assert "replaced" in bench.form.about.text() and not bench.form.save.isEnabled()
    bench.measure()
    same(layer.features, measure(layer.data))


def test_columns_of_the_user_stay_also_where_they_have_names_of_ours(desk):
    mine = {"index": [4, 10, 77], "area": [0.5, 1.5, 2.5], "kind": ["a", "b", "c"]}
    layer = Labels(squares(), features=mine)
    bench = desk(layer)
    for _ in range(2):  # measured again as well
        features = bench.measure()
        shown = features[features["index"].isin(mine["index"])]
        assert shown["area"].tolist() == mine["area"] and shown["kind"].tolist() == mine["kind"]
        true = measure(layer.data)
        there = features[features["label"].notna()]
        same(there.rename(columns={"area": "old"}).rename(columns={f"area{BESIDE}": "area"}), true, ["label", "area", "extent"])
    layer.fill((4, 40), 7)  # what was touched has no other column; nobody else's row is
    bench.wait()
    assert layer.features["kind"].dropna().tolist() == mine["kind"]


def test_a_table_of_a_user_that_cannot_be_joined_stays_as_it_is(desk):
    labels = np.stack([squares(), squares()])
    layer = Labels(labels, axis_labels=("t", "y", "x"), features={"index": [1, 4], "mine": [5, 6]})
    bench = desk(layer)
    before = layer.features.copy()
    bench.measure()
    assert layer.features.equals(before) and len(bench.widget.measured.rows) == 12
    assert "table of its own" in bench.form.about.text()
    layer.fill((0, 4, 5), 0)
    bench.wait()
    assert layer.features.equals(before) and len(bench.widget.measured.rows) == 11


def test_planes_of_a_stack_can_have_objects_of_their_own(desk):
    labels = np.stack([squares(), squares()[::-1], np.zeros((40, 60), np.int32)])
    layer = Labels(labels, axis_labels=("z", "y", "x"))
    bench = desk(layer)
    bench.form.planes.setChecked(True)
    features = bench.measure()
    same(features, measure(labels, axes="zyx", ndim=2))
    bench.select(1)
    assert len(bench.widget.selected) == 2
    bench.widget.delete()
    bench.wait()
    same(layer.features, measure(layer.data, axes="zyx", ndim=2))
    assert 1 not in layer.data
    bench.widget.undo()
    bench.wait()
    bench.widget.undo()
    bench.wait()
    assert np.array_equal(layer.data, labels)
    same(layer.features, measure(labels, axes="zyx", ndim=2))


def test_the_status_line_speaks_of_the_object_of_the_frame_that_is_shown(desk):
    labels = np.stack([squares(), squares()])
    labels[1, 2:8, 3:12] = 0
    labels[1, 2:4, 3:5] = 1
    layer = Labels(labels, axis_labels=("t", "y", "x"))
    bench = desk(layer)
    bench.measure()
    for at, pixels in ((0, 54), (1, 4)):
        bench.viewer.dims.set_point(0, at)
        assert f"num_pixels: {pixels}" in " ".join(layer._get_properties((at, 2, 3), dims_displayed=[1, 2], world=True))


def test_cancel_leaves_features_as_they_were(desk, monkeypatch):
    layer = Labels(squares(), features={"index": [1], "mine": [2]})
    bench = desk(layer)
    before = layer.features.copy()
    bench.form.measure.click()
    bench.form.cancel.click()
    bench.wait()
    assert layer.features.equals(before) and "Cancelled" in bench.form.status.text()
    bench.measure()
    assert measured_columns(layer.features.columns)


def test_who_chooses_other_labels_and_these_again_keeps_what_runs_now(desk, monkeypatch):
    gates, begun = [Event(), Event()], []

    def held(gate):
        begun.append(gate)
        yield EVENT
        gate.wait(60)
        yield EVENT
        yield EVENT

    waiting = iter(gates)
    monkeypatch.setattr(measure_widget, "measure_layer_steps", lambda _: held(next(waiting)))
    bench = desk(Labels(squares(), name="a"), Labels(squares(), name="b"))
    first, second = bench.viewer.layers
    bench.form.layers.value = first
    bench.form.measure.click()
    (before,) = bench.widget.jobs
    bench.qtbot.waitUntil(lambda: len(begun) == 1, timeout=30_000)  # one that is cancelled earlier never begins
    for layer in (second, first):
        bench.form.layers.value = layer
    bench.form.measure.click()
    (now,) = bench.widget.jobs
    bench.qtbot.waitUntil(lambda: len(begun) == 2, timeout=30_000)
    assert before.cancelled.is_set() and not now.cancelled.is_set()
    ended = []
    before.worker.returned.connect(lambda _: ended.append(True))
    gates[0].set()
    bench.qtbot.waitUntil(lambda: bool(ended), timeout=30_000)
    assert bench.widget.jobs == [now] and bench.form.status.text().endswith("Measuring\u2026")
    bench.form.cancel.click()
    gates[1].set()
    bench.wait()
    assert "nothing was measured" in bench.form.status.text()


def test_whatever_is_cancelled_says_so(desk, monkeypatch):
    gate = Event()

    def held(*_):
        yield EVENT
        gate.wait(60)
        yield EVENT

    monkeypatch.setattr(measure_widget, "layer_of_steps", held)
    bench = desk(Labels(squares()))
    bench.measure()
    bench.select(1)
    bench.widget.copy()
    bench.widget.cancel()
    gate.set()
    bench.wait()
    assert bench.form.status.text().endswith("Cancelled.") and len(bench.viewer.layers) == 1


@pytest.mark.parametrize("end", [".csv", ".parquet"])
def test_the_table_that_is_saved_is_that_of_the_command(desk, tmp_path, end):
    pytest.importorskip("pyarrow")
    import pandas as pd
    import tifffile

    from napari_shiftseg.cli import main

    labels, image = squares(), noise((40, 60))
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    tifffile.imwrite(tmp_path / "image.tif", image)
    bench = desk(Image(image), Labels(labels, features={"index": [4, 999], "mine": ["x", "y"]}))
    bench.measure()
    bench.layer.paint((30, 50), 99)
    bench.layer.undo()
    bench.wait()
    bench.widget.save(tmp_path / f"panel{end}")
    bench.wait()
    assert "Written" in bench.form.status.text()
    main(
        ["measure", str(tmp_path / "labels.tif"), "--image", str(tmp_path / "image.tif"), "--out", str(tmp_path / f"cli{end}")]
    )
    read = pd.read_csv if end == ".csv" else pd.read_parquet
    mine, theirs = read(tmp_path / f"panel{end}"), read(tmp_path / f"cli{end}")
    assert [*mine] == [*theirs, "mine"] and mine["mine"].fillna("").tolist() == ["", "x", "", "", "", ""]
    pd.testing.assert_frame_equal(mine[[*theirs]], theirs, check_exact=False, rtol=1e-12)
    bench.select(4, 7)
    bench.widget.save(tmp_path / "some.csv", selected=True)
    bench.wait()
    assert [row["label"] for row in csv.DictReader((tmp_path / "some.csv").read_text().splitlines())] == ["4", "7"]


def test_parquet_without_pyarrow_says_what_to_install(desk, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    bench = desk(Labels(squares()))
    bench.measure()
    bench.widget.save(tmp_path / "a.parquet")
    bench.wait()
    assert "napari-shiftseg[export]" in bench.form.status.text() and not (tmp_path / "a.parquet").exists()


def test_measuring_a_result_does_not_make_it_the_user_s(qtbot, put_result, desk):
    from napari_shiftseg.plugin.signature import is_untouched

    viewer = ViewerModel()
    put_result(viewer)
    layer = viewer.layers["cells instances"]
    bench = Desk(qtbot, *viewer.layers)
    bench.form.layers.value = layer
    bench.wait()
    assert is_untouched(layer) and bench.form.ticked() == [viewer.layers["cells"].unique_id]
    bench.measure()
    assert is_untouched(layer) and {"on_seam", "num_pixels", "mean_intensity"} <= set(layer.features.columns)
    layer.features = {**layer.features, "mine": layer.features["area"]}
    assert not is_untouched(layer)
    bench.measure()
    assert not is_untouched(layer)


def test_joined_and_replaced_keep_numbers_whole():
    import pandas as pd

    table = measure(squares())
    made = joined(pd.DataFrame({"index": [100], "mine": [True]}), table, looped=False)
    assert made["num_pixels"].dtype.kind == "f" and made["index"].tolist() == [*table["label"].tolist(), 100]
    sheet = SimpleNamespace(axes="yx", looped=0)
    none = (np.zeros((1, 0), np.int64), np.array([1]))
    left = replaced(
        pd.DataFrame(joined(pd.DataFrame(), table, looped=False)),
        rows_of_table({n: v[:0] for n, v in table.items()}, sheet),
        none,
    )
    assert left["num_pixels"].dtype == table["num_pixels"].dtype and left["label"].tolist() == table["label"].tolist()[1:]


def test_the_measured_state_does_not_keep_a_layer_alive():
    import gc
    import weakref

    layer = Labels(squares())
    measured_of(layer)
    held = weakref.ref(layer)
    del layer
    gc.collect()
    assert held() is None


def fits(labels, image):
    from napari_shiftseg.plugin.measure_sources import pixels_under
    from napari_shiftseg.plugin.sheet import Sheet

    found = pixels_under(labels, Sheet(labels), image)
    return None if found is None else np.asarray(found[...])


def test_an_image_is_measured_where_the_labels_lie_on_it():
    data = noise((60, 80))
    steps = {"scale": (0.5, 0.5), "axis_labels": ("y", "x")}
    part = Labels(squares(), translate=(5, 6), **steps)  # as of a network without padding
    assert np.array_equal(fits(part, Image(data, **steps)), data[10:50, 12:72])
    assert np.array_equal(
        fits(part, Image(np.stack([data, data + 1]), scale=(1, 0.5, 0.5), axis_labels=("c", "y", "x")))[1],
        data[10:50, 12:72] + 1,
    )
    for wrong in ({"translate": (5.2, 6)}, {"translate": (20, 6)}, {"translate": (5, 6), "scale": (1, 1)}):
        assert fits(Labels(squares(), **{**steps, **wrong}), Image(data, **steps)) is None
    same = noise((40, 60))
    assert np.array_equal(fits(Labels(squares()), Image(same, scale=(0.3, 0.3))), same)  # labels without steps
    assert fits(Labels(squares()), Image(same, translate=(40, 0))) is None  # the tile beside
    assert fits(Labels(squares()), Image(noise((80, 120)), scale=(0.5, 0.5))) is None  # twice the pixels
    rgb = noise((40, 60, 3)).astype(np.uint8)
    assert np.array_equal(fits(Labels(squares()), Image(rgb, rgb=True)), np.moveaxis(rgb, -1, 0))
    stack = noise((5, 40, 60))
    labels = Labels(np.stack([squares()] * 5)[..., ::-1].copy())
    assert np.array_equal(fits(labels, Image(stack)), stack)
    assert fits(labels, Image(same)) is None and fits(Labels(squares()), Image(stack)) is None


def test_a_copy_of_a_measured_layer_says_that_it_was_edited_since(desk):
    first = Labels(squares())
    bench = desk(first)
    bench.measure()
    bench.viewer.add_layer(Labels(first.data.copy(), features=first.features))
    bench.form.layers.value = bench.viewer.layers[-1]
    bench.wait()
    bench.layer.fill((4, 5), 0)
    bench.wait()
    assert "edited since" in bench.form.about.text()
    bench.measure()
    assert "edited since" not in bench.form.about.text()
    same(bench.features, measure(bench.layer.data))


def test_a_long_pass_can_be_cancelled_before_its_first_part(monkeypatch):
    from napari_shiftseg.analysis import measure as _  # noqa: F401
    from napari_shiftseg.analysis.measure import measure_steps
    from napari_shiftseg.events import Stage

    labels = np.zeros((3000, 3000), np.int32)
    labels[::50, ::50] = np.arange(1, 3601).reshape(60, 60)
    events = []
    steps = measure_steps(labels)
    for event in steps:
        events.append(event)
        if len(events) == 3:
            steps.close()
            break
    assert [event.text for event in events if isinstance(event, Stage)] == ["measuring", "looking for objects"]
    assert 0 < events[2].done < events[2].total == 3000


def test_edits_in_quick_succession_are_measured_with_all_that_came_before(desk):
    layer = Labels(squares())
    bench = desk(layer)
    bench.measure()
    layer.brush_size = 3
    layer.paint((36, 56), 1)  # far from the rest of the object
    QApplication.processEvents()  # which is being measured when the next edit comes
    layer.paint((4, 5), 0)
    layer.paint((20, 30), 1)
    bench.wait()
    same(layer.features, measure(layer.data))


def test_a_correction_writes_no_number_of_pixels_into_an_area_in_a_unit(desk):
    """Nobody measures this layer anew: it is a copy, or was opened again."""
    first = Labels(squares(), scale=(0.5, 0.5))
    desk(first).measure()
    layer = Labels(first.data.copy(), features=first.features, scale=(0.5, 0.5))
    correction_of(layer).merge((1, 4), ())
    true = measure(layer.data, spacing=(0.5, 0.5))
    assert layer.features["num_pixels"].astype(int).tolist() == true["num_pixels"].tolist()
    shown = layer.features["area"].astype(float).to_numpy()
    assert np.isnan(shown[0]) and shown[1:].tolist() == true["area"][1:].tolist()


def test_intensities_of_an_image_that_is_gone_are_not_known_any_more(desk):
    layer, image = Labels(squares()), Image(noise((40, 60)))
    bench = desk(image, layer)
    before = bench.measure()["mean_intensity"].tolist()
    image.data = noise((9, 9))  # as good as gone
    layer.paint((4, 5), 7)
    bench.wait()
    shown = layer.features
    same(shown, measure(layer.data))
    left = shown["label"].isin([4, 10, 13, 16])
    assert shown["mean_intensity"][left].tolist() == [before[at] for at in (1, 3, 4, 5)]
    assert shown["mean_intensity"][~left].isna().all()
