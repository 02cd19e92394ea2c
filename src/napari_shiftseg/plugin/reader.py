"""napari reader of folders; saved results become image, hidden embedding and instances, with the record in their metadata."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.types import LayerDataTuple
from napari.utils.notifications import show_warning

from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.plugin.large_jobs import features_of
from napari_shiftseg.plugin.layers import KEY, layer_name, placed
from napari_shiftseg.plugin.layout import from_zarr, in_order, laid_out
from napari_shiftseg.plugin.signature import digest_of
from napari_shiftseg.plugin.store_reader import lazy_levels, plain_place, reader_of
from napari_shiftseg.plugin.subject import plan_of_record

if TYPE_CHECKING:
    from napari_shiftseg.io import StoredResult
    from napari_shiftseg.io.result import Part
    from napari_shiftseg.plugin.source import Placement

# parts up to this size are read whole: labels can be painted in then, and sliders do not wait for the disk
_WHOLE = 64 << 20


def get_reader(path: str | list[str] | None = None) -> Callable[[str], list[LayerDataTuple]] | None:
    """The reader of a folder or a zip file, after a look into one small file; None where nobody here reads it.

    Results of this package come as their layers, other zarr stores as the image that they hold. Any other folder is given to
    napari's own reader: napari offers the readers of folders in the order of their names, so that this one is chosen first.
    Without a path, which is how the command palette calls it, the user is asked for one.
    """
    if path is None:
        ask_for_result()
        return None
    if not isinstance(path, str):
        return None
    return read_result if _is_ours(Path(path)) else reader_of(Path(path))


def read_result(path: str) -> list[LayerDataTuple]:
    """Layers of a saved result, the lowest first; a sentence and no layer if the store is damaged."""
    from napari_shiftseg.io import open_result

    try:
        return _layers(open_result(path))
    except ShiftsegError as exc:
        show_warning(str(exc))
        return [(None,)]


def ask_for_result() -> None:
    """Let the user choose a folder, and open it; the window stays alive meanwhile."""
    from napari import current_viewer
    from qtpy.QtWidgets import QApplication, QFileDialog

    viewer = current_viewer()
    if viewer is None:
        show_warning("A result opens in a viewer, and there is none; open napari first.")
        return
    dialog = QFileDialog(QApplication.activeWindow(), "Open a saved result (a folder that ends in .zarr)")
    dialog.setFileMode(QFileDialog.FileMode.Directory)
    dialog.setOption(QFileDialog.Option.ShowDirsOnly)
    dialog.fileSelected.connect(lambda chosen: _open_in(viewer, chosen))
    dialog.finished.connect(lambda _: dialog.deleteLater())  # which also keeps it until then
    dialog.open()


def _open_in(viewer: Any, chosen: str) -> None:
    if get_reader(chosen) is None:
        show_warning(f"{chosen} is no saved result and no zarr store; choose the folder that was saved.")
    else:
        viewer.open(chosen, plugin="napari-shiftseg")


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
    where = _Where.of_record(stored)
    tuples = [_image(stored, where)] if stored.image is not None else []
    if stored.embedding is not None:
        tuples.append(_embedding(stored, known, where))
    return [*tuples, _labels(stored, known, where)]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Where:
    """Where a stored result lies: where a viewer showed its image, if one did, else by the metadata of the store.

    Attributes
    ----------
    image : Placement
        Of all axes of the image, colour samples left out where it was shown in colours.
    sizes : dict of str to int
        Pixels per axis.
    """

    image: "Placement"
    sizes: dict[str, int]

    @classmethod
    def of_record(cls, stored: "StoredResult") -> "_Where":
        from napari_shiftseg.plugin.source import Placement

        known = stored.record.get("image", {})
        known = known if isinstance(known, dict) else {}
        sizes = {**dict(zip(stored.axes, stored.labels.shape, strict=True)), **known.get("sizes", {})}
        try:
            place = Placement.from_dict(known["place"])
        except (KeyError, TypeError, ValueError):
            place = plain_place(stored.axes, stored.scale, stored.units, stored.translation)
        if not set(stored.axes) <= set(place.layout) <= set(sizes):
            place = plain_place(stored.axes, stored.scale, stored.units, stored.translation)
        return cls(image=place, sizes=sizes)

    def of_image(self, stored: "StoredResult") -> "Placement":
        return self.image.behind_channel() if "c" in set(stored.image_axes) - set(self.image.layout) else self.image

    def of_result(self, stored: "StoredResult") -> "Placement":
        """Of labels; a result without borders begins inside its image."""
        from napari_shiftseg.plugin.source import part_of

        origin = tuple(stored.record.get("plan", {}).get("origin", ()))
        looped = len(stored.axes) - len(origin)
        return part_of(self.image, self.sizes, stored.axes).shifted((0,) * looped + origin)


def _plan(record: dict[str, Any]) -> Any:
    """A `TilePlan`, the plan as the record holds it, or None."""
    values = record.get("plan")
    if not isinstance(values, dict) or not {"seams", "grid_phase", "period", "result_shape", "origin"} <= values.keys():
        return None
    return plan_of_record(record) or values


def _image(stored: "StoredResult", where: _Where) -> LayerDataTuple:
    place = where.of_image(stored)
    data, options = _part(stored, "image", stored.image_axes, place.layout)
    return data, {**options, "name": stored.path.stem, "rgb": False, **placed(place)}, "image"


def _embedding(stored: "StoredResult", known: dict[str, Any], where: _Where) -> LayerDataTuple:
    looped = int(stored.axes.startswith("t"))  # files have time first, layers channels
    place = where.of_result(stored).behind_channel()
    data, options = _part(stored, "embedding", stored.axes[:looped] + "c" + stored.axes[looped:], place.layout)
    metadata = {KEY: {"role": "embedding", **known, "axes": place.layout, "digest": digest_of(data)}}
    title = layer_name(stored.path.stem, "embedding", known)
    options |= {"name": title, "visible": False, "rgb": False, "metadata": metadata}
    return data, {**options, **placed(place)}, "image"


def _labels(stored: "StoredResult", known: dict[str, Any], where: _Where) -> LayerDataTuple:
    from napari_shiftseg.instances import object_table

    place = where.of_result(stored)
    data, options = _part(stored, "labels", stored.axes, place.layout)
    if isinstance(data, np.ndarray):
        data = data.view(np.int32)  # napari draws them fastest, and paints in them
        if "plan" in known and data.ndim == len(stored.record["plan"]["result_shape"]):
            options["features"] = object_table(in_order(data, place.layout)[0][...], stored.record["plan"]["seams"])
    elif "plan" in known:
        options["features"] = features_of(stored, len(stored.record["plan"]["result_shape"]))
    metadata = {KEY: {"role": "instances", **known, "axes": place.layout, "digest": digest_of(data)}}
    options |= {"name": layer_name(stored.path.stem, "instances", known), "metadata": metadata}
    return data, {**options, **placed(place)}, "labels"


def _part(stored: "StoredResult", part: "Part", axes: str, layout: str) -> tuple[Any, dict[str, Any]]:
    """Pixels of a part in the order of a layout, whole or as a lazy pyramid, and how napari has to take them."""
    levels = stored.levels(part)
    if prod(levels[0].shape) * levels[0].dtype.itemsize <= _WHOLE:
        return np.ascontiguousarray(laid_out(np.asarray(levels[0][...]), axes, layout)), {"multiscale": False}
    return lazy_levels([laid_out(from_zarr(level), axes, layout) for level in levels])
