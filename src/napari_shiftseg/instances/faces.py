"""Faces of blocks: what neighbours, and the join of all blocks, need of a block; which fragments they show to be one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from types import EllipsisType
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from napari_shiftseg.geometry import BlockGrid
from napari_shiftseg.instances.constants import FACE_PIXELS, FRAGMENT_BITS, RIM
from napari_shiftseg.instances.contacts import agreeing, touching
from napari_shiftseg.instances.pieces import Fragments, Pieces


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockFaces:
    """What the neighbours of a block, and the join of all blocks, need of it."""

    # sizes, first: of each fragment, as in `Fragments`
    sizes: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    modes: npt.NDArray[np.float64]  # (Q + 1, E) float64, of the pieces on the faces, as in `Pieces`; of 0 zeros
    fragment: npt.NDArray[np.int64]  # (Q + 1,) int64, their fragments; -1 for 0
    # for each axis and side (0, 1) the outermost pixels: number of the piece from 1 to Q, or 0
    faces: Mapping[tuple[int, int], npt.NDArray[np.int32]]
    # for each axis and side the codes of the outermost `REACH` + 1 pixels; empty for what needs none
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
class BlockRest:
    """What the join of the rest needs of a block."""

    faces: BlockFaces  # parts of the rest as pieces and fragments, all of one mode
    # border, contacts: as in `Rest`
    border: npt.NDArray[np.int64]
    contacts: npt.NDArray[np.int64]

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Plain named arrays, as files hold them."""
        return {**self.faces.to_arrays(), "border": self.border, "contacts": self.contacts}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> BlockRest:
        """The rest that `to_arrays` wrote down."""
        return cls(faces=BlockFaces.from_arrays(arrays), border=arrays["border"], contacts=arrays["contacts"])


def faces_of(found: Pieces, fragments: Fragments) -> BlockFaces:
    """What others need of a block."""
    ndim = found.pixels.ndim
    sides = list(product(range(ndim), (0, 1)))
    outermost = {(axis, side): np.take(found.pixels, -side, axis) for axis, side in sides}
    there = np.unique(np.concatenate([np.unique(face) for face in outermost.values()] + [np.zeros(1, np.int64)]))
    rims = {}
    for axis, side in sides:
        part = [slice(None)] * ndim
        part[axis] = slice(None, RIM) if side == 0 else slice(-RIM, None)
        rims[axis, side] = np.ascontiguousarray(fragments.codes[tuple(part)])
    return BlockFaces(
        sizes=fragments.sizes,
        first=fragments.first,
        modes=found.modes[there],
        fragment=found.fragment[there],
        faces={place: np.searchsorted(there, face).astype(np.int32) for place, face in outermost.items()},
        rims=rims,
    )


def rim(faces: BlockFaces, step: tuple[int, ...]) -> npt.NDArray[np.int32]:
    """Codes of the pixels of a neighbour, that many places away, that lie within `RIM` of the block."""
    axis = next(k for k, by in enumerate(step) if by)
    codes = faces.rims[axis, 1 if step[axis] < 0 else 0]
    part = [slice(None)] * codes.ndim
    for k in range(axis + 1, codes.ndim):
        if step[k]:
            part[k] = slice(-RIM, None) if step[k] < 0 else slice(None, RIM)
    return codes[tuple(part)]


T = TypeVar("T")
# Size of a plane of faces; of each block its place in the grid, that of its face in the plane, and how much of it lies there.
_Layout: TypeAlias = tuple[list[int], list[tuple[tuple[int, ...], tuple[EllipsisType | slice, ...], tuple[slice, ...]]]]


def linked(
    grid: BlockGrid, load: Callable[[int], BlockFaces], bandwidth: float | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Sizes and first pixels of the fragments of all blocks, where those of each block begin, and (N, 2) which are one."""
    sizes: dict[int, npt.NDArray[np.int64]] = {}
    first: dict[int, npt.NDArray[np.int64]] = {}

    def noted(number: int) -> BlockFaces:
        faces = load(number)
        sizes[number], first[number] = faces.sizes, faces.first
        return faces

    codes = np.concatenate([_Part.of(grid, own, noted).links(bandwidth) for own in _parts(grid)])
    offsets = np.cumsum([0, *(len(sizes[number]) for number in range(len(grid)))])
    links = offsets[codes >> FRAGMENT_BITS] + (codes & ((1 << FRAGMENT_BITS) - 1))
    # popped, so that no fragment is held twice for long
    all_sizes = np.concatenate([sizes.pop(number) for number in range(len(grid))])
    all_first = np.concatenate([first.pop(number) for number in range(len(grid))])
    return all_sizes, all_first, offsets, links


def led(first: npt.NDArray[np.int64], links: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Fragments that are linked, and for each the earliest of those that it is one with, which stands for all."""
    if not len(links):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    some = np.zeros(len(first), bool)
    some[links] = True
    members = np.flatnonzero(some)
    a, b = np.searchsorted(members, links).T
    graph = coo_matrix((np.ones(len(a), bool), (a, b)), shape=(len(members), len(members)))
    _, group = connected_components(graph, directed=False)
    order = np.lexsort((first[members], group))
    leaders = members[order[np.diff(group[order], prepend=-1) > 0]]
    return members, leaders[group]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """A box of blocks whose faces are looked at together, and the blocks after them; their pieces are numbered through."""

    grid: BlockGrid
    own: tuple[range, ...]  # blocks of the box along each axis
    # of each block, by its place in the grid: number of its piece 0, and its faces
    faces: Mapping[tuple[int, ...], tuple[int, Mapping[tuple[int, int], npt.NDArray[np.int32]]]]
    modes: npt.NDArray[np.float64]  # (R, E) float64, of all pieces
    # (R,) int64, their fragments: number of the block, and in the last `FRAGMENT_BITS` bits that of the fragment in it
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
            fragment.append((number << FRAGMENT_BITS) + known.fragment)
            base += len(known.modes)
        return cls(grid=grid, own=own, faces=faces, modes=np.concatenate(modes), fragment=np.concatenate(fragment))

    def links(self, bandwidth: float | None) -> npt.NDArray[np.int64]:
        """(N, 2) fragments of two blocks that are one."""
        found = [np.empty((0, 2), np.int64)]
        for axis, (own, count) in enumerate(zip(self.own, self.grid.counts, strict=True)):
            layout = self._layout(axis)
            for place in range(own.start, min(own.stop, count - 1)):
                pairs = touching(self._plane(layout, axis, place, side=1), self._plane(layout, axis, place + 1, side=0))
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
            spot: tuple[EllipsisType | slice, ...] = (
                ...,
                *(slice(s - f, e - f) for s, e, f in zip(start, end, first, strict=True)),
            )
            places.append((beside, spot, tuple(slice(0, e - s) for s, e in zip(start, end, strict=True))))
        return [last - f for last, f in zip(stop, first, strict=True)], places

    def _plane(self, layout: _Layout, axis: int, place: int, *, side: int) -> npt.NDArray[np.int32]:
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
    """The blocks of an image in boxes with about `FACE_PIXELS` face pixels, as equal in their edges as can be."""
    edge = [min(edge, n) for edge, n in zip(grid.edge, grid.shape, strict=True)]
    left = max(1, FACE_PIXELS // (2 * sum(prod(edge) // n for n in edge)))
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
