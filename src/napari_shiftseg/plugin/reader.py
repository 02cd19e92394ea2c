"""napari reader of saved results: image, hidden embedding and instances, with the record in their metadata."""

import json
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.types import LayerDataTuple
from napari.utils.notifications import show_warning

from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.plugin.large_jobs import features_of
from napari_shiftseg.plugin.layers import KEY, layer_name
from napari_shiftseg.plugin.signature import digest_of
from napari_shiftseg.plugin.subject import plan_of_record

if TYPE_CHECKING:
    from napari_shiftseg.io import StoredResult
    from napari_shiftseg.io.result import Part

__all__ = ["get_reader", "read_result"]

# parts up to this size are read whole: labels can be painted in then, and sliders do not wait for the disk
_WHOLE = 64 << 20


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerDataTuple]] | None:
    """The reader of a result that this package saved; None for any other folder, after a look into one small file."""
    return read_result if isinstance(path, str) and _is_ours(Path(path)) else None


def read_result(path: str) -> list[LayerDataTuple]:
    """Layers of a saved result, the lowest first; a sentence and no layer if the store is damaged."""
    from napari_shiftseg.io import open_result

    try:
        return _layers(open_result(path))
    except ShiftsegError as exc:
        show_warning(str(exc))
        return [(None,)]


def _is_ours(path: Path) -> bool:
    # without napari_shiftseg.io, which would load torch for every zarr folder that anybody opens
    try:
        attributes = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        return isinstance(attributes[KEY], dict)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _layers(stored: "StoredResult") -> list[LayerDataTuple]:
    plan = _plan(stored.record)
    known = {"source_id": str(stored.path), "source": stored.path.stem, "store": str(stored.path), "record": stored.record}
    known["status"] = stored.record.get("status", "")
    # stores that were written before runs had a name
    known["run"] = stored.record.get("run") or f"{stored.path} {stored.record.get('time', '')}"
    if plan is not None:
        known["plan"] = plan  # without it the layers cannot be inspected, and are offered nowhere
    tuples = [_image(stored)] if stored.image is not None else []
    if stored.embedding is not None:
        tuples.append(_embedding(stored, known))
    return [*tuples, _labels(stored, known)]


def _plan(record: dict[str, Any]) -> Any:
    """A `TilePlan`, the plan as the record holds it, or None."""
    values = record.get("plan")
    if not isinstance(values, dict) or not {"seams", "grid_phase", "period", "result_shape", "origin"} <= values.keys():
        return None
    return plan_of_record(record) or values


def _image(stored: "StoredResult") -> LayerDataTuple:
    # files have time first, layers channels: napari matches the axes of layers from the last one on
    axes = stored.image_axes
    data, options = _part(stored, "image", channel=max(axes.find("c"), 0))
    if "c" in axes:
        axes = "c" + axes.replace("c", "")
    return data, {**options, "name": stored.path.stem, "rgb": False, **_place(stored, axes, shifted=False)}, "image"


def _embedding(stored: "StoredResult", known: dict[str, Any]) -> LayerDataTuple:
    data, options = _part(stored, "embedding", channel=int(stored.axes.startswith("t")))
    axes = "c" + stored.axes
    metadata = {KEY: {"role": "embedding", **known, "axes": axes, "digest": digest_of(data)}}
    options |= {
        "name": layer_name(stored.path.stem, "embedding", known["status"]),
        "visible": False,
        "rgb": False,
        "metadata": metadata,
    }
    return data, {**options, **_place(stored, axes)}, "image"


def _labels(stored: "StoredResult", known: dict[str, Any]) -> LayerDataTuple:
    from napari_shiftseg.instances import object_table

    data, options = _part(stored, "labels")
    if isinstance(data, np.ndarray):
        data = data.view(np.int32)  # napari draws them fastest, and paints in them
        if "plan" in known and data.ndim == len(stored.record["plan"]["result_shape"]):
            options["features"] = object_table(data, stored.record["plan"]["seams"])
    elif "plan" in known:
        options["features"] = features_of(stored, len(stored.record["plan"]["result_shape"]))
    metadata = {KEY: {"role": "instances", **known, "axes": stored.axes, "digest": digest_of(data)}}
    options |= {"name": layer_name(stored.path.stem, "instances", known["status"]), "metadata": metadata}
    return data, {**options, **_place(stored, stored.axes)}, "labels"


def _part(stored: "StoredResult", part: "Part", channel: int = 0) -> tuple[Any, dict[str, Any]]:
    """Pixels of a part with its channel axis first, whole or as a lazy pyramid, and how napari has to take them."""
    levels = stored.levels(part)
    if prod(levels[0].shape) * levels[0].dtype.itemsize <= _WHOLE:
        return np.moveaxis(np.asarray(levels[0][...]), channel, 0), {"multiscale": False}
    import dask.array as da

    # napari reads more than it shows of zarr pyramids with more than two axes, and not of dask ones
    lazy = [da.moveaxis(da.from_zarr(level), channel, 0) for level in levels]
    return (lazy, {"multiscale": True}) if len(lazy) > 1 else (lazy[0], {"multiscale": False})


def _place(stored: "StoredResult", axes: str, *, shifted: bool = True) -> dict[str, Any]:
    """Scale, position, units and labels of some axes; a result without borders begins inside its image."""
    scale = dict(zip(stored.axes, stored.scale, strict=True))
    units = dict(zip(stored.axes, stored.units, strict=True))
    origin = stored.record.get("plan", {}).get("origin", ()) if shifted else ()
    first = dict(zip(stored.axes[len(stored.axes) - len(origin) :], origin, strict=True))
    return {
        "scale": [scale.get(axis, 1.0) for axis in axes],
        "translate": [first.get(axis, 0) * scale.get(axis, 1.0) for axis in axes],
        "units": [units.get(axis) or "pixel" for axis in axes],
        "axis_labels": ["channel" if axis == "c" else axis for axis in axes],
    }
