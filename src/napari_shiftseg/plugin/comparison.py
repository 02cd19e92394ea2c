"""A comparison with naive tiles as layers, marked for what they are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Layer
from napari.types import LayerDataTuple
from napari.utils.colormaps import DirectLabelColormap

from napari_shiftseg.colours import embedding_colours
from napari_shiftseg.plugin.constants import DIFFERENCE_FLOOR
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


def show_beside(layers: Sequence[Layer], on: bool) -> None:
    """Show the layers of both results of a run, or hide those of the naive tiles."""
    for layer in layers:
        role = layer.metadata[KEY].get("role")
        if role in COMPARED:
            layer.visible = on
        elif on and role in ("embedding RGB", "instances"):
            layer.visible = True


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
