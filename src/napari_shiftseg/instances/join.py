"""Instances across blocks: fragments whose pieces touch at a face and whose modes agree are one, joined by union-find.

All that the join needs of a block is small: the outermost pixels on its faces, the modes of the pieces found there, and size
and first pixel of each fragment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from napari_shiftseg.geometry import Block, BlockGrid
from napari_shiftseg.instances.contacts import agreeing, touching
from napari_shiftseg.instances.label import numbered
from napari_shiftseg.instances.pieces import REACH, Fragments, Pieces, settled
from napari_shiftseg.instances.settings import LabelSettings

__all__ = ["BlockFaces", "Numbers", "faces_of", "join_blocks", "settled_block"]

# Face pixels that are held at once while blocks are joined.
_MOST_PIXELS = 1 << 25
# Of the number of a fragment in its block.
_BITS = 32

T = TypeVar("T")
# Size of a plane of faces; of each block its place in the grid, that of its face in the plane, and how much of it lies there.
_Layout: TypeAlias = tuple[list[int], list[tuple[tuple[int, ...], Any, tuple[slice, ...]]]]


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
        Number of a block to its `BlockFaces`; asked once for each block, or a few times if the image has many.
    settings : LabelSettings

    Notes
    -----
    The work grows with the number of fragments and of face pixels, and not with that of pairs of blocks or instances. Faces are
    held of one part of the image at a time, sizes and first pixels of the fragments of all.
    """
    sizes: dict[int, npt.NDArray[np.int64]] = {}
    first: dict[int, npt.NDArray[np.int64]] = {}

    def noted(number: int) -> BlockFaces:
        faces = load(number)
        sizes[number], first[number] = faces.sizes, faces.first
        return faces

    codes = np.concatenate([_Part.of(grid, own, noted).links(settings.bandwidth) for own in _parts(grid)])
    offsets = np.cumsum([0, *(len(sizes[number]) for number in range(len(grid)))])
    links = offsets[codes >> _BITS] + (codes & ((1 << _BITS) - 1))
    # popped, so that no fragment is held twice for long
    all_sizes = np.concatenate([sizes.pop(number) for number in range(len(grid))])
    all_first = np.concatenate([first.pop(number) for number in range(len(grid))])
    return Numbers(labels=_labels(all_sizes, all_first, links, settings.min_size), offsets=offsets)


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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """A box of blocks whose faces are looked at together, and the blocks after them; their pieces are numbered through.

    Attributes
    ----------
    grid : BlockGrid
    own : tuple of range
        Blocks of the box along each axis.
    faces : mapping
        Of each block, by its place in the grid: number of its piece 0, and its faces.
    modes : ndarray
        (R, E) float64, of all pieces.
    fragment : ndarray
        (R,) int64, their fragments: number of the block, and in the last `_BITS` bits that of the fragment in it.
    """

    grid: BlockGrid
    own: tuple[range, ...]
    faces: Mapping[tuple[int, ...], tuple[int, Mapping[tuple[int, int], npt.NDArray[np.int32]]]]
    modes: npt.NDArray[np.float64]
    fragment: npt.NDArray[np.int64]

    @classmethod
    def of(cls, grid: BlockGrid, own: tuple[range, ...], load: Callable[[int], BlockFaces]) -> _Part:
        """The part with these blocks."""
        faces, modes, fragment, base = {}, [], [], 0
        indices = list(product(*_with_next(grid, own)))
        numbers = np.ravel_multi_index(tuple(np.array(indices).T), grid.counts)
        for index, number in zip(indices, numbers.tolist(), strict=True):
            known = load(number)
            faces[index] = base, known.faces
            modes.append(known.modes)
            fragment.append((number << _BITS) + known.fragment)
            base += len(known.modes)
        return cls(grid=grid, own=own, faces=faces, modes=np.concatenate(modes), fragment=np.concatenate(fragment))

    def links(self, bandwidth: float) -> npt.NDArray[np.int64]:
        """(N, 2) fragments of two blocks that are one."""
        found = [np.empty((0, 2), np.int64)]
        for axis, (own, count) in enumerate(zip(self.own, self.grid.counts, strict=True)):
            layout = self._layout(axis)
            for place in range(own.start, min(own.stop, count - 1)):
                pairs = touching(self._plane(layout, axis, place, 1), self._plane(layout, axis, place + 1, 0))
                same = agreeing(self.modes[pairs[:, 0]], self.modes[pairs[:, 1]], bandwidth)
                found.append(self.fragment[pairs[same]])
        return np.concatenate(found)

    def _layout(self, axis: int) -> _Layout:
        """Planes across an axis: the faces of all blocks at a place along it, and one line of pixels of the blocks after them.

        Each square of pixels that are neighbours lies whole in the plane of one part, though it may meet several blocks.
        """
        edges, across, sizes = _without(self.grid.edge, axis), _without(self.own, axis), _without(self.grid.shape, axis)
        first = [own.start * edge for own, edge in zip(across, edges, strict=True)]
        stop = [min(n, own.stop * edge + 1) for n, own, edge in zip(sizes, across, edges, strict=True)]
        places = []
        for beside in product(*_without(_with_next(self.grid, self.own), axis)):
            start = [b * edge for b, edge in zip(beside, edges, strict=True)]
            end = [min(s + edge, last) for s, edge, last in zip(start, edges, stop, strict=True)]
            # an image of one axis has faces of none
            spot = (..., *(slice(s - f, e - f) for s, e, f in zip(start, end, first, strict=True)))
            places.append((beside, spot, tuple(slice(0, e - s) for s, e in zip(start, end, strict=True))))
        return [last - f for last, f in zip(stop, first, strict=True)], places

    def _plane(self, layout: _Layout, axis: int, place: int, side: int) -> npt.NDArray[np.int32]:
        """Pieces on the faces of the blocks at a place along an axis."""
        size, places = layout
        plane = np.empty(size, np.int32)
        for beside, spot, part in places:
            base, faces = self.faces[*beside[:axis], place, *beside[axis:]]
            face = faces[axis, side][part]
            above = np.sign(face)
            above *= base
            np.add(face, above, out=plane[spot])
        return plane


def _parts(grid: BlockGrid) -> Iterator[tuple[range, ...]]:
    """The blocks of an image in boxes with about `_MOST_PIXELS` face pixels, as equal in their edges as can be."""
    edge = [min(edge, n) for edge, n in zip(grid.edge, grid.shape, strict=True)]
    left = max(1, _MOST_PIXELS // (2 * sum(prod(edge) // n for n in edge)))
    edges = {}
    for done, (count, axis) in enumerate(sorted((count, axis) for axis, count in enumerate(grid.counts))):
        edges[axis] = min(count, int(left ** (1 / (len(grid.counts) - done))))
        left //= edges[axis]
    steps = [range(0, count, edges[axis]) for axis, count in enumerate(grid.counts)]
    for corner in product(*steps):
        yield tuple(range(c, min(c + step.step, step.stop)) for c, step in zip(corner, steps, strict=True))


def _with_next(grid: BlockGrid, own: tuple[range, ...]) -> tuple[range, ...]:
    """Blocks along each axis, and the one after them if there is one."""
    return tuple(range(some.start, min(some.stop + 1, count)) for some, count in zip(own, grid.counts, strict=True))


def _without(values: Sequence[T], axis: int) -> tuple[T, ...]:
    """Of all axes but one."""
    return (*values[:axis], *values[axis + 1 :])


def _labels(
    sizes: npt.NDArray[np.int64], first: npt.NDArray[np.int64], links: npt.NDArray[np.int64], min_size: int
) -> npt.NDArray[np.uint32]:
    """Label of each fragment: of those that are linked the earliest stands for all; changes `sizes`."""
    if not len(links):
        return numbered(sizes, first, min_size)
    linked = np.zeros(len(sizes), bool)
    linked[links] = True
    members = np.flatnonzero(linked)
    a, b = np.searchsorted(members, links).T
    graph = coo_matrix((np.ones(len(a), bool), (a, b)), shape=(len(members), len(members)))
    groups, group = connected_components(graph, directed=False)
    order = np.lexsort((first[members], group))
    leader = members[order[np.diff(group[order], prepend=-1) > 0]]
    total = np.bincount(group, sizes[members], minlength=groups)
    sizes[members] = 0
    sizes[leader] = total
    labels = numbered(sizes, first, min_size)
    labels[members] = labels[leader[group]]
    return labels
