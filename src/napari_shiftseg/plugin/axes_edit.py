"""`AxesEdit`: what the axes of the image are, who says so, and a question where nobody does."""

from napari.layers import Image as ImageLayer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QLabel, QLineEdit, QWidget

from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.plugin.inputs import Note, narrow
from napari_shiftseg.plugin.jobs import sentence

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
        self._tell("", "", {}, "")

    def look_at(self, layer: ImageLayer | None, channels: int) -> None:
        """Show the axes of a layer.

        Parameters
        ----------
        layer : Image layer or None
        channels : int
            That the model wants.
        """
        self._layer, self._channels = layer, channels
        if layer is None:
            self._tell("", "", {}, "")
        else:
            self._show(fill=True)

    def _show(self, *, fill: bool) -> None:
        """Say who names the axes; `fill` the letters in as well."""
        from napari_shiftseg.plugin.layer_axes import axes_of_layer, readings

        try:
            found = axes_of_layer(self._layer, self._channels)
            offered = readings(self._layer) if found.by in ("user", "assumed") else {}
        except ShiftsegError as exc:
            self._tell("fail", sentence(exc), {}, "")
            if fill:
                self.setText("")
            return
        if fill:
            self.setText(found.axes)
        self.assumed = found.note if found.by == "assumed" else ""
        question = f" {_ASK} under Read as, or write the letters." if offered else ""
        self._tell("warn" if self.assumed else "", found.note + question * bool(self.assumed), offered, found.axes)

    def _tell(self, level: str, text: str, offered: dict[str, str], axes: str) -> None:
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
