"""`shiftseg link`: objects of planes or frames become objects of the stack or of the series."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from napari_shiftseg.cli.console import Console
from napari_shiftseg.cli.options import add_image_options, number, whole
from napari_shiftseg.cli.prepare import check_free
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.files import check_same

if TYPE_CHECKING:
    from napari_shiftseg.segmentation.linking import LinkSettings

EXAMPLE = "shiftseg link result.ome.zarr --through t --out tracks.ome.zarr --table tracks.csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("result", type=Path, metavar="RESULT", help="result, or any image of labels")
    parser.add_argument("--through", choices=["z", "t"], required=True,
                        help="z: planes that a 2D model segmented one by one; t: frames of a series")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="OME-Zarr store to write")
    parser.add_argument("--table", type=Path, metavar="FILE", help="measurements of the objects, .csv or .parquet")
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results")
    parser.add_argument("--gap", type=whole(0), metavar="N", help="planes or frames an object may be missing in (default: 1)")
    planes = parser.add_argument_group("through z")
    planes.add_argument("--overlap", type=number(0, 1), metavar="X", help="least share of the smaller object (default: 0.5)")
    planes.add_argument("--agreement", type=number(positive=True), metavar="X",
                        help="most distance of mean codes, bandwidths (default: 0.75)")  # fmt: skip
    frames = parser.add_argument_group("through t, by laptrack")
    frames.add_argument("--distance", type=number(positive=True), metavar="X",
                        help="most way from frame to frame, diameters of the median object (default: 1)")  # fmt: skip
    frames.add_argument("--no-splits", dest="splits", action="store_const", const=False, help="no object becomes two")
    add_image_options(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Link, and write."""
    from napari_shiftseg.events import drain
    from napari_shiftseg.io import check_table_format, measured, read_labels, save_table
    from napari_shiftseg.segmentation import link_steps

    if args.table is not None:
        check_table_format(args.table)
    tables = [] if args.table is None else [args.table]
    found = check_free(tables, stores=[args.out], inputs=[args.result], overwrite=args.overwrite)
    source: object = args.result
    if args.scene is not None or args.axes is not None:
        source = read_labels(args.result, scene=args.scene, axes=args.axes)
    with console.progress() as show:
        linked = drain(link_steps(source, args.through, args.out, settings=wish_of(args), overwrite=args.overwrite), show)  # type: ignore[arg-type]
        table = None if args.table is None else measured(linked.labels, on_event=show)
    told, note = linked.labels.record["linked"][-1], linked.labels.note
    if note:
        console.field("labels", f"{args.result.name}: {note}")
    if args.through == "z":
        how = "by overlap and agreement of codes" if told["codes"] else "by overlap alone, since there is no embedding"
        console.field("linked", f"{linked.count} objects through z, {how}")
    else:
        splits = len(set(dict(told["parents"]).values()))
        console.field("linked", f"{linked.count} tracks through t, {splits} splits")
    console.field("written", str(linked.path))
    document = {"written": linked.path, "through": args.through, "objects": linked.count, "settings": told["settings"]}
    document["note"] = note
    document |= {"splits": len(set(dict(told["parents"]).values()))} if args.through == "t" else {"codes": told["codes"]}
    if table is not None:
        check_same(args.table, found[args.table])
        document["table"] = save_table(args.table, table).absolute()
        console.field("table", str(document["table"]))
    console.document(document)


def wish_of(args: argparse.Namespace) -> LinkSettings:
    """What the options ask for; SettingsError where one means nothing on this axis."""
    from napari_shiftseg.segmentation.linking import wished

    of = {"z": ("gap", "overlap", "agreement"), "t": ("gap", "distance", "splits")}
    given = {name: getattr(args, name) for names in of.values() for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    for name in given.keys() - set(of[args.through]):
        option = "--no-splits" if name == "splits" else f"--{name}"
        raise SettingsError(f"{option} means nothing through {args.through}; leave it out.")
    return wished(args.through, None, given)
