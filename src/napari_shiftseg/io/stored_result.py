"""A stored result, opened: its arrays without their pixels, and the record of its run."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt
import zarr

from napari_shiftseg.arguments import told
from napari_shiftseg.errors import ImageError, OutOfMemoryError, ResultError, ShiftsegError
from napari_shiftseg.files import path_of
from napari_shiftseg.geometry import Output
from napari_shiftseg.io.constants import LARGEST_METADATA, STORE_VERSION
from napari_shiftseg.io.ome_zarr import OUR_KEY, read_levels, read_zarr
from napari_shiftseg.io.result_record import check_record
from napari_shiftseg.io.store import ReadStore, description
from napari_shiftseg.machine import free_memory

FOLDERS: Mapping[str, str] = {
    "image": "",
    "labels": "labels/instances",
    "embedding": "embedding",
    "foreground": "foreground",
}

OUTPUT_KEY = f"{OUR_KEY}-output"
"""Attribute of an output that says what it means."""


def folder_of(name: str) -> str:
    """Where "image", "labels" or an output lies in a store."""
    return FOLDERS.get(name, f"outputs/{name}")


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredResult:
    """A result as it lies on disk; arrays are zarr arrays at full resolution, None where the store has none.

    Attributes
    ----------
    path : Path
        The store.
    labels : zarr.Array
        uint32, with the axes in `axes`.
    outputs : mapping of str to zarr.Array
        What the network says, as far as it was written, by name: a vector with axes (t) c (z) y x, such as the embedding, a
        single value with those of the labels, such as the foreground.
    embedding, foreground : zarr.Array or None
        The outputs of these names.
    described : mapping of str to Output
        What the outputs mean; those that older versions wrote have no entry.
    image : zarr.Array or None
        With `image_axes`.
    axes, scale, units, translation : str, tuple, tuple, tuple
        Axes of the labels, and step, unit and place of the first pixel on each.
    image_axes : str
        Axes of the image, "" where there is none.
    record : dict
        What happened, as it was given when the store was written.
    """

    path: Path
    labels: zarr.Array[Any]
    outputs: Mapping[str, zarr.Array[Any]]
    image: zarr.Array[Any] | None
    axes: str
    scale: tuple[float, ...]
    units: tuple[str | None, ...]
    image_axes: str
    record: dict[str, Any]
    translation: tuple[float, ...] = ()
    described: Mapping[str, Output] = field(default_factory=dict)

    @property
    def embedding(self) -> zarr.Array[Any] | None:
        """Axes (t) c (z) y x, or None."""
        return self.outputs.get("embedding")

    @property
    def foreground(self) -> zarr.Array[Any] | None:
        """Axes of the labels, or None."""
        return self.outputs.get("foreground")

    def objects(self) -> dict[str, npt.NDArray[Any]]:
        """Table of the instances, a column per entry, as `instances.object_table` gives it; empty where none was written."""
        group: Any = zarr.open_group(ReadStore(self.path), mode="r", use_consolidated=False).get("objects")
        try:
            columns = {} if group is None else {name: group[name] for name in group.attrs["columns"]}
            needed = sum(column.nbytes for column in columns.values())
            if needed > free_memory():
                raise OutOfMemoryError(
                    f"the table of {self.path} says {needed / 1e9:.3g} GB, and {free_memory() / 1e9:.3g} GB are free; use a "
                    "machine with more memory, or run the segmentation again."
                )
            return {name: column[:] for name, column in columns.items()}
        except (ShiftsegError, MemoryError):
            raise
        except Exception as exc:  # a damaged store raises anything
            raise ResultError(f"the table of {self.path} cannot be read ({exc!r}); run the segmentation again.") from exc

    def levels(self, name: str) -> tuple[zarr.Array[Any], ...]:
        """Pyramid of "labels", "image" or an output, full resolution first; empty where the store has no such part."""
        there = name == "labels" or name in self.outputs or (name == "image" and self.image is not None)
        return read_levels(self.path / folder_of(name)) if there else ()


@told
def open_result(path: str | Path) -> StoredResult:
    """Open a store that `save_result` wrote, without reading pixels.

    Raises
    ------
    ResultError
        If there is no store of this package at the path, or a part of it is missing.

    >>> from tempfile import TemporaryDirectory
    >>> import numpy
    >>> from napari_shiftseg.io import open_result, save_result
    >>> with TemporaryDirectory() as folder:
    ...     labels = numpy.eye(8, dtype=int)
    ...     path = save_result(folder + "/result.zarr", labels=labels, axes="yx", record={"made": "by hand"})
    ...     result = open_result(path)
    ...     print(result.axes, result.labels.shape, result.record, int(result.labels[3, 3]))
    yx (8, 8) {'made': 'by hand'} 1
    """
    path = path_of(path, "a result", ResultError)
    ours = our_attributes(path)
    if ours is None and (left := _replaced(path)):
        raise ResultError(f"{path} is gone, as a run was killed that replaced it; rename {left[0]} to get it back.")
    if ours is None:
        raise ResultError(f"{path} is not a result of napari-shiftseg; give the folder that it saved.")
    if ours.get("store") != STORE_VERSION:
        version = ours.get("store")
        raise ResultError(f"{path} has store version {version}, {STORE_VERSION} is read; update napari-shiftseg.")
    try:
        return _opened(path, ours)
    except (ResultError, MemoryError):
        raise
    except Exception as exc:  # a damaged store raises anything
        what = str(exc) if isinstance(exc, ImageError) else f"{type(exc).__name__}: {exc}"
        if isinstance(exc, OSError) and exc.strerror:  # without the system's number
            what = f"{exc.strerror}: {exc.filename}"
        raise ResultError(
            f"{path} is not complete ({' '.join(what.split())[:300].rstrip('.')}); run the segmentation again."
        ) from exc


def _opened(path: Path, ours: Mapping[str, Any]) -> StoredResult:
    labels = read_zarr(path / folder_of("labels"), None)
    pixels = _array(path / folder_of("labels"))
    found = {name: _array(path / folder_of(name)) for name in ours.get("outputs", ("embedding", "foreground"))}
    outputs = {name: array for name, array in found.items() if array is not None}
    described = {name: told for name in outputs if (told := _described(path / folder_of(name))) is not None}
    image = read_zarr(path, None) if ours.get("image") else None
    if pixels is None:
        raise ResultError(f"{path} holds no labels; run the segmentation again.")
    channel = int(labels.axes.startswith("t"))
    for name, array in outputs.items():
        shape = tuple(array.shape)
        if pixels.shape not in (shape, shape[:channel] + shape[channel + 1 :]):
            raise ResultError(
                f"{path} is damaged: its {name} has shape {shape} and its labels {pixels.shape}, which do not belong together; "
                "run the segmentation again."
            )
    return StoredResult(
        path=path,
        labels=pixels,
        outputs=outputs,
        image=_array(path) if image is not None else None,
        axes=labels.axes,
        scale=labels.scale,
        units=labels.units,
        image_axes=image.axes if image is not None else "",
        record=check_record(ours.get("record", {}), str(path)),
        translation=labels.translation or (0.0,) * len(labels.axes),
        described=described,
    )


def _array(path: Path) -> zarr.Array[Any] | None:
    return read_levels(path)[0] if path.is_dir() else None


def _described(path: Path) -> Output | None:
    """What an output means; None where an older version did not write that."""
    group = zarr.open_group(ReadStore(path), mode="r", use_consolidated=False)
    told: Any = group.attrs.get(OUTPUT_KEY)
    if told is None:
        return None
    array = read_levels(path)[0]
    axes = array.metadata.dimension_names or ()  # type: ignore[union-attr]
    return Output(channels=slice(0, array.shape[axes.index("c")] if "c" in axes else 1), **told)


def our_attributes(path: Path) -> dict[str, Any] | None:
    """Our root attribute of the store at the path, None where there is none."""
    file = path / "zarr.json"
    try:
        if not file.is_file() or file.stat().st_size > LARGEST_METADATA:  # who opens a pipe waits for its other end
            return None
        ours = description(file.read_bytes(), file.name)["attributes"][OUR_KEY]
    except (OSError, ValueError, KeyError, TypeError):  # an ImageError is a ValueError
        return None
    return ours if isinstance(ours, dict) else None


def _replaced(path: Path) -> list[Path]:
    """The results of this name that runs had moved aside when they were killed; none where something is at the path."""
    return [] if os.path.lexists(path) else sorted(path.absolute().parent.glob(f".{glob.escape(path.name)}.*.part/old"))


def run_of(path: str | Path) -> str | None:
    """Identity of the run out of core whose result is at the path, also of one that is damaged; None where there is none."""
    record = (our_attributes(Path(path)) or {}).get("record")
    run = record.get("run") if isinstance(record, dict) else None
    return run if isinstance(run, str) else None
