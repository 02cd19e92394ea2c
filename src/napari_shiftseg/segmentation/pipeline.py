"""The pipeline of every run: embed a window, cluster what it sees, settle the labels.

Whole frames, previews, estimates, lazy embeddings and blocks choose their windows and where the results go, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from napari_shiftseg.events import Event
from napari_shiftseg.geometry import StreamPlan, TilePlan, Window
from napari_shiftseg.instances import Fragments, Pieces, fragments_of, labels_of, piece_steps
from napari_shiftseg.machine import cores
from napari_shiftseg.network import ConstantTiles, Prediction, predict_steps
from napari_shiftseg.segmentation.constants import MOST_THREADS
from napari_shiftseg.segmentation.intensity import with_data
from napari_shiftseg.segmentation.job import Job


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What the network says of a window, by name: (count, *window) of a vector, (*window) of a single value.

    Pixels without data are background: where there are some, there is a foreground, whatever the network gives.
    """

    outputs: Mapping[str, Any]
    prediction: Prediction

    @property
    def embedding(self) -> Any:
        """What is clustered, (E, *window)."""
        return self.outputs["embedding"]

    @property
    def foreground(self) -> npt.NDArray[np.float32] | None:
        """(*window), or None where all pixels can belong to an instance."""
        return self.outputs.get("foreground")

    def cropped(self, window: Window) -> Seen:
        """The same of a part of the window."""
        return self.changed(lambda values: values[(..., *window)])

    def changed(self, change: Callable[[Any], Any]) -> Seen:
        """The same with each output changed."""
        return replace(self, outputs={name: change(values) for name, values in self.outputs.items()})


def predict_part(
    job: Job,
    frame: int,
    part: TilePlan,
    *,
    run: Literal["tiles"] | StreamPlan = "tiles",
    pixels: Any = None,
    out: Any = None,
    known: ConstantTiles | None = None,
    instead: Literal["columns", "tiles"] | None = None,
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
    out, known, instead
        As in `predict_steps`.
    """
    return predict_steps(
        job.opened.model,
        job.opened.frames[frame].view if pixels is None else pixels,
        part,
        device=job.device,
        out=out,
        dtype=job.dtype,
        limits=job.limits(frame),
        deterministic=job.fixed,
        known=known,
        method=run,
        instead=instead,
    )


def embed_steps(job: Job, frame: int, part: TilePlan, *, pixels: Any = None, **how: Any) -> Generator[Event, None, Seen]:
    """As `predict_part`, returning what it `Seen`."""
    prediction = yield from predict_part(job, frame, part, pixels=pixels, **how)
    image = job.opened.frames[frame].view if pixels is None else pixels
    plan = prediction.plan
    foreground = with_data(prediction.foreground, image, job.limits(frame), corner=plan.origin, shape=plan.result_shape)
    masked = {} if foreground is None else {"foreground": foreground}
    return Seen(outputs={**prediction.outputs, **masked}, prediction=prediction)


def cluster_steps(
    job: Job,
    seen: Seen,
    *,
    inner: Window | None = None,
    origin: Sequence[int] | None = None,
    image_shape: Sequence[int] | None = None,
    threads: int | None = None,
) -> Generator[Event, None, tuple[Pieces, Fragments]]:
    """Cluster the inner part of what was seen; all of it by default.

    Parameters
    ----------
    inner : tuple of slice, optional
        The core in what was seen.
    origin, image_shape : sequence of int, optional
        Image pixel of the first one that was seen, and shape of the image.
    threads : int, optional
        Windows that are clustered side by side.
    """
    embedding, foreground = seen.embedding, seen.foreground
    found = yield from piece_steps(
        embedding,
        foreground,
        job.clustering,
        inner=inner,
        origin=origin,
        threads=min(MOST_THREADS, cores()) if threads is None else threads,
        device=labels_device(job),
    )
    if inner is None:
        return found, fragments_of(found, foreground, job.clustering)
    own = None if foreground is None else foreground[inner]
    corner = None if origin is None else [first + part.start for first, part in zip(origin, inner, strict=True)]
    return found, fragments_of(found, own, job.clustering, corner=corner, image_shape=image_shape)


def settle(job: Job, fragments: Fragments) -> npt.NDArray[np.uint32]:
    """Labels of a window that holds all that its objects touch, such as a whole frame."""
    return labels_of(fragments, job.clustering)


def labels_device(job: Job) -> torch.device:
    """Where windows are clustered: a CUDA device itself, unless the bits must not vary; else the processor."""
    # Apple's GPUs have no double precision
    on_gpu = job.device.kind == "cuda" and not job.settings.deterministic
    return job.device.torch_device if on_gpu else torch.device("cpu")
