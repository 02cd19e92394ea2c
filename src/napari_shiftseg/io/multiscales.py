"""One `multiscales` entry of OME-Zarr 0.4 or 0.5: what its axes are, and where its first level lies."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import ValidationError

from napari_shiftseg.errors import ImageError
from napari_shiftseg.io.axes import named_axes, unit_name

__all__ = ["Entry", "read_entry"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What an entry says, one value per axis.

    Attributes
    ----------
    axes : str
        As `name_axes` takes them.
    units : tuple of (str or None)
    scale, translation : tuple of float
        Of the first level, those of the whole image worked in; a step may be negative or zero.
    paths : tuple of str
        Of the levels, the largest first.
    name : str
    notes : tuple of str
        Sentences on what is wrong or could not be used.
    """

    axes: str
    units: tuple[str | None, ...]
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    paths: tuple[str, ...] = ()
    name: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def bare(cls, ndim: int) -> Self:
        """Of an array that nothing describes."""
        return cls(axes="?" * ndim, units=(None,) * ndim, scale=(1.0,) * ndim, translation=(0.0,) * ndim)


def read_entry(entry: Any, version: str, name: str) -> Entry:
    """An entry, checked by the model of the specification; where only its steps are wrong, that becomes a note.

    Parameters
    ----------
    entry : JSON values
    version : str
        Of the specification.
    name : str
        How error messages call the store.

    Raises
    ------
    ImageError
        If the version is another one, or axes or levels are not usable.
    """
    from ome_zarr_models import v04, v05

    models: dict[str, Any] = {"0.4": v04.multiscales.Multiscale, "0.5": v05.multiscales.Multiscale}
    if version not in models:
        raise ImageError(f"{name} is OME-Zarr of version {version}; convert it to version 0.4 or 0.5.")
    fault = _fault(entry, models[version])
    axes = _axes(entry)
    paths = _paths(entry)
    if not axes or not paths:
        raise ImageError(f"{name} has broken OME-Zarr metadata ({fault or 'no axes or no levels'}).")
    places = [("datasets", entry["datasets"][0].get("coordinateTransformations")), ("", entry.get("coordinateTransformations"))]
    scale, translation, notes = _placed([transforms for _, transforms in places], len(axes))
    if fault and not notes:
        notes.append(f"The OME-Zarr metadata break a rule ({fault}); they were read as far as they go.")
    names, kinds, units = ([axis.get(key) for axis in axes] for key in ("name", "type", "unit"))
    given = entry.get("name")
    return Entry(
        axes=named_axes(names, kinds, units),
        units=tuple(unit_name(unit) for unit in units),
        scale=tuple(scale),
        translation=tuple(translation),
        paths=paths,
        name=given if isinstance(given, str) else "",
        notes=tuple(notes),
    )


def _fault(entry: Any, model: Any) -> str:
    """The first rule that the entry breaks, "" where it keeps them all."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the model can mend is no news for the user
            model.model_validate(entry)
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"multiscales.{where}: {first['msg']}"
    return ""


def _axes(entry: Any) -> list[dict[str, Any]]:
    """Axes that have a name each, else none."""
    axes = entry.get("axes") if isinstance(entry, dict) else None
    sound = isinstance(axes, list) and all(isinstance(axis, dict) and isinstance(axis.get("name"), str) for axis in axes)
    return list(axes) if sound and axes is not None else []


def _paths(entry: Any) -> tuple[str, ...]:
    datasets = entry.get("datasets")
    if not isinstance(datasets, list) or not all(
        isinstance(one, dict) and isinstance(one.get("path"), str) for one in datasets
    ):
        return ()
    return tuple(one["path"] for one in datasets)


def _placed(steps: Sequence[Any], ndim: int) -> tuple[list[float], list[float], list[str]]:
    """Scale and translation of transformations in the order in which they are applied, and what could not be used of them."""
    scale, translation, notes = [1.0] * ndim, [0.0] * ndim, []
    if not steps[0]:
        notes.append("The OME-Zarr metadata give no step; 1 pixel was taken.")
    for transform in (one for transforms in steps if isinstance(transforms, list) for one in transforms):
        kind = transform.get("type") if isinstance(transform, dict) else None
        vector = _vector(transform.get(kind), ndim) if kind in ("scale", "translation") else None
        if vector is None:
            if kind != "identity":
                notes.append(f"A transformation of type {kind!r} in the OME-Zarr metadata is not usable and was left out.")
        elif kind == "scale":
            scale = [step * factor for step, factor in zip(scale, vector, strict=True)]
            translation = [start * factor for start, factor in zip(translation, vector, strict=True)]
        else:
            translation = [start + shift for start, shift in zip(translation, vector, strict=True)]
    if not all(map(math.isfinite, translation)):
        notes.append("A translation in the OME-Zarr metadata is no number; 0 was taken.")
    return scale, [start if math.isfinite(start) else 0.0 for start in translation], notes


def _vector(values: Any, ndim: int) -> list[float] | None:
    if not isinstance(values, list) or len(values) != ndim:
        return None
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError):
        return None
