"""napari reader: saved results become their layers, other zarr stores the image and the labels that they hold, files images."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points
from napari.types import LayerDataTuple
from napari.utils.notifications import show_info, show_warning

from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.io.constants import LARGEST_METADATA
from napari_shiftseg.plugin.constants import WHOLE_BYTES
from napari_shiftseg.plugin.edited import EDITED
from napari_shiftseg.plugin.large import features_of
from napari_shiftseg.plugin.layers import KEY, from_zarr, in_order, laid_out, layer_name, placed, role_of
from napari_shiftseg.plugin.signature import digest_of
from napari_shiftseg.plugin.subject import plan_of_record

if TYPE_CHECKING:
    from napari_shiftseg.io import StoredResult
    from napari_shiftseg.plugin.source import Placement


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
    try:
        return isinstance(_described(path / "zarr.json")["attributes"][KEY], dict)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _described(file: Path) -> Any:
    """What a description of a store says; OSError where there is no file, ValueError where it is longer than any."""
    # without the rest of napari_shiftseg.io, which would load torch for every zarr folder that anybody opens
    if not file.is_file():  # who opens a pipe waits for its other end
        raise FileNotFoundError(file)
    if file.stat().st_size > LARGEST_METADATA:
        raise ValueError(f"{file} has {file.stat().st_size} bytes")
    return json.loads(file.read_text(encoding="utf-8"))


def _layers(stored: "StoredResult") -> list[LayerDataTuple]:
    from napari_shiftseg.io.labels import linked_steps

    plan = _plan(stored.record)
    known = {"source_id": str(stored.path), "source": stored.path.stem, "store": str(stored.path), "record": stored.record}
    known["status"] = stored.record.get("status", "")
    # stores that were written before runs had a name
    known["run"] = stored.record.get("run") or f"{stored.path} {stored.record.get('time', '')}"
    if plan is not None:
        known["plan"] = plan  # without it the layers cannot be inspected, and are offered nowhere
    where = _Where.of_record(stored)
    tuples = [_image(stored, where)] if stored.image is not None else []
    tuples += [_output(stored, name, known, where=where) for name in stored.outputs if name != "foreground"]
    labels = _labels(stored, known, where)
    steps = linked_steps(stored.record)
    return [*tuples, labels] if not steps else [*tuples, *_linked(labels, steps)]


def _linked(labels: LayerDataTuple, steps: list[dict[str, Any]]) -> list[LayerDataTuple]:
    """Labels whose numbers hold through planes or frames, and tracks, where there are some and the labels are in memory."""
    from napari_shiftseg.plugin.link_jobs import LINKED, stored_tracks

    data, options, _ = labels
    known = options["metadata"][KEY]
    known["role"] = LINKED
    known.pop("plan", None)  # the objects are not those of its frames
    options["name"] = f"{known['source']} linked through {steps[-1]['through']}"
    parents = next((step.get("parents", []) for step in steps if step["through"] == "t"), None)
    tracks = [] if parents is None or not isinstance(data, np.ndarray) else stored_tracks(labels, dict(parents))
    return [labels, *tracks]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Where:
    """Where a stored result lies: where a viewer showed its image, if one did, else by the metadata of the store."""

    image: "Placement"  # of all axes of the image, colour samples left out where it was shown in colours
    sizes: dict[str, int]  # pixels per axis

    @classmethod
    def of_record(cls, stored: "StoredResult") -> "_Where":
        from napari_shiftseg.plugin.source import Placement

        known = stored.record.get("image", {})
        known = known if isinstance(known, dict) else {}
        sizes = {**dict(zip(stored.axes, stored.labels.shape, strict=True)), **known.get("sizes", {})}
        try:
            place = Placement.from_dict(known["place"])
        except (KeyError, TypeError, ValueError):
            place = plain_place(stored.axes, stored.scale, stored.units, translation=stored.translation)
        if not set(stored.axes) <= set(place.layout) <= set(sizes):
            place = plain_place(stored.axes, stored.scale, stored.units, translation=stored.translation)
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
    data, options = _part(stored, "image", stored.image_axes, layout=place.layout)
    return data, {**options, "name": stored.path.stem, "rgb": False, **placed(place)}, "image"


def _output(stored: "StoredResult", name: str, known: dict[str, Any], *, where: _Where) -> LayerDataTuple:
    place, axes = where.of_result(stored), stored.axes
    if stored.outputs[name].ndim > stored.labels.ndim:
        looped = int(axes.startswith("t"))  # files have time first, layers channels
        place, axes = place.behind_channel(), axes[:looped] + "c" + axes[looped:]
    data, options = _part(stored, name, axes, layout=place.layout)
    metadata = {KEY: {"role": role_of(name), **known, "axes": place.layout, "digest": digest_of(data)}}
    title = layer_name(stored.path.stem, name, known)
    options |= {"name": title, "visible": False, "rgb": False, "metadata": metadata}
    return data, {**options, **placed(place)}, "image"


def _labels(stored: "StoredResult", known: dict[str, Any], where: _Where) -> LayerDataTuple:
    from napari_shiftseg.instances import object_table

    place = where.of_result(stored)
    data, options = _part(stored, "labels", stored.axes, layout=place.layout)
    if isinstance(data, np.ndarray):
        data = data.view(np.int32)  # napari draws them fastest, and paints in them
        if "plan" in known and data.ndim == len(stored.record["plan"]["result_shape"]):
            options["features"] = object_table(in_order(data, place.layout)[0][...], stored.record["plan"]["seams"])
    elif "plan" in known:
        options["features"] = features_of(stored, len(stored.record["plan"]["result_shape"]))
    edits = list(stored.record.get("edits", ()))
    metadata = {KEY: {"role": "instances", **known, "axes": place.layout, "digest": digest_of(data), "edits": edits}}
    name = layer_name(stored.path.stem, "instances", known) + EDITED * bool(edits)
    if not isinstance(data, np.ndarray):
        options["cache"] = False  # they can be corrected where they lie
    options |= {"name": name, "metadata": metadata}
    return data, {**options, **placed(place)}, "labels"


def _part(stored: "StoredResult", part: str, axes: str, *, layout: str) -> tuple[Any, dict[str, Any]]:
    """Pixels of a part in the order of a layout, whole or as a lazy pyramid, and how napari has to take them."""
    levels = stored.levels(part)
    if prod(levels[0].shape) * levels[0].dtype.itemsize <= WHOLE_BYTES:
        return np.ascontiguousarray(laid_out(np.asarray(levels[0][...]), axes, layout)), {"multiscale": False}
    return lazy_levels([laid_out(from_zarr(level), axes, layout) for level in levels])


_MARKERS = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
_NAMES = {"c": "channel"}


def reader_of(path: Path) -> Callable[[str], list[LayerDataTuple]] | None:
    """The reader of a store, or of another folder that napari itself reads; None where there is nothing to read."""
    if path.is_file():
        from napari_shiftseg.plugin.file_reader import read_file

        if _is_zip(path):
            return read_store
        return None if path.suffix.lower() in (".zarr", ".ozx", ".zip") else read_file
    if not path.is_dir():
        return None
    if _is_zarr(path) and not _holds_bare_arrays(path):
        return read_store
    from napari_builtins.io import napari_get_reader

    return napari_get_reader(str(path)) if any(path.iterdir()) else None


def read_store(path: str) -> list[LayerDataTuple]:
    """Layers of a store, image first; a sentence and no layer where it cannot be read."""
    from napari_shiftseg.io.image import read_store as open_store

    if {"plate", "well", "bioformats2raw.layout"} & _attributes(Path(path)).keys() and Path(path).is_dir():
        from napari_shiftseg.plugin.file_reader import read_file

        return read_file(path)
    try:
        made = [_layer(*open_store(path), "image")]
    except ShiftsegError as exc:
        show_warning(str(exc))
        return [(None,)]
    return made + _label_layers(Path(path))


def plain_place(
    axes: str, scale: Sequence[float], units: Sequence[str | None], *, translation: Sequence[float] = ()
) -> "Placement":
    """The place that the metadata of a store give."""
    from napari_shiftseg.plugin.source import Placement

    count = len(axes)
    return Placement(
        scale=np.asarray(scale, float),
        translate=np.asarray(translation or (0.0,) * count, float),
        rotate=np.eye(count),
        shear=np.eye(count),
        affine=np.eye(count + 1),
        units=tuple(_known_unit(unit) for unit in units),
        axis_labels=tuple(_NAMES.get(axis, axis) for axis in axes),
        layout=axes,
    )


def lazy_levels(levels: list[Any]) -> tuple[Any, dict[str, Any]]:
    """Levels as napari takes them, and how."""
    return (levels, {"multiscale": True}) if len(levels) > 1 else (levels[0], {"multiscale": False})


def _layer(image: Any, levels: tuple[Any, ...], kind: str) -> LayerDataTuple:
    import dask.array as da

    if image.note:
        show_info(f"{image.name}: {image.note}")
    same = image.data.shape == levels[0].shape
    data, options = lazy_levels([from_zarr(level) for level in levels] if same else [da.from_array(image.data)])
    place = plain_place(image.axes, image.scale, image.units, translation=image.translation)
    look = {"rgb": False} if kind == "image" else {}
    return data, {**options, **look, "name": image.name, **placed(place)}, kind


def _label_layers(path: Path) -> list[LayerDataTuple]:
    """Label images of a store, as far as they can be read."""
    from napari_shiftseg.io.image import read_store as open_store

    names = _attributes(path / "labels").get("labels") if path.is_dir() else None
    made = []
    for name in names if isinstance(names, list) else ():
        try:
            image, levels = open_store(path / "labels" / str(name))
        except ShiftsegError as exc:
            show_warning(f"The labels {name} of {path.name} cannot be read ({exc}).")
            continue
        if np.dtype(image.data.dtype).kind in "iu":
            data, options, kind = _layer(image, levels, "labels")
            made.append((data, {**options, "name": str(name)}, kind))
    return made


def _attributes(path: Path) -> dict[str, Any]:
    """Attributes of the group at a path, those of OME-Zarr; {} where there are none."""
    for name in ("zarr.json", ".zattrs"):
        try:
            found = _described(path / name)
            found = found.get("attributes", {}) if name == "zarr.json" else found
            ome = found.get("ome", found)
        except (OSError, ValueError, AttributeError, RecursionError):
            continue
        return ome if isinstance(ome, dict) else {}
    return {}


def _is_zarr(path: Path) -> bool:
    return any((path / name).is_file() for name in _MARKERS)


def _holds_bare_arrays(path: Path) -> bool:
    """Whether a zarr group holds arrays that nothing describes, which napari shows one by one."""
    # without napari_shiftseg.io, which would load torch for every folder that anybody opens
    if (path / ".zarray").is_file() or {"multiscales", "bioformats2raw.layout", "plate", "well"} & _attributes(path).keys():
        return False
    return any((child / name).is_file() for child in path.iterdir() if child.is_dir() for name in (".zarray", "zarr.json"))


def _is_zip(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def _known_unit(unit: str | None) -> str:
    """The unit, "pixel" where napari does not know it."""
    try:
        return str(Points(ndim=1, units=[unit or "pixel"]).units[0])
    except ValueError:
        return "pixel"
