"""How the Measure widget looks: what is measured, the colours, the plot, and what is selected."""

from typing import Any

from magicgui.widgets import ComboBox
from napari.layers import Image as ImageLayer
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QDoubleValidator
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_shiftseg.plugin.dock import StatusLine
from napari_shiftseg.plugin.group import Group
from napari_shiftseg.plugin.inputs import Note, narrow
from napari_shiftseg.plugin.object_colours import ALL, HIGHLIGHTED, ONLY
from napari_shiftseg.plugin.object_plot import LASSO, RECTANGLE, ObjectPlot

COLORMAPS = ("viridis", "magma", "plasma", "inferno", "turbo", "gray", "twilight")
NO_COLUMN, COUNT = "Label colours", "Number of objects"

_TIPS = {
    "images": "Images on which the labels lie; of those with a tick the intensities are measured, per channel.",
    "planes": "Each plane of the stack has objects of its own, as after a model of planes.",
    "measure": "Measure all objects: size, shape, place and intensities, in the unit of the layer, named as in scikit-image.",
    "cancel": "Stop; the features stay as they were.",
    "table": "Open napari's own table of the features of the layer.",
    "save": "Write the measurements as CSV or Parquet, as shiftseg measure does.",
    "column": "Colour each object by this column.",
    "colours": "Colours from the lowest value to the highest.",
    "low": "Value of the first colour; all below have it, too.",
    "high": "Value of the last colour; all above have it, too.",
    "whole": "From the lowest value to the highest.",
    "back": "Give the labels the colours back that they had.",
    "across": "Column along the horizontal axis.",
    "up": "Column along the vertical axis, or how many objects have each value.",
    "tool": "What is drawn around objects to select them.",
    "show": "Which objects are drawn.",
    "list": "Selected objects; click one to go there.",
    "clear": "Select nothing.",
    "invert": "Select all others.",
    "delete": "Make the selected objects background, in one step that can be undone.",
    "keep": "Make all other objects background, in one step that can be undone.",
    "copy": "A new labels layer of the selected objects, with their numbers and features.",
    "save_selected": "Write the measurements of the selected objects as CSV or Parquet.",
    "undo": "Take the last edit back.",
}
_TEXTS = {
    "planes": "Objects of single planes", "measure": "Measure", "cancel": "Cancel", "table": "Show table",
    "save": "Save table\u2026", "whole": "Whole range", "back": "Back to label colours", "clear": "Select none",
    "invert": "Invert", "delete": "Delete", "keep": "Keep only these", "copy": "New layer",
    "save_selected": "Save table\u2026", "undo": "Undo",
}  # fmt: skip
_NAMES = {
    "images": "Images whose intensities are measured", "column": "Column that says the colours", "colours": "Colormap",
    "low": "Value of the first colour", "high": "Value of the last colour", "across": "Horizontal axis", "up": "Vertical axis",
    "tool": "What selects objects", "show": "Objects that are shown", "list": "Selected objects", "save_selected":
    "Save table of selected objects", "delete": "Delete selected objects", "keep": "Keep only selected objects",
    "copy": "New layer of selected objects", "undo": "Undo the last edit",
}  # fmt: skip


class MeasureForm(QWidget):
    """Inputs, buttons, plot and lines; `foot` has what stays in view: measure, cancel, progress, and the line on them.

    `layers`: of labels layers.
    """

    picked = Signal(int)  # row of the list

    def __init__(self, layers: ComboBox, parent: QWidget | None = None):
        super().__init__(parent)
        self.layers = layers
        narrow(layers.native)
        layers.native.setAccessibleName("Labels")
        self.images, self.list = QListWidget(), QListWidget()
        self.planes = QCheckBox()
        for name in ("measure", "cancel", "table", "save", "whole", "back", "clear", "invert", "delete", "keep", "copy"):
            setattr(self, name, QPushButton())
        self.save_selected, self.undo = QPushButton(), QPushButton()
        self.column, self.colours, self.across, self.up, self.tool, self.show_ = (QComboBox() for _ in range(6))
        self.low, self.high = QLineEdit(), QLineEdit()
        self.progress, self.about, self.status, self.count = QProgressBar(), Note(), Note(), Note()
        self.plot = ObjectPlot()
        self.colours.addItems(COLORMAPS)
        self.tool.addItems((RECTANGLE, LASSO))
        self.show_.addItems((ALL, HIGHLIGHTED, ONLY))
        narrow(self.column, self.colours, self.across, self.up, self.tool, self.show_)
        for name in _TIPS:
            widget = self._named(name)
            widget.setToolTip(_TIPS[name])
            widget.setAccessibleName(_NAMES.get(name) or _TEXTS.get(name) or name.capitalize())
            if name in _TEXTS:
                widget.setText(_TEXTS[name])
        for line in (self.low, self.high):
            line.setValidator(QDoubleValidator(line))
        self.progress.setTextVisible(False)
        self.progress.setAccessibleName("How much is measured")
        self.images.setMaximumHeight(76)
        self.list.setMaximumHeight(110)
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.list.itemClicked.connect(lambda item: self.picked.emit(item.data(Qt.ItemDataRole.UserRole)))
        self.list.itemActivated.connect(lambda item: self.picked.emit(item.data(Qt.ItemDataRole.UserRole)))
        self._build()
        self.show_running(False)

    def _named(self, name: str) -> Any:
        return self.show_ if name == "show" else getattr(self, name)

    def kept(self) -> dict[str, Any]:
        """What is kept from one session to the next, by the names that a user knows; all else is of one layer."""
        boxes = {_NAMES["colours"]: self.colours, _NAMES["tool"]: self.tool, _TEXTS["planes"]: self.planes}
        return boxes | {group.head.text(): group for group in self.groups}

    # -- values -------------------------------------------------------------------------------------------------------

    def offer_images(self, layers: list[ImageLayer], ticked: set[ImageLayer]) -> None:
        """Offer image layers, with a tick at some."""
        self.images.clear()
        for layer in layers:
            item = QListWidgetItem(layer.name)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            item.setCheckState(Qt.CheckState.Checked if layer in ticked else Qt.CheckState.Unchecked)
            item.setData(Qt.ItemDataRole.UserRole, layer.unique_id)
            self.images.addItem(item)
        self._rows.labelForField(self.images).setVisible(bool(layers))
        self.images.setVisible(bool(layers))
        self.images.setFixedHeight(min(76, 8 + max(1, len(layers)) * max(18, self.images.sizeHintForRow(0))))

    def ticked(self) -> list[Any]:
        """Which image layers have a tick, by `unique_id`."""
        items = [self.images.item(at) for at in range(self.images.count())]
        return [item.data(Qt.ItemDataRole.UserRole) for item in items if item.checkState() == Qt.CheckState.Checked]

    def offer_columns(self, names: list[str]) -> None:
        """Offer columns for colours and axes, without a signal; what is chosen stays if it is there."""
        first = next((name for name in ("area", "num_pixels", *names) if name in names), "")
        for box, more, default in ((self.column, NO_COLUMN, NO_COLUMN), (self.across, "", first), (self.up, COUNT, COUNT)):
            chosen = box.currentText()
            texts = [*([more] if more else []), *names]
            if texts == [box.itemText(at) for at in range(box.count())]:
                continue
            box.blockSignals(True)
            box.clear()
            box.addItems(texts)
            box.setCurrentText(chosen if chosen in texts and chosen else default)
            box.blockSignals(False)

    def limits(self) -> tuple[float, float] | None:
        """The range of values that is written, None where that is no range."""
        try:
            low, high = float(self.low.text().replace(",", ".")), float(self.high.text().replace(",", "."))
        except ValueError:
            return None
        return (low, high) if low < high else None

    def show_limits(self, limits: tuple[float, float]) -> None:
        """Write a range of values."""
        for line, value in zip((self.low, self.high), limits, strict=True):
            if not line.hasFocus():
                line.setText(f"{value:.6g}")

    def show_running(self, running: bool, *, indefinite: bool = True) -> None:
        """Whether something is computed."""
        self.progress.setVisible(running)
        self.cancel.setEnabled(running)
        if running and indefinite:
            self.progress.setRange(0, 0)

    # -- build --------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self._rows = _rows()
        self._rows.addRow("Labels", self.layers.native)
        self._rows.addRow("Intensities", self.images)
        self._rows.addRow("", self.planes)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(self._rows)
        column.addLayout(_side(self.table, self.save))
        column.addWidget(self.about)
        self.foot = QWidget()
        below = QVBoxLayout(self.foot)
        below.addLayout(_side(self.measure, self.cancel))
        below.addWidget(self.progress)
        below.addWidget(StatusLine(self.status))
        self.groups = [self._colour_group(), self._plot_group(), self._selection_group()]
        for group in self.groups:
            column.addWidget(group)
            group.expand()
        column.addStretch(1)

    def _colour_group(self) -> Group:
        rows = _rows()
        rows.addRow("Column", self.column)
        rows.addRow("Colours", self.colours)
        rows.addRow("Range", _side(self.low, self.high, self.whole))
        return _group("Colour by", rows, self.back)

    def _plot_group(self) -> Group:
        rows = _rows()
        rows.addRow("Across", self.across)
        rows.addRow("Up", self.up)
        rows.addRow("Draw", self.tool)
        return _group("Plot", rows, self.plot)

    def _selection_group(self) -> Group:
        rows = _rows()
        rows.addRow("Show", self.show_)
        return _group(
            "Selection", self.count, rows, _side(self.clear, self.invert), self.list, _side(self.delete, self.keep),
            _side(self.undo, self.copy, self.save_selected),
        )  # fmt: skip


def _rows() -> QFormLayout:
    rows = QFormLayout()
    rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return rows


def _side(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row


def _group(title: str, *parts: Any) -> Group:
    group, inner = Group(title), QWidget()
    column = QVBoxLayout(inner)
    column.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        if isinstance(part, QWidget):
            column.addWidget(part)
        else:
            column.addLayout(part)
    group.addWidget(inner)
    return group
