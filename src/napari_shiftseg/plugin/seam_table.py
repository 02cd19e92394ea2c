"""`SeamTable`: the seams of a result, the worst first."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem, QWidget

from napari_shiftseg.files import replacing

if TYPE_CHECKING:
    from napari_shiftseg.analysis import SeamReport, SeamRow

_COLUMNS = {
    "axis": "The seam is a cut across this axis.",
    "pixel": "The seam lies between this pixel and the one before it.",
    "jump": "Mean jump of the embedding across the seam.",
    "control": "Mean jump across the lines that the seam is compared with.",
    "ratio": "Jump over control; 1 if the seam cannot be seen.",
    "on it": "Instances with a pixel beside the seam.",
    "cut": "Instances that end on the seam with a straight edge.",
    "missed": "True objects across the seam that no instance matches.",
    "split": "True objects across the seam that are split.",
}
# A narrow dock has room for seven columns; a file has them all.
_WITHOUT_TRUTH, _WITH_TRUTH = ("jump", "control"), ("missed", "split")


class SeamTable(QTableWidget):
    """Rows of a `SeamReport`; `picked` gives the row that the user clicked."""

    picked = Signal(object)

    def __init__(self, parent: QWidget | None = None):
        super().__init__(0, len(_COLUMNS), parent)
        self.setHorizontalHeaderLabels(list(_COLUMNS))
        for column, tip in enumerate(_COLUMNS.values()):
            self.horizontalHeaderItem(column).setToolTip(tip)
        self.setAccessibleName("Seams, the worst first")
        self.setToolTip("Click a seam to go there.")
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.verticalHeader().setVisible(False)
        self.verticalHeader().setDefaultSectionSize(22)
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.horizontalHeader().setMinimumSectionSize(30)
        self.setMinimumHeight(150)
        self.cellClicked.connect(lambda row, _: self.picked.emit(self._row(row)))
        self.currentCellChanged.connect(self._on_moved)

    def tell(self, rows: Sequence["SeamRow"], axes: str) -> None:
        """Show these rows in this order; a click on a column sorts by it."""
        self.setSortingEnabled(False)
        self.blockSignals(True)
        self.setRowCount(len(rows))
        for number, row in enumerate(rows):
            values = (axes[row.axis], row.position, row.jump, row.control, row.ratio, row.touching, row.straight)
            for column, value in enumerate((*values, row.missed, row.split)):
                self.setItem(number, column, _item(value, row))
        truth = any(row.missed is not None for row in rows)
        for names, shown in ((_WITHOUT_TRUTH, not truth), (_WITH_TRUTH, truth)):
            for name in names:
                self.setColumnHidden(list(_COLUMNS).index(name), not shown)
        self.blockSignals(False)
        # no column is the order yet: the rows stay as they were given
        self.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self.setSortingEnabled(True)

    def _row(self, number: int) -> "SeamRow":
        return self.item(number, 0).data(Qt.ItemDataRole.UserRole)

    def _on_moved(self, row: int, _: int, before: int, __: int) -> None:
        if row != before and row >= 0 and self.hasFocus() and self.item(row, 0) is not None:
            self.picked.emit(self._row(row))


def save_csv(path: str | Path, report: "SeamReport", axes: str) -> None:
    """Write the table of a report, all its columns, the worst seam first."""
    order = {(row.axis, row.position): number for number, row in enumerate(report.worst(len(report.table)))}
    rows = sorted(report.rows(), key=lambda row: order[row["axis"], row["position"]])
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        names = ["axis_name", *rows[0]] if rows else ["axis_name", "axis", "position"]
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for row in rows:
            writer.writerow({"axis_name": axes[int(row["axis"])], **row})


def _item(value: Any, row: "SeamRow") -> QTableWidgetItem:
    item = QTableWidgetItem()
    shown = float(f"{value:.3g}") if isinstance(value, float) else value
    item.setData(Qt.ItemDataRole.DisplayRole, "\u2013" if shown != shown else shown)  # a dash for nan
    item.setData(Qt.ItemDataRole.UserRole, row)
    return item
