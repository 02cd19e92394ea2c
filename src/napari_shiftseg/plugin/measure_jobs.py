"""What the Measure widget computes in a thread: all objects of a layer, or those that an edit has touched."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from napari_shiftseg.errors import ResultError
from napari_shiftseg.events import Event
from napari_shiftseg.plugin.constants import HIGHLIGHTED_BYTES
from napari_shiftseg.plugin.measure_sources import Measurable
from napari_shiftseg.plugin.object_rows import Rows, rows_of_table
from napari_shiftseg.plugin.signature import KEY, PLACE
from napari_shiftseg.views import LazyArray, View

Touched = dict[tuple[int, ...], tuple[set[int], list[tuple[slice, ...]]]]
"""Per frame the numbers of objects, and boxes of the frame in which their pixels lie, those of before as well."""


def measure_layer_steps(asked: Measurable) -> Generator[Event, None, dict[str, np.ndarray]]:
    """The table of `measure` of a layer; yields its events."""
    from napari_shiftseg.analysis.measure import measure_steps

    table = yield from measure_steps(asked.labels, asked.image, **asked.options())
    return asked.named(table)


def touched_steps(asked: Measurable, touched: Touched) -> Generator[Event, None, Rows]:
    """Some objects measured anew, each of them whole, wherever its box is; those that are gone have no row."""
    from napari_shiftseg.analysis.measure import measure_steps

    options = asked.options()
    letters, looped = asked.sheet.axes, asked.sheet.looped
    tables = []
    for frame, (numbers, boxes) in touched.items():
        window = _around(boxes, asked.labels.shape[looped:])
        part = _Chosen(_window(asked.labels, (*frame, *window)), sorted(numbers))
        image = None if asked.image is None else _window(asked.image, (*frame, *window))
        given = {name: options[name][-asked.ndim :] for name in ("spacing", "units")}
        table = yield from measure_steps(part, image, axes=letters[looped:], ndim=asked.ndim, **given)
        count = len(table["label"])
        for axis, edge in enumerate(window):
            table[f"centroid-{axis}"] = table[f"centroid-{axis}"] + edge.start * table[f"spacing-{letters[looped + axis]}"]
            for corner in (axis, axis + asked.ndim):
                table[f"bbox-{corner}"] = table[f"bbox-{corner}"] + edge.start
        places = {letter: np.full(count, at, np.int64) for letter, at in zip(letters, frame, strict=False)}
        tables.append(places | asked.named(table))
    whole = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    return rows_of_table(whole, asked.sheet)


class _Chosen(LazyArray):
    """Labels of some objects alone, read where they are asked for."""

    def __init__(self, labels: Any, numbers: Sequence[int]):
        self._labels, self._numbers = labels, np.asarray(numbers, np.int64)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return tuple(self._labels.shape)

    @property
    def dtype(self) -> Any:
        """Type of one value."""
        return np.dtype(np.int64)

    def _read(self, ranges: Sequence[range]) -> np.ndarray:
        block = np.asarray(self._labels[tuple(slice(r.start, r.stop, r.step) for r in ranges)]).astype(np.int64)
        return np.where(np.isin(block, self._numbers), block, 0)


def _window(array: Any, key: tuple[Any, ...]) -> View:
    """A window of the last axes of an array; an integer takes the axis away."""
    lead = len(array.shape) - len(key)
    picks = [range(size) for size in array.shape[:lead]]
    picks += [range(part.start, part.stop) if isinstance(part, slice) else int(part) for part in key]
    return View(array, picks, [axis for axis, pick in enumerate(picks) if not isinstance(pick, int)], name="the image")


def _around(boxes: list[tuple[slice, ...]], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The smallest box around some; all, where none is known."""
    if not boxes or not prod(shape):
        return tuple(slice(0, size) for size in shape)
    ends = zip(*boxes, strict=True)
    return tuple(slice(min(edge.start for edge in edges), max(edge.stop for edge in edges)) for edges in ends)


# -- what is done with selected objects -------------------------------------------------------------------------------


def deletion_steps(
    measured: Any, numbers: dict[tuple[int, ...], list[int]]
) -> Generator[Event, None, tuple[Any, list[Any], bool]]:
    """Delete objects, one edit per frame; of a layer in memory the edits are left to be done.

    Returns the correction of the layer, the edits, and whether they are done.
    """
    from napari_shiftseg.instances import delete

    correction = _correction_of(measured.layer)
    same = correction.sheet.looped == measured.sheet.looped
    if correction.in_background and not same:
        raise ResultError("objects of single planes of a saved result cannot be deleted here; delete them in Correct.")
    edits = []
    for number, (frame, ids) in enumerate(numbers.items(), 1):
        if correction.in_background:
            edits.append(correction.delete(ids, frame))
        else:
            if not correction.sheet.looped:
                correction.table(())  # which an edit brings up to date, and which takes seconds for a large image
            edit = delete(correction.sheet.array, ids, frame=frame)
            # to a correction of whole volumes, objects of planes are pixels
            edits.append(edit if same else replace(edit, kind="paint", frame=()))
        yield Event(done=number, total=len(numbers))
    return correction, edits, correction.in_background


def undo_steps(layer: Any) -> Generator[Event, None, tuple[Any, Any]]:
    """Undo the last edit of a layer on a disk; of one in memory it is left to be undone, and None."""
    correction = _correction_of(layer)
    yield Event(done=0, total=0)
    return correction, correction.undo() if correction.in_background else None


def layer_of_steps(measured: Any, rows: np.ndarray) -> Generator[Event, None, dict[str, Any]]:
    """Data and options of a layer of some objects, with their numbers and features."""
    layer, sheet, known = measured.layer, measured.sheet, measured.rows
    array = sheet.array
    if prod(array.shape) * np.dtype(array.dtype).itemsize > HIGHLIGHTED_BYTES:
        raise ResultError(f"{layer.name} is too large to be copied; save the table of the selected objects instead.")
    made = np.zeros(array.shape, array.dtype)
    frames = np.unique(known.frames[rows], axis=0).tolist() if sheet.looped else [[]]
    for number, frame in enumerate(frames, 1):
        at = rows[(known.frames[rows] == np.asarray(frame, np.int64)).all(axis=1)]
        block = np.asarray(array[tuple(frame)] if frame else array[...])
        made[tuple(frame)] = np.where(np.isin(block, known.labels[at]), block, 0)
        yield Event(done=number, total=len(frames))
    letters = sheet.layout.replace("_", "")
    data = made.transpose([sheet.axes.index(letter) for letter in letters])
    data = data[tuple(None if letter == "_" else slice(None) for letter in sheet.layout)]
    place = {name: getattr(layer, name) for name in PLACE}
    columns = {name: values[rows] for name, values in known.columns.items()} if measured.kept is None else {}
    return {"data": data, "options": {**place, "name": f"{layer.name} selected", "features": columns}}


def save_steps(path: Path, table: dict[str, np.ndarray]) -> Generator[Event, None, Path]:
    """Write a table as its name says."""
    from napari_shiftseg.io import save_table

    yield Event(done=0, total=0)
    return save_table(path, table).absolute()


def _correction_of(layer: Any) -> Any:
    """What edits a layer; it brings PyTorch with it, and may open a store."""
    from napari_shiftseg.plugin.correction import correction_of
    from napari_shiftseg.plugin.store_correction import store_correction_of

    if isinstance(layer.data, np.ndarray):
        return correction_of(layer)
    from napari_shiftseg.io import StoredEdits

    store = (layer.metadata.get(KEY) or {}).get("store")
    if not store:
        raise ResultError(f"{layer.name} is not in memory and lies in no result of this plugin, so it cannot be edited.")
    return store_correction_of(layer) or store_correction_of(layer, StoredEdits(store))
