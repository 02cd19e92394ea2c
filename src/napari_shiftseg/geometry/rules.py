"""`violations`: which rules of shift-equivariant tiling and training a plan or a network breaks."""

from __future__ import annotations

from napari_shiftseg.geometry.coverage import Trained
from napari_shiftseg.geometry.plan import TilePlan
from napari_shiftseg.geometry.rule_table import rulings
from napari_shiftseg.geometry.ruling import Violation
from napari_shiftseg.geometry.spec import UNetSpec

__all__ = ["violations"]


def violations(plan_or_spec: TilePlan | UNetSpec, trained: Trained | None = None) -> tuple[Violation, ...]:
    """Rules that a tile plan, a network or its training breaks; empty if none.

    Parameters
    ----------
    plan_or_spec : TilePlan or UNetSpec
        A plan is judged with its network; a spec alone has no tiles to judge.
    trained : object with `window` and `neighbours`, optional
        The training; without it the rules of training are not judged, except that zero padding needs it. A training with
        none broken trained every output function that will run, and every pair that will be neighbours (see `coverage`).

    Returns
    -------
    tuple of Violation

    >>> from napari_shiftseg.geometry import plan_tiles
    >>> plan = plan_tiles(UNetSpec(levels=4), (100, 100), 20, allow_noncompliant=True)
    >>> [v.rule for v in violations(plan)]
    ['write-multiple', 'write-multiple']
    """
    return tuple(broken for ruling in rulings(plan_or_spec, trained) for broken in ruling.broken)
