"""`Keeper`: what a widget was set to, kept in a file beside napari's settings from one session to the next."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from magicgui.widgets import FileEdit
from napari.settings import get_settings
from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QLineEdit, QSpinBox, QWidget

from napari_shiftseg.files import replacing
from napari_shiftseg.plugin.constants import KEEP_PAUSE
from napari_shiftseg.plugin.group import Group
from napari_shiftseg.plugin.inputs import ModelBox


def place() -> Path | None:
    """The file; None where napari keeps no settings either."""
    settings = get_settings().config_path
    return None if settings is None else Path(settings).parent / "napari-shiftseg.json"


def read_kept(part: str) -> dict[str, Any]:
    """What is kept under a name; {} where that is nothing, or nothing that can be read."""
    found = _all(place()).get(part)
    return found if isinstance(found, dict) else {}


def write_kept(part: str, values: Mapping[str, Any]) -> None:
    """Keep values under a name; where the file cannot be written, nothing is kept, and nobody is disturbed."""
    _write_kept(place(), part, values)


def _write_kept(path: Path | None, part: str, values: Mapping[str, Any]) -> None:
    if path is None:
        return
    with suppress(OSError, ValueError, TypeError):
        text = json.dumps({**_all(path), part: dict(values)}, indent=1)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as new:
            new.write_text(text, encoding="utf-8")


def _all(path: Path | None) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path is not None else {}
    except (OSError, ValueError, RecursionError):  # not there, or damaged
        return {}
    return found if isinstance(found, dict) else {}


class Keeper(QObject):
    """Sets controls as they were, and keeps each change of them soon after it.

    Parameters
    ----------
    widget : QWidget
        Whose controls they are.
    part : str
        Name under which they are kept.
    controls : mapping of str to QWidget
        By the names that a user knows.

    Attributes
    ----------
    differing : dict
        Those that came back otherwise than a new widget has them, and their values.
    """

    def __init__(self, widget: QWidget, part: str, controls: Mapping[str, Any]):
        super().__init__(widget)
        self._widget, self._part, self._controls = widget, part, dict(controls)
        self._new = {name: _value(control) for name, control in self._controls.items()}
        self._place = place()  # a widget that is on its way out writes where it read, whatever came since
        self._missing = read_kept(part)
        self.differing: dict[str, Any] = {}
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(KEEP_PAUSE)
        self._timer.timeout.connect(self._write)
        self.bring_back()
        for name, control in self._controls.items():
            _changed(control).connect(partial(self._on_change, name))
        widget.installEventFilter(self)

    def bring_back(self) -> bool:
        """Set what is kept, and was not to be had until now, such as a device; whether anything was set."""
        done = False
        for name, control in self._controls.items():
            if name not in self._missing:
                continue
            wanted = self._missing[name]
            if _set(control, wanted):
                del self._missing[name]
                if wanted != self._new[name]:
                    self.differing[name], done = wanted, True
        return done

    def reset(self) -> None:
        """Set all as a new widget has it."""
        self._missing, self.differing = {}, {}
        for name, control in self._controls.items():
            if not isinstance(control, Group):
                _set(control, self._new[name])

    def eventFilter(self, _: QObject, event: QEvent) -> bool:
        """As Qt asks: what was changed last is written before the window closes."""
        if event.type() == QEvent.Type.Hide and self._timer.isActive():
            self._write()
        return False

    def _on_change(self, name: str, *_: Any) -> None:
        if isalive(self):
            self._missing.pop(name, None)
            self._timer.start()

    def _write(self) -> None:
        self._timer.stop()
        values = {name: _value(control) for name, control in self._controls.items()}
        _write_kept(self._place, self._part, {**values, **self._missing})


# How each kind of control says its value, takes one, and tells of a change.
_KINDS: dict[type, tuple[Callable[[Any], Any], type | tuple[type, ...], str]] = {
    Group: (lambda control: control.is_open, bool, "toggled"),
    QCheckBox: (lambda control: control.isChecked(), bool, "toggled"),
    QDoubleSpinBox: (lambda control: control.value(), (int, float), "valueChanged"),
    QSpinBox: (lambda control: control.value(), int, "valueChanged"),
    QLineEdit: (lambda control: control.text(), str, "textChanged"),
    QComboBox: (lambda control: control.currentText(), str, "currentTextChanged"),
    ModelBox: (lambda control: control.value() or "", str, "changed"),
    FileEdit: (lambda control: str(control.value or ""), str, "changed"),
}


def _kind(control: Any) -> tuple[Callable[[Any], Any], Any, str]:
    return next(kind for known, kind in _KINDS.items() if isinstance(control, known))


def _value(control: Any) -> Any:
    return _kind(control)[0](control)


def _changed(control: Any) -> Any:
    return getattr(control, _kind(control)[2])


def _set(control: Any, value: Any) -> bool:
    """Set a control as a user would; False where it cannot have such a value, or not yet."""
    wanted = _kind(control)[1]
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        return False
    if isinstance(control, Group):
        (control.expand if value else control.collapse)()
    elif isinstance(control, QCheckBox):
        control.setChecked(value)
    elif isinstance(control, QSpinBox | QDoubleSpinBox):
        if not control.minimum() <= value <= control.maximum():  # NaN neither
            return False
        control.setValue(value)
    elif isinstance(control, QLineEdit):
        control.setText(value)
    elif isinstance(control, ModelBox):
        return control.bring_back(value)
    elif isinstance(control, FileEdit):
        if value and not Path(value).is_file():
            return False
        control.value = value or None
    elif control.isEditable() or control.findText(value) >= 0:
        control.setCurrentText(value)
    else:
        return False
    return True
