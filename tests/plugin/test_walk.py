"""Random clicks and keys over all widgets, on a real image: whatever is done, no exception is seen."""

import random

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from docked import MANIFEST, open_all, spin
from napari.layers import Labels, Layer
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDialog,
    QFileDialog,
    QInputDialog,
    QLineEdit,
    QMessageBox,
    QWidget,
)

from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.plugin.dock import dock_of
from napari_shiftseg.plugin.keys import controls_of
from napari_shiftseg.plugin.samples import nuclei

pytestmark = pytest.mark.gui

TEXTS = ("", "yx", "xy", "64", "12 x 12", "8", "none", "-1", "0.5", "zyx", "a b", "1e9", "cells", "%")
MOVES = [getattr(Qt.Key, f"Key_{name}") for name in ("Up", "Down", "PageUp", "PageDown", "Home", "End", "Tab", "Space")]


class Walk:
    """Acts at random on whatever is there; `done` tells what was done."""

    def __init__(self, viewer, widgets, seed):
        self.viewer, self.widgets, self.rng, self.done = viewer, widgets, random.Random(seed), []

    def act(self):
        kind = self.rng.choices((self._on_control, self._on_canvas, self._on_layers), (8, 2, 1))[0]
        kind()
        QApplication.processEvents()
        for window in QApplication.topLevelWidgets():
            if isinstance(window, QDialog) and window.isVisible():
                window.reject()

    def _tell(self, *words):
        self.done.append(" ".join(map(str, words)))

    def _on_control(self):
        title, widget = self.rng.choice([*self.widgets.items()])
        dock_of(widget).raise_()
        there = [part for part in controls_of(widget) if part.isVisible() and part.isEnabled()]
        if not there:
            return
        part = self.rng.choice(there)
        self._tell(title, type(part).__name__, part.accessibleName())
        if isinstance(part, QAbstractButton):
            QTest.mouseClick(part, Qt.MouseButton.LeftButton)
        elif isinstance(part, QComboBox) and not part.isEditable():
            QTest.keyClick(part, self.rng.choice((Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_Home, Qt.Key.Key_End)))
        elif isinstance(part, QComboBox | QLineEdit):
            edit = part.lineEdit() if isinstance(part, QComboBox) else part
            edit.selectAll()
            QTest.keyClicks(edit, self.rng.choice(TEXTS))
            QTest.keyClick(edit, Qt.Key.Key_Return)
        elif isinstance(part, QAbstractSpinBox) and self.rng.random() < 0.5:
            part.selectAll()
            QTest.keyClicks(part, str(self.rng.randint(0, 60)))
            QTest.keyClick(part, Qt.Key.Key_Return)
        elif isinstance(part, QAbstractItemView):
            place = QPoint(self.rng.randrange(max(1, part.width())), self.rng.randrange(max(1, part.height())))
            QTest.mouseClick(part.viewport(), Qt.MouseButton.LeftButton, pos=place)
        elif isinstance(part, QAbstractSlider):
            inner = next((p for p in part.findChildren(QAbstractSlider)), part)
            QTest.keyClick(inner, self.rng.choice(MOVES[:6]))
        elif self.rng.random() < 0.5:
            QTest.keyClick(part, self.rng.choice(MOVES))
        else:
            self._drag(part)

    def _drag(self, part):
        a, b = (QPoint(self.rng.randrange(max(1, part.width())), self.rng.randrange(max(1, part.height()))) for _ in range(2))
        QTest.mousePress(part, Qt.MouseButton.LeftButton, pos=a)
        QTest.mouseMove(part, b)
        QTest.mouseRelease(part, Qt.MouseButton.LeftButton, pos=b if self.rng.random() < 0.5 else a)

    def _on_canvas(self):
        canvas = self.viewer.window._qt_viewer.canvas.native
        what = self.rng.random()
        if what < 0.5:
            self._tell("mouse in the canvas")
            self._drag(canvas)
        else:
            keys = self.rng.choice(("1", "2", "3", "4", "5", "m", "x", "Escape", "Left", "Right", "Ctrl+Z", "Ctrl+Shift+Z"))
            self._tell("key in the canvas", keys)
            *held, key = keys.split("+")
            mask = Qt.KeyboardModifier.NoModifier
            for name in held:
                mask |= {"Ctrl": Qt.KeyboardModifier.ControlModifier, "Shift": Qt.KeyboardModifier.ShiftModifier}[name]
            QTest.keyClick(canvas, getattr(Qt.Key, f"Key_{key.upper() if len(key) == 1 else key}"), mask)

    def _on_layers(self):
        """What a user does in napari itself meanwhile."""
        layers = self.viewer.layers
        what = self.rng.choice(("select", "select", "hide", "rename", "paint", "move", "remove", "add"))
        layer = self.rng.choice([*layers]) if layers else None
        self._tell(what, layer)
        if what == "add" or layer is None:
            if len(layers) < 12:
                self.viewer.add_image(np.random.default_rng(self.rng.randrange(99)).random((40, 48), np.float32), name="other")
        elif what == "select":
            layers.selection.active = layer
        elif what == "hide":
            layer.visible = not layer.visible
        elif what == "rename":
            layer.name = self.rng.choice(("cells", "mine", layer.name))
        elif what == "paint" and isinstance(layer, Labels) and layer.editable and layer.ndim == 2:
            layer.paint((self.rng.randrange(40), self.rng.randrange(40)), self.rng.randrange(4))
        elif what == "move":
            layers.move(layers.index(layer), self.rng.randrange(len(layers)))
        elif what == "remove" and len(layers) > 2 and layer is not layers[0]:
            layers.remove(layer)


def _let_layers_go(monkeypatch):
    """napari 0.9 frees what a layer had on the graphics card in whatever context is current; some drivers crash then."""
    from napari._vispy.canvas import VispyCanvas

    before = VispyCanvas._clean_and_update_scenegraph

    def clean(canvas, *given, **more):
        canvas._scene_canvas.set_current()
        return before(canvas, *given, **more)

    monkeypatch.setattr(VispyCanvas, "_clean_and_update_scenegraph", clean)


@pytest.fixture
def walk(npe2pm, make_napari_viewer, qtbot, monkeypatch, tmp_path, tiny):
    """`walk(seed)`: all widgets on a part of the nuclei sample, segmented by a small model."""
    monkeypatch.setenv("HOME", str(tmp_path))
    _let_layers_go(monkeypatch)
    nothing = {
        (QFileDialog, "getOpenFileName"): ("", ""),
        (QFileDialog, "getOpenFileNames"): ([], ""),
        (QFileDialog, "getSaveFileName"): ("", ""),
        (QFileDialog, "getExistingDirectory"): "",
        (QInputDialog, "getText"): ("", False),
        (QMessageBox, "question"): QMessageBox.StandardButton.No,
    }
    for (kind, name), answer in nothing.items():
        monkeypatch.setattr(kind, name, staticmethod(lambda *_, _answer=answer, **__: _answer))
    monkeypatch.setattr("magicgui.backends._qtpy.show_file_dialog", lambda *_, **__: None)
    for kind in (QDialog, QFileDialog, QMessageBox):
        monkeypatch.setattr(kind, "exec", lambda *_: 0)
        monkeypatch.setattr(kind, "exec_", lambda *_: 0, raising=False)
    with npe2pm.tmp_plugin(package="napari"), npe2pm.tmp_plugin(manifest=MANIFEST):
        viewer = make_napari_viewer(show=True)
        viewer.window._qt_window.resize(1280, 720)
        image, *_ = nuclei()
        viewer.add_layer(Layer.create(image[0][100:172, 200:280], {"name": "cells"}, "image"))
        widgets = open_all(viewer, qtbot)
        segment = widgets["Segment (ShiftSeg)"]
        segment.form.model.choose_file(tiny)
        qtbot.waitUntil(lambda: segment.equipment is not None, timeout=60_000)
        segment.run()
        qtbot.waitUntil(lambda: not segment.running, timeout=60_000)
        notification_manager.records.clear()
        yield lambda seed: Walk(viewer, widgets, seed)
        for widget in widgets.values():
            for job in getattr(widget, "jobs", ()):
                job.cancel()
            for panel in widget.findChildren(QWidget):
                for job in getattr(panel, "jobs", ()):
                    job.cancel()
        qtbot.waitUntil(lambda: not any(getattr(widget, "jobs", ()) for widget in widgets.values()), timeout=60_000)
        spin(20)
        notification_manager.records.clear()


@pytest.mark.parametrize(("seed", "acts"), [(1, 150), pytest.param(2, 2000, marks=pytest.mark.slow)], ids=["short", "long"])
def test_whatever_is_clicked_and_typed_ends_without_an_exception(walk, qtbot, caplog, seed, acts):
    walked = walk(seed)
    with qtbot.captureExceptions() as exceptions:
        for _ in range(acts):
            walked.act()
            failed = [record for record in caplog.records if record.name.startswith("napari_shiftseg")]
            told = [found for found in notification_manager.records if getattr(found, "exception", None) is not None]
            told = [found for found in told if not isinstance(found.exception, ShiftsegError)]
            if exceptions or failed or told:
                trail = "\n".join(walked.done[-25:])
                text = [*map(str, exceptions), *(f"{r.getMessage()} {r.exc_info}" for r in failed), *map(str, told)]
                if exceptions:
                    import traceback

                    text += traceback.format_exception(*exceptions[0])
                if failed and failed[0].exc_info:
                    import traceback

                    text += traceback.format_exception(*failed[0].exc_info)
                pytest.fail(f"after {len(walked.done)} acts, the last of which were\n{trail}\n" + "\n".join(text))
        spin(20)
    assert exceptions == []
    assert len({*walked.done}) > min(acts / 6, 150), "the walk went to many places"
