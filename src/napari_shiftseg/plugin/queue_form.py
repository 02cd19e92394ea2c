"""How the widget for many images looks; what it does is in `queue_widget`."""

from magicgui.widgets import FileEdit
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_shiftseg.plugin.constants import NAME_WIDTH
from napari_shiftseg.plugin.dock import StatusLine
from napari_shiftseg.plugin.inputs import ModelBox, Note, narrow

LAYERS, FOLDER = "Selected layers", "A folder or a plate"
BESIDE, INSIDE = "Beside each image", "In one folder"

_TIPS = {
    "what": "Image layers that are selected in the layer list, or images on a disk.",
    "pattern": "Which files of a folder, such as *.tif, or *.tif;*.png; * for all images.",
    "recursive": "Look in the folders of the folder as well.",
    "wish": "What the model suggests, what the Segment widget says now, or the settings that made a result.",
    "place": "Each result is an OME-Zarr store. One that is there is kept: if it is of the same image, model and settings, "
    "the image counts as done.",
    "embedding": "Stores hold the embedding too, for tuning and for Inspect: larger results.",
    "table": "Double click an image to open or to select its result.",
    "tables": "One table of all images and one of all objects, CSV.",
}

COLUMNS = ("Image", "State", "Objects", "Area", "Seconds", "Verdict")


class QueueForm(QWidget):
    """Images, settings, places and the list; `foot` has the buttons and how far it is."""

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self.what, self.wish, self.place = QComboBox(), QComboBox(), QComboBox()
        self.what.addItems([LAYERS, FOLDER])
        self.place.addItems([BESIDE, INSIDE])
        narrow(self.what, self.wish, self.place)
        self.folder, self.out = FileEdit(mode="d", nullable=True), FileEdit(mode="d", nullable=True)
        self.pattern, self.recursive = QLineEdit("*"), QCheckBox("And the folders in it")
        self.model, self.embedding = ModelBox(), QCheckBox("Keep the embedding")
        self.found, self.status, self.foot = Note(), Note(), QWidget()
        self.table = QTableWidget(0, len(COLUMNS))
        self.progress = QProgressBar()
        self.run, self.cancel, self.tables = QPushButton("Run"), QPushButton("Cancel"), QPushButton("Save tables\u2026")
        for name, tip in _TIPS.items():
            getattr(self, name).setToolTip(tip)
        names = {"what": "Images", "pattern": "Pattern", "wish": "Settings", "place": "Results", "table": "Images of the queue"}
        for name, text in names.items():
            getattr(self, name).setAccessibleName(text)
        self.progress.setAccessibleName("Progress of all images")
        self._build()
        self.follow_choices()

    def follow_choices(self) -> None:
        """Show what belongs to the choices."""
        on_disk, inside = self.what.currentText() == FOLDER, self.place.currentText() == INSIDE
        for row, shown in (
            (self.folder.native, on_disk),
            (self.pattern, on_disk),
            (self.recursive, on_disk),
            (self.place, on_disk),
            (self.out.native, on_disk and inside),
            (self.embedding, on_disk),
            (self.model, self.wish.currentIndex() == 0),
        ):
            self._rows.setRowVisible(row, shown)
        self.tables.setVisible(not on_disk)

    def kept(self) -> dict[str, QWidget]:
        """What is kept from one session to the next, by the names that a user knows; folders are of one experiment."""
        boxes = {
            "Images": self.what,
            "Pattern": self.pattern,
            "Settings": self.wish,
            "Model": self.model,
            "Results": self.place,
        }
        return boxes | {box.text(): box for box in (self.recursive, self.embedding)}

    def fill(self, names: list[str]) -> None:
        """List images, of which nothing is known yet."""
        self.table.setRowCount(len(names))
        for row, name in enumerate(names):
            for column in range(len(COLUMNS)):
                self.table.setItem(row, column, QTableWidgetItem(name if column == 0 else ""))
            self.table.item(row, 0).setToolTip(name)
        self.table.resizeColumnToContents(0)
        self.table.setColumnWidth(0, min(NAME_WIDTH, self.table.columnWidth(0)))

    def tell_row(self, row: int, *texts: str, tip: str = "") -> None:
        """Show what is known of an image, from its state on."""
        for column, text in enumerate(texts, 1):
            item = self.table.item(row, column)
            item.setText(text)
            if column in (2, 3, 4):
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            item.setToolTip(tip or text)

    def set_running(self, running: bool) -> None:
        """Only Cancel can be pressed while it runs."""
        for row in range(self._rows.rowCount()):
            for role in (QFormLayout.ItemRole.FieldRole, QFormLayout.ItemRole.SpanningRole):
                item = self._rows.itemAt(row, role)
                if item is not None and item.widget() is not None:
                    item.widget().setEnabled(not running)
        self.cancel.setEnabled(running)
        self.progress.setVisible(running)

    def _build(self) -> None:
        self._rows = rows = QFormLayout()
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        rows.addRow("Images", self.what)
        rows.addRow("Folder", self.folder.native)
        rows.addRow("Pattern", self.pattern)
        rows.addRow(self.recursive)
        rows.addRow("Settings", self.wish)
        rows.addRow("Model", self.model)
        rows.addRow("Results", self.place)
        rows.addRow("Into", self.out.native)
        rows.addRow(self.embedding)
        self.table.setHorizontalHeaderLabels(COLUMNS)
        self.table.verticalHeader().setVisible(False)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setTabKeyNavigation(False)  # Tab leads out of it
        self.table.setMinimumHeight(160)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Interactive)
        header.setStretchLastSection(True)
        self.table.setTextElideMode(Qt.TextElideMode.ElideMiddle)  # names of one experiment differ at their ends
        self.progress.setRange(0, 1000)
        self.progress.setTextVisible(False)
        buttons = QHBoxLayout()
        for button, share in ((self.run, 2), (self.cancel, 1), (self.tables, 1)):
            buttons.addWidget(button, share)
        column = QVBoxLayout(self)
        column.addLayout(rows)
        column.addWidget(self.found)
        column.addWidget(self.table, 1)
        below = QVBoxLayout(self.foot)
        below.addLayout(buttons)
        below.addWidget(self.progress)
        below.addWidget(StatusLine(self.status))
