"""`LargeForm`: whether a run goes from disk to disk, with how much memory, and into which store."""

from pathlib import Path

from magicgui.widgets import FileEdit
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFormLayout, QWidget

from napari_shiftseg.plugin.group import Group

_TIPS = {
    "choice": "Block by block from disk to disk. Auto: when the result would not fit in memory.",
    "memory": "Memory that the run may take: one pass of the network, and out of core all of it.",
    "store": "OME-Zarr store to write. May stay empty: a run out of core then takes a free name beside the image.",
}
_WISHES = {"Auto": None, "Always": True, "Never": False}


class LargeForm(QWidget):
    """A collapsible group of inputs; `changed` says that one of them has changed."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self.choice, self.memory = QComboBox(), QDoubleSpinBox()
        self.choice.addItems(list(_WISHES))
        self.memory.setRange(0.0, 100_000.0)
        self.memory.setSingleStep(0.5)
        self.memory.setSuffix(" GB")
        self.memory.setSpecialValueText("from what is free")
        self.store = FileEdit(mode="w", filter="OME-Zarr (*.ome.zarr *.zarr)", nullable=True)
        rows = QFormLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        self.group = Group("Large images")
        inner = QWidget()
        inside = QFormLayout(inner)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for name, shown, label in (
            ("choice", self.choice, "Out of core"),
            ("memory", self.memory, "Memory"),
            ("store", self.store.native, "Result"),
        ):
            shown.setToolTip(_TIPS[name])
            inside.addRow(label, shown)
        self.group.addWidget(inner)
        rows.addRow(self.group)
        self.choice.currentTextChanged.connect(lambda _: self.changed.emit())
        self.memory.valueChanged.connect(lambda _: self.changed.emit())
        self.store.changed.connect(lambda _: self.changed.emit())

    @property
    def out_of_core(self) -> bool | None:
        """Whether the run shall go from disk to disk; None where that depends on the memory."""
        return _WISHES[self.choice.currentText()]

    @property
    def bytes(self) -> int | None:
        """Memory that the run may take, None where nothing is said."""
        return round(self.memory.value() * 1e9) or None

    @property
    def place(self) -> Path | None:
        """The store that the user named."""
        path = self.store.value
        return Path(path) if path and Path(path).name else None

    def forget_place(self) -> None:
        """Empty the field: that store is written now, and is not written twice."""
        self.store.value = None
