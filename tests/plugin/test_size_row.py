"""The row that says how large the objects are: typed or measured, it decides the scale of the run that is shown."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from napari.layers import Image as ImageLayer
from qtpy.QtCore import Qt

from napari_shiftseg import SegmentSettings, load_model, segment
from napari_shiftseg.events import Stage
from napari_shiftseg.io import save_model
from napari_shiftseg.network import Known
from napari_shiftseg.plugin.layers import KEY
from napari_shiftseg.segmentation.sizing import ObjectSize, sized

pytestmark = pytest.mark.gui


@pytest.fixture
def knowing(tiny, tmp_path):
    """The model of the widget, which knows objects of 10 px."""
    model = load_model(tiny)
    record = replace(model.record, known=Known(ndim=2, channels=1, median=10.0))
    return str(save_model(tmp_path / "knowing.safetensors", replace(model, record=record)))


@pytest.fixture
def opened(open_widget, knowing):
    pixels = np.random.default_rng(0).integers(0, 255, (70, 90)).astype(np.uint8)
    return *open_widget(ImageLayer(pixels, name="cells"), model=knowing), pixels


def run_to_end(qtbot, widget, button):
    assert button.isEnabled(), widget.form.verdict.text()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)


def test_the_image_as_it_is_comes_first_and_a_diameter_is_what_runs(opened, qtbot, knowing):
    viewer, widget, pixels = opened
    assert widget.settings().diameter is None and "as it is" in widget.form.size_row.box.text()
    assert not widget.form.about_size.text()
    widget.form.size_row.box.setValue(27)
    assert "scale 1/2" in widget.form.about_size.text() and widget.settings().diameter == 27
    period = widget._verdict.plan.lattice.period[0]
    assert f"periods of {period} px" in widget.form.plan.text() and period == 2 * load_model(knowing).lattice.period[0]
    run_to_end(qtbot, widget, widget.run_button)
    record = viewer.layers["cells instances"].metadata[KEY]["record"]
    assert record["diameter"] == 27 and tuple(record["scaling"]["scale"]) == (0.5, 0.5)
    expected = segment(pixels, load_model(knowing), SegmentSettings(diameter=27))
    assert np.array_equal(viewer.layers["cells instances"].data, expected.labels)


def test_typed_tiles_are_set_to_the_period_of_the_scaled_run(opened, qtbot):
    _, widget, _ = opened
    widget.form.size_row.box.setValue(27)
    period = widget._verdict.plan.lattice.period[0]
    edit = widget.form.tile.lineEdit()
    edit.selectAll()
    qtbot.keyClicks(edit, str(3 * period - 1))
    qtbot.keyClick(edit, Qt.Key.Key_Return)
    assert widget.form.tile.currentText() == str(3 * period) and widget.run_button.isEnabled()
    widget.form.size_row.box.setValue(54)  # whose tiles are multiples of more
    assert widget.run_button.isEnabled() and int(widget.form.tile.currentText()) % (2 * period) == 0


def test_measure_takes_what_is_found_and_says_it(opened, qtbot, monkeypatch):
    viewer, widget, _ = opened
    asked = []

    def measured(image, model, settings):
        asked.append((image.data.shape, settings.diameter))
        yield Stage(done=0, total=1, text="size of the objects")
        return sized(54.0, model, how="measured")

    monkeypatch.setattr("napari_shiftseg.segmentation.measure_steps", measured)
    run_to_end(qtbot, widget, widget.form.size_row.measure)
    assert asked == [((70, 90), None)] and widget.form.size_row.value() == 54
    assert "Objects of 54 px (measured); the network runs at scale 1/4" in widget.status.text()
    assert [layer.name for layer in viewer.layers] == ["cells"] and widget.run_button.isEnabled()


def test_where_no_object_is_found_the_line_says_it(opened, qtbot, monkeypatch):
    _, widget, _ = opened

    def measured(*_):
        yield Stage(done=0, total=1, text="size of the objects")
        return ObjectSize(how="measured", factors=((1, 1), (1, 1)))

    monkeypatch.setattr("napari_shiftseg.segmentation.measure_steps", measured)
    widget.form.size_row.box.setValue(30)
    run_to_end(qtbot, widget, widget.form.size_row.measure)
    assert widget.form.size_row.value() is None and "No object was found" in widget.status.text()


def test_a_model_that_knows_no_size_says_so(open_widget, tiny):
    _, widget = open_widget(ImageLayer(np.zeros((70, 90), np.uint8), name="cells"))
    widget.form.size_row.box.setValue(30)
    assert "leave the diameter out" in widget.form.verdict.text() and not widget.run_button.isEnabled()


def test_the_mean_of_all_turns_is_a_box_that_is_off_at_first(opened):
    """A model of free codes says in the verdict why that cannot be."""
    _, widget, _ = opened
    assert widget.settings().augment is False and widget.run_button.isEnabled()
    widget.form.augment.setChecked(True)
    assert widget.settings().augment is True and not widget.run_button.isEnabled()
    assert "free codes" in widget.form.verdict.text()
    widget.form.augment.setChecked(False)
    assert widget.run_button.isEnabled()
