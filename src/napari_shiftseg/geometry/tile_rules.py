"""The rules of tiling: multiples of the period, one lattice, one crop, enough context."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from napari_shiftseg.geometry.coverage import Trained, zeros_as_trained
from napari_shiftseg.geometry.plan import TilePlan
from napari_shiftseg.geometry.ruling import Ruling, ruling, times, violation

__all__ = ["context", "crop", "lattice", "stands_alone", "strange_pairs", "tile_exact", "without_zeros", "write_multiple"]


def tile_exact(plan: TilePlan) -> bool:
    """Whether the stitched output equals that of one pass: never of several padded tiles that stand alone."""
    multiple = write_multiple(plan)
    judged = (multiple, lattice(plan, multiple), crop(plan), context(plan, None))
    return not any(one.broken for one in judged)


def _seams(plan: TilePlan) -> list[int]:
    """Axes with more than one tile: a single tile has no seam."""
    return [axis for axis, windows in enumerate(plan.axes) if len(windows) > 1]


def write_multiple(plan: TilePlan) -> Ruling:
    """Tiles are multiples of the period."""
    broken = []
    for axis in _seams(plan):
        write, period = plan.write[axis], plan.spec.period[axis]
        if write % period:
            lower = write // period * period
            broken.append(
                violation(
                    "write-multiple",
                    axis,
                    write,
                    tuple(n for n in (lower, lower + period) if n),
                    f"tiles of {write} px on axis {axis} are not a multiple of the period {period} px: at each seam "
                    f"two output functions meet that were never neighbours; use {lower + period} px"
                    + (f" or {lower} px." if lower else "."),
                )
            )
    one = "; one tile has no seam" if len(plan) == 1 else ""
    wanted = f"multiples of the period {times(plan.spec.period)} px"
    return ruling("write-multiple", broken, f"tiles of {times(plan.write)} px{one}", wanted)


def _on_lattice(plan: TilePlan) -> list[int]:
    """Axes with seams whose tiles are multiples of the period; of others nothing more can be said."""
    return [axis for axis in _seams(plan) if plan.write[axis] % plan.spec.period[axis] == 0]


def lattice(plan: TilePlan, multiple: Ruling) -> Ruling:
    """Tiles start at one phase of the pooling grid."""
    phases = {axis: len({read.start % plan.spec.period[axis] for read, _, _ in plan.axes[axis]}) for axis in _seams(plan)}
    broken = [
        violation(
            "lattice",
            axis,
            phases[axis],
            (plan.spec.period[axis],),
            f"tiles on axis {axis} start at {phases[axis]} different phases of the pooling grid; start all at "
            f"multiples of {plan.spec.period[axis]} px.",
        )
        for axis in _on_lattice(plan)
        if phases[axis] > 1
    ]
    most = max(phases.values(), default=1)
    judged = ruling("lattice", broken, f"{most} phase{'s' * (most > 1)} of the pooling grid", "1")
    if most > 1 and not broken and multiple.broken:
        return replace(judged, verdict="FAIL", fix="as for write-multiple.")
    return judged


def strange_pairs(plan: TilePlan) -> tuple[int, ...]:
    """Pairs of output functions, per axis, that meet at seams and are no neighbours within a tile."""
    counts = []
    for tiles, period in zip(plan.axes, plan.spec.period, strict=True):
        met = {((before.stop - 1) % period, after.start % period) for (_, before, _), (_, after, _) in pairwise(tiles)}
        counts.append(sum((last + 1) % period != first for last, first in met))
    return tuple(counts)


def crop(plan: TilePlan) -> Ruling:
    """Tiles lose the same crop."""
    crops = {axis: {r.start + keep.start - write.start for r, keep, write in plan.axes[axis]} for axis in _seams(plan)}
    broken = [
        violation(
            "crop",
            axis,
            len(crops[axis]),
            (min(crops[axis]),),
            f"tiles on axis {axis} are cropped by different amounts; keep the crop constant.",
        )
        for axis in _on_lattice(plan)
        if len(crops[axis]) > 1
    ]
    most = max(map(len, crops.values()), default=1)
    return ruling("crop", broken, f"{most} crop{'s' * (most > 1)}", "1, the same for all tiles")


def context(plan: TilePlan, trained: Trained | None) -> Ruling:
    """A padded network sees false zeros at tile borders unless each tile reads all that its pixels see."""
    if plan.spec.padding == "valid":
        return ruling("context", [], "valid convolutions", "real context for each pixel")
    reach = plan.spec.reach
    if trained is not None and stands_alone(plan, trained):
        found = f"tiles of {times(plan.write)} px that stand alone, as in training; not equal to one pass"
        return ruling("context", [], found if _seams(plan) else "one tile", f"{times(reach)} px around a tile, or as trained")
    broken = []
    for axis in _on_lattice(plan):
        last = plan.pad[axis][0] + plan.image_shape[axis] + plan.pad[axis][1]
        around = [
            edge
            for read, keep, _ in plan.axes[axis]
            for edge, inside in ((keep.start, read.start > 0), (read.stop - read.start - keep.stop, read.stop < last))
            if inside
        ]
        least = min(around, default=reach[axis])
        if least < reach[axis]:
            broken.append(
                violation(
                    "context",
                    axis,
                    least,
                    (reach[axis],),
                    f"tiles on axis {axis} have {least} px of context, but a pixel sees {reach[axis]} px; "
                    f"read {reach[axis]} px or more.",
                )
            )
    found = "tiles as planned" if not broken else f"{min(int(v.found) for v in broken)} px around a tile"
    return ruling("context", broken, found, f"{times(reach)} px around a tile")


def stands_alone(plan: TilePlan, trained: Trained) -> bool:
    """Whether padded tiles are those of the training: side by side, each read whole and nothing around it."""
    if zeros_as_trained(plan.spec, trained) != "tile" or len(trained.window) != plan.spec.ndim:
        return False
    for windows, edge in zip(plan.axes, trained.window, strict=True):
        start = windows[0][0].start
        for number, (read, keep, _) in enumerate(windows):
            whole = slice(start + number * edge, start + (number + 1) * edge)
            if read != whole or keep.start != 0 or (keep.stop != edge and number < len(windows) - 1):
                return False
    return True


def without_zeros(plan: TilePlan) -> bool:
    """Whether every pixel has as much image or reflection around it as it sees."""
    return all(
        min(keep.start, read.stop - read.start - keep.stop) >= reach
        for windows, reach in zip(plan.axes, plan.spec.reach, strict=True)
        for read, keep, _ in windows
    )
