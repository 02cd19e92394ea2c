"""Instances across blocks: fragments whose pieces touch at a face and whose modes agree are one, joined by union-find.

All that the join needs of a block is small: the outermost pixels on its faces, the modes of the pieces found there, and size
and first pixel of each fragment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from napari_shiftseg.geometry import Block, BlockGrid
from napari_shiftseg.instances.label import numbered
from napari_shiftseg.instances.pieces import REACH, Fragments, Pieces, agreeing, settled, touching
from napari_shiftseg.instances.settings import LabelSettings

__all__ = ["BlockFaces", "Numbers", "faces_of", "join_blocks", "settled_block"]

# Tables of blocks that are kept while their neighbours are joined.
_KEPT = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockFaces:
    """What the neighbours of a block, and the join of all blocks, need of it.

    Attributes
    ----------
    sizes, first : ndarray
        Of each fragment, as in `Fragments`.
    modes : ndarray
        (Q + 1, E) float64, of the pieces on the faces; of 0 zeros.
    fragment : ndarray
        (Q + 1,) int64, their fragments; -1 for 0.
    faces : mapping
        For each axis and side (0, 1) the outermost pixels: number of the piece from 1 to Q, or 0.
    rims : mapping
        For each axis and side the codes of the outermost `REACH` pixels.
    """

    sizes: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    modes: npt.NDArray[np.float64]
    fragment: npt.NDArray[np.int64]
    faces: Mapping[tuple[int, int], npt.NDArray[np.int32]]
    rims: Mapping[tuple[int, int], npt.NDArray[np.int32]]

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Plain named arrays, as files hold them."""
        out: dict[str, npt.NDArray[Any]] = {name: getattr(self, name) for name in ("sizes", "first", "modes", "fragment")}
        for kind in ("faces", "rims"):
            out |= {f"{kind}_{axis}_{side}": array for (axis, side), array in getattr(self, kind).items()}
        return out

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> BlockFaces:
        """The faces that `to_arrays` wrote down."""
        places: dict[str, dict[tuple[int, int], npt.NDArray[np.int32]]] = {"faces": {}, "rims": {}}
        for name in arrays:
            kind, *place = name.split("_")
            if kind in places and len(place) == 2:
                places[kind][int(place[0]), int(place[1])] = arrays[name]
        return cls(
            sizes=arrays["sizes"],
            first=arrays["first"],
            modes=arrays["modes"],
            fragment=arrays["fragment"],
            faces=places["faces"],
            rims=places["rims"],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Numbers:
    """Labels of all fragments of all blocks.

    Attributes
    ----------
    labels : ndarray
        (F of all blocks,) uint32, 0 for those that are dissolved.
    offsets : ndarray
        (B + 1,) int64: those of block b lie from `offsets[b]` to `offsets[b + 1]`.
    """

    labels: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.int64]

    @property
    def count(self) -> int:
        """Number of instances."""
        return int(self.labels.max(initial=0))

    def of(self, block: Block) -> npt.NDArray[np.uint32]:
        """Labels of the fragments of a block."""
        return self.labels[self.offsets[block.number] : self.offsets[block.number + 1]]


def faces_of(found: Pieces, fragments: Fragments) -> BlockFaces:
    """What others need of a block."""
    ndim = found.pixels.ndim
    sides = list(product(range(ndim), (0, 1)))
    outermost = {(axis, side): np.take(found.pixels, -side, axis) for axis, side in sides}
    there = np.unique(np.concatenate([np.unique(face) for face in outermost.values()] + [np.zeros(1, np.int64)]))
    rims = {}
    for axis, side in sides:
        part = [slice(None)] * ndim
        part[axis] = slice(None, REACH) if side == 0 else slice(-REACH, None)
        rims[axis, side] = np.ascontiguousarray(fragments.codes[tuple(part)])
    return BlockFaces(
        sizes=fragments.sizes,
        first=fragments.first,
        modes=found.modes[there],
        fragment=found.fragment[there],
        faces={place: np.searchsorted(there, face).astype(np.int32) for place, face in outermost.items()},
        rims=rims,
    )


def join_blocks(grid: BlockGrid, load: Callable[[int], BlockFaces], settings: LabelSettings) -> Numbers:
    """Number the instances of an image from the faces of its blocks.

    Parameters
    ----------
    grid : BlockGrid
    load : callable
        Number of a block to its `BlockFaces`; asked a few times for each block.
    settings : LabelSettings

    Notes
    -----
    The work grows with the number of fragments and of face pixels, and not with that of pairs of blocks or instances.
    """
    recent = lru_cache(_KEPT)(load)
    sizes, first = [], []
    links = [np.empty((0, 2), np.int64)]
    counts = np.zeros(len(grid) + 1, np.int64)
    for block in grid:
        faces = recent(block.number)
        sizes.append(faces.sizes)
        first.append(faces.first)
        counts[block.number + 1] = len(faces.sizes)
    offsets = np.cumsum(counts)
    for block in grid:
        for other, pairs in _pairs(grid, block, recent):
            own, their = recent(block.number), recent(other.number)
            same = agreeing(own.modes[pairs[:, 0]], their.modes[pairs[:, 1]], settings.bandwidth)
            a = own.fragment[pairs[same, 0]] + offsets[block.number]
            b = their.fragment[pairs[same, 1]] + offsets[other.number]
            links.append(np.stack([a, b], axis=1))
    a, b = np.concatenate(links).T
    total = int(offsets[-1])
    graph = coo_matrix((np.ones(len(a), bool), (a, b)), shape=(total, total))
    groups, group = connected_components(graph, directed=False)
    size = np.bincount(group, np.concatenate(sizes), minlength=groups).astype(np.int64)
    earliest = np.full(groups, np.iinfo(np.int64).max)
    np.minimum.at(earliest, group, np.concatenate(first))
    return Numbers(labels=numbered(size, earliest, settings.min_size)[group], offsets=offsets)


def settled_block(
    grid: BlockGrid,
    block: Block,
    codes: npt.NDArray[np.int32],
    numbers: Numbers,
    load: Callable[[int], BlockFaces],
    window: int,
) -> npt.NDArray[np.uint32]:
    """Final labels of a block, as `settled` gives them for the whole image.

    Parameters
    ----------
    grid, block
    codes : ndarray
        (*core) codes of the block.
    numbers : Numbers
    load : callable
        Number of a neighbour to its `BlockFaces`.
    window : int
        Pixels per axis that are looked at at once.
    """
    ndim = codes.ndim
    before = tuple(REACH * (place > 0) for place in block.index)
    after = tuple(REACH * (place + 1 < count) for place, count in zip(block.index, grid.counts, strict=True))
    wide = np.zeros(tuple(n + b + a for n, b, a in zip(codes.shape, before, after, strict=True)), np.int32)
    inner = tuple(slice(b, b + n) for n, b in zip(codes.shape, before, strict=True))
    wide[inner] = codes
    tables = [np.zeros(2, np.uint32), numbers.of(block)]
    known = len(tables[1])
    for step in product((-1, 0, 1), repeat=ndim):
        other = grid.neighbour(block, step)
        if other is None or not any(step):
            continue
        part = _rim(load(other.number), step)
        place = tuple(
            slice(0, b) if s < 0 else slice(b, b + n) if s == 0 else slice(b + n, b + n + have)
            for s, b, n, have in zip(step, before, codes.shape, part.shape, strict=True)
        )
        wide[place] = np.where(part > 1, part + known, part)
        tables.append(numbers.of(other))
        known += len(tables[-1])
    return settled(wide, np.concatenate(tables), window, inner)


def _rim(faces: BlockFaces, step: tuple[int, ...]) -> npt.NDArray[np.int32]:
    """Codes of the pixels of a neighbour, that many places away, that lie within `REACH` of the block."""
    axis = next(k for k, by in enumerate(step) if by)
    rim = faces.rims[axis, 1 if step[axis] < 0 else 0]
    part = [slice(None)] * rim.ndim
    for k in range(axis + 1, rim.ndim):
        if step[k]:
            part[k] = slice(-REACH, None) if step[k] < 0 else slice(None, REACH)
    return rim[tuple(part)]


def _pairs(grid: BlockGrid, block: Block, load: Callable[[int], BlockFaces]) -> Iterator[tuple[Block, npt.NDArray[np.int64]]]:
    """For each later neighbour the pairs of pieces on the faces that touch, those across edges and corners included."""
    ndim = len(block.index)
    for axis in range(ndim):
        for aside in product((-1, 0, 1), repeat=ndim - 1):
            step = (*aside[:axis], 1, *aside[axis:])
            other = grid.neighbour(block, step)
            if other is None:
                continue
            before = load(block.number).faces[axis, 1]
            after = load(other.number).faces[axis, 0]
            for k, by in enumerate(aside):
                if by:
                    before = np.take(before, [-1 if by > 0 else 0], k)
                    after = np.take(after, [0 if by > 0 else -1], k)
            yield other, touching(before, after)
