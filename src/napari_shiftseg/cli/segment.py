"""`shiftseg segment`: images in, instances out."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_shiftseg.cli import report
from napari_shiftseg.cli.console import Console
from napari_shiftseg.cli.options import add_image_options, add_run_options, indices, run_settings, whole
from napari_shiftseg.cli.prepare import check_free, describe_image, describe_model, prepare, replace_file
from napari_shiftseg.cli.targets import NAMING, Targets, targets_of
from napari_shiftseg.errors import SettingsError, ShiftsegError, memory_ran_out

if TYPE_CHECKING:
    from napari_shiftseg.events import Event
    from napari_shiftseg.network import Model
    from napari_shiftseg.segmentation import Forecast, Segmentation, SegmentSettings
    from napari_shiftseg.segmentation.prepare import Task

EXAMPLE = "shiftseg segment image.tif --model nuclei --out result.ome.zarr"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="TIFF, OME-Zarr, PNG, JPEG or .npy")
    parser.add_argument("--model", default="nuclei", help="bundled name or file (default: %(default)s)")
    parser.add_argument("--channels", type=indices, metavar="0,2", help="channels for the network, from 0")
    add_image_options(parser)
    group = parser.add_argument_group("results", f"For several images each is a folder; results in it are {NAMING}.")
    group.add_argument("--out", type=Path, help="OME-Zarr store to write")
    group.add_argument("--labels-tiff", type=Path, metavar="FILE", help="labels as TIFF")
    group.add_argument("--picture", type=Path, metavar="FILE", help="picture as PNG: image, embedding, instances, seams")
    group.add_argument("--table", type=Path, metavar="FILE",
                       help="instances as CSV: size, centre, extent, whether they meet a seam or the border")  # fmt: skip
    group.add_argument("--no-embedding", action="store_true", help="leave the embedding out: smaller results")
    group.add_argument("--embedding", action="store_true", help="write it out of core as well, where it is left out")
    group.add_argument("--overwrite", action="store_true", help="replace earlier results")
    add_run_options(parser)
    group = parser.add_argument_group("images larger than memory; an interrupted run goes on with the same command")
    group.add_argument("--out-of-core", action="store_true",
                       help="block by block from disk to disk; by itself where the result would not fit")  # fmt: skip
    group.add_argument("--workers", type=whole(1), default=0, metavar="N", help="processes that share the blocks")
    group.add_argument("--cluster", metavar="ADDRESS", help="dask scheduler whose workers share the blocks")
    parser.add_argument("--dry-run", action="store_true",
                        help="say how the run would go and what memory, disk and time it takes; write nothing")  # fmt: skip


def run(args: argparse.Namespace, console: Console) -> int:
    """Segment each image; one that fails does not stop the others."""
    from napari_shiftseg.io import load_model

    targets = targets_of(args)
    if args.embedding and args.no_embedding:
        raise SettingsError("--embedding and --no-embedding were given; give one of them.")
    check_free(
        (path for target in targets for path in target.files()),
        stores=(path for target in targets for path in target.stores()),
        inputs=(*args.images, args.model),
        overwrite=args.overwrite,
    )
    settings = replace(
        run_settings(args),
        keep_embedding=True if args.embedding else False if args.no_embedding else None,
        out_of_core=True if args.out_of_core else None,
        workers=args.workers,
        cluster=args.cluster,
    )
    model = load_model(args.model)
    console.field("model", describe_model(model))
    done: list[dict[str, Any]] = []
    code = 0
    for name, target in zip(args.images, targets, strict=True):
        try:
            done.append(_segment_file(name, target, model, settings, args, console))
        except (ShiftsegError, OSError, MemoryError, RuntimeError) as exc:
            known = isinstance(exc, ShiftsegError | OSError) or memory_ran_out(exc)
            if len(targets) == 1 or not known:
                raise
            failed = report(exc, "segment", name)
            done.append({"image": name, "error": str(exc)})
            code = code or failed  # of several failures the first says the code
    console.document(done[0] if len(done) == 1 else {"images": done})
    return code


def _segment_file(
    name: str, target: Targets, model: Model, settings: SegmentSettings, args: argparse.Namespace, console: Console
) -> dict[str, Any]:
    from napari_shiftseg.events import Estimate, drain
    from napari_shiftseg.io import read_image
    from napari_shiftseg.segmentation import compare_image, duration, forecast, kept_of, segment_steps
    from napari_shiftseg.segmentation import prepare as prepare_run

    image = read_image(name, scene=args.scene, axes=args.axes)
    console.field("image", describe_image(image))
    prepared = prepare(image, model, settings)
    console.field("plan", prepared.plan.describe())
    console.field("device", f"{prepared.device.describe()}; {settings.dtype}")
    coming = forecast(image, model, settings, prepared.device, target.store)
    if coming.layout is not None:
        _check_large(target)
        console.field("blocks", coming.layout.describe())
    console.field("likeness", f"{compare_image(prepare_run(image, model, settings)).text} (the image alone)")
    if args.dry_run:
        return _dry_run(prepare_run(image, model, settings), coming, settings, console)
    out = target.store if coming.large else None
    with console.progress() as show:

        def tell(event: Event) -> None:
            show(event)
            if isinstance(event, Estimate):
                console.field("time", f"about {duration(event.seconds)}")

        try:
            result = drain(segment_steps(image, model, settings, out, overwrite=args.overwrite), tell)
        except KeyboardInterrupt:
            if out is not None and (kept := kept_of(out)):
                raise KeyboardInterrupt(f"interrupted; {kept}: the same command goes on from there.") from None
            raise
    written = write_results(result, target, overwrite=args.overwrite)
    report_result(result, written, console)
    return document(result, written)


def _dry_run(task: Task, coming: Forecast, settings: SegmentSettings, console: Console) -> dict[str, Any]:
    """What the run would take; the time comes from the pace of a few tiles."""
    from napari_shiftseg.segmentation import duration, layout_of, take_pace

    layout = coming.layout or layout_of(task, settings)
    seconds = take_pace(task, layout, settings).seconds(layout)
    memory = sum(layout.memory.values()) if coming.large else coming.needed
    found = {"notes": task.intensity.notes, "warnings": task.intensity.warnings}
    tell_intensity(task.intensity.describe(), found, console)
    console.field("memory", f"up to {memory / 1e9:.3g} GB" + f" of {coming.free / 1e9:.3g} GB free" * bool(coming.free))
    console.field("time", f"about {duration(seconds)}")
    console.field("written", "nothing, since this is a dry run")
    values = {"plan": task.plan.to_dict(), "out_of_core": coming.large, "memory": memory, "seconds": seconds}
    if coming.large:
        values |= {"disk": layout.disk, "blocks": {"edge": layout.grid.edge, "tasks": layout.tasks}}
    return {"dry_run": values}


def write_results(result: Segmentation, target: Targets, *, overwrite: bool) -> dict[str, Path]:
    """Write what was asked for; gives the path of each."""
    from napari_shiftseg.io import save_labels_tiff

    written = {}
    if target.store is not None:
        written["result"] = target.store if result.stored is not None else result.save(target.store, overwrite=overwrite)
    if target.labels is not None:
        written["labels"] = save_labels_tiff(target.labels, result.labels, result.axes, scale=result.scale, units=result.units)
    if target.picture is not None:
        from napari_shiftseg.picture import draw_segmentation, encode_png

        written["picture"] = replace_file(target.picture, encode_png(draw_segmentation(result)))
    if target.table is not None:
        written["table"] = replace_file(target.table, _table(result).encode())
    return {kind: path.absolute() for kind, path in written.items()}


def _table(result: Segmentation) -> str:
    """All instances as CSV, a row each; of a series with the place of the frame in front."""
    import csv
    import io

    import numpy as np

    from napari_shiftseg.instances import object_table

    looped = len(result.axes) - result.plan.lattice.ndim
    text = io.StringIO()
    writer = csv.writer(text)
    if result.stored is not None:
        table = result.stored.objects()
        writer.writerow(table)
        writer.writerows(
            zip(*(column.astype(int) if column.dtype == bool else column for column in table.values()), strict=True)
        )
        return text.getvalue()
    for index in np.ndindex(result.labels.shape[:looped]):
        table = object_table(result.labels[index], result.plan.seams())
        if not text.tell():
            writer.writerow([*result.axes[:looped], *table])
        columns = [[int(v) if v.dtype == bool else v.item() for v in column] for column in table.values()]
        writer.writerows([*index, *row] for row in zip(*columns, strict=True))
    return text.getvalue()


def tell_intensity(limits: str, found: Mapping[str, Any], console: Console) -> None:
    """Say how intensities were scaled, what was left out, and what to beware of."""
    console.field("intensity", limits)
    for note in found["notes"]:
        console.field("", note)
    for warning in found["warnings"]:
        console.field("warning", warning)


def report_result(result: Segmentation, written: dict[str, Path], console: Console) -> None:
    """Say what a segmentation found and what can be promised of it."""
    from napari_shiftseg.segmentation.intensity import recorded_limits

    record = result.record
    promise = {
        "compliant": "tiles equal the whole image, and the training made neighbouring tiles agree",
        "tile-exact": "tiles equal the whole image; that neighbouring tiles agree on objects was not trained, or is not known",
        "non-compliant": "rules were broken; objects at seams may be split or fused",
    }
    status, words = record["status"], promise[record["status"]]
    if status == "compliant" and not record["promises"]["tile_exact"]:
        status = "compliant as trained, not tile-exact"
        words = "each tile stands alone as in training, which made neighbouring tiles agree; one pass gives another result"
    console.field("status", f"{status}: {words}")
    for violation in record["violations"]:
        console.field("", f"broken: {violation['message']}")
    tell_intensity(recorded_limits(record).describe(), record["intensity"], console)
    method = record.get("method")
    if isinstance(method, dict):
        strips = f" in strips of {method['strip']} rows" if method["name"] == "stream" else ""
        console.field("method", f"{method['name']}{strips}")
    if found := record.get("likeness"):  # a store that is older has none
        console.field("likeness", found["text"])
    counts = record["instances"]
    console.field("instances", counts[0] if len(counts) == 1 else f"{sum(counts)} in {len(counts)} frames")
    spent = record["seconds"]
    console.field("seconds", ", ".join(f"{name} {value:.1f}" for name, value in spent.items()))
    for kind, path in written.items():
        console.field(kind, path)


def document(result: Segmentation, written: dict[str, Path]) -> dict[str, Any]:
    """The record of a segmentation with the places of its results, for machines."""
    return {
        **result.record,
        "axes": result.axes,
        "shape": result.labels.shape,
        "description": result.plan.describe(),
        "written": written,
    }


def _check_large(target: Targets) -> None:
    """Refuse what would have to read a result that does not fit in memory."""
    if target.store is None:
        raise SettingsError("the run goes out of core, from disk to disk; name a store with --out.")
    if target.labels is not None or target.picture is not None:
        raise SettingsError(
            "the run goes out of core, so that its labels may not fit in memory; leave --labels-tiff and --picture out."
        )
