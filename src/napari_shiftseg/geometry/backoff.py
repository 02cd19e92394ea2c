"""The same result by smaller tiles or narrower columns, for when memory ran out."""

from __future__ import annotations

from dataclasses import replace

from napari_shiftseg.errors import TilingError
from napari_shiftseg.geometry.edges import read_shape
from napari_shiftseg.geometry.part import plan_part
from napari_shiftseg.geometry.plan import TilePlan
from napari_shiftseg.geometry.stream_plan import StreamPlan, plan_stream

__all__ = ["narrower_stream", "smaller_plan"]

# Share of the memory that a stream must not exceed to be worth another try.
_LESS = 0.75


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
    target = lattice.peak_bytes(read_shape(lattice, counts)) / 2
    while lattice.peak_bytes(read_shape(lattice, counts)) > target and max(counts) > 1:
        axis = max(range(lattice.ndim), key=lambda k: counts[k] * period[k] * (counts[k] > 1))
        counts[axis] = max(1, counts[axis] * 3 // 4)
    write = tuple(count * p for count, p in zip(counts, period, strict=True))
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


def narrower_stream(stream: StreamPlan) -> StreamPlan | None:
    """A stream of the same tiles that takes about half the memory, by lower strips or narrower columns; None if there is none.

    >>> from napari_shiftseg.geometry import UNetSpec, plan_tiles
    >>> stream = plan_stream(plan_tiles(UNetSpec(), (4096, 4096)))
    >>> narrower_stream(stream).peak_bytes < 0.75 * stream.peak_bytes
    True
    """
    found = plan_stream(stream.tiles, memory=stream.peak_bytes // 2)
    return found if found.peak_bytes <= _LESS * stream.peak_bytes else None
