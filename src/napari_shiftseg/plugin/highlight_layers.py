"""Objects to outline as layers."""

from typing import TYPE_CHECKING, Any

from napari.types import LayerDataTuple
from napari.utils.colormaps import DirectLabelColormap

from napari_shiftseg.plugin.inspect_jobs import Highlights
from napari_shiftseg.plugin.layers import KEY, placed
from napari_shiftseg.plugin.layout import laid_out
from napari_shiftseg.plugin.subject import Subject

if TYPE_CHECKING:
    from napari_shiftseg.plugin.source import Placement


def highlight_layers(subject: Subject, found: Highlights, place: "Placement", source_id: Any) -> list[LayerDataTuple]:
    """Instances on seams, yellow, and against a truth extra ones, cyan, missed objects, magenta, and split ones, red.

    Parameters
    ----------
    subject : Subject
        The result that was looked at.
    found : Highlights
    place : Placement
        Of the axes `subject.axes`.
    source_id : hashable
        Of the layer that was segmented.
    """
    made = []
    outlined = (  # the last one on top: what is split is often missed too
        ("on seams", found.on_seams, "yellow"),
        ("extra objects", found.extra, "cyan"),
        ("missed objects", found.missed, "magenta"),
        ("split objects", found.split, "red"),
    )
    for role, data, colour in outlined:
        if data is None:
            continue
        known = {"role": role, "source_id": source_id, "source": subject.name, "run": subject.run, "axes": place.layout}
        colours = DirectLabelColormap(color_dict={None: colour, 0: "transparent"})
        look = {"name": f"{subject.name} {role}", "metadata": {KEY: known}, "colormap": colours, "opacity": 1.0}
        made.append((laid_out(data, subject.axes, place.layout), {**placed(place), **look}, "labels"))
    return made
