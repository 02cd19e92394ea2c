"""Names of image axes and of their units: one letter per axis out of "tczyx", unit names as OME-NGFF spells them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import ImageError

__all__ = ["ORDER", "SPATIAL", "check_axes", "check_scale", "guess_axes", "name_axes", "unit_name"]

ORDER = "tczyx"
"""All axes, in the order in which OME-Zarr stores them."""

SPATIAL = "zyx"

_WORDS = {"z": "depth", "t": "time", "c": "channels"}

# An unnamed leading axis up to this size is taken for channels when a further unnamed axis can be the depth.
_MOST_CHANNELS = 5

_UNITS = {
    "micrometer": ("micrometer", "micrometre", "micrometers", "micron", "microns", "um", "µm", "\u03bcm", "\\u00b5m"),
    "nanometer": ("nanometer", "nanometre", "nanometers", "nm"),
    "millimeter": ("millimeter", "millimetre", "millimeters", "mm"),
    "centimeter": ("centimeter", "centimetre", "centimeters", "cm"),
    "meter": ("meter", "metre", "meters", "m"),
    "angstrom": ("angstrom", "å", "a"),
    "inch": ("inch", "inches", "in"),
    "second": ("second", "seconds", "sec", "s"),
    "millisecond": ("millisecond", "milliseconds", "msec", "ms"),
    "microsecond": ("microsecond", "microseconds", "us", "µs", "\u03bcs"),
    "minute": ("minute", "minutes", "min"),
    "hour": ("hour", "hours", "h", "hr"),
    "day": ("day", "days", "d"),
}
_UNIT_OF = {spelling: unit for unit, spellings in _UNITS.items() for spelling in spellings}
_NO_UNIT = {"", "pixel", "pixels", "px", "voxel", "voxels", "frame", "frames", "none", "null", "reference frame"}


def unit_name(raw: object) -> str | None:
    """Name of a unit as OME-NGFF spells it, None for pixels and for no unit.

    >>> unit_name("micron"), unit_name("pixel"), unit_name("parsec")
    ('micrometer', None, 'parsec')
    """
    if raw is None:
        return None
    text = str(raw).strip()
    low = text.lower()
    return None if low in _NO_UNIT else _UNIT_OF.get(low, text)


def check_axes(axes: str, shape: Sequence[int]) -> str:
    """Axes in lower case, checked against the shape of the data.

    Raises
    ------
    ImageError
        If a letter is unknown or there twice, if y or x is missing, or if their number is not that of the data.
    """
    axes = axes.lower()
    if len(axes) != len(shape):
        raise ImageError(f'axes "{axes}" name {len(axes)} axes, but data of shape {tuple(shape)} have {len(shape)}.')
    if len(set(axes)) != len(axes) or not set(axes) <= set(ORDER) or not {"y", "x"} <= set(axes):
        raise ImageError(f'axes "{axes}" are not usable; use letters of "{ORDER}", each at most once, y and x always.')
    return axes


def check_scale(scale: Sequence[float] | None, ndim: int) -> tuple[float, ...]:
    """Size of one step on each axis, 1.0 where it is not given; ImageError for a wrong number of them or one <= 0."""
    if scale is None:
        return (1.0,) * ndim
    steps = tuple(float(step) for step in scale)
    if len(steps) != ndim or not all(math.isfinite(step) and step > 0 for step in steps):
        raise ImageError(f"scale {steps} does not fit {ndim} axes; give one positive number per axis.")
    return steps


def guess_axes(shape: Sequence[int], dtype: npt.DTypeLike) -> tuple[str, str]:
    """Likely axes of an array that does not name them.

    Returns
    -------
    tuple of str
        Axes, and a sentence on what was guessed ("" where nothing was).

    >>> guess_axes((64, 64), "uint8")
    ('yx', '')
    >>> guess_axes((64, 64, 3), "uint8")[0], guess_axes((30, 64, 64), "uint16")[0]
    ('yxc', 'zyx')
    """
    ndim = len(shape)
    if ndim < 2:
        raise ImageError(f"data of shape {tuple(shape)} are not an image; an image has at least a y and an x axis.")
    if ndim == 2:
        return "yx", ""
    if ndim in (3, 4) and shape[-1] in (3, 4) and np.dtype(dtype) == np.uint8:
        axes = "zyxc"[-ndim:]
        return axes, f'The last axis has {shape[-1]} samples and was read as colour channels: axes "{axes}".'
    letters, note = name_axes("?" * (ndim - 2) + "yx", [max(size, 2) for size in shape])  # no axis may be dropped
    return "".join(letter or "" for letter in letters), note.replace("file does", "data do")


def name_axes(raw: str, shape: Sequence[int]) -> tuple[tuple[str | None, ...], str]:
    """Axis letters for what a file says about its axes.

    Parameters
    ----------
    raw : str
        One character per axis: T, C, Z, Y, X in either case, S for colour samples, anything else for unknown.
    shape : sequence of int
        Sizes of the axes, pixels.

    Returns
    -------
    axes : tuple of (str or None)
        A letter out of "tczyx", or None for an axis of size 1 that means nothing and can be dropped.
    note : str
        A sentence on what was guessed, or "".

    Raises
    ------
    ImageError
        If more axes than five have a meaning, or if samples and channels are both there.
    """
    letters: list[str | None] = [letter.lower() if letter.lower() in ORDER else letter.upper() for letter in raw]
    if "S" in letters:
        if "c" in letters:
            channel = letters.index("c")
            if shape[channel] != 1:
                raise ImageError(
                    f"the image has {shape[channel]} channels of colour samples (axes {raw}), one axis too many; "
                    "split the channels into files, or save them without colours."
                )
            letters[channel] = None
        letters[letters.index("S")] = "c"
    unknown = []
    for index, letter in enumerate(letters):
        if letter is not None and letter not in ORDER:
            letters[index] = None
            if shape[index] > 1:
                unknown.append(index)
    guessed = _letters_for([shape[index] for index in unknown], [a for a in "tcz" if a not in letters], raw, shape)
    for index, letter in zip(unknown, guessed, strict=True):
        letters[index] = letter
    words = " and ".join(f"{shape[index]} planes as {_WORDS[letters[index] or '']}" for index in unknown)
    return tuple(letters), f"The file does not name all axes; read {words}." if unknown else ""


def _letters_for(sizes: Sequence[int], free: Sequence[str], raw: str, shape: Sequence[int]) -> tuple[str, ...]:
    if len(sizes) > len(free):
        raise ImageError(
            f'the image has axes "{raw}" of sizes {tuple(shape)}, more than the five of "{ORDER}"; '
            "save one series of it as OME-TIFF or OME-Zarr."
        )
    if len(sizes) == 1:
        return (next(letter for letter in "ztc" if letter in free),)
    if len(sizes) == 2 and len(free) == 3:
        return ("c", "z") if sizes[0] <= _MOST_CHANNELS else ("t", "z")
    return tuple(free[: len(sizes)])
