"""`Measured`: a labels layer with measurements in its features, which follow edits; it lives as long as the layer."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels
from qtpy.QtCore import QTimer

from napari_shiftseg.errors import ResultError
from napari_shiftseg.plugin.constants import MOST_FEATURES
from napari_shiftseg.plugin.edited import follow_edits
from napari_shiftseg.plugin.jobs import End, Job, sentence, start_job
from napari_shiftseg.plugin.measure_jobs import Touched, touched_steps
from napari_shiftseg.plugin.measure_sources import Measurable, measurable
from napari_shiftseg.plugin.object_rows import (
    Rows,
    joined,
    measured_columns,
    measured_names,
    replaced,
    rows_of,
    rows_of_table,
    without_measured,
)
from napari_shiftseg.plugin.sheet import Sheet
from napari_shiftseg.plugin.signature import put_features

_KNOWN: WeakKeyDictionary[Labels, "Measured"] = WeakKeyDictionary()


def measured_of(layer: Labels) -> "Measured":
    """What is measured of a layer, begun where there is nothing yet."""
    if layer not in _KNOWN:
        _KNOWN[layer] = Measured(layer)
    return _KNOWN[layer]


class Measured:
    """Objects of a layer and what is known of them.

    Attributes
    ----------
    kept : dict of ndarray or None
        The measurements, where they cannot be features: these are a table of the user, or there are very many.
    changed : list of callable
        Called without anything when rows, or what is said of them, are other ones.
    note : str
        What became of the measurements that the user should know, "".
    jobs : list of Job
        What is measured anew after edits.
    """

    def __init__(self, layer: Labels):
        self._layer = ref(layer)  # the layer is a key of the table that holds this
        self._looped = Sheet(layer).looped
        self.kept: dict[str, np.ndarray] | None = None
        self.changed: list[Callable[[], None]] = []
        self.note = ""
        self.jobs: list[Job] = []
        self._images: list[ref[ImageLayer]] | None = None  # None: not measured here
        self._planes, self._asked = False, False  # whether a job measures the layer as a whole
        self._touched: Touched = {}
        self._stroked: Touched = {}
        self._history = _lengths(layer)
        self._types: dict[str, np.dtype] = {}  # of the columns of measurements, in their order
        self._rows: Rows | None = None
        self._seen: tuple[Any, ...] = ()
        events = layer.events
        events.paint.connect(self._on_paint)
        events.data.connect(self._on_data)
        events.features.connect(self._on_features)
        events.set_data.connect(self._on_drawn)
        follow_edits(layer, self._on_edit)

    @property
    def layer(self) -> Labels:
        """The layer."""
        layer = self._layer()
        assert layer is not None
        return layer

    @property
    def sheet(self) -> Sheet:
        """Axes of the labels; which of them are frames is as it was measured."""
        sheet = Sheet(self.layer)
        sheet.looped = self._looped
        return sheet

    @property
    def rows(self) -> Rows:
        """What is known of the objects."""
        features = self.layer.features  # a script may put a column there without saying so
        seen = (id(features), *features.columns)
        if self._rows is None or seen != self._seen:
            table, self._seen = self.kept, seen
            self._rows = rows_of(self.layer.features, self.sheet) if table is None else rows_of_table(table, self.sheet)
        return self._rows

    @property
    def is_measured(self) -> bool:
        """Whether `measure` said something of the objects."""
        return self.kept is not None or bool(measured_columns(self.layer.features.columns))

    def table(self, chosen: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The measurements as `measure` gives them, and the user's columns behind them; of the rows `chosen`, or of all."""
        there, features = self.rows.columns, self.layer.features
        names = {name: name for name in self._types} if self.kept is not None else measured_names(features, self._types)
        whole = {name: there[found] for name, found in names.items() if found in there}
        if self.kept is None:
            whole |= {name: there[name] for name in without_measured(features) if name in there and name != "index"}
        at = np.arange(len(self.rows)) if chosen is None else chosen
        at = at[[isinstance(unit, str) for unit in whole["unit"][at]]]  # a row of the user alone is of no object
        return {name: _plain(values[at], self._types.get(name)) for name, values in whole.items()}

    def ask(self, images: Sequence[ImageLayer], *, planes: bool) -> Measurable:
        """What is to be measured of the layer, for a job; what is edited meanwhile is measured again afterwards."""
        self._asked = True
        self._touched.clear()
        return measurable(self.layer, images, planes=planes)

    def put(self, table: dict[str, np.ndarray], asked: Measurable, images: Sequence[ImageLayer]) -> None:
        """Take what was measured; ResultError where the labels were replaced since they were asked for."""
        if not self._asked:
            raise ResultError(f"the labels of {self.layer.name} were replaced while they were measured; measure them again.")
        self._asked = False
        self._looped, self._types = asked.sheet.looped, {name: values.dtype for name, values in table.items()}
        self._images, self._planes = [ref(image) for image in images], asked.sheet.looped > Sheet(self.layer).looped
        features = None
        if len(table["label"]) <= MOST_FEATURES:
            features = joined(self.layer.features, table, looped=bool(self.sheet.looped))
        self.kept = table if features is None else None
        self.note = "" if features is not None else _why_kept(len(table["label"]))
        if features is None:
            self._rows = None
            self._tell()
        else:
            self._put_features(features)
        QTimer.singleShot(0, self._measure_touched)

    # -- edits --------------------------------------------------------------------------------------------------------

    def _on_paint(self, event: Any) -> None:
        """Pixels of a layer were painted, also by a correction."""
        from napari_shiftseg.plugin.strokes import painted

        edit = painted(event.value, self.sheet)
        if edit is not None:
            self._note_edit(edit, self._stroked)
            self._on_edit(edit)
        self._history = _lengths(self.layer)

    def _on_edit(self, edit: Any) -> None:
        if not self._asked and (self._images is None or not self.is_measured):
            if self.is_measured:  # elsewhere: in an earlier session, or of the layer that this one is a copy of
                self.note = "The labels were edited since they were measured; measure them again."
                self._tell()
            return
        self._note_edit(edit, self._touched)
        QTimer.singleShot(0, self._measure_touched)

    def _on_drawn(self, _: Any) -> None:
        """Napari's own undo tells nobody; it draws the layer anew, and its histories have other lengths."""
        self._show_frame()
        lengths = _lengths(self.layer)
        if lengths != self._history and any(lengths) and self._stroked and self._images is not None:
            for frame, (numbers, boxes) in self._stroked.items():
                mine = self._touched.setdefault(frame, (set(), []))
                mine[0].update(numbers)
                mine[1].extend(boxes)
            QTimer.singleShot(0, self._measure_touched)
        self._history = lengths

    def _note_edit(self, edit: Any, touched: Touched) -> None:
        looped = self.sheet.looped
        for frame in product(*(range(edge.start, edge.stop) for edge in edit.window[:looped])):
            numbers, boxes = touched.setdefault(frame, (set(), []))
            numbers.update({*edit.ids, *edit.made})
            boxes.append(tuple(edit.window[looped:]))
            boxes.extend(self._boxes(frame, {*edit.ids, *edit.made}))

    def _boxes(self, frame: tuple[int, ...], numbers: set[int]) -> list[tuple[slice, ...]]:
        """Where objects lay when they were measured."""
        rows, ndim = self.rows, len(self.sheet.axes) - self.sheet.looped
        names = [f"bbox-{at}" for at in range(2 * ndim)]
        if not set(names) <= set(rows.columns):
            return []
        at = rows.in_frame(frame)
        at = at[np.isin(rows.labels[at], list(numbers))]
        corners = np.stack([rows.values(name)[at] for name in names], axis=1)
        corners = corners[np.isfinite(corners).all(axis=1)].astype(int)
        return [tuple(slice(int(row[axis]), int(row[axis + ndim])) for axis in range(ndim)) for row in corners]

    def _measure_touched(self) -> None:
        layer = self._layer()
        if not self._touched or self.jobs or layer is None or self._images is None or self._asked:
            return
        images = [image for held in self._images if (image := held()) is not None]
        touched, self._touched = self._touched, {}
        for frame, (numbers, boxes) in touched.items():  # where they are by now, if they were measured since
            boxes.extend(self._boxes(frame, numbers))
        asked = measurable(layer, images, planes=self._planes)
        self.jobs.append(start_job(partial(touched_steps, asked, touched), on_end=partial(self._on_measured, touched)))

    def _on_measured(self, touched: Touched, end: End) -> None:
        self.jobs.clear()
        if self._layer() is None:
            return
        if end.state == "error":
            self.note = f"What was edited could not be measured: {sentence(end.value)}"
        if end.state == "done" and self.is_measured and not self._put_rows(end.value, touched):
            self.note = "The table of the layer is another one now; measure again."
        if end.state != "done":
            self._tell()
        QTimer.singleShot(0, self._measure_touched)  # what was edited meanwhile

    def _put_rows(self, rows: Rows, touched: Touched) -> bool:
        pairs = [(frame, number) for frame, (numbers, _) in touched.items() for number in numbers]
        frames = np.array([frame for frame, _ in pairs], np.int64).reshape(len(pairs), self.sheet.looped)
        numbers = np.array([number for _, number in pairs], np.int64)
        if self.kept is not None:
            frame = type(self.layer.features)  # the kind of table that napari has
            self.kept = replaced(frame(self.kept), rows, (frames, numbers))
            self._rows = None
            self._tell()
            return True
        features = self.layer.features
        if not self.sheet.looped and "index" not in features:
            return False
        self._put_features(replaced(features, rows, (frames, numbers)))
        return True

    def _on_data(self, _: Any) -> None:
        """Other pixels have come as a whole; once all is in its place, what was measured of the old ones goes."""
        self._touched.clear()
        self._stroked.clear()
        self._asked = False
        if self._images is not None and (self.kept is not None or self.is_measured):
            QTimer.singleShot(0, self._forget)

    def _forget(self) -> None:
        layer = self._layer()
        if layer is None or self._images is None:
            return
        self._images, self.kept = None, None
        self.note = "The labels were replaced; measure them again."
        if measured_columns(layer.features.columns):
            self._put_features(without_measured(layer.features))
        else:
            self._rows = None
            self._tell()

    # -- features -----------------------------------------------------------------------------------------------------

    def _put_features(self, features: dict[str, np.ndarray]) -> None:
        put_features(self.layer, features)

    def _on_features(self, _: Any) -> None:
        self._rows = None
        self._show_frame()
        self._tell()

    def _show_frame(self) -> None:
        """Have napari's status line say what is known of the objects of the frame that is shown.

        It looks rows up by their number alone, which means another object in each frame.
        """
        layer = self.layer
        if self.sheet.looped and self.kept is None and measured_columns(layer.features.columns):
            frame = shown_frame(layer, self.sheet)
            at = [] if frame is None else self.rows.in_frame(frame).tolist()
            layer._label_index = {int(self.rows.labels[row]): row for row in at}

    def close(self) -> None:
        """Measure nothing more."""
        for job in self.jobs:
            job.cancel()

    def _tell(self) -> None:
        for callback in tuple(self.changed):
            callback()


def shown_frame(layer: Labels, sheet: Sheet) -> tuple[int, ...] | None:
    """The frame of a layer that napari shows; None where it does not say."""
    shown = getattr(getattr(layer, "_slice_input", None), "world_slice", None)
    if shown is None:
        return None
    at = layer.world_to_data(np.asarray(shown.point, float)[-layer.ndim :])
    return tuple(round(float(place)) for place in sheet.from_layer(at)[: sheet.looped])


def _lengths(layer: Labels) -> tuple[int, int]:
    """How many strokes napari could undo, and do again."""
    return len(getattr(layer, "_undo_history", ())), len(getattr(layer, "_redo_history", ()))


def _plain(values: np.ndarray, kind: np.dtype | None) -> np.ndarray:
    """A column as it was measured; of objects that of the user as the text or the numbers that it holds."""
    if kind is not None and kind.kind in "iu" and values.dtype.kind == "f" and np.isfinite(values).all():
        return values.astype(kind)
    if values.dtype != object:
        return values
    if all(isinstance(value, str) for value in values):
        return values.astype(str)
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        return np.array(["" if value is None or value != value else str(value) for value in values])


def _why_kept(count: int) -> str:
    if count > MOST_FEATURES:
        return f"{count:,} objects are more than napari's table shows well; they are here, and in what is saved."
    return (
        "The layer has a table of its own whose rows are no objects of frames; the measurements are here, and in what is saved."
    )
