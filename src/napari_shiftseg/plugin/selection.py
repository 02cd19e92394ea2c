"""`Selection`: objects that are selected, by frame and number, so that they stay so while rows come and go."""

from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QListWidget, QListWidgetItem

from napari_shiftseg.plugin.constants import MOST_LISTED
from napari_shiftseg.plugin.measured import Measured
from napari_shiftseg.plugin.object_colours import ObjectColours

Key = tuple[tuple[int, ...], int]


class Selection:
    """Which objects are selected.

    Attributes
    ----------
    marked : int
        The row that was clicked last, -1 for none.
    """

    def __init__(self, measured: Measured, colours: ObjectColours):
        self._measured, self._colours = measured, colours
        self.marked = -1
        self._rows: np.ndarray | None = None

    @property
    def rows(self) -> np.ndarray:
        """Rows of the selected objects, ascending."""
        if self._rows is None:
            numbers: dict[tuple[int, ...], list[int]] = {}
            for frame, number in self._colours.selected:
                numbers.setdefault(frame, []).append(number)
            known = self._measured.rows
            found = [np.zeros(0, np.intp)]
            for frame, wanted in numbers.items():
                if known.frames.shape[1] == len(frame):
                    at = known.in_frame(frame)
                    found.append(at[np.isin(known.labels[at], wanted)])
            self._rows = np.sort(np.concatenate(found))
        return self._rows

    def choose(self, rows: Any, *, more: bool) -> None:
        """Select rows, or add them."""
        keys = self._keys(np.asarray(rows, np.intp))
        self._colours.selected = self._colours.selected | keys if more else keys
        self.marked, self._rows = -1, None

    def mark(self, row: int, *, more: bool) -> None:
        """Select a row that was clicked; with `more` it comes to the others, or goes."""
        keys = self._keys(np.array([row]))
        there = more and keys <= self._colours.selected
        self._colours.selected = self._colours.selected - keys if there else self._colours.selected | keys if more else keys
        self.marked, self._rows = -1 if there else row, None

    def clear(self) -> None:
        """Select nothing."""
        self.choose([], more=False)

    def refresh(self) -> None:
        """Rows are other ones: objects that are gone are not selected any more."""
        self._rows, marked = None, self.marked
        self.choose(self.rows, more=False)
        self.marked = marked if 0 <= marked < len(self._measured.rows) and marked in self.rows else -1

    def by_frame(self, rows: np.ndarray) -> dict[tuple[int, ...], list[int]]:
        """Numbers of the objects of rows in each frame."""
        made: dict[tuple[int, ...], list[int]] = {}
        for frame, number in sorted(self._keys(rows)):
            made.setdefault(frame, []).append(number)
        return made

    def words(self) -> str:
        """How many are selected."""
        count = len(self.rows)
        return f"{count:,} of {len(self._measured.rows):,} objects selected."

    def fill(self, box: QListWidget, names: tuple[str, ...]) -> None:
        """List the selected objects with some of their columns."""
        known = self._measured.rows
        letters = self._measured.sheet.axes[: known.frames.shape[1]]
        box.clear()
        for row in self.rows[:MOST_LISTED].tolist():
            where = [f"{letter} = {at}" for letter, at in zip(letters, known.frames[row].tolist(), strict=False)]
            values = [f"{name} {float(known.columns[name][row]):.5g}" for name in names]
            item = QListWidgetItem(", ".join([f"Object {known.labels[row]}", *where, *values]))
            item.setData(Qt.ItemDataRole.UserRole, row)
            box.addItem(item)
        if len(self.rows) > MOST_LISTED:
            item = QListWidgetItem(f"and {len(self.rows) - MOST_LISTED:,} more")
            item.setFlags(Qt.ItemFlag.NoItemFlags)
            box.addItem(item)

    def _keys(self, rows: np.ndarray) -> set[Key]:
        known = self._measured.rows
        frames, labels = known.frames[rows].tolist(), known.labels[rows].tolist()
        return {(tuple(frame), number) for frame, number in zip(frames, labels, strict=True)}
