"""What the Link widget computes in a thread: labels of a layer in numbers that hold through z or t, and the layers of that."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels, Layer
from napari.types import LayerDataTuple

from napari_shiftseg.events import Event
from napari_shiftseg.plugin.layer_axes import finest
from napari_shiftseg.plugin.layers import KEY, in_order, laid_out
from napari_shiftseg.plugin.signature import PLACE

if TYPE_CHECKING:
    from napari_shiftseg.segmentation import Linked, Tracks

LINKED = "linked"
"""Role of labels whose numbers hold through planes or frames; no run, and no tuning, looks for it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Linkable:
    """A labels layer and what is known of it; nothing is read.

    Attributes
    ----------
    name : str
    data : array-like
        As the layer holds it, of a pyramid the finest level.
    meta : dict
        Of the layer, as `as_layer_data_tuple` gives it.
    layout : str
        A letter per axis, "_" for one that is left out.
    outputs : mapping of str to array-like
        What the network said, channels first.
    """

    name: str
    data: Any
    meta: dict[str, Any]
    layout: str
    outputs: Mapping[str, Any]

    @property
    def place(self) -> dict[str, Any]:
        """Options that put another layer where this one is."""
        return {name: self.meta[name] for name in PLACE}


def linkable_of(viewer: Any, layer: Labels, through: str) -> Linkable:
    """A layer, with the embedding of its run where a layer shows it; of axes without a name one is the wished one."""
    from napari_shiftseg.plugin.writers import axes_of

    _, meta, _ = layer.as_layer_data_tuple()
    known = layer.metadata.get(KEY) or {}
    layout = known.get("axes", "")
    if len(layout) != layer.ndim:
        layout = axes_of(layer)
        if through == "t" and "t" not in layout and _is_unnamed(layer, layout.find("z")):
            layout = layout.replace("z", "t")
    outputs = {}
    for other in viewer.layers if known.get("run") else ():
        told = other.metadata.get(KEY) or {}
        name = str(told.get("role", "")).removeprefix("output ")
        if told.get("run") == known["run"] and name in ("embedding", "bandwidth") and len(told["axes"]) == other.ndim:
            outputs[name] = in_order(finest(other), told["axes"])[0]
    return Linkable(name=layer.name, data=finest(layer), meta=meta, layout=layout, outputs=outputs)


def link_layer_steps(source: Linkable, through: str, wishes: Mapping[str, Any]) -> Generator[Event, None, list[LayerDataTuple]]:
    """Layers of linked labels, labels first; yields the events of `link_steps`."""
    from napari_shiftseg.plugin.writers import labels_of_layer
    from napari_shiftseg.segmentation import link_steps

    # by their letters, whatever the layer calls its axes
    labels = labels_of_layer(source.data, {**source.meta, "multiscale": False, "axis_labels": tuple(source.layout)})
    linked = yield from link_steps(labels, through, outputs=source.outputs, **wishes)
    data = linked.labels.data
    pixels = np.asarray(data[...]) if isinstance(source.data, np.ndarray) else data
    return linked_layers(replace(linked, labels=replace(linked.labels, data=pixels)), source)


def stored_tracks(labels: LayerDataTuple, parents: Mapping[int, int]) -> list[LayerDataTuple]:
    """The layer of tracks of a labels layer whose numbers are those of tracks; its features are filled in."""
    from napari_shiftseg.segmentation.tracking import tracks_of

    data, options, _ = labels
    layout = options["metadata"][KEY]["axes"]
    values, axes = in_order(data, layout)
    tracks = tracks_of(values, parents)
    options["features"] = features_of(tracks)
    name = options["name"].removesuffix(" linked through t")
    return _tracks_layers(tracks, axes, Linkable(name=name, data=data, meta=options, layout=layout, outputs={}))


def linked_layers(linked: "Linked", source: Linkable) -> list[LayerDataTuple]:
    """A layer of labels, and one of tracks where they were linked through time."""
    known = source.meta["metadata"].get(KEY) or {}
    kept = {key: known[key] for key in ("source_id", "source", "status") if key in known}
    record = linked.labels.record
    data = laid_out(_drawable(linked.labels.data), linked.labels.axes, source.layout)
    metadata = {KEY: {"role": LINKED, **kept, "axes": source.layout, "run": record["run"], "record": dict(record)}}
    name = f"{source.name} linked through {linked.through}"
    options = {"name": name, "metadata": metadata, "multiscale": False, **source.place, "features": features_of(linked.tracks)}
    made: list[LayerDataTuple] = [(data, options, "labels")]
    return made + ([] if linked.tracks is None else _tracks_layers(linked.tracks, linked.labels.axes, source))


def _tracks_layers(tracks: "Tracks", axes: str, source: Linkable) -> list[LayerDataTuple]:
    """Tracks as napari draws them, with what came from which; nothing where there are none, or time is not the first axis."""
    places = tracks.places
    if not len(places) or not source.layout.startswith("t"):
        return []
    columns = [np.zeros(len(places)) if axis == "_" else places[:, 1 + axes.index(axis)] for axis in source.layout]
    graph = {child: [parent] for child, parent in tracks.parents.items()}
    options = {"name": f"{source.name} tracks", "graph": graph, **source.place}
    return [(np.column_stack([places[:, 0], *columns]), options, "tracks")]


def features_of(tracks: "Tracks | None") -> dict[str, np.ndarray]:
    """First and last frame of tracks, and where they come from; nothing of objects of a stack, which Measure measures."""
    if tracks is None or not len(tracks.places):
        return {}
    index, begin = np.unique(tracks.places[:, 0].astype(np.int64), return_index=True)
    frames = tracks.places[:, 1].astype(np.int64)
    end = np.append(begin[1:], len(frames)) - 1
    parents = np.array([tracks.parents.get(int(number), 0) for number in index], np.int64)
    return {"index": index, "first_t": frames[begin], "last_t": frames[end], "parent": parents}


def words_of(linked_layer: LayerDataTuple) -> str:
    """What was linked, in a sentence."""
    step = linked_layer[1]["metadata"][KEY]["record"]["linked"][-1]
    if step["through"] == "z":
        how = "by overlap and agreement of codes" if step["codes"] else "by overlap alone, since there is no embedding layer"
        return f"{step['objects']} objects through z, {how}."
    return f"{step['objects']} tracks through t, {len(dict(step['parents']))} of them daughters."


def _drawable(data: Any) -> Any:
    """Labels as napari draws them fastest; those that are not in memory as dask, which it reads as it shows them."""
    if isinstance(data, np.ndarray):
        return data.view(np.int32)
    import dask.array as da

    return da.from_array(data, chunks=(*(1,) * (data.ndim - 2), *(min(n, 1024) for n in data.shape[-2:])))


def _is_unnamed(layer: Layer, axis: int) -> bool:
    return axis >= 0 and layer.axis_labels[axis].lstrip("-").isdecimal()
