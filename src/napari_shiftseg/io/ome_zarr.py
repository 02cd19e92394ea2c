"""OME-Zarr 0.4 and 0.5 in, and plain zarr arrays."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import zarr
from pydantic import ValidationError

from napari_shiftseg.errors import ImageError
from napari_shiftseg.io.axes import guess_axes, name_axes, unit_name
from napari_shiftseg.io.frames import Image, native
from napari_shiftseg.io.view import ArrayLike, View

__all__ = ["OUR_KEY", "read_levels", "read_zarr"]

OUR_KEY = "napari-shiftseg"
"""Root attribute of the stores that this package writes."""

_MARKERS = ("zarr.json", ".zgroup", ".zarray", ".zattrs")


def read_zarr(path: Path, scene: int | None) -> Image:
    """Image at full resolution from a zarr folder, lazily.

    Parameters
    ----------
    path : Path
        OME-Zarr image group, store of several images (bioformats2raw layout), or plain zarr array.
    scene : int, optional
        Which of several images; the first when None.

    Raises
    ------
    ImageError
        If the folder is no zarr store, or its metadata are broken or of a version other than 0.4 and 0.5.
    """
    if not any((path / marker).is_file() for marker in _MARKERS):
        raise ImageError(f"{path.name} is a folder without zarr metadata; give an image file or a .zarr folder.")
    node = zarr.open(str(path), mode="r")
    if isinstance(node, zarr.Array):
        return _plain(node, path)
    attributes: dict[str, Any] = dict(node.attrs)
    ours = attributes.get(OUR_KEY)
    if isinstance(ours, dict) and ours.get("image") is False:
        raise ImageError(f"{path.name} is a result that was saved without its image; give the image itself.")
    ome: Any = attributes.get("ome", attributes)
    if "bioformats2raw.layout" in ome and "multiscales" not in ome:
        return _series(node, path, scene)
    if "plate" in ome or "well" in ome:
        raise ImageError(f"{path.name} is an OME-Zarr plate or well; give one of its images (row/column/field).")
    return _multiscale(node, ome, path, scene)


def read_levels(path: Path) -> tuple[zarr.Array[Any], ...]:
    """Arrays of an OME-Zarr image group, the largest first; `ImageError` if the group or one of them is broken."""
    group = zarr.open_group(str(path), mode="r")
    ome: Any = group.attrs.get("ome", dict(group.attrs))
    entry = ome["multiscales"][0]
    multiscale = _validated(entry, str(ome.get("version", entry.get("version"))), path)
    return tuple(_levels(group, multiscale, path))


def _plain(array: zarr.Array[Any], path: Path) -> Image:
    names = getattr(array.metadata, "dimension_names", None)
    raw = "".join(str(name or "?")[:1] if len(str(name or "?")) == 1 else "?" for name in names) if names else ""
    if {"y", "x"} <= set(raw.lower()):
        letters, note = name_axes(raw, array.shape)
    else:
        axes, note = guess_axes(array.shape, array.dtype)
        letters = tuple(axes)
    return _image(array, letters, [1.0] * array.ndim, [None] * array.ndim, path=path, name=_name(path), note=note)


def _series(group: zarr.Group, path: Path, scene: int | None) -> Image:
    names = sorted((name for name in group.group_keys() if name.isdecimal()), key=int)
    if not names or (scene is not None and not 0 <= scene < len(names)):
        raise ImageError(f"{path.name} has {len(names)} scenes, numbered from 0, scene {scene or 0} was asked for.")
    child = group[names[scene or 0]]
    attributes: dict[str, Any] = dict(child.attrs)
    note = f"The store holds {len(names)} images; the first was read." if scene is None and len(names) > 1 else ""
    if not isinstance(child, zarr.Group):
        raise ImageError(f"{path.name}/{names[scene or 0]} is not an OME-Zarr image.")
    return _multiscale(child, attributes.get("ome", attributes), path, None, note=note)


def _multiscale(group: zarr.Group, ome: Any, path: Path, scene: int | None, *, note: str = "") -> Image:
    entries = ome.get("multiscales")
    if not isinstance(entries, list) or not entries:
        raise ImageError(f"{path.name} is a zarr group without OME-Zarr image metadata; give an image group.")
    if scene is not None and not 0 <= scene < len(entries):
        raise ImageError(f"{path.name} has {len(entries)} scenes (0-{len(entries) - 1}), scene {scene} was asked for.")
    if scene is None and len(entries) > 1:
        note = f"The store holds {len(entries)} images; the first was read."
    entry = entries[scene or 0]
    multiscale = _validated(entry, str(ome.get("version", entry.get("version"))), path)
    array = _levels(group, multiscale, path)[0]
    letters, guess = name_axes("".join(_axis_letter(axis) for axis in multiscale.axes), array.shape)
    scale = _vector(multiscale.datasets[0].coordinateTransformations, array.ndim)
    if multiscale.coordinateTransformations:
        whole = _vector(multiscale.coordinateTransformations, array.ndim)
        scale = [step * factor for step, factor in zip(scale, whole, strict=True)]
    units = [unit_name(axis.unit) for axis in multiscale.axes]
    name = multiscale.name if isinstance(multiscale.name, str) and multiscale.name else _name(path)
    note = " ".join(part for part in (note, guess) if part)
    return _image(array, letters, scale, units, path=path, name=name, note=note)


def _validated(entry: Any, version: str, path: Path) -> Any:
    """The `multiscales` entry as a checked model of the specification; older and newer versions are refused."""
    from ome_zarr_models import v04, v05

    models: dict[str, Any] = {"0.4": v04.multiscales.Multiscale, "0.5": v05.multiscales.Multiscale}
    if version not in models:
        raise ImageError(f"{path.name} is OME-Zarr of version {version}; convert it to version 0.4 or 0.5.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the model can mend is no news for the user
            return models[version].model_validate(entry)
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ImageError(f"{path.name} has broken OME-Zarr metadata (multiscales.{where}: {first['msg']}).") from exc


def _levels(group: zarr.Group, multiscale: Any, path: Path) -> list[zarr.Array[Any]]:
    levels = []
    for dataset in multiscale.datasets:
        array = group.get(dataset.path)
        if not isinstance(array, zarr.Array):
            raise ImageError(
                f"{path.name} has broken OME-Zarr metadata: they name the array {dataset.path}, which is not there."
            )
        if array.ndim != len(multiscale.axes):
            raise ImageError(
                f"{path.name} has broken OME-Zarr metadata: they name {len(multiscale.axes)} axes, "
                f"but the array {dataset.path} has shape {array.shape}."
            )
        levels.append(array)
    return levels


def _axis_letter(axis: Any) -> str:
    by_type = {"time": "t", "channel": "c"}.get(axis.type)
    name = str(axis.name)
    return by_type or (name if len(name) == 1 else "?")


def _vector(transforms: Any, ndim: int) -> list[float]:
    scales = (getattr(transform, "scale", None) for transform in transforms)
    found = next((scale for scale in scales if scale is not None), None)
    return [float(step) for step in found] if found is not None and len(found) == ndim else [1.0] * ndim


def _name(path: Path) -> str:
    return path.resolve().name.split(".")[0]


def _image(
    array: zarr.Array[Any],
    letters: tuple[str | None, ...],
    scale: list[float],
    units: list[str | None],
    *,
    path: Path,
    name: str,
    note: str,
) -> Image:
    kept = [axis for axis, letter in enumerate(letters) if letter]
    data: ArrayLike = native(array, name)
    if len(kept) < len(letters):
        picks = [range(size) if letter else 0 for letter, size in zip(letters, array.shape, strict=True)]
        data = View(array, picks, kept, name=name)
    return Image(
        data=data,
        axes="".join(letters[axis] or "" for axis in kept),
        scale=tuple(scale[axis] if scale[axis] > 0 else 1.0 for axis in kept),
        units=tuple(units[axis] for axis in kept),
        name=name,
        source=str(path),
        note=note,
    )
