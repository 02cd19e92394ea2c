"""What every file of labels demands: axes out of tzyx, and integers that fit into uint32."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from napari_shiftseg.errors import ImageError, ResultError
from napari_shiftseg.io.axes import check_axes, check_scale, unit_name
from napari_shiftseg.io.view import ArrayLike

__all__ = ["check_integers", "check_label_axes", "check_range", "check_translation"]


def check_label_axes(
    axes: str, shape: Sequence[int], scale: Sequence[float] | None, units: Sequence[str | None] | None
) -> tuple[tuple[float, ...], tuple[str | None, ...]]:
    """Scale and units per axis of labels, filled up where they are not given; `ResultError` where they do not fit."""
    if axes not in ("yx", "zyx", "tyx", "tzyx"):
        raise ResultError(f'labels with axes "{axes}" cannot be written; labels have axes tzyx, zyx, tyx or yx.')
    if units is not None and len(units) != len(axes):
        raise ResultError(f'{len(units)} units were given for the axes "{axes}"; give one per axis.')
    try:
        check_axes(axes, shape)
        steps = check_scale(scale, len(axes))
    except ImageError as exc:
        raise ResultError(str(exc)) from exc
    return steps, tuple(unit_name(unit) for unit in units) if units is not None else (None,) * len(axes)


def check_translation(translation: Sequence[float], axes: str) -> tuple[float, ...]:
    """Place of the first pixel per axis, 0 where it is not given; `ResultError` where it does not fit."""
    place = tuple(float(start) for start in translation) or (0.0,) * len(axes)
    if len(place) != len(axes) or not all(math.isfinite(start) for start in place):
        raise ResultError(f'translation {place} does not fit the axes "{axes}"; give one number per axis.')
    return place


def check_integers(labels: ArrayLike) -> None:
    """Refuse labels that are not integers, and empty ones, with a `ResultError`."""
    dtype = np.dtype(labels.dtype)
    if dtype.kind not in "biu":
        raise ResultError(f"labels are integers, but these are {dtype}; give the labels, not a probability.")
    if 0 in labels.shape:
        raise ResultError(f"labels of shape {tuple(labels.shape)} are empty; there is nothing to write.")


def check_range(low: int, high: int) -> int:
    """The largest label; `ResultError` if not all of them fit into uint32."""
    if low < 0 or high >= 2**32:
        raise ResultError(f"labels run from {low} to {high}, but must lie between 0 and {2**32 - 1}; relabel them.")
    return high
