"""`segment`: image -> tile plan -> embedding -> instances, frame by frame, with a record of what happened."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import ResultError, SettingsError
from napari_shiftseg.events import Event, Stage, drain
from napari_shiftseg.geometry import METHODS, TilePlan, choose_method
from napari_shiftseg.instances import label_steps
from napari_shiftseg.io import Image, StoredResult, check_store, save_result, work_path
from napari_shiftseg.network import Model, free_memory, predict_steps, stream_wish
from napari_shiftseg.segmentation.intensity import few_objects, with_data
from napari_shiftseg.segmentation.large import large_steps
from napari_shiftseg.segmentation.layout import bytes_in_memory
from napari_shiftseg.segmentation.likeness import compare_result
from napari_shiftseg.segmentation.prepare import (
    Task,
    labels_device,
    loop_axes,
    pixel_digest,
    prepare,
    spacing,
    translation_of,
)
from napari_shiftseg.segmentation.record import record_of
from napari_shiftseg.segmentation.settings import SegmentSettings

# Decoded chunks that are kept, since tiles overlap, bytes.
_CHUNK_BUDGET = 256 << 20

__all__ = ["Segmentation", "out_of_core", "segment", "segment_steps"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmentation:
    """A result, in memory or on disk.

    Attributes
    ----------
    labels : ndarray or zarr.Array
        ([t], [z], y, x) uint32; `axes` names the axes.
    embedding : ndarray or None
        (E, *labels.shape) float32. Of a result on disk, `stored.embedding` is what was written.
    foreground : ndarray or None
        (*labels.shape) float32 probability.
    plan : TilePlan
        Of one frame.
    record : dict
        What happened, JSON values.
    axes, scale, units
        Of the labels.
    image : Image
        That was segmented.
    stored : StoredResult or None
        The store, if the run was out of core.
    """

    labels: Any
    embedding: npt.NDArray[np.float32] | None
    foreground: npt.NDArray[np.float32] | None
    plan: TilePlan
    record: dict[str, Any]
    axes: str
    scale: tuple[float, ...]
    units: tuple[str | None, ...]
    image: Image
    stored: StoredResult | None = None

    def save(self, path: str | Path, *, overwrite: bool = False, copy_image: bool = True) -> Path:
        """Write the result as an OME-Zarr store (see `io.save_result`)."""
        embedding = self.embedding
        if embedding is not None and self.axes.startswith("t"):
            embedding = np.moveaxis(embedding, 0, 1)  # files have time first
        return save_result(
            path,
            labels=self.labels,
            axes=self.axes,
            scale=self.scale,
            units=self.units,
            translation=translation_of(self.image, self.axes),
            record=self.record,
            image=self.image if copy_image else None,
            embedding=embedding,
            foreground=self.foreground,
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
    started = time.perf_counter()
    settings = settings or SegmentSettings()
    if settings.method not in METHODS:
        raise SettingsError(f"method is {settings.method!r}; give {', '.join(map(repr, METHODS))}.")
    unfinished = out is not None and work_path(out).exists()
    if out is not None and Path(out).exists() and not overwrite and not unfinished:
        raise ResultError(f"{out} is there already; choose another name or remove it.")
    if out is not None and not unfinished:
        check_store(out, overwrite=True)
    task = prepare(image, model, settings)
    if out_of_core(task, settings, out):
        if out is None:
            raise _without_place(task, settings)
        return (yield from _out_of_core_steps(task, settings, out, overwrite))
    if task.reader is not None:
        task.reader.budget = _CHUNK_BUDGET
    chosen, picture, frames, plan = task.model, task.image, task.frames, task.plan
    axes, lengths = loop_axes(picture, chosen.lattice.ndim)
    shape = (*lengths, *plan.result_shape)
    labels = np.zeros(shape, np.uint32)
    embedding = np.empty((chosen.embedding.count, *shape), np.float32) if settings.keep_embedding is not False else None
    foreground = np.empty(shape, np.float32) if "foreground" in chosen.outputs else None
    seconds = {"network": 0.0, "labels": 0.0}
    wish: Any = {"method": settings.method, "deterministic": settings.deterministic}
    stream = choose_method(plan, **wish, **stream_wish(task.device, settings.memory))
    methods, ran = [], []
    for number, frame in enumerate(frames):
        position = tuple(frame.index.values())
        part: Any = (slice(None), *position)
        which = f" of frame {number + 1}/{len(frames)}" if len(frames) > 1 else ""
        limits = task.intensity.of(number)
        yield Stage(done=0, total=stream.steps if stream else len(plan), text=f"network{which}")
        before = time.perf_counter()
        prediction = yield from predict_steps(
            chosen,
            frame.view,
            plan,
            device=settings.device,
            out=None if embedding is None else embedding[part],
            dtype=settings.dtype,
            limits=limits,
            memory=settings.memory,
            **wish,
        )
        methods.append({"name": "stream", **prediction.stream.to_dict()} if prediction.stream else {"name": "tiles"})
        plan = prediction.plan  # smaller tiles for what follows, if memory ran out
        ran.append(prediction.stream.passes if prediction.stream else plan)
        seconds["network"] += time.perf_counter() - before
        masked = with_data(prediction.foreground, frame.view, limits, prediction.plan.origin, prediction.plan.result_shape)
        if foreground is not None:
            foreground[position] = masked
        yield Stage(done=0, total=0, text=f"instances{which}")
        before = time.perf_counter()
        labels[position] = yield from label_steps(
            prediction.embedding, masked, task.clustering, device=labels_device(task.device, settings)
        )
        seconds["labels"] += time.perf_counter() - before
    plan = max(ran, key=len)  # of all that ran, the one with the most seams
    record = record_of(task, plan, settings)
    record["image"]["pixels"] = pixel_digest(task.frames)
    record["method"] = methods[0] if all(one == methods[0] for one in methods) else methods
    record["instances"] = [int(labels[tuple(frame.index.values())].max()) for frame in frames]
    record["intensity"]["warnings"] += few_objects(record["instances"], plan.result_shape[-2:])
    record["likeness"] = compare_result(task, labels, foreground, embedding).to_dict()
    seconds["all"] = time.perf_counter() - started  # without writing, which comes after the record
    record["seconds"] = {name: round(value, 3) for name, value in seconds.items()}
    scale, units = spacing(picture, axes)
    result = Segmentation(
        labels=labels,
        embedding=embedding,
        foreground=foreground,
        plan=plan,
        record=record,
        axes=axes,
        scale=scale,
        units=units,
        image=picture,
    )
    if out is not None:
        yield Stage(done=0, total=0, text="writing")
        result.save(out, overwrite=overwrite)
    return result


def out_of_core(task: Task, settings: SegmentSettings, out: str | Path | None) -> bool:
    """Whether a run goes from disk to disk: on request, because it began so, or because its result would not fit in memory.

    A run that has to and has no place to write is refused by `segment`.
    """
    if settings.out_of_core is not None:
        return settings.out_of_core
    began = out is not None and work_path(out).exists()
    free = free_memory()
    too_large = bool(free) and bytes_in_memory(task, embedding=settings.keep_embedding is not False) > 0.6 * free
    return began or too_large or bool(settings.workers) or settings.cluster is not None


def _without_place(task: Task, settings: SegmentSettings) -> SettingsError:
    needed, free = bytes_in_memory(task, embedding=settings.keep_embedding is not False), free_memory()
    asked = settings.out_of_core or settings.workers or settings.cluster
    why = "was asked for" if asked else f"is needed (the result takes {needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are free)"
    return SettingsError(f"a run out of core {why} and has no place to write; name a store (out, or --out).")


def _out_of_core_steps(
    task: Task, settings: SegmentSettings, out: str | Path, overwrite: bool
) -> Generator[Event, None, Segmentation]:
    stored, plan = yield from large_steps(task, settings, out, overwrite=overwrite)
    return Segmentation(
        labels=stored.labels,
        embedding=None,
        foreground=None,
        plan=plan,
        record=stored.record,
        axes=stored.axes,
        scale=stored.scale,
        units=stored.units,
        image=task.image,
        stored=stored,
    )
