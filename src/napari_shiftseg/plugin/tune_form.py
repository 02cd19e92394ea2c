"""How the Tune group looks: a row per setting of the clustering, the sizes of the objects, buttons, and lines."""

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QProgressBar, QPushButton, QSpinBox, QVBoxLayout, QWidget
from superqt import QLabeledDoubleSlider

from napari_shiftseg.plugin.group import Group
from napari_shiftseg.plugin.inputs import Note
from napari_shiftseg.plugin.size_plot import SizePlot

if TYPE_CHECKING:
    from napari_shiftseg.instances import LabelSettings
    from napari_shiftseg.segmentation import RelabelSettings

_TIPS = {
    "threshold": "Foreground probability from which a pixel can belong to an object.",
    "bandwidth": "Width of the clusters, in units of the embedding (pixels for offsets to centres); of a network that says "
    "bandwidths itself a factor on these. Below, more objects are told apart.",
    "dip": "How deep the density between two clusters has to be for two objects: nearer to 1, more objects are told apart.",
    "valley": "How deep the density between two centres has to be for two objects: nearer to 1, more objects are told apart.",
    "min_size": "Smaller objects go to one that they touch, or away, pixels.",
    "reset": "The settings of the run.",
    "apply": "Write the whole result with these settings beside the one that is there, which stays as it is.",
    "cancel": "Stop; the labels stay as they were.",
}
_NAMES = {
    "threshold": "Tune: threshold",
    "bandwidth": "Tune: bandwidth",
    "dip": "Tune: dip",
    "valley": "Tune: valley",
    "min_size": "Tune: smallest size, pixels",
    "reset": "Tune: reset",
    "apply": "Tune: apply",
    "cancel": "Tune: cancel",
}

# Settings that are numbers, in the order of their rows.
_SLIDERS = ("threshold", "bandwidth", "dip", "valley")


class TuneForm(Group):
    """Inputs; `changed` says that one of them was changed by the user."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None):
        super().__init__("Tune", parent)
        self.threshold, self.bandwidth, self.dip, self.valley = (_slider() for _ in _SLIDERS)
        self.min_size, self.plot = QSpinBox(), SizePlot()
        self.min_size.setRange(0, 10_000_000)
        self.min_size.setSuffix(" px")
        self.reset, self.apply, self.cancel = QPushButton("Reset"), QPushButton("Apply"), QPushButton("Cancel")
        self.progress, self.about, self.status = QProgressBar(), Note(), Note()
        self.progress.setTextVisible(False)
        for name, tip in _TIPS.items():
            getattr(self, name).setToolTip(tip)
        for name, text in _NAMES.items():
            for widget in (getattr(self, name), *getattr(self, name).findChildren(QWidget)):
                widget.setAccessibleName(text)
        self._build()
        for slider in (getattr(self, name) for name in _SLIDERS):
            slider.valueChanged.connect(lambda _: self.changed.emit())
        self.min_size.valueChanged.connect(self._on_size)
        self.plot.moved.connect(self.min_size.setValue)

    # -- values -------------------------------------------------------------------------------------------------------

    def wish(self) -> "RelabelSettings":
        """What is set, all of it."""
        from napari_shiftseg.segmentation import RelabelSettings

        values = {name: self.value(name) for name in _SLIDERS if getattr(self, name).isEnabled()}
        return RelabelSettings(min_size=self.min_size.value(), **values)

    def value(self, name: str) -> float:
        """Of a slider, without the digits that it does not show; that of the run where it was not moved."""
        slider, exact = getattr(self, name), self._exact.get(name)
        shown = round(float(slider.value()), slider.decimals())
        return exact if exact is not None and round(exact, slider.decimals()) == shown else shown

    def show_settings(self, clustering: "LabelSettings", run: "LabelSettings") -> None:
        """Show a clustering, without a signal; sliders range around that of the run."""
        seeds = clustering.seeds
        width = "factor" if seeds else "bandwidth"
        shown = {name: getattr(clustering, width if name == "bandwidth" else name) for name in _SLIDERS}
        self._exact = dict(shown)
        top = max(4 * getattr(run, width), shown["bandwidth"])
        ranges = {"threshold": (0.0, 1.0), "bandwidth": (top / 400, top), "dip": (0.3, 1.0), "valley": (0.0, 1.0)}
        self._label("bandwidth").setText("Bandwidth x" if seeds else "Bandwidth")
        for name, needed in (("dip", not seeds), ("valley", seeds)):
            for widget in (getattr(self, name), self._label(name)):
                widget.setVisible(needed)
        for name, value in shown.items():
            slider = getattr(self, name)
            slider.blockSignals(True)
            slider.setRange(*ranges[name])
            slider.setValue(value)
            slider.blockSignals(False)
        self.show_size(clustering.min_size)

    def show_size(self, size: int) -> None:
        """Show the smallest size, without a signal."""
        self.min_size.blockSignals(True)
        self.min_size.setValue(size)
        self.min_size.blockSignals(False)
        self.plot.place(size)

    def offer(self, *, clustered: bool, sizes: bool, seeds: bool = False) -> None:
        """Which settings can be changed."""
        for name in _SLIDERS:
            getattr(self, name).setEnabled(clustered and name != ("dip" if seeds else "valley"))
        for widget in (self.min_size, self.plot, self.reset):
            widget.setEnabled(sizes)

    def show_running(self, running: bool) -> None:
        """Whether something is computed."""
        self.progress.setVisible(running)
        self.cancel.setEnabled(running)
        if running:
            self.progress.setRange(0, 0)

    def _on_size(self, size: int) -> None:
        self.plot.place(size)
        self.changed.emit()

    # -- build --------------------------------------------------------------------------------------------------------

    def _label(self, name: str) -> QWidget:
        return self._rows.labelForField(getattr(self, name))

    def _build(self) -> None:
        self._exact: dict[str, float] = {}
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(0, 0, 0, 0)
        self._rows = rows = QFormLayout()
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for name in _SLIDERS:
            rows.addRow(name.capitalize(), getattr(self, name))
        rows.addRow("Smallest", self.min_size)
        buttons = QHBoxLayout()
        for button in (self.reset, self.apply, self.cancel):
            buttons.addWidget(button)
        column.addWidget(self.about)
        column.addLayout(rows)
        column.addWidget(self.plot)
        column.addLayout(buttons)
        column.addWidget(self.progress)
        column.addWidget(self.status)
        self.addWidget(inner)
        self.show_running(False)


def _slider() -> QLabeledDoubleSlider:
    slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
    slider.setDecimals(2)
    slider.setSingleStep(0.01)
    slider.setPageStep(0.05)
    return slider
