"""`SizePlot`: how many objects have which size, on a logarithmic axis, and the smallest size as a line that can be dragged."""

from typing import Any

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPalette, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_shiftseg.plugin.constants import GRIP, PLOT_SIDE, SIZE_BINS, SIZE_PLOT

_MARK = "#e6a117"  # readable on napari's dark and light themes
_STEPS = {
    Qt.Key.Key_Left: -1,
    Qt.Key.Key_Down: -1,
    Qt.Key.Key_Right: 1,
    Qt.Key.Key_Up: 1,
    Qt.Key.Key_PageDown: -10,
    Qt.Key.Key_PageUp: 10,
}


class SizePlot(QWidget):
    """A histogram; `moved` says the smallest size that the user wishes for, pixels.

    The line follows the mouse, and the arrow keys by 2 % or a pixel, page up and down by 20 %.
    """

    moved = Signal(int)

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self.sizes, self.least = np.zeros(0), 0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setToolTip("Objects by their size. Drag the line, or use the arrow keys: smaller ones go to one that they touch.")
        self.setAccessibleName("Tune: sizes of the objects, and the smallest size")
        self._describe()

    def sizeHint(self) -> QSize:
        """As Qt asks."""
        return QSize(260, SIZE_PLOT)

    minimumSizeHint = sizeHint

    def tell(self, sizes: Any, least: int) -> None:
        """Show the sizes of objects, pixels, and the smallest size."""
        self.sizes = np.asarray(sizes, float)
        self.place(least)

    def place(self, least: int) -> None:
        """Move the line; no signal is sent."""
        self.least = int(least)
        self._describe()
        self.update()

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Edges of the bars, pixels, and how many objects each has."""
        low, high = self._range()
        edges = np.geomspace(low, high, SIZE_BINS + 1)
        return edges, np.histogram(np.clip(self.sizes, low, high), edges)[0]

    # -- where things are ---------------------------------------------------------------------------------------------

    def _range(self) -> tuple[float, float]:
        """Sizes at the ends of the axis."""
        high = max(float(self.sizes.max(initial=1)), 2.0 * self.least, 100.0)
        return 1.0, 1.2 * high

    def at(self, size: float) -> float:
        """Where a size lies, pixels from the left."""
        low, high = np.log(self._range())
        share = (np.log(max(size, 1.0)) - low) / (high - low)
        return float(PLOT_SIDE + share * (self.width() - 2 * PLOT_SIDE))

    def size_at(self, place: float) -> int:
        """The size that lies so many pixels from the left."""
        low, high = np.log(self._range())
        share = np.clip((place - PLOT_SIDE) / max(1, self.width() - 2 * PLOT_SIDE), 0, 1)
        size = round(float(np.exp(low + share * (high - low))))
        return size if size > 1 else 0  # an object has a pixel in any case

    def _describe(self) -> None:
        below = int((self.sizes < self.least).sum())
        self.setAccessibleDescription(f"Smallest size {self.least} px; {below} of {len(self.sizes)} objects are smaller.")

    # -- hands --------------------------------------------------------------------------------------------------------

    def mousePressEvent(self, event: Any) -> None:
        """As Qt asks."""
        if event.button() == Qt.MouseButton.LeftButton:
            self._wish(self.size_at(event.position().x()))

    def mouseMoveEvent(self, event: Any) -> None:
        """As Qt asks."""
        near = abs(event.position().x() - self.at(self.least)) < GRIP
        self.setCursor(Qt.CursorShape.SizeHorCursor if near else Qt.CursorShape.ArrowCursor)
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._wish(self.size_at(event.position().x()))

    def keyPressEvent(self, event: Any) -> None:
        """As Qt asks."""
        if event.key() == Qt.Key.Key_Home:
            self._wish(0)
        elif event.key() in _STEPS:
            steps = _STEPS[event.key()]
            self._wish(max(0, self.least + steps * max(1, round(0.02 * self.least))))
        else:
            super().keyPressEvent(event)

    def _wish(self, size: int) -> None:
        if size != self.least:
            self.place(size)
            self.moved.emit(size)

    # -- paint --------------------------------------------------------------------------------------------------------

    def focusInEvent(self, event: Any) -> None:
        """As Qt asks; the frame says where keys go."""
        super().focusInEvent(event)
        self.update()

    focusOutEvent = focusInEvent

    def paintEvent(self, _: Any) -> None:
        """As Qt asks."""
        painter = QPainter(self)
        palette, group = self.palette(), QPalette.ColorGroup.Active if self.isEnabled() else QPalette.ColorGroup.Disabled
        ink = palette.color(group, QPalette.ColorRole.WindowText)
        self._paint(painter, ink=ink, mark=QColor(_MARK) if self.isEnabled() else ink)
        painter.end()

    def _paint(self, painter: QPainter, *, ink: QColor, mark: QColor) -> None:
        font = painter.font()
        font.setPointSize(8)
        painter.setFont(font)
        base, faint = self.height() - 30, QColor(ink)
        faint.setAlphaF(0.35)
        edges, counts = self.counts()
        for start, stop, count in zip(edges, edges[1:], counts, strict=False):
            if count:
                height = np.log1p(count) / np.log1p(counts.max()) * (base - 16)
                box = QRectF(self.at(start), base - height, max(1.0, self.at(stop) - self.at(start) - 1), height)
                painter.fillRect(box, faint if stop <= self.least else ink)
        painter.setPen(QPen(ink, 1))
        painter.drawLine(QPointF(PLOT_SIDE, base), QPointF(self.width() - PLOT_SIDE, base))
        for power in range(int(np.log10(edges[-1])) + 1):
            x = self.at(10.0**power)
            painter.drawLine(QPointF(x, base), QPointF(x, base + 4))
            painter.drawText(QRectF(x - 30, base + 4, 60, 12), Qt.AlignmentFlag.AlignHCenter, f"{10**power:,}")
        painter.drawText(QRectF(0, base + 16, self.width(), 13), Qt.AlignmentFlag.AlignHCenter, "size of an object, px")
        x = self.at(self.least)
        painter.setPen(QPen(mark, 2))
        painter.drawLine(QPointF(x, 12), QPointF(x, base))
        painter.setBrush(mark)
        painter.drawEllipse(QPointF(x, 12), 4, 4)
        below, right = int((self.sizes < self.least).sum()), x > self.width() / 2
        text = f"{self.least:,} px, {below:,} below"
        side = Qt.AlignmentFlag.AlignRight if right else Qt.AlignmentFlag.AlignLeft
        painter.setPen(ink)
        painter.drawText(QRectF(x - 158 if right else x + 8, 5, 150, 14), side, text)
        if self.hasFocus():
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(mark, 1, Qt.PenStyle.DotLine))
            painter.drawRect(QRectF(0.5, 0.5, self.width() - 1, self.height() - 1))
