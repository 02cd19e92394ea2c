"""How the Link widget looks: the labels, the axis, and the few settings of each."""

from typing import Any

from magicgui.widgets import ComboBox
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_shiftseg.plugin.dock import StatusLine
from napari_shiftseg.plugin.inputs import Note, narrow

THROUGH = {"planes of a stack (z)": "z", "frames of a series (t)": "t"}
_OF = {"z": ("overlap", "agreement", "gap"), "t": ("distance", "gap", "splits")}

_NAMES = {
    "through": "Through", "overlap": "Overlap", "agreement": "Agreement", "distance": "Distance", "gap": "Gap",
    "splits": "Objects split",
}  # fmt: skip
_TIPS = {
    "through": "Where an object is to keep its number.",
    "overlap": "Two objects can only be one if they share this much of the smaller of them.",
    "agreement": "Two objects can only be one if their mean codes are at most so far from each other, in bandwidths.",
    "distance": "The most that an object moves from frame to frame, in diameters of the median object.",
    "gap": "Planes or frames in which an object may be missing.",
    "splits": "An object can become two smaller ones: its track ends, and two begin.",
    "link": "Give objects one number; the result is a new layer.",
    "cancel": "Stop; nothing is added.",
}


class LinkForm(QWidget):
    """Inputs; `foot` has what stays in view: buttons, the bar and the line that says what is happening.

    `layers`: of labels layers.
    """

    def __init__(self, layers: ComboBox, parent: QWidget | None = None):
        super().__init__(parent)
        self.layers = layers
        narrow(layers.native)
        self.through = QComboBox()
        self.through.addItems(list(THROUGH))
        self.overlap, self.agreement, self.distance = _number(0.5, 1), _number(0.75, 100), _number(1, 100)
        self.gap, self.splits = QSpinBox(), QCheckBox(_NAMES["splits"])
        self.gap.setRange(0, 99)
        self.gap.setValue(1)
        self.splits.setChecked(True)
        self.link, self.cancel = QPushButton("Link"), QPushButton("Cancel")
        self.progress, self.status = QProgressBar(), Note()
        self.progress.setTextVisible(False)
        for name, tip in _TIPS.items():
            getattr(self, name).setToolTip(tip)
            getattr(self, name).setAccessibleName(_NAMES.get(name, name.capitalize()))
        self._build()
        self.through.currentTextChanged.connect(self.show_axis)
        self.show_axis()
        self.begin(False)

    @property
    def axis(self) -> str:
        """The chosen axis, a letter."""
        return THROUGH[self.through.currentText()]

    def choose(self, axis: str) -> None:
        """Choose an axis."""
        self.through.setCurrentText(next(text for text, letter in THROUGH.items() if letter == axis))

    def kept(self) -> dict[str, Any]:
        """What is kept from one session to the next, by the names that a user knows."""
        return {text: getattr(self, name) for name, text in _NAMES.items()}

    def wishes(self) -> dict[str, Any]:
        """The settings of the chosen axis, as `link` takes them."""
        return {
            name: getattr(self, name).isChecked() if name == "splits" else getattr(self, name).value()
            for name in _OF[self.axis]
        }

    def show_axis(self, *_: Any) -> None:
        """Show the settings of the chosen axis alone."""
        for name in ("overlap", "agreement", "distance", "gap", "splits"):
            self._rows.setRowVisible(getattr(self, name), name in _OF[self.axis])

    def begin(self, running: bool) -> None:
        """Get ready for work, or for what comes after it."""
        self.link.setEnabled(not running and self.layers.value is not None)
        self.cancel.setEnabled(running)
        self.progress.setVisible(running)

    def _build(self) -> None:
        rows = self._rows = QFormLayout()
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        rows.addRow("Labels", self.layers.native)
        for name in ("through", "overlap", "agreement", "distance", "gap"):
            rows.addRow(_NAMES[name], getattr(self, name))
        rows.addRow(self.splits)
        buttons = QHBoxLayout()
        buttons.addWidget(self.link, 2)
        buttons.addWidget(self.cancel, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(rows)
        self.foot = QWidget()
        below = QVBoxLayout(self.foot)
        below.addLayout(buttons)
        below.addWidget(self.progress)
        below.addWidget(StatusLine(self.status))


def _number(value: float, most: float) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(0.05, most)
    box.setSingleStep(0.05)
    box.setValue(value)
    return box
