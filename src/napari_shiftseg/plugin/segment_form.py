"""How the Segment widget looks: its inputs in rows and groups; what they do is in `segment_widget`."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from magicgui.widgets import ComboBox
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QFormLayout, QPushButton, QSpinBox, QWidget

from napari_shiftseg.plugin.group import Group
from napari_shiftseg.plugin.inputs import AxesEdit, ChannelRow, ModelBox, Note, TileBox, narrow, offer
from napari_shiftseg.plugin.intensity_form import IntensityForm
from napari_shiftseg.plugin.keys import set_tip
from napari_shiftseg.plugin.large_form import LargeForm
from napari_shiftseg.plugin.likeness_line import LikenessLine
from napari_shiftseg.plugin.rules_panel import RulesPanel
from napari_shiftseg.plugin.size_row import SizeRow

# What is in plain sight needs no words.
_SEEN = {"Model", "Device", "Precision", "Tile size", "Object diameter", "Intensities", "Advanced", "Large images", "Rules"}
_TIPS = {
    "model": "What the network knows; the line below says it. A file is one that shiftseg train wrote.",
    "device": "Where the network runs; auto takes a GPU if there is one.",
    "defaults": "Set all as in a new installation; open groups stay.",
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
        self.about_size, self.about_kept = Note(), Note()
        self.defaults = QPushButton("Defaults")
        self.tell_kept({})
        self.likeness = LikenessLine()
        self.allow = QCheckBox("Allow non-compliant")
        self.advanced = self._build_advanced()
        self.intensity = IntensityForm(lambda: self.layers.value)
        self.large = LargeForm()
        self.rules = RulesPanel()
        self._build_rows()
        self.channels.made.connect(self._on_channels)
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

    def _on_channels(self) -> None:
        """New boxes come last for the tabulator key; their place is behind the axes."""
        for before, box in pairwise((self.axes.readings, *self.channels.boxes)):
            QWidget.setTabOrder(before, box)

    def kept(self) -> dict[str, Any]:
        """What is kept from one session to the next, by the names that a user knows.

        The axes, the channels, the limits of intensities and the store are of one image, and a permission to break rules holds
        for one session.
        """
        intensity, large = self.intensity, self.large
        return {
            "Model": self.model,
            "Object diameter": self.size_row.box,
            "Device": self.device,
            "Precision": self.dtype,
            "Tile size": self.tile,
            "Limits per": intensity.per,
            "No data": intensity.no_data,
            "Dark objects on bright": intensity.invert,
            "Method": self.method,
            "Bandwidth": self.bandwidth,
            "Threshold": self.threshold,
            "Smallest": self.min_size,
            "Same bits for every tile size": self.deterministic,
            "Mean of all flips and turns": self.augment,
            "Embedding layers": self.keep_embedding,
            "Out of core": large.choice,
            "Memory": large.memory,
            "Intensities": intensity.group,
            "Advanced": self.advanced,
            "Large images": large.group,
            "Rules": self.rules,
        }

    def tell_kept(self, values: Mapping[str, Any]) -> None:
        """Say which settings are those of the last session; nothing and no button where none differs from a new widget's."""
        words = {True: "on", False: "off"}
        said = [f"{name} {words.get(v, v) if isinstance(v, bool) else v}" for name, v in values.items() if name not in _SEEN]
        self.about_kept.fill(f"As last time: {', '.join(said)}." if said else "")
        self.defaults.setVisible(bool(said))

    def offer_bandwidth(self, factor: float | None) -> None:
        """Let the bandwidth be what the model needs: a factor on those that the network says itself, or else (None) a width."""
        self._bandwidth_label.setText("Bandwidth" if factor is None else "Bandwidth x")
        set_tip(self.bandwidth, _TIPS["bandwidth"] if factor is None else _FACTOR)
        self.bandwidth.setSpecialValueText("from the model" if factor is None else f"{factor:g}")

    def _build_advanced(self) -> Group:
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
        advanced = Group("Advanced")
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
        rows.addRow(self.about_kept)
        rows.addRow(self.defaults)
        rows.addRow(self.allow)
        rows.addRow(self.intensity)
        rows.addRow(self.advanced)
        rows.addRow(self.large)
        rows.addRow(self.rules)
        self.offer_channels(1, 1)
