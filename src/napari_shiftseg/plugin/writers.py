"""File > Save of a labels layer, in the formats of `shiftseg export`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from napari.layers import Labels as LabelsLayer
from napari.utils.notifications import show_error, show_warning

from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.io import Image
from napari_shiftseg.io.axes import axis_letter, guess_axes, name_axes
from napari_shiftseg.io.labels import Labels, labels_of
from napari_shiftseg.plugin.jobs import sentence
from napari_shiftseg.plugin.signature import KEY

# What a name may end in, as the manifest lists it, in words.
_FORMATS = {
    ".tif": "Labels with pixel size",
    ".zarr": "OME-Zarr of labels",
    ".geojson": "GeoJSON for QuPath",
    ".zip": "Regions for ImageJ",
    ".csv": "Table of measurements",
    ".parquet": "Table of measurements",
}


def write_labels(path: str | None = None, data: Any = None, meta: dict[str, Any] | None = None) -> list[str]:
    """Write a labels layer; the end of the path says the format, and napari has asked whether a file is to be replaced.

    Without a path, which is how the command palette calls it, the user is asked for one for the labels that are selected.
    """
    if path is None or meta is None:
        ask_for_file()
        return []
    from napari_shiftseg.io import export_labels

    return [str(export_labels(path, labels_of_layer(data, meta), overwrite=True))]


def labels_of_layer(data: Any, meta: dict[str, Any]) -> Labels:
    """A labels layer, as `as_layer_data_tuple` gives it, as labels with steps, units and record; nothing is read."""
    data = data[0] if meta.get("multiscale") else data
    known = (meta.get("metadata") or {}).get(KEY) or {}
    axes = known.get("axes", "")
    if len(axes) != data.ndim:
        axes = _axes(meta, data)
    image = Image.from_array(
        data[tuple(0 if axis == "_" else slice(None) for axis in axes)] if "_" in axes else data,
        axes.replace("_", ""),
        [abs(step) for step in _of(axes, meta.get("scale"), 1.0)],
        units=[str(unit) for unit in _of(axes, meta.get("units"), "pixel")],
        name=str(meta.get("name", "labels")),
    )
    labels = labels_of(replace(image, translation=tuple(map(float, _of(axes, meta.get("translate"), 0.0)))))
    if "plan" in known:  # of a stack whose planes were segmented one by one, each has objects of its own
        plan = known["plan"]
        labels = replace(labels, ndim=len(plan["result_shape"] if isinstance(plan, Mapping) else plan.result_shape))
    if "record" in known:  # what they were made from, and what was corrected in them
        edits = {"edits": known["edits"]} if known.get("edits") else {}
        labels = replace(labels, record={**known["record"], **edits})
    return labels


def ask_for_file() -> None:
    """Let the user choose a file for the selected labels, and write it; the window stays alive meanwhile."""
    from napari import current_viewer
    from qtpy.QtWidgets import QApplication, QFileDialog

    viewer = current_viewer()
    layer = None if viewer is None else viewer.layers.selection.active
    if not isinstance(layer, LabelsLayer):
        show_warning("No labels are selected; select a labels layer, and save it then.")
        return
    filters = ";;".join(f"{words} (*{end})" for end, words in _FORMATS.items())
    dialog = QFileDialog(QApplication.activeWindow(), f"Save {layer.name} for other programs", f"{layer.name}.tif", filters)
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    dialog.setDefaultSuffix("tif")
    dialog.fileSelected.connect(lambda chosen: _save(layer, chosen))
    dialog.finished.connect(lambda _: dialog.deleteLater())  # which also keeps it until then
    dialog.open()


def _save(layer: LabelsLayer, chosen: str) -> None:
    try:
        layer.save(chosen, plugin="napari-shiftseg")
    except (ShiftsegError, ValueError, OSError) as exc:
        show_error(sentence(exc))


def axes_of(layer: Any) -> str:
    """The axes of a labels layer, as far as it and the sizes of its pixels say what they are; "_" for one of one pixel."""
    data = layer.data[0] if layer.multiscale else layer.data
    axes = _axes({"axis_labels": layer.axis_labels, "units": [str(unit) for unit in layer.units]}, data)
    return axes.replace("c", "t" if "z" in axes else "z")  # labels have no channels


def _of(axes: str, values: Any, default: Any) -> list[Any]:
    """Values of the axes that are written."""
    values = [default] * len(axes) if values is None else list(values)
    return [value for axis, value in zip(axes, values, strict=True) if axis != "_"]


def _axes(meta: dict[str, Any], data: Any) -> str:
    """What the layer says of its axes, and of those that it does not name what their sizes suggest; y and x are the last."""
    names, units = meta.get("axis_labels") or (), meta.get("units") or ()
    if len(names) != data.ndim:
        return guess_axes(data.shape, np.int32)[0]
    said = [axis_letter(name, unit=unit) for name, unit in zip(names, units or [None] * len(names), strict=True)]
    for axis, letter in ((-1, "x"), (-2, "y")):
        if said[axis] == "?" and letter not in said:
            said[axis] = letter
    # an axis of one pixel that nothing names is left out
    return "".join(letter or "_" for letter in name_axes("".join(said), data.shape)[0])
