"""`ObjectPlot`: a histogram of one column of objects, or a scatter of two, with a rectangle and a lasso."""

from itertools import pairwise
from typing import Any

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPalette, QPen, QPixmap, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_shiftseg.plugin.constants import (
    CLICK,
    GRIP,
    MOST_ROUND,
    OBJECT_BINS,
    OBJECT_BOTTOM,
    OBJECT_LEFT,
    OBJECT_PLOT,
    OBJECT_TOP,
    PLOT_SIDE,
)
from napari_shiftseg.plugin.jump_plot import ticks

_MARK = "#e6a117"  # readable on napari's dark and light themes
RECTANGLE, LASSO = "Rectangle", "Lasso"


class ObjectPlot(QWidget):
    """Objects by one column or two; `chosen` gives those inside what was drawn, `pointed` the one that was clicked.

    Attributes
    ----------
    tool : {"Rectangle", "Lasso"}
        What a drag draws. In a histogram it is the range of values between its ends.
    """

    chosen = Signal(object, bool)  # rows, and whether they come to what is chosen
    pointed = Signal(int, bool)
    cleared = Signal()

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self.tool = RECTANGLE
        self.names: tuple[str, ...] = ()
        self.titles: tuple[str, ...] = ()
        self.values = np.zeros((2, 0))
        self.selected = np.zeros(0, bool)
        self.marked = -1  # the row that was clicked last
        self._edges, self._bars = np.zeros(1), np.zeros(0)
        self._line: list[QPointF] = []
        self._drawn: QPixmap | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Plot of the objects")
        self.setToolTip(
            "Draw around objects to select them; with Shift they come to the others. Click a point to go to its object. Escape "
            "selects none, Ctrl+A all."
        )
        self._describe()

    def sizeHint(self) -> QSize:
        """As Qt asks."""
        return QSize(260, OBJECT_PLOT)

    def minimumSizeHint(self) -> QSize:
        """As Qt asks."""
        return QSize(200, OBJECT_PLOT)

    def tell(self, names: tuple[str, ...], columns: list[np.ndarray], titles: tuple[str, ...] = ()) -> None:
        """Show a column, or two, of all objects; a row without a value is not shown. `titles` stand at the axes."""
        self.names, self.titles = names, titles or names
        first = np.asarray(columns[0], float) if columns else np.zeros(0)
        self.values = np.stack([first, np.asarray(columns[1], float) if len(columns) > 1 else np.zeros(len(first))])
        self.selected, self.marked = np.zeros(len(first), bool), -1
        self._edges, self._bars = np.zeros(1), np.zeros(0)
        known = first[np.isfinite(first)]
        if len(columns) == 1 and len(known):
            self._bars, self._edges = np.histogram(known, min(OBJECT_BINS, max(1, len(np.unique(known)))))
        self._redraw()

    def select(self, rows: np.ndarray, marked: int = -1) -> None:
        """Show which rows are selected; no signal is sent."""
        self.selected = np.zeros(self.values.shape[1], bool)
        self.selected[rows] = True
        self.marked = marked
        self._redraw()

    @property
    def is_histogram(self) -> bool:
        """Whether one column is shown."""
        return len(self.names) == 1

    @property
    def known(self) -> np.ndarray:
        """Rows that have a place in the plot."""
        return np.isfinite(self.values).all(axis=0)

    # -- where things are ---------------------------------------------------------------------------------------------

    def _ends(self, axis: int) -> tuple[float, float]:
        if axis == 1 and self.is_histogram:
            return 0.0, float(self._bars.max(initial=1)) * 1.05
        values = self.values[axis][self.known]
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        margin = (high - low) * 0.03 or abs(high) * 0.1 or 1.0
        return low - margin, high + margin

    def _box(self) -> QRectF:
        """Where values lie in the widget."""
        width, height = self.width() - OBJECT_LEFT - PLOT_SIDE, self.height() - OBJECT_TOP - OBJECT_BOTTOM
        return QRectF(OBJECT_LEFT, OBJECT_TOP, max(1, width), max(1, height))

    def places(self) -> np.ndarray:
        """Where each row lies in the widget, (n, 2) pixels; NaN where it has no place."""
        return np.column_stack([self._along(0, self.values[0]), self._along(1, self.values[1])])

    def _along(self, axis: int, values: Any) -> Any:
        low, high = self._ends(axis)
        share, box = (np.asarray(values, float) - low) / (high - low), self._box()
        return box.left() + share * box.width() if axis == 0 else box.bottom() - share * box.height()

    def inside(self, line: list[tuple[float, float]]) -> np.ndarray:
        """Rows within a line drawn in the widget, by the tool."""
        places, known = self.places(), np.flatnonzero(self.known)
        xs, ys = zip(*line, strict=True)
        within = places[known]
        if self.is_histogram:
            taken = (within[:, 0] >= min(xs)) & (within[:, 0] <= max(xs))
        elif self.tool == LASSO:
            taken = _enclosed(within, line)
        else:
            low, high = (min(xs), min(ys)), (max(xs), max(ys))
            taken = ((within >= low) & (within <= high)).all(axis=1)
        return known[np.asarray(taken, bool)]

    def row_at(self, x: float, y: float) -> int:
        """The row whose point is nearest, -1 if none is near."""
        known = np.flatnonzero(self.known)
        if self.is_histogram or not len(known):
            return -1
        away = np.hypot(*(self.places()[known] - (x, y)).T)
        return int(known[away.argmin()]) if away.min() <= GRIP else -1

    def _bar_at(self, x: float) -> np.ndarray:
        """Rows of the bar of a histogram there."""
        low, high = self._ends(0)
        value = low + (x - self._box().left()) / self._box().width() * (high - low)
        bar = int(np.searchsorted(self._edges, value, side="right")) - 1
        if not 0 <= bar < len(self._bars):
            return np.zeros(0, np.intp)
        last = bar == len(self._bars) - 1
        values, start, stop = self.values[0], self._edges[bar], self._edges[bar + 1]
        return np.flatnonzero((values >= start) & ((values <= stop) if last else (values < stop)))

    # -- hands --------------------------------------------------------------------------------------------------------

    def mousePressEvent(self, event: Any) -> None:
        """As Qt asks."""
        if event.button() == Qt.MouseButton.LeftButton and self.names:
            self._line = [event.position()]

    def mouseMoveEvent(self, event: Any) -> None:
        """As Qt asks."""
        if self._line:
            self._line.append(event.position())
            self.update()

    def mouseReleaseEvent(self, event: Any) -> None:
        """As Qt asks."""
        if not self._line or event.button() != Qt.MouseButton.LeftButton:
            return
        line = [(at.x(), at.y()) for at in (*self._line, event.position())]
        self._line, more = [], bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        if np.ptp(np.asarray(line), axis=0).max() >= CLICK:
            self.chosen.emit(self.inside(line), more)
        elif self.is_histogram:
            self.chosen.emit(self._bar_at(line[0][0]), more)
        else:
            row = self.row_at(*line[0])
            if row >= 0:
                self.pointed.emit(row, more)
            elif not more:
                self.cleared.emit()
        self.update()

    def keyPressEvent(self, event: Any) -> None:
        """As Qt asks."""
        if event.key() == Qt.Key.Key_Escape:
            self._line = []
            self.cleared.emit()
        elif event.key() == Qt.Key.Key_A and event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.chosen.emit(np.flatnonzero(self.known), False)
        else:
            super().keyPressEvent(event)

    # -- paint --------------------------------------------------------------------------------------------------------

    def _describe(self) -> None:
        count, chosen = int(self.known.sum()), int(self.selected.sum())
        kind = "Histogram of " if self.is_histogram else "Scatter of "
        what = kind + " and ".join(self.names) if self.names else "Nothing to plot"
        self.setAccessibleDescription(f"{what}; {count} objects, {chosen} selected.")

    def _redraw(self) -> None:
        self._drawn = None
        self._describe()
        self.update()

    def resizeEvent(self, event: Any) -> None:
        """As Qt asks."""
        super().resizeEvent(event)
        self._drawn = None

    def changeEvent(self, event: Any) -> None:
        """As Qt asks; another theme has other colours."""
        super().changeEvent(event)
        self._redraw()

    def focusInEvent(self, event: Any) -> None:
        """As Qt asks; the frame says where keys go."""
        super().focusInEvent(event)
        self.update()

    focusOutEvent = focusInEvent

    def paintEvent(self, _: Any) -> None:
        """As Qt asks; points are drawn once, and not for each step of a lasso."""
        if self._drawn is None:
            ratio = self.devicePixelRatioF()
            self._drawn = QPixmap(self.size() * ratio)
            self._drawn.setDevicePixelRatio(ratio)
            self._drawn.fill(Qt.GlobalColor.transparent)
            inner = QPainter(self._drawn)
            self._paint(inner, self.palette().color(QPalette.ColorRole.WindowText))
            inner.end()
        painter = QPainter(self)
        painter.drawPixmap(0, 0, self._drawn)
        painter.setPen(QPen(QColor(_MARK), 1, Qt.PenStyle.DashLine))
        if len(self._line) > 1:
            box = QRectF(self._line[0], self._line[-1]).normalized()
            if self.is_histogram:
                box.setTop(self._box().top())
                box.setBottom(self._box().bottom())
            if self.tool == LASSO and not self.is_histogram:
                painter.drawPolygon(QPolygonF(self._line))
            else:
                painter.drawRect(box)
        if self.hasFocus():
            painter.setPen(QPen(QColor(_MARK), 1, Qt.PenStyle.DotLine))
            painter.drawRect(QRectF(0.5, 0.5, self.width() - 1, self.height() - 1))
        painter.end()

    def _paint(self, painter: QPainter, ink: QColor) -> None:
        font = painter.font()
        font.setPointSize(8)
        painter.setFont(font)
        painter.setPen(ink)
        if not self.known.any():
            text = "Measure the objects, or choose a column." if not self.names else "No object has a value."
            painter.drawText(QRectF(self.rect()), Qt.AlignmentFlag.AlignCenter, text)
            return
        if self.is_histogram:
            self._paint_bars(painter, ink)
        else:
            self._paint_points(painter, ink)
        self._paint_axes(painter, ink)

    def _paint_bars(self, painter: QPainter, ink: QColor) -> None:
        values, base = self.values[0], self._box().bottom()
        mine = np.histogram(values[self.selected & self.known], self._edges)[0]
        faint = QColor(ink)
        faint.setAlphaF(0.45)
        for start, stop, count, part in zip(self._edges, self._edges[1:], self._bars, mine, strict=False):
            left, right = float(self._along(0, start)), float(self._along(0, stop))
            for number, colour in ((count, faint), (part, QColor(_MARK))):
                top = float(self._along(1, number))
                if number:
                    painter.fillRect(QRectF(left, top, max(1.0, right - left - 1), base - top), colour)

    def _paint_points(self, painter: QPainter, ink: QColor) -> None:
        places = self.places()
        count = int(self.known.sum())
        if count > MOST_ROUND:
            painter.drawImage(0, 0, self._dense(places, ink))
            return self._paint_mark(painter, places)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        faint = QColor(ink)
        faint.setAlphaF(float(np.clip(400 / count, 0.15, 0.7)))
        for rows, colour, width in (
            (self.known & ~self.selected, faint, 4.0),
            (self.known & self.selected, QColor(_MARK), 5.0),
        ):
            painter.setPen(QPen(colour, width, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
            painter.drawPoints(QPolygonF([QPointF(x, y) for x, y in places[rows].tolist()]))
        self._paint_mark(painter, places)

    def _paint_mark(self, painter: QPainter, places: np.ndarray) -> None:
        if 0 <= self.marked < len(places) and self.known[self.marked]:
            painter.setPen(QPen(QColor(_MARK), 2))
            painter.drawEllipse(QPointF(*places[self.marked].tolist()), 7.0, 7.0)

    def _dense(self, places: np.ndarray, ink: QColor) -> QImage:
        """Very many points as a picture: denser places are brighter, and selected ones lie on top."""
        height, width = self.height(), self.width()
        made = np.zeros((height, width, 4), np.uint8)
        for rows, colour in ((self.known & ~self.selected, ink), (self.known & self.selected, QColor(_MARK))):
            x, y = np.rint(places[rows]).astype(int).T
            spots = [(y + down) * width + x + right for down in (0, 1) for right in (0, 1)]
            counts = np.bincount(np.clip(np.concatenate(spots), 0, height * width - 1), minlength=height * width)
            seen = counts.reshape(height, width) > 0
            share = np.log1p(counts.reshape(height, width)[seen]) / np.log1p(counts.max(initial=1))
            made[seen] = (colour.red(), colour.green(), colour.blue(), 0)
            made[seen, 3] = (90 + 165 * share).astype(np.uint8)
        return QImage(made.data, width, height, 4 * width, QImage.Format.Format_RGBA8888).copy()

    def _paint_axes(self, painter: QPainter, ink: QColor) -> None:
        box = self._box()
        painter.setPen(QPen(ink, 1))
        painter.drawLine(box.bottomLeft(), box.bottomRight())
        painter.drawLine(box.bottomLeft(), box.topLeft())
        for value in ticks(*self._ends(0)):
            x = float(self._along(0, value))
            painter.drawLine(QPointF(x, box.bottom()), QPointF(x, box.bottom() + 3))
            painter.drawText(QRectF(x - 40, box.bottom() + 4, 80, 12), Qt.AlignmentFlag.AlignHCenter, f"{value:.5g}")
        for value in ticks(*self._ends(1)):
            y = float(self._along(1, value))
            painter.drawLine(QPointF(box.left() - 3, y), QPointF(box.left(), y))
            side = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            painter.drawText(QRectF(12, y - 7, OBJECT_LEFT - 17, 14), side, f"{value:.5g}")
        painter.drawText(QRectF(0, self.height() - 14, self.width(), 14), Qt.AlignmentFlag.AlignHCenter, self.titles[0])
        painter.save()
        painter.translate(0, self.height())
        painter.rotate(-90)
        above = "objects" if self.is_histogram else self.titles[1]
        painter.drawText(QRectF(OBJECT_BOTTOM, 0, box.height(), 13), Qt.AlignmentFlag.AlignHCenter, above)
        painter.restore()


def _enclosed(places: np.ndarray, line: list[tuple[float, float]]) -> np.ndarray:
    """Which places a closed line goes around, once or more often, as a hand may draw it."""
    turns = np.zeros(len(places), int)
    x, y = places.T
    for (x0, y0), (x1, y1) in pairwise([*line, line[0]]):
        side = (x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)
        turns += (y0 <= y) & (y < y1) & (side > 0)
        turns -= (y1 <= y) & (y < y0) & (side < 0)
    return turns != 0
