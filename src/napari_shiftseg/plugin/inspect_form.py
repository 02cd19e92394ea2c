"""How the Inspect widget looks; what it does is in `inspect_widget`."""

from magicgui.widgets import ComboBox, FileEdit
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_shiftseg.geometry import NAIVE
from napari_shiftseg.plugin.inputs import Note, narrow
from napari_shiftseg.plugin.jump_plot import JumpPlot
from napari_shiftseg.plugin.overlays import COLOURS
from napari_shiftseg.plugin.seam_table import SeamTable

_TIPS = {
    "seams": "Lines where two tiles meet; in a 3D view, the tiles as boxes.",
    "grid": "Lines between the cells of the network's bottleneck. They are no borders of tiles.",
    "measure": "Compare the embedding and the instances at the seams with those at other lines.",
    "highlight": "Outline the instances that have a pixel beside a seam; with a truth, true objects that are split in red, "
    "missed ones in magenta, and instances that are extra in cyan.",
    "finding": "Green without a truth: no seam shows, whatever the objects are. Green with one: no seam shows, and no object "
    "is missed, extra, split or merged.",
    "truth": "Labels of the true objects, where you have them: jumps then count inside an object only, and objects that are "
    "missed, extra, split and merged are found.",
    "how": "How the rules are broken: what tiles without a crop give, the smallest such tiles, or tiles off the lattice.",
    "table_button": "Save the table, with all its columns.",
    "plot_button": "Save the plot and the finding.",
    "verify": "Compute the image again, by tiles and in one pass, and compare the outputs.",
    "probe": "Move the input of the network and see which shifts merely shift its output.",
    "compare": "Compute the image again by tiles that break the rules, and show both results and where they differ.",
    "beside": "Show the layers of both results beside each other; off hides those of the naive tiles.",
    "model": "The model that made the result; needed if it does not come with this installation.",
}


class InspectForm(QWidget):
    """The inputs and outputs of the Inspect widget.

    `layers`, `truth`: of result layers, and of layers that may be their truth.
    """

    def __init__(self, layers: ComboBox, truth: ComboBox, parent: QWidget | None = None):
        super().__init__(parent)
        self.layers, self.truth = layers, truth
        self.open_button = QPushButton("Open\u2026")
        self.seams, self.grid, self.legend = QCheckBox("Tile seams"), QCheckBox("Period grid"), Note()
        self.measure, self.finding = QPushButton("Measure seams"), Note()
        self.plot, self.table = JumpPlot(), SeamTable()
        self.table_button, self.plot_button = QPushButton("Save CSV\u2026"), QPushButton("Save PNG\u2026")
        self.highlight = QPushButton("Highlight instances on seams")
        self.model = FileEdit(mode="r", filter="Models (*.safetensors)", nullable=True)
        self.verify, self.probe, self.answer = QPushButton("Verify tiling"), QPushButton("Probe period"), Note()
        self.compare, self.beside = QPushButton("Compare with naive tiling"), QCheckBox("Side by side")
        self.how = QComboBox()
        for how, words in NAIVE.items():
            self.how.addItem(words, how)
        for name, tip in _TIPS.items():
            widget = getattr(self, name)
            getattr(widget, "native", widget).setToolTip(tip)
        narrow(self.layers.native, self.truth.native, self.how)
        self.open_button.setToolTip("Open a result that was saved as .zarr.")
        self._build()

    def explain_lines(self, period: str, notes: list[str]) -> None:
        """Say what the lines are; `notes` are what is special at this zoom or with this result."""
        strokes = {kind: f'<span style="color: {colour}">\u2501\u2501</span>' for kind, colour in COLOURS.items()}
        text = (
            f"{strokes['seams']} seams: tiles meet here. "
            f"{strokes['grid']} period grid{period}: cells of the network, not borders of tiles."
        )
        self.legend.setText(" ".join([text, *notes]))

    def _build(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        rows = QFormLayout()
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        rows.addRow("Result", _side_by_side(self.layers.native, self.open_button))
        rows.addRow("Truth", self.truth.native)
        column.addLayout(rows)
        lines = QGroupBox("Lines")
        inner = QVBoxLayout(lines)
        inner.addWidget(_side_by_side(self.seams, self.grid))
        inner.addWidget(self.legend)
        column.addWidget(lines)
        seams = QGroupBox("Seams")
        inner = QVBoxLayout(seams)
        for widget in (self.measure, self.finding, self.plot, self.table):
            inner.addWidget(widget)
        buttons = QGridLayout()
        buttons.addWidget(self.table_button, 0, 0)
        buttons.addWidget(self.plot_button, 0, 1)
        buttons.addWidget(self.highlight, 1, 0, 1, 2)
        inner.addLayout(buttons)
        column.addWidget(seams)
        network = QGroupBox("Network")
        inner = QVBoxLayout(network)
        rows = QFormLayout()
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        rows.addRow("Model file", self.model.native)
        inner.addLayout(rows)
        inner.addWidget(_side_by_side(self.verify, self.probe))
        rows = QFormLayout()
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        rows.addRow("Naive", self.how)
        inner.addLayout(rows)
        inner.addWidget(_side_by_side(self.compare, self.beside))
        inner.addWidget(self.answer)
        column.addWidget(network)


def _side_by_side(*widgets: QWidget) -> QWidget:
    both = QWidget()
    row = QHBoxLayout(both)
    row.setContentsMargins(0, 0, 0, 0)
    for number, widget in enumerate(widgets):
        row.addWidget(widget, 1 if isinstance(widget, QPushButton | QCheckBox) or number else 3)
    return both
