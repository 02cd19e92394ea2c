"""Labels out as a TIFF, calibrated: of ImageJ where it can hold them, else of OME."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from napari_shiftseg.errors import OutOfMemoryError, ResultError
from napari_shiftseg.files import replacing
from napari_shiftseg.io.axes import check_integers, check_label_axes, check_range
from napari_shiftseg.io.constants import LARGEST_STEP
from napari_shiftseg.machine import free_memory
from napari_shiftseg.views import ArrayLike, in_memory

# Unit names of the OME schema for those of OME-NGFF.
_OME_UNITS = {
    "yottameter": "Ym",
    "zettameter": "Zm",
    "exameter": "Em",
    "petameter": "Pm",
    "terameter": "Tm",
    "gigameter": "Gm",
    "hectometer": "hm",
    "attometer": "am",
    "zeptometer": "zm",
    "yoctometer": "ym",
    "yottasecond": "Ys",
    "zettasecond": "Zs",
    "exasecond": "Es",
    "petasecond": "Ps",
    "terasecond": "Ts",
    "gigasecond": "Gs",
    "hectosecond": "hs",
    "attosecond": "as",
    "zeptosecond": "zs",
    "yoctosecond": "ys",
    "megasecond": "Ms",
    "kilosecond": "ks",
    "decisecond": "ds",
    "centisecond": "cs",
    "femtosecond": "fs",
    "micrometer": "µm",
    "nanometer": "nm",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    "angstrom": "Å",
    "picometer": "pm",
    "femtometer": "fm",
    "decimeter": "dm",
    "kilometer": "km",
    "megameter": "Mm",
    "inch": "in",
    "foot": "ft",
    "yard": "yd",
    "mile": "mi",
    "parsec": "pc",
    "nanosecond": "ns",
    "picosecond": "ps",
    "second": "s",
    "millisecond": "ms",
    "microsecond": "µs",
    "minute": "min",
    "hour": "h",
    "day": "d",
}
_KNOWN = {None, *_OME_UNITS}


def save_labels_tiff(
    path: str | Path,
    labels: ArrayLike,
    axes: str,
    scale: Sequence[float] | None = None,
    units: Sequence[str | None] | None = None,
) -> Path:
    """Write labels as a calibrated TIFF; a file of that name is replaced once the new one is complete.

    Up to 65535 labels become a 16-bit ImageJ TIFF. More become a 32-bit OME-TIFF, since ImageJ knows no 32-bit
    integers. What ends in ".ome.tif" is an OME-TIFF, too, and so are labels with a step that ImageJ cannot hold, such as
    1.2e-10 meter. A unit that OME's schema does not know stands in words in the description of an OME-TIFF.

    Parameters
    ----------
    path : str or Path
        File to write.
    labels : array-like of int
        Labels >= 0; a lazy array is read plane by plane.
    axes : str
        Letters of "tzyx", in this order, one per axis of `labels`.
    scale, units : sequence, optional
        Step and OME-NGFF unit per axis.

    Raises
    ------
    ResultError
        If the labels are not integers in [0, 2**32), the axes do not fit, the file cannot be written, or its place is taken by
        what is no file.
    OutOfMemoryError
        If a plane is read from a disk and does not fit in memory.
    """
    path = Path(path)
    scale, units = check_label_axes(axes, labels.shape, scale, units=units)
    _check_plane(labels)
    largest = _largest(labels)
    wide = largest > np.iinfo(np.uint16).max
    fits = all(1 / LARGEST_STEP <= step <= LARGEST_STEP for step, axis in zip(scale, axes, strict=True) if axis in "yx")
    ome = wide or not fits or path.name.lower().endswith((".ome.tif", ".ome.tiff"))
    dtype = np.dtype(np.uint32 if wide else np.uint16)
    calibration = _ome_calibration(axes, scale, units) if ome else _imagej_calibration(axes, scale, units)
    try:
        with replacing(path) as partial:
            tifffile.imwrite(partial, _planes(labels, dtype), shape=labels.shape, dtype=dtype, **calibration)
    except OSError as exc:
        raise ResultError(f"{path} cannot be written ({exc.strerror}); choose another folder or make room.") from exc
    return path


def _check_plane(labels: ArrayLike) -> None:
    needed = 2 * prod(labels.shape[-2:]) * np.dtype(labels.dtype).itemsize  # as it is read, and as it is written
    if not in_memory(labels) and needed > free_memory():
        raise OutOfMemoryError(
            f"a plane of the labels takes {needed / 1e9:.3g} GB as TIFF, and {free_memory() / 1e9:.3g} GB are free; export "
            "them as .ome.zarr, which is written chunk by chunk."
        )


def _planes(labels: ArrayLike, dtype: npt.DTypeLike) -> Iterator[npt.NDArray[Any]]:
    for index in itertools.product(*map(range, labels.shape[:-2])):
        yield np.ascontiguousarray(labels[(*index, slice(None), slice(None))], dtype=dtype)


def _largest(labels: ArrayLike) -> int:
    check_integers(labels)
    ends = [(int(plane.min()), int(plane.max())) for plane in _planes(labels, labels.dtype)]
    return check_range(min(end[0] for end in ends), max(end[1] for end in ends))


def _imagej_calibration(axes: str, scale: Sequence[float], units: Sequence[str | None]) -> dict[str, Any]:
    step, unit = dict(zip(axes, scale, strict=True)), dict(zip(axes, units, strict=True))
    metadata: dict[str, Any] = {"axes": axes.upper(), "mode": "grayscale"}
    if unit["x"]:
        metadata["unit"] = "micron" if unit["x"] == "micrometer" else _escaped(unit["x"])
    metadata |= {f"{axis}unit": _escaped(unit[axis] or "pixel") for axis in "yz" if unit.get(axis, unit["x"]) != unit["x"]}
    if "z" in axes:
        metadata["spacing"] = step["z"]
    if "t" in axes and unit["t"]:
        metadata |= {"finterval": step["t"], "tunit": _escaped(_OME_UNITS.get(unit["t"], unit["t"]))}
    return {"imagej": True, "resolution": (1 / step["x"], 1 / step["y"]), "metadata": metadata}


def _escaped(unit: str) -> str:
    """A unit in the letters of ImageJ's description, a file of Java properties."""
    wide = unit.encode("utf-16-be", "replace")
    codes = [int.from_bytes(wide[at : at + 2]) for at in range(0, len(wide), 2)]
    return "".join(chr(code) if 32 <= code < 127 and code != ord("\\") else f"\\u{code:04x}" for code in codes)


def _ome_calibration(axes: str, scale: Sequence[float], units: Sequence[str | None]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": axes.upper()}
    foreign = [f"{axis} {step:g} {unit}" for axis, step, unit in zip(axes, scale, units, strict=True) if unit not in _KNOWN]
    if foreign:
        metadata["Description"] = f"OME knows no such unit: a step along {', along '.join(foreign)}."
    for axis, step, unit in zip(axes, scale, units, strict=True):
        key = "TimeIncrement" if axis == "t" else f"PhysicalSize{axis.upper()}"
        if unit in _OME_UNITS:
            metadata |= {key: step, f"{key}Unit": _OME_UNITS[unit]}
        elif axis != "t" and step != 1.0:
            metadata |= {key: step, f"{key}Unit": "pixel"}  # the schema's word for a length without a unit
    return {"ome": True, "bigtiff": None, "compression": "zlib", "photometric": "minisblack", "metadata": metadata}
