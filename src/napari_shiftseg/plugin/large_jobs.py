"""The job of a run out of core: it segments into a store, and shows what is finished as pyramids that a layer can hold."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_shiftseg.events import BlockDone, Event, Stage
from napari_shiftseg.plugin.layout import from_zarr

if TYPE_CHECKING:
    from napari_shiftseg.io import Overview, StoredResult
    from napari_shiftseg.segmentation import Job, Segmentation

_MOST_FEATURES = 200_000  # instances; napari takes seconds for tables of millions of rows


@dataclass(frozen=True, kw_only=True)
class LevelsReady(Event):
    """There is something to look at; `levels` is its pyramid, `final` whether it holds labels or fragments of instances."""

    levels: tuple[Any, ...]
    axes: str
    final: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Written:
    """A result on disk, and what its layer needs beyond it.

    Attributes
    ----------
    levels : list of array
        Labels, full resolution first.
    features : dict
        As of `Drawn`.
    model : str
        Name or path that the model was loaded from.
    """

    result: "Segmentation"
    levels: list[Any]
    features: dict[str, np.ndarray]
    model: str


def segment_large(job: "Job", model: str) -> Generator[Event, None, Written]:
    """Segment out of core; yields the events of `run_steps`, and a `LevelsReady` when a pass has something to show."""
    from napari_shiftseg.segmentation import run_steps

    yield Stage(done=0, total=0, text="reading")
    shown: dict[bool, Overview] = {}
    with closing(run_steps(job)) as steps:
        while True:
            try:
                event = next(steps)
            except StopIteration as stop:
                result = stop.value
                break
            yield from _show(event, job, shown)
            yield event
    yield Stage(done=0, total=0, text="drawing")
    assert result.stored is not None
    features = features_of(result.stored, job.plan.lattice.ndim)
    return Written(result=result, levels=layer_levels(result.stored.levels("labels")), features=features, model=model)


def _show(event: Event, job: "Job", shown: "dict[bool, Overview]") -> Generator[LevelsReady, None, None]:
    from napari_shiftseg.segmentation.engine import TITLES

    final = (isinstance(event, BlockDone) and event.final) or (isinstance(event, Stage) and event.text == TITLES["settle"])
    begins = isinstance(event, BlockDone) or (isinstance(event, Stage) and event.text in TITLES.values())
    if begins and final not in shown:
        shown.clear()  # the pass before is over
        shown[final] = _overview(job, final=final)
        levels = tuple(layer_levels(shown[final].levels))
        yield LevelsReady(done=event.done, total=event.total, levels=levels, axes=shown[final].axes, final=final)
    if isinstance(event, BlockDone):
        shown[final].update(event.window)


def _overview(job: "Job", *, final: bool) -> "Overview":
    from napari_shiftseg.io import Overview, work_path

    folder = work_path(str(job.out))
    path = folder / "store" / "labels" / "instances" if final else folder / "fragments"
    return Overview(path, folder / "shown" / ("labels" if final else "fragments"), job.axes)


def layer_levels(levels: Any) -> list[Any]:
    """The levels as napari takes them: of zarr arrays with more than two axes it would read more than it shows."""
    return list(levels) if levels[0].ndim == 2 else list(map(from_zarr, levels))


def features_of(stored: "StoredResult", ndim: int) -> dict[str, np.ndarray]:
    """Features of a labels layer from the table in the store; empty for a series, without a table, and where it is long."""
    counts = stored.record.get("instances", ())
    if len(stored.axes) != ndim or not counts or sum(counts) > _MOST_FEATURES:
        return {}
    return stored.objects()


def words_on_unfinished(out: Path | None) -> str:
    """A sentence on what a cancelled run out of core has left, with a space in front; "" for a run in memory."""
    if out is None:
        return ""
    from napari_shiftseg.segmentation import kept_of

    kept = kept_of(out)
    return f" {kept[0].upper()}{kept[1:]}: Run goes on from there." if kept else " No block is finished: Run begins anew."
