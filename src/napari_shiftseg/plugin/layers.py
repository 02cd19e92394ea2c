"""From a segmentation to napari layers: pure functions; `replacement` shows what they make in a viewer."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.types import LayerDataTuple
from napari.utils.colormaps import DirectLabelColormap

from napari_shiftseg.colours import embedding_colours, value_range
from napari_shiftseg.events import Event, Stage
from napari_shiftseg.plugin.signature import KEY, PLACE, digest_of
from napari_shiftseg.views import LazyArray, View

if TYPE_CHECKING:
    from napari_shiftseg.io import Image
    from napari_shiftseg.plugin.inspect_jobs import Highlights
    from napari_shiftseg.plugin.source import Placement
    from napari_shiftseg.plugin.subject import Subject
    from napari_shiftseg.segmentation import Job, Segmentation


def from_zarr(array: Any) -> Any:
    """The array as dask, of whose pyramids napari reads no more than it shows."""
    import dask.array as da

    return da.from_array(array, chunks=array.chunks)


def laid_out(data: Any, axes: str, layout: str) -> Any:
    """Data of a result with its axes in the order of a layout, and one pixel for each "_" in it; nothing is copied.

    Parameters
    ----------
    data : numpy, zarr, dask or lazy array
        With axes `axes`, and colour samples behind them if there are any.
    axes, layout : str
        The same letters, in two orders.
    """
    if axes == layout:
        return data
    samples = range(len(axes), len(data.shape))
    order = [*(None if letter == "_" else axes.index(letter) for letter in layout), *samples]
    if isinstance(data, LazyArray):
        return View.whole(data, order, name="the result")
    data = data if hasattr(data, "transpose") else from_zarr(data)
    data = data.transpose([axis for axis in order if axis is not None])
    return data[tuple(None if axis is None else slice(None) for axis in order)]


def in_order(data: Any, layout: str) -> tuple[Any, str]:
    """The inverse of `laid_out`: data with axes (c) "tzyx" in this order, not read, and these axes."""
    axes = layout[: layout.startswith("c")] + "".join(axis for axis in "tzyx" if axis in layout)
    if axes == layout:
        return data, axes
    picks = [0 if letter == "_" else range(size) for letter, size in zip(layout, data.shape, strict=True)]
    return View(data, picks, [layout.index(axis) for axis in axes], name="the result"), axes


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """A segmentation and what its layers need beyond it; made in a thread."""

    result: "Segmentation"
    colours: np.ndarray | None  # (*shape, 3) uint8; None without an embedding
    limits: dict[str, tuple[float, float]]  # range of each output that is shown
    # `object_table` of the instances; empty for a series, where a number means another object in each frame
    features: dict[str, np.ndarray]
    # `digest_of` the pixels of each role, and of the "image" before it was segmented
    digests: dict[str, str | None] = field(default_factory=dict)


def segment_and_draw(job: "Job | Image", *wish: Any) -> Generator[Event, None, Drawn]:
    """The whole work of the widget: segment, draw; yields the events of `run_steps`.

    `wish`: for an image, its model, settings and store, which are decided on here, as in `segment`.
    """
    from napari_shiftseg.segmentation import Job, decide, run_steps  # torch is loaded in the thread

    yield Stage(done=0, total=0, text="reading")
    job = job if isinstance(job, Job) else decide(job, *wish)
    segmented = digest_of(job.opened.image.data)
    result = yield from run_steps(job)
    yield Stage(done=0, total=0, text="drawing")
    return draw(result, segmented)


def draw(result: "Segmentation", image: str | None = None) -> Drawn:
    """Colours and sizes of a segmentation; `image` is the digest of what was segmented."""
    from napari_shiftseg.instances import object_table

    embedding = result.embedding
    features = object_table(result.labels, result.plan.seams()) if result.labels.ndim == result.plan.lattice.ndim else {}
    colours = None if embedding is None else embedding_colours(embedding, result.foreground)
    shown = {name: values for name, values in result.outputs.items() if name != "foreground"}
    pixels = {role_of(name): values for name, values in shown.items()}
    pixels |= {"embedding RGB": colours, "instances": _drawable(result.labels)}
    return Drawn(
        result=result,
        colours=colours,
        limits={name: _range(values, result.described.get(name)) for name, values in shown.items()},
        features=features,
        digests={role: digest_of(data) for role, data in pixels.items()} | {"image": image},
    )


def role_of(output: str) -> str:
    """Role of the layer that shows an output of the network."""
    return "embedding" if output == "embedding" else f"output {output}"


def _range(values: np.ndarray, output: Any) -> tuple[float, float]:
    """Contrast limits of an output: all values that it can have, where that is known, else those that it has."""
    if output is not None and output.activation == "sigmoid":
        return 0.0, 1.0
    return value_range(values if output is None or output.vector else values[None])


def areas(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Features of a labels layer: "index" and "area" (pixels) of each instance."""
    area = np.bincount(labels.ravel())
    index = np.flatnonzero(area)
    index = index[index > 0]
    return {"index": index, "area": area[index]}


def layer_name(source: str, role: str, known: Mapping[str, Any]) -> str:
    """Name of a layer; a result whose tiles or whose training break the rules has that in its name."""
    broken = known.get("status") == "non-compliant" or (known.get("record") or {}).get("violations")
    return f"{source} {role}" + (" (non-compliant)" if broken else "")


def placed(place: "Placement") -> dict[str, Any]:
    """Options of a layer that put it in a place."""
    return {attribute: getattr(place, attribute) for attribute in PLACE}


def layer_tuples(drawn: Drawn, place: "Placement", name: str, source_id: Any = None) -> list[LayerDataTuple]:
    """Layers of a segmentation, the lowest first: embedding, its colours, what else the network says, instances.

    Parameters
    ----------
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
    known |= {"status": result.record["status"], "record": result.record, "run": result.record["run"]}
    known["image_digest"] = drawn.digests.get("image")

    def tuple_of(data, role, kind, *, where, vector=False, title="", **options) -> LayerDataTuple:
        axes = "c" * vector + result.axes
        layout = where.layout
        data, digest = laid_out(data, axes, layout), drawn.digests.get(role) if layout == axes else None
        metadata = {KEY: {"role": role, **known, "axes": layout, "digest": digest or digest_of(data)}}
        title = layer_name(name, title or role, known)
        return data, {"name": title, "metadata": metadata, **placed(where), **options}, kind

    made = []
    for output, limits in drawn.limits.items():
        values, role = result.outputs[output], role_of(output)
        vector = values.ndim > result.labels.ndim
        options = {"contrast_limits": limits, "rgb": False, "visible": False, "title": output, "vector": vector}
        made.append(tuple_of(values, role, "image", where=place.behind_channel() if vector else place, **options))
        if output == "embedding":
            made.append(tuple_of(drawn.colours, "embedding RGB", "image", where=place, rgb=True, visible=False))
    made.append(tuple_of(_drawable(result.labels), "instances", "labels", where=place, features=drawn.features))
    return made


def _drawable(labels: np.ndarray) -> np.ndarray:
    """Labels as napari draws them fastest, and paints in them."""
    return labels.view(np.int32)


def highlight_layers(subject: "Subject", found: "Highlights", place: "Placement", *, source_id: Any) -> list[LayerDataTuple]:
    """Instances on seams, yellow, and against a truth extra ones, cyan, missed objects, magenta, and split ones, red.

    Parameters
    ----------
    subject : Subject
        The result that was looked at.
    place : Placement
        Of the axes `subject.axes`.
    source_id : hashable
        Of the layer that was segmented.
    """
    made = []
    outlined = (  # the last one on top: what is split is often missed too
        ("on seams", found.on_seams, "yellow"),
        ("extra objects", found.extra, "cyan"),
        ("missed objects", found.missed, "magenta"),
        ("split objects", found.split, "red"),
    )
    for role, data, colour in outlined:
        if data is None:
            continue
        known = {"role": role, "source_id": source_id, "source": subject.name, "run": subject.run, "axes": place.layout}
        colours = DirectLabelColormap(color_dict={None: colour, 0: "transparent"})
        look = {"name": f"{subject.name} {role}", "metadata": {KEY: known}, "colormap": colours, "opacity": 1.0}
        made.append((laid_out(data, subject.axes, place.layout), {**placed(place), **look}, "labels"))
    return made
