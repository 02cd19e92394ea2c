"""OME-Zarr 0.5 out: pyramids filled chunk by chunk or block by block, seen meanwhile, and the metadata that describe them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
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
from zarr.codecs import ZstdCodec

from napari_shiftseg.errors import ResultError
from napari_shiftseg.io.constants import DEEP, PLANE_CHUNK, SMALLEST_LEVEL, STACK_CHUNK, TABLE_ROWS
from napari_shiftseg.io.store import FILES_KEY
from napari_shiftseg.views import ArrayLike

Reduction = Literal["nearest", "mean"]
"""How a pyramid level comes from the one below: every second pixel, or the mean of two by two."""

# As zarr chooses by itself, with four bytes per chunk more: what reads zstd compares them, so that no changed bit goes unseen.
COMPRESSION = ZstdCodec(level=0, checksum=True)

_TYPES = {"t": "time", "c": "channel"}


def level_count(sizes: dict[str, int]) -> int:
    """Pyramid levels, so that the smallest has less than 256 pixels on y and x.

    >>> level_count({"y": 255, "x": 100}), level_count({"y": 256, "x": 100}), level_count({"y": 2048, "x": 2048})
    (1, 2, 5)
    """
    count, size = 1, max(sizes["y"], sizes["x"])
    while size >= SMALLEST_LEVEL:
        count, size = count + 1, -(-size // 2)
    return count


def chunk_edges(axes: str, shape: Sequence[int]) -> dict[str, int]:
    """Largest edge of a chunk per axis: one time point and channel; 512 x 512 of a plane, or 64 x 128 x 128 of a stack.

    A stack is read as one from 16 planes on.

    >>> chunk_edges("zyx", (15, 900, 900)), chunk_edges("zyx", (16, 900, 900))
    ({'z': 1, 'y': 512, 'x': 512}, {'z': 64, 'y': 128, 'x': 128})
    """
    deep = dict(zip(axes, shape, strict=True)).get("z", 1) >= DEEP
    edges = dict(zip("zyx", STACK_CHUNK if deep else PLANE_CHUNK, strict=True))
    return {axis: edges.get(axis, 1) for axis in axes}


def create_level(
    group: zarr.Group,
    path: str,
    shape: Sequence[int],
    *,
    axes: str,
    dtype: npt.DTypeLike,
    shards: tuple[int, ...] | None = None,
) -> zarr.Array[Any]:
    """Empty array with the chunks of `chunk_edges`, on request many of them to a file."""
    edges = chunk_edges(axes, shape)
    chunks = tuple(min(size, edges[axis]) for axis, size in zip(axes, shape, strict=True))
    return group.create_array(
        path,
        shape=tuple(shape),
        chunks=chunks,
        shards=shards,
        dtype=np.dtype(dtype),
        compressors=COMPRESSION,
        dimension_names=tuple(axes),
    )


def write_columns(group: zarr.Group, columns: Mapping[str, npt.NDArray[Any]]) -> None:
    """A table: an array per column, all of one length, and their order."""
    for name, values in columns.items():
        chunk = max(1, min(len(values), TABLE_ROWS))
        options: Any = {"chunks": (chunk,), "dtype": values.dtype, "compressors": COMPRESSION}
        group.create_array(name, shape=values.shape, **options)[:] = values
    group.update_attributes({"columns": list(columns)})


def note_files(group: zarr.Group) -> None:
    """Let each array of a group in a folder say how many files of chunks it has; they are complete now."""
    store: Any = group.store
    for _, node in group.members(max_depth=None):
        if isinstance(node, zarr.Array):
            files = (Path(store.root) / node.path / "c").rglob("*")
            node.update_attributes({FILES_KEY: sum(file.is_file() for file in files)})


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


def add_levels(group: zarr.Group, axes: str, count: int, *, reduction: Reduction, first: int = 1) -> None:
    """Levels `first` to `count` - 1 of the pyramid in the group, each half as large on y and x as the one below."""
    below: Any = group[str(first - 1)]
    for level in range(first, count):
        if str(level) in group:  # of a run that was killed while it wrote them
            del group[str(level)]
        array = create_level(group, str(level), halved(below.shape, axes), axes=axes, dtype=below.dtype)
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
    labels: bool = False,
) -> dict[str, Any]:
    """Attributes of an image group whose pyramid lies in `folder`, checked by the models of the specification.

    With `labels`, those of a label image two folders below the image that it belongs to.
    """
    named = [Axis(name=a, type=_TYPES.get(a, "space"), unit=unit) for a, unit in zip(axes, units, strict=True)]
    start = translation or (0.0,) * len(axes)
    datasets = []
    for level in range(count):
        factors = [2.0**level if axis in "yx" else 1.0 for axis in axes]
        # The mean of two by two pixels lies between their centres, the nearest pixel on one of them.
        shift = [step * (factor - 1) / 2 * (reduction == "mean") for step, factor in zip(scale, factors, strict=True)]
        place = [first + by for first, by in zip(start, shift, strict=True)]
        steps = [step * factor for step, factor in zip(scale, factors, strict=True)]
        datasets.append(Dataset.build(path=f"{folder}{level}", scale=steps, translation=place if any(place) else None))
    multiscale = Multiscale(axes=tuple(named), datasets=tuple(datasets), name=name, type=reduction)
    if not labels:
        return _ome(ImageAttrs(version="0.5", multiscales=[multiscale]))
    label = Label(version="0.5", source=Source(image="../../"))
    return _ome(ImageLabelAttrs(version="0.5", multiscales=[multiscale], **{"image-label": label}))


def labels_attributes(*names: str) -> dict[str, Any]:
    """Attributes of the group that holds the label images of these names."""
    return _ome(LabelsAttrs(version="0.5", labels=list(names)))


def _ome(model: ImageAttrs | ImageLabelAttrs | LabelsAttrs) -> dict[str, Any]:
    return {"ome": model.model_dump(mode="json", by_alias=True, exclude_none=True)}


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockPyramid:
    """The levels of a pyramid to which every block contributes whole shards, so that no file is written twice."""

    # full resolution first, each half as large on y and x. Smaller levels are made when all blocks are there.
    levels: tuple[zarr.Array[Any], ...]
    axes: str
    reduction: Reduction

    @classmethod
    def create(
        cls,
        group: zarr.Group | Path,
        shape: Sequence[int],
        axes: str,
        *,
        dtype: npt.DTypeLike,
        edges: Mapping[str, int],
        reduction: Reduction = "nearest",
    ) -> BlockPyramid:
        """Make the arrays "0", "1", ... in a group, or take those that an earlier run made.

        ResultError if the blocks do not fit the chunks, or other arrays are there.

        Parameters
        ----------
        group : zarr.Group or Path
            A path becomes a group.
        axes : str
            Letters of "tczyx", one per axis.
        edges : mapping of axis to int
            Of a block, pixels: multiples of the chunk (512 px, or 64 x 128 x 128 of a stack) where there are several blocks.
            Of axes that are left out a block takes one position.
        """
        if isinstance(group, Path):
            group = zarr.open_group(str(group), mode="a", zarr_format=3)
        levels: list[zarr.Array[Any]] = []
        size = tuple(shape)
        for level in range(level_count(dict(zip(axes, shape, strict=True)))):
            shards = _shards(size, axes, {axis: edge >> level if axis in "yx" else edge for axis, edge in edges.items()})
            if shards is None:
                break
            array: Any = group.get(str(level))
            if array is None:
                array = create_level(group, str(level), size, axes=axes, dtype=dtype, shards=shards)
            elif tuple(array.shape) != size or array.shards != shards:
                raise ResultError(f"{group.store_path} holds arrays of another run; remove it.")
            levels.append(array)
            size = halved(size, axes)
        if not levels:
            raise ResultError(f"blocks of {dict(edges)} px do not hold whole chunks of an array of {tuple(shape)} px.")
        return cls(levels=tuple(levels), axes=axes, reduction=reduction)

    @classmethod
    def open(cls, path: Path, axes: str, count: int, *, reduction: Reduction = "nearest") -> BlockPyramid:
        """The first `count` levels of a pyramid that is there."""
        group = zarr.open_group(str(path), mode="r+")
        levels: Any = [group[str(level)] for level in range(count)]
        return cls(levels=tuple(levels), axes=axes, reduction=reduction)

    def write(self, window: tuple[slice, ...], values: npt.NDArray[Any]) -> None:
        """Write a block into all levels.

        Parameters
        ----------
        window : tuple of slice
            Of one block at full resolution, one slice per axis.
        values : ndarray
            Its pixels.
        """
        for level, (array, part) in enumerate(self._parts(window)):
            if level:
                values = reduced(values, self.axes, self.reduction)
            for file in _files_of(array, part):
                # of a shard at the border zarr would read what is there, of a killed run as well
                file.unlink(missing_ok=True)
            array[part] = values

    def files(self, window: tuple[slice, ...]) -> list[Path]:
        """The files of a block; those of zeros are not there. `window`: as of `write`."""
        return [file for array, part in self._parts(window) for file in _files_of(array, part)]

    def _parts(self, window: tuple[slice, ...]) -> Iterator[tuple[zarr.Array[Any], tuple[slice, ...]]]:
        """Each level, and where a block lies in it."""
        for level, array in enumerate(self.levels):
            if level:
                halves = [slice(w.start // 2, -(-w.stop // 2)) for w in window]
                pairs = zip(self.axes, window, halves, strict=True)
                window = tuple(half if axis in "yx" else part for axis, part, half in pairs)
            yield array, window


def _files_of(array: zarr.Array[Any], window: tuple[slice, ...]) -> list[Path]:
    """The files of a block at one level, one per shard."""
    assert array.shards is not None
    store: Any = array.store
    places = [range(w.start // shard, -(-w.stop // shard)) for w, shard in zip(window, array.shards, strict=True)]
    return [Path(store.root, array.path, "c", *map(str, place)) for place in itertools.product(*places)]


def _shards(shape: Sequence[int], axes: str, edges: Mapping[str, int]) -> tuple[int, ...] | None:
    """A shard per block, in pixels; None where a chunk would belong to several blocks."""
    chunks = chunk_edges(axes, shape)
    shards = []
    for axis, size in zip(axes, shape, strict=True):
        chunk, block = min(size, chunks[axis]), edges.get(axis, 1)
        if size <= block:
            shards.append(-(-size // chunk) * chunk)
        elif block and block % chunk == 0:
            shards.append(block)
        else:
            return None
    return tuple(shards)


class Overview:
    """The levels that are written, and the coarser ones, which come later to the result: they are kept up here.

    Parameters
    ----------
    path : Path
        Group of the arrays "0", "1", ... that blocks are written to, each block into all of them.
    beside : Path
        Where coarser levels can lie meanwhile.
    axes : str
        Letters of "tzyx".

    Attributes
    ----------
    levels : tuple of array
        Of the whole pyramid, full resolution first. The coarsest one of a plane is in memory, and is changed in place: viewers
        keep it. Values are those of every second pixel of the level below.
    """

    def __init__(self, path: Path, beside: Path, axes: str) -> None:
        self.axes = axes
        group: Any = zarr.open_group(str(path), mode="r")
        written: list[Any] = []
        while (array := group.get(str(len(written)))) is not None and array.shards is not None:
            written.append(array)
        self._base = len(written) - 1
        levels = list(written)
        count = level_count(dict(zip(axes, written[0].shape, strict=True)))
        more: Any = zarr.open_group(str(beside), mode="a", zarr_format=3)
        for level in range(len(written), count):
            shape = halved(levels[-1].shape, axes)
            there: Any = more.get(str(level))
            made = there if there is not None else create_level(more, str(level), shape, axes=axes, dtype=levels[-1].dtype)
            levels.append(made)
        if count > 1 and axes == "yx":
            levels[-1] = reduced(np.asarray(levels[-2][...]), axes, "nearest").copy()
        self.levels: tuple[Any, ...] = tuple(levels)

    def update(self, window: tuple[slice, ...]) -> None:
        """Bring a block that has been written into the levels that are kept up here.

        `window`: of the block at full resolution, one slice per axis.
        """
        window = tuple(_coarser(part, axis, 1 << self._base) for part, axis in zip(window, self.axes, strict=True))
        values = np.asarray(self.levels[self._base][window])
        for level in range(self._base, len(self.levels)):
            array = self.levels[level]
            if level == self._base and not isinstance(array, np.ndarray):
                continue
            step = 1 << (level - self._base)
            place = tuple(_coarser(part, axis, step) for part, axis in zip(window, self.axes, strict=True))
            array[place] = values[tuple(_picked(part, axis, step) for part, axis in zip(window, self.axes, strict=True))]


def _coarser(part: slice, axis: str, step: int) -> slice:
    return slice(-(-part.start // step), -(-part.stop // step)) if axis in "yx" else part


def _picked(part: slice, axis: str, step: int) -> slice:
    """Every `step`-th pixel of the level, within a part of it."""
    return slice(-part.start % step, None, step) if axis in "yx" else slice(None)
