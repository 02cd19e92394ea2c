"""The pipeline of every run: embed a window, cluster what it sees, settle the labels.

Previews, estimates and lazy embeddings choose their windows; a run takes blocks, in memory one that is the whole frame, and has
a sink for what is found there: arrays in memory (`run`), pyramids on a disk (`blockwise`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from napari_shiftseg.events import Event
from napari_shiftseg.geometry import Block, StreamPlan, TilePlan, Window
from napari_shiftseg.instances import Fragments, Pieces, fragments_of, labels_of, piece_steps, said_by
from napari_shiftseg.machine import cores
from napari_shiftseg.network import Prediction, predict_steps
from napari_shiftseg.segmentation.constants import MOST_THREADS
from napari_shiftseg.segmentation.intensity import Gaps, few_objects, with_data
from napari_shiftseg.segmentation.job import Job
from napari_shiftseg.segmentation.likeness import compare_result

Passes: TypeAlias = Literal["tiles"] | StreamPlan


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What the network says of a window, by name: (count, *window) of a vector, (*window) of a single value.

    Pixels without data are background: where there are some, there is a foreground, whatever the network gives.
    """

    outputs: Mapping[str, Any]

    @property
    def embedding(self) -> Any:
        """What is clustered, (E, *window)."""
        return self.outputs["embedding"]

    @property
    def foreground(self) -> npt.NDArray[np.float32] | None:
        """(*window), or None where all pixels can belong to an instance."""
        return self.outputs.get("foreground")

    def cropped(self, window: Window) -> Self:
        """The same of a part of the window."""
        return self.changed(lambda values: values[(..., *window)])

    def changed(self, change: Callable[[Any], Any]) -> Self:
        """The same with each output changed."""
        return replace(self, outputs={name: change(values) for name, values in self.outputs.items()})


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedded(Seen):
    """What a run of the network just said, and how it ran."""

    prediction: Prediction
    planned: TilePlan | StreamPlan  # what was to run
    gaps: Gaps | None = None  # of the block's own pixels, what holds no data

    def gaps_of(self, frame: int) -> tuple[int, list[int], bool]:
        """Of that frame, how many values per channel are no data, and whether any is infinite; for `counted`."""
        return (frame, self.gaps.counts.tolist(), self.gaps.infinite) if self.gaps is not None else (frame, [], False)


def predict_part(
    job: Job, frame: int, part: TilePlan, *, run: Passes = "tiles", pixels: Any = None, **how: Any
) -> Generator[Event, None, Prediction]:
    """Run the network over a part of a frame, as the job says.

    Parameters
    ----------
    job : Job
        Opened and looked at.
    part : TilePlan
        Tiles of the part.
    run : "tiles" or StreamPlan
        Tile by tile, or the columns and strips over the part.
    pixels : array-like, optional
        (C, *frame), which may hold what the part needs alone; the frame itself by default.
    how
        `out`, `known` and `instead`, as in `predict_steps`.
    """
    image = job.opened.frames[frame].view if pixels is None else pixels
    how |= {"device": job.device, "dtype": job.dtype, "limits": job.limits(frame), "deterministic": job.fixed, "method": run}
    return predict_steps(job.opened.model, image, part, **how)


def embed_steps(
    job: Job,
    frame: int,
    part: TilePlan,
    *,
    run: Passes = "tiles",
    pixels: Any = None,
    own: Window | None = None,
    **how: Any,
) -> Generator[Event, None, Embedded]:
    """As `predict_part`, returning what was `Embedded`; `own`: pixels of the image in which those without data are counted."""
    prediction = yield from predict_part(job, frame, part, run=run, pixels=pixels, **how)
    image = job.opened.frames[frame].view if pixels is None else pixels
    plan = prediction.plan
    gaps = None if own is None else Gaps(part=own, counts=np.zeros(image.shape[0], np.int64))
    foreground = with_data(
        prediction.foreground, image, job.limits(frame), corner=plan.origin, shape=plan.result_shape, gaps=gaps
    )
    masked = {} if foreground is None else {"foreground": foreground}
    planned = part if run == "tiles" else run
    return Embedded(outputs={**prediction.outputs, **masked}, prediction=prediction, planned=planned, gaps=gaps)


def block_steps(job: Job, frame: int, block: Block, **how: Any) -> Generator[Event, None, Embedded]:
    """As `embed_steps`, of what a block of the job sees, by the passes that the job has for it."""
    layout = job.layout
    run: Passes
    if layout is None:
        # whole frames have no neighbours to keep in step with
        part, run = job.plan, job.stream or "tiles"
        how["instead"] = "tiles" if job.settings.method == "auto" else "columns"
    else:
        part, run = layout.part(block), layout.run(block)
    own = tuple(slice(s.start + zero, s.stop + zero) for s, zero in zip(block.core, job.plan.origin, strict=True))
    seen = yield from embed_steps(job, frame, part, run=run, own=own, **how)
    first = [at - zero for at, zero in zip(part.origin, job.plan.origin, strict=True)]
    return seen.cropped(tuple(slice(s.start - at, s.stop - at) for s, at in zip(block.seen, first, strict=True)))


def cluster_steps(
    job: Job, seen: Seen, block: Block | None = None, *, origin: Sequence[int] | None = None, threads: int | None = None
) -> Generator[Event, None, tuple[Pieces, Fragments]]:
    """Cluster the core of a block, of which all was seen that it sees; by default all that was seen.

    Parameters
    ----------
    origin : sequence of int, optional
        Without a block, image pixel of the first one that was seen.
    threads : int, optional
        Windows that are clustered side by side.
    """
    found = yield from piece_steps(
        seen.embedding,
        seen.foreground,
        job.clustering,
        **said_by(seen.outputs),
        inner=None if block is None else block.inner,
        origin=origin if block is None else block.origin,
        threads=min(MOST_THREADS, cores()) if threads is None else threads,
        device=labels_device(job),
    )
    if block is None:
        return found, fragments_of(found, seen.foreground, job.clustering)
    own, corner = seen.cropped(block.inner).foreground, [part.start for part in block.core]
    return found, fragments_of(found, own, job.clustering, corner=corner, image_shape=job.plan.result_shape)


def settle(job: Job, fragments: Fragments) -> npt.NDArray[np.uint32]:
    """Labels of a window that holds all that its objects touch, such as a whole frame."""
    return labels_of(fragments, job.clustering)


def labels_device(job: Job) -> torch.device:
    """Where windows are clustered: a CUDA device itself, unless the bits must not vary; else the processor."""
    # Apple's GPUs have no double precision
    on_gpu = job.device.kind == "cuda" and not job.settings.deterministic
    return job.device.torch_device if on_gpu else torch.device("cpu")


@contextmanager
def spent(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the time that a part of a run takes to what it has taken so far."""
    before = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - before


def gave_way(planned: TilePlan | StreamPlan, made: Prediction) -> dict[str, Any]:
    """What was to run and what ran instead since memory ran out, for the record; {} where that is the same."""

    def told(plan: TilePlan | StreamPlan) -> dict[str, Any]:
        return {"tile": list(plan.write)} if isinstance(plan, TilePlan) else {"strip": plan.strip, "width": list(plan.width)}

    before, after = told(planned), told(made.stream or made.plan)
    return {} if before == after else {"memory_ran_out": {"before": before, "after": after}}


def counted(job: Job, found: Sequence[tuple[int, Sequence[int], bool]]) -> Job:
    """The job that says how many of all pixels hold no data, as the blocks of a run have `found` it.

    `found`: for each block its frame, its values without data per channel, and whether any value is infinite.
    """
    image, limits = job.opened.frames[0].view, job.limits(0)
    if job.intensity is None or (np.dtype(image.dtype).kind != "f" and limits.no_data is None):
        return job
    counts = np.zeros((job.frames, image.shape[0]), np.int64)
    for frame, values, _ in found:
        counts[frame] += np.asarray(values, np.int64)
    infinite = any(endless for _, _, endless in found)
    return replace(job, intensity=job.intensity.counted(counts, prod(job.plan.result_shape), infinite=infinite))


def finished(
    job: Job,
    record: dict[str, Any],
    labels: Any,
    *,
    outputs: Mapping[str, Any],
    seconds: dict[str, float],
    compare: bool = True,
) -> dict[str, Any]:
    """The record of a run, which tells how many "instances" each frame has, with what follows from the labels.

    `compare`: whether to compare what was found with what the model knows; else nothing is said of that.
    """
    record["intensity"]["warnings"] += few_objects(record["instances"], job.plan.result_shape[-2:])
    record.pop("likeness", None)
    if compare:
        found = compare_result(job, labels, outputs.get("foreground"), embedding=outputs.get("embedding"))
        record["likeness"] = found.to_dict()
    seconds["all"] = time.perf_counter() - seconds.pop("started")  # without writing, which comes after the record
    return record | {"seconds": {name: round(value, 3) for name, value in seconds.items()}}
