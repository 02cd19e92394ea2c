"""OME-Zarr 0.4 and 0.5 in, what their entries say of the axes, and plain zarr arrays."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from zipfile import ZipFile

import zarr
from pydantic import ValidationError

from napari_shiftseg.errors import ImageError
from napari_shiftseg.io.axes import guess_axes, name_axes, named_axes, steps_of, unit_name
from napari_shiftseg.io.image import Image, native
from napari_shiftseg.io.store import ReadStore, ReadZip, check_planes, missing_chunks
from napari_shiftseg.views import ArrayLike, View

OUR_KEY = "napari-shiftseg"
"""Root attribute of the stores that this package writes."""

_MARKERS = ("zarr.json", ".zgroup", ".zarray", ".zattrs")


def is_store(path: Path) -> bool:
    """Whether a folder is a zarr group or array, by the files in it."""
    return any((path / marker).is_file() for marker in _MARKERS)


def read_zarr(path: Path, scene: int | None) -> Image:
    """Image at full resolution from a zarr folder or a zip file of one, lazily.

    ImageError if the folder is no zarr store, or its metadata are broken or of a version other than 0.4 and 0.5.

    Parameters
    ----------
    path : Path
        OME-Zarr image group, store of several images (bioformats2raw layout), or plain zarr array.
    scene : int, optional
        Which of several images; the first when None.
    """
    return read_pyramid(path, scene)[0]


def read_pyramid(path: Path, scene: int | None = None) -> tuple[Image, tuple[zarr.Array[Any], ...]]:
    """As `read_zarr`, with all levels of the image as they lie on disk, the largest first."""
    node = _node(path)
    if isinstance(node, zarr.Array):
        return _plain(node, path), (node,)
    attributes: dict[str, Any] = dict(node.attrs)
    ours = attributes.get(OUR_KEY)
    if isinstance(ours, dict) and ours.get("image") is False:
        raise ImageError(f"{path.name} is a result that was saved without its image; give the image itself.")
    ome: Any = attributes.get("ome", attributes)
    names = _several(node, ome)
    return _multiscale(node, ome, path, scene=scene) if names is None else _one_of(node, names, path, scene=scene)


def zarr_scenes(path: Path) -> tuple[str, ...]:
    """Names of the images of a store."""
    node = _node(path)
    if isinstance(node, zarr.Array):
        return ()
    attributes: dict[str, Any] = dict(node.attrs)
    ome = attributes.get("ome", attributes)
    names = _several(node, ome)
    if names is not None:
        return tuple(names)
    entries = ome.get("multiscales")
    entries = entries if isinstance(entries, list) else []
    return tuple(str(entry.get("name") or f"image {number}") for number, entry in enumerate(entries))


def _several(group: zarr.Group, ome: Any) -> list[str] | None:
    """Paths of the images of a store of several, of a plate or of a well, in their order; None for a store of one image."""
    if "bioformats2raw.layout" in ome and "multiscales" not in ome and "plate" not in ome:
        return sorted((name for name in group.group_keys() if name.isdecimal()), key=int)
    if "well" in ome:
        return [str(image["path"]) for image in ome["well"].get("images", ())]
    if "plate" not in ome:
        return None
    found = []
    for well in ome["plate"].get("wells", ()):
        attributes: dict[str, Any] = dict(group[str(well["path"])].attrs)
        fields = attributes.get("ome", attributes)["well"].get("images", ())
        found += [f"{well['path']}/{field['path']}" for field in fields]
    return found


def _node(path: Path) -> zarr.Array[Any] | zarr.Group:
    """Group or array at the root of a store; of a zip file, at its root or in the one folder that it holds."""
    if path.is_dir():
        if not is_store(path):
            raise ImageError(f"{path.name} is a folder without zarr metadata; give an image file or a .zarr folder.")
        return zarr.open(ReadStore(path), mode="r", use_consolidated=False)
    with ZipFile(path) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    inner = next((folder for folder in ("", *sorted(tops)) if any(_joined(folder, m) in names for m in _MARKERS)), None)
    if inner is None or (inner and len(tops) > 1):
        raise ImageError(f"{path.name} is a zip file without one zarr store in it; unpack it and give the image.")
    return zarr.open(ReadZip(path, mode="r"), mode="r", path=inner, use_consolidated=False)


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def read_levels(path: Path) -> tuple[zarr.Array[Any], ...]:
    """Arrays of an OME-Zarr image group, the largest first; `ImageError` if the group or one of them is broken."""
    group = zarr.open_group(ReadStore(path), mode="r", use_consolidated=False)
    ome: Any = group.attrs.get("ome", dict(group.attrs))
    entry = ome["multiscales"][0]
    return tuple(_levels(group, read_entry(entry, str(ome.get("version", entry.get("version"))), path.name), path))


def _plain(array: zarr.Array[Any], path: Path) -> Image:
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS") or ()
    none = [None] * array.ndim
    raw = named_axes(names, none, none) if isinstance(names, (list, tuple)) and len(names) == array.ndim else ""
    note = ""
    if {"y", "x"} <= set(raw):
        letters, assumed = name_axes(raw, array.shape)
    else:
        axes, assumed = guess_axes(array.shape, array.dtype)
        letters = tuple(axes)
        if names and any(names if isinstance(names, (list, tuple)) else [names]):
            note = f"Its names of axes, {' '.join(str(names).split())[:60]}, do not say which is which, and were left aside."
    return _image(array, letters, Entry.bare(array.ndim), path=path, name=_name(path), note=note, assumed=assumed)


def _one_of(group: zarr.Group, names: list[str], path: Path, *, scene: int | None) -> tuple[Image, tuple[zarr.Array[Any], ...]]:
    if not names or (scene is not None and not 0 <= scene < len(names)):
        raise ImageError(f"{path.name} has {len(names)} scenes, numbered from 0, scene {scene or 0} was asked for.")
    child = group[names[scene or 0]]
    attributes: dict[str, Any] = dict(child.attrs)
    note = f"The store holds {len(names)} images; the first was read." if scene is None and len(names) > 1 else ""
    if not isinstance(child, zarr.Group):
        raise ImageError(f"{path.name}/{names[scene or 0]} is not an OME-Zarr image.")
    return _multiscale(child, attributes.get("ome", attributes), path, note=note)


def _multiscale(
    group: zarr.Group, ome: Any, path: Path, *, scene: int | None = None, note: str = ""
) -> tuple[Image, tuple[zarr.Array[Any], ...]]:
    entries = ome.get("multiscales")
    if not isinstance(entries, list) or not entries:
        raise ImageError(f"{path.name} is a zarr group without OME-Zarr image metadata; give an image group.")
    if scene is not None and not 0 <= scene < len(entries):
        raise ImageError(f"{path.name} has {len(entries)} scenes (0-{len(entries) - 1}), scene {scene} was asked for.")
    if scene is None and len(entries) > 1:
        note = f"The store holds {len(entries)} images; the first was read."
    entry = read_entry(entries[scene or 0], str(ome.get("version", entries[scene or 0].get("version"))), path.name)
    levels = _levels(group, entry, path)
    array = levels[0]
    letters, assumed = name_axes(entry.axes, array.shape)
    channels = _channel_names(ome, array.shape[letters.index("c")] if "c" in letters else 0)
    found: dict[str, Any] = {"name": entry.name or _name(path), "note": note, "assumed": assumed, "channels": channels}
    return _image(array, letters, entry, path=path, **found), tuple(levels)


def _channel_names(ome: Any, count: int) -> tuple[str, ...]:
    """Labels in the settings of the OMERO viewer, where there is one for each channel."""
    omero = ome.get("omero")
    shown = omero.get("channels") if isinstance(omero, dict) else None
    if not isinstance(shown, list) or len(shown) != count:
        return ()
    names = tuple(str(one.get("label", "")) if isinstance(one, dict) else "" for one in shown)
    return names if any(names) else ()


def _levels(group: zarr.Group, entry: Entry, path: Path) -> list[zarr.Array[Any]]:
    levels = []
    for name in entry.paths:
        array = group.get(name)
        if not isinstance(array, zarr.Array):
            raise ImageError(f"{path.name} has broken OME-Zarr metadata: they name the array {name}, which is not there.")
        if array.ndim != len(entry.axes):
            raise ImageError(
                f"{path.name} has broken OME-Zarr metadata: they name {len(entry.axes)} axes, "
                f"but the array {name} has shape {array.shape}."
            )
        levels.append(array)
    return levels


def _name(path: Path) -> str:
    return path.resolve().name.split(".")[0]


def _image(
    array: zarr.Array[Any],
    letters: tuple[str | None, ...],
    entry: Entry,
    *,
    path: Path,
    name: str,
    note: str = "",
    assumed: str = "",
    channels: tuple[str, ...] = (),
) -> Image:
    kept = [axis for axis, letter in enumerate(letters) if letter]
    axes = "".join(letters[axis] or "" for axis in kept)
    check_planes(array, math.prod(array.shape[axis] for axis in kept if letters[axis] not in ("y", "x")), name)
    data: ArrayLike = native(array, name)
    if len(kept) < len(letters):
        picks = [range(size) if letter else 0 for letter, size in zip(letters, array.shape, strict=True)]
        data = View(array, picks, kept, name=name)
    scale, changed = steps_of([entry.scale[axis] for axis in kept], axes)
    translation = tuple(entry.translation[axis] for axis in kept)
    return Image(
        data=data,
        axes=axes,
        scale=scale,
        units=tuple(entry.units[axis] for axis in kept),
        name=name,
        source=str(path),
        note=" ".join(part for part in (note, assumed, *entry.notes, changed, missing_chunks(array)) if part),
        translation=translation if any(translation) else (),
        channels=channels,
        assumed=assumed,
    )


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What an entry says, one value per axis."""

    axes: str  # as `name_axes` takes them
    units: tuple[str | None, ...]
    # scale, translation: of the first level, those of the whole image worked in; a step may be negative or zero
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    paths: tuple[str, ...] = ()  # of the levels, the largest first
    name: str = ""
    notes: tuple[str, ...] = ()  # sentences on what is wrong or could not be used

    @classmethod
    def bare(cls, ndim: int) -> Self:
        """Of an array that nothing describes."""
        return cls(axes="?" * ndim, units=(None,) * ndim, scale=(1.0,) * ndim, translation=(0.0,) * ndim)


def read_entry(entry: Any, version: str, name: str) -> Entry:
    """An entry, checked by the model of the specification; where only its steps are wrong, that becomes a note.

    ImageError if the version is another one, or axes or levels are not usable.

    Parameters
    ----------
    version : str
        Of the specification.
    name : str
        How error messages call the store.
    """
    from ome_zarr_models import v04, v05

    models: dict[str, Any] = {"0.4": v04.multiscales.Multiscale, "0.5": v05.multiscales.Multiscale}
    if version not in models:
        raise ImageError(f"{name} is OME-Zarr of version {version}; convert it to version 0.4 or 0.5.")
    fault = _fault(entry, models[version])
    axes = _axes(entry)
    paths = _paths(entry)
    if not axes or not paths:
        raise ImageError(f"{name} has broken OME-Zarr metadata ({fault or 'no axes or no levels'}).")
    places = [("datasets", entry["datasets"][0].get("coordinateTransformations")), ("", entry.get("coordinateTransformations"))]
    scale, translation, notes = _placed([transforms for _, transforms in places], len(axes))
    if fault and not notes:
        notes.append(f"The OME-Zarr metadata break a rule ({fault}); they were read as far as they go.")
    names, kinds, units = ([axis.get(key) for axis in axes] for key in ("name", "type", "unit"))
    given = entry.get("name")
    return Entry(
        axes=named_axes(names, kinds, units),
        units=tuple(unit_name(unit) for unit in units),
        scale=tuple(scale),
        translation=tuple(translation),
        paths=paths,
        name=given if isinstance(given, str) else "",
        notes=tuple(notes),
    )


def _fault(entry: Any, model: Any) -> str:
    """The first rule that the entry breaks, "" where it keeps them all."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the model can mend is no news for the user
            model.model_validate(entry)
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"multiscales.{where}: {first['msg']}"
    return ""


def _axes(entry: Any) -> list[dict[str, Any]]:
    """Axes that have a name each, else none."""
    axes = entry.get("axes") if isinstance(entry, dict) else None
    sound = isinstance(axes, list) and all(isinstance(axis, dict) and isinstance(axis.get("name"), str) for axis in axes)
    return list(axes) if sound and axes is not None else []


def _paths(entry: Any) -> tuple[str, ...]:
    datasets = entry.get("datasets") if isinstance(entry, dict) else None
    if not isinstance(datasets, list) or not all(
        isinstance(one, dict) and isinstance(one.get("path"), str) for one in datasets
    ):
        return ()
    return tuple(one["path"] for one in datasets)


def _placed(steps: Sequence[Any], ndim: int) -> tuple[list[float], list[float], list[str]]:
    """Scale and translation of transformations in the order in which they are applied, and what could not be used of them."""
    scale, translation, notes = [1.0] * ndim, [0.0] * ndim, []
    if not steps[0]:
        notes.append("The OME-Zarr metadata give no step; 1 pixel was taken.")
    for transform in (one for transforms in steps if isinstance(transforms, list) for one in transforms):
        kind = transform.get("type") if isinstance(transform, dict) else None
        vector = _vector(transform.get(kind), ndim) if kind in ("scale", "translation") else None
        if vector is None:
            if kind != "identity":
                notes.append(f"A transformation of type {kind!r} in the OME-Zarr metadata is not usable and was left out.")
        elif kind == "scale":
            scale = [step * factor for step, factor in zip(scale, vector, strict=True)]
            translation = [start * factor for start, factor in zip(translation, vector, strict=True)]
        else:
            translation = [start + shift for start, shift in zip(translation, vector, strict=True)]
    if not all(map(math.isfinite, translation)):
        notes.append("A translation in the OME-Zarr metadata is no number; 0 was taken.")
    return scale, [start if math.isfinite(start) else 0.0 for start in translation], notes


def _vector(values: Any, ndim: int) -> list[float] | None:
    if not isinstance(values, list) or len(values) != ndim:
        return None
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError):
        return None
