"""`shiftseg evaluate`: how good a model is, what limits it, and which clustering settings suit it."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_shiftseg.cli.console import Console
from napari_shiftseg.cli.constants import WHOLE_EDGE
from napari_shiftseg.cli.options import add_run_options, indices, number, run_settings, whole
from napari_shiftseg.cli.pairs import Notes, Pair, describe_data, describe_notes, files_of, find_pairs, read_pair
from napari_shiftseg.cli.prepare import check_free, decide_run, describe_model, replace_file
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.events import drain
from napari_shiftseg.files import Found, check_same

if TYPE_CHECKING:
    from napari_shiftseg.evaluation import Calibration, EvaluatedFrame, Evaluation, Example
    from napari_shiftseg.instances import MatchScore
    from napari_shiftseg.network import Clustering, Model
    from napari_shiftseg.segmentation import SegmentSettings

EXAMPLE = "shiftseg evaluate data/nuclei --model nuclei --split val --by dtype --baseline"

_COLUMNS = ["ap", "f1", "pq", "sbd", "tp", "fp", "fn", "unlabelled", "invented", "splits", "merges"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("data", nargs="+", type=Path, metavar="DATA", help="folder with images/ and masks/ of equal names")
    parser.add_argument("--model", default="nuclei", help="bundled name or file (default: %(default)s)")
    parser.add_argument("--split", help="only rows of DATA/meta.csv whose column split says so, or one of train,val")
    parser.add_argument("--every", type=whole(1), default=1, metavar="N", help="only every Nth image")
    parser.add_argument("--by", metavar="COLUMN", help="scores per value of a column of DATA/meta.csv, such as dtype")
    parser.add_argument("--channels", type=indices, metavar="0,2", help="channels for the network, from 0")
    parser.add_argument("--iou", type=number(0.01, 1), default=0.5, help="overlap of a match (default: %(default)s)")
    parser.add_argument("--whole", action="store_true", help="one tile for each image, whatever its size")
    parser.add_argument("--baseline", action="store_true", help="score Otsu's threshold with a watershed too")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the scores of each image")
    group = parser.add_argument_group("calibration")
    group.add_argument("--calibrate", action="store_true", help="search the clustering settings with the best AP")
    group.add_argument("--only", type=lambda text: text.split(","), metavar="NAME,NAME",
                       help="search these alone, such as valley; all others stay as they are")  # fmt: skip
    group.add_argument("--write-model", type=Path, metavar="FILE", help="save the model with the settings found")
    group.add_argument("--half", action="store_true", help="with float16 weights")
    parser.add_argument("--overwrite", action="store_true", help="replace earlier files")
    add_run_options(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Segment and score all images; calibrate if asked for."""
    from napari_shiftseg.evaluation import calibrate_steps, evaluate_steps
    from napari_shiftseg.instances import said_by
    from napari_shiftseg.io import load_model
    from napari_shiftseg.network import Clustering

    if args.write_model is not None and not args.calibrate:
        raise SettingsError("--write-model saves what --calibrate finds; give both.")
    if args.only is not None and not args.calibrate:
        raise SettingsError("--only says what --calibrate searches; give both.")
    if args.whole and args.tile is not None:
        raise SettingsError("--whole and --tile exclude each other; give one of them.")
    pairs = find_pairs(args.data, args.split)
    targets = filter(None, (args.csv, args.write_model))
    found = check_free(targets, inputs=(args.model, *files_of(pairs)), overwrite=args.overwrite)
    pairs = pairs[:: args.every]
    if args.by is not None and any(args.by not in pair.row for pair in pairs):
        raise SettingsError(f"--by {args.by}: not every DATA/meta.csv has this column; choose one that is there.")
    settings = run_settings(args)
    settings = replace(settings, write=WHOLE_EDGE) if args.whole else settings
    model = load_model(args.model)
    start = _wished_clustering(
        model.record.clustering if model.record else Clustering(), settings, said=bool(said_by(model.outputs))
    )
    console.field("model", describe_model(model))
    console.field("data", describe_data(pairs, args.split))
    notes: Notes = {}
    examples = _read(pairs, args.by, model, settings=settings, console=console, notes=notes)
    with console.progress() as show:
        evaluation = drain(
            evaluate_steps(
                examples, model, settings, iou=args.iou, count=len(pairs), baseline=args.baseline, keep=args.calibrate
            ),
            show,
        )
    for note in describe_notes(notes):
        console.field("note", note)
    _report(evaluation, model, args, console=console)
    values = _values(evaluation, model, args) | {"notes": describe_notes(notes)}
    if args.csv is not None:
        console.field("csv", replace_file(args.csv, _table(evaluation), found).absolute())
        values["csv"] = args.csv.absolute()
    if args.calibrate:
        coordinates, only = model.embedding.meaning == "offset", args.only or ()
        steps = calibrate_steps(evaluation.outputs, start, coordinates=coordinates, iou=args.iou, only=only)
        with console.progress() as show:
            calibration = drain(steps, show)
        values["calibration"] = _finish_calibration(calibration, start, model, args=args, console=console, found=found)
    console.document(values)


def _read(
    pairs: list[Pair], by: str | None, model: Model, *, settings: SegmentSettings, console: Console, notes: Notes
) -> Iterator[Example]:
    """Examples one by one; the first one shows how all will run."""
    from napari_shiftseg.evaluation import Example

    for index, pair in enumerate(pairs):
        image, truth = read_pair(pair, notes)
        if index == 0:
            lines = dict(decide_run(image, model, settings).lines())
            console.field("plan", f"{lines['plan']} (first image)")
            console.field("device", lines["device"])
        yield Example(image=image, truth=truth, name=pair.name, group=pair.row[by] if by else "")


def _wished_clustering(base: Clustering, settings: SegmentSettings, *, said: bool) -> Clustering:
    width = "factor" if said else "bandwidth"
    wishes = {width: settings.bandwidth, "threshold": settings.threshold, "min_size": settings.min_size}
    return replace(base, **{name: value for name, value in wishes.items() if value is not None})  # type: ignore[arg-type]


# -- reports ----------------------------------------------------------------------------------------------------------


def _report(evaluation: Evaluation, model: Model, args: argparse.Namespace, *, console: Console) -> None:
    iou, pooled, mean = evaluation.iou, evaluation.pooled, evaluation.mean
    frames = len(evaluation.frames)
    seconds = sum(frame.seconds for frame in evaluation.frames)
    console.field("evaluated", f"{frames} images with {pooled.tp + pooled.fn} objects; {seconds:.1f} s")
    console.field(f"IoU {iou:g}", "AP     F1     PQ     SBD    missed   extra  splits  merges")
    console.field("objects", f"{_scores(pooled)}   all objects pooled")
    console.field("images", f"{_scores(mean)}   mean over images")
    if evaluation.centres is not None:
        what = "with true centres: errors of the network alone"
        console.field("network", f"{_scores(evaluation.centres)}   {what}")
    if evaluation.baseline is not None:
        console.field("baseline", f"{_scores(evaluation.baseline)}   Otsu + watershed")
    console.field("mistakes", f"{pooled.text}.")
    curve = evaluation.curve
    console.field("AP at IoU", "  ".join(f"{threshold:.2f}: {ap:.3f}" for threshold, ap in curve.items()))
    console.field("", f"mean of 0.50 to 0.95: {sum(curve.values()) / len(curve):.3f}")
    if args.by is not None:
        for name, part in evaluation.groups().items():
            console.field(f"by {args.by}", f"{_scores(part.pooled)}   {name or '(empty)'}: "
                          f"{len(part.frames)} images, mean AP {part.mean.ap:.3f}")  # fmt: skip


def _scores(score: Any) -> str:
    values = [f"{value:.3f}" for value in (score.ap, score.f1, score.pq, score.sbd)]
    counts = (score.fn, score.fp, score.splits, score.merges)
    return "  ".join([*values, *(f"{count:6}" if isinstance(count, int) else f"{count:6.2f}" for count in counts)])


def _values(evaluation: Evaluation, model: Model, args: argparse.Namespace) -> dict[str, object]:
    def summary(part: Evaluation) -> dict[str, object]:
        return {
            "pooled": part.pooled.row(),
            "mean": asdict(part.mean),
            "centres": part.centres.row() if part.centres else None,
            "baseline": part.baseline.row() if part.baseline else None,
        }

    return {
        "model": model.name,
        "sha256": model.hash,
        "iou": evaluation.iou,
        **summary(evaluation),
        "ap_by_iou": {f"{iou:.2f}": ap for iou, ap in evaluation.curve.items()},
        "by": {name: summary(part) for name, part in evaluation.groups().items()} if args.by else None,
        "frames": [_row(frame, evaluation.iou) for frame in evaluation.frames],
    }


def _row(frame: EvaluatedFrame, iou: float) -> dict[str, object]:
    score = next(score for score in frame.scores if score.iou == iou)
    row: dict[str, object] = {"name": frame.name, "group": frame.group, "iou": iou}
    row |= {name: getattr(score, name) for name in _COLUMNS}
    row["ap_true_centres"] = frame.centres.ap if frame.centres else None
    row["ap_baseline"] = frame.baseline.ap if frame.baseline else None
    return row | {"seconds": round(frame.seconds, 4)}


def _table(evaluation: Evaluation) -> bytes:
    rows = [_row(frame, evaluation.iou) for frame in evaluation.frames]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _finish_calibration(
    calibration: Calibration,
    start: Clustering,
    model: Model,
    *,
    args: argparse.Namespace,
    console: Console,
    found: Mapping[Path, Found],
) -> dict[str, object]:
    from napari_shiftseg.io import save_model
    from napari_shiftseg.network import ModelRecord

    def describe(clustering: Clustering, score: MatchScore) -> str:
        return f"AP {score.ap:.3f}: " + ", ".join(f"{name} {value:g}" for name, value in asdict(clustering).items())

    tried = dict(calibration.tried)
    console.field("calibrated", f"on these images, {len(tried)} settings tried")
    console.field("before", describe(start, tried[start]))
    console.field("best", describe(calibration.best, calibration.score))
    values: dict[str, object] = {
        "best": asdict(calibration.best),
        "score": calibration.score.row(),
        "tried": [{**asdict(clustering), "ap": score.ap} for clustering, score in calibration.tried],
    }
    if args.write_model is not None:
        record = model.record or ModelRecord(window=())
        if model.record is None:
            raise SettingsError("the model has no record that could hold the settings; train it with shiftseg train.")
        record = replace(record, clustering=calibration.best)
        check_same(args.write_model, found[args.write_model])
        path = save_model(args.write_model, replace(model, record=record), half=args.half).absolute()
        console.field("model", path)
        values["model"] = path
    return values
