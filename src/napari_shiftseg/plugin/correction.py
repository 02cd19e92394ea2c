"""`Correction`: a labels layer that is corrected by hand, with a history of its own that holds painting as well."""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import QTimer

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.instances import Edit, block_table, delete, merge, object_table, split, whole_table
from napari_shiftseg.instances.constants import TABLE_PIXELS
from napari_shiftseg.instances.table import summed
from napari_shiftseg.io.stored_edits import has_offsets
from napari_shiftseg.plugin.constants import MOST_FEATURES
from napari_shiftseg.plugin.edited import EDITED, edits_of
from napari_shiftseg.plugin.layers import KEY
from napari_shiftseg.plugin.object_rows import measured_columns
from napari_shiftseg.plugin.replacement import forget_strokes
from napari_shiftseg.plugin.sheet import Sheet
from napari_shiftseg.plugin.signature import ACCEPTED
from napari_shiftseg.plugin.strokes import painted

_KNOWN: WeakKeyDictionary[Labels, "Correction"] = WeakKeyDictionary()


def correction_of(layer: Labels) -> "Correction":
    """The correction of a layer, begun where there is none; it lives as long as the layer, whatever widget is open."""
    if layer not in _KNOWN:
        _KNOWN[layer] = Correction(layer)
    return _KNOWN[layer]


class Correction:
    """Edits of the labels of a layer in memory, each of which can be undone whatever came between.

    What is painted with napari's tools becomes part of the history, in the order in which it was done; napari's own is emptied,
    since it would bring back pixels that were corrected meanwhile.

    Attributes
    ----------
    layer : Labels
        The layer.
    sheet : Sheet
        Its pixels with frames in front.
    undone : list of Edit
        What can be done again, the next one at the end.
    changed : callable or None
        Called after each change.
    """

    in_background = False

    def __init__(self, layer: Labels):
        self.layer, self.sheet = layer, Sheet(layer)
        self._edits: list[Edit] = []
        self._painted: list[Edit] = []  # what napari has said it paints, and may not have written yet
        self.undone: list[Edit] = []
        self.changed: Callable[[], None] | None = None
        self.subject: Any = None  # the run that the labels came from, as far as it is known
        self._before = edits_of(layer)  # of an earlier session
        self._tables: dict[tuple[int, ...], dict[str, np.ndarray]] = {}
        self._rows: dict[tuple[Edit, tuple[int, ...]], tuple[dict[str, np.ndarray], dict[str, np.ndarray]]] = {}
        self._highest = 0  # number that any object ever had
        self._shape = np.shape(self.sheet.array)
        self._writing = False
        layer.events.paint.connect(self._on_paint)
        layer.events.data.connect(self._on_data)

    @property
    def edits(self) -> list[Edit]:
        """What was done, the last edit at the end."""
        self._take_painted()
        return self._edits

    # -- what is known ------------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Edits of the labels, those of earlier sessions as well."""
        return len(self._before) + len(self.edits)

    @property
    def accepted(self) -> bool:
        """Whether the layer is the user's."""
        known = self.layer.metadata.get(KEY)
        return not isinstance(known, dict) or "role" not in known

    def table(self, frame: tuple[int, ...]) -> dict[str, np.ndarray]:
        """Size and place of the objects of a frame, as `object_table` gives them."""
        if frame not in self._tables:
            labels = self.sheet.array[frame]
            known = self._shown_table(labels) if not self.sheet.looped else None
            self._tables[frame] = object_table(_positive(labels), self._seams()) if known is None else known
        return self._tables[frame]

    def objects(self, frame: tuple[int, ...]) -> int | None:
        """How many objects a frame has; None where that would take long, and `table` has to be asked in a thread."""
        known = frame in self._tables or self.sheet.array[frame].size <= TABLE_PIXELS
        return len(self.table(frame)["index"]) if known else None

    # -- verbs --------------------------------------------------------------------------------------------------------

    def accept(self) -> None:
        """Make the layer the user's: no run, tuning or replacement finds it any more; its metadata say from what it came."""
        if not self.accepted:
            accept_layer(self.layer)
            self._tell()

    def merge(self, ids: Sequence[int], frame: tuple[int, ...]) -> Edit:
        """Make objects of a frame one, with the number of the first."""
        return self._do(merge(self._array(), ids, frame=frame))

    def delete(self, ids: int | Sequence[int], frame: tuple[int, ...]) -> Edit:
        """Make an object of a frame, or several in one step, background."""
        return self._do(delete(self._array(), ids, frame=frame))

    def perform(self, edit: Edit) -> Edit:
        """Do an edit that was made elsewhere, such as in a thread; SettingsError where its pixels were changed since."""
        edit.check(self._array())
        return self._do(edit)

    def split(self, number: int, frame: tuple[int, ...], embedding: Any = None, **wish: Any) -> Edit:
        """Split an object of a frame; `wish` as of `instances.split`."""
        array = self._array()
        self._highest = max(self._highest, int(array.max(initial=0)))
        fits = self._highest < np.iinfo(array.dtype).max
        record = (self.layer.metadata.get(KEY) or {}).get("record") or {}
        wish |= {"first": self._highest + 1 if fits else None, "spacing": self.sheet.steps(), "offsets": has_offsets(record)}
        return self._do(split(array, number, embedding, frame=frame, **wish))

    def undo(self) -> Edit:
        """Take the last edit back, painting as well; SettingsError where its pixels were changed since by something else."""
        if not self.edits:
            raise SettingsError("nothing is left to undo; what was done before this session stays.")
        edit = self.edits[-1]
        edit.check(self._array(), undo=True)
        self._put(edit, edit.before)
        self.undone.append(self.edits.pop())
        self._follow(edit, done=False)
        return edit

    def redo(self) -> Edit:
        """Do again what was undone last; errors as of `undo`."""
        self._take_painted()  # after which there is nothing to do again
        if not self.undone:
            raise SettingsError("nothing was undone; there is nothing to do again.")
        edit = self.undone[-1]
        edit.check(self._array())
        self._put(edit, edit.after)
        self.edits.append(self.undone.pop())
        self._follow(edit)
        return edit

    def after(self, edit: Edit) -> None:
        """Nothing is left to do: it was shown as it was done."""

    # -- pixels -------------------------------------------------------------------------------------------------------

    def _array(self) -> np.ndarray:
        """The pixels, which may be written to."""
        self._take_painted()
        if not self.sheet.in_memory:
            raise SettingsError(f"the pixels of {self.layer.name} are not in memory; save it as labels and open that.")
        if not self.layer.editable or getattr(self.layer, "locked", False):
            raise SettingsError(f"the layer {self.layer.name} is locked; unlock it in the layer list first.")
        return self.sheet.array

    def _do(self, edit: Edit) -> Edit:
        self._highest = max(self._highest, *edit.ids, *edit.made)
        self._put(edit, edit.after)
        self._keep(edit)
        return edit

    def _put(self, edit: Edit, values: np.ndarray) -> None:
        self._writing = True
        try:
            places = self.sheet.in_layer(edit.indices())
            if self.layer.visible:
                self.layer.data_setitem(places, values)  # which draws the part that changed
            else:  # of a hidden layer napari knows no picture of now, into which it would draw
                self.layer.data[places] = values
        finally:
            self._writing = False
        forget_strokes(self.layer)

    def _on_paint(self, event: Any) -> None:
        if self._writing or not self.sheet.in_memory:
            return
        edit = painted(event.value, self.sheet)
        forget_strokes(self.layer)  # our history has it now
        if edit is not None:
            self._painted.append(edit)
            QTimer.singleShot(0, self._take_painted)  # when it is written

    def _take_painted(self) -> None:
        """Put what was painted into the history."""
        edits, self._painted = self._painted, []
        for edit in edits:
            self._highest = max(self._highest, *edit.made, *edit.ids, 0)
            self._keep(edit)

    def _on_data(self, _: Any) -> None:
        """Other pixels have come: of another shape they have no history; else each edit is compared before it is undone."""
        self._tables.clear()
        self._rows.clear()
        if np.shape(self.sheet.array) != self._shape:
            for kept in (self._edits, self.undone, self._painted):
                kept.clear()
            self._shape = np.shape(self.sheet.array)
        if self.changed is not None:
            self.changed()

    # -- what goes with the pixels ------------------------------------------------------------------------------------

    def _keep(self, edit: Edit) -> None:
        self._edits.append(edit)
        self.undone.clear()
        self._follow(edit)

    def _follow(self, edit: Edit, *, done: bool = True) -> None:
        """Bring table, features, metadata and name up to date."""
        for frame in [edit.frame] if edit.kind != "paint" else list(self._tables):
            if frame in self._tables:
                self._replace_rows(edit, frame, done=done)
        self._show_features(edit)
        self._tell()

    def _replace_rows(self, edit: Edit, frame: tuple[int, ...], *, done: bool) -> None:
        """The rows of the objects of an edit: measured when it is done first, then those of before and after it."""
        table, touched = self._tables[frame], np.array(sorted({*edit.ids, *edit.made}), np.int64)
        rows = np.isin(table["index"], touched)
        if (edit, frame) not in self._rows:
            before = {name: values[rows] for name, values in table.items()}
            after = self._measured(edit, frame, before, touched=touched)
            self._rows[edit, frame] = before, after
        new = self._rows[edit, frame][int(done)]
        joined = {name: np.concatenate([values[~rows], new[name].astype(values.dtype)]) for name, values in table.items()}
        order = np.argsort(joined["index"], kind="stable")
        self._tables[frame] = {name: values[order] for name, values in joined.items()}

    def _measured(
        self, edit: Edit, frame: tuple[int, ...], before: dict[str, np.ndarray], *, touched: np.ndarray
    ) -> dict[str, np.ndarray]:
        if edit.kind == "delete":
            return {name: values[:0] for name, values in before.items()}
        if edit.kind == "merge":  # they may lie far apart, and pixels between them are of no concern
            return summed(before, edit.ids[0])
        depth = len(frame)
        names = "zyx"[-(len(self.sheet.axes) - depth) :]
        ends = [
            (min([edge.start, *before[f"first_{name}"].tolist()]), max([edge.stop, *(before[f"last_{name}"] + 1).tolist()]))
            for edge, name in zip(edit.window[depth:], names, strict=True)
        ]
        array = self.sheet.array[frame]
        block = array[tuple(slice(*pair) for pair in ends)]
        block = np.where(np.isin(block, touched), block, 0)
        return whole_table([block_table(block, [first for first, _ in ends], array.shape, seams=self._seams())])

    def _shown_table(self, labels: np.ndarray) -> dict[str, np.ndarray] | None:
        """The features of the layer, where they are a table of all its objects: measuring a large image takes seconds."""
        shown = _in_pixels(self.layer.features)
        names = ["index", *block_names(labels.ndim), *(["on_seam"] if self._seams() is not None else [])]
        if (
            not set(names) <= set(shown)
            or not all(shown[name].dtype.kind in "biuf" for name in names)
            or not _fit(shown, labels)
        ):
            return None
        return {name: shown[name] for name in names}

    def _show_features(self, edit: Edit) -> None:
        """Rows of what changed; other columns of these rows are not known any more."""
        if self.sheet.looped:  # a number means another object in each frame
            return
        shown, table = self.layer.features, self.table(())
        if len(table["index"]) > MOST_FEATURES or (len(shown.columns) and "index" not in shown.columns):
            return
        self.layer.features = edited_rows(shown, table, edit) if len(shown.columns) else table

    def _tell(self) -> None:
        tell_edits(self.layer, [*self._before, *(edit.to_dict() for edit in self._edits)])
        if self.changed is not None:
            self.changed()

    def _seams(self) -> Any:
        plan = (self.layer.metadata.get(KEY) or {}).get("plan")
        if plan is None:
            return None
        return plan["seams"] if isinstance(plan, dict) else plan.seams()


def accept_layer(layer: Labels) -> None:
    """Take from a layer what a run would find it by, and give it a name of its own."""
    known = dict(layer.metadata[KEY])
    made_from = {key: known.pop(key) for key in ("role", "source_id", "run", "model") if key in known}
    layer.metadata = {**layer.metadata, KEY: {**known, ACCEPTED: made_from}}
    layer.name = f"{known['source']} {ACCEPTED}"


def tell_edits(layer: Labels, edits: list[dict[str, Any]], **more: Any) -> None:
    """Say in metadata and name what was done, so that no run takes the layer for its own; `more` of what is known of it."""
    known = layer.metadata.get(KEY) or {}
    layer.metadata = {**layer.metadata, KEY: {**known, **more, "edits": edits}}
    if "role" in known and edits and not layer.name.endswith(EDITED):
        layer.name += EDITED


def block_names(ndim: int) -> list[str]:
    """Columns of `object_table` beside the number and the seams."""
    axes = "zyx"[-ndim:]
    return ["area", *(f"{what}_{axis}" for what in ("centroid", "first", "last") for axis in axes), "on_border"]


def edited_rows(shown: Any, table: dict[str, np.ndarray], edit: Edit) -> dict[str, np.ndarray]:
    """Features after an edit, with the rows that `object_table` has of its objects now."""
    touched = np.array(sorted({*edit.ids, *edit.made}))
    rows = {name: values[np.isin(table["index"], touched)] for name, values in table.items()}
    if measured_columns(shown.columns):  # the area is in a unit then; who has measured it does so again
        rows |= {"num_pixels": rows.pop("area"), "label": rows["index"]}
    return _with_rows(shown, rows, touched)


def _in_pixels(shown: Any) -> dict[str, np.ndarray]:
    """Features with the number of pixels as the area, as `object_table` has it; an area that was measured is in a unit."""
    columns = {str(name): shown[name].to_numpy() for name in shown.columns}
    return columns | ({"area": columns["num_pixels"]} if measured_columns(columns) and "num_pixels" in columns else {})


def _with_rows(shown: Any, rows: dict[str, np.ndarray], touched: np.ndarray) -> dict[str, np.ndarray]:
    """A table of features with other rows for some objects; what only others know of these is empty."""
    kept = ~np.isin(shown["index"].to_numpy(), touched)
    count, joined = len(rows["index"]), {}
    for name in shown.columns:
        values = shown[name].to_numpy()[kept]
        empty = np.full(count, np.nan) if values.dtype.kind in "biuf" else np.full(count, None, object)
        joined[name] = np.concatenate([values, rows.get(name, empty)])
    order = np.argsort(joined["index"], kind="stable")
    return {name: values[order] for name, values in joined.items()}


def _fit(shown: dict[str, np.ndarray], labels: np.ndarray) -> bool:
    """Whether features have the numbers and the areas of the objects that there are."""
    highest = int(labels.max(initial=0))
    if labels.min(initial=0) < 0 or highest > labels.size:
        return False
    areas = np.bincount(labels.ravel().astype(np.intp), minlength=highest + 1)
    areas[0] = 0
    there = np.flatnonzero(areas)
    return np.array_equal(shown["index"], there) and np.array_equal(shown["area"], areas[there])


def _positive(labels: np.ndarray) -> np.ndarray:
    """Labels without negative numbers, which a user may paint, and which are no objects."""
    return np.maximum(labels, 0) if labels.dtype.kind == "i" and labels.size and labels.min() < 0 else labels
