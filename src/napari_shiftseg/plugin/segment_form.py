"""How the Segment widget looks: its inputs in rows and groups; what they do is in `segment_widget`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from magicgui.widgets import ComboBox, FileEdit
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QWidget,
)
from superqt import QCollapsible

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.plugin.inputs import AxesEdit, ChannelRow, ModelBox, Note, TileBox, narrow, offer
from napari_shiftseg.plugin.likeness_line import LikenessLine
from napari_shiftseg.plugin.rules_panel import RulesPanel
from napari_shiftseg.plugin.size_row import SizeRow

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
        self.group = QCollapsible("Intensities")
        self._build_rows()
        for name, tip in _INTENSITY_TIPS.items():
            getattr(self, name).setToolTip(tip)
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


_LARGE_TIPS = {
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
        self.group = QCollapsible("Large images")
        inner = QWidget()
        inside = QFormLayout(inner)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for name, shown, label in (
            ("choice", self.choice, "Out of core"),
            ("memory", self.memory, "Memory"),
            ("store", self.store.native, "Result"),
        ):
            shown.setToolTip(_LARGE_TIPS[name])
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


_TIPS = {
    "tile": "Pixels that one tile writes along each axis. Multiples of the network's period give the same result for every "
    "size; a typed size is set to the nearest one, unless non-compliant runs are allowed. One edge, or one per axis: 64 x 128.",
    "allow": "Run although a rule is broken. The layers are marked as such.",
    "verdict": "Green: the result will be that of one pass, whatever the tiles, by a network that was trained for it. Whether "
    "the objects are right is another question.",
    "dtype": "Number format of the convolutions: bfloat16 is faster where the device has units for it, float32 is exact. "
    "Automatic: bfloat16 there, float32 elsewhere; the line below says which.",
    "method": "Tiles: each is computed with its surroundings, and meets the next one at a seam that Inspect can show. Stream: "
    "strips along the first axis that compute no row twice, with seams between columns alone. Automatic: what costs less.",
    "bandwidth": "Width of the clusters, in units of the embedding (pixels for offsets to centres).",
    "threshold": "Foreground probability from which a pixel can belong to an instance.",
    "min_size": "Smaller instances go to one that they touch, or away, pixels.",
    "deterministic": "Computes in blocks that the network alone decides; the tile size has no effect then.",
    "augment": "Runs the network on the image flipped and turned in all ways, and averages what it says: 8 times the time in "
    "2D. For models whose embedding is offsets to object centres.",
    "keep_embedding": "Off: only instances are made, which saves memory with large images. A run out of core makes no other "
    "layer in any case; the embedding of what is in view can be shown afterwards.",
}


_FACTOR = (
    "The network says the bandwidth of each object. A factor on these: below 1 more objects are told apart, above 1 fewer."
)


class SegmentForm(QWidget):
    """The inputs of the Segment widget, and the lines that explain them.

    `layers`: of image layers.
    """

    def __init__(self, layers: ComboBox, parent: QWidget | None = None):
        super().__init__(parent)
        self.layers = layers
        self.axes, self.channels, self.model, self.tile = AxesEdit(), ChannelRow(), ModelBox(), TileBox()
        self.device, self.dtype, self.size_row = QComboBox(), QComboBox(), SizeRow()
        narrow(layers.native)
        offer(self.device, ("auto", "cpu"))
        offer(self.dtype, ("automatic", "float32", "bfloat16"))
        self.about_image = Note()
        self.about_model, self.about_device, self.plan, self.verdict, self.writing = Note(), Note(), Note(), Note(), Note()
        self.about_size = Note()
        self.likeness = LikenessLine()
        self.allow = QCheckBox("Allow non-compliant")
        self.advanced = self._build_advanced()
        self.intensity = IntensityForm(lambda: self.layers.value)
        self.large = LargeForm()
        self.rules = RulesPanel()
        self._build_rows()
        for name, tip in _TIPS.items():
            getattr(self, name).setToolTip(tip)

    def choice(self, name: str) -> str:
        """What is chosen for "method" or "dtype", as `SegmentSettings` names it."""
        return getattr(self, name).currentText().replace("automatic", "auto")

    def offer_channels(self, there: int, wanted: int, names: tuple[str, ...] = ()) -> None:
        """Show the choice of channels where there is one."""
        several = self.channels.offer(there, wanted, names)
        self.channels.setVisible(several)
        self._rows.labelForField(self.channels).setVisible(several)

    def offer_bandwidth(self, factor: float | None) -> None:
        """Let the bandwidth be what the model needs: a factor on those that the network says itself, or else (None) a width."""
        self._bandwidth_label.setText("Bandwidth" if factor is None else "Bandwidth x")
        self.bandwidth.setToolTip(_TIPS["bandwidth"] if factor is None else _FACTOR)
        self.bandwidth.setSpecialValueText("from the model" if factor is None else f"{factor:g}")

    def _build_advanced(self) -> QCollapsible:
        self.bandwidth, self.threshold, self.min_size = QDoubleSpinBox(), QDoubleSpinBox(), QSpinBox()
        self.bandwidth.setRange(0.0, 1000.0)
        self.threshold.setRange(0.0, 1.0)
        self.threshold.setSingleStep(0.05)
        self.min_size.setRange(-1, 10_000_000)
        self.min_size.setValue(-1)
        for box in (self.bandwidth, self.threshold, self.min_size):
            box.setSpecialValueText("from the model")
        self.method = QComboBox()
        offer(self.method, ("automatic", "tiles", "stream"))
        self.deterministic = QCheckBox("Same bits for every tile size")
        self.augment = QCheckBox("Mean of all flips and turns")
        self.keep_embedding = QCheckBox("Embedding layers")
        self.keep_embedding.setChecked(True)
        inner = QWidget()
        rows = QFormLayout(inner)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.addRow("Method", self.method)
        rows.addRow("Bandwidth", self.bandwidth)
        self._bandwidth_label = rows.labelForField(self.bandwidth)
        rows.addRow("Threshold", self.threshold)
        rows.addRow("Smallest", self.min_size)
        rows.addRow(self.deterministic)
        rows.addRow(self.augment)
        rows.addRow(self.keep_embedding)
        advanced = QCollapsible("Advanced")
        advanced.addWidget(inner)
        return advanced

    def _build_rows(self) -> None:
        rows = self._rows = QFormLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        rows.addRow("Image", self.layers.native)
        rows.addRow("Axes", self.axes)
        rows.addRow(self.axes.label, self.axes.readings)
        rows.addRow(self.axes.about)
        rows.addRow(self.about_image)
        rows.addRow("Channel", self.channels)
        rows.addRow("Model", self.model)
        rows.addRow(self.about_model)
        rows.addRow("Object diameter", self.size_row)
        rows.addRow(self.about_size)
        rows.addRow("Device", self.device)
        rows.addRow("Precision", self.dtype)
        rows.addRow(self.about_device)
        rows.addRow("Tile size", self.tile)
        rows.addRow(self.plan)
        rows.addRow(self.verdict)
        rows.addRow(self.likeness)
        rows.addRow(self.likeness.use)
        rows.addRow(self.writing)
        rows.addRow(self.allow)
        rows.addRow(self.intensity)
        rows.addRow(self.advanced)
        rows.addRow(self.large)
        rows.addRow(self.rules)
        self.offer_channels(1, 1)
