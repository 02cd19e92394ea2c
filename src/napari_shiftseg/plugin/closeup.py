"""`close_up`: the camera moves to a seam."""

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Layer

from napari_shiftseg.plugin.line_geometry import Viewport

_CLOSE = 3.0  # screen pixels per pixel at which a seam can be judged


def close_up(viewer: Any, layer: Layer, axis: int, position: int, view: Callable[[], Viewport | None]) -> None:
    """Move the camera to a seam; the other axes stay as they are.

    Parameters
    ----------
    viewer : napari viewer
    layer : Layer
        The result.
    axis : int
        Of the layer, across which the seam lies.
    position : int
        Of the seam, pixels: between pixels `position - 1` and `position`.
    view : callable
        Gives what the window shows of the result.
    """
    dims, camera = viewer.dims, viewer.scene.camera
    first = dims.ndim - layer.ndim
    world = np.asarray(dims.point, float)
    centre = np.asarray(camera.center, float)[-len(dims.displayed) :]
    world[list(dims.displayed)] = centre
    shape = np.shape(layer.data[0] if layer.multiscale else layer.data)
    at = np.clip(layer.world_to_data(world[first:]), 0, np.asarray(shape) - 1)
    displayed = first + axis in dims.displayed
    at[axis] = position - 0.5 if displayed else position  # a slice is a pixel, never a border
    world[first:] = layer.data_to_world(at)
    if not displayed:
        dims.set_point(first + axis, world[first + axis])
    camera.center = (*np.asarray(camera.center)[: 3 - len(dims.displayed)], *world[list(dims.displayed)])
    seen = view()
    if len(dims.displayed) == 2 and seen is not None:
        camera.zoom *= max(1.0, _CLOSE / min(seen.pixel[k] for k in seen.displayed))
