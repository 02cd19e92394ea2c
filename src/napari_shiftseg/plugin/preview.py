"""Segment only what is in view: which pixels that are, the job, and the layer it ends as."""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer
from napari.types import LayerDataTuple

from napari_shiftseg.events import Event
from napari_shiftseg.plugin.layers import areas, laid_out, layer_name, placed
from napari_shiftseg.plugin.replacement import PREVIEW
from napari_shiftseg.plugin.signature import KEY

if TYPE_CHECKING:
    from napari_shiftseg.plugin.source import Placement
    from napari_shiftseg.segmentation import Job, Preview


def window_in_view(viewer: Any, layer: Layer, axes: str) -> dict[str, slice]:
    """Pixels of a layer that the viewer shows, per axis of its data: the visible part, and one pixel where a slider stands.

    An axis is left out where all of it is meant: in 3D views, and as long as nothing was drawn.
    """
    first = viewer.dims.ndim - layer.ndim
    displayed = [axis - first for axis in viewer.dims.displayed if axis >= first]
    shape = np.shape(layer.data[0] if layer.multiscale else layer.data)
    at = layer.world_to_data(np.asarray(viewer.dims.point, float)[first:])
    # of a pyramid, the corner pixels are those of what was read, which can be much more than what is seen
    low, high = _on_canvas(viewer, layer, displayed) if layer.multiscale else np.asarray(layer.corner_pixels)
    window = {}
    for axis, letter in enumerate(axes[: layer.ndim]):
        if axis not in displayed:
            position = int(np.clip(np.rint(at[axis]), 0, shape[axis] - 1))
            window[letter] = slice(position, position + 1)
        elif len(displayed) == 2 and high[axis] > low[axis]:
            start, stop = np.clip((low[axis], high[axis] + 1), 0, shape[axis]).astype(int)
            window[letter] = slice(min(start, shape[axis] - 1), max(stop, min(start, shape[axis] - 1) + 1))
    return window


def _on_canvas(viewer: Any, layer: Layer, displayed: list[int]) -> np.ndarray:
    """First and last pixel of a layer that the canvas shows, per axis; beyond the layer as well."""
    first, camera = viewer.dims.ndim - layer.ndim, viewer.scene.camera
    if len(displayed) != 2:
        return np.zeros((2, layer.ndim))
    half = np.asarray(viewer.canvas.size, float) / (2 * camera.zoom)
    corners = np.repeat(np.asarray(viewer.dims.point, float)[None], 4, axis=0)
    for axis, centre, reach, sides in zip(displayed, camera.center[-2:], half, ((-1, -1, 1, 1), (-1, 1, -1, 1)), strict=True):
        corners[:, axis + first] = centre + reach * np.array(sides)
    seen = np.array([layer.world_to_data(corner[first:]) for corner in corners])
    return np.rint([seen.min(axis=0), seen.max(axis=0)])


def view_steps(job: "Job", window: dict[str, slice]) -> Generator[Event, None, "Preview"]:
    """The job: segment a window of an image."""
    from napari_shiftseg import segmentation  # torch is loaded in the thread

    return segmentation.view_steps(job, window)


def words_on_view(preview: "Preview") -> str:
    """How much of the image a preview is.

    It ends where clustering windows end, so that it can be more than what was in view, and never less.
    """
    whole, part = preview.plan.image_shape, preview.labels.shape[-len(preview.plan.image_shape) :]
    edges, of = (" x ".join(f"{n:,}" for n in shape) for shape in (part, whole))
    share = 100 * np.prod(part) / np.prod(whole)
    tiles = f"{len(preview.plan):,} tile{'s' * (len(preview.plan) > 1)}"
    return f"{edges} of {of} px ({share:.{2 if share < 10 else 3}g} %, {tiles})"


def preview_layer(preview: "Preview", place: "Placement", name: str, *, source_id: Any = None) -> LayerDataTuple:
    """Instances of a preview as a layer.

    Parameters
    ----------
    place : Placement
        Of the axes `preview.axes` of the source layer.
    name : str
        Of the source layer.
    source_id : hashable, optional
        Of the source layer.
    """
    place = place.shifted(preview.origin)
    known = {"role": PREVIEW, "source_id": source_id, "source": name, "axes": place.layout, "plan": preview.plan}
    known |= {"status": preview.record["status"], "record": preview.record, "run": preview.record["run"]}
    features = areas(preview.labels)
    options = {"name": layer_name(name, PREVIEW, known), "metadata": {KEY: known}, "features": features}
    return laid_out(preview.labels.view(np.int32), preview.axes, place.layout), options | placed(place), "labels"
