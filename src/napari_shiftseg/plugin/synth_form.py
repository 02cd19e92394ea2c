"""How the Synthetic images widget looks: the fields of a recipe in rows; what they do is in `synth_widget`."""

import re
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFormLayout, QLabel, QLineEdit, QSpinBox, QWidget

from napari_shiftseg import synthetic
from napari_shiftseg.errors import SettingsError

FREE = "None"
_LATTICE = {"spacing", "radius", "offset", "jitter", "light", "noise", "elastic", "seed"}
_FIELDS = {
    "disks": _LATTICE,
    "squares": _LATTICE,
    "constant": {"value", "light", "noise", "seed"},
    "ramp": set(),
    "blobs": {"count", "radius", "largest", "touching", "noise", "seed"},
}
_TIPS = {
    "preset": "The images of the paper's figures, and some more. It fills in the fields below.",
    "shape": "Edges of the image, pixels: 256 x 256, or three of them for a stack.",
    "spacing": "From one centre to the next along each axis, pixels.",
    "radius": "Of an object, pixels; of blobs, that of the smallest.",
    "largest": "Radius of the largest blob, pixels.",
    "offset": "Moves the lattice, pixels.",
    "jitter": "Each object is moved by up to so many whole pixels per axis.",
    "light": "Share of the brightness that is lost from the first corner to the last.",
    "value": "Brightness of all pixels.",
    "count": "Number of blobs.",
    "touching": "Share of the blobs that touch another one.",
    "noise": "Standard deviation of Gaussian noise; the paper's is 0.1.",
    "elastic": "Standard deviation of a smooth deformation, pixels; the paper's is 0.2.",
    "seed": "Of everything random: equal seeds give equal images.",
    "levels": "Poolings of the network that has to tell the objects apart (paper: l).",
    "pool": "Factor of each pooling (paper: f).",
}


class Picture(QLabel):
    """Shows grey pixels, magnified by a whole factor."""

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self.setFixedHeight(256)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)

    def draw(self, pixels: Any) -> None:
        """Show (y, x) uint8."""
        height, width = pixels.shape
        image = QImage(pixels.tobytes(), width, height, width, QImage.Format.Format_Grayscale8)
        zoom = max(1, 256 // max(height, width))
        self.setPixmap(QPixmap.fromImage(image).scaled(width * zoom, height * zoom))


class SynthForm(QWidget):
    """The inputs of the widget; `edited` says that a field of the recipe, `changed` that anything has changed."""

    edited = Signal()
    changed = Signal()

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self.preset, self.kind, self.shape = QComboBox(), QComboBox(), QLineEdit("256 x 256")
        self.preset.addItems([FREE, *synthetic.presets()])
        self.kind.addItems(list(synthetic.KINDS))
        self.spacing, self.offset = _whole(1, 10_000, 16), _whole(-10_000, 10_000, 0)
        self.radius, self.largest = _number(0.5, 10_000, 5, step=0.5), _number(1, 10_000, 10, step=0.5)
        self.jitter, self.count, self.seed = _whole(0, 10_000, 0), _whole(0, 1_000_000, 60), _whole(0, 2**31 - 1, 0)
        self.light, self.value, self.touching = _number(0, 1, 0), _number(0, 1, 1), _number(0, 1, 0.3)
        self.noise, self.elastic = _number(0, 10, 0), _number(0, 100, 0)
        self.levels, self.pool = _whole(1, 8, 3), _whole(2, 8, 2)
        self._build_rows()
        for name, tip in _TIPS.items():
            getattr(self, name).setToolTip(tip)
        self._connect()
        self.show_fields()

    def recipe(self) -> synthetic.Recipe:
        """What the fields say; SettingsError if a value is bad."""
        kind = self.kind.currentText()
        values: dict[str, Any] = {name: getattr(self, name).value() for name in _FIELDS[kind]}
        if "largest" in values:
            values["radius"] = (values["radius"], values.pop("largest"))
        return synthetic.recipe_of(kind, self._edges(), **values)

    def fill(self, recipe: synthetic.Recipe) -> None:
        """Set the fields as a recipe says, without a signal."""
        blocked = self.blockSignals(True)
        self.kind.setCurrentText(recipe.kind)
        self.shape.setText(" x ".join(map(str, recipe.shape)))
        for name in _FIELDS[recipe.kind] - {"largest"}:
            value = getattr(recipe, name)
            if recipe.kind == "blobs" and name == "radius":
                self.largest.setValue(value[1])
            getattr(self, name).setValue(value[0] if isinstance(value, tuple) else value)
        self.blockSignals(blocked)
        self.show_fields()

    def show_fields(self) -> None:
        """Show the fields that the kind has."""
        for name in set().union(*_FIELDS.values()):
            field, there = getattr(self, name), name in _FIELDS[self.kind.currentText()]
            field.setVisible(there)
            self._rows.labelForField(field).setVisible(there)

    def kept(self) -> dict[str, Any]:
        """What is kept from one session to the next; the preset comes last, since any other field ends it."""
        names = ("kind", "shape", *sorted(set().union(*_FIELDS.values())), "levels", "pool", "preset")
        return {name: getattr(self, name) for name in names}

    def _edges(self) -> tuple[int, ...]:
        words = re.split(r"\s*[x\u00d7,;\s]\s*", self.shape.text().strip())
        try:
            return tuple(int(word) for word in words)
        except ValueError:
            raise SettingsError(f"the shape {self.shape.text()!r} is not made of whole numbers; type 256 x 256.") from None

    def _connect(self) -> None:
        self.kind.currentTextChanged.connect(lambda _: self.show_fields())
        self.kind.currentTextChanged.connect(lambda _: self.edited.emit())
        self.shape.textChanged.connect(lambda _: self.edited.emit())
        for name in set().union(*_FIELDS.values()):
            getattr(self, name).valueChanged.connect(lambda _: self.edited.emit())
        for box in (self.levels, self.pool):
            box.valueChanged.connect(lambda _: self.changed.emit())
        self.edited.connect(self.changed.emit)

    def _build_rows(self) -> None:
        rows = self._rows = QFormLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        names = ("preset", "kind", "shape", "spacing", "radius", "largest", "offset", "jitter", "count", "touching")
        for name in (*names, "value", "light", "noise", "elastic", "seed", "levels"):
            rows.addRow(name.capitalize(), getattr(self, name))
        rows.addRow("Pooling factor", self.pool)


def _whole(least: int, most: int, value: int) -> QSpinBox:
    box = QSpinBox()
    box.setRange(least, most)
    box.setValue(value)
    return box


def _number(least: float, most: float, value: float, *, step: float = 0.05) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setDecimals(3)
    box.setRange(least, most)
    box.setSingleStep(step)
    box.setValue(value)
    return box
