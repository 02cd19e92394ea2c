"""What a result in the viewer copies gives its labels again, whatever the widgets show by now."""

import shlex

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

import tifffile
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels
from napari.layers._source import layer_source
from qtpy.QtWidgets import QApplication

from napari_shiftseg import cli
from napari_shiftseg.plugin import copying
from napari_shiftseg.plugin.inspect_widget import InspectWidget
from napari_shiftseg.plugin.layers import KEY

pytestmark = pytest.mark.gui


@pytest.fixture
def result(open_widget, qtbot, tmp_path, cells):
    """A viewer with a result whose threshold is not that of the form any more, and its labels."""
    path = tmp_path / "it's cells.tif"
    tifffile.imwrite(path, cells((40, 48)))
    with layer_source(path=str(path), reader_plugin="napari"):
        viewer, widget = open_widget(ImageLayer(tifffile.imread(path), name="cells"))
    widget.form.threshold.setValue(0.55)
    widget.form.min_size.setValue(30)
    widget.run()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    widget.form.threshold.setValue(0.9)
    return viewer, viewer.layers["cells instances"]


def copied(qtbot, press):
    QApplication.clipboard().setText("")
    press()
    qtbot.waitUntil(lambda: QApplication.clipboard().text() != "", timeout=60_000)
    return QApplication.clipboard().text()


def test_buttons_and_commands_copy_what_made_the_result(result, qtbot, tmp_path, monkeypatch):
    viewer, labels = result
    widget = InspectWidget(viewer)
    qtbot.addWidget(widget)
    code, command = copied(qtbot, widget.copies.code.click), copied(qtbot, widget.copies.command.click)
    assert "threshold=0.55" in code and widget.status.text() == "Copied."
    viewer.layers.selection.active = labels
    assert copied(qtbot, lambda: copying.copy_code(viewer)) == code
    assert copied(qtbot, lambda: copying.copy_command(viewer)) == command
    found = {}
    exec(code, found)
    np.testing.assert_array_equal(found["labels"], labels.data)
    monkeypatch.chdir(tmp_path)
    assert cli.main([*shlex.split(command)[1:], "--quiet"]) == 0
    np.testing.assert_array_equal(tifffile.imread("it's cells_labels.tif"), labels.data)


def test_edits_by_hand_are_said(result, qtbot):
    _, labels = result
    labels.metadata[KEY]["edits"] = [{"kind": "merge"}]
    told = []
    copied(qtbot, lambda: copying.copy(labels, "as_command", lambda *words: told.append(words)))
    qtbot.waitUntil(lambda: bool(told), timeout=60_000)
    assert told[0][0] == "warn" and "edited by hand (1 edit)" in told[0][1]


@pytest.mark.parametrize("layer", [None, Labels(np.zeros((8, 8), int), name="mine")])
def test_what_is_no_result_has_its_sentence(qtbot, monkeypatch, layer):
    viewer, told = ViewerModel(), []
    if layer is not None:
        viewer.add_layer(layer)
    monkeypatch.setattr(copying, "show_error", told.append)
    QApplication.clipboard().setText("what was there")
    copying.copy_code(viewer)
    qtbot.waitUntil(lambda: bool(told), timeout=60_000)
    assert "is no result of ShiftSeg; select one" in told[0] and QApplication.clipboard().text() == "what was there"


def test_a_widget_without_a_result_has_nothing_to_copy(qtbot):
    widget = InspectWidget(ViewerModel())
    qtbot.addWidget(widget)
    assert not widget.copies.isEnabled()
