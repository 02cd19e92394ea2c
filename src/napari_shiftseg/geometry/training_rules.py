"""The rules of training: what runs was trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from napari_shiftseg.geometry.axis import halo
from napari_shiftseg.geometry.coverage import Coverage, Trained, coverage, inner_part, least_window, zeros_as_trained
from napari_shiftseg.geometry.plan import TilePlan
from napari_shiftseg.geometry.ruling import Ruling, Violation, ruling, times, violation
from napari_shiftseg.geometry.spec import UNetSpec
from napari_shiftseg.geometry.tile_rules import stands_alone, without_zeros

__all__ = ["padding", "training_window"]


def padding(spec: UNetSpec, trained: Trained | None, plan: TilePlan | None) -> Ruling:
    """A network that pads with zeros is run as it was trained, in one of two ways that train all that runs."""
    wanted = (
        f"valid convolutions, or batches of {spec.ndim + 1} neighbouring tiles and a run on such tiles, or a loss on pixels "
        "alone that see no zeros and a run without zeros"
    )
    if spec.padding == "valid":
        return ruling("padding", [], "valid convolutions", wanted)
    zeros = zeros_as_trained(spec, trained)
    found, message = f"zero convolutions, {_batches(trained)}", ""
    if zeros == "image":
        message = (
            "the network pads with zeros"
            + (", and nothing says how it was trained" if trained is None else " and was trained on single tiles")
            + f"; use valid convolutions, or train on batches of {spec.ndim + 1} directly neighbouring tiles."
        )
    elif zeros == "tile" and trained is not None and plan is not None and not stands_alone(plan, trained):
        found += ", run on other tiles"
        message = (
            f"the network pads with zeros and was trained on tiles of {times(trained.window)} px that stood alone; on other "
            f"tiles other output functions run, which were never trained; take tiles of {times(trained.window)} px without "
            "context (plan_tiles with trained)."
        )
    elif zeros == "nowhere" and plan is not None and not without_zeros(plan):
        found += ", run with zeros"
        message = (
            "the network pads with zeros and was trained on pixels alone that see none; tiles that meet zeros run output "
            "functions that were never trained; reflect the image at its borders (plan_tiles with trained)."
        )
    window = tuple(trained.window) if trained is not None and zeros == "tile" else ()
    broken = [violation("padding", None, "zero", window, message)] if message else []
    return ruling("padding", broken, found, wanted)


def training_window(spec: UNetSpec, trained: Trained | None, count: Coverage | None) -> Ruling:
    """The training window holds all output functions, and all pairs of neighbours."""
    wanted = "all of both"
    if trained is None:
        wanted = f"a window of more than {times(spec.period)} px"
        return replace(ruling("training-window", [], "the model has no record of its training", wanted), verdict="not known")
    if count is None:
        message = f"the training window {trained.window} does not have {spec.ndim} axes; give one edge per axis."
        broken = [violation("training-window", None, str(trained.window), (), message)]
        return ruling("training-window", broken, f"{times(trained.window)} px", f"{spec.ndim} edges")
    seen = inner_part(trained) or trained.window
    broken = (_valid_windows if spec.padding == "valid" else _padded_windows)(spec, trained, seen)
    found = f"{times(trained.window)} px, {_batches(trained)}: {count.describe()}"
    judged = ruling("training-window", broken, found, wanted)
    return judged if broken or count.complete else replace(judged, verdict="FAIL", fix="as for padding.")


def _valid_windows(spec: UNetSpec, trained: Trained, seen: Sequence[int]) -> list[Violation]:
    broken = []
    for axis, (count, window) in enumerate(zip(coverage(spec, trained).axes, seen, strict=True)):
        if count.complete:
            continue
        legal = least_window(spec, axis, neighbours=trained.neighbours and inner_part(trained) is None)
        broken.append(
            violation(
                "training-window",
                axis,
                window,
                (legal,),
                f"the training output window {window} px on axis {axis} does not exceed the period {spec.period[axis]} px: it "
                f"holds {count.functions} of {count.of_functions} output functions and {count.pairs} of {count.of_pairs} pairs "
                f"of neighbours along it, so some were never compared; train with {legal} px or more.",
            )
        )
    return broken


def _padded_windows(spec: UNetSpec, trained: Trained, seen: Sequence[int]) -> list[Violation]:
    """A padded tile has to pass the network; pixels that see no zeros have to be more than a period."""
    broken, inner = [], inner_part(trained) is not None
    counts = coverage(spec, trained, "nowhere").axes
    for axis, (window, part, period) in enumerate(zip(trained.window, seen, spec.period, strict=True)):
        if window > 0 and window % period == 0 and (counts[axis].complete or not inner):
            continue
        around = 2 * halo(spec, axis) * inner
        legal = max(around + (1 + inner) * period, -(-window // period) * period)
        broken.append(
            violation(
                "training-window",
                axis,
                window,
                (legal,),
                f"the training window {window} px on axis {axis}{f' with a loss on its inner {part} px' * inner} is none "
                f"that a padded network with a period of {period} px and a reach of {spec.reach[axis]} px can be trained on; "
                f"take {legal} px{f' with a loss on the inner {legal - around} px' * inner}.",
            )
        )
    return broken


def _batches(trained: Trained | None) -> str:
    if trained is None:
        return "not known how trained"
    if inner_part(trained) is not None:
        return f"a loss on the inner {times(inner_part(trained) or ())} px"
    return "batches of neighbouring tiles" if trained.neighbours else "single tiles"
