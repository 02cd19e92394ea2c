"""`shiftseg seams`: whether the tiles of a result show at its seams."""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path

from napari_shiftseg.cli.console import Console
from napari_shiftseg.cli.constants import WORST_SEAMS
from napari_shiftseg.cli.options import whole
from napari_shiftseg.cli.prepare import check_free, replace_file
from napari_shiftseg.errors import ResultError, SettingsError
from napari_shiftseg.files import unchanged

EXAMPLE = "shiftseg seams result.ome.zarr --csv seams.csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("result", type=Path, metavar="RESULT", help="OME-Zarr store that shiftseg wrote")
    parser.add_argument(
        "--truth", type=Path, metavar="MASK", help="true instances, to count those missed, extra, split and merged"
    )
    parser.add_argument("--frame", type=whole(0), default=0, metavar="N", help="which frame of a series or stack, from 0")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a row for each seam")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier file")


def run(args: argparse.Namespace, console: Console) -> int:
    """Report; 3 if the tiles show, whatever a truth says of the objects."""
    from napari_shiftseg.analysis import seam_report
    from napari_shiftseg.io import View, open_result, read_image

    targets = check_free(filter(None, [args.csv]), inputs=filter(None, [args.result, args.truth]), overwrite=args.overwrite)
    result = open_result(args.result)
    plan = result.record.get("plan")
    shape = plan.get("result_shape") if isinstance(plan, dict) else None
    if not isinstance(shape, list) or not 1 <= len(shape) <= result.labels.ndim:
        raise ResultError(f"{args.result} does not say how it was tiled; segment the image again.")
    ndim = len(shape)
    frame = _frame(result.labels.shape[:-ndim], args.frame)
    labels = View.at(result.labels, dict(enumerate(frame)), name="the labels")
    embedding = None
    if result.embedding is not None:
        channel = int(result.axes.startswith("t"))  # files have axes (t) c (z) y x
        places = {axis + (axis >= channel): at for axis, at in enumerate(frame)}
        embedding = View.at(result.embedding, places, name="the embedding")
    truth, note = None, ""
    if args.truth is not None:
        mask = read_image(args.truth)
        if mask.data.shape != result.labels.shape:
            found, wanted = mask.data.shape, result.labels.shape
            raise SettingsError(f"{args.truth} has shape {found} and the labels {wanted}; give a mask of their shape.")
        truth, note = View.at(mask.data, dict(enumerate(frame)), name=mask.name), mask.note
    with unchanged(args.result, result.labels, result.embedding):
        report = seam_report(embedding, result.record, labels, truth)
    console.field("result", f"{args.result}: {report.seams} seams, {result.record.get('status', 'status not known')}")
    if note:
        console.field("truth", f"{args.truth.name}: {note}")
    if edits := result.record.get("edits"):
        console.field("labels", f"{len(edits)} edit{'s' * (len(edits) != 1)} by hand since the run")
    console.field("verdict", report.verdict)
    console.field("finding", f"{report.finding or 'nothing to judge'}: {report.meaning}")
    for row in report.worst(WORST_SEAMS):
        mistakes = "" if row.missed is None else f", {row.missed} true ones across it are missed and {row.split} split"
        console.field("", f"axis {row.axis} at {row.position} px: ratio {row.ratio:.2f}, {row.touching} instances touch it, "
                          f"{row.straight} end on it with a straight edge{mistakes}")  # fmt: skip
    if args.csv is not None:  # without a seam there is a file all the same, with the names of the columns alone
        replace_file(args.csv, _csv(report.rows()), targets)
        console.field("written", str(args.csv))
    names = ("ratio", "interval", "control", "exposed", "right", "finding", "seams", "verdict")
    document = {name: getattr(report, name) for name in names}
    score = report.score
    splits = None if score is None else {"at_seams": score.at_seams.row(), "elsewhere": score.elsewhere.row()}  # type: ignore[union-attr]
    whole_score = None if score is None else score.row()
    document["edits"] = len(result.record.get("edits", ()))
    document |= {"cuts": report.cuts, "note": note}
    console.document({**document, "score": whole_score, "splits": splits, "table": report.rows()})
    return 3 if report.exposed else 0


def _frame(loops: tuple[int, ...], number: int) -> tuple[int, ...]:
    """Index of a frame on the looped axes."""
    index: list[int] = []
    rest = number
    for size in reversed(loops):
        rest, at = divmod(rest, size)
        index.insert(0, at)
    if rest:
        raise SettingsError(f"--frame {number} was given, but the result has fewer frames (its loops are {loops}).")
    return tuple(index)


def _csv(rows: list[dict[str, float | None]]) -> bytes:
    from napari_shiftseg.analysis import SeamRow

    text = io.StringIO()
    writer = csv.DictWriter(text, SeamRow.columns(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
