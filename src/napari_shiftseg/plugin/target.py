"""`Target`: the layer that a run was started on, and where its result lies."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari.layers import Image as ImageLayer
from napari.utils.notifications import show_info

from napari_shiftseg.events import Event
from napari_shiftseg.plugin.layers import Drawn, layer_tuples
from napari_shiftseg.plugin.replacement import Replaced, of_source, replace_layers
from napari_shiftseg.plugin.signature import Digests
from napari_shiftseg.plugin.tune_jobs import remember

if TYPE_CHECKING:
    from napari_shiftseg.plugin.source import Placement


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """A layer that may be gone when the run ends."""

    layer: ImageLayer
    axes: str  # of its data
    place: "Placement"  # of the axes of the result, when the run began
    viewer: Any
    digests: Digests = field(default_factory=Digests)  # of what earlier runs have left beside the layer

    @property
    def is_there(self) -> bool:
        """Whether it still is."""
        return self.layer in self.viewer.layers

    def steps(self, work: Callable[[], Generator[Event, None, Any]]) -> Generator[Event, None, Any]:
        """Work for this layer in a thread, at the end of which it is known which layers of earlier runs are untouched."""
        made = yield from work()
        self.digests.take(of_source(self.viewer, self.layer.unique_id))
        return made

    def place_in(self, wanted: str) -> "Placement":
        """Where the axes `wanted` lie; it may have been moved meanwhile."""
        from napari_shiftseg.plugin.source import placement_of

        return placement_of(self.layer, self.axes, wanted) if self.is_there else self.place

    def place_of_result(self, wanted: str) -> "Placement":
        """The same, with word to the user if the layer is gone."""
        if not self.is_there:
            show_info(f"The layer {self.layer.name} was removed while it was segmented; its result was added all the same.")
        return self.place_in(wanted)

    def show(self, drawn: Drawn) -> Replaced:
        """Show a result in memory beside the layer, its labels last."""
        place = self.place_of_result(drawn.result.axes)
        tuples = layer_tuples(drawn, place, self.layer.name, source_id=self.layer.unique_id)
        put = replace_layers(self.viewer, tuples, whole=True, digests=self.digests)
        remember(put.layers[-1], drawn.result)
        return put
