"""`measure`: features of each object in physical units, with the names that scikit-image gives them."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isclose
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from skimage.measure import regionprops_table
from skimage.morphology import convex_hull_image

from napari_shiftseg.analysis.constants import METERS, SAME_STEP
from napari_shiftseg.arguments import told
from napari_shiftseg.errors import ImageError, SettingsError
from napari_shiftseg.events import Event, Stage, WindowDone, drain
from napari_shiftseg.geometry.constants import LEAST_STEP, MOST_STEP
from napari_shiftseg.instances.parts import Part, whole_parts
from napari_shiftseg.instances.table import table_steps
from napari_shiftseg.views import ArrayLike, View, as_array

Table: TypeAlias = dict[str, npt.NDArray[Any]]

_SHAPE = ("centroid", "bbox", "equivalent_diameter_area", "axis_major_length", "axis_minor_length", "extent", "euler_number")
_PLANE = ("eccentricity", "solidity", "orientation")
_INTENSITY = ("mean_intensity", "min_intensity", "max_intensity", "std_intensity")


@told
def measure(
    labels: ArrayLike,
    image: ArrayLike | None = None,
    *,
    axes: str | None = None,
    ndim: int | None = None,
    spacing: Sequence[float] | None = None,
    units: str | Sequence[str | None] | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Table:
    """Measure all objects, each as a whole, of one frame or of each frame of a series.

    Labels are read in parts, so zarr arrays of any size will do: memory is that of a part and of the largest object.

    Parameters
    ----------
    labels : array-like
        (*shape) int, 0 is the background. Numbers may have gaps, which stay.
    image : array-like, optional
        (*shape) or (C, *shape): intensities to measure.
    axes : str, optional
        "yx", "zyx", "tyx" or "tzyx", one letter per axis; not given, "yx", "zyx" or "tzyx" by the number of axes.
    ndim : int, optional
        2 or 3: of the objects. 2 for a stack measures each plane by itself; not given, objects extend along all spatial axes.
    spacing : sequence of float, optional
        Step per axis of the labels, or per axis of an object; 1.0 if not given.
    units : str or sequence of (str or None), optional
        OME-NGFF unit of all steps, or of each, such as "micrometer". Steps in other units are converted to that of x.
    on_event : callable, optional
        Gets an event per part, of a series per frame, and again while a large one is measured.

    Returns
    -------
    dict of ndarray
        A row per object, by frame and number. "t" and "z" where they are frames (from 0); "label"; "num_pixels"; "area" (in 3D
        the volume); "unit" of all lengths, "pixel" without spacing, "unknown" where only steps are known; "spacing-y" and so
        on; then the features of `skimage.measure.regionprops_table` under its names. "centroid-0" and so on count from the
        centre of the first pixel, in the unit; "bbox-0" and so on are pixels. In 2D "eccentricity", "solidity", "orientation"
        and "perimeter", in 3D "solidity" of these. NaN is what has no value: "perimeter" where pixels are not square,
        "solidity" of a volume that lies in a plane. With an image "mean_intensity", "min_intensity", "max_intensity" and
        "std_intensity", with "-0" and so on for each channel where it has a channel axis.

    Raises
    ------
    SettingsError
        If axes, spacing or units do not fit the labels.
    ImageError
        If the labels are no integers, or negative, or the image is of another shape.

    >>> table = measure(np.array([[4, 4, 0], [0, 0, 9]]), spacing=(0.5, 0.5), units="micrometer")
    >>> table["label"].tolist(), table["num_pixels"].tolist(), table["area"].tolist(), table["unit"].tolist()
    ([4, 9], [2, 1], [0.5, 0.25], ['micrometer', 'micrometer'])
    """
    return drain(measure_steps(labels, image, axes=axes, ndim=ndim, spacing=spacing, units=units), on_event)


def measure_steps(
    labels: ArrayLike,
    image: ArrayLike | None = None,
    *,
    axes: str | None = None,
    ndim: int | None = None,
    spacing: Sequence[float] | None = None,
    units: str | Sequence[str | None] | None = None,
) -> Generator[Event, None, Table]:
    """As `measure`, in steps, after each of which it can be ended."""
    labels = as_array(labels, "the labels")
    image = None if image is None else as_array(image, "the image")
    axes, ndim = _axes(axes, tuple(labels.shape), ndim)
    steps, unit = in_one_unit(spacing, units, axes, ndim=ndim)
    channels = _channels(image, tuple(labels.shape))
    looped = len(axes) - ndim
    frames = list(itertools.product(*map(range, labels.shape[:looped])))
    yield Stage(done=0, total=len(frames) if len(frames) > 1 else 0, text="measuring")
    tables = []
    for number, frame in enumerate(frames, 1):
        rows = []
        whole = View.at(labels, dict(enumerate(frame))) if frame else labels
        found = yield from _told(table_steps(whole), None if len(frames) == 1 else Event(done=number - 1, total=len(frames)))
        for part in whole_parts(whole, found):
            values = None if image is None or channels is None else _window(image, frame, part, channels=channels)
            rows.append(_features(part, values, steps, channels=channels))
            if len(frames) == 1:
                yield WindowDone(done=part.number, total=part.total, window=part.window)
            elif part.total > 1:
                yield Event(done=number - 1, total=len(frames))
        if rows:
            place = {axis: np.int64(at) for axis, at in zip(axes, frame, strict=False)}
            tables.append(_of_frame(rows, place))
        if len(frames) > 1:
            yield WindowDone(done=number, total=len(frames), window=tuple(slice(at, at + 1) for at in frame))
    if not tables:
        tables.append(_without_objects(axes[:looped], steps, channels))
    together = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    return _described(together, axes, steps, unit=unit)


def _told(steps: Generator[Event, None, Table], instead: Event | None) -> Generator[Event, None, Table]:
    """Steps whose events are told where there are several, so that whoever waits can stop; `instead` of each, if given."""
    begun = False
    while True:
        try:
            event = next(steps)
        except StopIteration as stop:
            if begun and instead is None:
                yield Stage(done=0, total=0, text="measuring")
            table: Table = stop.value
            return table
        if event.done < event.total or begun:
            if instead is None and not begun:
                yield Stage(done=0, total=event.total, text="looking for objects")
            begun = True
            yield event if instead is None else instead


def _of_frame(parts: list[Table], place: Mapping[str, np.int64]) -> Table:
    """Objects of all parts of a frame by their numbers, with the place of the frame in front."""
    table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(table["label"], kind="stable")
    first: Table = {axis: np.full(len(order), at) for axis, at in place.items()}
    return first | {name: values[order] for name, values in table.items()}


def _axes(axes: str | None, shape: tuple[int, ...], ndim: int | None) -> tuple[str, int]:
    """Axes and number of axes of an object."""
    axes = {2: "yx", 3: "zyx", 4: "tzyx"}.get(len(shape), "") if axes is None else axes
    if axes not in ("yx", "zyx", "tyx", "tzyx") or len(axes) != len(shape):
        raise SettingsError(f'labels of shape {shape} have axes "{axes}"; give yx, zyx, tyx or tzyx, a letter per axis.')
    most = len(axes.replace("t", ""))
    if ndim is not None and not 2 <= ndim <= most:
        fits = "2 or 3" if most > 2 else "2"
        raise SettingsError(f'objects of {ndim} axes were asked for, in labels with axes "{axes}"; give {fits}.')
    return axes, most if ndim is None else ndim


def in_one_unit(
    spacing: Sequence[float] | None, units: str | Sequence[str | None] | None, axes: str, *, ndim: int
) -> tuple[tuple[float, ...], str]:
    """Step per axis of an object in one unit, and that unit.

    SettingsError if the steps are no positive numbers, or have units that cannot be brought to one.
    """
    steps = (1.0,) * ndim if spacing is None else tuple(map(float, spacing))
    names: tuple[str | None, ...] = (units,) * ndim if isinstance(units, str) or units is None else tuple(units)
    for what, given in (("spacing", steps), ("units", names)):
        if len(given) not in (ndim, len(axes)):
            raise SettingsError(f'{len(given)} values of {what} were given for the axes "{axes}"; give one per axis.')
    steps, names = steps[-ndim:], names[-ndim:]
    if not all(LEAST_STEP <= step <= MOST_STEP for step in steps):
        raise SettingsError(f"spacing {steps} was given; give a positive number per axis, {LEAST_STEP:g} to {MOST_STEP:g}.")
    if len(set(names)) == 1:
        unknown = "pixel" if set(steps) == {1.0} else "unknown"
        return _square(steps), names[0] or unknown
    if any(name not in METERS for name in names):
        found = ", ".join(f"{axis} {name or 'none'}" for axis, name in zip(axes[-ndim:], names, strict=True))
        raise SettingsError(f"the steps have units that cannot be brought to one ({found}); give spacing and one unit.")
    meters = [METERS[str(name)] for name in names]
    return _square(tuple(step * meter / meters[-1] for step, meter in zip(steps, meters, strict=True))), str(names[-1])


def _square(steps: tuple[float, ...]) -> tuple[float, ...]:
    """Steps along y that are those along x but for rounding, made so."""
    *before, y, x = steps
    return (*before, x if isclose(y, x, rel_tol=SAME_STEP) else y, x)


def _channels(image: ArrayLike | None, shape: tuple[int, ...]) -> int | None:
    """Number of channels: 0 for an image without an axis for them, None without an image."""
    if image is None:
        return None
    given = tuple(image.shape)
    if given == shape:
        return 0
    if given[1:] == shape:
        return int(given[0])
    raise ImageError(
        f"an image of shape {given} does not belong to labels of shape {shape}; give the image that was segmented."
    )


def _window(image: ArrayLike, frame: tuple[int, ...], part: Part, *, channels: int) -> npt.NDArray[Any]:
    """Intensities of a part, channels last."""
    key = (*((slice(None),) if channels else ()), *frame, *part.window)
    values = np.asarray(image[key])
    if values.dtype.kind == "b" or values.dtype.newbyteorder("=") == np.float16:  # which scikit-image does not average exactly
        values = values.astype(np.float32)
    return np.moveaxis(values, 0, -1) if channels else values


def _features(part: Part, values: npt.NDArray[Any] | None, steps: tuple[float, ...], *, channels: int | None) -> Table:
    """Features of the objects of a part, numbers and places those of the image."""
    names = ["label", "num_pixels", "area", *_SHAPE, *(_PLANE if len(steps) == 2 else ())]
    names += ["perimeter"] if len(steps) == 2 and steps[0] == steps[1] else []
    names += [] if values is None else _INTENSITY
    with _uncollected():
        found: Table = regionprops_table(
            part.places,
            intensity_image=values,
            properties=names,
            spacing=steps,
            extra_properties=[_filling] if len(steps) == 3 else None,
        )
    if "_filling" in found:
        found["solidity"] = found.pop("_filling")
    found["label"] = part.index[found["label"] - 1]
    for axis, (first, step) in enumerate(zip(part.first.tolist(), steps, strict=True)):
        found[f"centroid-{axis}"] = found[f"centroid-{axis}"] + first * step
        for corner in (axis, axis + len(steps)):
            found[f"bbox-{corner}"] = found[f"bbox-{corner}"] + first
    if len(steps) == 2 and "perimeter" not in found:
        found["perimeter"] = np.full(len(found["label"]), np.nan)
    return found


_collector, _LOCK = {"users": 0, "on": False}, Lock()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep Python's collector of cycles from looking at what scikit-image makes for each object, and frees by itself.

    It would take so many new things for a reason to look at all that is loaded, for a quarter of a second in which no thread
    runs, that of a window neither.
    """
    with _LOCK:
        if not _collector["users"]:
            _collector["on"] = gc.isenabled()
            gc.disable()
        _collector["users"] += 1
    try:
        yield
    finally:
        with _LOCK:
            _collector["users"] -= 1
            if not _collector["users"] and _collector["on"]:
                gc.enable()


def _filling(mask: npt.NDArray[np.bool_]) -> float:
    """Pixels of a volume against those of its convex hull; NaN where it lies in a plane, which has no hull."""
    places = np.argwhere(mask)
    if np.linalg.matrix_rank(places - places[0]) < mask.ndim:
        return float("nan")
    return float(mask.sum() / convex_hull_image(mask).sum())


def _without_objects(looped: str, steps: tuple[float, ...], channels: int | None) -> Table:
    """All columns, of no rows."""
    shape = (3,) * len(steps)
    places = np.zeros(shape, np.int32)
    places[(1,) * len(steps)] = 1
    part = Part(number=1, total=1, window=tuple(slice(0, size) for size in shape), index=np.array([1], np.int64), places=places)
    values = None if channels is None else np.zeros((*shape, channels) if channels else shape, np.float32)
    found = dict.fromkeys(looped, np.zeros(0, np.int64)) | _features(part, values, steps, channels=channels)
    return {name: column[:0] for name, column in found.items()}


def _described(table: Table, axes: str, steps: tuple[float, ...], *, unit: str) -> Table:
    """The table with unit and spacing in columns of their own, behind the size."""
    count = len(table["label"])
    told: Table = {"unit": np.full(count, unit)}
    told |= {f"spacing-{axis}": np.full(count, step) for axis, step in zip(axes[-len(steps) :], steps, strict=True)}
    names = [*axes[: len(axes) - len(steps)], "label", "num_pixels", "area"]
    return {name: table[name] for name in names} | told | {name: column for name, column in table.items() if name not in names}
