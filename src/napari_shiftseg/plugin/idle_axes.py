"""`hide_idle_axes`: no slider for an axis along which nothing that is shown has more than one pixel."""

from typing import Any
from weakref import WeakSet

from napari.layers import Layer

from napari_shiftseg.plugin.signature import KEY

_WATCHED: "WeakSet[Any]" = WeakSet()
"""Layer lists that are looked after."""


def hide_idle_axes(viewer: Any) -> None:
    """Look after the sliders of a viewer from now on.

    A layer of ours that is hidden, such as an embedding with its channels, would have a slider that moves nothing. Layers of
    others have theirs, as napari does it.
    """
    if viewer.layers in _WATCHED:
        return
    _WATCHED.add(viewer.layers)
    layers, dims = viewer.layers, viewer.dims

    def on_visible(_: Any = None) -> None:
        full = _ranges(layers, dims.ndim)
        if full is not None:
            dims.range = full  # napari's own, from which `on_range` takes what is idle

    def on_range(_: Any = None) -> None:
        idle = _idle(layers, dims)
        if idle:
            dims.set_range(idle, [(dims.point[axis], dims.point[axis], dims.range[axis].step) for axis in idle])

    def watch(layer: Layer) -> None:
        if KEY in layer.metadata:
            layer.events.visible.connect(on_visible)

    for layer in layers:
        watch(layer)
    layers.events.inserted.connect(lambda event: watch(event.value))
    layers.events.inserted.connect(on_range, position="last")
    layers.events.removed.connect(on_range, position="last")
    dims.events.range.connect(on_range, position="last")
    on_range()


def _idle(layers: Any, dims: Any) -> list[int]:
    """Axes with a slider that only hidden layers of ours have."""
    found = []
    for axis in dims.not_displayed:
        having = [layer for layer in layers if _steps(layer, axis - dims.ndim) > 1]
        if dims.nsteps[axis] > 1 and having and all(KEY in layer.metadata and not layer.visible for layer in having):
            found.append(axis)
    return found


def _steps(layer: Layer, axis: int) -> int:
    """Pixels of a layer along an axis of the viewer, counted from the last."""
    if -axis > layer.ndim:
        return 1
    low, high = layer.extent.data[0][axis], layer.extent.data[1][axis]
    return round(high - low) + 1


def _ranges(layers: Any, ndim: int) -> list[tuple[float, float, float]] | None:
    """What all layers take, hidden ones as well: first, last and step per axis."""
    extent = layers.extent
    if len(extent.step) != ndim:
        return None
    return [(float(a), float(b), float(s)) for a, b, s in zip(*extent.world, extent.step, strict=True)]
