"""`Target`: the layer that a run was started on, and where its result lies."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari.layers import Image as ImageLayer
from napari.utils.notifications import show_info

if TYPE_CHECKING:
    from napari_shiftseg.plugin.source import Placement


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """A layer that may be gone when the run ends."""

    layer: ImageLayer
    axes: str  # of its data
    place: "Placement"  # of the axes of the result, when the run began
    viewer: Any

    @property
    def is_there(self) -> bool:
        """Whether it still is."""
        return self.layer in self.viewer.layers

    def place_in(self, wanted: str) -> "Placement":
        """Where the axes `wanted` lie; it may have been moved meanwhile."""
        from napari_shiftseg.plugin.source import placement_of

        return placement_of(self.layer, self.axes, wanted) if self.is_there else self.place

    def place_of_result(self, wanted: str) -> "Placement":
        """The same, with word to the user if the layer is gone."""
        if not self.is_there:
            show_info(f"The layer {self.layer.name} was removed while it was segmented; its result was added all the same.")
        return self.place_in(wanted)
