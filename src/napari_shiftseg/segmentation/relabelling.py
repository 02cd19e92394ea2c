"""`relabel`: other labels from what a run left behind, as a run with these settings would give them; its network rests."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, fields, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.arguments import told
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.events import Event, Stage, drain
from napari_shiftseg.files import check_same, check_targets, unchanged
from napari_shiftseg.geometry import BlockGrid, value_count
from napari_shiftseg.instances import Fragments, LabelSettings, labels_of, mask_of
from napari_shiftseg.instances.pieces import check_embedding
from napari_shiftseg.io import Image, StoredResult, check_store, from_plain
from napari_shiftseg.network import free_memory
from napari_shiftseg.segmentation.constants import PER_PIXEL, RESULT_SHARE
from napari_shiftseg.segmentation.job import versions
from napari_shiftseg.segmentation.pipeline import cluster_steps, finished, settle, spent
from napari_shiftseg.segmentation.run import Segmentation
from napari_shiftseg.segmentation.tunable import Tunable, tunable


@dataclass(frozen=True, kw_only=True)
class RelabelSettings:
    """A wish for other labels of a result; None takes the value that the result was made with.

    Attributes
    ----------
    threshold, bandwidth, min_size : optional
        As in `SegmentSettings`; of a network that says bandwidths itself, `bandwidth` is a factor on these.
    dip, min_density, radius : optional
        Of the mean shift; see `instances.LabelSettings`. A network with seeds takes none of them.
    valley : optional
        Of a network with seeds alone; see `instances.LabelSettings`.

    >>> RelabelSettings(min_size=40).of(LabelSettings(threshold=0.3))
    LabelSettings(bandwidth=0.75, threshold=0.3, min_size=40, coordinates=False, radius=3.0, dip=0.95, min_density=4.0, \
seeds=False, factor=1.0, least_seed=0.5, valley=0.35, window=None, halo=None)
    """

    threshold: float | None = None
    bandwidth: float | None = None
    min_size: int | None = None
    dip: float | None = None
    min_density: float | None = None
    radius: float | None = None
    valley: float | None = None

    def of(self, clustering: LabelSettings) -> LabelSettings:
        """A clustering with what is wished for.

        Raises
        ------
        SettingsError
            If a wish is no number that can work.
        """
        wishes = {known.name: getattr(self, known.name) for known in fields(self)}
        wishes = {name: value for name, value in wishes.items() if value is not None}
        for name, value in wishes.items():
            whole = name == "min_size"
            kinds = int | np.integer if whole else int | float | np.integer | np.floating
            if isinstance(value, bool) or not isinstance(value, kinds) or not value >= 0 or value == float("inf"):
                raise SettingsError(f"{name} is {value!r}; give {'an integer' if whole else 'a number'} of 0 or more.")
        if clustering.seeds and "bandwidth" in wishes:
            wishes["factor"] = wishes.pop("bandwidth")
        return from_plain(LabelSettings, replace(clustering, **wishes), what="the settings")


@told
def relabel(
    result: Segmentation | StoredResult | str | Path,
    settings: RelabelSettings | None = None,
    out: str | Path | None = None,
    *,
    image: Image | None = None,
    device: str | None = None,
    overwrite: bool = False,
    on_event: Callable[[Event], None] | None = None,
    **wishes: Any,
) -> Segmentation:
    """Other labels of a result from its embedding; the network does not run again.

    Parameters
    ----------
    result : Segmentation, StoredResult or path
        In memory or a store, with the outputs of the network. Without them the smallest size alone can be changed: objects
        below it go to one that they touch, or away.
    settings : RelabelSettings, optional
        Further keywords win over it.
    out : path, optional
        OME-Zarr store to write, with all that the result holds. A result that was made out of core is relabelled out of core,
        block by block, where it has a place to go to.
    image : Image, optional
        Of the run, where the result does not hold it and its file has moved.
    device : str, optional
        Where windows are clustered; by default where they were.
    overwrite : bool
        Replace an earlier result at `out`, but never the one that is read.
    on_event : callable, optional
        Called with each `Stage`, `WindowDone` and `BlockDone`.
    wishes
        Fields of `RelabelSettings`.

    Returns
    -------
    Segmentation
        From the embedding, its labels are those of a run with these settings, in bits where the processor clusters. Its record
        is that of the run, where "relabelled" says what was changed.

    Raises
    ------
    SettingsError
        If a wish cannot work, or needs an embedding that was not kept.
    ResultError
        If the result does not say how it was made, or `out` is taken.

    >>> from napari_shiftseg import segment, synthetic
    >>> result = segment(synthetic.disks((120, 120), 40, 10).image, "nuclei")
    >>> tuned = relabel(result, min_size=1000)
    >>> int(result.labels.max()), int(tuned.labels.max()), tuned.record["relabelled"]["changed"]
    (9, 0, {'min_size': [32, 1000]})
    """
    wish = _wished(settings, wishes)
    return drain(relabel_steps(result, wish, out, image=image, device=device, overwrite=overwrite), on_event)


def relabel_steps(
    result: Segmentation | StoredResult | Tunable | str | Path,
    settings: RelabelSettings | None = None,
    out: str | Path | None = None,
    *,
    image: Image | None = None,
    device: str | None = None,
    overwrite: bool = False,
    compare: bool = True,
) -> Generator[Event, None, Segmentation]:
    """Generator form of `relabel`: yields events, returns the `Segmentation`.

    `compare`: whether to say in the record if what was found is like what the model knows, which takes a look at the image.
    """
    seconds = {"started": time.perf_counter()}
    left = result if isinstance(result, Tunable) else tunable(result, image, device=device)
    clustering = (settings or RelabelSettings()).of(left.job.clustering)
    check_embedding(left.job.plan.result_shape, None, clustering)
    changed = changed_of(left.job.clustering, clustering)
    if not left.embedded and set(changed) - {"min_size"}:
        raise SettingsError(
            f"{', '.join(name for name in changed if name != 'min_size')} cannot be changed, since the embedding of the run "
            "was not kept; segment the image with it (Embedding layers; out of core --embedding), or change min_size alone."
        )
    inputs = [] if left.stored is None else [left.stored.path]
    found = None if out is None else check_targets(stores=[out], inputs=inputs)[Path(out)]
    if out is not None:
        check_store(out, overwrite=overwrite)
    if out is not None and left.job.large and left.stored is not None and left.embedded:
        from napari_shiftseg.segmentation.relabel_blocks import relabel_large_steps

        return (yield from relabel_large_steps(left, clustering, out, seconds=seconds, overwrite=overwrite, compare=compare))
    _check_memory(left)
    with unchanged("the result", *([] if left.embedded else [left.labels]), *left.outputs.values()):
        labels = yield from _label_steps(left, clustering, seconds)
        outputs = {name: np.asarray(values[...]) for name, values in left.outputs.items()}
    counts = [int(labels[at].max(initial=0)) for at in left.places]
    record = record_again(left, clustering, counts, seconds=seconds, labels=labels, outputs=outputs, compare=compare)
    again = segmentation_of(left, record, labels=labels, outputs=outputs, path=None if out is None else Path(out))
    if out is not None:
        yield Stage(done=0, total=0, text="writing")
        check_same(out, found)
        again.save(out, overwrite=overwrite, copy_image=not left.gone)
    return again


def _wished(settings: RelabelSettings | None, wishes: dict[str, Any]) -> RelabelSettings:
    if settings is not None and not isinstance(settings, RelabelSettings):
        raise SettingsError(f"the settings are a {type(settings).__name__}; give RelabelSettings(...).")
    try:
        return replace(settings or RelabelSettings(), **wishes)
    except TypeError as exc:
        raise SettingsError(f"relabel knows no such setting ({exc}).") from exc


def _label_steps(
    left: Tunable, clustering: LabelSettings, seconds: dict[str, float]
) -> Generator[Event, None, npt.NDArray[np.uint32]]:
    """Labels of all frames in memory."""
    job, shape = replace(left.job, clustering=clustering), left.job.plan.result_shape
    labels = np.zeros((*job.lengths, *shape), np.uint32)
    whole = BlockGrid(shape=shape, edge=shape, halo=0)[0]
    for frame, at in enumerate(left.places):
        which = f" of frame {frame + 1}/{job.frames}" if job.frames > 1 else ""
        yield Stage(done=0, total=0, text=f"instances{which}")
        with spent(seconds, "labels"):
            if left.embedded:
                labels[at] = settle(job, (yield from cluster_steps(job, left.seen(frame), whole))[1])
            else:
                now = np.asarray(left.frame(left.labels, frame)[...])
                foreground = left.outputs.get("foreground")
                shown = None if foreground is None else np.asarray(left.frame(foreground, frame)[...])
                labels[at] = dissolved(now, shown, clustering)
    return labels


def dissolved(
    labels: npt.NDArray[np.integer], foreground: npt.NDArray[np.float32] | None, clustering: LabelSettings
) -> npt.NDArray[np.uint32]:
    """Labels (*shape) without objects below the smallest size: their pixels go to what they touch, or become background.

    What else the `foreground` shows is looked at anew by the same rules.
    """
    numbers, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    there = numbers > 0
    code = np.zeros(len(numbers), np.int32)
    code[there] = np.arange(2, 2 + there.sum())
    codes = code[inverse].reshape(labels.shape)
    if foreground is not None:
        shown = mask_of(foreground, tuple(slice(0, n) for n in labels.shape), clustering.threshold)
        codes[(codes == 0) & shown] = 1
    # what stays keeps its place in the order of the numbers, and what is new comes behind
    fragments = Fragments(codes=codes, sizes=sizes[there].astype(np.int64), first=np.arange(-there.sum(), 0, dtype=np.int64))
    return labels_of(fragments, clustering)


def _check_memory(left: Tunable) -> None:
    """Refuse a result that does not fit in memory."""
    if left.stored is None:
        return
    frame = prod(left.job.plan.result_shape)
    needed = left.job.frames * frame * 4 * (1 + value_count(left.described)) + frame * PER_PIXEL
    if (free := free_memory()) and needed > RESULT_SHARE * free:
        raise SettingsError(
            f"the result takes {needed / 1e9:.3g} GB in memory, {free / 1e9:.3g} GB are free; relabel the result of a run "
            "out of core that has its embedding, and name a store to write (out; --out)."
        )


# -- what is said of it -----------------------------------------------------------------------------------------------


def changed_of(before: LabelSettings, after: LabelSettings) -> dict[str, list[Any]]:
    """Settings that differ, with both values, by the names of `RelabelSettings`."""
    pairs = ((name, getattr(before, name), value) for name, value in vars(after).items())
    return {"bandwidth" if name == "factor" else name: [old, new] for name, old, new in pairs if old != new}


def record_again(
    left: Tunable,
    clustering: LabelSettings,
    counts: list[int],
    *,
    seconds: dict[str, float],
    labels: Any,
    outputs: dict[str, Any],
    compare: bool,
) -> dict[str, Any]:
    """The record of the run with what is otherwise now; `finished` adds the comparison where the image is there."""
    job, old, intensity = left.job, left.record, left.job.intensity
    assert intensity is not None
    changed = changed_of(left.base, clustering)
    # what is as the model says it is no wish
    wishes = {name: value for name, (_, value) in changed_of(job.clustering, clustering).items()}
    wishes = {name: value for name, value in wishes.items() if name in ("threshold", "bandwidth", "min_size")}
    settings = asdict(job.settings) | wishes
    again = {"settings": settings, "clustering": asdict(clustering)}
    record = (
        old
        | again
        | {
            "run": uuid.uuid4().hex,
            "job": old["job"] | again,
            "instances": counts,
            "intensity": {"notes": list(intensity.notes), "warnings": list(intensity.warnings)},
            "versions": versions(),
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "relabelled": {
                "run": left.run,
                "run_clustering": asdict(left.base),
                "changed": changed,
                "from": "embedding" if left.embedded else "labels",
            },
        }
    )
    told = replace(job, clustering=clustering)
    return finished(told, record, labels, outputs=outputs, seconds=seconds, compare=compare and not left.gone)


def segmentation_of(left: Tunable, record: dict[str, Any], **parts: Any) -> Segmentation:
    """A result with the image, the places and the plan of that which it was made from."""
    scale, units = left.job.spacing()
    return Segmentation(
        **{"outputs": {}, **parts},
        plan=left.plan,
        record=record,
        axes=left.job.axes,
        scale=scale,
        units=units,
        image=left.job.opened.image,
        described=left.described,
    )
