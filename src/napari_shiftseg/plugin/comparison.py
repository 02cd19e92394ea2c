"""A comparison with naive tiles as layers, marked for what they are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer
from napari.types import LayerDataTuple
from napari.utils.colormaps import DirectLabelColormap

from napari_shiftseg.colours import embedding_colours
from napari_shiftseg.plugin.constants import DIFFERENCE_FLOOR, MOST_STRIDE, VIEW_SHARE
from napari_shiftseg.plugin.layers import KEY, areas, laid_out, placed

if TYPE_CHECKING:
    from napari_shiftseg.analysis.compare import Comparison
    from napari_shiftseg.plugin.source import Placement
    from napari_shiftseg.plugin.subject import Subject

COMPARED = ("naive embedding RGB", "difference", "naive instances", "labels differing")
"""Roles of the layers."""


def is_compared(layers: Sequence[Layer]) -> bool:
    """Whether there is a comparison among the layers of a run."""
    return any(layer.metadata[KEY].get("role") in COMPARED for layer in layers)


class Beside:
    """Two views, one beside the other, that move together: a result, and what naive tiles give, each with its name."""

    def __init__(self, viewer: Any):
        self.viewer = viewer
        self._before: tuple[bool, int, tuple[int, int]] | None = None  # the grid of the user, as long as both are shown
        self._compared: list[Layer] = []
        self._named: list[Layer] = []

    def show(self, layers: Sequence[Layer], layer: Layer) -> None:
        """Show both; `layers`: of a run, and of its comparison, `layer`: of the run, to which the views are fitted."""
        self.end()
        grid, events = self.viewer.canvas.grid, self.viewer.layers.events
        self._before = grid.enabled, grid.stride, grid.shape
        roles = {other: other.metadata[KEY].get("role") for other in layers}
        self._compared = [other for other, role in roles.items() if role in COMPARED]
        for other, role in roles.items():
            if role in COMPARED or role in ("embedding RGB", "instances"):
                other.visible = role != "difference"
        self._named = [other for other, role in roles.items() if role in ("instances", "naive instances")]
        for other in self._named:
            other.name_overlay.visible = True
        for event in (events.inserted, events.removed, events.reordered):
            event.connect(self._arrange)
        self._arrange()
        self._fit(layer)

    def end(self) -> None:
        """One view again, with the result alone."""
        if self._before is None:
            return
        self.close()
        grid = self.viewer.canvas.grid
        grid.enabled, grid.stride, grid.shape = self._before
        self._before = None
        for layer in self._compared:
            layer.visible = False
        for layer in self._named:
            layer.name_overlay.visible = False

    def close(self) -> None:
        """Look after the views no more, and leave them as they are."""
        events = self.viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.disconnect(self._arrange)

    def _fit(self, layer: Layer) -> None:
        """Let each view show all of a layer; napari's own way cannot be asked for a layer that has fewer axes than others."""
        camera, dims = self.viewer.scene.camera, self.viewer.dims
        if dims.ndisplay != 2:
            self.viewer.reset_view()
            return
        axes = [axis - dims.ndim for axis in dims.displayed]
        low, high = (np.asarray(end)[axes] for end in layer.extent.world)
        room = np.asarray(self.viewer.canvas.size, float) / (1, 2)
        camera.center = (0.0, *(low + high) / 2)
        camera.zoom = float(VIEW_SHARE * np.min(room / np.maximum(high - low + np.abs(layer.extent.step[axes]), 1e-12)))

    def _arrange(self, *_: Any) -> None:
        """A view for each, whatever other layers there are: napari puts so many layers, in their order, into each view."""
        layers, grid = self.viewer.layers, self.viewer.canvas.grid
        there = [layer for layer in layers if layer in self._compared]
        if not there:
            return
        if list(layers[-len(there) :]) != there:
            layers.move_multiple([layers.index(layer) for layer in there], len(layers))
        below = len(layers) - len(there)
        grid.shape = (1, 2)
        grid.stride = min(below, MOST_STRIDE) if below >= len(there) else -len(there)
        grid.enabled = True


def paint_comparison(subject: "Subject", comparison: "Comparison") -> np.ndarray:
    """(*shape, 3) colours of the naive embedding, on the scale of both results, so that equal pixels look alike."""
    embedding = np.concatenate([np.asarray(subject.frame("embedding")), comparison.embedding], axis=1)
    foreground = comparison.foreground
    both = None if foreground is None else np.concatenate([foreground, foreground])
    return embedding_colours(embedding, both)[len(comparison.labels) :]


def comparison_layers(
    subject: "Subject", comparison: "Comparison", colours: np.ndarray, *, place: "Placement", source_id
) -> list[LayerDataTuple]:
    """Layers of a comparison, the lowest first.

    Parameters
    ----------
    subject : Subject
        The result that was compared.
    colours : ndarray
        (*shape, 3) of the naive embedding.
    place : Placement
        Of the axes `subject.axes`.
    source_id : hashable
        Of the layer that was segmented.
    """
    looped = len(subject.index)
    place = place.shifted((*subject.index, *(0,) * len(subject.spatial)))
    known = {"source_id": source_id, "source": subject.name, "axes": place.layout, "plan": comparison.plan}
    known |= {"run": subject.run, "status": "non-compliant", "violations": [v.message for v in comparison.broken]}

    def tuple_of(role, data, kind, **options) -> LayerDataTuple:
        look = {"name": f"{subject.name} {role}", "metadata": {KEY: {"role": role, **known}}, **placed(place), **options}
        return laid_out(data[(None,) * looped], subject.axes, place.layout), look, kind

    logarithm = np.log10(np.maximum(comparison.difference, DIFFERENCE_FLOOR))
    limits = (float(np.log10(DIFFERENCE_FLOOR)), max(0.0, float(logarithm.max())))
    red = DirectLabelColormap(color_dict={None: "red", 0: "transparent"})
    labels = comparison.labels.view(np.int32)
    return [
        tuple_of(COMPARED[0], colours, "image", rgb=True),
        tuple_of(COMPARED[1], logarithm, "image", rgb=False, colormap="inferno", contrast_limits=limits),
        tuple_of(COMPARED[2], labels, "labels", features=areas(labels)),
        tuple_of(COMPARED[3], comparison.changed.astype(np.uint8), "labels", colormap=red),
    ]
