"""Edges that the tiles of a plan may have: those that were wished, the largest that fit the memory, those of the training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index

from napari_shiftseg.errors import TilingError
from napari_shiftseg.geometry.axis import halo
from napari_shiftseg.geometry.lattice import Lattice

__all__ = ["DEFAULT_MEMORY", "checked_edges", "edges_as_trained", "largest_edges", "read_shape"]

# Larger tiles gain little (redundancy 1.13 at 512 px, levels=3) and make progress and cancelling coarse.
_LARGEST_DEFAULT = {1: 1 << 20, 2: 512, 3: 96}
DEFAULT_MEMORY = 2 << 30


def checked_edges(
    lattice: Lattice, write: int | Sequence[int], shape: tuple[int, ...], domain: tuple[int, ...], allow_noncompliant: bool
) -> tuple[int, ...]:
    """The wished edges, one per axis; an edge of the image's size or more means one tile there.

    Raises
    ------
    TilingError
        If an edge is no multiple of the period, and that is not allowed.
    """
    wanted = _per_axis(lattice, write)
    single = [edge >= min(sizes) for edge, *sizes in zip(wanted, shape, domain, strict=True)]  # one tile on this axis
    for axis, (edge, period) in enumerate(zip(wanted, lattice.period, strict=True)):
        if single[axis]:
            continue
        if edge < 1:
            raise TilingError(f"write window {edge} px on axis {axis} is too small; use {period}.", nearest=(period,))
        if edge % period and not allow_noncompliant:
            lower, upper = edge // period * period, (edge // period + 1) * period
            nearest = (lower, upper) if lower else (upper,)
            raise TilingError(
                f"write window {edge} px on axis {axis} is not a multiple of the period {period} px; "
                f"use {' or '.join(map(str, nearest))}.",
                nearest=nearest,
            )
    return tuple(size if one else edge for edge, size, one in zip(wanted, domain, single, strict=True))


def largest_edges(lattice: Lattice, domain: tuple[int, ...], memory: int) -> tuple[int, ...]:
    """Largest legal edges, as equal as possible over the image, whose pass fits in `memory` bytes."""
    periods = [
        max(1, min(size, _LARGEST_DEFAULT[lattice.ndim]) // period) for size, period in zip(domain, lattice.period, strict=True)
    ]
    while lattice.peak_bytes(read_shape(lattice, periods)) > memory and max(periods) > 1:
        axis = max(range(lattice.ndim), key=lambda k: periods[k] * lattice.period[k] * (periods[k] > 1))
        periods[axis] = max(1, periods[axis] * 3 // 4)
    edges = []
    for size, count, period in zip(domain, periods, lattice.period, strict=True):
        tiles = -(-size // (count * period))
        edges.append(-(-size // (tiles * period)) * period)
    return tuple(edges)


def read_shape(lattice: Lattice, periods: Sequence[int]) -> tuple[int, ...]:
    """Input edges of a tile inside an image that writes so many periods per axis, pixels."""
    write = tuple(n * p for n, p in zip(periods, lattice.period, strict=True))
    if lattice.padding == "zero":
        return tuple(w + 2 * halo(lattice, k) for k, w in enumerate(write))
    return lattice.input_size(write)


def edges_as_trained(
    lattice: Lattice,
    write: int | Sequence[int] | None,
    shape: tuple[int, ...],
    window: Sequence[int],
    allow_noncompliant: bool,
) -> tuple[int, ...] | None:
    """The window of a training on padded tiles that stand alone; None where other tiles are wished and allowed.

    Raises
    ------
    TilingError
        If other tiles are wished and not allowed; `nearest` holds the window.
    """
    edges = tuple(window)
    if len(edges) != lattice.ndim or any(edge < 1 or edge % period for edge, period in zip(edges, lattice.period, strict=True)):
        return None  # no window that this network can have been trained on
    wanted = edges if write is None else _per_axis(lattice, write)
    # who wishes for one tile on an axis gets it where one window holds the image
    if all(have == edge or min(have, edge) >= size for have, edge, size in zip(wanted, edges, shape, strict=True)):
        return edges
    if allow_noncompliant:
        return None
    raise TilingError(
        f"tiles of {' x '.join(map(str, wanted))} px were wanted of a zero-padded network that was trained on tiles of "
        f"{' x '.join(map(str, edges))} px that stood alone; use {' x '.join(map(str, edges))} px.",
        nearest=edges,
    )


def _per_axis(lattice: Lattice, write: int | Sequence[int]) -> tuple[int, ...]:
    try:
        wanted = tuple(map(index, write)) if isinstance(write, Iterable) else (index(write),) * lattice.ndim
    except TypeError as exc:
        raise TilingError(f"the tile edge is {write!r}; give whole pixels, one number or one per axis.") from exc
    if len(wanted) != lattice.ndim:
        raise TilingError(f"{len(wanted)} tile edges were given for {lattice.ndim} axes; give 1 or {lattice.ndim}.")
    return wanted
