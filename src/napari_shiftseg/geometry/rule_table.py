"""`rulings`: every rule of exact tiling and of training, kept or broken, with what was found and what to do."""

from __future__ import annotations

from dataclasses import replace

from napari_shiftseg.geometry.coverage import Coverage, Trained, coverage
from napari_shiftseg.geometry.plan import TilePlan
from napari_shiftseg.geometry.ruling import Ruling
from napari_shiftseg.geometry.spec import UNetSpec
from napari_shiftseg.geometry.tile_rules import (
    context,
    crop,
    lattice,
    stands_alone,
    strange_pairs,
    without_zeros,
    write_multiple,
)
from napari_shiftseg.geometry.training_rules import padding, training_window

__all__ = ["counted", "rulings"]


def rulings(plan_or_spec: TilePlan | UNetSpec, trained: Trained | None = None) -> tuple[Ruling, ...]:
    """All rules, judged for a plan, or those of training for a spec alone.

    Parameters
    ----------
    plan_or_spec, trained
        As in `violations`.

    >>> from napari_shiftseg.geometry import UNetSpec, plan_tiles
    >>> [r.verdict for r in rulings(plan_tiles(UNetSpec(), (100, 100), 20, allow_noncompliant=True), None)]
    ['FAIL', 'FAIL', 'pass', 'pass', 'pass', 'not known']
    """
    spec = plan_or_spec if isinstance(plan_or_spec, UNetSpec) else plan_or_spec.spec
    window = training_window(spec, trained, _inside(plan_or_spec, trained))
    if isinstance(plan_or_spec, UNetSpec):
        return padding(spec, trained, None), window
    plan = plan_or_spec
    multiple, around = write_multiple(plan), context(plan, trained)
    # tiles that lack context are wrong however the network was trained
    padded = padding(spec, trained, None if around.broken else plan)
    return multiple, lattice(plan, multiple), crop(plan), around, padded, window


def counted(plan_or_spec: TilePlan | UNetSpec, trained: Trained | None) -> Coverage | None:
    """How many of the output functions and pairs of a run were trained; None where nothing says how the network was.

    Parameters
    ----------
    plan_or_spec, trained
        As in `violations`; a spec alone is counted as `plan_tiles` would run it. Tiles off the lattice add the pairs that meet
        at their seams alone, and that no window of a training holds.

    >>> from dataclasses import make_dataclass
    >>> from napari_shiftseg.geometry import UNetSpec, plan_tiles
    >>> training = make_dataclass("T", ["window", "neighbours"])((20, 20), False)
    >>> counted(plan_tiles(UNetSpec(), (100, 100), 20, allow_noncompliant=True), training).describe()
    '64 of 64 functions, 128 of 144 pairs'
    """
    count = _inside(plan_or_spec, trained)
    if count is None or trained is None or isinstance(plan_or_spec, UNetSpec) or stands_alone(plan_or_spec, trained):
        return count
    met = [replace(have, of_pairs=have.of_pairs + n) for have, n in zip(count.axes, strange_pairs(plan_or_spec), strict=True)]
    return Coverage(axes=tuple(met))


def _inside(plan_or_spec: TilePlan | UNetSpec, trained: Trained | None) -> Coverage | None:
    """The count without what meets at seams alone."""
    spec = plan_or_spec if isinstance(plan_or_spec, UNetSpec) else plan_or_spec.spec
    if trained is None or len(trained.window) != spec.ndim:
        return None
    if isinstance(plan_or_spec, UNetSpec) or spec.padding == "valid":
        return coverage(spec, trained)
    if stands_alone(plan_or_spec, trained):
        return coverage(spec, trained, "tile")
    return coverage(spec, trained, "nowhere" if without_zeros(plan_or_spec) else "image")
