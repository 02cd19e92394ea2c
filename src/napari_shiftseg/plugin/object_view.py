"""Objects in the canvas: the one that was clicked, and the view moved to one."""

from collections.abc import Generator
from typing import Any

import numpy as np
from napari.layers import Labels

from napari_shiftseg.plugin.constants import CLICK
from napari_shiftseg.plugin.measured import Measured, shown_frame


def show_object(viewer: Any, measured: Measured, row: int) -> bool:
    """Move sliders and camera to an object; whether its place is known."""
    sheet, rows, layer = measured.sheet, measured.rows, measured.layer
    place = rows.place(row, sheet.axes[sheet.looped :])
    if place is None:
        return False
    at = dict(zip(sheet.axes, (*rows.frames[row].tolist(), *place), strict=True))
    world = layer.data_to_world([at.get(letter, 0.0) for letter in sheet.layout])
    dims, camera = viewer.dims, viewer.scene.camera
    first, shown = dims.ndim - layer.ndim, list(dims.displayed)
    for axis in range(layer.ndim):
        if first + axis not in shown:
            dims.set_point(first + axis, float(world[axis]))
    centre = [float(world[axis - first]) if axis >= first else 0.0 for axis in shown]
    camera.center = (*np.asarray(camera.center)[: 3 - len(shown)], *centre)
    return True


def clicked_row(layer: Labels, measured: Measured, event: Any) -> Generator[None, None, int]:
    """The row of the object that is clicked, -1 for none and for a drag; to be gone on with as napari's callbacks are."""
    start, moved = np.asarray(event.pos, float), 0.0
    where = {"view_direction": event.view_direction, "dims_displayed": list(event.dims_displayed)}
    value = layer.get_value(event.position, **where, world=True)
    yield
    while event.type == "mouse_move":
        moved = max(moved, float(np.abs(np.asarray(event.pos, float) - start).max()))
        yield
    number = value[1] if isinstance(value, tuple) else value
    frame = shown_frame(layer, measured.sheet) if measured.sheet.looped else ()
    return -1 if not number or moved >= CLICK or frame is None else measured.rows.row_of(frame, int(number))


def is_taken(layer: Labels) -> bool:
    """Whether a tool of the Correct widget has the mouse."""
    from napari_shiftseg.plugin.correct_tool import CorrectTool

    tools = (getattr(callback, "__self__", None) for callback in layer.mouse_drag_callbacks)
    return any(isinstance(tool, CorrectTool) and tool.mode for tool in tools)
