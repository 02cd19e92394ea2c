"""`hide_idle_axes`: no slider for an axis along which nothing that is shown has more than one pixel."""

from typing import Any
from weakref import WeakSet, ref

from napari.layers import Layer
from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QMainWindow, QWidget

from napari_shiftseg.plugin.dock import dock_of
from napari_shiftseg.plugin.signature import KEY

_WATCHED: "WeakSet[Any]" = WeakSet()
"""Layer lists that are looked after."""


def hide_idle_axes(widget: QWidget, viewer: Any) -> None:
    """Look after the sliders of the window that a widget of ours stands in from now on, until napari closes.

    A layer of ours that is hidden, such as an embedding with its channels, would have a slider that moves nothing. Its slider
    alone is hidden, and the axis stays as it is. Layers of others have their sliders, as napari does it.
    """
    if viewer.layers in _WATCHED:
        return
    _WATCHED.add(viewer.layers)
    layers, dims, place = viewer.layers, viewer.dims, ref(widget)
    windows: WeakSet[QMainWindow] = WeakSet()  # the one, as soon as the widget is in it
    hidden: set[int] = set()
    asked: list[bool] = []

    def ask(_: Any = None) -> None:
        if not asked:  # not at once: a slider that comes or goes draws the window, which may be what is going on
            asked.append(True)
            QTimer.singleShot(0, look)

    def look() -> None:
        asked.clear()
        inside = place()
        dock = dock_of(inside) if inside is not None and isalive(inside) and not windows else None
        if dock is not None and isinstance(dock.parent(), QMainWindow):
            windows.add(dock.parent())
        window = next(iter(windows), None)
        if window is None or not isalive(window):
            return
        idle = _idle(layers, dims)
        for slider in (part for part in window.findChildren(QWidget) if type(part).__name__ == "QtDimSliderWidget"):
            axis = slider.axis
            if axis in idle:
                slider.hide()
            elif axis in hidden and axis in dims.not_displayed and dims.nsteps[axis] > 1:
                slider.show()
        hidden.clear()
        hidden.update(idle)

    def watch(layer: Layer) -> None:
        if KEY in layer.metadata:
            layer.events.visible.connect(ask)

    for layer in layers:
        watch(layer)
    layers.events.inserted.connect(lambda event: watch(event.value))
    sources = (layers.events.inserted, layers.events.removed)
    for event in (*sources, *(getattr(dims.events, name) for name in ("ndim", "range", "order", "ndisplay"))):
        event.connect(ask)
    ask()


def _idle(layers: Any, dims: Any) -> set[int]:
    """Axes with a slider that only hidden layers of ours have."""
    found = set()
    for axis in dims.not_displayed:
        having = [layer for layer in layers if _steps(layer, axis - dims.ndim) > 1]
        if dims.nsteps[axis] > 1 and having and all(KEY in layer.metadata and not layer.visible for layer in having):
            found.add(axis)
    return found


def _steps(layer: Layer, axis: int) -> int:
    """Pixels of a layer along an axis of the viewer, counted from the last."""
    if -axis > layer.ndim:
        return 1
    low, high = layer.extent.data[0][axis], layer.extent.data[1][axis]
    return round(high - low) + 1
