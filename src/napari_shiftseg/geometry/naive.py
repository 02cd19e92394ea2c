"""`naive_plan`: tiles that break the rules on purpose, to show what that does."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from napari_shiftseg.errors import SettingsError, TilingError
from napari_shiftseg.geometry.plan import TilePlan
from napari_shiftseg.geometry.rules import violations

Naive = Literal["uncropped", "one period", "shifted"]
NAIVE: dict[Naive, str] = {
    "uncropped": "uncropped outputs",
    "one period": "smallest outputs, uncropped",
    "shifted": "tiles off the lattice",
}
"""Ways to break the rules, in words."""

Windows = tuple[tuple[slice, slice, slice], ...]


def naive_plan(plan: TilePlan, how: Naive = "uncropped") -> TilePlan:
    """Tiles that break the rules, for an image that `plan` tiles by the rules.

    SettingsError if there is no such way. TilingError if the image is too small for two such tiles, or no tiling of it can
    break a rule.

    Parameters
    ----------
    how : {"uncropped", "one period", "shifted"}
        "uncropped": about the same tiles, but pasted as the network gives them. With valid convolutions that is the whole
        output, or, where that happens to be a multiple of the period, half a period more; zero-padded networks get no
        context around a tile, or, where their tiles stand alone, tiles of a period more. "one period": so, with the smallest
        tiles that hold a period. "shifted": the same tiles, but every second one along an axis is computed half a period off
        the lattice, as by tilers that move windows about.

    Source: Rumberger et al. 2021, section 3.2: predictions of naive tile-and-stitch are discontinuous at the seams.
    """
    if how not in NAIVE:
        raise SettingsError(f"there is no naive tiling {how!r}; give one of {', '.join(map(repr, NAIVE))}.")
    axes, edges, pads = [], [], []
    for axis, windows in enumerate(plan.axes):
        edge = None
        if how == "shifted":
            windows = _off_lattice(windows, plan.lattice.period[axis])
        else:
            base = plan.write[axis] if how == "uncropped" else plan.lattice.period[axis]
            edge = _naive_edge(plan, axis, base)
        if edge is not None:
            windows = (_without_context if plan.lattice.padding == "zero" else _uncropped)(plan, axis, edge)
        before = plan.pad[axis][0]
        axes.append(windows)
        edges.append(plan.write[axis] if edge is None else edge)
        pads.append((before, max(0, max(read.stop for read, _, _ in windows) - before - plan.image_shape[axis])))
    naive = replace(plan, axes=tuple(axes), write=tuple(edges), pad=tuple(pads))
    if {v.rule for v in violations(naive)} <= {"padding"}:
        raise TilingError(f"an image of {plan.image_shape} px has no seam that could show; take a larger one.")
    return naive


def _naive_edge(plan: TilePlan, axis: int, write: int) -> int | None:
    """None where the image is too small for two tiles."""
    lattice, size, period = plan.lattice, plan.result_shape[axis], plan.lattice.period[axis]
    for base in (write if write < size else size // 2 // period * period, period):
        natural = lattice.output_size(lattice.input_size(max(base, period), axis), axis)
        edge = natural if natural % period or lattice.padding == "zero" else natural + period // 2
        if plan.zeros == "tile" and edge == plan.write[axis]:
            edge += period  # its own edge keeps the rules
        if edge < size:
            return edge
    return None


def _uncropped(plan: TilePlan, axis: int, edge: int) -> Windows:
    """All that the network gives of each tile; the first has the phase of the plan, so that only seams make a difference."""
    size, crop, read = plan.result_shape[axis], plan.axes[axis][0][1].start, plan.lattice.input_size(edge, axis)
    windows = []
    for start in range(-crop, size, edge):
        write = slice(max(0, start), min(start + edge, size))
        if write.start < write.stop:
            keep = slice(write.start - start, write.stop - start)
            windows.append((slice(start + crop, start + crop + read), keep, write))
    return tuple(windows)


def _off_lattice(windows: Windows, period: int) -> Windows:
    """Every second tile starts half a period early and keeps its place, so its output functions are others."""
    shift, moved = period // 2, []
    for number, (read, keep, write) in enumerate(windows):
        by = shift * (number % 2)
        # one period more of input, so that what is kept lies within the output
        read = slice(read.start - by, read.stop - by + period) if by else read
        moved.append((read, slice(keep.start + by, keep.stop + by), write))
    return tuple(moved)


def _without_context(plan: TilePlan, axis: int, edge: int) -> Windows:
    size, period = plan.result_shape[axis], plan.lattice.period[axis]
    writes = [slice(start, min(start + edge, size)) for start in range(0, size, edge)]
    before = plan.pad[axis][0]
    reads = [slice(before + w.start, before + -(-w.stop // period) * period) for w in writes]
    return tuple((read, slice(0, w.stop - w.start), w) for read, w in zip(reads, writes, strict=True))
