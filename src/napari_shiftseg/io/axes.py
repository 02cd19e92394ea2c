"""Names of image axes and of their units, and what they and the numbers have to be in a file of labels.

One letter per axis out of "tczyx", unit names as OME-NGFF spells them; labels have axes out of "tzyx" and fit into uint32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import ImageError, ResultError
from napari_shiftseg.geometry.constants import LEAST_STEP, MOST_STEP
from napari_shiftseg.io.constants import LARGEST_LABEL, MOST_CHANNELS
from napari_shiftseg.views import ArrayLike

ORDER = "tczyx"
"""All axes, in the order in which OME-Zarr stores them."""

SPATIAL = "zyx"

_WORDS = {"z": "depth", "t": "time", "c": "channels"}

_NAMES = {
    "t": ("t", "time", "times", "frame", "frames", "timepoint", "timepoints"),
    "c": ("c", "ch", "channel", "channels"),
    "z": ("z", "depth", "plane", "planes", "slice", "slices"),
    "y": ("y", "row", "rows"),
    "x": ("x", "col", "cols", "column", "columns"),
}
_LETTER_OF = {name: letter for letter, names in _NAMES.items() for name in names}

# What the letter of an axis measures: a step is kept when an axis gets another letter of the same kind.
_KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}

_UNITS = {
    "picometer": ("picometer", "picometre", "picometers"),
    "femtometer": ("femtometer", "femtometre", "femtometers"),
    "decimeter": ("decimeter", "decimetre", "decimeters", "dm"),
    "kilometer": ("kilometer", "kilometre", "kilometers", "km"),
    "foot": ("foot", "feet", "ft"),
    "yard": ("yard", "yards", "yd"),
    "mile": ("mile", "miles", "mi"),
    "nanosecond": ("nanosecond", "nanoseconds", "ns"),
    "picosecond": ("picosecond", "picoseconds"),
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
# Where the case decides: a megameter is no millimeter.
_EXACT = {
    "Mm": "megameter", "Gm": "gigameter", "Tm": "terameter", "Pm": "petameter", "Em": "exameter", "Zm": "zettameter",
    "Ym": "yottameter", "pm": "picometer", "fm": "femtometer", "am": "attometer", "zm": "zeptometer", "ym": "yoctometer",
    "hm": "hectometer", "pc": "parsec", "Ms": "megasecond", "Gs": "gigasecond", "ps": "picosecond", "fs": "femtosecond",
    "ks": "kilosecond", "Ts": "terasecond", "Ps": "petasecond", "Es": "exasecond", "Zs": "zettasecond", "Ys": "yottasecond",
    "hs": "hectosecond", "ds": "decisecond", "cs": "centisecond", "as": "attosecond", "zs": "zeptosecond", "ys": "yoctosecond",
}  # fmt: skip
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
    return None if low in _NO_UNIT else _EXACT.get(text) or _UNIT_OF.get(low, text)


def axis_letter(name: object, kind: object = None, unit: object = None) -> str:
    """Letter out of "tczyx" that the name, kind ("time", "channel", "space") and unit of an axis stand for, "?" for none.

    The kind is believed before the name: an axis "c" of space is no channel.

    >>> axis_letter("Time"), axis_letter("phase", "time"), axis_letter("c", "space"), axis_letter("q", unit="ms")
    ('t', 't', '?', 't')
    """
    letter = _LETTER_OF.get(str(name).strip().lower(), "?") if name is not None else "?"
    if kind in ("time", "channel"):
        return "t" if kind == "time" else "c"
    if kind is not None:
        return letter if kind == "space" and letter in SPATIAL else "?"
    return "t" if letter == "?" and (unit_name(unit) or "").endswith(("second", "minute", "hour", "day")) else letter


def named_axes(names: Sequence[object], kinds: Sequence[object], units: Sequence[object]) -> str:
    """A character per axis, as `name_axes` takes them, from what OME-Zarr and zarr say of axes.

    Axes of space with unusual names are (z,) y, x in their order, as far as these letters are free. A letter that two axes
    ask for is given to neither.

    >>> named_axes(["c", "b", "a"], ["space"] * 3, [None] * 3), named_axes(["y", "x", "s"], [None] * 3, [None] * 3)
    ('zyx', 'yx?')
    """
    letters = [axis_letter(*axis) for axis in zip(names, kinds, units, strict=True)]
    letters = [letter if letters.count(letter) == 1 else "?" for letter in letters]
    open_space = [axis for axis, kind in enumerate(kinds) if kind == "space" and letters[axis] == "?"]
    free = [letter for letter in SPATIAL if letter not in letters]
    for axis, letter in zip(reversed(open_space), reversed(free), strict=False):
        letters[axis] = letter
    return "".join(letters)


def renamed(before: str, after: str) -> list[bool]:
    """Per axis, whether its step and unit still hold when `before` is called `after`: it measures the same kind of thing."""
    return [_KINDS[old] == _KINDS[new] for old, new in zip(before, after, strict=True)]


def steps_of(given: Sequence[float], axes: str) -> tuple[tuple[float, ...], str]:
    """Steps as an image can have them, and a sentence on what was changed ("" where nothing was).

    >>> steps_of((-0.5, 0.25), "zx")
    ((0.5, 0.25), 'The step on z is given as -0.5; 0.5 was taken.')
    """
    steps, notes = [], []
    for value, axis in zip(given, axes, strict=True):
        usable = LEAST_STEP <= abs(value) <= MOST_STEP
        step = abs(value) if usable else 1.0
        if step != value:
            taken = f"{step:g} was taken" if usable else "1 pixel was taken"
            notes.append(f"The step on {axis} is given as {value:g}; {taken}.")
        steps.append(step)
    return tuple(steps), " ".join(notes)


def check_axes(axes: str, shape: Sequence[int]) -> str:
    """Axes in lower case, checked against the shape of the data.

    ImageError if a letter is unknown or there twice, if y or x is missing, or if their number is not that of the data.
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
    if len(steps) != ndim or not all(LEAST_STEP <= step <= MOST_STEP for step in steps):
        raise ImageError(
            f"scale {steps} does not fit {ndim} axes; give one positive number per axis, {LEAST_STEP:g} to {MOST_STEP:g}."
        )
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

    ImageError if more axes than five have a meaning, or if samples and channels are both there.

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
    guessed = _letters_for([shape[index] for index in unknown], [a for a in "tcz" if a not in letters], raw, shape=shape)
    for index, letter in zip(unknown, guessed, strict=True):
        letters[index] = letter
    words = " and ".join(f"{shape[index]} planes as {_WORDS[letters[index] or '']}" for index in unknown)
    return tuple(letters), f"The file does not name all axes; read {words}." if unknown else ""


def _letters_for(sizes: Sequence[int], free: Sequence[str], raw: str, *, shape: Sequence[int]) -> tuple[str, ...]:
    if len(sizes) > len(free):
        raise ImageError(
            f'the image has axes "{raw}" of sizes {tuple(shape)}, more than the five of "{ORDER}"; '
            "save one series of it as OME-TIFF or OME-Zarr."
        )
    if len(sizes) == 1:
        return (next(letter for letter in "ztc" if letter in free),)
    if len(sizes) == 2 and len(free) == 3:
        return ("c", "z") if sizes[0] <= MOST_CHANNELS else ("t", "z")
    return tuple(free[: len(sizes)])


def check_label_axes(
    axes: str, shape: Sequence[int], scale: Sequence[float] | None, *, units: Sequence[str | None] | None
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
    if low < 0 or high > LARGEST_LABEL:
        raise ResultError(f"labels run from {low} to {high}, but must lie between 0 and {LARGEST_LABEL}; relabel them.")
    return high
