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
from napari_shiftseg.segmentation.pipeline import Seen, cluster_steps, embed_steps, settle


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
    view = yield from embed_view_steps(job, window)
    labels = yield from label_view_steps(job, view)
    return Preview(labels=labels, axes=job.axes, origin=view.spot.origin, plan=view.plan, record=record_of(job, view.plan))


def embed_view_steps(job: Job, window: Mapping[str, slice]) -> Generator[Event, None, InView]:
    """The first half of `view_steps`, which runs the network; what it returns can be clustered again and again."""
    job = look(job, likeness=False)
    spot = spot_of(job, window, masked="foreground" in job.opened.model.outputs)
    part = job.plan.within(spot.seen)
    yield Stage(done=0, total=len(part), text="network")
    seen = yield from embed_steps(job, spot.frame, part)
    part = seen.prediction.plan  # smaller tiles may have run
    return InView(spot=spot, seen=spot.laid_out(seen, part.origin), plan=part)


def label_view_steps(job: Job, view: InView) -> Generator[Event, None, npt.NDArray[np.uint32]]:
    """The second half: labels of a view, along the axes of the job, by its clustering."""
    yield Stage(done=0, total=0, text="instances")
    fragments = (yield from cluster_steps(job, view.seen, origin=[span.start for span in view.spot.spans]))[1]
    inner = settle(job, fragments)[view.spot.inner]
    numbered: npt.NDArray[np.uint32] = relabel_sequential(inner)[0].astype(np.uint32)
    return numbered[(None,) * len(view.spot.looped)]


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A part of a frame that holds what some clustering windows need."""

    frame: int
    looped: tuple[int, ...]  # its position on the axes that are looped over
    spans: tuple[_Span, ...]  # one per axis of the frame

    @property
    def origin(self) -> tuple[int, ...]:
        """Image pixel of the first label that is right, one per axis of the labels."""
        return (*self.looped, *(span.core.start for span in self.spans))

    @property
    def seen(self) -> tuple[slice, ...]:
        """What has to be seen, pixels of the frame."""
        return tuple(span.seen for span in self.spans)

    @property
    def inner(self) -> tuple[slice, ...]:
        """Where the labels are right, in the array that is clustered."""
        return tuple(slice(span.core.start - span.start, span.core.stop - span.start) for span in self.spans)

    def laid_out(self, seen: Seen, origin: Sequence[int]) -> Seen:
        """What the spot sees of something larger, whose first pixel is that of `origin`, as it is clustered."""
        return Seen(outputs={name: _laid_out(values, self.spans, origin) for name, values in seen.outputs.items()})


@dataclass(frozen=True, kw_only=True, eq=False)
class InView:
    """A spot, and what the network says of it."""

    spot: Spot
    seen: Seen
    plan: TilePlan  # the tiles that ran


def spot_of(job: Job, window: Mapping[str, slice], *, masked: bool) -> Spot:
    """The spot that a window is in; `masked`: whether a foreground says where there is nothing."""
    plan, axes = job.plan, job.axes
    looped = [min(max(0, window.get(axis, slice(0, 1)).start), size - 1) for axis, size in zip(axes, job.lengths, strict=False)]
    sides = [window.get(axis, slice(0, size)) for axis, size in zip(axes[len(looped) :], plan.result_shape, strict=True)]
    edge, halo = job.clustering.lattice(plan.lattice.ndim)
    spans = [_span(side, size, edge, halo=halo, masked=masked) for side, size in zip(sides, plan.result_shape, strict=True)]
    frame = int(np.ravel_multi_index(looped, job.lengths)) if looped else 0
    return Spot(frame=frame, looped=tuple(looped), spans=tuple(spans))


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
