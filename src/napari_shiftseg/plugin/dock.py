"""`fill_dock`: how a widget stands in the window: as a tab at full height, its content scrolling over a foot that stays."""

from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QFrame, QMainWindow, QScrollArea, QStyle, QTabBar, QVBoxLayout, QWidget

from napari_shiftseg.plugin.constants import FOOT_LINES, LEAST_WIDTH
from napari_shiftseg.plugin.inputs import Note
from napari_shiftseg.plugin.keys import give_keys

# Docks that napari itself puts into its window, by the names that it gives them.
_NAPARIS = {"layer list", "layer controls", "console"}

# What can make a content wider: a group that is opened, and napari's own style, which comes with the window.
_WIDENS = {getattr(QEvent.Type, name) for name in ("LayoutRequest", "Show", "StyleChange", "FontChange", "Resize")}


def fill_dock(widget: QWidget, content: QWidget, foot: QWidget | None = None) -> QScrollArea:
    """Fill a widget with a content that scrolls, and below it a foot that is always in view; the scroll area is returned.

    The widget opens as a tab of those that are in its place already, and its controls get names and keys. It is never narrower
    than what it holds, since nothing scrolls sideways.

    Parameters
    ----------
    widget : QWidget
        Its attribute `leader`, if it has one, is the first of the two keys of each control.
    """
    scroll = QScrollArea()
    scroll.setWidgetResizable(True)
    scroll.setFrameShape(QFrame.Shape.NoFrame)
    scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # what is in it takes the keys
    scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    scroll.setWidget(content)
    outer = QVBoxLayout(widget)
    outer.setContentsMargins(0, 0, 0, 0)
    outer.addWidget(scroll, 1)
    if foot is not None:
        outer.addWidget(foot)
        margins = content.layout().contentsMargins()
        foot.setContentsMargins(margins.left(), 0, margins.right(), margins.bottom())
    _Width(widget, scroll, foot)
    widget.installEventFilter(_Tab(widget))
    give_keys(widget, first=foot)
    return scroll


class StatusLine(QScrollArea):
    """A `Note` that takes a few lines of the window at most, and scrolls beyond them.

    Attributes
    ----------
    note : Note
    """

    def __init__(self, note: Note, parent: QWidget | None = None):
        super().__init__(parent)
        self.note = note
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(note)
        note.installEventFilter(self)
        self._fit()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """As Qt asks."""
        if watched is self.note and event.type() in (QEvent.Type.Resize, QEvent.Type.LayoutRequest, QEvent.Type.FontChange):
            self._fit()
        return super().eventFilter(watched, event)

    def _fit(self) -> None:
        most, whole = FOOT_LINES * self.fontMetrics().lineSpacing(), max(0, self.note.heightForWidth(self.note.width()))
        height, bars = min(most, whole), Qt.ScrollBarPolicy
        self.setVerticalScrollBarPolicy(bars.ScrollBarAsNeeded if whole > most else bars.ScrollBarAlwaysOff)
        if height != self.maximumHeight():
            self.setFixedHeight(height)


class _Width(QObject):
    """Keeps a widget as wide as its content has to be, also when a group is opened."""

    def __init__(self, widget: QWidget, scroll: QScrollArea, foot: QWidget | None):
        super().__init__(widget)
        self._widget, self._scroll, self._foot = widget, scroll, foot
        scroll.widget().installEventFilter(self)
        self._fit()

    def eventFilter(self, _: QObject, event: QEvent) -> bool:
        """As Qt asks."""
        if event.type() in _WIDENS:
            self._fit()
        return False

    def _fit(self) -> None:
        scroll = self._scroll.verticalScrollBar()
        space = self._scroll.style().pixelMetric(QStyle.PixelMetric.PM_ScrollView_ScrollBarSpacing, None, self._scroll)
        bar = max(scroll.sizeHint().width() + max(0, space), self._scroll.width() - self._scroll.viewport().width())
        foot = 0 if self._foot is None else self._foot.minimumSizeHint().width()
        self._widget.setMinimumWidth(max(LEAST_WIDTH, self._scroll.widget().minimumSizeHint().width() + bar, foot))


class _Tab(QObject):
    """Makes the dock of a widget a tab when it comes to a window, and brings it to the front when it is shown again."""

    def __init__(self, widget: QWidget):
        super().__init__(widget)
        self._widget, self._known = widget, None

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """As Qt asks."""
        if event.type() == QEvent.Type.Show and not event.spontaneous():
            QTimer.singleShot(0, self._settle)  # napari places the dock right after it shows it
        return False

    def _settle(self) -> None:
        if not isalive(self) or not isalive(self._widget):
            return
        dock = dock_of(self._widget)
        window = None if dock is None else dock.parent()
        if not isinstance(window, QMainWindow) or dock.isFloating() or not dock.isVisible():
            return
        if self._known is not dock:  # where the user puts it later, it stays
            self._known = dock
            # the name of the plugin behind it would cut that of the widget on a tab
            dock.setWindowTitle(dock.windowTitle().partition(" (")[0])
            others = [other for other in window.findChildren(QDockWidget) if _is_beside(window, other, dock)]
            if others and not window.tabifiedDockWidgets(dock):
                window.tabifyDockWidget(others[-1], dock)
        dock.raise_()
        for bar in window.findChildren(QTabBar, options=Qt.FindChildOption.FindDirectChildrenOnly):
            bar.setElideMode(Qt.TextElideMode.ElideNone)  # several tabs side by side would be three dots each
            bar.setUsesScrollButtons(True)


def dock_of(widget: QWidget) -> QDockWidget | None:
    """The dock that a widget stands in; None for one that stands alone."""
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parentWidget()
    return parent


def _is_beside(window: QMainWindow, other: QDockWidget, dock: QDockWidget) -> bool:
    """Whether another dock of a plugin stands in the same place."""
    same = window.dockWidgetArea(other) == window.dockWidgetArea(dock)
    return other is not dock and same and other.isVisible() and not other.isFloating() and other.objectName() not in _NAPARIS
