"""`LiveLabels`: the layer of a run out of core, from its first block to the finished store."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari.layers import Labels, Layer

from napari_shiftseg.events import BlockDone, Event
from napari_shiftseg.plugin.large_jobs import LevelsReady, Written
from napari_shiftseg.plugin.layers import KEY, layer_name, placed
from napari_shiftseg.plugin.layout import laid_out
from napari_shiftseg.plugin.preview import window_in_view
from napari_shiftseg.plugin.refresher import Refresher
from napari_shiftseg.plugin.replacement import keep_view, leave_behind
from napari_shiftseg.plugin.signature import is_moved, is_untouched, sign, signature_of

if TYPE_CHECKING:
    from napari_shiftseg.plugin.source import Placement

_EVERY = 1.0  # seconds


class LiveLabels:
    """One layer of labels that lie on disk: finished blocks while the run works, then the result.

    Parameters
    ----------
    viewer : napari viewer
    place_of : callable
        Gives the `Placement` of some axes of the source layer.
    name : str
        Of the source layer.
    source_id : hashable
        Of the source layer.
    """

    def __init__(self, viewer: Any, place_of: "Callable[[str], Placement]", name: str, source_id: Any):
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
        known |= {"plan": result.plan, "status": result.record["status"], "record": result.record, "model": written.model}
        known |= {"store": str(result.stored.path), "run": result.record["run"]}
        name = layer_name(self._name, "instances", known)
        levels = [laid_out(level, result.axes, place.layout) for level in written.levels]
        self._put(levels, place, {KEY: known}, name, written.features).editable = False  # the store is read only
        self._stop()
        return leave_behind(self.viewer, self._source_id, known["run"], ("instances",), spare=self.layer)

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
        layer = self._put(levels, place, {KEY: known}, f"{self._name} instances (unfinished)")
        layer.editable = False  # the run writes there
        self._stop()
        self._refresher = Refresher(layer, _EVERY)

    def _put(self, levels: list[Any], place: "Placement", metadata: dict[str, Any], name: str, features: Any = None) -> Labels:
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
                self.layer = self.viewer.add_layer(Labels(data, **options, **placed(place)))
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
