"""`segment`: image -> tile plan -> embedding -> instances, frame by frame, with a record of what happened."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import ResultError
from napari_shiftseg.events import Event, Stage, drain
from napari_shiftseg.files import check_same
from napari_shiftseg.geometry import Output, TilePlan
from napari_shiftseg.io import Image, StoredResult, check_store, save_result, work_path
from napari_shiftseg.network import Model
from napari_shiftseg.segmentation.decision import chunk_budget, decide, pixel_digest
from napari_shiftseg.segmentation.intensity import few_objects
from napari_shiftseg.segmentation.job import Job, record_of, translation_of
from napari_shiftseg.segmentation.large import large_steps
from napari_shiftseg.segmentation.likeness import compare_result, look
from napari_shiftseg.segmentation.measuring import measure_steps
from napari_shiftseg.segmentation.pipeline import cluster_steps, embed_steps, settle
from napari_shiftseg.segmentation.place import check_place
from napari_shiftseg.segmentation.settings import SegmentSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmentation:
    """A result, in memory or on disk.

    Attributes
    ----------
    labels : ndarray or zarr.Array
        ([t], [z], y, x) uint32; `axes` names the axes.
    outputs : mapping of str to ndarray
        What the network says, as far as it was kept, by name: (count, *labels.shape) float32 of a vector, (*labels.shape) of a
        single value. Of a result on disk, `stored.outputs` are those that were written.
    embedding, foreground : ndarray or None
        The outputs of these names.
    plan : TilePlan
        Of one frame.
    record : dict
        What happened, JSON values.
    axes, scale, units
        Of the labels.
    image : Image
        That was segmented.
    described : mapping of str to Output
        What all outputs of the model mean.
    stored : StoredResult or None
        The store, if the run was out of core.
    path : Path or None
        Where the run wrote it.
    """

    labels: Any
    outputs: Mapping[str, npt.NDArray[np.float32]]
    plan: TilePlan
    record: dict[str, Any]
    axes: str
    scale: tuple[float, ...]
    units: tuple[str | None, ...]
    image: Image
    described: Mapping[str, Output] = field(default_factory=dict)
    stored: StoredResult | None = None
    path: Path | None = None

    @property
    def embedding(self) -> npt.NDArray[np.float32] | None:
        """(E, *labels.shape) float32, or None."""
        return self.outputs.get("embedding")

    @property
    def foreground(self) -> npt.NDArray[np.float32] | None:
        """(*labels.shape) float32 probability, or None."""
        return self.outputs.get("foreground")

    def save(self, path: str | Path, *, overwrite: bool = False, copy_image: bool = True) -> Path:
        """Write the result as an OME-Zarr store (see `io.save_result`)."""
        # files have time first
        swap = self.axes.startswith("t")
        outputs = [
            (self.described[name], np.moveaxis(values, 0, 1) if swap and self.described[name].vector else values)
            for name, values in self.outputs.items()
        ]
        return save_result(
            path,
            labels=self.labels,
            axes=self.axes,
            scale=self.scale,
            units=self.units,
            translation=translation_of(self.image, self.axes),
            record=self.record,
            image=self.image if copy_image else None,
            outputs=outputs,
            name=self.image.name,
            overwrite=overwrite,
        )


def segment(
    image: Any,
    model: Model | str | Path,
    settings: SegmentSettings | None = None,
    out: str | Path | None = None,
    *,
    on_event: Callable[[Event], None] | None = None,
) -> Segmentation:
    """Segment an image; the result does not depend on the tiles.

    Parameters
    ----------
    image : path, Image or array-like
        A file, an `Image`, or an array: (y, x), (z, y, x), (C, y, x) for a model of C channels, ...
    model : Model, str or path
        A model, the name of a bundled one, or a file.
    settings : SegmentSettings, optional
    out : path, optional
        OME-Zarr store to write. With it, an image whose result would not fit in memory is segmented out of core: block by block
        into the store, and resumable. Such a result holds the labels and the table of instances, and the embedding on request.
    on_event : callable, optional
        Called with each `Stage`, `TileDone` and `WindowDone`.

    Returns
    -------
    Segmentation

    Raises
    ------
    ComplianceError
        If a rule is broken and not allowed; `.violations` lists them.
    ShiftsegError
        For images, models, devices and settings that cannot work.

    >>> from napari_shiftseg import synthetic
    >>> drawn = synthetic.disks((120, 120), 40, 10)
    >>> result = segment(drawn.image, "nuclei", SegmentSettings(device="cpu", write=64))
    >>> int(result.labels.max()), result.record["status"]
    (9, 'compliant')
    """
    return drain(segment_steps(image, model, settings, out), on_event)


def segment_steps(
    image: Any,
    model: Model | str | Path,
    settings: SegmentSettings | None = None,
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
) -> Generator[Event, None, Segmentation]:
    """Generator form of `segment`: yields events, returns the `Segmentation`.

    In memory, nothing is written before its end; out of core, the unfinished part lies in a hidden folder beside `out`.
    """
    unfinished = out is not None and work_path(out).exists()
    if out is not None and Path(out).exists() and not overwrite and not unfinished:
        raise ResultError(f"{out} is there already; choose another name or remove it.")
    if out is not None and not unfinished:
        check_store(out, overwrite=True)
    size = None
    if settings is not None and settings.diameter == "auto":
        size = yield from measure_steps(image, model, settings)
    return (yield from run_steps(decide(image, model, settings, out, size=size), overwrite=overwrite))


def run_steps(job: Job, *, overwrite: bool = False) -> Generator[Event, None, Segmentation]:
    """Run what was decided: yields events, returns the `Segmentation`.

    Parameters
    ----------
    job : Job
        From `decide`, or loaded and opened.
    overwrite : bool
        Replace an earlier result.
    """
    started = time.perf_counter()
    found = check_place(job)
    job = look(job, likeness=False)
    if job.layout is not None:
        stored, plan = yield from large_steps(job, overwrite=overwrite)
        return _segmentation(job, plan, stored.record, labels=stored.labels, stored=stored)
    inputs, model = job.opened, job.opened.model
    if inputs.reader is not None:
        inputs.reader.budget = chunk_budget(job.settings)
    shape = (*job.lengths, *job.plan.result_shape)
    labels = np.zeros(shape, np.uint32)
    kept = job.settings.kept(model.outputs, large=False)
    outputs = {name: np.empty(output.shape(shape), np.float32) for name, output in kept.items()}
    seconds = {"network": 0.0, "labels": 0.0}
    plan, methods, ran = job.plan, [], []
    for number, frame in enumerate(inputs.frames):
        position = tuple(frame.index.values())
        places: Any = {name: (slice(None), *position) if kept[name].vector else position for name in kept}
        which = f" of frame {number + 1}/{job.frames}" if job.frames > 1 else ""
        yield Stage(done=0, total=job.stream.steps if job.stream else len(plan), text=f"network{which}")
        before = time.perf_counter()
        seen = yield from embed_steps(
            job,
            number,
            plan,
            run=job.stream or "tiles",
            out={name: values[places[name]] for name, values in outputs.items()},
            instead="tiles" if job.settings.method == "auto" else "columns",
        )
        made = seen.prediction
        methods.append({"name": "stream", **made.stream.to_dict()} if made.stream else {"name": "tiles"})
        plan = made.plan  # smaller tiles for what follows, if memory ran out
        ran.append(made.stream.passes if made.stream else plan)
        seconds["network"] += time.perf_counter() - before
        yield Stage(done=0, total=0, text=f"instances{which}")
        before = time.perf_counter()
        labels[position] = settle(job, (yield from cluster_steps(job, seen))[1])
        seconds["labels"] += time.perf_counter() - before
    plan = max(ran, key=len)  # of all that ran, the one with the most seams
    record = record_of(job, plan)
    record["image"]["pixels"] = pixel_digest(inputs.frames)
    record["method"] = methods[0] if all(one == methods[0] for one in methods) else methods
    record["instances"] = [int(labels[tuple(frame.index.values())].max()) for frame in inputs.frames]
    record["intensity"]["warnings"] += few_objects(record["instances"], plan.result_shape[-2:])
    record["likeness"] = compare_result(job, labels, outputs.get("foreground"), embedding=outputs.get("embedding")).to_dict()
    seconds["all"] = time.perf_counter() - started  # without writing, which comes after the record
    record["seconds"] = {name: round(value, 3) for name, value in seconds.items()}
    result = _segmentation(job, plan, record, labels=labels, outputs=outputs)
    if job.out is not None:
        yield Stage(done=0, total=0, text="writing")
        check_same(job.out, found)
        result.save(job.out, overwrite=overwrite)
    return result


def _segmentation(job: Job, plan: TilePlan, record: dict[str, Any], **parts: Any) -> Segmentation:
    scale, units = job.spacing()
    path = None if job.out is None else Path(job.out)
    return Segmentation(
        path=path,
        **{"outputs": {}, **parts},
        plan=plan,
        record=record,
        axes=job.axes,
        scale=scale,
        units=units,
        image=job.opened.image,
        described=job.opened.model.outputs,
    )
