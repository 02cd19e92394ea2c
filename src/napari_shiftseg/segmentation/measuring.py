"""`measure_steps`: how large the objects of an image are, from a coarse pass of the network at several scales."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.analysis.traits import FoundWindow, found_traits, object_diameters, sample_windows
from napari_shiftseg.events import Event, Stage
from napari_shiftseg.geometry import Scaling, plan_tiles
from napari_shiftseg.instances.label import label_steps
from napari_shiftseg.network import Limits, Model, predict_steps
from napari_shiftseg.network.scaled import scaled_pixels
from napari_shiftseg.segmentation.constants import LEAST_MEASURED, MEASURED_EDGE, MEASURED_PLACES, TRIED, UNUSUAL
from napari_shiftseg.segmentation.job import Job
from napari_shiftseg.segmentation.likeness import codes_of, look
from napari_shiftseg.segmentation.settings import SegmentSettings
from napari_shiftseg.segmentation.sizing import ObjectSize, sized, typical_diameter

Corner = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What the network found at one scale."""

    factor: tuple[int, int]
    objects: int
    # pixels of the image; and how well the votes of the objects agree, less what an unusual size costs
    diameter: float
    score: float


def measure_steps(
    image: Any, model: Model | str | Path, settings: SegmentSettings | None = None
) -> Generator[Event, None, ObjectSize]:
    """Measure the objects of an image: yields events, returns their size and the scale that it asks for.

    The network runs over three places with most contrast at scales from 1/4 to 4. Of these scales the one is taken at which
    the pixels of an object agree best on where it is, and at which the objects are about as large as those that the model
    knows; the median diameter of what was found there is that of the objects. Where the places lie follows from the shape and
    the pixels of the image alone, so that the measure is the same whatever the tiles of the run will be.

    Parameters
    ----------
    image, model, settings
        As in `segment`; how large the tiles are and where the result goes makes no difference.

    Returns
    -------
    ObjectSize
        With scale 1 and no diameter where no object was found.
    """
    from napari_shiftseg.segmentation.decision import decide

    plain = replace(settings or SegmentSettings(), diameter=None, write=None, method="auto", memory=None, out_of_core=False)
    job = decide(image, model, replace(plain, workers=0, cluster=None, allow_noncompliant=True))
    job = look(job, likeness=False)
    chosen = job.opened.model
    typical = typical_diameter(chosen)
    places = _places(job)
    best: Trial | None = None
    yield Stage(done=0, total=len(TRIED), text="size of the objects")
    for number, factor in enumerate(TRIED):
        trial = yield from _tried(job, factor, places, typical=typical)
        if trial is not None and (best is None or trial.score > best.score):
            best = trial
        yield Event(done=number + 1, total=len(TRIED))
    if best is None:
        return ObjectSize(how="measured", factors=((1, 1),) * chosen.lattice.ndim)
    return sized(round(best.diameter, 1), chosen, how="measured")


def _places(job: Job) -> list[Corner]:
    """Middles of the windows with most contrast of the frame in the middle, in the order in which they lie."""
    view = job.opened.frames[job.frames // 2].view
    limits = job.limits(job.frames // 2)
    windows = sample_windows(view.shape[1:])
    contrasts = [float(limits.apply(np.asarray(view[(slice(None), *part)])).std()) for part in windows]
    chosen = sorted(np.argsort(contrasts, kind="stable")[::-1][:MEASURED_PLACES].tolist())
    return [tuple((part.start + part.stop) // 2 for part in windows[number]) for number in chosen]


def _tried(job: Job, factor: tuple[int, int], places: list[Corner], *, typical: float) -> Generator[Event, None, Trial | None]:
    """What the network finds at a scale; None where that is nothing, or next to nothing of the image would be seen."""
    ndim, view = job.plan.lattice.ndim, job.opened.frames[job.frames // 2].view
    scale = factor[0] / factor[1]
    edge = int(MEASURED_EDGE[ndim] / scale)
    corners = [
        tuple(_window(n, at, edge=edge, per=factor[1]) for n, at in zip(view.shape[1:], place, strict=True)) for place in places
    ]
    parts = list(dict.fromkeys(corners))
    if min(stop - start for part in parts for start, stop in part) * scale < LEAST_MEASURED[ndim]:
        return None
    windows = []
    for part in parts:
        windows.append((yield from _found(job, factor, tuple(slice(*ends) for ends in part))))
    sizes = [np.unique(window.labels[window.labels > 0], return_counts=True)[1] for window in windows]
    diameters = object_diameters(np.concatenate(sizes), ndim)
    agreement = found_traits(windows, job.clustering.bandwidth).get("agreement")
    if not diameters.size or agreement is None:
        return None
    middle = float(np.median(diameters))
    return Trial(
        factor=factor,
        objects=int(diameters.size),
        diameter=middle / scale,
        score=agreement - UNUSUAL * abs(log(middle / typical)),
    )


def _window(size: int, middle: int, *, edge: int, per: int) -> tuple[int, int]:
    """Ends of a window inside the image that begins with a pixel of the network."""
    start = max(0, min(middle - edge // 2, size - edge)) // per * per
    return start, min(size, start + edge)


def _found(job: Job, factor: tuple[int, int], part: tuple[slice, ...]) -> Generator[Event, None, FoundWindow]:
    """What the network finds in a window of the frame in the middle, in its own pixels."""
    number = job.frames // 2
    model, view = job.opened.model, job.opened.frames[number].view
    scaling = Scaling(inner=model.lattice, factors=(factor,) * model.lattice.ndim)
    pixels = scaled_pixels(job.limits(number).apply(np.asarray(view[(slice(None), *part)])), scaling)
    channels = len(pixels)
    plan = plan_tiles(model.lattice, pixels.shape[1:], allow_noncompliant=True, trained=model.record)
    made = yield from predict_steps(
        model, pixels, plan, device=job.device, dtype=job.dtype, deterministic=job.fixed, method="tiles",
        limits=Limits(low=(0.0,) * channels, high=(1.0,) * channels, clip=None),  # they are normalised already
    )  # fmt: skip
    votes = {"seeds": made.outputs["seed"], "bandwidths": made.outputs["bandwidth"]} if job.clustering.seeds else {}
    labels: npt.NDArray[np.uint32] = yield from label_steps(made.embedding, made.foreground, job.clustering, **votes)
    codes = codes_of(made.embedding, model.embedding)
    return FoundWindow(pixels=pixels.mean(axis=0), labels=labels, foreground=made.foreground, codes=codes)
