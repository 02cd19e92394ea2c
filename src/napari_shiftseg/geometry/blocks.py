"""`BlockGrid`: an image in blocks that fit in memory, each with the surroundings that its labels depend on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.geometry.plan import Window


@dataclass(frozen=True, kw_only=True)
class Block:
    """A part of the image."""

    number: int  # in raster order
    index: tuple[int, ...]  # place in the grid
    core: Window  # pixels that belong to this block alone
    seen: Window  # the core and the margin around it, as far as the image goes

    @property
    def shape(self) -> tuple[int, ...]:
        """Edges of the core, pixels."""
        return tuple(part.stop - part.start for part in self.core)

    @property
    def origin(self) -> tuple[int, ...]:
        """First pixel that is seen."""
        return tuple(part.start for part in self.seen)

    @property
    def inner(self) -> Window:
        """The core in an array of what is seen."""
        return tuple(
            slice(core.start - seen.start, core.stop - seen.start) for core, seen in zip(self.core, self.seen, strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class BlockGrid:
    """Blocks at multiples of their edge from pixel 0; iterate over it to get them in raster order.

    >>> grid = BlockGrid(shape=(100, 60), edge=(64, 64), halo=8)
    >>> [block.seen for block in grid]
    [(slice(0, 72, None), slice(0, 60, None)), (slice(56, 100, None), slice(0, 60, None))]
    """

    shape: tuple[int, ...]  # of the image, pixels
    edge: tuple[int, ...]  # of a block, pixels
    halo: int  # margin that a block sees on each side, pixels

    def __post_init__(self) -> None:
        if len(self.edge) != len(self.shape) or min(self.edge) < 1 or min(self.shape) < 1 or self.halo < 0:
            raise SettingsError(
                f"blocks of {self.edge} px with a margin of {self.halo} px were wanted for an image of {self.shape} px; "
                "give an edge of 1 px or more for each axis."
            )

    @property
    def counts(self) -> tuple[int, ...]:
        """Blocks per axis."""
        return tuple(-(-size // edge) for size, edge in zip(self.shape, self.edge, strict=True))

    def __len__(self) -> int:
        return prod(self.counts)

    def __iter__(self) -> Iterator[Block]:
        return (self.at(index) for index in product(*map(range, self.counts)))

    def __getitem__(self, number: int) -> Block:
        if not 0 <= number < len(self):
            raise IndexError(f"block {number} of {len(self)}")
        index = []
        for count in reversed(self.counts):
            number, place = divmod(number, count)
            index.append(place)
        return self.at(tuple(reversed(index)))

    def at(self, index: Sequence[int]) -> Block:
        """The block at a place in the grid."""
        core = tuple(slice(i * e, min((i + 1) * e, n)) for i, e, n in zip(index, self.edge, self.shape, strict=True))
        seen = tuple(
            slice(max(0, part.start - self.halo), min(n, part.stop + self.halo))
            for part, n in zip(core, self.shape, strict=True)
        )
        number = 0
        for place, count in zip(index, self.counts, strict=True):
            number = number * count + place
        return Block(number=number, index=tuple(index), core=core, seen=seen)

    def neighbour(self, block: Block, step: Sequence[int]) -> Block | None:
        """The block that many places away per axis, if there is one."""
        index = tuple(place + by for place, by in zip(block.index, step, strict=True))
        inside = all(0 <= place < count for place, count in zip(index, self.counts, strict=True))
        return self.at(index) if inside else None
