"""Results out and in: an OME-Zarr 0.5 store with labels, embedding, foreground, image and the record of the run.

Layout of a store::

    result.zarr/            OME image: the input image (0, 1, ...); without one, its entries name labels/instances/...
      labels/instances/     OME label image, uint32
      embedding/            OME image, float32, axes (t) c (z) y x
      foreground/           OME image, float32, axes of the labels

The root attribute "napari-shiftseg" holds ``{"store": 1, "image": bool, "record": {...}}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import zarr

from napari_shiftseg.errors import ImageError, ResultError
from napari_shiftseg.io import store
from napari_shiftseg.io.frames import Image
from napari_shiftseg.io.label_rules import check_integers, check_range
from napari_shiftseg.io.labels_tiff import save_labels_tiff
from napari_shiftseg.io.ome_zarr import read_levels, read_zarr
from napari_shiftseg.io.view import ArrayLike
from napari_shiftseg.io.writer import FOLDERS, STORE_VERSION, ResultWriter, our_attributes, plain_record

__all__ = ["Part", "ResultWriter", "StoredResult", "open_result", "save_labels_tiff", "save_result"]

Part: TypeAlias = Literal["labels", "embedding", "foreground", "image"]


def save_result(
    path: str | Path,
    *,
    labels: ArrayLike,
    axes: str,
    scale: Sequence[float] | None = None,
    units: Sequence[str | None] | None = None,
    translation: Sequence[float] = (),
    record: Mapping[str, object],
    image: Image | None = None,
    embedding: ArrayLike | None = None,
    foreground: ArrayLike | None = None,
    name: str = "image",
    overwrite: bool = False,
) -> Path:
    """Write a result as an OME-Zarr 0.5 store, completely or not at all.

    Parameters
    ----------
    path : str or Path
        Store to write, such as ``result.zarr``.
    labels : array-like of int
        Labels in [0, 2**32); stored as uint32.
    axes : str
        Letters of "tzyx", in this order, one per axis of `labels`: the axes of the image without c.
    scale, units, translation : sequence, optional
        Step, unit and place of the first pixel per axis of `labels`.
    record : mapping
        What happened: JSON values, numpy values, paths and tuples.
    image : Image, optional
        The input image, copied chunk by chunk. Without it the root names the labels as its image.
    embedding : array-like of float, optional
        Axes (t) c (z) y x; stored as float32.
    foreground : array-like of float, optional
        Axes of the labels; stored as float32.
    name : str
        Name of the image, for viewers.
    overwrite : bool
        Replace a store that this package wrote; anything else is never replaced.

    Raises
    ------
    ResultError
        If the path is taken or cannot be written, or the arrays do not fit each other. Nothing is left behind.
    """
    check_integers(labels)
    settings: dict[str, Any] = {"axes": axes, "scale": scale, "units": units, "translation": translation}
    settings |= {"name": name, "overwrite": overwrite}
    plain_record(record)  # before the long work
    with ResultWriter(path, shape=labels.shape, **settings) as writer:
        try:
            _fill_labels(writer.create("labels"), labels)
            if embedding is not None:
                at = 1 if axes.startswith("t") else 0
                channels = embedding.shape[at] if embedding.ndim > at else 0
                _fill(writer, "embedding", embedding, channels=channels)
            if foreground is not None:
                _fill(writer, "foreground", foreground)
            if image is not None:
                writer.copy_image(image)
        except OSError as exc:
            raise ResultError(f"{path} cannot be written ({exc}); choose another folder or make room.") from exc
        return writer.finish(record)


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredResult:
    """A result as it lies on disk; arrays are zarr arrays at full resolution, None where the store has none.

    Attributes
    ----------
    path : Path
        The store.
    labels : zarr.Array
        uint32, with the axes in `axes`.
    embedding, foreground, image : zarr.Array or None
        Embedding with axes (t) c (z) y x, foreground with those of the labels, image with `image_axes`.
    axes, scale, units, translation : str, tuple, tuple, tuple
        Axes of the labels, and step, unit and place of the first pixel on each.
    image_axes : str
        Axes of the image, "" where there is none.
    record : dict
        What happened, as it was given when the store was written.
    """

    path: Path
    labels: zarr.Array[Any]
    embedding: zarr.Array[Any] | None
    foreground: zarr.Array[Any] | None
    image: zarr.Array[Any] | None
    axes: str
    scale: tuple[float, ...]
    units: tuple[str | None, ...]
    image_axes: str
    record: dict[str, Any]
    translation: tuple[float, ...] = ()

    def objects(self) -> dict[str, npt.NDArray[Any]]:
        """Table of the instances, a column per entry, as `instances.object_table` gives it; empty where none was written."""
        group: Any = zarr.open_group(str(self.path), mode="r").get("objects")
        return {} if group is None else {name: group[name][:] for name in group.attrs["columns"]}

    def levels(self, name: Part) -> tuple[zarr.Array[Any], ...]:
        """Pyramid of one part, full resolution first; empty where the store has no such part."""
        return read_levels(self.path / FOLDERS[name]) if getattr(self, name) is not None else ()


def open_result(path: str | Path) -> StoredResult:
    """Open a store that `save_result` wrote, without reading pixels.

    Raises
    ------
    ResultError
        If there is no store of this package at the path, or a part of it is missing.
    """
    path = Path(path)
    ours = our_attributes(path)
    if ours is None:
        raise ResultError(f"{path} is not a result of napari-shiftseg; give the folder that it saved.")
    if ours.get("store") != STORE_VERSION:
        version = ours.get("store")
        raise ResultError(f"{path} has store version {version}, {STORE_VERSION} is read; update napari-shiftseg.")
    try:
        labels = read_zarr(path / FOLDERS["labels"], None)
        parts = {part: _array(path / FOLDERS[part]) for part in ("labels", "embedding", "foreground")}
        image = read_zarr(path, None) if ours.get("image") else None
    except (ImageError, OSError) as exc:
        raise ResultError(f"{path} is not complete ({exc}); run the segmentation again.") from exc
    if parts["labels"] is None:
        raise ResultError(f"{path} holds no labels; run the segmentation again.")
    return StoredResult(
        path=path,
        labels=parts["labels"],
        embedding=parts["embedding"],
        foreground=parts["foreground"],
        image=_array(path) if image is not None else None,
        axes=labels.axes,
        scale=labels.scale,
        units=labels.units,
        image_axes=image.axes if image is not None else "",
        record=dict(ours.get("record", {})),
        translation=labels.translation or (0.0,) * len(labels.axes),
    )


def _array(path: Path) -> zarr.Array[Any] | None:
    return read_levels(path)[0] if path.is_dir() else None


def _fill(writer: ResultWriter, part: Literal["embedding", "foreground"], source: ArrayLike, *, channels: int = 1) -> None:
    target = writer.create(part, channels=max(channels, 1))
    if target.shape != tuple(source.shape):
        raise ResultError(
            f"the {part} has shape {tuple(source.shape)}, but {target.shape} fits the labels; "
            "give it with axes (t) c (z) y x (embedding) or those of the labels (foreground)."
        )
    store.fill(target, source)


def _fill_labels(target: zarr.Array[Any], labels: ArrayLike) -> None:
    for window in store.windows(target):
        block = np.asarray(labels[window])
        check_range(int(block.min()), int(block.max()))
        target[window] = block.astype(np.uint32)
