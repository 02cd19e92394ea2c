"""The inputs of the Correct widget, and the lines that explain them."""

from magicgui.widgets import ComboBox
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QListWidget, QPushButton, QVBoxLayout, QWidget

from napari_shiftseg.plugin.correct_tool import KEYS
from napari_shiftseg.plugin.dock import StatusLine
from napari_shiftseg.plugin.inputs import Note, narrow

_TIPS = {
    "accept": "Make the labels yours: no run and no change of a setting replaces them any more. Their metadata keep what they "
    "were made from.",
    "merge": "Click two objects: the second becomes a part of the first.",
    "split": "Draw a line across an object where it is to be cut, or from one part to the other. The embedding of the object "
    "says where the border runs; where it does not tell the parts apart, the line does.",
    "delete": "Click an object: it becomes background.",
    "undo": "Take the last edit back, painting as well (Ctrl+Z in the canvas).",
    "redo": "Do again what was undone (Ctrl+Shift+Z in the canvas).",
    "cancel": "Stop what is being computed; nothing is edited.",
    "edits": "What was done, the last edit at the end.",
}


class CorrectForm(QWidget):
    """Layer, modes, history; `foot` has what stays in view: undo, redo, cancel, and the line on what is done.

    `layers`: of labels layers.
    """

    def __init__(self, layers: ComboBox, parent: QWidget | None = None):
        super().__init__(parent)
        self.layers = layers
        narrow(layers.native)
        self.accept = QPushButton("Accept")
        self.modes = {name: QPushButton(f"{name.capitalize()} ({key})") for name, key in KEYS.items()}
        self.merge, self.split, self.delete = self.modes.values()
        for button in self.modes.values():
            button.setCheckable(True)
        self.undo, self.redo, self.cancel = QPushButton("Undo"), QPushButton("Redo"), QPushButton("Cancel")
        self.cancel.setVisible(False)
        self.edits, self.about, self.status = QListWidget(), Note(), Note()
        self.edits.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # there is nothing to choose in it
        for name, tip in _TIPS.items():
            getattr(self, name).setToolTip(tip)
            getattr(self, name).setAccessibleName(name.capitalize())
        self._build()

    def _build(self) -> None:
        rows = QFormLayout()
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        rows.addRow("Labels", self.layers.native)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(rows)
        column.addWidget(self.accept)
        column.addLayout(_row(*self.modes.values()))
        column.addWidget(self.about)
        column.addWidget(self.edits)
        self.foot = QWidget()
        below = QVBoxLayout(self.foot)
        below.addLayout(_row(self.undo, self.redo, self.cancel))
        below.addWidget(StatusLine(self.status))


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row
