"""`Stamp`: what the files of an image look like from outside, so that pixels need reading again only where that changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr

from napari_shiftseg.io.constants import DIGEST
from napari_shiftseg.views import ArrayLike


class Stamp(NamedTuple):
    """Hashes of what the system says of the files of an image."""

    written: str  # names, sizes, numbers and times of writing
    touched: str  # times of the last change of an entry, which other rights set as well, and which nobody can set back


def stamp_of(data: ArrayLike) -> Stamp | None:
    """What the files look like that the values of an array are read from.

    None for values in memory, for those that are computed, and for sources that nothing is known of. `data`: of an image that
    was opened, or views of it.
    """
    places = files_of(data)
    if places is None:
        return None
    written, touched = (hashlib.blake2b(digest_size=DIGEST) for _ in range(2))
    for place in places:
        for name, seen in sorted(_entries(place), key=lambda entry: entry[0]):
            written.update(f"{name!r} {seen.st_size} {seen.st_mtime_ns} {seen.st_ino}\n".encode())
            touched.update(f"{seen.st_ctime_ns}\n".encode())
    return Stamp(written.hexdigest(), touched.hexdigest())


def files_of(data: ArrayLike) -> tuple[Path, ...] | None:
    """Files and folders that the values of an array are read from; None where that is not known, or in memory."""
    found: Any = data
    while getattr(found, "source", None) is not None:
        found = found.source
    if isinstance(found, np.ndarray):
        return _mapped(found)
    if not isinstance(found, zarr.Array):
        return None
    store: Any = found.store
    if isinstance(getattr(store, "root", None), Path):
        return (store.root / found.path,)
    if isinstance(getattr(store, "path", None), Path):  # one file, such as a zip
        return (store.path,)
    series = getattr(store, "_data", None)  # of tifffile, which has no other name for it
    if series:
        pages = [page for page in series[0].pages if page is not None]
        return tuple(sorted({Path(page.parent.filehandle.path) for page in pages})) or None
    return None


def _mapped(array: np.ndarray[Any, Any]) -> tuple[Path, ...] | None:
    base: Any = array
    while base is not None:
        if isinstance(base, np.memmap) and base.filename is not None:
            return (Path(base.filename),)
        base = getattr(base, "base", None)
    return None


def _entries(place: Path) -> Iterator[tuple[str, os.stat_result]]:
    """All files at a place, or below it."""
    try:
        if not place.is_dir():
            yield place.name, place.stat()
            return
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.is_dir():
                    yield from ((f"{entry.name}/{name}", seen) for name, seen in _entries(Path(entry.path)))
                else:
                    yield entry.name, entry.stat()
    except OSError:  # what is gone is another image than what was there
        return
