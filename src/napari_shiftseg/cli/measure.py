"""`shiftseg measure`: features of the objects of a result, or of any labels image, as a table."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_shiftseg.cli.console import Console
from napari_shiftseg.cli.options import add_image_options, number, words
from napari_shiftseg.cli.prepare import check_free, describe_image
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.files import check_same

if TYPE_CHECKING:
    from napari_shiftseg.io import Image, Labels

EXAMPLE = "shiftseg measure result.ome.zarr --out cells.csv --image image.tif"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("result", type=Path, metavar="RESULT", help="result, or any image of labels")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="table to write, .csv or .parquet")
    add_label_options(parser)


def add_label_options(parser: argparse.ArgumentParser) -> None:
    """Options of the commands that measure labels."""
    parser.add_argument("--image", type=Path, help="whose intensities are measured (default: the one in the result)")
    parser.add_argument("--spacing", type=steps, metavar="Z,Y,X", help="step per spatial axis (default: as the file says)")
    parser.add_argument("--unit", type=words, metavar="NAME", help="of the steps, such as micrometer [as the file says]")
    parser.add_argument("--planes", action="store_true", help="each plane of a stack holds objects of its own")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier file")
    add_image_options(parser)


def steps(text: str) -> tuple[float, ...]:
    """Steps, separated by commas.

    >>> steps("2,0.5,0.5")
    (2.0, 0.5, 0.5)
    """
    read = number(positive=True)
    return tuple(map(read, text.split(",")))


def run(args: argparse.Namespace, console: Console) -> None:
    """Write the table."""
    from napari_shiftseg.io import check_table_format, measured, save_table

    check_table_format(args.out)
    found = check_free([args.out], inputs=filter(None, [args.result, args.image]), overwrite=args.overwrite)
    labels, image = opened(args, console)
    with console.progress() as show:
        table = measured(labels, image, on_event=show)
    check_same(args.out, found[args.out])
    written = save_table(args.out, table).absolute()
    count, unit = len(table["label"]), table["unit"].tolist()[:1]
    console.field("measured", f"{count} objects, {len(table)} columns" + "".join(f", in {name}" for name in unit))
    console.field("written", written)
    document = {"written": written, "objects": count, "columns": list(table), "unit": unit[0] if unit else None}
    console.document({**document, "note": labels.note})


def opened(args: argparse.Namespace, console: Console) -> tuple[Labels, Image | None]:
    """Labels with the steps that were given, and the image, if one was."""
    from napari_shiftseg.io import read_image, read_labels

    labels = read_labels(args.result, scene=args.scene, axes=args.axes)
    image = None if args.image is None else read_image(args.image)
    if args.planes:
        labels = replace(labels, ndim=2)
    spatial = len(labels.axes.replace("t", ""))
    if args.spacing is not None:
        if len(args.spacing) != spatial:
            raise SettingsError(
                f'--spacing has {len(args.spacing)} steps and the labels have the axes "{labels.axes}"; give one for each of '
                f"{', '.join(labels.axes.replace('t', ''))}."
            )
        labels = replace(labels, scale=(*labels.scale[:-spatial], *args.spacing))
    if args.unit is not None:
        from napari_shiftseg.io.axes import unit_name

        labels = replace(labels, units=(*labels.units[:-spatial], *[unit_name(args.unit)] * spatial))
    count = " x ".join(map(str, labels.data.shape))
    note = f"; {labels.note}" if labels.note else ""
    console.field("labels", f"{args.result.name}: {count} ({labels.axes}), objects in {labels.ndim}D{note}")
    if image is not None:
        console.field("image", describe_image(image))
    return labels, image
