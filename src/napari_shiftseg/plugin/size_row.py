"""`SizeRow`: how large the objects are, typed or measured."""

from collections.abc import Generator
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QPushButton, QWidget

from napari_shiftseg.events import Event

if TYPE_CHECKING:
    from napari_shiftseg.segmentation import Job
    from napari_shiftseg.segmentation.sizing import ObjectSize

_TIPS = {
    "box": "Diameter of the objects, pixels of the image. The network runs at the scale at which it knows such objects; the "
    "result has all pixels of the image. 0: the image as it is.",
    "measure": "Look for objects at several scales in a few places of the image, and take the diameter of what is found.",
}


class SizeRow(QWidget):
    """A diameter in pixels, and a button that asks for it to be measured; `changed` says that the diameter has changed."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self.box, self.measure = QDoubleSpinBox(), QPushButton("Measure")
        self.box.setRange(0.0, 10_000.0)
        self.box.setDecimals(1)
        self.box.setSuffix(" px")
        self.box.setSpecialValueText("as it is")
        self.box.setKeyboardTracking(False)  # a number that is being typed is none yet
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.box, 1)
        row.addWidget(self.measure)
        self.box.valueChanged.connect(lambda _: self.changed.emit())
        for name, tip in _TIPS.items():
            getattr(self, name).setToolTip(tip)

    def value(self) -> float | None:
        """Pixels; None for the image as it is."""
        return self.box.value() or None

    def take(self, size: "ObjectSize") -> tuple[str, str]:
        """Show what was measured; level and text of a line that says it."""
        self.box.setValue(size.diameter or 0.0)
        text = size.describe()
        return "" if size.diameter else "warn", f"{text[:1].upper()}{text[1:]}."


def measure_job(job: "Job") -> Generator[Event, None, "ObjectSize"]:
    """Measure the objects of the image of a job: yields events, returns their size."""
    from napari_shiftseg.segmentation import measure_steps

    return (yield from measure_steps(job.opened.image, job.opened.model, job.settings))
