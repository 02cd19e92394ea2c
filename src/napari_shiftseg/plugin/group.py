"""`Group`: inputs under a head that opens and closes; what is closed takes no room and no keys."""

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QSizePolicy, QToolButton, QVBoxLayout, QWidget


class Group(QWidget):
    """Closed at first; `toggled` says that it was opened (True) or closed.

    What is in a closed group is hidden, so that the tabulator key passes it, and an open one is as high as its texts, also
    where they get longer.
    """

    toggled = Signal(bool)

    def __init__(self, title: str, parent: QWidget | None = None):
        super().__init__(parent)
        self.head, self.inner = QToolButton(), QWidget()
        self.head.setText(title)
        self.head.setCheckable(True)
        self.head.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.head.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.head.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._column = QVBoxLayout(self.inner)
        self._column.setContentsMargins(0, 0, 0, 0)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self.head)
        outer.addWidget(self.inner)
        self.head.toggled.connect(self._on_head)
        self._on_head(False)

    @property
    def is_open(self) -> bool:
        """Whether it shows more than its head."""
        return self.head.isChecked()

    def addWidget(self, widget: QWidget) -> None:
        """Put a widget below those that are there."""
        self._column.addWidget(widget)

    def expand(self) -> None:
        """Open it."""
        self.head.setChecked(True)

    def collapse(self) -> None:
        """Close it."""
        self.head.setChecked(False)

    def _on_head(self, on: bool) -> None:
        self.head.setArrowType(Qt.ArrowType.DownArrow if on else Qt.ArrowType.RightArrow)
        self.inner.setVisible(on)
        self.toggled.emit(on)
