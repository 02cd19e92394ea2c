"""`Turning`: a network that runs on an image flipped and turned in all ways, whose outputs are brought back and averaged.

Where a tile reads pixels [a, a + n), the flipped network's grid of poolings begins at a + n. All edges that a network takes
differ by whole periods, and so do the places where tiles begin: the grid of each turn lies at the same pixels of the image in
every tile, and the mean of all turns repeats with the period of the network. So its lattice is that of the network, and only
its cost is another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod

from napari_shiftseg.geometry.constants import TURNED
from napari_shiftseg.geometry.lattice import Lattice


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One way to lay an image before a network: axes in another order, and some of them run backwards.

    >>> Turn(axes=(1, 0), flipped=(True, False)).edges((40, 50))
    (50, 40)
    """

    axes: tuple[int, ...]  # of the image, in the order in which the network gets them
    flipped: tuple[bool, ...]  # whether each axis of the network runs backwards

    def edges(self, edges: Sequence[int]) -> tuple[int, ...]:
        """Edges of the turned image."""
        return tuple(edges[axis] for axis in self.axes)

    def place(self, axis: int) -> int:
        """Which axis of the network an axis of the image became."""
        return self.axes.index(axis)

    def sign(self, axis: int) -> int:
        """What a component along an axis of the image is multiplied by."""
        return -1 if self.flipped[self.place(axis)] else 1


@dataclass(frozen=True, kw_only=True)
class Turning:
    """A network, and all turns of an image that it runs on."""

    inner: Lattice

    @cached_property
    def turns(self) -> tuple[Turn, ...]:
        """All flips; in the plane of the last two axes quarter turns as well, where the network treats both alike.

        >>> len(Turning(inner=Lattice(period=(8, 8), margin=(8, 8))).turns)
        8
        >>> len(Turning(inner=Lattice(ndim=3, period=(1, 8, 8), margin=(8, 8, 8))).turns)
        16
        """
        ndim = self.inner.ndim
        orders = [tuple(range(ndim))]
        if ndim > 1 and self._square:
            orders.append((*range(ndim - 2), ndim - 1, ndim - 2))
        return tuple(Turn(axes=axes, flipped=flipped) for axes in orders for flipped in product((False, True), repeat=ndim))

    @property
    def _square(self) -> bool:
        """Whether what the network takes along one of the last two axes it takes along the other."""
        inner = self.inner
        values = (inner.period, inner.margin, inner.reach, inner.smallest)
        return all(value[-1] == value[-2] for value in values)

    @property
    def lost(self) -> tuple[int, ...]:
        """Pixels per axis between the first that a pass reads and the first of its output, with all turns the same."""
        return tuple(-(-margin // 2) for margin in self.inner.margin)

    def window(self, turn: Turn, read: Sequence[int], keep: Sequence[slice]) -> tuple[slice, ...]:
        """Where in the network's output, of a turned input of shape `read`, the window `keep` of the mean lies."""
        windows = []
        for axis, flipped in zip(turn.axes, turn.flipped, strict=True):
            before, part = self.lost[axis], keep[axis]
            start, stop = part.start + before, part.stop + before  # in the input
            if flipped:
                start, stop = read[axis] - stop, read[axis] - start
            own = self.inner.margin[axis] // 2
            windows.append(slice(start - own, stop - own))
        return tuple(windows)

    def flops(self, read: Sequence[int]) -> float:
        """Operations of all passes over an input of shape `read`."""
        return sum(self.inner.flops(turn.edges(read)) for turn in self.turns)

    def peak_bytes(self, read: Sequence[int], itemsize: int = 4) -> float:
        """Memory of one pass after the other, with the turned image, and in float32 what was said of the image so far."""
        return self.inner.peak_bytes(read, itemsize) + 4.0 * prod(read) * (2 * self.inner.in_channels + TURNED)

    def lattice(self) -> Lattice:
        """What a plan needs of the network together with all turns."""
        inner = self.inner
        if inner.padding == "valid":
            # an odd margin is one more on one side, which flips to the other
            margin = tuple(2 * lost for lost in self.lost)
            smallest = tuple(
                least + period * (least <= both)
                for least, both, period in zip(inner.smallest, margin, inner.period, strict=True)
            )
        else:
            margin, smallest = inner.margin, inner.smallest
        shifts = (both // 2 - own // 2 for both, own in zip(margin, inner.margin, strict=True))
        phases = ((phase - s) % period for phase, s, period in zip(inner.grid_phase, shifts, inner.period, strict=True))
        return replace(
            inner,
            margin=margin,
            smallest=smallest,
            grid_phase=tuple(phases),
            flops_per_pixel=inner.flops_per_pixel * len(self.turns),
            spec=None,
            turning=self,
        )


def turned_lattice(inner: Lattice) -> Lattice:
    """The lattice of a network that runs on all flips and turns of an image.

    >>> from napari_shiftseg.geometry import UNetSpec
    >>> turned_lattice(UNetSpec(levels=3).lattice).period
    (8, 8)
    """
    return Turning(inner=inner).lattice()
