"""Files of microscopes (CZI, ND2, LIF and others) by bioio, where it is installed; pixels are read when they are asked for."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from napari_shiftseg.errors import ImageError
from napari_shiftseg.io.axes import name_axes, steps_of, unit_name
from napari_shiftseg.io.image import Image, native
from napari_shiftseg.views import View

READERS = {"czi": "bioio_czi", "lif": "bioio_lif", "nd2": "bioio_nd2"}
"""Formats that have a reader of their own, which the extra installs; for others bioio takes what is installed."""

# These give steps in micrometers and name no unit (bioio_base.reader.Reader.physical_pixel_sizes).
_MICROMETERS = frozenset(READERS)


def read_vendor(path: Path, kind: str, scene: int | None) -> Image | None:
    """Image number `scene` of a file of this kind, the first when it is None; None where bioio or a reader is not installed.

    ImageError if the scene is not there, or the axes cannot be named.
    """
    opened = _opened(path, kind)
    if opened is None:
        return None
    names = tuple(map(str, opened.scenes))
    if scene is not None and not 0 <= scene < len(names):
        raise ImageError(f"{path.name} has {len(names)} scenes (0-{len(names) - 1}), scene {scene} was asked for.")
    opened.set_scene(scene or 0)
    data, raw = opened.dask_data, str(opened.dims.order)
    letters, guess = name_axes(raw, data.shape)
    # bioio has five axes always: what has one position and nothing to say is left out
    kept = [at for at, letter in enumerate(letters) if letter is not None and (letter in "yx" or data.shape[at] > 1)]
    axes = "".join(str(letters[at]) for at in kept)
    picks = [range(size) if at in kept else 0 for at, size in enumerate(data.shape)]
    steps = {axis: _step(opened, axis) for axis in axes}
    scale, changed = steps_of([steps[axis] or 1.0 for axis in axes], axes)
    channels = tuple(map(str, opened.channel_names or ()))
    several = f"The file holds {len(names)} images; the first was read." if scene is None and len(names) > 1 else ""
    view = View(native(data, path.name), picks, kept, name=path.name)
    return Image(
        data=view,
        axes=axes,
        scale=scale,
        units=tuple(_unit(opened, axis, kind) if steps[axis] else None for axis in axes),
        name=path.stem if len(names) == 1 else f"{path.stem}#{scene or 0}",
        source=str(path),
        note=" ".join(filter(None, (several, guess, changed))),
        channels=channels if len(channels) == dict(zip(axes, view.shape, strict=True)).get("c") else (),
        assumed=guess,
    )


def vendor_scenes(path: Path, kind: str) -> tuple[str, ...]:
    """Names of the images in a file of this kind; none where bioio is not installed."""
    opened = _opened(path, kind)
    return () if opened is None else tuple(map(str, opened.scenes))


def _opened(path: Path, kind: str) -> Any:
    """The file; None where nothing reads it."""
    try:
        bioio = import_module("bioio")
        reader = import_module(READERS[kind]).Reader if kind in READERS else None
    except ImportError:
        return None
    try:
        return bioio.BioImage(path) if reader is None else bioio.BioImage(path, reader=reader)
    except Exception as exc:
        if type(exc).__name__ == "UnsupportedFileFormatError" and reader is None:
            return None
        raise


def _step(opened: Any, axis: str) -> float | None:
    """Step along an axis, None where the file does not say."""
    found: Any = getattr(opened.scale, axis.upper(), None)
    if hasattr(found, "total_seconds"):
        return float(found.total_seconds())
    return None if found is None else float(found)


def _unit(opened: Any, axis: str, kind: str) -> str | None:
    told = getattr(getattr(opened, "dimension_properties", None), axis.upper(), None)
    unit = unit_name(getattr(told, "unit", None))
    if unit is None and axis in "zyx" and kind in _MICROMETERS:
        return "micrometer"
    return "second" if unit is None and axis == "t" else unit
