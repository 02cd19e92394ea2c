"""A run out of core: its job, and `LiveLabels`, the layer that shows it from its first block to the finished store."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels, Layer

from napari_shiftseg.events import BlockDone, Event, Stage
from napari_shiftseg.plugin.constants import LIVE_EVERY, MOST_FEATURES
from napari_shiftseg.plugin.layers import KEY, from_zarr, laid_out, layer_name, placed
from napari_shiftseg.plugin.preview import window_in_view
from napari_shiftseg.plugin.refresher import Refresher
from napari_shiftseg.plugin.replacement import keep_view, leave_behind, put_below_accepted
from napari_shiftseg.plugin.signature import is_moved, is_untouched, sign, signature_of

if TYPE_CHECKING:
    from napari_shiftseg.io import Overview, StoredResult
    from napari_shiftseg.plugin.source import Placement
    from napari_shiftseg.segmentation import Job, Segmentation


@dataclass(frozen=True, kw_only=True)
class LevelsReady(Event):
    """There is something to look at; `levels` is its pyramid, `final` whether it holds labels or fragments of instances."""

    levels: tuple[Any, ...]
    axes: str
    final: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Written:
    """A result on disk, and what its layer needs beyond it."""

    result: "Segmentation"
    levels: list[Any]  # labels, full resolution first
    features: dict[str, np.ndarray]  # as of `Drawn`


def segment_large(job: "Job") -> Generator[Event, None, Written]:
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
    return Written(result=result, levels=layer_levels(result.stored.levels("labels")), features=features)


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
    if len(stored.axes) != ndim or not counts or sum(counts) > MOST_FEATURES:
        return {}
    return stored.objects()


def words_on_unfinished(out: Path | None) -> str:
    """A sentence on what a cancelled run out of core has left, with a space in front; "" for a run in memory."""
    if out is None:
        return ""
    from napari_shiftseg.segmentation import kept_of

    kept = kept_of(out)
    return f" {kept[0].upper()}{kept[1:]}: Run goes on from there." if kept else " No block is finished: Run begins anew."


class LiveLabels:
    """One layer of labels that lie on disk: finished blocks while the run works, then the result.

    Parameters
    ----------
    place_of : callable
        Gives the `Placement` of some axes of the source layer.
    name : str
        Of the source layer.
    source_id : hashable
        Of the source layer.
    """

    def __init__(self, viewer: Any, place_of: "Callable[[str], Placement]", name: str, *, source_id: Any):
        self.viewer, self.layer = viewer, None
        self._place_of, self._name, self._source_id = place_of, name, source_id
        self._refresher: Refresher | None = None
        self._axes = self._layout = ""

    def follow(self, event: Event) -> None:
        """Show what an event of the run says is there."""
        if isinstance(event, LevelsReady):
            self._show(event)
        elif isinstance(event, BlockDone) and self._is_there() and self._sees(event.window):
            self._refresher.ask()

    def finish(self, written: Written) -> list[Layer]:
        """Show the result; returns the layers of earlier runs that were kept as the user had changed them."""
        result = written.result
        offset = len(result.axes) - len(result.plan.origin)
        place = self._place_of(result.axes).shifted((0,) * offset + result.plan.origin)
        known = {"role": "instances", "source_id": self._source_id, "source": self._name, "axes": place.layout}
        known |= {"plan": result.plan, "status": result.record["status"], "record": result.record}
        known |= {"store": str(result.stored.path), "run": result.record["run"]}
        name = layer_name(self._name, "instances", known)
        levels = [laid_out(level, result.axes, place.layout) for level in written.levels]
        self._put(levels, place, {KEY: known}, name=name, features=written.features).editable = False  # the store is read only
        self._stop()
        return leave_behind(self.viewer, self._source_id, known["run"], roles=("instances",), spare=self.layer)

    def remove(self) -> None:
        """Take an unfinished layer away, unless the user has made it his own."""
        self._stop()
        if self._is_there() and is_untouched(self.layer):
            self.viewer.layers.remove(self.layer)
        self.layer = None

    def _show(self, event: LevelsReady) -> None:
        if self.layer is not None and not self._is_there():
            return  # the user does not want to see it
        place = self._place_of(event.axes)
        self._axes, self._layout = event.axes, place.layout
        known = {"role": "unfinished instances", "source_id": self._source_id, "source": self._name, "axes": place.layout}
        levels = [laid_out(level, event.axes, place.layout) for level in event.levels]
        layer = self._put(levels, place, {KEY: known}, name=f"{self._name} instances (unfinished)")
        layer.editable = False  # the run writes there
        self._stop()
        self._refresher = Refresher(layer, LIVE_EVERY)

    def _put(self, levels: list[Any], place: "Placement", metadata: Any, *, name: str, features: Any = None) -> Labels:
        several = len(levels) > 1  # napari takes no pyramid of one level
        data = levels if several else levels[0]
        if self._is_there():
            # the pixels are those of the run; a name and a place that the user gave them stay
            left, moved = signature_of(self.layer), is_moved(self.layer)
            named = self.layer.name != left.name
            self.layer.data = data
            self.layer.metadata = metadata
            for attribute, value in () if moved else placed(place).items():
                setattr(self.layer, attribute, value)
            if features is not None:
                self.layer.features = features
            if not named:
                self.layer.name = name
            self.layer.events.name()  # it tells others that there is a result now
            signed = sign(self.layer)
            signed.name, signed.place = left.name if named else signed.name, left.place if moved else signed.place
        else:
            with keep_view(self.viewer):
                # cache=False: the arrays change while they are shown
                options = {"multiscale": several, "name": name, "metadata": metadata, "features": features, "cache": False}
                self.layer = Labels(data, **options, **placed(place))
                put_below_accepted(self.viewer, self.layer)
            sign(self.layer)
        return self.layer

    def _sees(self, window: tuple[slice, ...]) -> bool:
        view = window_in_view(self.viewer, self.layer, self._layout)
        pairs = ((part, view[axis]) for part, axis in zip(window, self._axes, strict=True) if axis in view)
        return self.layer.visible and all(part.start < seen.stop and part.stop > seen.start for part, seen in pairs)

    def _is_there(self) -> bool:
        return self.layer is not None and self.layer in self.viewer.layers

    def _stop(self) -> None:
        if self._refresher is not None:
            self._refresher.stop()
            self._refresher = None
