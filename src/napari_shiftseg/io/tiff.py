"""TIFF in: plain, ImageJ, OME and whole-slide files, with their axes and pixel sizes."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from napari_shiftseg.errors import ImageError
from napari_shiftseg.io.axes import name_axes, unit_name
from napari_shiftseg.io.frames import Image, native
from napari_shiftseg.io.view import ArrayLike, View

__all__ = ["read_tiff"]

# Up to this size a file is decoded once on opening: each strip is unpacked once however many tiles cross it, and the
# file can be closed. Larger files stay on disk.
_EAGER_BYTES = 256 << 20

# A larger pixel means that the resolution was written for a printer (72 dpi), not by a microscope.
_LARGEST_PIXEL_UM = 100.0

_ALPHA = (1, 2)  # ASSOCALPHA and UNASSALPHA in the tag ExtraSamples
_MINISWHITE, _PALETTE, _CENTIMETER = 0, 3, 3


@dataclass(frozen=True, kw_only=True)
class _Pixels:
    """Step and unit per axis letter, as far as the file knows them."""

    scale: Mapping[str, float]
    units: Mapping[str, str | None]


def read_tiff(path: Path, scene: int | None) -> Image:
    """Image number `scene` of a TIFF file, the first one when it is None.

    Raises
    ------
    ImageError
        If the scene is not there or the axes cannot be named.
    """
    with tifffile.TiffFile(path) as file:
        number, notes = _choose(file, scene, path)
        series = file.series[number]
        page = series.keyframe
        letters, guess = name_axes(series.axes, series.shape)
        alpha = _has_alpha(page, series.axes)
        notes += [guess, *_page_notes(page, dropped_alpha=alpha, imagej=file.is_imagej)]
        pixels = _pixels(file, number, page)
        data = _open(path, series, number, file.byteorder)
    data = _select(native(data, path.name), letters, drop_last_channel=alpha, name=path.name)
    axes = "".join(letter for letter in letters if letter)
    if alpha and data.ndim < len(axes):  # gray with alpha: one sample is left
        axes = axes.replace("c", "")
    return Image(
        data=data,
        axes=axes,
        scale=tuple(pixels.scale.get(axis, 1.0) for axis in axes),
        units=tuple(pixels.units.get(axis) for axis in axes),
        name=path.name.split(".")[0],
        source=str(path),
        note=" ".join(note for note in notes if note),
    )


def _choose(file: tifffile.TiffFile, scene: int | None, path: Path) -> tuple[int, list[str]]:
    count = len(file.series)
    if not count:
        raise ImageError(f"{path.name} is a TIFF file without an image.")
    if scene is not None and not 0 <= scene < count:
        raise ImageError(f"{path.name} has {count} scenes (0-{count - 1}), scene {scene} was asked for.")
    note = f"The file holds {count} images; the first was read." if scene is None and count > 1 else ""
    return scene or 0, [note]


def _has_alpha(page: Any, axes: str) -> bool:
    samples = tuple(int(sample) for sample in page.extrasamples or ())
    return "S" in axes and len(samples) == 1 and samples[0] in _ALPHA


def _page_notes(page: Any, *, dropped_alpha: bool, imagej: bool) -> list[str]:
    notes = ["The alpha channel was dropped."] if dropped_alpha else []
    # The colour tables of ImageJ are display settings of channels, and a table of grays changes nothing.
    coloured = page.photometric == _PALETTE and not imagej and not (page.colormap == page.colormap[0]).all()
    if coloured:
        notes.append("The colour table was left out: the stored values are the gray values.")
    if page.photometric == _MINISWHITE:
        notes.append("The file says that low values are bright; the stored values were kept.")
    return notes


def _open(path: Path, series: tifffile.TiffPageSeries, number: int, byteorder: str) -> ArrayLike:
    """Pixels of the series: in memory when it is small, mapped or chunked on disk when it is large."""
    if series.nbytes <= _EAGER_BYTES:
        return np.asarray(series.asarray(level=0))
    if series.dataoffset is not None and series.keyframe.is_memmappable:
        dtype = np.dtype(byteorder + np.dtype(series.dtype).str[1:])
        return np.memmap(path, dtype=dtype, mode="r", offset=series.dataoffset, shape=series.shape)
    import zarr

    # Opened anew, so that the store and not the caller's `with` owns the open file.
    store = tifffile.imread(path, aszarr=True, series=number, level=0)
    array = zarr.open_array(store, mode="r")
    weakref.finalize(array, store.close)  # the store itself leaves the file open until the interpreter complains
    return array


def _select(data: ArrayLike, letters: tuple[str | None, ...], *, drop_last_channel: bool, name: str) -> ArrayLike:
    """The data without the axes that mean nothing and without the alpha channel; untouched where nothing is to drop."""
    if None not in letters and not drop_last_channel:
        return data
    picks: list[int | range] = [range(size) if letter else 0 for letter, size in zip(letters, data.shape, strict=True)]
    if drop_last_channel:
        channel = letters.index("c")
        picks[channel] = range(data.shape[channel] - 1) if data.shape[channel] > 2 else 0
    view = View(data, picks, [axis for axis, pick in enumerate(picks) if not isinstance(pick, int)], name=name)
    return view[...] if isinstance(data, np.ndarray) and not isinstance(data, np.memmap) else view


def _pixels(file: tifffile.TiffFile, number: int, page: Any) -> _Pixels:
    if file.is_ome and file.ome_metadata:
        pixels = _ome_pixels(file.ome_metadata, number)
    elif file.is_imagej and file.imagej_metadata:
        pixels = _imagej_pixels(file.imagej_metadata, page)
    else:
        pixels = _tag_pixels(page)
    good = {axis: step for axis, step in pixels.scale.items() if math.isfinite(step) and step > 0}
    return _Pixels(scale=good, units={axis: unit for axis, unit in pixels.units.items() if axis in good})


def _ome_pixels(xml: str, number: int) -> _Pixels:
    images = ElementTree.fromstring(xml).findall("{*}Image/{*}Pixels")
    if not images:
        return _Pixels(scale={}, units={})
    attributes = images[min(number, len(images) - 1)].attrib
    scale, units = {}, {}
    for axis, key, unit in (
        *((axis, f"PhysicalSize{axis.upper()}", "µm") for axis in "zyx"),
        ("t", "TimeIncrement", "s"),
    ):
        if key in attributes:
            scale[axis] = float(attributes[key])
            units[axis] = unit_name(attributes.get(f"{key}Unit", unit))  # the OME schema's default unit
    return _Pixels(scale=scale, units=units)


def _imagej_pixels(metadata: Mapping[str, Any], page: Any) -> _Pixels:
    scale = {"z": float(metadata.get("spacing", 1.0)), "t": float(metadata.get("finterval", 1.0))}
    for axis, per_unit in zip("xy", page.resolution, strict=True):
        scale[axis] = 1 / per_unit if per_unit else 1.0
    unit = unit_name(metadata.get("unit"))
    units = {"x": unit, "y": unit_name(metadata.get("yunit", unit)), "z": unit_name(metadata.get("zunit", unit))}
    time = unit_name(metadata.get("tunit", "s")) if "finterval" in metadata else None
    return _Pixels(scale=scale, units={**units, "t": time})


def _tag_pixels(page: Any) -> _Pixels:
    if page.resolutionunit != _CENTIMETER or not all(page.resolution):
        return _Pixels(scale={}, units={})
    steps = {axis: 1e4 / per_cm for axis, per_cm in zip("xy", page.resolution, strict=True)}
    if max(steps.values()) > _LARGEST_PIXEL_UM:
        return _Pixels(scale={}, units={})
    return _Pixels(scale=steps, units=dict.fromkeys(steps, "micrometer"))
