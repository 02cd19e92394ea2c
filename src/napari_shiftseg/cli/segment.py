"""`shiftseg segment`: images in, instances out."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_shiftseg.cli.console import Console
from napari_shiftseg.cli.options import add_batch_options, add_image_options, add_run_options, indices, run_settings, whole
from napari_shiftseg.cli.prepare import (
    NAMING,
    Targets,
    check_free,
    decide_run,
    describe_image,
    describe_model,
    record_at,
    replace_file,
    single_target,
)
from napari_shiftseg.errors import ImageError, SettingsError
from napari_shiftseg.files import Found, check_same

if TYPE_CHECKING:
    from napari_shiftseg.cli.batch import Batch
    from napari_shiftseg.events import Event
    from napari_shiftseg.io import Image
    from napari_shiftseg.segmentation import Job, Segmentation, SegmentSettings

EXAMPLE = "shiftseg segment image.tif --model nuclei --out result.ome.zarr"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("images", nargs="*", metavar="IMAGE",
                        help="TIFF, OME-Zarr, PNG, JPEG or .npy, a folder of these, or an OME-Zarr plate or well")  # fmt: skip
    parser.add_argument("--from", dest="record", type=Path, metavar="RESULT",
                        help="repeat the run of a result, or of what --json printed, on the same image")  # fmt: skip
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
    add_batch_options(parser)
    add_run_options(parser)
    group = parser.add_argument_group("images larger than memory; an interrupted run goes on with the same command")
    group.add_argument("--out-of-core", action=argparse.BooleanOptionalAction,
                       help="block by block from disk to disk; by itself where the result would not fit")  # fmt: skip
    group.add_argument("--workers", type=whole(1), default=0, metavar="N", help="processes that share the blocks")
    group.add_argument("--cluster", metavar="ADDRESS", help="dask scheduler whose workers share the blocks")
    parser.add_argument("--dry-run", action="store_true",
                        help="say how the run would go and what memory, disk and time it takes; write nothing")  # fmt: skip


def run(args: argparse.Namespace, console: Console) -> int:
    """Segment each image; one that fails does not stop the others."""
    from napari_shiftseg.io import load_model, read_image

    if not args.images and args.record is None:
        raise SettingsError("no image was given; give one or more, or --from with a result that is to be run again.")
    again = None if args.record is None else _recorded(args)
    if args.embedding and args.no_embedding:
        raise SettingsError("--embedding and --no-embedding were given; give one of them.")
    batch = _batch(args)
    names = args.images if again is None else args.images or [again[0].image.source]
    targets = [single_target(args)] if batch is None else batch.targets
    found = check_free(
        [path for target in targets for path in target.files()] if batch is None else batch.new_files(),
        stores=[path for target in targets for path in target.stores() if batch is None or batch.is_new(path)],
        inputs=(*(names if batch is None else batch.inputs()), args.model, *filter(None, [args.record])),
        overwrite=args.overwrite,
    )
    model = None if again is not None else load_model(args.model)
    if model is not None:
        console.field("model", describe_model(model))

    def decided(image: Image, target: Targets) -> Job:
        console.field("image", describe_image(image))
        if again is not None:
            return _again(*again, image, target=target, console=console)
        assert model is not None
        return decide_run(image, model, _settings(args), out=target.store)

    if batch is not None:
        return batch.run(decided, partial(segment_job, args=args, console=console, found=found), console, found=found)
    scene = again[0].image.scene if again is not None and args.scene is None else args.scene
    job = decided(read_image(names[0], scene=scene, axes=args.axes), targets[0])
    console.document(segment_job(job, targets[0], args=args, console=console, found=found)[1])
    return 0


def _batch(args: argparse.Namespace) -> Batch | None:
    """Many images, where more is wished for than one image and its own results."""
    wished = args.summary or args.features or args.resume or args.recursive or args.pattern != "*" or len(args.images) > 1
    if not wished and (args.record is not None or not any(Path(name).is_dir() for name in args.images)):
        return None
    from napari_shiftseg.cli.batch import batch_of

    return batch_of(args)


def _settings(args: argparse.Namespace) -> SegmentSettings:
    return replace(
        run_settings(args),
        keep_embedding=True if args.embedding else False if args.no_embedding else None,
        out_of_core=args.out_of_core,
        workers=args.workers,
        cluster=args.cluster,
    )


def _recorded(args: argparse.Namespace) -> tuple[Job, Mapping[str, Any]]:
    """The job that is to be repeated, and what is known of its pixels."""
    from napari_shiftseg.segmentation import Job

    if len(args.images) > 1:
        raise SettingsError(f"{len(args.images)} images were given with --from, which repeats one run; give one, or none.")
    plain = argparse.ArgumentParser()
    add_arguments(plain)
    if args.channels or _settings(args) != _settings(plain.parse_args(["image"])):
        raise SettingsError("--from repeats a run as it was; leave the other options of the run out, or leave --from out.")
    path = args.record
    record = record_at(path)
    if not isinstance(record, dict) or "job" not in record or "pixels" not in (record.get("image") or ()):
        raise SettingsError(f"{path} does not say how it was made, since an older version made it; segment the image again.")
    job = Job.from_dict(record["job"])
    if not args.images and not Path(job.image.source).exists():
        source = job.image.source
        raise ImageError(f"the image of the run, {source}, is not there; name its file: shiftseg segment IMAGE --from {path}.")
    return job, record["image"]


def _again(job: Job, known: Mapping[str, Any], image: Image, *, target: Targets, console: Console) -> Job:
    """The job of a record, on its image and for new places."""
    from napari_shiftseg.network import choose_device
    from napari_shiftseg.segmentation import open_job, pixel_digest, sum_of

    job = open_job(job, image)
    console.field("model", describe_model(job.opened.model))
    frames = job.opened.frames
    # records of earlier versions have no sum
    if pixel_digest(frames) != known["pixels"] or (known.get("sum") and sum_of(frames) != known["sum"]):
        raise SettingsError(f"{image.source} has other pixels than the image of the run; give that image.")
    device = choose_device(job.device.kind)
    return replace(job, device=device, out=None if target.store is None else str(target.store))


def segment_job(
    job: Job, target: Targets, *, args: argparse.Namespace, console: Console, found: Mapping[Path, Found]
) -> tuple[Segmentation | None, dict[str, object]]:
    """What came of a job, None of a dry run, and what is said of it for machines."""
    from napari_shiftseg.events import Estimate, drain
    from napari_shiftseg.segmentation import duration, kept_of, look, run_steps

    if job.large:
        _check_large(target)
    job = look(job)
    for name, text in job.lines():
        console.field(name, text)
    if args.dry_run:
        return None, _dry_run(job, console)
    with console.progress() as show:

        def tell(event: Event) -> None:
            show(event)
            if isinstance(event, Estimate):
                console.field("time", f"about {duration(event.seconds)}")

        if target.store is not None:
            check_same(target.store, found[target.store])
        try:
            result = drain(run_steps(job, overwrite=args.overwrite), tell)
        except KeyboardInterrupt as exc:
            if job.large and job.out is not None and (kept := kept_of(job.out)):
                raise type(exc)(f"interrupted; {kept}: the same command goes on from there.") from None
            raise
    written = write_results(result, target, overwrite=args.overwrite, found=found)
    report_result(result.record, written, console)
    return result, document(result, written)


def _dry_run(job: Job, console: Console) -> dict[str, object]:
    """What the run would take; the time comes from the pace of a few tiles."""
    from napari_shiftseg.segmentation import duration, pixel_digest, take_pace

    assert job.intensity is not None
    seconds = take_pace(job).seconds(job)
    tell_intensity(job.intensity.describe(), {"notes": job.intensity.notes, "warnings": job.intensity.warnings}, console)
    console.field("time", f"about {duration(seconds)}")
    console.field("written", "nothing, since this is a dry run")
    values = {"plan": job.plan.to_dict(), "out_of_core": job.large, "memory": job.memory, "seconds": seconds}
    if job.layout is not None:
        values |= {"disk": job.disk, "blocks": {"edge": job.layout.grid.edge, "tasks": job.layout.tasks}}
    return {
        "dry_run": values,
        "job": replace(job, seconds=seconds).to_dict(),
        "image": {"pixels": pixel_digest(job.opened.frames)},
    }


def write_results(result: Segmentation, target: Targets, *, overwrite: bool, found: Mapping[Path, Found]) -> dict[str, Path]:
    """Write what was asked for, where nothing came since `found`; gives the path of each."""
    written: dict[str, Path] = {}
    try:
        _write(result, target, written, overwrite=overwrite, found=found)
    except KeyboardInterrupt as exc:
        there = [path.name for path in (written.values() or filter(None, [result.path]))]
        if not there:
            raise
        raise type(exc)(f"interrupted; {' and '.join(there)} {'is' if len(there) == 1 else 'are'} complete.") from None
    return {kind: path.absolute() for kind, path in written.items()}


def _write(
    result: Segmentation, target: Targets, written: dict[str, Path], *, overwrite: bool, found: Mapping[Path, Found]
) -> None:
    from napari_shiftseg.io import save_labels_tiff

    for path in target.files():
        check_same(path, found[path])  # before the first is written, and again before each
    if target.store is not None:
        written["result"] = result.path or result.save(target.store, overwrite=overwrite)
    if target.labels is not None:
        check_same(target.labels, found[target.labels])
        written["labels"] = save_labels_tiff(target.labels, result.labels, result.axes, scale=result.scale, units=result.units)
    if target.picture is not None:
        from napari_shiftseg.picture import draw_segmentation, encode_png

        written["picture"] = replace_file(target.picture, encode_png(draw_segmentation(result)), found)
    if target.table is not None:
        written["table"] = replace_file(target.table, _table(result).encode(), found)


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


def tell_intensity(limits: str, found: Mapping[str, Sequence[str]], console: Console) -> None:
    """Say how intensities were scaled, what was left out, and what to beware of."""
    console.field("intensity", limits)
    for note in found["notes"]:
        console.field("", note)
    for warning in found["warnings"]:
        console.field("warning", warning)


def report_result(record: Mapping[str, Any], written: Mapping[str, Path], console: Console) -> None:
    """Say what a segmentation found and what can be promised of it."""
    from napari_shiftseg.segmentation.intensity import recorded_limits

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


def document(result: Segmentation, written: dict[str, Path]) -> dict[str, object]:
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
