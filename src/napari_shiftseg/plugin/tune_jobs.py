"""What the Tune panel computes in a thread: what is left of a run, and labels by other settings, the view first."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Layer

from napari_shiftseg.errors import ResultError
from napari_shiftseg.events import Event, Stage
from napari_shiftseg.plugin.embedding_view import opened_job
from napari_shiftseg.plugin.layers import KEY, in_order, laid_out
from napari_shiftseg.plugin.signature import digest_of
from napari_shiftseg.plugin.subject import Subject

if TYPE_CHECKING:
    from napari_shiftseg.instances import LabelSettings
    from napari_shiftseg.segmentation import Job, Preview, RelabelSettings, Segmentation, Tunable
    from napari_shiftseg.segmentation.preview import InView

_RESULTS: "WeakKeyDictionary[Layer, tuple[str, Segmentation]]" = WeakKeyDictionary()
"""Runs of this session by their labels, as the layers name them, and what they gave: no layer holds the foreground."""


def remember(layer: Layer, result: "Segmentation") -> None:
    """Keep what a run gave as long as its labels are shown."""
    _RESULTS[layer] = layer.metadata[KEY]["run"], result


def pass_on(layer: Layer, other: Layer) -> None:
    """Keep for another layer what is kept for one."""
    if layer in _RESULTS:
        _RESULTS[other] = _RESULTS[layer]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ready:
    """A result that can be tuned."""

    left: "Tunable"  # as the run left it, whatever was changed since
    sizes: np.ndarray  # of the objects that are shown, pixels
    whole: bool  # whether all of it is labelled anew in memory; else the view alone, and the rest on Apply
    job: "Job | None" = None  # with the network, for the view of a result whose embedding was not kept

    @property
    def clustered(self) -> bool:
        """Whether threshold and bandwidth can be tuned; else the smallest size alone."""
        return self.left.embedded or self.job is not None


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """Labels as their layer shows them."""

    data: np.ndarray
    digest: str | None
    before: str | None  # digest of what the layer showed when these were ready
    record: Mapping[str, Any]
    features: Mapping[str, np.ndarray]
    sizes: np.ndarray | None  # of all objects, pixels
    result: "Segmentation | None"  # None for the view alone
    count: int  # objects, in view or in all


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewTuned(Event):
    """The labels of the view are there."""

    shown: "Shown | Preview"


def ready_steps(subject: Subject, layer: Layer, device: str) -> Generator[Event, None, Ready]:
    """What is left of the run of a layer."""
    yield Stage(done=0, total=0, text="looking at the result")
    from napari_shiftseg.segmentation import tunable

    known = layer.metadata[KEY]
    run, result = _RESULTS.get(layer, ("", None))
    result = result if run == known.get("run") and result is not None else known.get("store")
    if result is None:
        raise ResultError("what the run of these labels left is not there any more; segment the image again to tune them.")
    # a processor gives equal bits; the GPU of a run may be another or none here
    on_gpu = known["record"].get("device", {}).get("kind") == "cuda"
    left, whole = tunable(result, device=device if on_gpu else None), isinstance(layer.data, np.ndarray)
    job = opened_job(subject, device) if not left.embedded and not whole else None
    sizes = sizes_of(in_order(layer.data, known["axes"])[0], left) if whole else _table_sizes(left)
    return Ready(left=left, sizes=sizes, whole=whole, job=job)


def _table_sizes(left: "Tunable") -> np.ndarray:
    """Of the objects that the table of a store lists, pixels."""
    table = {} if left.stored is None else left.stored.objects()
    return np.asarray(table.get("area", ()))


def sizes_of(labels: Any, left: "Tunable") -> np.ndarray:
    """Of the objects of all frames, pixels."""
    found = [np.bincount(np.asarray(left.frame(labels, number)[...]).ravel())[1:] for number in range(left.job.frames)]
    sizes = np.concatenate(found)
    return sizes[sizes > 0]


def tune_steps(
    ready: Ready,
    wish: "RelabelSettings",
    layer: Layer,
    *,
    window: Mapping[str, slice],
    now: np.ndarray,
    views: dict[Any, "InView"],
) -> Generator[Event, None, "Shown | None"]:
    """Label the view anew, which is a `ViewTuned`, then the rest; returns that, or None where the view is all.

    Parameters
    ----------
    window : mapping
        What is in view, as of `window_in_view`.
    now : ndarray
        Labels that stand around the view until the rest is there, as the layer holds them.
    views : dict
        What the network says of views that were seen; a new one takes the place of the last.
    """
    from napari_shiftseg.segmentation import relabel_steps

    left = ready.left
    clustering = wish.of(left.job.clustering)
    if not ready.whole:
        yield ViewTuned(done=0, total=0, shown=(yield from _preview_steps(ready, clustering, window, views=views)))
        return None
    if left.embedded and (part := _part(left, window)) is not None:
        yield ViewTuned(done=0, total=0, shown=(yield from _view_steps(left, clustering, layer, view=part, now=now)))
    result = yield from relabel_steps(left, wish, compare=False)
    yield Stage(done=0, total=0, text="drawing")
    sizes, count = sizes_of(result.labels, left), sum(result.record["instances"])
    return _shown(layer, result.labels, result.record, result=result, sizes=sizes, count=count)


def _part(left: "Tunable", window: Mapping[str, slice]) -> "InView | None":
    """The view, unless it is about all there is."""
    from napari_shiftseg.segmentation.preview import spot_of

    spot = spot_of(left.job, window, masked="foreground" in left.outputs)
    pixels = np.prod([part.stop - part.start for part in spot.inner])
    everything = np.prod(left.job.plan.result_shape) * left.job.frames
    return left.view(window) if 2 * pixels < everything else None


def _view_steps(
    left: "Tunable", clustering: "LabelSettings", layer: Layer, *, view: "InView", now: np.ndarray
) -> Generator[Event, None, Shown]:
    """The labels that are there, with those of the view in their midst, under numbers of their own."""
    from napari_shiftseg.segmentation.tunable import view_labels_steps

    labels = yield from view_labels_steps(left, view, clustering)
    everything = np.array(in_order(now, layer.metadata[KEY]["axes"])[0][...]).view(np.uint32)
    window = tuple(slice(at, at + size) for at, size in zip(view.spot.origin, labels.shape, strict=True))
    everything[window] = np.where(labels > 0, labels + everything.max(), 0)
    return _shown(layer, everything, left.record, count=int(labels.max()))


def _preview_steps(
    ready: Ready, clustering: "LabelSettings", window: Mapping[str, slice], *, views: dict[Any, "InView"]
) -> Generator[Event, None, "Preview"]:
    """The view of a result on a disk; what the network says of it is computed once where it was not kept."""
    from napari_shiftseg.segmentation import Preview
    from napari_shiftseg.segmentation.preview import embed_view_steps
    from napari_shiftseg.segmentation.tunable import view_labels_steps

    left = ready.left
    key = tuple((axis, part.start, part.stop) for axis, part in sorted(window.items()))
    if key not in views:
        view = left.view(window) if ready.job is None else (yield from embed_view_steps(ready.job, window))
        views.clear()
        views[key] = view
    view = views[key]
    yield Stage(done=0, total=0, text="instances")
    labels = yield from view_labels_steps(left, view, clustering)
    return Preview(labels=labels, axes=left.job.axes, origin=view.spot.origin, plan=left.plan, record=dict(left.record))


def _shown(
    layer: Layer,
    labels: np.ndarray,
    record: Mapping[str, Any],
    *,
    count: int,
    result: "Segmentation | None" = None,
    sizes: np.ndarray | None = None,
) -> Shown:
    from napari_shiftseg.instances import object_table

    layout = layer.metadata[KEY]["axes"]
    axes = "".join(axis for axis in "tzyx" if axis in layout)
    data = laid_out(labels.view(np.int32), axes, layout)
    table = result is not None and labels.ndim == result.plan.lattice.ndim
    features = object_table(labels, result.plan.seams()) if table else {}
    digest = digest_of(data)
    return Shown(
        data=data,
        digest=digest,
        before=digest_of(layer.data),  # last, so that little time passes until that is replaced
        record=record,
        features=features,
        sizes=sizes,
        result=result,
        count=count,
    )


def apply_steps(ready: Ready, wish: "RelabelSettings", out: Path) -> Generator[Event, None, "Segmentation"]:
    """Write a result with other labels; where its embedding was not kept, the network runs again."""
    from napari_shiftseg.segmentation import relabel_steps, run_steps

    if ready.job is None:
        return (yield from relabel_steps(ready.left, wish, out))
    told = {name: getattr(wish, name) for name in ("threshold", "bandwidth", "min_size")}
    settings = replace(ready.job.settings, **told)
    job = replace(ready.job, clustering=wish.of(ready.job.clustering), settings=settings, out=str(out))
    return (yield from run_steps(job))


def free_store(store: Path) -> Path:
    """A store beside another one that is not there yet."""
    stem = store.name.removesuffix(".zarr").removesuffix(".ome")
    names = (f"{stem}_tuned{f'_{number}' if number > 1 else ''}.ome.zarr" for number in range(1, 10_000))
    return next(store.with_name(name) for name in names if not store.with_name(name).exists())
