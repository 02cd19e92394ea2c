"""`JumpPlot`: how much an embedding jumps across seams, across period lines that are no seams, and elsewhere."""

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFont, QImage, QPainter, QPalette, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_shiftseg.errors import ResultError
from napari_shiftseg.files import replacing
from napari_shiftseg.plugin.constants import PLOT_BOTTOM, PLOT_ROW, PLOT_SIDE, PLOT_TOP
from napari_shiftseg.plugin.inspect_jobs import KINDS
from napari_shiftseg.plugin.overlays import COLOURS

_NAMES = {"seam": "seams", "period line": "period lines, no seams", "elsewhere": "elsewhere"}
_COLOURS = {"seam": COLOURS["seams"], "period line": COLOURS["grid"], "elsewhere": "#9aa0a6"}


class JumpPlot(QWidget):
    """One row per kind of line, one stroke per line at its mean jump, a triangle at the median."""

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self.groups: dict[str, np.ndarray] = {}
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip("Mean jump of the embedding across each line between two rows of pixels.")

    def sizeHint(self) -> QSize:
        """As Qt asks."""
        return QSize(300, PLOT_TOP + PLOT_ROW * len(KINDS) + PLOT_BOTTOM)

    minimumSizeHint = sizeHint

    def tell(self, groups: dict[str, np.ndarray]) -> None:
        """Show the mean jumps of the lines of each kind; an empty dict clears."""
        self.groups = {kind: np.asarray(values, float) for kind, values in groups.items()}
        self.update()

    def save(self, path: str, title: str) -> None:
        """Write the plot as a PNG on white, twice as large as on the screen, with a title that may wrap."""
        size = QSize(max(self.width(), 420), self.sizeHint().height())
        head = 12 + 15 * (len(title) // 50 + 1)
        image = QImage((size + QSize(0, head)) * 2, QImage.Format.Format_RGB32)
        image.fill(Qt.GlobalColor.white)
        painter = QPainter(image)
        painter.scale(2, 2)
        painter.setPen(Qt.GlobalColor.black)
        painter.setFont(_font(9))
        box = QRectF(PLOT_SIDE, 8, size.width() - 2 * PLOT_SIDE, head - 8)
        painter.drawText(box, Qt.TextFlag.TextWordWrap, title)
        painter.translate(0, head)
        self._paint(painter, size.width(), QColor("black"))
        painter.end()
        with replacing(path) as partial:
            if not image.save(str(partial)):
                raise ResultError(f"{path} cannot be written; choose another folder, or a name that ends in .png.")

    def paintEvent(self, _) -> None:
        """As Qt asks."""
        painter = QPainter(self)
        self._paint(painter, self.width(), self.palette().color(QPalette.ColorRole.WindowText))
        painter.end()

    def _paint(self, painter: QPainter, width: int, ink: QColor) -> None:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(_font(8))
        painter.setPen(ink)
        known = [values for values in self.groups.values() if len(values)]
        if not known:
            return
        low, high = min(v.min() for v in known), max(v.max() for v in known)
        margin = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
        low, high = max(0.0, low - margin), high + margin

        def place(value: float) -> float:
            return PLOT_SIDE + (value - low) / (high - low) * (width - 2 * PLOT_SIDE)

        for row, kind in enumerate(KINDS):
            self._paint_row(painter, kind, PLOT_TOP + row * PLOT_ROW, place=place, ink=ink)
        base = PLOT_TOP + PLOT_ROW * len(KINDS)
        painter.setPen(QPen(ink, 1))
        painter.drawLine(QPointF(PLOT_SIDE, base), QPointF(width - PLOT_SIDE, base))
        for value in ticks(low, high):
            painter.drawLine(QPointF(place(value), base), QPointF(place(value), base + 4))
            painter.drawText(QRectF(place(value) - 30, base + 5, 60, 14), Qt.AlignmentFlag.AlignHCenter, f"{value:g}")
        painter.drawText(
            QRectF(0, base + 20, width, 16), Qt.AlignmentFlag.AlignHCenter, "mean jump of the embedding across a line"
        )

    def _paint_row(self, painter: QPainter, kind: str, top: float, *, place, ink: QColor) -> None:
        values = self.groups.get(kind, np.zeros(0))
        painter.setPen(ink)
        text = f"{_NAMES[kind]}: {len(values)}" + (f", median {np.median(values):.3g}" if len(values) else "")
        painter.drawText(QPointF(PLOT_SIDE, top + 12), text)
        if not len(values):
            return
        colour = QColor(_COLOURS[kind])
        colour.setAlphaF(float(np.clip(12 / len(values), 0.15, 0.9)))
        painter.setPen(QPen(colour, 1.5))
        for value in values:
            painter.drawLine(QPointF(place(value), top + 20), QPointF(place(value), top + 36))
        middle = place(float(np.median(values)))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(ink)
        painter.drawPolygon([QPointF(middle, top + 36), QPointF(middle - 4, top + 43), QPointF(middle + 4, top + 43)])


def _font(points: int) -> QFont:
    font = QFont()
    font.setPointSize(points)
    return font


def ticks(low: float, high: float) -> list[float]:
    """Round numbers, about four."""
    step = 10.0 ** np.floor(np.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 5)
    return [float(value) + 0.0 for value in np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step]
