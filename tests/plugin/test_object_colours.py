"""Labels are coloured by a column, highlighted and hidden, whatever their numbers are; the user's colours come back."""

from contextlib import suppress

import numpy as np
import pytest

pytest.importorskip("napari")

from measuring import Desk, squares
from napari.layers import Labels
from napari.utils.colormaps import CyclicLabelColormap, DirectLabelColormap, ensure_colormap

from napari_shiftseg import measure
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.plugin.correction import correction_of
from napari_shiftseg.plugin.measure_form import NO_COLUMN
from napari_shiftseg.plugin.object_colormap import ObjectColormap
from napari_shiftseg.plugin.object_colours import ALL, HIGHLIGHTED, ONLY, colours_of


@pytest.fixture
def desk(qtbot):
    return lambda *layers: Desk(qtbot, *layers)


def drawn(layer):
    """The colours that go to the screen, from what napari sends to the graphics card."""
    sent, colormap = layer._slice.image.view, layer.colormap
    if sent.dtype.itemsize <= 2 and layer._slice.image.raw.dtype.itemsize <= 2:
        table = colormap._get_mapping_from_cache(layer._slice.image.raw.dtype).reshape(-1, 4)
        return table[sent]
    table = colormap._values_mapping_to_minimum_values_set()[1]
    return np.array([table[int(place)] for place in sent.ravel()]).reshape(*sent.shape, 4)


def expected(layer, column, name="viridis", limits=None, frame=None):
    """What the colours should be, pixel by pixel."""
    features = layer.features if frame is None else layer.features[layer.features["t"] == frame]
    values = dict(zip(features["label"], features[column].astype(float), strict=True))
    low, high = limits or (float(layer.features[column].min()), float(layer.features[column].max()))
    made = np.zeros((*layer._slice.image.raw.shape, 4))
    for number in np.unique(layer._slice.image.raw):
        if number:
            share = np.clip((values[number] - low) / (high - low), 0, 1)
            made[layer._slice.image.raw == number] = ensure_colormap(name).map(np.array([share]))[0]
    return made


KINDS = {"int8": 1, "uint16": 1, "int32": 1, "int32 large": 2**31 - 20, "uint32 large": 2**32 - 20, "int64 large": 2**40}


@pytest.mark.parametrize("kind", KINDS)
def test_objects_have_the_colours_of_their_values(desk, kind):
    layer = Labels(squares(kind=kind.split()[0], first=KINDS[kind]))
    theirs = layer.colormap
    bench = desk(layer)
    bench.measure()
    bench.form.column.setCurrentText("area")
    bench.wait()
    np.testing.assert_allclose(drawn(layer), expected(layer, "area"), atol=1e-6)
    bench.form.low.setText("60")
    bench.form.high.setText("70")
    bench.form.high.editingFinished.emit()
    bench.form.colours.setCurrentText("magma")
    bench.wait()
    np.testing.assert_allclose(drawn(layer), expected(layer, "area", "magma", (60, 70)), atol=1e-6)
    bench.form.whole.click()
    bench.wait()
    np.testing.assert_allclose(drawn(layer), expected(layer, "area", "magma"), atol=1e-6)
    bench.form.back.click()
    bench.wait()
    assert layer.colormap is theirs and bench.form.column.currentText() == NO_COLUMN


@pytest.mark.parametrize("verb", ["split", "merge", "delete", "undo", "paint", "fill"])
def test_colours_follow_edits(desk, verb):
    layer = Labels(squares())
    bench = desk(layer)
    bench.measure()
    bench.form.column.setCurrentText("area")
    bench.wait()
    correction = correction_of(layer)
    if verb == "split":
        correction.split(4, (), seeds=[(4.0, 23.0), (5.0, 30.0)])
    elif verb == "merge":
        correction.merge((1, 16), ())
    elif verb in ("delete", "undo"):
        correction.delete(1, ())
        bench.wait()
        if verb == "undo":
            correction.undo()
    else:
        layer.selected_label = 999
        getattr(layer, verb)((4, 5), 999)
    bench.wait()
    np.testing.assert_allclose(drawn(layer), expected(layer, "area"), atol=1e-6)


def test_an_object_that_is_drawn_before_it_is_measured_gets_its_colour(desk):
    layer = Labels(squares())
    bench = desk(layer)
    bench.measure()
    layer.fill((4, 5), 999)
    bench.form.column.setCurrentText("area")  # while the new object is measured
    bench.wait()
    np.testing.assert_allclose(drawn(layer), expected(layer, "area"), atol=1e-6)


def test_each_frame_has_the_colours_of_its_own_objects(desk):
    labels = np.stack([squares(), squares()[:, ::-1]])
    labels[1][labels[1] == 4] = 1
    layer = Labels(labels, axis_labels=("t", "y", "x"))
    bench = desk(layer)
    bench.measure()
    bench.form.column.setCurrentText("area")
    bench.wait()
    for frame in (0, 1, 0):
        bench.viewer.dims.set_point(0, frame)
        np.testing.assert_allclose(drawn(layer), expected(layer, "area", frame=frame), atol=1e-6)


@pytest.mark.parametrize(("kind", "first"), [("cyclic", 1), ("cyclic", 100_000), ("direct", 1)])
def test_selected_objects_are_highlighted_or_alone_in_the_user_s_own_colours(desk, kind, first):
    layer = Labels(squares(first=first))
    numbers = np.unique(layer.data)[1:].tolist()
    if kind == "direct":
        layer.colormap = DirectLabelColormap(color_dict={None: "red", 0: "transparent", numbers[0]: "blue"})
    theirs = layer.colormap
    colours = {
        number: np.array(theirs.map(np.array([number]))[0] if kind == "cyclic" else theirs.map(number)) for number in numbers
    }
    bench = desk(layer)
    bench.measure()
    bench.select(*numbers[:2])
    for show, left in ((HIGHLIGHTED, 0.2), (ONLY, 0.0)):
        bench.form.show_.setCurrentText(show)
        bench.wait()
        for number in numbers:
            opacity = 1 if number in numbers[:2] else left
            shown = drawn(layer)[layer.data == number][0]
            np.testing.assert_allclose(shown, [*colours[number][:3], colours[number][3] * opacity], atol=1e-6)
    bench.select(numbers[5])
    bench.wait()
    assert drawn(layer)[layer.data == numbers[5]][0][3] == 1 and drawn(layer)[layer.data == numbers[0]][0][3] == 0
    bench.form.show_.setCurrentText(ALL)
    bench.wait()
    assert layer.colormap is theirs


def test_colours_that_the_user_chooses_meanwhile_are_his(desk):
    layer = Labels(squares())
    bench = desk(layer)
    bench.measure()
    bench.form.column.setCurrentText("area")
    bench.wait()
    layer.new_colormap(3)  # napari's button
    mine = layer.colormap
    assert isinstance(mine, CyclicLabelColormap) and bench.form.column.currentText() == NO_COLUMN
    bench.form.column.setCurrentText("extent")
    bench.wait()
    bench.form.back.click()
    bench.wait()
    assert layer.colormap is mine
    assert not colours_of(layer).on


def test_a_column_that_is_gone_gives_the_colours_back(desk):
    layer = Labels(squares())
    theirs = layer.colormap
    bench = desk(layer)
    bench.measure()
    bench.form.column.setCurrentText("area")
    bench.wait()
    layer.features = {"index": [1, 4], "mine": [1.0, np.nan]}
    bench.wait()
    assert layer.colormap is theirs
    bench.form.column.setCurrentText("mine")
    bench.wait()
    shown = drawn(layer)
    assert not np.allclose(shown[layer.data == 1][0], shown[layer.data == 4][0])
    np.testing.assert_allclose(shown[layer.data == 4][0], (0.5, 0.5, 0.5, 1))  # no value
    np.testing.assert_allclose(shown[layer.data == 7][0], (0.5, 0.5, 0.5, 1))  # no row


def test_only_the_selected_label_can_be_shown_as_in_napari(desk):
    layer = Labels(squares())
    bench = desk(layer)
    bench.measure()
    bench.form.column.setCurrentText("area")
    bench.wait()
    layer.selected_label, layer.show_selected_label = 7, True
    sent = layer._slice.image.view
    assert np.array_equal(sent != 0, layer.data == 7)
    bench.form.back.click()
    bench.wait()
    assert np.array_equal(
        np.asarray(layer._slice.image.view) == layer.colormap._selection_as_minimum_dtype(np.dtype("i4")), layer.data == 7
    )


def test_numbers_find_their_places_whatever_they_are():
    rng = np.random.default_rng(0)
    for kind, most in (("i4", 300), ("i4", 2**31 - 1), ("u4", 2**32 - 1), ("i8", 2**62), ("u8", 2**62)):
        numbers = np.unique(rng.integers(1, most, 200))
        colormap = ObjectColormap.of(numbers[::2])
        colormap.paint(numbers[::2], np.tile(np.arange(len(numbers[::2]))[:, None] / 1000, (1, 4)), (9, 9, 9, 9))
        assert colormap.add(numbers[1::2]) in (True, False)
        colormap.paint(numbers, np.arange(len(numbers))[:, None] / 1000 * np.ones(4), (9, 9, 9, 9))
        asked = np.concatenate([numbers, [0, 2**31 - 5]]).astype(kind)
        found = colormap.map(asked)[:, 0]
        known = np.isin(asked.astype(np.int64), numbers)
        np.testing.assert_allclose(found[: len(numbers)], np.arange(len(numbers)) / 1000, atol=1e-6)
        assert found[len(numbers)] == 0 and (known[-1] or found[-1] == 9)
    assert ObjectColormap.of(np.array([3])).map(np.array([-5, 5]))[:, 0].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("kind", ["uint8", "int32 large", "int64 large"])
@pytest.mark.parametrize("ndisplay", [2, 3])
def test_what_is_on_the_screen_has_these_colours(make_napari_viewer, qtbot, kind, ndisplay):
    """napari asks a colormap for more than its API says; the screen shows whether it was told right."""
    from napari_shiftseg.plugin.measure_widget import MeasureWidget

    labels = squares(kind=kind.split()[0], first=KINDS.get(kind, 1))
    labels = labels if ndisplay == 2 else np.stack([labels] * 4)
    viewer = make_napari_viewer(show=True)
    layer = viewer.add_labels(labels, opacity=1.0)
    widget = MeasureWidget(viewer)
    viewer.window.add_dock_widget(widget)

    def settle():
        qtbot.waitUntil(lambda: not (widget.jobs or widget.colours.jobs), timeout=60_000)
        qtbot.wait(50)

    settle()
    widget.measure()
    settle()
    viewer.dims.ndisplay = ndisplay
    if ndisplay == 3:
        layer.rendering = "translucent"  # the other way has lights and shadows
    viewer.reset_view()
    widget.form.column.setCurrentText("num_pixels")
    settle()

    def shown():
        picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3]
        return {tuple(colour) for colour in np.unique(picture.reshape(-1, 3), axis=0).tolist()}

    values = layer.features["num_pixels"].astype(float).to_numpy()
    shares = (values - values.min()) / np.ptp(values)
    wanted = np.rint(ensure_colormap("viridis").map(shares)[:, :3] * 255).astype(int)
    for colour in wanted:
        assert any(np.abs(np.subtract(colour, one)).max() <= 3 for one in shown()), (colour, ndisplay)
    widget.select(np.array([0]))
    widget.form.show_.setCurrentText(ONLY)
    settle()
    left = shown()
    assert any(np.abs(np.subtract(wanted[0], one)).max() <= 3 for one in left)
    assert not any(np.abs(np.subtract(wanted[-1], one)).max() <= 3 for one in left)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_done_in_whatever_order_rows_and_colours_are_those_of_the_pixels(desk, seed):
    rng = np.random.default_rng(seed)
    series = seed % 2 == 1
    data = np.stack([squares(), squares()[:, ::-1]]) if series else squares()
    layer = Labels(data.copy(), axis_labels=("t", "y", "x") if series else ("y", "x"))
    bench = desk(layer)
    correction = correction_of(layer) if seed < 2 else None  # else napari's own history goes on
    theirs = layer.colormap
    bench.measure()

    def some(count):
        frame = (int(bench.viewer.dims.current_step[0]),) if series else ()
        numbers = np.setdiff1d(np.unique(layer.data[frame]), [0])
        return frame, rng.choice(numbers, min(count, len(numbers)), replace=False).tolist()

    def paint(name):
        layer.selected_label = int(rng.integers(0, 40))
        layer.brush_size = int(rng.integers(1, 12))
        place = (rng.integers(0, 40), rng.integers(0, 60))
        getattr(layer, name)((*some(0)[0], *place), layer.selected_label)

    def corrected(verb):
        frame, numbers = some(2)
        if correction is not None and len(numbers) == 2:
            getattr(correction, verb)(numbers if verb == "merge" else numbers[0], frame)

    def again(verb):
        if correction is None:
            getattr(layer, verb)()
        elif (correction.edits and verb == "undo") or (correction.undone and verb == "redo"):
            with suppress(SettingsError):  # a stroke since ends what can be done again
                getattr(correction, verb)()

    def select():
        rows = len(bench.widget.measured.rows)
        bench.widget.select(rng.integers(0, rows, 2) if rows else [])

    actions = [
        lambda: paint("paint"), lambda: paint("fill"), lambda: corrected("merge"), lambda: corrected("delete"),
        lambda: again("undo"), lambda: again("redo"), select, lambda: bench.form.show_.setCurrentIndex(int(rng.integers(3))),
        lambda: bench.form.column.setCurrentText(str(rng.choice(["area", "extent", "label", NO_COLUMN]))), bench.measure,
        lambda: bench.viewer.dims.set_current_step(0, int(rng.integers(2))) if series else None,
    ]  # fmt: skip
    for step in range(40):
        action = int(rng.integers(len(actions)))
        actions[action]()
        if rng.random() < 0.6:
            bench.wait()
            table = measure(layer.data, axes="tyx" if series else "yx", ndim=2)
            assert layer.features["label"].tolist() == table["label"].tolist(), (step, action)
            np.testing.assert_allclose(layer.features["area"].astype(float), table["area"], err_msg=f"{step} {action}")
    bench.wait()
    bench.widget.select(np.zeros(0, np.intp))
    if len(bench.widget.measured.rows) > 1 and np.ptp(layer.features["area"].astype(float)) > 0:
        bench.form.column.setCurrentText("area")
        bench.wait()
        frame = int(bench.viewer.dims.current_step[0]) if series else None
        np.testing.assert_allclose(drawn(layer), expected(layer, "area", bench.widget.colours.colours, frame=frame), atol=1e-6)
    bench.form.back.click()
    bench.wait()
    assert layer.colormap is theirs
