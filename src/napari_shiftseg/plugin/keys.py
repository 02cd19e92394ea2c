"""`give_keys`: a name for each control of a widget that a screen reader says, and two keys that reach it."""

from collections.abc import Iterable, Iterator
from functools import partial
from string import ascii_uppercase, digits

from qtpy.compat import isalive
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QDockWidget,
    QFormLayout,
    QLabel,
    QScrollArea,
    QScrollBar,
    QShortcut,
    QWidget,
)

# Controls that are made of smaller ones, which are no controls of their own.
_WHOLE = (QComboBox, QAbstractSpinBox, QAbstractSlider, QAbstractItemView)


def controls_of(root: QWidget) -> list[QWidget]:
    """What takes keys in a widget: each control once, without the parts that it is made of."""
    return [widget for widget in root.findChildren(QWidget) if _is_control(widget) and not _is_part(widget, root)]


def give_keys(root: QWidget, first: QWidget | None = None) -> None:
    """Name the controls of a widget, and give those that have no keys yet two: the leader of the widget, then one of their own.

    A button is pressed by its keys, any other control gets the focus. The tooltip says the keys. What is hidden or switched off
    has none as long.

    Parameters
    ----------
    root : QWidget
        Its attribute `leader` is the first key, such as "Alt+G"; without one, controls get names alone.
    first : QWidget, optional
        A part of it whose controls choose first.
    """
    _name(root)
    leader = getattr(root, "leader", "")
    if not leader:
        return
    given = {shortcut.parent(): shortcut.key().toString() for shortcut in root.findChildren(QShortcut)}
    taken = set(given.values())
    ahead = [] if first is None else controls_of(first)
    for control in [*ahead, *(other for other in controls_of(root) if other not in ahead)]:
        if control in given:
            continue
        keys = next(keys for keys in _offers(leader, control.accessibleName()) if keys not in taken)
        taken.add(keys)
        shortcut = QShortcut(QKeySequence(keys), control)
        shortcut.activated.connect(partial(_reach, control))
        set_tip(control, control.toolTip() or control.accessibleName())


def set_tip(control: QWidget, text: str) -> None:
    """Give a control a tooltip, which says its keys as well."""
    shortcut = control.findChild(QShortcut, options=Qt.FindChildOption.FindDirectChildrenOnly)
    control.setToolTip(text if shortcut is None else f"{text}\n({shortcut.key().toString()})")


def _is_control(widget: QWidget) -> bool:
    takes = bool(widget.focusPolicy() & Qt.FocusPolicy.TabFocus) or isinstance(widget, _WHOLE)
    return takes and not isinstance(widget, QLabel | QScrollBar | QScrollArea | QDockWidget)


def _is_part(widget: QWidget, root: QWidget) -> bool:
    parent = widget.parentWidget()
    while parent is not None and parent is not root:
        if isinstance(parent, _WHOLE):
            return True
        parent = parent.parentWidget()
    return False


def _name(root: QWidget) -> None:
    """Name controls that have no name: buttons by what is written on them, others by the label before them."""
    labels: dict[QWidget, str] = {}
    for form in root.findChildren(QFormLayout):
        for row in range(form.rowCount()):
            item = form.itemAt(row, QFormLayout.ItemRole.FieldRole)
            label = None if item is None or item.widget() is None else form.labelForField(item.widget())
            if label is not None:
                labels[item.widget()] = label.text()
    for control in controls_of(root):
        label, text = _label(control, labels), control.text() if isinstance(control, QAbstractButton) else ""
        # a button beside others in a row is known by both
        both = f"{label}: {text}" if label and text and control not in labels else text or label
        name = (control.accessibleName() or both).replace("&", "").rstrip("\u2026 ")
        for part in (control, *control.findChildren(QWidget)):
            if not part.accessibleName():
                part.setAccessibleName(name)


def _label(control: QWidget, labels: dict[QWidget, str]) -> str:
    widget: QWidget | None = control
    while widget is not None:
        if widget in labels:
            return labels[widget]
        widget = widget.parentWidget()
    return ""


def _offers(leader: str, name: str) -> Iterator[str]:
    """Pairs of keys for a name, the likeliest first: initials of its words, its letters, then whatever is left."""
    words = [word for word in name.upper().split() if word[0] in ascii_uppercase]
    letters = [*(word[0] for word in words), *(letter for letter in name.upper() if letter in ascii_uppercase)]
    for key in (*letters, *(f"Shift+{letter}" for letter in letters), *_rest()):
        yield f"{leader}, {key}"


def _rest() -> Iterable[str]:
    return (*ascii_uppercase, *digits, *(f"Shift+{letter}" for letter in ascii_uppercase))


def _reach(control: QWidget) -> None:
    """Bring a control to the front, and press it if it is a button, else give it the focus."""
    if not isalive(control):
        return
    widget: QWidget | None = control
    while widget is not None:
        if isinstance(widget, QScrollArea):
            widget.ensureWidgetVisible(control)
        if isinstance(widget, QDockWidget):
            widget.raise_()
        widget = widget.parentWidget()
    if isinstance(control, QAbstractButton):
        control.click()
        return
    inner = next((part for part in control.findChildren(QWidget) if part.focusPolicy() & Qt.FocusPolicy.TabFocus), None)
    takes = control.focusPolicy() & Qt.FocusPolicy.TabFocus
    (control if takes or inner is None else inner).setFocus(Qt.FocusReason.ShortcutFocusReason)
