"""napari reader of zarr stores that others wrote: the image with its axes, steps and place, and its label images."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points
from napari.types import LayerDataTuple
from napari.utils.notifications import show_info, show_warning

from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.plugin.layers import placed
from napari_shiftseg.plugin.layout import from_zarr

if TYPE_CHECKING:
    from napari_shiftseg.plugin.source import Placement


_MARKERS = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
_NAMES = {"c": "channel"}


def reader_of(path: Path) -> Callable[[str], list[LayerDataTuple]] | None:
    """The reader of a store, or of another folder that napari itself reads; None where there is nothing to read."""
    if path.is_file():
        return read_store if _is_zip(path) else None
    if not path.is_dir():
        return None
    if _is_zarr(path) and not _holds_bare_arrays(path):
        return read_store
    from napari_builtins.io import napari_get_reader

    return napari_get_reader(str(path)) if any(path.iterdir()) else None


def read_store(path: str) -> list[LayerDataTuple]:
    """Layers of a store, image first; a sentence and no layer where it cannot be read."""
    from napari_shiftseg.io.image import read_store as open_store

    try:
        made = [_layer(*open_store(path), "image")]
    except ShiftsegError as exc:
        show_warning(str(exc))
        return [(None,)]
    return made + _label_layers(Path(path))


def plain_place(
    axes: str, scale: Sequence[float], units: Sequence[str | None], translation: Sequence[float] = ()
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
    place = plain_place(image.axes, image.scale, image.units, image.translation)
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
            found = json.loads((path / name).read_text(encoding="utf-8"))
            found = found.get("attributes", {}) if name == "zarr.json" else found
            ome = found.get("ome", found)
        except (OSError, ValueError, AttributeError):
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
