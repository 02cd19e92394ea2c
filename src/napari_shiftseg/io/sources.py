"""`find_images`: the images in a folder, on an OME-Zarr plate or in a store, and a name for the results of each."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from napari_shiftseg.errors import ImageError, SettingsError
from napari_shiftseg.files import path_of
from napari_shiftseg.io.image import IMAGE_SUFFIXES, looks_like_image, read_image
from napari_shiftseg.io.ome_zarr import is_store
from napari_shiftseg.io.store import ReadStore
from napari_shiftseg.io.stored_result import our_attributes


@dataclass(frozen=True, kw_only=True)
class Source:
    """An image that was found.

    Attributes
    ----------
    path : Path
        What `read_image` reads.
    name : str
        How lists and tables call it: where it lies below the folder that was given.
    scene : int or None
        Which image of a store that holds several.
    called : Path
        A file of whose name its results get theirs: itself, of a field one beside its plate that says well and field.
    """

    path: Path
    name: str
    scene: int | None = None
    called: Path

    @property
    def weight(self) -> float:
        """About how long it takes beside others: bytes of its file, or of the pixels of a store."""
        try:
            if self.path.is_file():
                return float(self.path.stat().st_size)
            image = read_image(self.path, scene=self.scene)
            return float(prod(image.data.shape) * np.dtype(image.data.dtype).itemsize)
        except (ImageError, OSError):
            return 1.0


def find_images(place: str | Path, pattern: str = "*", *, recursive: bool = False) -> list[Source]:
    """The images at a place, in the order of their names (2 before 10), on a plate in the order of its wells.

    Parameters
    ----------
    place : str or Path
        A folder of images, an OME-Zarr plate or well, a store of several images, or one image.
    pattern : str
        Of the names of files in a folder, such as ``*.tif``, or several with ";" between them; capitals make no difference. A
        pattern with "/" is one of paths below the folder. With ``*`` files that are no images are left out, with any other
        pattern all that match are taken.
    recursive : bool
        Look in the folders of a folder as well.

    Returns
    -------
    list of Source
        Without hidden files, and without results of this package. A plate in a folder stands for its fields.

    Raises
    ------
    ImageError
        If there is no such place, nothing in it matches, or a plate does not say what is on it.

    >>> from importlib.resources import files
    >>> [found.name for found in find_images(str(files("napari_shiftseg") / "samples"), "nuclei-he*.tif")]
    ['nuclei-he.tif', 'nuclei-he_truth.tif']
    """
    place = path_of(place, "a place of images", ImageError)
    if not place.exists():
        raise ImageError(f"there is no {place}; check the path.")
    if not place.is_dir():
        return [Source(path=place, name=place.name, called=place)]
    if is_store(place):
        return list(_in_store(place, place.name))
    found = list(_in_folder(place, _patterns(pattern), recursive=recursive))
    if not found:
        below = " and the folders in it hold" if recursive else " holds"
        raise ImageError(f"{place}{below} no image that matches {pattern}; give another folder or pattern.")
    return found


def would_find(place: str | Path, path: Path, pattern: str = "*", *, recursive: bool = False) -> bool:
    """Whether `find_images` would take a file, once it is written, for an image of a folder."""
    found, base = Path(os.path.realpath(path.parent), path.name), Path(os.path.realpath(place))
    if not found.is_relative_to(base):
        return False
    inner = found.relative_to(base)
    seen = not any(map(_hidden, inner.parts)) and (recursive or len(inner.parts) == 1)
    named = _patterns(pattern) != ["*"] or inner.suffix.lower().lstrip(".") in IMAGE_SUFFIXES
    return seen and named and _matches(inner.as_posix(), _patterns(pattern))


def _patterns(text: str) -> list[str]:
    return [part.strip() for part in text.split(";") if part.strip()] or ["*"]


def _in_folder(place: Path, patterns: Sequence[str], *, recursive: bool) -> Iterator[Source]:
    for folder, folders, names in os.walk(place):
        at = Path(folder)
        stores = [name for name in folders if not _hidden(name) and is_store(at / name)]
        for name in sorted([*(name for name in names if not _hidden(name)), *stores], key=_natural):
            path = at / name
            shown = path.relative_to(place).as_posix()
            if not _matches(shown, patterns):
                continue
            if name in stores:
                yield from _in_store(path, shown) if our_attributes(path) is None else ()
            elif patterns != ["*"] or looks_like_image(path):
                yield Source(path=path, name=shown, called=path)
        deeper = [name for name in folders if not _hidden(name) and name not in stores]
        folders[:] = sorted(deeper, key=_natural) if recursive else []


def _in_store(path: Path, shown: str) -> Iterator[Source]:
    """The fields of a plate or a well, the images of a store of several, or the one image that a store is."""
    ome = _attributes(path)
    if isinstance(ome.get("plate"), dict):
        for well in _listed(ome["plate"], "wells", path):
            yield from _fields(path / well, f"{shown}/{well}", path)
    elif isinstance(ome.get("well"), dict):
        yield from _fields(path, shown, path)
    elif "bioformats2raw.layout" in ome and "multiscales" not in ome:
        numbers = sorted(int(child.name) for child in path.iterdir() if child.name.isdecimal() and child.is_dir())
        for scene, number in enumerate(numbers):
            yield Source(path=path, name=f"{shown}/{number}", scene=scene, called=_beside(path, f"{number}"))
    else:
        yield Source(path=path, name=shown, called=path)


def _fields(well: Path, shown: str, store: Path) -> Iterator[Source]:
    """The fields of a well; of one that does not say them the well itself, so that its error is one of many images."""
    try:
        names = _listed(_attributes(well)["well"], "images", well)
    except (ImageError, KeyError):
        names = [""]
    for name in names:
        field = well / name
        yield Source(path=field, name=f"{shown}/{name}".rstrip("/"), called=_beside(store, str(field.relative_to(store))))


def _beside(store: Path, inner: str) -> Path:
    """A file beside a store that says what of it is meant."""
    return store.with_name(f"{_stem(store)}_{re.sub(r'[^A-Za-z0-9]+', '_', inner)}.zarr")


def _listed(entry: Any, key: str, path: Path) -> list[str]:
    """Paths of wells or fields, none of which leads out of the store."""
    entries = entry.get(key) if isinstance(entry, dict) else None
    names = [one.get("path") if isinstance(one, dict) else None for one in entries] if isinstance(entries, list) else [None]
    if not names or not all(isinstance(name, str) and re.fullmatch(r"[\w.-]+(/[\w.-]+)*", name) for name in names):
        raise ImageError(f"{path.name} is an OME-Zarr plate or well with broken metadata; its {key} have no paths.")
    if any(".." in str(name).split("/") for name in names):
        raise ImageError(f"{path.name} is an OME-Zarr plate or well with broken metadata; a path leads out of it.")
    return [str(name) for name in names]


def _attributes(path: Path) -> dict[str, Any]:
    """What a zarr group says by the keys of OME-Zarr, {} where it says nothing."""
    try:
        attributes: dict[str, Any] = dict(zarr.open_group(ReadStore(path), mode="r", use_consolidated=False).attrs)
    except Exception:  # noqa: BLE001  # whatever is broken there, who reads it as an image has a sentence for it
        return {}
    ome = attributes.get("ome", attributes)
    return ome if isinstance(ome, dict) else {}


def _matches(shown: str, patterns: Sequence[str]) -> bool:
    name = shown.rpartition("/")[2]
    return any(fnmatch((shown if "/" in one else name).casefold(), one.casefold()) for one in patterns)


def _hidden(name: str) -> bool:
    return name.startswith(".")


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Numbers by their value, letters without regard to capitals."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts if part], name


# -- names -------------------------------------------------------------------------------------------------------------


def names_of(images: Sequence[str | Path]) -> list[str]:
    """A name for the results of each image: its own, without suffix, and as much more as it takes to tell it from the others.

    That is its suffix where another image lies beside it, and the names of its folders, as many as are needed. Capital letters
    make no difference, since some file systems know none. SettingsError if an image was given twice, or nothing tells two from
    each other.

    >>> names_of(["p1/im.tif", "p2/im.tif", "p1/b.ome.tif", "p1/c.tif", "p1/c.png"])
    ['p1_im', 'p2_im', 'b', 'c.tif', 'c.png']
    """
    places = [Path(os.path.abspath(image)) for image in images]
    if twice := [str(image) for image, place in zip(images, places, strict=True) if places.count(place) > 1]:
        raise SettingsError(f"{twice[0]} was given twice; give each image once.")
    beside = Counter((place.parent, _stem(place).casefold()) for place in places)
    own = [place.name if beside[place.parent, _stem(place).casefold()] > 1 else _stem(place) for place in places]
    more = [0] * len(places)
    while True:
        names = ["_".join((*_folders(place, count), name)) for place, count, name in zip(places, more, own, strict=True)]
        alike: dict[str, list[int]] = {}
        for k, name in enumerate(names):
            alike.setdefault(name.casefold(), []).append(k)
        crowded = [group for group in alike.values() if len(group) > 1]
        if not crowded:
            return names
        for group in crowded:
            most = max(more[k] for k in group)  # an image whose own name is like one with folders in front keeps it
            if all(most > len(places[k].parts) for k in group):
                one, other = images[group[0]], images[group[1]]
                raise SettingsError(f"{one} and {other} would have results of one name; segment them one by one.")
            for k in group:
                more[k] += more[k] == most


def _folders(place: Path, count: int) -> tuple[str, ...]:
    """The last folders of a place, as many as there are."""
    return place.parts[1:-1][-count:] if count else ()


def _stem(path: Path) -> str:
    """Name without the suffixes of images: `a.ome.tif` gives `a`."""
    name = path.name
    for suffix in (path.suffix, ".ome"):
        name = name.removesuffix(suffix) if len(name) > len(suffix) else name
    return name
