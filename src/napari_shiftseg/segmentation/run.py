"""`segment`: image -> tile plan -> embedding -> instances, frame by frame, with a record of what happened."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.arguments import told
from napari_shiftseg.errors import ImageError, ResultError
from napari_shiftseg.events import Event, Stage, drain
from napari_shiftseg.files import Found, Stamp, check_room, check_same, check_targets, files_of, stamp_of
from napari_shiftseg.geometry import BlockGrid, Output, TilePlan, value_count
from napari_shiftseg.io import Image, StoredResult, check_store, save_result, work_path
from napari_shiftseg.network import Model, Prediction
from napari_shiftseg.segmentation.decision import chunk_budget, decide, pixel_digest, sum_of
from napari_shiftseg.segmentation.job import Job, kept_outputs, record_of, translation_of
from napari_shiftseg.segmentation.large import large_steps
from napari_shiftseg.segmentation.likeness import look
from napari_shiftseg.segmentation.measuring import measure_steps
from napari_shiftseg.segmentation.pipeline import block_steps, cluster_steps, counted, finished, gave_way, settle, spent
from napari_shiftseg.segmentation.settings import SegmentSettings
from napari_shiftseg.views import in_memory


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
    _stamp: Stamp | None = None  # of the image's files when it was segmented

    @property
    def embedding(self) -> npt.NDArray[np.float32] | None:
        """(E, *labels.shape) float32, or None."""
        return self.outputs.get("embedding")

    @property
    def foreground(self) -> npt.NDArray[np.float32] | None:
        """(*labels.shape) float32 probability, or None."""
        return self.outputs.get("foreground")

    def save(self, path: str | Path, *, overwrite: bool = False, copy_image: bool = True) -> Path:
        """Write the result as an OME-Zarr store (see `io.save_result`).

        ImageError if the image was to be copied and is another one now.
        """
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
            last=partial(_check_written, self.image, self._stamp) if copy_image else None,
        )


@told
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
    if not isinstance(out, str | PathLike | None):
        raise ResultError(f"the place of the result is a {type(out).__name__}; give the path of a store.")
    unfinished = out is not None and work_path(out).exists()
    if out is not None and Path(out).exists() and not overwrite and not unfinished:
        raise ResultError(f"{out} is there already; choose another name or remove it.")
    if out is not None and not unfinished:
        check_store(out, overwrite=True)
    size = None
    if isinstance(settings, SegmentSettings) and settings.diameter == "auto":
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
    seconds = {"started": time.perf_counter()}
    found = _check_place(job)
    job = look(job, likeness=False)
    stamp = job.opened.stamp or stamp_of(job.opened.image.data)
    if job.layout is not None:
        stored, plan = yield from large_steps(job, seconds, overwrite=overwrite)
        return _segmentation(job, plan, stored.record, labels=stored.labels, stored=stored)
    if job.opened.reader is not None:
        job.opened.reader.budget = chunk_budget(job.settings)
    sink, now, shape = Arrays.of(job), job, job.plan.result_shape
    whole = BlockGrid(shape=shape, edge=shape, halo=0)[0]
    ran: list[Prediction] = []
    gaps: list[tuple[int, list[int], bool]] = []
    patches, values = pixel_digest(job.opened.frames), _values_digest(job.opened.image)
    for frame in range(job.frames):
        which = f" of frame {frame + 1}/{job.frames}" if job.frames > 1 else ""
        yield Stage(done=0, total=job.stream.steps if job.stream else len(now.plan), text=f"network{which}")
        with spent(seconds, "network"):
            seen = yield from block_steps(now, frame, whole, out=sink.filled(frame))
        yield Stage(done=0, total=0, text=f"instances{which}")
        with spent(seconds, "labels"):
            sink.labels[sink.places[frame]] = settle(job, (yield from cluster_steps(job, seen, whole))[1])
        ran.append(replace(seen.prediction, outputs={}))  # how it ran, not what came of it
        gaps.append(seen.gaps_of(frame))
        now = replace(now, plan=seen.prediction.plan)  # smaller tiles for what follows, if memory ran out
    # of all that ran, the plan with the most seams
    plan = max((made.stream.passes if made.stream else made.plan for made in ran), key=len)
    job = counted(job, gaps)
    record = record_of(job, plan) | gave_way(job.stream or job.plan, ran[-1])
    known = stamp is not None or in_memory(job.opened.image.data)  # else they would be computed again
    record["image"] |= {"pixels": patches, "sum": sum_of(job.opened.frames) if known else None}
    methods = [{"name": "stream", **made.stream.to_dict()} if made.stream else {"name": "tiles"} for made in ran]
    record["method"] = methods[0] if all(one == methods[0] for one in methods) else methods
    record["instances"] = [int(sink.labels[at].max()) for at in sink.places]
    record = finished(job, record, sink.labels, outputs=sink.outputs, seconds=seconds)
    _check_written(job.opened.image, stamp)
    if pixel_digest(job.opened.frames) != patches or _values_digest(job.opened.image) != values:
        raise _two_images(job.opened.image)
    result = _segmentation(job, plan, record, labels=sink.labels, outputs=sink.outputs, _stamp=stamp)
    if job.out is not None:
        yield Stage(done=0, total=0, text="writing")
        check_same(job.out, found)
        result.save(job.out, overwrite=overwrite)
    return result


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrays:
    """The sink of a run in memory, of which a frame is one block, so that there is nothing to join."""

    labels: npt.NDArray[np.uint32]
    outputs: dict[str, npt.NDArray[np.float32]]  # those that are kept
    places: Sequence[tuple[int, ...]]  # of each frame in the labels

    @classmethod
    def of(cls, job: Job) -> Arrays:
        """Empty ones."""
        shape, kept = (*job.lengths, *job.plan.result_shape), kept_outputs(job.settings, job.opened.model.outputs, large=False)
        return cls(
            labels=np.zeros(shape, np.uint32),
            outputs={name: np.empty(output.shape(shape), np.float32) for name, output in kept.items()},
            places=[tuple(frame.index.values()) for frame in job.opened.frames],
        )

    def filled(self, frame: int) -> dict[str, npt.NDArray[np.float32]]:
        """What the network fills of a frame."""
        at: Any = self.places[frame]
        vector: Any = (slice(None), *at)
        return {name: values[vector if values.ndim > self.labels.ndim else at] for name, values in self.outputs.items()}


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


def _check_written(image: Image, stamp: Stamp | None) -> None:
    """Refuse an image whose files were written since. ImageError."""
    now = stamp and stamp_of(image.data)
    if now and stamp and now.written != stamp.written:
        if not all(place.exists() for place in files_of(image.data) or ()):
            raise ImageError(f"{image.source} is gone since its segmentation began; give the image back and run again.")
        raise _two_images(image)


def _values_digest(image: Image) -> str:
    """Of all values of an array in memory, which its owner may edit meanwhile; "" for files, which have stamps."""
    if not isinstance(image.data, np.ndarray):
        return ""
    found = hashlib.blake2b(digest_size=16)
    for part in image.data:
        found.update(np.ascontiguousarray(part).data)
    return found.hexdigest()


def _two_images(image: Image) -> ImageError:
    return ImageError(
        f"{image.source} was changed after its segmentation began, so that the result would be of two images; run again."
    )


def _check_place(job: Job) -> Found:
    """Refuse a place that would cost the image, that cannot be written or that is too small; else what is there now.

    ResultError.
    """
    if job.out is None:
        return None
    source = job.image.source
    found = check_targets(stores=[job.out], inputs=[source] if Path(source).exists() and source != "memory" else ())
    if job.layout is None:  # a run out of core needs room for its fragments too, unless it goes on
        check_room(job.out, _written_bytes(job))
    return found[Path(job.out)]


def _written_bytes(job: Job) -> int:
    """Most that the result of a run in memory takes on a disk, without the coarse levels of its pyramids."""
    model, image = job.opened.model, job.opened.image
    channels = value_count(kept_outputs(job.settings, model.outputs, large=False))
    pixels = prod((*job.lengths, *job.plan.result_shape))
    return int(4 * pixels * (1 + channels) + prod(image.data.shape) * np.dtype(image.data.dtype).itemsize)
