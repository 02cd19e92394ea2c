"""`shiftseg relabel`: other labels of a result by other settings of the clustering; the network does not run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from napari_shiftseg.cli.console import Console
from napari_shiftseg.cli.options import number, whole
from napari_shiftseg.cli.prepare import Targets, check_free
from napari_shiftseg.errors import SettingsError

if TYPE_CHECKING:
    from napari_shiftseg.segmentation import RelabelSettings

EXAMPLE = "shiftseg relabel result.ome.zarr --threshold 0.4 --min-size 60 --out tuned.ome.zarr"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("result", type=Path, metavar="RESULT", help="result of shiftseg segment, with its embedding")
    parser.add_argument("--out", type=Path, help="OME-Zarr store to write")
    parser.add_argument("--labels-tiff", type=Path, metavar="FILE", help="labels as TIFF")
    parser.add_argument("--table", type=Path, metavar="FILE", help="instances as CSV, as of shiftseg segment")
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results")
    parser.add_argument("--device", metavar="NAME", help="where windows are clustered (default: where they were)")
    group = parser.add_argument_group("instances (default: as the result says)")
    group.add_argument("--threshold", type=number(0, 1), metavar="P", help="foreground probability, 0 to 1")
    group.add_argument("--bandwidth", type=number(positive=True), metavar="X",
                       help="of the mean shift, embedding units; of a network with seeds a factor on its own")  # fmt: skip
    group.add_argument(
        "--min-size", type=whole(0), metavar="N", help="smaller instances go to one that they touch, or away, px"
    )
    group.add_argument("--dip", type=number(0, 1), metavar="X", help="of the mean shift: below, more objects are one")
    group.add_argument("--valley", type=number(0, 1), metavar="X",
                       help="of a network with seeds: below, more objects are one")  # fmt: skip
    group.add_argument("--min-density", type=number(), metavar="N", help="of the mean shift: what fewer pixels make is no mode")
    group.add_argument("--radius", type=number(positive=True), metavar="X",
                       help="of the mean shift: pixels farther from all modes, in bandwidths, are decided last")  # fmt: skip


def run(args: argparse.Namespace, console: Console) -> None:
    """Label a result anew."""
    from napari_shiftseg.cli.segment import document, report_result, write_results
    from napari_shiftseg.events import drain
    from napari_shiftseg.io import open_result
    from napari_shiftseg.segmentation import relabel_steps

    target = Targets(store=args.out, labels=args.labels_tiff, picture=None, table=args.table)
    if not (target.stores() or target.files()):
        raise SettingsError("no result was asked for; give --out, --labels-tiff or --table.")
    found = check_free(target.files(), stores=target.stores(), inputs=[args.result], overwrite=args.overwrite)
    stored = open_result(args.result)
    with console.progress() as show:
        steps = relabel_steps(stored, wish_of(args), args.out, device=args.device, overwrite=args.overwrite)
        result = drain(steps, show)
    changed = result.record["relabelled"]["changed"]
    words = ", ".join(f"{name} {new:g} (of the run: {old:g})" for name, (old, new) in changed.items())
    console.field("changed", words or "nothing: these are the settings of the run")
    if result.record["relabelled"]["from"] == "labels":
        console.field("", "from its labels, since the embedding was not kept: close to what a run would give, not equal")
    written = write_results(result, target, overwrite=args.overwrite, found=found)
    report_result(result.record, written, console)
    console.document(document(result, written))


def wish_of(args: argparse.Namespace) -> RelabelSettings:
    """What the options ask for."""
    from dataclasses import fields

    from napari_shiftseg.segmentation import RelabelSettings

    return RelabelSettings(**{known.name: getattr(args, known.name) for known in fields(RelabelSettings)})
