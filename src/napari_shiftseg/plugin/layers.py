"""From a segmentation to napari layers: pure functions, and `put_layers`, which shows their result in a viewer."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer
from napari.types import LayerDataTuple

from napari_shiftseg.colours import embedding_colours, value_range
from napari_shiftseg.events import Event, Stage

if TYPE_CHECKING:
    from napari_shiftseg.io import Image
    from napari_shiftseg.plugin.source import Placement
    from napari_shiftseg.segmentation import Segmentation, SegmentSettings

__all__ = ["KEY", "PLACE", "Drawn", "areas", "draw", "keep_view", "layer_tuples", "placed", "put_layers", "segment_and_draw"]

KEY = "napari-shiftseg"
"""Key of this plugin in the metadata of a layer; the value has role, source_id, source, axes, plan, status, record, model."""

PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
"""Attributes of a layer that say where it lies."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """A segmentation and what its layers need beyond it; made in a thread.

    Attributes
    ----------
    colours : ndarray or None
        (*shape, 3) uint8; None without an embedding.
    limits : (float, float) or None
        Range of the embedding.
    features : dict
        `object_table` of the instances; empty for a series, where a number means another object in each frame.
    model : str
        Name or path that the model was loaded from.
    """

    result: "Segmentation"
    colours: np.ndarray | None
    limits: tuple[float, float] | None
    features: dict[str, np.ndarray]
    model: str = ""


def segment_and_draw(
    image: "Image", model: str | Path, settings: "SegmentSettings", out: Path | None = None
) -> Generator[Event, None, Drawn]:
    """The whole job of the widget: load the model, segment, draw; yields the events of `segment_steps`."""
    from napari_shiftseg.segmentation import segment_steps  # torch is loaded in the thread

    yield Stage(done=0, total=0, text="reading")
    result = yield from segment_steps(image, model, settings, out)
    yield Stage(done=0, total=0, text="drawing")
    return draw(result, str(model))


def draw(result: "Segmentation", model: str = "") -> Drawn:
    """Colours and sizes of a segmentation."""
    from napari_shiftseg.instances import object_table

    embedding = result.embedding
    features = object_table(result.labels, result.plan.seams()) if result.labels.ndim == result.plan.spec.ndim else {}
    return Drawn(
        result=result,
        colours=None if embedding is None else embedding_colours(embedding, result.foreground),
        limits=None if embedding is None else value_range(embedding),
        features=features,
        model=model,
    )


def areas(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Features of a labels layer: "index" and "area" (pixels) of each instance."""
    area = np.bincount(labels.ravel())
    index = np.flatnonzero(area)
    index = index[index > 0]
    return {"index": index, "area": area[index]}


def placed(place: "Placement") -> dict[str, Any]:
    """Options of a layer that put it in a place."""
    return {attribute: getattr(place, attribute) for attribute in PLACE}


def layer_tuples(drawn: Drawn, place: "Placement", name: str, source_id: Any = None) -> list[LayerDataTuple]:
    """Layers of a segmentation, the lowest first: embedding, its colours, instances.

    Parameters
    ----------
    drawn : Drawn
    place : Placement
        Of the axes `drawn.result.axes` of the source layer.
    name : str
        Of the source layer.
    source_id : hashable, optional
        Of the source layer; a later run on it finds these layers by it.
    """
    result = drawn.result
    offset = len(result.axes) - len(result.plan.origin)
    place = place.shifted((0,) * offset + result.plan.origin)
    known = {"source_id": source_id, "source": name, "axes": result.axes, "plan": result.plan}
    known |= {"status": result.record["status"], "record": result.record, "model": drawn.model}

    def tuple_of(data, role, kind, where, **options) -> LayerDataTuple:
        axes = "c" + result.axes if role == "embedding" else result.axes
        metadata = {KEY: {"role": role, **known, "axes": axes}}
        return data, {"name": f"{name} {role}", "metadata": metadata, **placed(where), **options}, kind

    made = []
    if result.embedding is not None:
        channel_first = place.behind_channel()
        options = {"contrast_limits": drawn.limits, "rgb": False, "visible": False}
        made.append(tuple_of(result.embedding, "embedding", "image", channel_first, **options))
        made.append(tuple_of(drawn.colours, "embedding RGB", "image", place, rgb=True, visible=False))
    # napari draws int32 labels fastest, and paints in them
    labels = result.labels.view(np.int32)
    made.append(tuple_of(labels, "instances", "labels", place, features=drawn.features))
    return made


def put_layers(viewer: Any, tuples: list[LayerDataTuple]) -> list[Layer]:
    """Show layers in a viewer.

    A layer of the same role and source is updated in place if the shape is the same: with some graphics drivers napari 0.9
    crashes after a layer was removed. Other layers are added.
    """
    shown = []
    with keep_view(viewer):
        for data, options, kind in tuples:
            old = _layer_like(viewer, data, options["metadata"][KEY], kind)
            if old is None:
                shown.append(viewer.add_layer(Layer.create(data, options, kind)))
            else:
                _update(old, data, options)
                shown.append(old)
    return shown


@contextmanager
def keep_view(viewer: Any) -> Iterator[None]:
    """Leave the camera where it is while layers come: napari fits the view anew when a channel axis comes with them."""
    camera = viewer.scene.camera
    view = (camera.center, camera.zoom) if len(viewer.layers) else None
    yield
    if view is not None:
        camera.center, camera.zoom = view


def _layer_like(viewer: Any, data: np.ndarray, known: dict[str, Any], kind: str) -> Layer | None:
    for layer in viewer.layers:
        theirs = layer.metadata.get(KEY, {})
        same = all(theirs.get(key) == known[key] for key in ("role", "source_id", "axes"))
        fits = not getattr(layer, "multiscale", False) and np.shape(layer.data) == data.shape
        if same and fits and type(layer).__name__.lower() == kind:
            return layer
    return None


def _update(layer: Layer, data: np.ndarray, options: dict[str, Any]) -> None:
    layer.data = data
    layer.metadata = options["metadata"]
    for attribute in (*PLACE, "features"):
        if attribute in options:
            setattr(layer, attribute, options[attribute])
    if options.get("contrast_limits") is not None:
        layer.contrast_limits_range = layer.contrast_limits = options["contrast_limits"]
