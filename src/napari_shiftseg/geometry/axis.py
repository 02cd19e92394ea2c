"""`AxisPlan`: what the tiles along one axis of an image read, keep and write; `TilePlan` combines the axes."""

from __future__ import annotations

from dataclasses import dataclass

from napari_shiftseg.errors import TilingError
from napari_shiftseg.geometry.coverage import Zeros
from napari_shiftseg.geometry.lattice import Lattice

__all__ = ["AxisPlan", "alone_axis", "computed_size", "context", "halo", "plan_axis"]


@dataclass(frozen=True, kw_only=True)
class AxisPlan:
    """Windows of the tiles along one axis, pixels.

    Attributes
    ----------
    size : int
        Of the result.
    origin : int
        Image pixel at which result pixel 0 lies.
    pad : (int, int)
        Pixels reflected before and after the image.
    windows : tuple of (slice, slice, slice)
        Per tile what it reads, keeps and writes, as `Tile` has them.
    """

    size: int
    origin: int
    pad: tuple[int, int]
    windows: tuple[tuple[slice, slice, slice], ...]


def computed_size(lattice: Lattice, axis: int, size: int, border: str, zeros: Zeros = "image") -> int:
    """Pixels that are computed along an axis: whole periods.

    Raises
    ------
    TilingError
        If the image is too small for one period without reflection.
    """
    period = lattice.period[axis]
    if border == "reflect" or (lattice.padding == "zero" and zeros == "image"):
        return -(-size // period) * period
    if lattice.padding == "zero":
        least = 2 * halo(lattice, axis) + period
        if size < least:
            raise _too_small(axis, size, least)
        return (size - least) // period * period + period
    periods = (size - lattice.margin[axis]) // period
    while periods > 0 and lattice.input_size(periods * period, axis) > size:
        periods -= 1
    if periods < 1:
        raise _too_small(axis, size, lattice.input_size(period, axis))
    return periods * period


def _too_small(axis: int, size: int, least: int) -> TilingError:
    return TilingError(
        f"axis {axis} of the image has {size} px; without reflection the network needs {least} px: "
        f"use border='reflect' or a larger image.",
        nearest=(least,),
    )


def context(lattice: Lattice, axis: int) -> int:
    """Pixels that a tile reads beyond each side of what it writes."""
    return halo(lattice, axis) if lattice.padding == "zero" else lattice.margin[axis] // 2


def halo(lattice: Lattice, axis: int) -> int:
    """Context of a zero-padded tile: whole periods that cover all that a pixel sees."""
    period = lattice.period[axis]
    return -(-lattice.reach[axis] // period) * period


def plan_axis(
    lattice: Lattice,
    axis: int,
    size: int,
    domain: int,
    write: int,
    border: str,
    part: slice | None = None,
    *,
    zeros: Zeros = "image",
) -> AxisPlan:
    """Windows along an axis; of a part that starts on the lattice only its own, counted from its start.

    Parameters
    ----------
    lattice : Lattice
    axis : int
    size, domain : int
        Pixels of the image, and those of them that are computed (`computed_size`).
    write : int
        Output edge pasted per tile, pixels.
    border : {"reflect", "valid"}
    part : slice, optional
        Result pixels that are wanted; all by default.
    zeros : {"nowhere", "image"}
        Where a zero-padded network meets zeros.

    Source: Rumberger et al. 2021, section 3.2.
    """
    if lattice.padding == "zero" and zeros == "image":
        return _plan_zero_axis(lattice, axis, size, domain, write, part)
    if lattice.padding == "zero":
        return _plan_reflected_axis(lattice, axis, size, domain, write, border, part)
    read = lattice.input_size(write, axis)
    natural = lattice.output_size(read, axis)
    # the crop is constant, else tiles differ in phase (section 3.2)
    crop = (natural - write) // 2
    on_lattice = write % lattice.period[axis] == 0
    if border == "valid" and not on_lattice:
        domain = size - lattice.margin[axis] - 2 * crop  # naive tiling goes on as long as its tiles fit
    before = lattice.margin[axis] // 2 + crop if border == "reflect" else 0
    stop = size if border == "reflect" else domain
    begin = 0
    if part is not None:
        period = lattice.period[axis]
        begin, stop = part.start, part.stop
        domain = min(domain, begin + -(-(stop - begin) // period) * period)
    windows, reach = [], 0
    for start in range(begin, domain, write):
        # the last tile moves back by whole periods, so that it does not read beyond what the image needs
        back = max(0, start + write - domain) if on_lattice else 0
        first = start - back
        end = min(start + write, stop)
        if end <= start:
            continue
        windows.append(
            (slice(first, first + read), slice(crop + back, crop + back + end - start), slice(start - begin, end - begin))
        )
        reach = max(reach, first + read)
    after = max(0, reach - before - size)
    if border == "valid" and not on_lattice:
        windows = [w for w in windows if w[0].stop <= size and w[2].stop - w[2].start == write]
        stop, after = windows[-1][2].stop, 0
    return AxisPlan(
        size=stop - begin,
        origin=0 if border == "reflect" else lattice.margin[axis] // 2 + crop,
        pad=(before, after),
        windows=tuple(windows),
    )


def _plan_zero_axis(lattice: Lattice, axis: int, size: int, domain: int, write: int, part: slice | None) -> AxisPlan:
    """Tiles of a zero-padded network: enough real context, and the image border where the whole image has it."""
    around = halo(lattice, axis)
    wanted = part or slice(0, size)
    windows = []
    for start in range(wanted.start, wanted.stop, write):
        end = min(start + write, wanted.stop)
        first = max(0, (start - around) // lattice.period[axis] * lattice.period[axis])
        last = min(domain, -(-(end + around) // lattice.period[axis]) * lattice.period[axis])
        write_window = slice(start - wanted.start, end - wanted.start)
        windows.append((slice(first, last), slice(start - first, end - first), write_window))
    return AxisPlan(size=wanted.stop - wanted.start, origin=0, pad=(0, domain - size), windows=tuple(windows))


def _plan_reflected_axis(
    lattice: Lattice, axis: int, size: int, domain: int, write: int, border: str, part: slice | None
) -> AxisPlan:
    """Tiles of a padded network that never sees its zeros: what lies beyond the image is its reflection."""
    around, period = halo(lattice, axis), lattice.period[axis]
    wanted = part or slice(0, size if border == "reflect" else domain)
    windows = []
    for start in range(wanted.start, wanted.stop, write):
        end = min(start + write, wanted.stop)
        read = slice(start, start + -(-(end - start) // period) * period + 2 * around)
        windows.append((read, slice(around, around + end - start), slice(start - wanted.start, end - wanted.start)))
    before = around if border == "reflect" else 0
    return AxisPlan(
        size=wanted.stop - wanted.start,
        origin=around - before,
        pad=(before, max(0, windows[-1][0].stop - before - size)),
        windows=tuple(windows),
    )


def alone_axis(axis: int, size: int, edge: int, border: str) -> AxisPlan:
    """Tiles that stand alone: what they read is what they write, and the last one is filled up by reflection.

    Without reflection only whole tiles are computed.
    """
    count = -(-size // edge) if border == "reflect" else size // edge
    if count < 1:
        raise _too_small(axis, size, edge)
    stop = min(size, count * edge)
    windows = []
    for start in range(0, stop, edge):
        write = slice(start, min(start + edge, stop))
        windows.append((slice(start, start + edge), slice(0, write.stop - write.start), write))
    return AxisPlan(size=stop, origin=0, pad=(0, max(0, count * edge - size)), windows=tuple(windows))
