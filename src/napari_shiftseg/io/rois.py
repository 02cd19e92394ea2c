"""Objects out as regions of ImageJ, in one archive for its ROI Manager."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np

from napari_shiftseg.errors import ResultError
from napari_shiftseg.files import replacing
from napari_shiftseg.instances.outlines import Polygon, Ring, outlines
from napari_shiftseg.io.axes import check_integers, check_label_axes
from napari_shiftseg.io.constants import LARGEST_ROI, ROI_CLOSE, ROI_LINE, ROI_MOVE
from napari_shiftseg.io.geojson import planes_of
from napari_shiftseg.views import ArrayLike

if TYPE_CHECKING:
    from roifile import ImagejRoi


def check_rois() -> None:
    """ResultError if nothing writes regions of ImageJ."""
    try:
        import roifile  # noqa: F401
    except ImportError as exc:
        raise ResultError(
            'regions of ImageJ need roifile, which is not installed: pip install "napari-shiftseg[export]"; or export .geojson.'
        ) from exc


def save_rois(path: str | Path, labels: ArrayLike, axes: str) -> Path:
    """Write objects as an archive for the ROI Manager of ImageJ: a region per object and plane, named by its label.

    A region is a polygon along the edges of the pixels, or a composite where an object has holes or several pieces. On planes
    of a stack or series it lies at its slice and frame, and its name ends with them: 17-z0003-t0002. A file of that name is
    replaced once the new one is complete.

    Parameters
    ----------
    path : str or Path
        File to write.
    labels : array-like of int
        Labels >= 0, 0 is the background; read plane by plane.
    axes : str
        "yx", "zyx", "tyx" or "tzyx".

    Raises
    ------
    ResultError
        If roifile is not installed, the labels are no integers, the axes do not fit, a plane has more than 60,535 pixels along
        an axis, which the format cannot name, or the file cannot be written.
    """
    check_rois()
    path = Path(path)
    check_integers(labels)
    check_label_axes(axes, labels.shape, None, units=None)
    if max(labels.shape[-2:]) > LARGEST_ROI:
        raise ResultError(
            f"regions of ImageJ lie in planes of up to {LARGEST_ROI} x {LARGEST_ROI} px, and these have {labels.shape[-2]} x "
            f"{labels.shape[-1]}; export .geojson, or crop the labels."
        )
    try:
        with replacing(path) as partial, ZipFile(partial, "w", ZIP_DEFLATED) as archive:
            for place, plane in planes_of(labels, axes):
                where = "".join(f"-{axis}{place[axis] + 1:04}" for axis in "zt" if axis in place)
                for label, polygons in outlines(plane):
                    name = f"{label}{where}"
                    archive.writestr(f"{name}.roi", _region(name, polygons, place).tobytes())
    except OSError as exc:
        raise ResultError(f"{path} cannot be written ({exc.strerror}); choose another folder or make room.") from exc
    return path


def _region(name: str, polygons: tuple[Polygon, ...], place: Mapping[str, int]) -> ImagejRoi:
    from roifile import ROI_TYPE, ImagejRoi

    rings = list(itertools.chain.from_iterable(polygons))
    at = {axis: place[axis] for axis in "zt" if axis in place}
    region = ImagejRoi.frompoints(rings[0], name=name, **at)
    region.roitype = ROI_TYPE.POLYGON
    if len(rings) > 1:
        corners = np.concatenate(rings)
        (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        path = np.concatenate([_path(ring) for ring in rings])
        region.roitype, region.multi_coordinates, region.shape_roi_size = ROI_TYPE.RECT, path, len(path)
        region.integer_coordinates, region.n_coordinates = None, 0
        region.left, region.top, region.right, region.bottom = left, top, right, bottom
    else:  # of a polygon, ImageJ takes the box from its corners
        region.right, region.bottom = region.right - 1, region.bottom - 1
    return region


def _path(ring: Ring) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """A closed ring as segments of a path."""
    kinds = np.full(len(ring), ROI_LINE)
    kinds[0] = ROI_MOVE
    return np.append(np.column_stack([kinds, ring]).ravel(), ROI_CLOSE).astype(np.float32)
