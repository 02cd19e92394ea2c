"""The same result by other tiles: those of a part of it, as blocks of a large image need them, or smaller ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from napari_shiftseg.errors import TilingError
from napari_shiftseg.geometry.plan import TilePlan, image_axes, planned


def plan_part(plan: TilePlan, window: Sequence[slice]) -> TilePlan:
    """Tiles for a part of a result, on the lattice of its plan but of a size that fits the part.

    TilingError if the window does not start on the lattice, is empty or lies outside, or the tiles of `plan` are off the
    lattice.

    Parameters
    ----------
    plan : TilePlan
        Of the whole image; its tiles are multiples of the period.
    window : sequence of slice
        Result pixels per axis that are wanted, not empty; each starts at a multiple of the period.

    Returns
    -------
    TilePlan
        Its result is the window; the network gives there what it gives with `plan`. No tile is larger than those of `plan`,
        and the tiles along an axis depend on the window on that axis alone.

    >>> from napari_shiftseg.geometry import UNetSpec, plan_tiles
    >>> whole = plan_tiles(UNetSpec(), (1000, 700), 200)
    >>> part = plan_part(whole, (slice(192, 700), slice(0, 320)))
    >>> part.origin, part.result_shape, part.write
    ((192, 0), (508, 320), (176, 160))
    """
    lattice = plan.lattice
    period = lattice.period
    if any(edge % p for edge, p in zip(plan.write, period, strict=True)):
        raise TilingError(f"tiles of {plan.write} px are not multiples of the period {period} px; take plan.within(window).")
    if plan.zeros == "tile":
        raise TilingError(f"tiles of {plan.write} px stand alone and cannot be others; take plan.within(window).")
    for axis, (part, size) in enumerate(zip(window, plan.result_shape, strict=True)):
        if not 0 <= part.start < part.stop <= size or part.start % period[axis]:
            raise TilingError(
                f"a part from {part.start} to {part.stop} px was wanted on axis {axis} of {size} px; it must lie inside and "
                f"start at a multiple of the period {period[axis]} px."
            )
    edges = tuple(
        _even_split(-(-(part.stop - part.start) // p) * p, edge, p)
        for part, edge, p in zip(window, plan.write, period, strict=True)
    )
    found = planned(image_axes(lattice, plan.image_shape, border=plan.border, zeros=plan.zeros), edges, window)
    origin = tuple(first + part.start for first, part in zip(plan.origin, window, strict=True))
    return replace(found, origin=origin, automatic=plan.automatic)


def smaller_plan(plan: TilePlan) -> TilePlan | None:
    """A plan of the same result pixels whose passes take half the memory or less; None if tiles cannot be smaller.

    Its tiles lie on the lattice of the plan, so the network gives there what it gives with `plan`.

    >>> from napari_shiftseg.geometry import UNetSpec, plan_tiles
    >>> plan = plan_tiles(UNetSpec(), (1000, 700))
    >>> plan.write, smaller_plan(plan).write
    ((504, 352), (280, 264))
    """
    lattice, period = plan.lattice, plan.lattice.period
    edges = [min(edge, -(-size // p) * p) for edge, size, p in zip(plan.write, plan.result_shape, period, strict=True)]
    if plan.zeros == "tile" or any(edge % p for edge, p in zip(edges, period, strict=True)):
        return None
    counts = [edge // p for edge, p in zip(edges, period, strict=True)]
    fewer = lattice.fewer_periods(counts, lattice.peak_bytes(lattice.read_shape(counts)) / 2)
    write = tuple(count * p for count, p in zip(fewer, period, strict=True))
    if write == tuple(edges):
        return None
    whole = plan.resized(write)
    window = [
        slice(start - first, start - first + size)
        for start, first, size in zip(plan.origin, whole.origin, plan.result_shape, strict=True)
    ]
    try:
        same = (whole.origin, whole.result_shape) == (plan.origin, plan.result_shape)
        return replace(whole if same else plan_part(whole, window), automatic=plan.automatic)
    except TilingError:  # the smallest tiles of a network can have another crop
        return None


def _even_split(size: int, edge: int, period: int) -> int:
    """The legal edge that splits `size` into as many tiles as `edge` does, as evenly as can be."""
    count = -(-size // min(edge, size))
    return -(-size // (count * period)) * period
