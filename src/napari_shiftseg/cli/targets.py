"""Where the results of images go: `Targets` of one image, and those of a batch, each under a name of its own."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_shiftseg.errors import ResultError, SettingsError

__all__ = ["NAMING", "Targets", "names_of", "targets_of"]

NAMING = "named after their image, with its folder in front (p1_im, p2_im) where two images have one name"
"""How results in a folder are named, for `--help`."""

_SUFFIX = {"store": ".ome.zarr", "labels": ".tif", "picture": ".png", "table": ".csv"}


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Where the results of one image go."""

    store: Path | None
    labels: Path | None
    picture: Path | None
    table: Path | None = None

    def files(self) -> list[Path]:
        """Files that were asked for."""
        return [path for path in (self.labels, self.picture, self.table) if path is not None]

    def stores(self) -> list[Path]:
        """The store, if one was asked for."""
        return [] if self.store is None else [self.store]


def targets_of(args: argparse.Namespace, images: Sequence[str]) -> list[Targets]:
    """Targets of each image of `shiftseg segment`; those of several are in folders, which are made.

    Raises
    ------
    SettingsError
        If no result was asked for, or two images cannot have results of different names.
    ResultError
        If a folder cannot be made.
    """
    wished = {"store": args.out, "labels": args.labels_tiff, "picture": args.picture, "table": args.table}
    if not any(wished.values()) and not args.dry_run:
        raise SettingsError("no result was asked for; give --out, --labels-tiff, --picture or --table.")
    if len(images) == 1:
        return [Targets(**wished)]
    names = names_of(images)
    for folder in filter(None, wished.values()):
        _make_folder(folder)
    return [Targets(**{kind: folder and folder / (name + _SUFFIX[kind]) for kind, folder in wished.items()}) for name in names]


def names_of(images: Sequence[str | Path]) -> list[str]:
    """A name for the results of each image: its own, without suffix, and as much more as it takes to tell it from the others.

    That is its suffix where another image lies beside it, and the names of its folders, as many as are needed. Capital letters
    make no difference, since some file systems know none.

    Raises
    ------
    SettingsError
        If an image was given twice, or nothing tells two from each other.

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


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ResultError(f"{folder} cannot be the folder of several results ({exc.strerror}); name another.") from exc
