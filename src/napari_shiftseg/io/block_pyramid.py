"""Arrays that are written block by block, each block of pixels once, together with the levels of the pyramid that it fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import zarr

from napari_shiftseg.errors import ResultError
from napari_shiftseg.io.store import Reduction, chunk_edges, create_level, halved, level_count, reduced

__all__ = ["BlockPyramid"]


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockPyramid:
    """The levels of a pyramid to which every block contributes whole shards, so that no file is written twice.

    Attributes
    ----------
    levels : tuple of zarr.Array
        Full resolution first, each half as large on y and x. Smaller levels are made when all blocks are there.
    axes : str
    reduction : {"nearest", "mean"}
    """

    levels: tuple[zarr.Array[Any], ...]
    axes: str
    reduction: Reduction

    @classmethod
    def create(
        cls,
        group: zarr.Group | Path,
        shape: Sequence[int],
        axes: str,
        dtype: npt.DTypeLike,
        edges: Mapping[str, int],
        reduction: Reduction = "nearest",
    ) -> BlockPyramid:
        """Make the arrays "0", "1", ... in a group, or take those that an earlier run made.

        Parameters
        ----------
        group : zarr.Group or Path
            A path becomes a group.
        shape : sequence of int
        axes : str
            Letters of "tczyx", one per axis.
        dtype
        edges : mapping of axis to int
            Of a block, pixels: multiples of the chunk (512 px, or 64 x 128 x 128 of a stack) where there are several blocks.
            Of axes that are left out a block takes one position.

        Raises
        ------
        ResultError
            If the blocks do not fit the chunks, or other arrays are there.
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
                array = create_level(group, str(level), size, axes, dtype, shards)
            elif tuple(array.shape) != size or array.shards != shards:
                raise ResultError(f"{group.store_path} holds arrays of another run; remove it.")
            levels.append(array)
            size = halved(size, axes)
        if not levels:
            raise ResultError(f"blocks of {dict(edges)} px do not hold whole chunks of an array of {tuple(shape)} px.")
        return cls(levels=tuple(levels), axes=axes, reduction=reduction)

    @classmethod
    def open(cls, path: Path, axes: str, count: int, reduction: Reduction = "nearest") -> BlockPyramid:
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
        for level, array in enumerate(self.levels):
            if level:
                values = reduced(values, self.axes, self.reduction)
                halves = [slice(w.start // 2, -(-w.stop // 2)) for w in window]
                pairs = zip(self.axes, window, halves, strict=True)
                window = tuple(half if axis in "yx" else part for axis, part, half in pairs)
            self._remove(array, window)
            array[window] = values

    def _remove(self, array: zarr.Array[Any], window: tuple[slice, ...]) -> None:
        """Remove the file of a block: of a shard at the border zarr would read what is there, of a killed run as well."""
        assert array.shards is not None
        root: Any = array.store
        places = "/".join(str(w.start // shard) for w, shard in zip(window, array.shards, strict=True))
        (Path(root.root) / array.path / "c" / places).unlink(missing_ok=True)


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
