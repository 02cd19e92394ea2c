"""`shiftseg check`: every rule of exact tiling, kept or broken."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from napari_shiftseg.cli.console import Console
from napari_shiftseg.cli.constants import PLANNED_EDGE
from napari_shiftseg.cli.options import add_image_options, edges
from napari_shiftseg.cli.prepare import describe_image, describe_model, frame_shape

if TYPE_CHECKING:
    from napari_shiftseg.geometry import Ruling, UNetSpec
    from napari_shiftseg.network import ModelRecord, TrainSettings

EXAMPLE = "shiftseg check --model nuclei --image image.tif --tile 200"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--model", default="nuclei", help="bundled name or file (default: %(default)s)")
    parser.add_argument("--image", help="image that would be segmented")
    parser.add_argument("--tile", type=edges, metavar="N", help="edge of what a tile writes, px: one, or y,x or z,y,x")
    parser.add_argument("--border", choices=("reflect", "valid"), default="reflect", help="(default: %(default)s)")
    add_image_options(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    """Judge a model, a tile size and an image; 3 if a rule is broken."""
    from napari_shiftseg.geometry import judge, plan_tiles
    from napari_shiftseg.io import load_model, read_image
    from napari_shiftseg.segmentation import likeness, promises, status

    model, alike = load_model(args.model), None
    console.field("model", describe_model(model))
    if args.image is None:
        shape = _stand_in(model.spec, args.tile)
        console.field("image", f"none given; judged for {' x '.join(map(str, shape))} px")
    else:
        image = read_image(args.image, scene=args.scene, axes=args.axes)
        have = image.sizes.get("c", 1)
        # which channels are taken changes no rule
        shape = frame_shape(image, model.lattice, tuple(range(min(have, model.lattice.in_channels))))
        console.field("image", describe_image(image))
        alike = likeness(image, model)
        console.field("likeness", f"{alike.text} (the image alone)")
    plan = plan_tiles(model.spec, shape, args.tile, args.border, allow_noncompliant=True, trained=model.record)
    judged = judge(plan, model.record)
    broken, verdicts = judged.violations, judged.rulings
    console.field("plan", plan.describe())
    report_rules(verdicts, console)
    promise, both = status(broken, model.record), promises(judged, model.record)
    console.field("tile-exact", "yes" if both["tile_exact"] else "no")
    console.field("as trained", _as_trained(both))
    console.field("status", promise)
    console.document(
        {
            "model": model.name,
            "sha256": model.hash,
            "shape": shape,
            "plan": plan.to_dict(),
            "description": plan.describe(),
            "status": promise,
            "promises": both,
            "rules": verdicts,
            "likeness": None if alike is None else alike.to_dict(),
        }
    )
    return 3 if broken else 0


def training_rules(spec: UNetSpec, trained: ModelRecord | TrainSettings | None) -> tuple[Ruling, ...]:
    """The rules of training for a record or for the settings of a training to come."""
    from napari_shiftseg.geometry import judge
    from napari_shiftseg.network import TrainSettings, training_of

    return judge(spec, training_of(trained) if isinstance(trained, TrainSettings) else trained).rulings


def report_rules(verdicts: Iterable[Ruling], console: Console) -> None:
    """A line per rule, and for a broken one what to do."""
    for v in verdicts:
        console.field("rule", f"{v.verdict:9} {v.rule:15} found: {v.found}; wanted: {v.wanted} ({v.source})")
        if v.fix:
            console.field("", f"{'':9} fix: {v.fix}")


def _as_trained(promises: Mapping[str, Any]) -> str:
    if promises["functions"] is None:
        return "not known"
    (functions, of_functions), (pairs, of_pairs) = promises["functions"], promises["pairs"]
    answer = "yes" if promises["as_trained"] else "no"
    return f"{answer}: {functions} of {of_functions} functions, {pairs} of {of_pairs} pairs"


def _stand_in(spec: UNetSpec, tile: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """A shape with seams on every axis."""
    wished = (tile,) * spec.ndim if isinstance(tile, int) else tile or (0,) * spec.ndim
    return tuple(max(PLANNED_EDGE[spec.ndim], 3 * edge) for edge in wished)
