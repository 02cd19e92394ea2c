"""Labels out to other programs: the name of a file says the format."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.analysis.measure import measure
from napari_shiftseg.arguments import told
from napari_shiftseg.errors import ResultError
from napari_shiftseg.events import Event
from napari_shiftseg.files import check_same, found_at, path_of, unchanged
from napari_shiftseg.io.geojson import save_geojson
from napari_shiftseg.io.image import Image
from napari_shiftseg.io.labels import Labels, linked_steps
from napari_shiftseg.io.labels_tiff import save_labels_tiff
from napari_shiftseg.io.result import save_result
from napari_shiftseg.io.rois import check_rois, save_rois
from napari_shiftseg.io.tables import check_table_format, save_table

EXPORTS = {
    ".ome.tif": "OME-TIFF",
    ".tif": "TIFF for ImageJ",
    ".ome.zarr": "OME-Zarr 0.5",
    ".geojson": "GeoJSON for QuPath",
    ".zip": "regions for ImageJ",
    ".csv": "table",
    ".parquet": "table",
}
"""Formats by the end of a name, the longer ends first."""

_ALSO = {".ome.tiff": ".ome.tif", ".tiff": ".tif", ".zarr": ".ome.zarr"}
_STORES = (".zarr.zip", ".ozx")  # read, and not written


def check_export(path: str | Path) -> str:
    """The format that a name says, as the key in `EXPORTS`.

    ResultError if it says none, or what writes that format is not installed.

    >>> check_export("cells.ome.tiff"), check_export("cells.zip")
    ('.ome.tif', '.zip')
    """
    name = Path(path).name.lower()
    ends = [*EXPORTS, *_ALSO]
    found = next((end for end in sorted(ends, key=len, reverse=True) if name.endswith(end)), None)
    if found is None or name.endswith(_STORES):
        raise ResultError(f"{path} does not say a format; give a name that ends in {', '.join([*EXPORTS][:-1])} or .parquet.")
    found = _ALSO.get(found, found)
    if found == ".zip":
        check_rois()
    elif found in (".csv", ".parquet"):
        check_table_format(path)
    return found


def measured(
    labels: Labels, image: Image | None = None, *, on_event: Callable[[Event], None] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Features of the labels, as `measure` gives them, and of an image, by default of the one that lies in the result.

    Of objects that were linked through time, "parent" is the label of what an object came from (0: of nothing), and "lineage"
    that of the first of its line.
    """
    image = labels.image if image is None else image
    with unchanged("what was measured", labels.data, None if image is None else image.data):
        table = measure(
            labels.data,
            None if image is None else labels.intensities(image),
            axes=labels.axes,
            ndim=labels.ndim,
            spacing=labels.scale,
            units=labels.units,
            on_event=on_event,
        )
    return _with_lineage(table, labels.record)


def _with_lineage(table: dict[str, npt.NDArray[Any]], record: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """The table with columns on where objects that were linked through time came from, behind their label."""
    told = next((step for step in linked_steps(record) if step["through"] == "t"), None)
    if told is None:
        return table
    parents = {int(child): int(parent) for child, parent in told.get("parents", ())}
    first: dict[int, int] = {}
    for child in sorted(parents):  # a parent has the smaller number
        first[child] = first.get(parents[child], parents[child])
    labels = table["label"].tolist()
    lineage = {
        "parent": np.array([parents.get(label, 0) for label in labels], np.int64),
        "lineage": np.array([first.get(label, label) for label in labels], np.int64),
    }
    front = [*itertools.takewhile(lambda name: name != "label", table), "label"]
    return {name: table[name] for name in front} | lineage | {name: table[name] for name in table if name not in front}


@told
def export_labels(
    path: str | Path,
    labels: Labels,
    *,
    image: Image | None = None,
    overwrite: bool = False,
    on_event: Callable[[Event], None] | None = None,
) -> Path:
    """Write labels in the format that the name says.

    Parameters
    ----------
    path : str or Path
        ``.tif`` (calibrated, for ImageJ; as `save_labels_tiff` writes it), ``.ome.tif``, ``.ome.zarr``, ``.geojson`` (outlines
        and measurements for QuPath), ``.zip`` (regions for ImageJ), ``.csv`` or ``.parquet`` (measurements).
    labels : Labels
        As `read_labels` gives them.
    image : Image, optional
        Whose intensities are measured for GeoJSON and tables; by default the one that lies in the result.
    overwrite : bool
        Replace what is there.
    on_event : callable, optional
        Gets the events of `measure`.

    Raises
    ------
    ResultError
        If the name says no format, its place is taken, or it cannot be written.

    >>> from importlib.resources import files
    >>> from tempfile import TemporaryDirectory
    >>> from napari_shiftseg.io import read_labels
    >>> truth = read_labels(str(files("napari_shiftseg") / "samples" / "nuclei_truth.tif"))
    >>> with TemporaryDirectory() as folder:
    ...     export_labels(Path(folder) / "nuclei.geojson", truth).stat().st_size > 0
    True
    """
    path, kind = path_of(path, "a place for the labels", ResultError), check_export(path)
    found = found_at(path)
    if os.path.lexists(path) and not overwrite:
        raise ResultError(f"{path} is there already; choose another name, or overwrite it (overwrite=True).")
    if kind in (".tif", ".ome.tif"):
        return save_labels_tiff(path, labels.data, labels.axes, scale=labels.scale, units=labels.units)
    if kind == ".ome.zarr":
        return save_result(
            path,
            labels=labels.data,
            axes=labels.axes,
            scale=labels.scale,
            units=labels.units,
            translation=labels.translation,
            record=labels.record,
            name=path.name.split(".")[0],
            overwrite=overwrite,
        )
    if kind == ".zip":
        return save_rois(path, labels.data, labels.axes)
    table = measured(labels, image, on_event=on_event)
    check_same(path, found)  # measuring takes its time
    if kind == ".geojson":
        return save_geojson(path, labels.data, labels.axes, table=table)
    return save_table(path, table)
