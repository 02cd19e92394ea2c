"""`shiftseg export`: a result, or any labels image, as a file that other programs read."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_shiftseg.cli.console import Console
from napari_shiftseg.cli.measure import add_label_options, opened
from napari_shiftseg.cli.prepare import check_free
from napari_shiftseg.files import check_same

EXAMPLE = "shiftseg export result.ome.zarr cells.geojson"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("result", type=Path, metavar="RESULT", help="result, or any image of labels")
    parser.add_argument("file", type=Path, metavar="FILE",
                        help="to write; its name says the format: .tif (ImageJ), .ome.tif, .ome.zarr, .geojson (QuPath), "
                        ".zip (regions for ImageJ), .csv, .parquet")  # fmt: skip
    add_label_options(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Write one file."""
    from napari_shiftseg.io import EXPORTS, check_export, export_labels

    kind = check_export(args.file)
    places = {"stores": [args.file], "files": []} if kind == ".ome.zarr" else {"files": [args.file]}
    found = check_free(inputs=filter(None, [args.result, args.image]), overwrite=args.overwrite, **places)
    labels, image = opened(args, console)
    check_same(args.file, found[args.file])
    with console.progress() as show:
        written = export_labels(args.file, labels, image=image, overwrite=args.overwrite, on_event=show).absolute()
    console.field("written", f"{written} ({EXPORTS[kind]})")
    document = {"written": written, "format": EXPORTS[kind], "axes": labels.axes, "shape": labels.data.shape}
    console.document({**document, "note": labels.note})
