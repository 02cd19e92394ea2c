"""`shiftseg check`: every rule of exact tiling, kept or broken."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from napari_shiftseg.cli.console import Console
from napari_shiftseg.cli.options import edges
from napari_shiftseg.cli.prepare import describe_image, describe_model, frame_shape

if TYPE_CHECKING:
    from napari_shiftseg.geometry import TilePlan, UNetSpec, Violation
    from napari_shiftseg.network import ModelRecord, TrainSettings

EXAMPLE = "shiftseg check --model nuclei --image image.tif --tile 200"

_PAPER = "Rumberger et al. 2021"
_SOURCES = {
    "write-multiple": f"{_PAPER}, section 3.2 and Fig. 3b",
    "lattice": f"{_PAPER}, section 3.2",
    "crop": f"{_PAPER}, section 3.2",
    "context": f"{_PAPER}, section 2",
    "padding": f"{_PAPER}, section 3.2",
    "training-window": f"{_PAPER}, section 3.2 and Fig. 3a",
}
# an image that stands in where none was given, px per axis
_STAND_IN = {2: 2048, 3: 256}


@dataclass(frozen=True, kw_only=True)
class Verdict:
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--model", default="nuclei", help="bundled name or file (default: %(default)s)")
    parser.add_argument("--image", help="image that would be segmented")
    parser.add_argument("--tile", type=edges, metavar="N", help="edge of what a tile writes, px: one, or y,x or z,y,x")
    parser.add_argument("--border", choices=("reflect", "valid"), default="reflect", help="(default: %(default)s)")
    parser.add_argument("--scene", type=int, metavar="N", help="which image of a file that holds several, from 0")


def run(args: argparse.Namespace, console: Console) -> int:
    """Judge a model, a tile size and an image; 3 if a rule is broken."""
    from napari_shiftseg.geometry import plan_tiles, violations
    from napari_shiftseg.io import load_model, read_image
    from napari_shiftseg.segmentation import status

    model = load_model(args.model)
    console.field("model", describe_model(model))
    if args.image is None:
        shape = _stand_in(model.spec, args.tile)
        console.field("image", f"none given; judged for {' x '.join(map(str, shape))} px")
    else:
        image = read_image(args.image, scene=args.scene)
        have = image.sizes.get("c", 1)
        # which channels are taken changes no rule
        shape = frame_shape(image, model.spec, tuple(range(min(have, model.spec.in_channels))))
        console.field("image", describe_image(image))
    plan = plan_tiles(model.spec, shape, args.tile, args.border, allow_noncompliant=True)
    broken = violations(plan, model.record)
    verdicts = [*_tile_rules(plan, broken), *training_rules(model.spec, model.record)]
    console.field("plan", plan.describe())
    report_rules(verdicts, console)
    promise = status(broken, model.record)
    console.field("status", promise)
    console.document(
        {
            "model": model.name,
            "sha256": model.hash,
            "shape": shape,
            "plan": plan.to_dict(),
            "description": plan.describe(),
            "status": promise,
            "rules": verdicts,
        }
    )
    return 3 if broken else 0


def training_rules(spec: UNetSpec, trained: ModelRecord | TrainSettings | None) -> list[Verdict]:
    """The rules of training for a record or for the settings of a training to come."""
    from napari_shiftseg.geometry import violations
    from napari_shiftseg.network import TrainSettings, training_violations

    if isinstance(trained, TrainSettings):
        broken, window = training_violations(trained), _wished_window(trained)
    else:
        broken, window = violations(spec, trained), " x ".join(map(str, trained.window)) if trained else ""
    neighbours = trained is not None and trained.neighbours
    batches = "batches of neighbouring tiles" if neighbours else "single tiles"
    periods = " x ".join(map(str, spec.period))
    padding = _verdict(
        "padding",
        broken,
        found=f"{spec.padding} convolutions" + (f", trained on {batches}" if spec.padding == "zero" else ""),
        wanted=f"valid convolutions, or batches of {spec.ndim + 1} neighbouring tiles",
    )
    if not window:
        return [padding, _unknown("training-window", f"a window of more than {periods} px")]
    wanted = f"more than {periods} px" + (" with the neighbours" if neighbours else "")
    return [padding, _verdict("training-window", broken, found=f"{window} px, {batches}", wanted=wanted)]


def report_rules(verdicts: Iterable[Verdict], console: Console) -> None:
    """A line per rule, and for a broken one what to do."""
    for v in verdicts:
        console.field("rule", f"{v.verdict:9} {v.rule:15} found: {v.found}; wanted: {v.wanted} ({v.source})")
        if v.fix:
            console.field("", f"{'':9} fix: {v.fix}")


def _tile_rules(plan: TilePlan, broken: tuple[Violation, ...]) -> list[Verdict]:
    spec = plan.spec
    tiles = " x ".join(map(str, plan.write))
    seams = [(axis, period) for axis, period in zip(plan.axes, spec.period, strict=True) if len(axis) > 1]
    phases = max((len({read.start % period for read, _, _ in axis}) for axis, period in seams), default=1)
    crops = max((len({read.start + keep.start - write.start for read, keep, write in axis}) for axis, _ in seams), default=1)
    one = "; one tile has no seam" if len(plan) == 1 else ""
    verdicts = [
        _verdict("write-multiple", broken, found=f"tiles of {tiles} px{one}",
                 wanted=f"multiples of the period {' x '.join(map(str, spec.period))} px"),
        _verdict("crop", broken, found=f"{crops} crop{'s' * (crops > 1)}", wanted="1, the same for all tiles"),
    ]  # fmt: skip
    lattice = _verdict("lattice", broken, found=f"{phases} phase{'s' * (phases > 1)} of the pooling grid", wanted="1")
    if phases > 1 and not lattice.fix:  # follows from tiles that are no multiple of the period
        lattice = replace(lattice, verdict="FAIL", fix="as for write-multiple.")
    verdicts.insert(1, lattice)
    if spec.padding == "zero":
        reach = " x ".join(map(str, spec.reach))
        verdicts.append(_verdict("context", broken, found="tiles as planned", wanted=f"{reach} px around a tile"))
    else:
        verdicts.append(_verdict("context", broken, found="valid convolutions", wanted="real context for each pixel"))
    return verdicts


def _verdict(rule: str, broken: tuple[Violation, ...], *, found: str, wanted: str) -> Verdict:
    mine = [v for v in broken if v.rule == rule]
    return Verdict(
        rule=rule,
        verdict="FAIL" if mine else "pass",
        found=found,
        wanted=wanted,
        # axes that break it in the same way need no second sentence
        fix=" ".join({(v.found, v.nearest): v.message for v in reversed(mine)}.values()),
        source=mine[0].source if mine else _SOURCES[rule],
    )


def _unknown(rule: str, wanted: str) -> Verdict:
    return Verdict(
        rule=rule,
        verdict="not known",
        found="the model has no record of its training",
        wanted=wanted,
        fix="",
        source=_SOURCES[rule],
    )


def _wished_window(settings: TrainSettings) -> str:
    spec, window = settings.spec, settings.window
    if window is None:
        sizes = tuple(3 * period for period in spec.period)
        window = sizes if spec.padding == "zero" else spec.output_size(spec.input_size(sizes))
    return " x ".join(map(str, (window,) * spec.ndim if isinstance(window, int) else window))


def _stand_in(spec: UNetSpec, tile: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """A shape with seams on every axis."""
    wished = (tile,) * spec.ndim if isinstance(tile, int) else tile or (0,) * spec.ndim
    return tuple(max(_STAND_IN[spec.ndim], 3 * edge) for edge in wished)
