"""`Hand`: a mouse and keys for a napari window, which find what they use by the names that a reader of the docs sees.

Nothing here calls a method of a widget to make it do something: buttons are clicked where they are drawn, texts are typed,
menus are walked, and places of a layer are clicked on the canvas. What is not in view is scrolled to, as a user would.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path

import numpy as np
from napari._qt.dialogs.qt_reader_dialog import QtReaderDialog
from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt, QTimer
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDialogButtonBox,
    QDockWidget,
    QFileDialog,
    QFormLayout,
    QLabel,
    QLineEdit,
    QListView,
    QMenu,
    QPushButton,
    QScrollArea,
    QWidget,
)

PATIENCE = float(os.environ.get("HAND_PATIENCE", "600"))  # seconds; of a machine that does other things beside
_LEFT = Qt.MouseButton.LeftButton


class NotSeen(AssertionError):
    """The window is not as the page says."""


class Hand:
    """Uses a viewer as a reader of the docs does.

    Attributes
    ----------
    used : set of str
        Names of all controls, layers and menus that were used since it was emptied.
    checks : int
        How often something was looked for in the window and found.
    broken : list of str
        What was raised in the window; nothing goes on then.
    """

    ANY = QWidget
    FIELD = (QLineEdit, QAbstractSpinBox, QComboBox)  # what can be typed in

    BOX = QComboBox

    def __init__(self, viewer):
        self.enter(viewer)
        self.used: set[str] = set()
        self.checks = 0
        self.broken: list[str] = []

    def enter(self, viewer) -> None:
        """Go to a window, such as one of a later session."""
        self.viewer = viewer
        self.window = viewer.window._qt_window
        self.canvas = viewer.window._qt_viewer.canvas.native
        self._front = ""  # the widget that is used, whose controls are meant where others have such, too

    # -- menus and dialogs --------------------------------------------------------------------------------------------

    def menu(self, *path: str) -> None:
        """Walk a menu by the mouse: "File", "Open Sample", "ShiftSeg", ..."""
        self.used.add(" > ".join(path))
        bar = self.window.menuBar()
        self.window.activateWindow()  # as a click into it does where there is a window manager
        action = _action(bar, path[0])
        place = bar.actionGeometry(action).center()
        QTest.mouseMove(bar, place)  # a menu takes no click where the mouse was when it opened
        self.settle()
        QTest.mouseClick(bar, _LEFT, pos=place)
        for name in path[1:]:
            menu = action.menu()
            self.wait(menu.isVisible, f"the menu {menu.title()}")
            action = _action(menu, name)
            place = menu.actionGeometry(action).center()
            QTest.mouseMove(menu, place)
            QTest.mouseClick(menu, _LEFT, pos=place)
        while isinstance(QApplication.activePopupWidget(), QMenu):
            QApplication.activePopupWidget().close()
        self.settle()
        if isalive(self.window) and self._dock(path[-1]) is not None:
            self._front = path[-1]

    def answer_files(self, path: Path, *, kind: str = "") -> None:
        """Arm the hand for the file dialog that comes next: choose a kind of file, type the path, press the button.

        Where napari then asks which plugin is to open the file, the first one that it offers is taken.
        """

        def act(box: QFileDialog) -> None:
            if kind:
                kinds = box.findChild(QComboBox, "fileTypeCombo")
                offered = [kinds.itemText(index) for index in range(kinds.count())]
                self._choose_in(kinds, next(text for text in offered if kind in text))
            edit = box.findChild(QLineEdit, "fileNameEdit")
            edit.setFocus()
            edit.selectAll()
            QTest.keyClicks(edit, str(path))
            buttons = box.findChild(QDialogButtonBox).buttons()
            button = next(b for b in buttons if _plain(b.text()) in ("Open", "Save", "Choose"))
            if _plain(button.text()) == "Open":
                self._when_asked(QtReaderDialog, take_first)
            QTest.mouseClick(button, _LEFT)

        def take_first(box: QtReaderDialog) -> None:
            QTest.mouseClick(box.btn_box.button(QDialogButtonBox.StandardButton.Ok), _LEFT)

        self._when_asked(QFileDialog, act)

    def answer(self, button: str, *, choose: str = "", title: str = "") -> None:
        """Arm the hand for the next question, or that of a title: press a button, by its text, after a choice."""

        def act(box: QWidget) -> None:
            for name in (choose, button) if choose else (button,):
                QTest.mouseClick(next(b for b in box.findChildren(QAbstractButton) if name in _plain(b.text())), _LEFT)

        self._when_asked(QWidget, act, title=title)

    def _press_until_gone(self, box: QWidget, button: QAbstractButton) -> None:
        """Press a button that may be grey for a moment, as while a folder is read."""
        if isalive(box) and box.isVisible():
            QTest.mouseClick(button, _LEFT)
            QTimer.singleShot(1000, lambda: self._press_until_gone(box, button))

    def _when_asked(self, kind: type, act: Callable, *, title: str = "") -> None:
        end = time.monotonic() + PATIENCE

        def look() -> None:
            box = QApplication.activeModalWidget()
            if isinstance(box, kind) and box.isVisible() and title in box.windowTitle():
                QTimer.singleShot(200, lambda: self._guarded(act, box))
            elif time.monotonic() < end:
                QTimer.singleShot(50, look)

        QTimer.singleShot(50, look)

    def _guarded(self, act: Callable, box: QWidget) -> None:
        """A question that cannot be answered is closed, so that the task ends."""
        try:
            act(box)
        except (NotSeen, StopIteration) as exc:
            self.broken.append(f"{type(exc).__name__}: {exc}")
            box.reject()

    # -- controls -----------------------------------------------------------------------------------------------------

    def press(self, name: str, *, group: str = "", wait: bool = True) -> None:
        """Click a button, a box to tick, or the head of a group, as soon as it is not grey."""
        button = self.find(name, QAbstractButton, group=group)
        if wait:
            self.wait(button.isEnabled, f"{name} is grey")
        self._show(button)
        place = button.rect().center()
        if button.isCheckable() and not isinstance(button, QPushButton):  # a box to tick is clicked on its box
            place = QPoint(min(10, button.width() // 2), place.y())
        QTest.mouseClick(button, _LEFT, pos=place)
        self.settle()

    def choose(self, name: str, text: str, *, group: str = "") -> None:
        """Take an entry of a list that drops down."""
        box = self.find(name, QComboBox, group=group)
        self.wait(lambda: box.isEnabled() and any(text == box.itemText(n) for n in range(box.count())), f"{name} offers {text}")
        self._show(box)
        self.used.add(text)
        self._choose_in(box, text)

    def _choose_in(self, box: QComboBox, text: str) -> None:
        arrow = QPoint(box.width() - 8, box.height() // 2)  # also opens the list of one that can be typed in
        QTest.mouseClick(box, _LEFT, pos=arrow)
        view = box.view()
        self.wait(view.isVisible, f"the list of {text}")
        wanted = box.findText(text)
        for _ in range(2 * box.count()):
            at = view.currentIndex().row()
            if at == wanted:
                break
            QTest.keyClick(view, Qt.Key.Key_Down if at < wanted else Qt.Key.Key_Up)
        QTest.keyClick(view, Qt.Key.Key_Return)
        self.settle()
        if box.currentText() != text:
            raise NotSeen(f"{text} was chosen and the box shows {box.currentText()!r}")

    def type(self, name: str, text: str, *, group: str = "", number: int = 0) -> None:
        """Type into a field in place of what is there, then leave it; `number` of those that share a label."""
        field = self.find(name, self.FIELD, group=group, number=number)
        self.wait(field.isEnabled, f"{name} is grey")
        self._show(field)
        inner = field if isinstance(field, QLineEdit) else field.findChild(QLineEdit)
        QTest.mouseClick(inner, _LEFT)
        inner.selectAll()
        QTest.keyClicks(inner, text)
        QTest.keyClick(inner, Qt.Key.Key_Return)
        if isinstance(field, QAbstractSpinBox):
            QTest.keyClick(field, Qt.Key.Key_Tab)
        self.settle()

    def keys(self, name: str, *keys: Qt.Key) -> None:
        """Press keys in a control."""
        control = self.find(name, QWidget)
        self._show(control)
        control.setFocus()
        for key in keys:
            QTest.keyClick(control, key)
        self.settle()

    def drag(self, name: str, start: tuple[float, float], stop: tuple[float, float]) -> None:
        """Drag in a control, from one place of it to another."""
        control = self.find(name, QWidget)
        self._show(control)
        self._stroke(control, [QPoint(round(x), round(y)) for x, y in np.linspace(start, stop, 8)])

    def select(self, layer: str) -> None:
        """Click a layer in napari's list of layers."""
        view = self.viewer.window._qt_viewer.layers
        model = view.model()
        for row in range(model.rowCount()):
            index = model.index(row, 0)
            if model.data(index, Qt.ItemDataRole.DisplayRole) == layer:
                view.scrollTo(index)
                QTest.mouseClick(view.viewport(), _LEFT, pos=view.visualRect(index).center())
                self.used.add(layer)
                self.settle()
                return
        raise NotSeen(f"the list of layers has no {layer}: {[one.name for one in self.viewer.layers]}")

    def find(self, name: str, kind, *, group: str = "", number: int = 0) -> QWidget:
        """The control of a name in the window: by its accessible name, its text, or the label before it."""
        self.used.update((name, group) if group else (name,))
        found: list[QWidget] = []

        def look() -> bool:
            for place in (self._dock(self._front), self.window):
                inside = place if not group or place is None else self._group(place, group)
                found[:] = [] if inside is None else list(_named(inside, name, kind))
                if len(found) > number:
                    return True
            return False

        self.wait(look, f"a control named {name}{f' in {group}' * bool(group)}")
        return found[number]

    @staticmethod
    def _group(place: QWidget, name: str) -> QWidget | None:
        head = next(_named(place, name, QAbstractButton), None)
        return None if head is None else head.parentWidget()

    def _dock(self, title: str) -> QDockWidget | None:
        docks = (dock for dock in self.window.findChildren(QDockWidget) if title and dock.isVisible())
        return next((dock for dock in docks if dock.windowTitle().startswith(title)), None)

    def open_group(self, name: str) -> None:
        """Open a group of inputs by a click on its head, if it is closed."""
        head = self.find(name, QAbstractButton)
        if head.isChecked():
            return
        self.press(name)
        time.sleep(0.4)  # it unfolds
        self.settle()

    def front(self, title: str) -> None:
        """Bring a widget that was opened from a menu to the front, as a click on its tab does."""
        self.used.add(title)
        self._front = title
        self.wait(lambda: self._dock(title) is not None, f"the widget {title}")
        self._dock(title).raise_()
        self.settle()

    @staticmethod
    def _show(widget: QWidget) -> None:
        """Scroll to it."""
        parent = widget.parentWidget()
        while parent is not None:
            if isinstance(parent, QScrollArea):
                parent.ensureWidgetVisible(widget, 10, 40)
            parent = parent.parentWidget()
        QApplication.processEvents()

    # -- canvas -------------------------------------------------------------------------------------------------------

    def at(self, layer: str, place) -> QPoint:
        """Where a place of a layer, (y, x) in pixels, is on the canvas."""
        camera = self.viewer.scene.camera
        world = np.array(self.viewer.layers[layer].data_to_world(place))[-2:]
        by = (world - np.array(camera.center[-2:])) * camera.zoom
        return QPoint(round(self.canvas.width() / 2 + by[1]), round(self.canvas.height() / 2 + by[0]))

    def look_at(self, layer: str, place, zoom: float) -> None:
        """Zoom and move until a place is in the middle."""
        world = self.viewer.layers[layer].data_to_world(place)
        self.viewer.scene.camera.center, self.viewer.scene.camera.zoom = (0, *world[-2:]), zoom
        self.settle()

    def click(self, layer: str, place) -> None:
        """Click a place of a layer."""
        QTest.mouseMove(self.canvas, self.at(layer, place))
        QTest.mouseClick(self.canvas, _LEFT, pos=self.at(layer, place))
        self.settle()

    def line(self, layer: str, start, stop) -> None:
        """Draw a line over a layer."""
        self._stroke(self.canvas, [self.at(layer, tuple(place)) for place in np.linspace(start, stop, 20)])

    def key(self, keys: str) -> None:
        """Press a key or several at once on the canvas: "J", "Ctrl+Z"."""
        self.used.add(keys)
        *held, key = keys.split("+")
        names = {"Ctrl": Qt.KeyboardModifier.ControlModifier, "Shift": Qt.KeyboardModifier.ShiftModifier}
        modifier = Qt.KeyboardModifier.NoModifier
        for name in held:
            modifier |= names[name]
        self.canvas.setFocus()
        QTest.keyClick(self.canvas, getattr(Qt.Key, f"Key_{key}"), modifier)
        self.settle()

    def _stroke(self, widget: QWidget, places: list[QPoint]) -> None:
        for number, place in enumerate(places):
            last = number == len(places) - 1
            kind = QEvent.Type.MouseButtonRelease if last else QEvent.Type.MouseMove
            kind = QEvent.Type.MouseButtonPress if number == 0 else kind
            button = Qt.MouseButton.NoButton if kind == QEvent.Type.MouseMove else _LEFT
            held = Qt.MouseButton.NoButton if last else _LEFT
            there = QPointF(widget.mapToGlobal(place))
            event = QMouseEvent(kind, QPointF(place), there, button, held, Qt.KeyboardModifier.NoModifier)
            QApplication.sendEvent(widget, event)
            time.sleep(0.02)
        self.settle()

    # -- eyes ---------------------------------------------------------------------------------------------------------

    def sees(self, *words: str) -> str:
        """A line of text that is on the screen and says all this; waits for it."""
        found: list[str] = []

        def look() -> bool:
            found[:] = [text for text in self.texts() if all(word in text for word in words)]
            return bool(found)

        self.wait(look, f"a line that says {' ... '.join(words)}")
        self.checks += 1
        return found[0]

    def sees_not(self, words: str) -> None:
        """No line says this any more."""
        self.wait(lambda: not any(words in text for text in self.texts()), f"no line that says {words}")
        self.checks += 1

    def sees_layer(self, name: str, *, visible: bool | None = None):
        """A layer of this name, which is given; waits for it."""

        def look() -> bool:
            return name in self.viewer.layers and visible in (None, self.viewer.layers[name].visible)

        self.wait(look, f"the layer {name}")
        self.checks += 1
        return self.viewer.layers[name]

    def sees_that(self, holds: Callable[[], bool], what: str) -> None:
        """Anything else that a user sees; waits for it."""
        self.wait(holds, what)
        self.checks += 1

    def texts(self) -> list[str]:
        """All lines of text in the window that are not hidden, without their colours."""
        labels = (label for label in self.window.findChildren(QLabel) if _is_open(label))
        return [_plain(unescape(re.sub(r"<[^>]*>", " ", label.text()))) for label in labels if label.text()]

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        """Let the window live until something holds."""
        end = time.monotonic() + seconds
        while not condition():
            if self.broken:
                raise NotSeen(f"waited for {what}, and the window raised {self.broken}")
            if time.monotonic() > end:
                raise NotSeen(f"waited {seconds:.0f} s for {what}. The window says: {self.texts()}")
            QApplication.processEvents()
            time.sleep(0.01)

    def settle(self) -> None:
        """Layouts and textures settle over a few turns."""
        for _ in range(12):
            QApplication.processEvents()
            time.sleep(0.01)

    def shoot(self, path: Path) -> None:
        """Save a picture of the window, if it is open."""
        self.settle()
        if isalive(self.window) and self.window.isVisible():
            self.window.grab().save(str(path))

    @property
    def is_open(self) -> bool:
        """Whether the window is there."""
        return isalive(self.window) and self.window.isVisible()


def _plain(text: str) -> str:
    return " ".join(text.replace("&", "").split())


def _bare(text: str) -> str:
    """A name without what says that more follows, and without its key: "Save CSV\u2026", "Merge (J)"."""
    return re.sub(r" \([A-Z]\)$", "", _plain(text)).rstrip(". \u2026")


def _action(menu: QWidget, name: str):
    for action in menu.actions():
        if _bare(action.text()) == _bare(name) and action.isVisible():
            return action
    raise NotSeen(f"{name} is not in the menu, which has {[_plain(action.text()) for action in menu.actions()]}")


def _is_open(widget: QWidget) -> bool:
    """Whether a widget is shown, or would be after scrolling: no group around it is closed, its tab is in front."""
    if not widget.isVisible():
        return False
    parent: QWidget | None = widget
    while parent is not None:
        if parent.height() == 0 or parent.maximumHeight() == 0:
            return False
        if isinstance(parent, QDockWidget) and parent.visibleRegion().isEmpty():
            return False
        parent = parent.parentWidget()
    return True


def _named(root: QWidget, name: str, kind) -> Iterator[QWidget]:
    """Controls of a kind and name in view; those that can be used come first."""
    labelled = {}
    for form in root.findChildren(QFormLayout):
        for row in range(form.rowCount()):
            label, field = (form.itemAt(row, role) for role in (QFormLayout.ItemRole.LabelRole, QFormLayout.ItemRole.FieldRole))
            if label is not None and field is not None and field.widget() is not None and isinstance(label.widget(), QLabel):
                labelled[field.widget()] = _plain(label.widget().text())
    found = []
    for widget in root.findChildren(QWidget):
        if isinstance(widget, kind) and _is_open(widget):
            names = {_bare(widget.accessibleName())}
            if isinstance(widget, QAbstractButton):
                names.add(_bare(widget.text()))
            else:  # the label before it, or before what it is a part of
                above: QWidget | None = widget
                while above is not None and above is not root and above not in labelled:
                    above = above.parentWidget()
                names.add(labelled.get(above, ""))
            if _bare(name) in names and not isinstance(widget.parentWidget(), QComboBox | QAbstractSpinBox | QListView):
                found.append(widget)
    yield from sorted(found, key=lambda widget: not widget.isEnabled())
