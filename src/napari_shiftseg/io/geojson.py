"""Objects out as GeoJSON, as QuPath reads it."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from napari_shiftseg.errors import ResultError
from napari_shiftseg.files import replacing
from napari_shiftseg.instances.outlines import Polygon, outlines
from napari_shiftseg.io.axes import check_integers, check_label_axes
from napari_shiftseg.views import ArrayLike, View

# Columns that are no measurements of QuPath, which holds numbers, and has the pixel size itself.
_NOT_MEASURED = ("label", "unit", "bbox-", "spacing-")


def save_geojson(
    path: str | Path, labels: ArrayLike, axes: str, *, table: Mapping[str, npt.NDArray[Any]] | None = None
) -> Path:
    """Write objects as GeoJSON for QuPath: a detection per object and plane, its outline on the edges of its pixels.

    A file of that name is replaced once the new one is complete.

    Parameters
    ----------
    path : str or Path
        File to write.
    labels : array-like of int
        Labels >= 0, 0 is the background; read plane by plane.
    axes : str
        "yx", "zyx", "tyx" or "tzyx".
    table : mapping, optional
        As `measure` gives it: measurements of the objects.

    Raises
    ------
    ResultError
        If the labels are no integers, the axes do not fit, or the file cannot be written.
    """
    path = Path(path)
    check_integers(labels)
    check_label_axes(axes, labels.shape, None, units=None)
    try:
        with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
            file.write('{"type": "FeatureCollection", "features": [')
            for number, feature in enumerate(_features(labels, axes, table or {})):
                file.write((",\n" if number else "\n") + json.dumps(feature, allow_nan=False))
            file.write("\n]}\n")
    except OSError as exc:
        raise ResultError(f"{path} cannot be written ({exc.strerror}); choose another folder or make room.") from exc
    return path


def planes_of(labels: ArrayLike, axes: str) -> Iterator[tuple[dict[str, int], ArrayLike]]:
    """Planes, not read yet, with their place on the other axes that have several positions."""
    for place in itertools.product(*map(range, labels.shape[:-2])):
        several = {axis: at for axis, at, size in zip(axes, place, labels.shape, strict=False) if size > 1}
        yield several, View.at(labels, dict(enumerate(place))) if place else labels


def _features(labels: ArrayLike, axes: str, table: Mapping[str, npt.NDArray[Any]]) -> Iterator[dict[str, Any]]:
    looped = [axis for axis in axes[:-2] if axis in table]
    names = [*looped, "label"] if table else []
    rows = {key: row for row, key in enumerate(zip(*(table[name].tolist() for name in names), strict=True))} if names else {}
    columns = {
        name: table[name].tolist()
        for name in table
        if name not in looped and not name.startswith(_NOT_MEASURED) and table[name].dtype.kind in "biuf"
    }
    units = table["unit"].tolist() if "unit" in table else []
    for place, plane in planes_of(labels, axes):
        for label, polygons in outlines(plane):
            row = rows.get((*(place.get(axis, 0) for axis in looped), label))
            properties: dict[str, Any] = {"objectType": "detection", "name": str(label), "label": label}
            if row is not None:
                values = {name: column[row] for name, column in columns.items()}
                properties |= {"unit": units[row]} if units else {}
                properties["measurements"] = {name: value for name, value in values.items() if math.isfinite(value)}
            yield {"type": "Feature", "geometry": _geometry(polygons, place), "properties": properties}


def _geometry(polygons: tuple[Polygon, ...], place: Mapping[str, int]) -> dict[str, Any]:
    """A polygon, or several for an object in pieces; rings end where they begin."""
    rings = [[[*ring.tolist(), ring[0].tolist()] for ring in polygon] for polygon in polygons]
    geometry: dict[str, Any] = (
        {"type": "Polygon", "coordinates": rings[0]} if len(rings) == 1 else {"type": "MultiPolygon", "coordinates": rings}
    )
    if place:  # QuPath's own key: the plane on which the object lies, -1 for all channels
        geometry["plane"] = {"c": -1, "z": place.get("z", 0), "t": place.get("t", 0)}
    return geometry
