"""`violations`: which rules of shift-equivariant tiling and training a plan or a network breaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from napari_shiftseg.geometry.plan import TilePlan
from napari_shiftseg.geometry.spec import UNetSpec

__all__ = ["Trained", "Violation", "violations"]

_PAPER = "Rumberger et al. 2021"


class Trained(Protocol):
    """What the rules need to know of a training."""

    @property
    def window(self) -> tuple[int, ...]:
        """Output window of a training tile, pixels per axis."""

    @property
    def neighbours(self) -> bool:
        """Whether every batch held a tile and its direct neighbour along each axis, with one loss over all of them."""


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One broken rule.

    Attributes
    ----------
    rule : str
        "write-multiple", "lattice", "crop", "context", "padding", "training-window".
    axis : int or None
        The axis that breaks it; None for the network as a whole.
    found : int or str
        The value that breaks it.
    nearest : tuple of int
        Legal values next to it, where there are some.
    message : str
        What was found, what is wanted, what to do.
    source : str
        Where the rule comes from.
    """

    rule: str
    axis: int | None
    found: int | str
    nearest: tuple[int, ...]
    message: str
    source: str


def violations(plan_or_spec: TilePlan | UNetSpec, trained: Trained | None = None) -> tuple[Violation, ...]:
    """Rules that a tile plan, a network or its training breaks; empty if none.

    Parameters
    ----------
    plan_or_spec : TilePlan or UNetSpec
        A plan is judged with its network; a spec alone has no tiles to judge.
    trained : object with `window` and `neighbours`, optional
        The training; without it the rules of training are not judged, except that zero padding needs it.

    Returns
    -------
    tuple of Violation

    >>> from napari_shiftseg.geometry import plan_tiles
    >>> plan = plan_tiles(UNetSpec(levels=4), (100, 100), 20, allow_noncompliant=True)
    >>> [v.rule for v in violations(plan)]
    ['write-multiple', 'write-multiple']
    """
    found: list[Violation] = []
    spec = plan_or_spec
    if isinstance(plan_or_spec, TilePlan):
        spec = plan_or_spec.spec
        found += _tile_rules(plan_or_spec)
    assert isinstance(spec, UNetSpec)
    return tuple(found + _training_rules(spec, trained))


def _tile_rules(plan: TilePlan) -> list[Violation]:
    found: list[Violation] = []
    for axis, period in enumerate(plan.spec.period):
        write, windows = plan.write[axis], plan.axes[axis]
        if len(windows) < 2:
            continue  # a single tile has no seam on this axis
        if write % period:
            lower = write // period * period
            found.append(
                Violation(
                    rule="write-multiple",
                    axis=axis,
                    found=write,
                    nearest=tuple(n for n in (lower, lower + period) if n),
                    message=f"tiles of {write} px on axis {axis} are not a multiple of the period {period} px: at each seam "
                    f"two output functions meet that were never neighbours; use {lower + period} px"
                    + (f" or {lower} px." if lower else "."),
                    source=f"{_PAPER}, section 3.2 and Fig. 3b",
                )
            )
            continue
        starts = {read.start % period for read, _, _ in windows}
        if len(starts) > 1:
            found.append(
                Violation(
                    rule="lattice",
                    axis=axis,
                    found=len(starts),
                    nearest=(period,),
                    message=f"tiles on axis {axis} start at {len(starts)} different phases of the pooling grid; start all at "
                    f"multiples of {period} px.",
                    source=f"{_PAPER}, section 3.2",
                )
            )
        crops = {(read.start + keep.start - write.start) for read, keep, write in windows}
        if len(crops) > 1:
            found.append(
                Violation(
                    rule="crop",
                    axis=axis,
                    found=len(crops),
                    nearest=(min(crops),),
                    message=f"tiles on axis {axis} are cropped by different amounts; keep the crop constant.",
                    source=f"{_PAPER}, section 3.2",
                )
            )
        found += _context_rule(plan, axis)
    return found


def _context_rule(plan: TilePlan, axis: int) -> list[Violation]:
    """A padded network sees false zeros at tile borders unless each tile reads all that its pixels see."""
    if plan.spec.padding == "valid":
        return []
    reach, last = plan.spec.reach[axis], plan.image_shape[axis] + plan.pad[axis][1]
    short = [
        (read, write)
        for read, _, write in plan.axes[axis]
        if (read.start > 0 and write.start - read.start < reach) or (read.stop < last and read.stop - write.stop < reach)
    ]
    if not short:
        return []
    halo = min(min(write.start - read.start, read.stop - write.stop) for read, write in short)
    return [
        Violation(
            rule="context",
            axis=axis,
            found=halo,
            nearest=(reach,),
            message=f"tiles on axis {axis} have {halo} px of context, but a pixel sees {reach} px; read {reach} px or more.",
            source=f"{_PAPER}, section 2 (zero padding breaks equivariance)",
        )
    ]


def _training_rules(spec: UNetSpec, trained: Trained | None) -> list[Violation]:
    found: list[Violation] = []
    if spec.padding == "zero" and not (trained is not None and trained.neighbours):
        found.append(
            Violation(
                rule="padding",
                axis=None,
                found="zero",
                nearest=(),
                message="the network pads with zeros"
                + (", and nothing says how it was trained" if trained is None else " and was trained on single tiles")
                + f"; use valid convolutions, or train on batches of {spec.ndim + 1} directly neighbouring tiles.",
                source=f"{_PAPER}, section 3.2",
            )
        )
    if trained is None:
        return found
    if len(trained.window) != spec.ndim:
        found.append(
            Violation(
                rule="training-window",
                axis=None,
                found=str(trained.window),
                nearest=(),
                message=f"the training window {trained.window} does not have {spec.ndim} axes; give one edge per axis.",
                source=f"{_PAPER}, section 3.2",
            )
        )
        return found
    for axis, (window, period) in enumerate(zip(trained.window, spec.period, strict=True)):
        # a batch of directly neighbouring tiles joins their windows along each axis
        seen = window * 2 if trained.neighbours else window
        if seen <= period:
            legal = _next_window(spec, axis, period // 2 + 1 if trained.neighbours else period + 1)
            found.append(
                Violation(
                    rule="training-window",
                    axis=axis,
                    found=window,
                    nearest=(legal,),
                    message=f"the training output window {window} px on axis {axis} does not exceed the period {period} px, so "
                    f"some neighbouring output functions were never compared; train with {legal} px or more.",
                    source=f"{_PAPER}, section 3.2 and Fig. 3a",
                )
            )
    return found


def _next_window(spec: UNetSpec, axis: int, at_least: int) -> int:
    """Smallest uncropped output edge of `at_least` pixels or more."""
    return spec.output_size(spec.input_size(at_least, axis), axis)
