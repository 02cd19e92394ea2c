"""`view_steps`: labels of a part of an image, as the whole run would give them."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.segmentation import relabel_sequential

from napari_shiftseg.events import Event, Stage
from napari_shiftseg.geometry import TilePlan
from napari_shiftseg.segmentation.job import Job, record_of
from napari_shiftseg.segmentation.likeness import look
from napari_shiftseg.segmentation.pipeline import cluster_steps, embed_steps, settle


@dataclass(frozen=True, kw_only=True, eq=False)
class Preview:
    """Labels of a part of an image."""

    labels: npt.NDArray[np.uint32]  # uint32, along `axes`; one pixel long on axes that are looped over
    axes: str
    origin: tuple[int, ...]  # image pixel of the first label, one per axis
    plan: TilePlan  # the tiles that ran
    record: dict[str, Any]  # what happened, JSON values


def view_steps(job: Job, window: Mapping[str, slice]) -> Generator[Event, None, Preview]:
    """Segment what is in a window as the whole job would: the same tiles, limits and clustering windows, but few of them.

    ShiftsegError as `segment`.

    Parameters
    ----------
    window : mapping of axis to slice
        Wanted pixels of the image, such as `{"t": slice(3, 4), "y": slice(0, 200), "x": slice(50, 90)}`; an axis that is
        left out is taken whole. Of an axis that is looped over (t, or z with a 2D network), the first position is taken.

    Returns
    -------
    Preview
        Of all clustering windows that the window meets. Instances that stay 4 px inside it are those of the whole run, with
        other numbers.
    """
    job = look(job, likeness=False)
    plan, axes, masked = job.plan, job.axes, "foreground" in job.opened.model.outputs
    looped = [min(max(0, window.get(axis, slice(0, 1)).start), size - 1) for axis, size in zip(axes, job.lengths, strict=False)]
    wanted = dict(zip(axes, looped, strict=False))
    number = next(number for number, frame in enumerate(job.opened.frames) if frame.index == wanted)
    sides = [window.get(axis, slice(0, size)) for axis, size in zip(axes[len(looped) :], plan.result_shape, strict=True)]
    edge, halo = job.clustering.lattice(plan.lattice.ndim)
    spans = [_span(side, size, edge, halo=halo, masked=masked) for side, size in zip(sides, plan.result_shape, strict=True)]
    part = plan.within([span.seen for span in spans])
    yield Stage(done=0, total=len(part), text="network")
    seen = yield from embed_steps(job, number, part)
    yield Stage(done=0, total=0, text="instances")
    # smaller tiles may have run
    part = seen.prediction.plan
    laid = seen.changed(lambda values: _laid_out(values, spans, part.origin))
    fragments = (yield from cluster_steps(job, laid, origin=[span.start for span in spans]))[1]
    labels = settle(job, fragments)
    inner = labels[tuple(slice(span.core.start - span.start, span.core.stop - span.start) for span in spans)]
    numbered = relabel_sequential(inner)[0].astype(np.uint32)
    return Preview(
        labels=numbered[(None,) * len(looped)],
        axes=axes,
        origin=(*looped, *(span.core.start for span in spans)),
        plan=part,
        record=record_of(job, part),
    )


@dataclass(frozen=True)
class _Span:
    """One axis of a preview, result pixels: where the labels start, what they need to be right, where they are right."""

    start: int
    seen: slice
    core: slice


def _span(side: slice, size: int, edge: int, *, halo: int, masked: bool) -> _Span:
    first = min(max(0, side.start), size - 1) // edge * edge
    stop = min(size, -(-max(side.stop, first + 1) // edge) * edge)
    start = max(0, first - edge)  # on the lattice of the clustering windows
    # a mask can leave the rest of that window empty; without one it has to be computed
    return _Span(start, slice(max(0, first - halo) if masked else start, min(size, stop + halo)), slice(first, stop))


def _laid_out(block: Any, spans: Sequence[_Span], origin: Sequence[int]) -> Any:
    """What the spans see of a block (..., *part), in an array from their starts on, 0 elsewhere."""
    laid: Any = np.zeros((*block.shape[: -len(spans)], *(span.seen.stop - span.start for span in spans)), block.dtype)
    into = tuple(slice(span.seen.start - span.start, None) for span in spans)
    seen = tuple(slice(s.seen.start - o, s.seen.stop - o) for s, o in zip(spans, origin, strict=True))
    laid[(..., *into)] = block[(..., *seen)]
    return laid
