"""Small inputs of the widgets: a model, a tile size, channels, axes, a text with a coloured dot."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from magicgui.widgets import ComboBox, FileEdit
from napari.layers import Image as ImageLayer
from napari.layers import Labels
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QLineEdit, QSizePolicy, QVBoxLayout, QWidget

from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.plugin.jobs import sentence
from napari_shiftseg.plugin.replacement import LIVE
from napari_shiftseg.plugin.signature import KEY

AUTOMATIC = "Automatic"
DOTS = {"pass": "#4caf50", "warn": "#e6a117", "fail": "#e5534b"}  # readable on napari's dark and light themes


class Note(QLabel):
    """A text that wraps; `tell` gives it a coloured dot."""

    def __init__(self, text: str = "", parent: QWidget | None = None):
        super().__init__(text, parent)
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)

    def tell(self, level: str, text: str) -> None:
        """Show a text with the dot of a level: "pass", "warn", "fail" or "" for none."""
        words = text.replace("&", "&amp;").replace("<", "&lt;")
        dot = f'<span style="color: {DOTS[level]}">\u25cf</span> ' if level else ""
        self.setText(dot + words)
        self._fit()

    def resizeEvent(self, event) -> None:
        """Qt calls this when the width changes."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        """Be as high as all lines are: a form asks for that once, and cuts a text that grows later."""
        self.setMinimumHeight(max(0, self.heightForWidth(self.width())))

    def fill(self, text: str) -> None:
        """Show a text without a dot; nothing is there while it is empty."""
        self.tell("", text)
        self.setVisible(bool(text))


class ModelBox(QWidget):
    """A bundled model, or a file."""

    changed = Signal()
    FILE = "File\u2026"
    DEMONSTRATIONS = "Demonstrations, not for your images:"

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self.names = QComboBox()
        narrow(self.names)
        self.file = FileEdit(mode="r", filter="Models (*.safetensors)", nullable=True)
        self.file.native.setVisible(False)
        self.file.line_edit.native.setAccessibleName("Model file")
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.addWidget(self.names)
        box.addWidget(self.file.native)
        self.set_names(())
        self.names.currentTextChanged.connect(self._on_name)
        self.file.changed.connect(lambda _: self.changed.emit())

    def set_names(self, names: tuple[str, ...], demonstrations: tuple[str, ...] = ()) -> None:
        """Offer these bundled models and a file, and demonstrations under a heading; the choice stays, else it is the first."""
        chosen = self.names.currentText()
        self.names.blockSignals(True)
        self.names.clear()
        self.names.addItems([*([name for name in names if name not in demonstrations] or ("",)), self.FILE])
        if demonstrations:
            self.names.addItem(self.DEMONSTRATIONS)
            self.names.model().item(self.names.count() - 1).setEnabled(False)  # a heading cannot be chosen
            self.names.addItems(demonstrations)
        if self.names.findText(chosen) > 0:
            self.names.setCurrentText(chosen)
        self.names.blockSignals(False)

    def value(self) -> str | None:
        """Name or path of a model, "" for the default, None while no file is chosen."""
        if self.names.currentText() == self.FILE:
            return str(self.file.value) if self.file.value and self.file.value.name else None
        return self.names.currentText()

    def choose(self, name: str) -> None:
        """Choose a bundled model, as a user would."""
        self.names.setCurrentText(name)

    def choose_file(self, path) -> None:
        """Choose a model file, as a user would."""
        self.names.setCurrentText(self.FILE)
        self.file.value = path

    def bring_back(self, model: str) -> bool:
        """Choose what `value` once gave, before it is known what there is; False if it is not there any more."""
        file, bundled = Path(model), files("napari_shiftseg") / "weights" / f"{model}.safetensors"
        if model and file.suffix and file.is_file():
            self.choose_file(file)
        elif model and not file.suffix and bundled.is_file():
            if self.names.findText(model) < 0:
                self.names.addItem(model)
            self.names.setCurrentText(model)
        elif not model:
            self.names.setCurrentIndex(0)
        else:
            return False
        return True

    def _on_name(self, name: str) -> None:
        self.file.native.setVisible(name == self.FILE)
        self.changed.emit()


class TileBox(QComboBox):
    """A tile size: automatic, one of those on offer, or a typed one."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self.setEditable(True)
        self.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.addItem(AUTOMATIC)
        self.activated.connect(lambda _: self.changed.emit())
        self.lineEdit().editingFinished.connect(self.changed.emit)

    def offer(self, sizes: tuple[int, ...]) -> None:
        """Offer these sizes; what is typed stays."""
        texts = [AUTOMATIC, *map(str, sizes)]
        if texts == [self.itemText(index) for index in range(self.count())]:
            return
        chosen = self.currentText()
        self.blockSignals(True)
        self.clear()
        self.addItems(texts)
        self.setCurrentText(chosen)
        self.blockSignals(False)

    def show_wish(self, wish: int | tuple[int, ...] | None) -> None:
        """Show a size as it will be used."""
        edges = (wish,) if isinstance(wish, int) else wish
        text = AUTOMATIC if edges is None else " x ".join(map(str, edges))
        if text != self.currentText():
            self.blockSignals(True)
            self.setCurrentText(text)
            self.blockSignals(False)


class ChannelRow(QWidget):
    """Which channel of the image goes into which channel of the model; hidden where there is nothing to choose."""

    changed = Signal()
    made = Signal()  # there are other boxes now

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._state: tuple[int, int, tuple[str, ...]] = (0, 0, ())
        self.boxes: list[QComboBox] = []

    def offer(self, there: int, wanted: int, names: tuple[str, ...] = ()) -> bool:
        """Offer `there` channels for each of `wanted`, with their names if there are any; whether there is a choice."""
        if (there, wanted, names) != self._state:
            self._state = (there, wanted, names)
            for box in self.boxes:
                self._row.removeWidget(box)
                box.setParent(None)
                box.deleteLater()
            self.boxes = [self._box(there, index, names) for index in range(wanted if 1 < there >= wanted else 0)]
            for box in self.boxes if len(self.boxes) > 1 else ():  # side by side they share the width of one
                box.setMinimumContentsLength(1)
                box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            self.made.emit()
        return bool(self.boxes)

    def value(self) -> tuple[int, ...] | None:
        """Channels in the order of the model, None for all there are."""
        return tuple(box.currentIndex() for box in self.boxes) or None

    def _box(self, there: int, index: int, names: tuple[str, ...]) -> QComboBox:
        box = QComboBox(self)
        narrow(box)
        box.addItems([f"{number} {names[number] if names else ''}".strip() for number in range(there)])
        box.setCurrentIndex(index)
        box.setAccessibleName(f"Channel {index} of the model")
        box.currentIndexChanged.connect(lambda _: self.changed.emit())
        self._row.addWidget(box)
        return box


def keep_choice(box: ComboBox) -> None:
    """Ask a box for its choices anew, and keep what is chosen if it is there: magicgui loses it where its name has changed."""
    chosen = box.value
    with box.changed.blocked():
        box.reset_choices()
        if any(choice is chosen for choice in box.choices):
            box.value = chosen
    if box.value is not chosen:
        box.changed.emit(box.value)


def labels_of_viewer(viewer: Any) -> list[tuple[str, Labels]]:
    """Labels that nobody else is writing, with their names, as a box offers them."""
    layers = [layer for layer in viewer.layers if isinstance(layer, Labels)]
    return [(layer.name, layer) for layer in layers if (layer.metadata.get(KEY) or {}).get("role") not in LIVE]


def choose_labels(viewer: Any, box: ComboBox) -> None:
    """Choose the active layer of a viewer in a box of labels, or the last one."""
    layers, active = [layer for _, layer in labels_of_viewer(viewer)], viewer.layers.selection.active
    if layers:
        box.value = active if active in layers else layers[-1]


def narrow(*boxes: QComboBox) -> None:
    """Long names in these boxes do not widen the dock, which would cut the lines beside them."""
    for box in boxes:
        box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        box.setMinimumContentsLength(12)


def offer(box: QComboBox, texts: tuple[str, ...]) -> None:
    """Offer other texts without a signal; the choice stays if it is among them."""
    chosen = box.currentText()
    box.blockSignals(True)
    box.clear()
    box.addItems(texts)
    box.setCurrentText(chosen)
    box.blockSignals(False)


_ASK = "Choose what they are"


class AxesEdit(QLineEdit):
    """A letter per axis of a layer; what the user writes or chooses is remembered for the layer.

    Attributes
    ----------
    label, readings : QLabel, QComboBox
        All that the axes can be, in words; hidden where the layer or its file names them.
    about : Note
        Who names the axes, or what is assumed.
    chosen : Signal
        The user said what the axes are.
    """

    chosen = Signal()

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self.setToolTip("One letter per axis of the layer, of t (time), c (channel), z, y, x.")
        self.label, self.readings, self.about = QLabel("Read as"), QComboBox(), Note()
        narrow(self.readings)
        self.assumed = ""
        self._layer: ImageLayer | None = None
        self._channels = 1
        self.textEdited.connect(self._on_typed)
        self.readings.activated.connect(self._on_reading)
        self._tell("", "", {}, axes="")

    def look_at(self, layer: ImageLayer | None, channels: int) -> None:
        """Show the axes of a layer.

        `channels`: that the model wants.
        """
        self._layer, self._channels = layer, channels
        if layer is None:
            self._tell("", "", {}, axes="")
        else:
            self._show(fill=True)

    def _show(self, *, fill: bool) -> None:
        """Say who names the axes; `fill` the letters in as well."""
        from napari_shiftseg.plugin.layer_axes import axes_of_layer, readings

        try:
            found = axes_of_layer(self._layer, self._channels)
            offered = readings(self._layer) if found.by in ("user", "assumed") else {}
        except ShiftsegError as exc:
            self._tell("fail", sentence(exc), {}, axes="")
            if fill:
                self.setText("")
            return
        if fill:
            self.setText(found.axes)
        self.assumed = found.note if found.by == "assumed" else ""
        question = f" {_ASK} under Read as, or write the letters." if offered else ""
        self._tell("warn" if self.assumed else "", found.note + question * bool(self.assumed), offered, axes=found.axes)

    def _tell(self, level: str, text: str, offered: dict[str, str], *, axes: str) -> None:
        self.about.tell(level, text)
        self.about.setVisible(bool(text))
        self.readings.clear()
        for letters, words in offered.items():
            self.readings.addItem(words, letters)
        self.readings.setCurrentIndex(self.readings.findData(axes))
        for widget in (self.label, self.readings):
            widget.setVisible(bool(offered))

    def _on_typed(self, text: str) -> None:
        self._remember(text.strip())

    def _on_reading(self, index: int) -> None:
        axes = self.readings.itemData(index)
        self.setText(axes)
        self._remember(axes)

    def _remember(self, axes: str) -> None:
        from napari_shiftseg.plugin.layer_axes import choose_axes

        if self._layer is not None:
            choose_axes(self._layer, axes)
            self._show(fill=False)
        self.chosen.emit()
