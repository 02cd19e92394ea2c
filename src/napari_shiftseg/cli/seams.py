"""`shiftseg seams`: whether the tiles of a result show at its seams."""

from __future__ import annotations

import argparse
import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_shiftseg.cli.console import Console
from napari_shiftseg.cli.options import whole
from napari_shiftseg.cli.prepare import check_free, replace_file
from napari_shiftseg.errors import ResultError, SettingsError

EXAMPLE = "shiftseg seams result.ome.zarr --csv seams.csv"

_WORST = 5


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
    from napari_shiftseg.io import open_result, read_image

    check_free(filter(None, [args.csv]), inputs=filter(None, [args.truth]), overwrite=args.overwrite)
    result = open_result(args.result)
    if "plan" not in result.record:
        raise ResultError(f"{args.result} does not say how it was tiled; segment the image again.")
    ndim = len(result.record["plan"]["result_shape"])
    frame = _frame(result.labels.shape[:-ndim], args.frame)
    labels = _Frame(result.labels, frame, ndim)
    embedding = None
    if result.embedding is not None:
        # files have axes (t) c (z) y x
        before = 1 if result.axes.startswith("t") and frame else 0
        embedding = _Frame(result.embedding, (*frame[:before], slice(None), *frame[before:]), ndim)
    truth = None
    if args.truth is not None:
        mask = read_image(args.truth)
        if mask.data.shape != result.labels.shape:
            found, wanted = mask.data.shape, result.labels.shape
            raise SettingsError(f"{args.truth} has shape {found} and the labels {wanted}; give a mask of their shape.")
        truth = _Frame(mask.data, frame, ndim)
    report = seam_report(embedding, result.record, labels, truth)
    console.field("result", f"{args.result}: {report.seams} seams, {result.record.get('status', 'status not known')}")
    console.field("verdict", report.verdict)
    console.field("finding", f"{report.finding or 'nothing to judge'}: {report.meaning}")
    for row in report.worst(_WORST):
        mistakes = "" if row.missed is None else f", {row.missed} true ones across it are missed and {row.split} split"
        console.field("", f"axis {row.axis} at {row.position} px: ratio {row.ratio:.2f}, {row.touching} instances touch it, "
                          f"{row.straight} end on it with a straight edge{mistakes}")  # fmt: skip
    if args.csv is not None:  # without a seam there is a file all the same, with the names of the columns alone
        replace_file(args.csv, _csv(report.rows()))
        console.field("written", str(args.csv))
    names = ("ratio", "interval", "control", "exposed", "right", "finding", "seams", "verdict")
    document = {name: getattr(report, name) for name in names}
    score = report.score
    splits = None if score is None else {"at_seams": score.at_seams.row(), "elsewhere": score.elsewhere.row()}  # type: ignore[union-attr]
    whole_score = None if score is None else score.row()
    console.document({**document, "cuts": report.cuts, "score": whole_score, "splits": splits, "table": report.rows()})
    return 3 if report.exposed else 0


@dataclass(frozen=True, eq=False)
class _Frame:
    """One frame of a stored array; the spatial axes are sliced lazily."""

    array: Any
    index: tuple[int | slice, ...]
    ndim: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape without the axes that `index` fixes."""
        sizes = zip(self.array.shape, (*self.index, *(slice(None),) * self.ndim), strict=True)
        return tuple(size for size, at in sizes if isinstance(at, slice))

    def __getitem__(self, key: tuple[slice, ...]) -> Any:
        free, spatial = key[: len(key) - self.ndim], key[len(key) - self.ndim :]
        channels = iter(free)
        lead = tuple(next(channels, at) if isinstance(at, slice) else at for at in self.index)
        return self.array[(*lead, *spatial)]


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
