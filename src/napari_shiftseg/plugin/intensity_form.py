"""`IntensityForm`: which intensities become 0 and 1; `IntensityNote`: which did."""

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QHBoxLayout, QLineEdit, QPushButton, QWidget

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.plugin.group import Group
from napari_shiftseg.plugin.inputs import Note, offer

_FROM_MODEL, _PERCENTILES, _LIMITS = "from the model", "percentiles", "limits"
_INTENSITY_TIPS = {
    "choice": "Which intensities become 0 and 1. From the model: its percentiles of the image, without "
    "areas without data, hot pixels and few things far brighter than many objects. Percentiles: these of all pixels. Limits: "
    "these intensities.",
    "low": "Becomes 0.",
    "high": "Becomes 1.",
    "take": "Take the contrast limits of the layer, as it is seen.",
    "per": "One scaling for all frames of a series or stack, or one for each, as where it bleaches; never one per tile.",
    "invert": "The model knows bright objects on a dark background: turn an image of dark ones over.",
    "no_data": "Value of pixels without data, such as 0; empty for none. NaN always counts so. No object lies there.",
}


class IntensityForm(QWidget):
    """A collapsible group of inputs; `changed` says that one of them has changed.

    `layer`: gives the image layer whose contrast limits can be taken, or None.
    """

    changed = Signal()

    def __init__(self, layer: Callable[[], Any], parent: QWidget | None = None):
        super().__init__(parent)
        self._layer = layer
        self.choice, self.per = QComboBox(), QComboBox()
        offer(self.choice, (_FROM_MODEL, _PERCENTILES, _LIMITS))
        offer(self.per, ("image", "frame"))
        self.low, self.high, self.no_data = QLineEdit(), QLineEdit(), QLineEdit()
        self.no_data.setPlaceholderText("none")
        self.take, self.invert = QPushButton("As seen"), QCheckBox("Dark objects on bright")
        self.group = Group("Intensities")
        self._build_rows()
        for name, tip in _INTENSITY_TIPS.items():
            getattr(self, name).setToolTip(tip)
        for name, text in (("low", "Becomes 0"), ("high", "Becomes 1")):
            getattr(self, name).setAccessibleName(text)
        self._connect()
        self._on_choice()

    def wish(self) -> dict[str, Any]:
        """What `SegmentSettings` takes; SettingsError where a field holds no number."""
        per = self.per.currentText() if self.per.isEnabled() else "image"
        wish: dict[str, Any] = {"limits_per": per, "invert": self.invert.isChecked()}
        if self.choice.currentText() != _FROM_MODEL:
            wish[self.choice.currentText()] = (_number(self.low, "the lower limit"), _number(self.high, "the upper limit"))
        if self.no_data.text().strip():
            wish["no_data"] = _number(self.no_data, "the value for no data")
        return wish

    def _build_rows(self) -> None:
        pair = self._pair = QWidget()
        side = QHBoxLayout(pair)
        side.setContentsMargins(0, 0, 0, 0)
        for widget in (self.low, self.high, self.take):
            side.addWidget(widget)
        inner = QWidget()
        rows = self._rows = QFormLayout(inner)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for label, widget in (("Scale", self.choice), ("0 and 1", pair), ("Limits per", self.per), ("No data", self.no_data)):
            rows.addRow(label, widget)
        rows.addRow(self.invert)
        self.group.addWidget(inner)
        outer = QFormLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addRow(self.group)

    def _connect(self) -> None:
        self.choice.currentTextChanged.connect(lambda _: self._on_choice())
        self.take.clicked.connect(lambda _: self._take_contrast())
        for signal in (self.per.currentTextChanged, self.invert.toggled):
            signal.connect(lambda _: self.changed.emit())
        for edit in (self.low, self.high, self.no_data):
            edit.editingFinished.connect(self.changed.emit)

    def _on_choice(self) -> None:
        """Show the two numbers where they matter, with some that make sense."""
        choice = self.choice.currentText()
        self._pair.setVisible(choice != _FROM_MODEL)
        self._rows.labelForField(self._pair).setVisible(choice != _FROM_MODEL)
        self.take.setVisible(choice == _LIMITS)
        self.per.setEnabled(choice != _LIMITS)  # the same two numbers for every frame
        if choice == _LIMITS:
            self._take_contrast()
        else:
            self._show(1.0, 99.8)

    def _take_contrast(self) -> None:
        layer = self._layer()
        limits = (0.0, 1.0) if layer is None else layer.contrast_limits
        self._show(*limits)

    def _show(self, low: float, high: float) -> None:
        self.low.setText(f"{low:.7g}")
        self.high.setText(f"{high:.7g}")
        self.changed.emit()


class IntensityNote(Note):
    """How the intensities of a run were scaled, and what to beware of; hidden where there is nothing to say."""

    def show_record(self, record: Any) -> None:
        """Say it of the record of a run, None for no run."""
        if record is None or "intensity" not in record:
            self.fill("")
            return
        from napari_shiftseg.segmentation.intensity import recorded_limits

        found = record["intensity"]
        text = " ".join((f"Intensities: {recorded_limits(record).describe()}.", *found["warnings"], *found["notes"]))
        self.tell("warn" if found["warnings"] else "", text)
        self.setVisible(True)


def _number(edit: QLineEdit, what: str) -> float:
    text = edit.text().strip().replace("\u2212", "-")
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise SettingsError(f'{what} is "{text}"; give a number.') from None
