"""Segment only what is in view: which pixels that are, the job, and the layer it ends as."""

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer
from napari.types import LayerDataTuple

from napari_shiftseg.plugin.layers import KEY, areas

if TYPE_CHECKING:
    from napari_shiftseg.plugin.source import Placement
    from napari_shiftseg.segmentation import Preview

__all__ = ["preview_layer", "window_in_view"]

_PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


def window_in_view(viewer: Any, layer: Layer, axes: str) -> dict[str, slice]:
    """Pixels of a layer that the viewer shows, per axis of its data: the visible part, and one pixel where a slider stands.

    An axis is left out where all of it is meant: in 3D views, and as long as nothing was drawn.
    """
    first = viewer.dims.ndim - layer.ndim
    displayed = [axis - first for axis in viewer.dims.displayed if axis >= first]
    shape = np.shape(layer.data[0] if layer.multiscale else layer.data)
    factors = layer.downsample_factors[layer.data_level] if layer.multiscale else np.ones(len(shape))
    at = layer.world_to_data(np.asarray(viewer.dims.point, float)[first:])
    window = {}
    for axis, letter in enumerate(axes[: layer.ndim]):
        low, high = np.asarray(layer.corner_pixels)[:, axis]
        if axis not in displayed:
            position = int(np.clip(np.rint(at[axis]), 0, shape[axis] - 1))
            window[letter] = slice(position, position + 1)
        elif len(displayed) == 2 and high > low:
            window[letter] = slice(int(low * factors[axis]), min(shape[axis], int(np.ceil((high + 1) * factors[axis]))))
    return window


def preview_layer(preview: "Preview", place: "Placement", name: str, source_id: Any = None) -> LayerDataTuple:
    """Instances of a preview as a layer.

    Parameters
    ----------
    preview : Preview
    place : Placement
        Of the axes `preview.axes` of the source layer.
    name : str
        Of the source layer.
    source_id : hashable, optional
        Of the source layer.
    """
    place = place.shifted(preview.origin)
    role = "preview instances"
    known = {"role": role, "source_id": source_id, "source": name, "axes": preview.axes, "plan": preview.plan}
    known |= {"status": preview.record["status"], "record": preview.record}
    features = areas(preview.labels)
    options = {"name": f"{name} {role}", "metadata": {KEY: known}, "features": features}
    return preview.labels.view(np.int32), options | {attribute: getattr(place, attribute) for attribute in _PLACE}, "labels"
