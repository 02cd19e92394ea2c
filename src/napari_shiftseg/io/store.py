"""OME-Zarr 0.5 out: arrays with their pyramids, filled chunk by chunk, and the metadata that describe them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zarr
from ome_zarr_models.v05.axes import Axis
from ome_zarr_models.v05.image import ImageAttrs
from ome_zarr_models.v05.image_label import ImageLabelAttrs
from ome_zarr_models.v05.image_label_types import Label, Source
from ome_zarr_models.v05.labels import LabelsAttrs
from ome_zarr_models.v05.multiscales import Dataset, Multiscale

from napari_shiftseg.io.view import ArrayLike

__all__ = [
    "Reduction",
    "add_levels",
    "chunk_edges",
    "create_level",
    "fill",
    "halved",
    "image_attributes",
    "label_attributes",
    "labels_attributes",
    "level_count",
    "reduced",
    "windows",
]

Reduction = Literal["nearest", "mean"]
"""How a pyramid level comes from the one below: every second pixel, or the mean of two by two."""

_SMALLEST_LEVEL = 256
_DEEP = 16  # planes from which on a stack is read as a volume rather than plane by plane
_TYPES = {"t": "time", "c": "channel"}


def level_count(sizes: dict[str, int]) -> int:
    """Pyramid levels, so that the smallest has less than 256 pixels on y and x.

    >>> level_count({"y": 255, "x": 100}), level_count({"y": 256, "x": 100}), level_count({"y": 2048, "x": 2048})
    (1, 2, 5)
    """
    count, size = 1, max(sizes["y"], sizes["x"])
    while size >= _SMALLEST_LEVEL:
        count, size = count + 1, -(-size // 2)
    return count


def chunk_edges(axes: str, shape: Sequence[int]) -> dict[str, int]:
    """Largest edge of a chunk per axis: one time point and channel; 512 x 512 of a plane, or 64 x 128 x 128 of a stack.

    A stack is read as one from 16 planes on.

    >>> chunk_edges("zyx", (15, 900, 900)), chunk_edges("zyx", (16, 900, 900))
    ({'z': 1, 'y': 512, 'x': 512}, {'z': 64, 'y': 128, 'x': 128})
    """
    deep = dict(zip(axes, shape, strict=True)).get("z", 1) >= _DEEP
    edges = {"t": 1, "c": 1, "z": 64 if deep else 1, "y": 128 if deep else 512, "x": 128 if deep else 512}
    return {axis: edges[axis] for axis in axes}


def create_level(
    group: zarr.Group,
    path: str,
    shape: Sequence[int],
    axes: str,
    dtype: npt.DTypeLike,
    shards: tuple[int, ...] | None = None,
) -> zarr.Array[Any]:
    """Empty array with the chunks of `chunk_edges`, on request many of them to a file."""
    edges = chunk_edges(axes, shape)
    chunks = tuple(min(size, edges[axis]) for axis, size in zip(axes, shape, strict=True))
    return group.create_array(
        path, shape=tuple(shape), chunks=chunks, shards=shards, dtype=np.dtype(dtype), dimension_names=tuple(axes)
    )


def windows(array: zarr.Array[Any]) -> Iterator[tuple[slice, ...]]:
    """Windows that cover the array, each one chunk."""
    starts = [range(0, size, step) for size, step in zip(array.shape, array.chunks, strict=True)]
    for corner in itertools.product(*starts):
        ends = zip(corner, array.chunks, array.shape, strict=True)
        yield tuple(slice(start, min(start + step, size)) for start, step, size in ends)


def fill(target: zarr.Array[Any], source: ArrayLike) -> None:
    """Copy `source` into `target`, one chunk at a time."""
    for window in windows(target):
        target[window] = np.asarray(source[window])


def add_levels(group: zarr.Group, axes: str, count: int, reduction: Reduction, first: int = 1) -> None:
    """Levels `first` to `count` - 1 of the pyramid in the group, each half as large on y and x as the one below."""
    below: Any = group[str(first - 1)]
    for level in range(first, count):
        if str(level) in group:  # of a run that was killed while it wrote them
            del group[str(level)]
        array = create_level(group, str(level), halved(below.shape, axes), axes, below.dtype)
        for window in windows(array):
            array[window] = reduced(below[_doubled(window, axes)], axes, reduction)
        below = array


def halved(shape: Sequence[int], axes: str) -> tuple[int, ...]:
    """Shape of the next level."""
    return tuple(-(-size // 2) if axis in "yx" else size for axis, size in zip(axes, shape, strict=True))


def _doubled(window: tuple[slice, ...], axes: str) -> tuple[slice, ...]:
    return tuple(slice(2 * w.start, 2 * w.stop) if a in "yx" else w for w, a in zip(window, axes, strict=True))


def reduced(block: npt.NDArray[Any], axes: str, reduction: Reduction) -> npt.NDArray[Any]:
    """A block at half its size on y and x."""
    if reduction == "nearest" or block.dtype.kind == "b":
        return block[..., ::2, ::2]
    edges = [(0, size % 2) if axis in "yx" else (0, 0) for axis, size in zip(axes, block.shape, strict=True)]
    even = np.pad(block, edges, mode="edge")
    *rest, height, width = even.shape
    mean = even.reshape(*rest, height // 2, 2, width // 2, 2).mean(axis=(-3, -1), dtype=np.float64)
    rounded: npt.NDArray[Any] = np.rint(mean) if block.dtype.kind in "iu" else mean
    return rounded.astype(block.dtype)


def image_attributes(
    axes: str,
    scale: Sequence[float],
    units: Sequence[str | None],
    *,
    name: str,
    count: int,
    reduction: Reduction,
    folder: str = "",
    translation: Sequence[float] = (),
) -> dict[str, Any]:
    """Attributes of an image group whose pyramid lies in `folder`, checked by the models of the specification."""
    found: dict[str, Any] = {"name": name, "count": count, "reduction": reduction, "folder": folder}
    multiscale = _multiscale(axes, scale, units, translation=translation, **found)
    return _ome(ImageAttrs(version="0.5", multiscales=[multiscale]))


def label_attributes(
    axes: str,
    scale: Sequence[float],
    units: Sequence[str | None],
    *,
    name: str,
    count: int,
    translation: Sequence[float] = (),
) -> dict[str, Any]:
    """Attributes of a label image two folders below the image that it belongs to."""
    multiscale = _multiscale(axes, scale, units, name=name, count=count, reduction="nearest", translation=translation)
    label = Label(version="0.5", source=Source(image="../../"))
    return _ome(ImageLabelAttrs(version="0.5", multiscales=[multiscale], **{"image-label": label}))


def labels_attributes(*names: str) -> dict[str, Any]:
    """Attributes of the group that holds the label images of these names."""
    return _ome(LabelsAttrs(version="0.5", labels=list(names)))


def _ome(model: ImageAttrs | ImageLabelAttrs | LabelsAttrs) -> dict[str, Any]:
    return {"ome": model.model_dump(mode="json", by_alias=True, exclude_none=True)}


def _multiscale(
    axes: str,
    scale: Sequence[float],
    units: Sequence[str | None],
    *,
    name: str,
    count: int,
    reduction: Reduction,
    folder: str = "",
    translation: Sequence[float] = (),
) -> Multiscale:
    named = [Axis(name=a, type=_TYPES.get(a, "space"), unit=unit) for a, unit in zip(axes, units, strict=True)]
    start = translation or (0.0,) * len(axes)
    datasets = []
    for level in range(count):
        factors = [2.0**level if axis in "yx" else 1.0 for axis in axes]
        # The mean of two by two pixels lies between their centres, the nearest pixel on one of them.
        shift = [step * (factor - 1) / 2 * (reduction == "mean") for step, factor in zip(scale, factors, strict=True)]
        place = [first + by for first, by in zip(start, shift, strict=True)]
        datasets.append(
            Dataset.build(
                path=f"{folder}{level}",
                scale=[step * factor for step, factor in zip(scale, factors, strict=True)],
                translation=place if any(place) else None,
            )
        )
    return Multiscale(axes=tuple(named), datasets=tuple(datasets), name=name, type=reduction)
