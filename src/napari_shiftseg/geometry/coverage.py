"""`Coverage`: of the output functions that run, and of the pairs that are neighbours, how many a training had under one loss.

An output function is what the network computes at one place. With valid convolutions there are as many as the period has
pixels, and a pixel's place in the period says which one it gets. A zero-padded network has others: where a tile ends, its
zeros are part of the function, so each place in a tile is a function of its own, and pixels that see no zeros have again one
per place in the period.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Literal, Protocol

from napari_shiftseg.geometry.lattice import Lattice
from napari_shiftseg.geometry.spec import UNetSpec, as_lattice

Zeros = Literal["nowhere", "image", "tile"]
"""Where a run meets zeros: nowhere, at the border of the image, or at the border of each tile."""


class Trained(Protocol):
    """What the rules need to know of a training; `inner`, where there is one, is the part of `window` that alone had a loss."""

    @property
    def window(self) -> tuple[int, ...]:
        """Output window of a training tile, pixels per axis."""

    @property
    def neighbours(self) -> bool:
        """Whether every batch held a tile and its direct neighbour along each axis, with one loss over all of them."""


@dataclass(frozen=True, kw_only=True)
class AxisCoverage:
    """Along one axis: output functions and pairs of direct neighbours, trained and in all."""

    functions: int
    of_functions: int
    pairs: int
    of_pairs: int

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return self.functions == self.of_functions and self.pairs == self.of_pairs


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """The count behind "compliant": complete if every function that runs, and every pair of neighbours, was trained.

    A pair is a function and the next one along an axis; the last one of a period (of a tile, with zeros at its border) is
    followed by the first. So there is one pair per function and axis.

    Attributes
    ----------
    axes : tuple of AxisCoverage
    """

    axes: tuple[AxisCoverage, ...]

    @property
    def functions(self) -> int:
        """Trained output functions that run."""
        return prod(axis.functions for axis in self.axes)

    @property
    def of_functions(self) -> int:
        """Output functions that run."""
        return prod(axis.of_functions for axis in self.axes)

    @property
    def pairs(self) -> int:
        """Pairs of direct neighbours that were neighbours under one loss."""
        return self._beside([(axis.pairs, axis.functions) for axis in self.axes])

    @property
    def of_pairs(self) -> int:
        """Pairs of direct neighbours when the network runs."""
        return self._beside([(axis.of_pairs, axis.of_functions) for axis in self.axes])

    @staticmethod
    def _beside(axes: list[tuple[int, int]]) -> int:
        """Pairs along each axis at all places of the others."""
        return sum(pairs * prod(f for k, (_, f) in enumerate(axes) if k != axis) for axis, (pairs, _) in enumerate(axes))

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return all(axis.complete for axis in self.axes)

    def describe(self) -> str:
        """The two counts in words."""
        return f"{self.functions} of {self.of_functions} functions, {self.pairs} of {self.of_pairs} pairs"

    def to_dict(self) -> dict[str, list[int]]:
        """Plain values for a record: trained, and in all."""
        return {"functions": [self.functions, self.of_functions], "pairs": [self.pairs, self.of_pairs]}


def coverage(network: Lattice | UNetSpec, trained: Trained, zeros: Zeros | None = None) -> Coverage:
    """Count the output functions and pairs that a training had under one loss.

    Parameters
    ----------
    network : Lattice or UNetSpec
    trained : object with `window` and `neighbours`
        The training; one edge per axis.
    zeros : {"nowhere", "image", "tile"}, optional
        Where the run meets zeros, if the network pads with them; None takes what the training asks for.

    Notes
    -----
    A window of w pixels holds w neighbouring functions and w - 1 pairs, at most the period's. With `neighbours` the first
    pixel of a tile follows the last one of the tile before. Each tile passes the network on its own, so along valid axes
    this is a pair of the run only where w is a multiple of the period; of padded tiles that stand alone it is the pair at
    their seam.

    Source: Rumberger et al. 2021, section 3.2.

    >>> from dataclasses import make_dataclass
    >>> training = make_dataclass("T", ["window", "neighbours"])
    >>> coverage(UNetSpec(levels=4), training((20, 20), False)).describe()
    '256 of 256 functions, 512 of 512 pairs'
    >>> coverage(UNetSpec(levels=3, convs=3), training((6, 6), True)).describe()
    '36 of 64 functions, 60 of 128 pairs'
    """
    lattice, inner = as_lattice(network), inner_part(trained)
    zeros = zeros or zeros_as_trained(lattice, trained)
    if lattice.padding == "zero" and zeros == "tile" and inner is None:
        return Coverage(axes=tuple(_alone(window, trained.neighbours) for window in trained.window))
    seen = trained.window if inner is None else inner
    if lattice.padding == "zero" and not _sees_no_zeros(lattice, trained):
        seen = (0,) * lattice.ndim  # whoever sees zeros is another function
    joined = trained.neighbours and inner is None
    axes = [_periodic(window, period, joined) for window, period in zip(seen, lattice.period, strict=True)]
    if lattice.padding == "zero" and zeros == "image":
        axes = [_with_borders(lattice, axis, inside) for axis, inside in enumerate(axes)]
    return Coverage(axes=tuple(axes))


def _periodic(window: int, period: int, joined: bool) -> AxisCoverage:
    pairs = min(max(0, window - 1), period)
    if joined and window == period:
        pairs = period  # the next tile starts with the function that follows
    return AxisCoverage(functions=min(window, period), of_functions=period, pairs=pairs, of_pairs=period)


def _with_borders(lattice: Lattice, axis: int, inside: AxisCoverage) -> AxisCoverage:
    """A large image has, beside the period's, one function for each place that sees a border, which no loss had."""
    places = range(lattice.reach[axis] + 2)
    first = [lattice.sees(axis, place)[0] < 0 for place in places]
    last = [lattice.sees(axis, -1 - place)[1] >= 0 for place in places]
    functions = inside.of_functions + sum(first) + sum(last)
    pairs = inside.of_pairs + sum(a or b for side in (first, last) for a, b in pairwise(side))
    return replace(inside, of_functions=functions, of_pairs=pairs)


def _alone(window: int, joined: bool) -> AxisCoverage:
    return AxisCoverage(functions=window, of_functions=window, pairs=window if joined else window - 1, of_pairs=window)


def inner_part(trained: Trained) -> tuple[int, ...] | None:
    """Edges of the centred part of a training window that alone had a loss; None where all of it had one."""
    inner: tuple[int, ...] | None = getattr(trained, "inner", None)
    return None if inner is None else tuple(inner)


def zeros_as_trained(lattice: Lattice, trained: Trained | None) -> Zeros:
    """Where a run may meet zeros, so that it is what was trained."""
    if lattice.padding == "valid":
        return "nowhere"
    if trained is None:
        return "image"
    if inner_part(trained) is not None:
        return "nowhere"
    return "tile" if trained.neighbours else "image"


def least_window(lattice: Lattice, axis: int, *, neighbours: bool = False) -> int:
    """Smallest natural output edge of a valid network that trains all functions and pairs along an axis, pixels.

    >>> least_window(UNetSpec(levels=4), 0)
    20
    """
    edge, period = lattice.output_size(lattice.input_size(1, axis), axis), lattice.period[axis]
    while not _periodic(edge, period, neighbours).complete:
        edge += period
    return edge


def _sees_no_zeros(lattice: Lattice, trained: Trained) -> bool:
    """Whether the loss was on pixels alone that see nothing beyond their training window."""
    inner = inner_part(trained)
    return inner is not None and all(
        part > 0 and (whole - part) // 2 >= reach
        for whole, part, reach in zip(trained.window, inner, lattice.reach, strict=True)
    )
