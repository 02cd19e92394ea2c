"""Folders of images with masks: `images/` and `masks/` of equal names, and an optional `meta.csv`."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_shiftseg.cli.constants import LARGEST_TABLE
from napari_shiftseg.errors import ImageError, SettingsError

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_shiftseg.io import Image


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An image file, its mask, and what `meta.csv` says of it."""

    name: str
    image: Path
    mask: Path
    row: Mapping[str, str] = field(default_factory=dict)


def find_pairs(folders: Sequence[str | Path], split: str | None = None) -> list[Pair]:
    """Pairs of all folders: in the order of the rows of `meta.csv`, or else of the sorted names.

    ImageError, SettingsError if a folder, a mask or a column is missing, or nothing is left. `split`: keeps the rows of
    `meta.csv` whose column "split" says so; several names are parted by commas.
    """
    pairs = [pair for folder in folders for pair in _pairs_of(Path(folder), split)]
    if not pairs:
        names = ", ".join(map(str, folders))
        which = f" of the split {split!r}" if split is not None else ""
        raise SettingsError(f"there are no images{which} in {names}; choose another folder or --split.")
    return pairs


def files_of(pairs: Sequence[Pair]) -> list[Path]:
    """The files that are read of pairs."""
    tables = dict.fromkeys(pair.image.parent.parent / "meta.csv" for pair in pairs)
    return [*tables, *(path for pair in pairs for path in (pair.image, pair.mask))]


def describe_data(pairs: Sequence[Pair], split: str | None) -> str:
    """Data in words, for the record of a model."""
    folders = {pair.image.parent.parent.resolve().name: None for pair in pairs}
    which = f" ({split})" if split is not None else ""
    return f"{', '.join(folders)}{which}: {len(pairs)} images"


Notes: TypeAlias = dict[str, list[str]]
"""What was found of files on reading, such as pixels that lack, with the names of those files."""


def describe_notes(notes: Notes) -> list[str]:
    """A sentence each.

    >>> describe_notes({"It lacks a plane.": ["a.tif", "b.tif"], "Its alpha was dropped.": ["c.png"]})
    ['a.tif and 1 more: It lacks a plane.', 'c.png: Its alpha was dropped.']
    """
    more = {note: f" and {len(names) - 1} more" * (len(names) > 1) for note, names in notes.items()}
    return [f"{names[0]}{more[note]}: {note}" for note, names in notes.items()]


def read_pair(pair: Pair, notes: Notes) -> tuple[Image, npt.NDArray[Any]]:
    """Image and labels, which have its axes except the channels; `notes` gets what was found, but for guesses at axes."""
    import numpy as np

    from napari_shiftseg.io import read_image

    image, labels = read_image(pair.image), read_image(pair.mask)
    for path, one in ((pair.image, image), (pair.mask, labels)):
        if note := " ".join(one.note.replace(one.assumed, "").split()):
            notes.setdefault(note, []).append(str(path))
    mask = np.asarray(labels.data[...])
    wanted = tuple(size for axis, size in image.sizes.items() if axis != "c")
    if mask.shape != wanted:
        raise ImageError(f"the mask {pair.mask} has shape {mask.shape} and its image {wanted}; give masks of equal shape.")
    if mask.dtype.kind not in "iub":
        raise ImageError(f"the mask {pair.mask} holds {mask.dtype} values; give integers, one number per object.")
    return image, mask.astype(np.uint8) if mask.dtype.kind == "b" else mask


def _pairs_of(folder: Path, split: str | None) -> list[Pair]:
    if not (folder / "images").is_dir() or not (folder / "masks").is_dir():
        raise ImageError(f"{folder} has no folders images and masks; give a folder that has both, with equal names.")
    images, masks = _by_stem(folder / "images"), _by_stem(folder / "masks")
    table = folder / "meta.csv"
    rows = _rows(table, split) if table.is_file() else {name: {} for name in sorted(images)}
    if split is not None and not table.is_file():
        raise SettingsError(f"the split {split!r} was asked for, but {folder} has no meta.csv; leave --split out.")
    for name in rows:
        if name not in images or name not in masks:
            kind = "mask" if name in images else "image"
            raise ImageError(f"{folder} has no {kind} called {name}; add it, or remove its counterpart.")
    return [Pair(name=name, image=images[name], mask=masks[name], row=row) for name, row in rows.items()]


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not path.name.startswith("."):
            found.setdefault(path.name.partition(".ome.")[0] if ".ome." in path.name else path.stem, path)
    return found


def _rows(table: Path, split: str | None) -> dict[str, dict[str, str]]:
    if (size := table.stat().st_size) > LARGEST_TABLE:
        raise SettingsError(f"{table} has {size} bytes, more than a list of images takes; give a row for each image.")
    data = table.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", "replace")
    else:
        try:
            text = data.decode("utf-8-sig")  # spreadsheets put a mark in front
        except UnicodeDecodeError:
            text = data.decode("latin-1")
    first = text.split("\n", 1)[0]
    try:
        rows = list(csv.DictReader(text.splitlines(), delimiter=max(",;\t", key=first.count)))
    except csv.Error as exc:
        raise SettingsError(f"{table} is no table ({exc}); give a CSV file, or remove it.") from exc
    columns = set(rows[0]) if rows else set()
    missing = ({"id"} | ({"split"} if split is not None else set())) - columns
    if missing:
        raise SettingsError(f"{table} has no column {' and '.join(sorted(missing))}; add it or remove the file.")
    wanted = None if split is None else [name.strip() for name in split.split(",")]
    return {row["id"]: row for row in rows if wanted is None or row["split"] in wanted}
