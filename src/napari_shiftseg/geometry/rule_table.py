"""`rulings`: every rule of exact tiling and of training, kept or broken, with what was found and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from napari_shiftseg.geometry.plan import TilePlan
from napari_shiftseg.geometry.rules import Trained, Violation, violations
from napari_shiftseg.geometry.spec import UNetSpec

__all__ = ["Ruling", "rulings", "tile_rulings", "training_rulings"]

_PAPER = "Rumberger et al. 2021"
_SOURCES = {
    "write-multiple": f"{_PAPER}, section 3.2 and Fig. 3b",
    "lattice": f"{_PAPER}, section 3.2",
    "crop": f"{_PAPER}, section 3.2",
    "context": f"{_PAPER}, section 2",
    "padding": f"{_PAPER}, section 3.2",
    "training-window": f"{_PAPER}, section 3.2 and Fig. 3a",
}


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """One rule: what was found, what is wanted, and what to do where they differ.

    Attributes
    ----------
    verdict : {"pass", "FAIL", "not known"}
    """

    rule: str
    verdict: Literal["pass", "FAIL", "not known"]
    found: str
    wanted: str
    fix: str
    source: str


def rulings(plan: TilePlan, trained: Trained | None) -> tuple[Ruling, ...]:
    """All rules, judged for a plan and the training of its network (None: not known).

    >>> from napari_shiftseg.geometry import UNetSpec, plan_tiles
    >>> [r.verdict for r in rulings(plan_tiles(UNetSpec(), (100, 100), 20, allow_noncompliant=True), None)]
    ['FAIL', 'FAIL', 'pass', 'pass', 'pass', 'not known']
    """
    broken = violations(plan, trained)
    window = " x ".join(map(str, trained.window)) if trained else ""
    neighbours = trained is not None and trained.neighbours
    return (*tile_rulings(plan, broken), *training_rulings(plan.spec, broken, window, neighbours))


def training_rulings(spec: UNetSpec, broken: Sequence[Violation], window: str, neighbours: bool) -> list[Ruling]:
    """The rules of training.

    Parameters
    ----------
    spec : UNetSpec
    broken : sequence of Violation
        What `violations` found.
    window : str
        Output window of the training in words, pixels; "" where it is not known.
    neighbours : bool
        Whether every batch held directly neighbouring tiles.
    """
    batches = "batches of neighbouring tiles" if neighbours else "single tiles"
    periods = " x ".join(map(str, spec.period))
    padding = _ruling(
        "padding",
        broken,
        found=f"{spec.padding} convolutions" + (f", trained on {batches}" if spec.padding == "zero" else ""),
        wanted=f"valid convolutions, or batches of {spec.ndim + 1} neighbouring tiles",
    )
    if not window:
        return [padding, _unknown("training-window", f"a window of more than {periods} px")]
    wanted = f"more than {periods} px" + (" with the neighbours" if neighbours else "")
    return [padding, _ruling("training-window", broken, found=f"{window} px, {batches}", wanted=wanted)]


def tile_rulings(plan: TilePlan, broken: Sequence[Violation]) -> list[Ruling]:
    """The rules of tiling.

    Parameters
    ----------
    plan : TilePlan
    broken : sequence of Violation
        What `violations` found.
    """
    spec = plan.spec
    tiles = " x ".join(map(str, plan.write))
    seams = [(axis, period) for axis, period in zip(plan.axes, spec.period, strict=True) if len(axis) > 1]
    phases = max((len({read.start % period for read, _, _ in axis}) for axis, period in seams), default=1)
    crops = max((len({read.start + keep.start - write.start for read, keep, write in axis}) for axis, _ in seams), default=1)
    one = "; one tile has no seam" if len(plan) == 1 else ""
    found = [
        _ruling("write-multiple", broken, found=f"tiles of {tiles} px{one}",
                 wanted=f"multiples of the period {' x '.join(map(str, spec.period))} px"),
        _ruling("crop", broken, found=f"{crops} crop{'s' * (crops > 1)}", wanted="1, the same for all tiles"),
    ]  # fmt: skip
    lattice = _ruling("lattice", broken, found=f"{phases} phase{'s' * (phases > 1)} of the pooling grid", wanted="1")
    if phases > 1 and not lattice.fix:  # follows from tiles that are no multiple of the period
        lattice = replace(lattice, verdict="FAIL", fix="as for write-multiple.")
    found.insert(1, lattice)
    if spec.padding == "zero":
        reach = " x ".join(map(str, spec.reach))
        found.append(_ruling("context", broken, found="tiles as planned", wanted=f"{reach} px around a tile"))
    else:
        found.append(_ruling("context", broken, found="valid convolutions", wanted="real context for each pixel"))
    return found


def _ruling(rule: str, broken: Sequence[Violation], *, found: str, wanted: str) -> Ruling:
    mine = [v for v in broken if v.rule == rule]
    return Ruling(
        rule=rule,
        verdict="FAIL" if mine else "pass",
        found=found,
        wanted=wanted,
        # axes that break it in the same way need no second sentence
        fix=" ".join({(v.found, v.nearest): v.message for v in reversed(mine)}.values()),
        source=mine[0].source if mine else _SOURCES[rule],
    )


def _unknown(rule: str, wanted: str) -> Ruling:
    return Ruling(
        rule=rule,
        verdict="not known",
        found="the model has no record of its training",
        wanted=wanted,
        fix="",
        source=_SOURCES[rule],
    )
