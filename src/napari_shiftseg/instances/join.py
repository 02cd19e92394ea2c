"""Instances across blocks: fragments whose pieces touch at a face and whose modes agree are one, joined by union-find.

All that the join needs of a block is small: the outermost pixels on its faces, the modes of the pieces found there, and size
and first pixel of each fragment. The rest that no instance reaches is joined in the same way, once the instances are known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
import numpy.typing as npt

from napari_shiftseg.geometry import Block, BlockGrid
from napari_shiftseg.instances.constants import RIM
from napari_shiftseg.instances.faces import BlockFaces, BlockRest, led, linked, rim
from napari_shiftseg.instances.pieces import LabelSettings, numbered, numbered_again
from napari_shiftseg.instances.undecided import Rest, placed, rest_of, settled


@dataclass(frozen=True, kw_only=True, eq=False)
class Numbers:
    """Labels of all fragments of all blocks, and in the end of the parts of the rest."""

    # labels, rest: (F of all blocks,) and (P of all blocks,) uint32, 0 for those that are dissolved; `rest` is empty until it
    # is joined
    labels: npt.NDArray[np.uint32]
    # offsets, rest_offsets: (B + 1,) int64: those of block b lie from `offsets[b]` to `offsets[b + 1]`
    offsets: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]  # (K,) int64, first pixel in raster order of the instances 1, 2, ... that fragments make.
    rest: npt.NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    rest_offsets: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))

    @property
    def count(self) -> int:
        """Number of instances."""
        return int(max(self.labels.max(initial=0), self.rest.max(initial=0)))

    def of(self, block: Block) -> npt.NDArray[np.uint32]:
        """Labels of the fragments of a block."""
        return self.labels[self.offsets[block.number] : self.offsets[block.number + 1]]

    def of_rest(self, block: Block) -> npt.NDArray[np.uint32]:
        """Labels of the parts of the rest of a block."""
        return self.rest[self.rest_offsets[block.number] : self.rest_offsets[block.number + 1]]


def join_blocks(grid: BlockGrid, load: Callable[[int], BlockFaces], settings: LabelSettings) -> Numbers:
    """Number the instances of an image from the faces of its blocks.

    `load`: number of a block to its `BlockFaces`; asked once for each block, or a few times if the image has many.

    Notes
    -----
    The work grows with the number of fragments and of face pixels, and not with that of pairs of blocks or instances. Faces are
    held of one part of the image at a time, sizes and first pixels of the fragments of all.
    """
    sizes, first, offsets, links = linked(grid, load, settings.agreement)
    return _numbers(sizes, first, offsets, links=links, min_size=settings.min_size)


def join_rest(grid: BlockGrid, load: Callable[[int], BlockRest], numbers: Numbers, *, settings: LabelSettings) -> Numbers:
    """Number the instances of an image anew once the rest of each of its blocks is known.

    Parameters
    ----------
    load : callable
        Number of a block to its `BlockRest`, as in `join_blocks`.
    numbers : Numbers
        Of the fragments, with which the rest was found.
    """
    border: dict[int, npt.NDArray[np.int64]] = {}
    contacts: dict[int, npt.NDArray[np.int64]] = {}

    def noted(number: int) -> BlockFaces:
        found = load(number)
        border[number], contacts[number] = found.border, found.contacts
        return found.faces

    sizes, first, offsets, links = linked(grid, noted, 1.0)
    members, leaders = led(first, links)
    stands = np.arange(len(sizes))
    stands[members] = leaders
    for number, start in enumerate(offsets[:-1]):
        contacts[number] = contacts[number] + [start, 0, 0]
    touched = np.concatenate([contacts[number] for number in range(len(grid))])
    touched[:, 0] = stands[touched[:, 0]]
    whole = np.bincount(stands, sizes, len(sizes)).astype(np.int64)
    edges = np.concatenate([border[number] for number in range(len(grid))])
    joins = placed(
        whole,
        np.bincount(stands, edges, len(sizes)).astype(np.int64),
        touched,
        min_size=settings.min_size,
        seeds=settings.seeds,
    )
    leading = np.flatnonzero(stands == np.arange(len(stands)))
    again, parts = numbered_again(numbers.first, joins[leading], first[leading])
    rest = np.zeros(len(sizes), np.uint32)
    rest[leading] = parts
    return replace(numbers, labels=again[numbers.labels], rest=rest[stands], rest_offsets=offsets)


@dataclass(frozen=True, kw_only=True, eq=False)
class Settling:
    """A block, and all that decides its labels."""

    grid: BlockGrid
    block: Block
    codes: npt.NDArray[np.int32]  # (*core) codes of the block
    numbers: Numbers  # from `join_blocks` to find the rest, from `join_rest` for the labels
    load: Callable[[int], BlockFaces]  # number of a neighbour to its `BlockFaces`
    window: int  # pixels per axis that are looked at at once

    def labels(self) -> npt.NDArray[np.uint32]:
        """(*core) final labels, as `label_instances` gives them for the whole image."""
        labels, rest = self._reached()
        there = rest.pixels > 0
        labels[there] = self.numbers.of_rest(self.block)[rest.pixels[there] - 1]
        return labels

    def rest(self) -> BlockRest:
        """What no instance reaches."""
        _, rest = self._reached()
        count = len(rest.sizes)
        sides = product(range(self.codes.ndim), (0, 1))
        faces = BlockFaces(
            sizes=rest.sizes,
            first=rest.first,
            modes=np.zeros((count + 1, 1)),
            fragment=np.arange(count + 1) - 1,
            faces={(axis, side): np.take(rest.pixels, -side, axis) for axis, side in sides},
            rims={},
        )
        return BlockRest(faces=faces, border=rest.border, contacts=rest.contacts)

    def _reached(self) -> tuple[npt.NDArray[np.uint32], Rest]:
        """Labels where an instance reaches, and the rest."""
        shape, place = self.codes.shape, self.block.index
        before = tuple(RIM * (k > 0) for k in place)
        after = tuple(RIM * (k + 1 < count) for k, count in zip(place, self.grid.counts, strict=True))
        codes, tables = self._wide(before, after)
        # with the next pixels, whose labels the rest may touch
        one = [(min(1, b), min(1, a)) for b, a in zip(before, after, strict=True)]
        beside = tuple(slice(b - s, b + n + e) for n, b, (s, e) in zip(shape, before, one, strict=True))
        inner = tuple(slice(s, s + n) for n, (s, _) in zip(shape, one, strict=True))
        labels = settled(codes, np.concatenate(tables), self.window, inner=beside)
        corner = [part.start for part in self.block.core]
        rest = rest_of(labels, codes[beside], inner, corner=corner, image_shape=self.grid.shape)
        return labels[inner], rest

    def _wide(
        self, before: tuple[int, ...], after: tuple[int, ...]
    ) -> tuple[npt.NDArray[np.int32], list[npt.NDArray[np.uint32]]]:
        """Codes of the block and of the pixels around it that decide its labels, and the label of each code."""
        shape = self.codes.shape
        wide = np.zeros(tuple(n + b + a for n, b, a in zip(shape, before, after, strict=True)), np.int32)
        wide[tuple(slice(b, b + n) for n, b in zip(shape, before, strict=True))] = self.codes
        tables = [np.zeros(2, np.uint32), self.numbers.of(self.block)]
        known = len(tables[1])
        for step in product((-1, 0, 1), repeat=len(shape)):
            other = self.grid.neighbour(self.block, step)
            if other is None or not any(step):
                continue
            part = rim(self.load(other.number), step)
            place = tuple(
                slice(0, b) if s < 0 else slice(b, b + n) if s == 0 else slice(b + n, b + n + have)
                for s, b, n, have in zip(step, before, shape, part.shape, strict=True)
            )
            wide[place] = np.where(part > 1, part + known, part)
            tables.append(self.numbers.of(other))
            known += len(tables[-1])
        return wide, tables


def _numbers(
    sizes: npt.NDArray[np.int64],
    first: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    *,
    links: npt.NDArray[np.int64],
    min_size: int,
) -> Numbers:
    """Label of each fragment; changes `sizes`."""
    members, leaders = led(first, links)
    total = sizes[members]
    sizes[members] = 0
    np.add.at(sizes, leaders, total)
    labels = numbered(sizes, first, min_size)
    kept = np.sort(first[labels > 0])
    labels[members] = labels[leaders]
    return Numbers(labels=labels, offsets=offsets, first=kept)
