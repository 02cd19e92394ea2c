"""`ObjectColours`: labels coloured by a column, objects highlighted or hidden; the user's own colours come back."""

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import CyclicLabelColormap, ensure_colormap

from napari_shiftseg.plugin.constants import DIMMED, UNKNOWN_COLOUR
from napari_shiftseg.plugin.edited import follow_edits
from napari_shiftseg.plugin.jobs import End, Job, once, start_job
from napari_shiftseg.plugin.measured import Measured, measured_of, shown_frame
from napari_shiftseg.plugin.object_colormap import ObjectColormap

ALL, HIGHLIGHTED, ONLY = "All objects", "Selected ones highlighted", "Selected ones only"

_KNOWN: WeakKeyDictionary[Labels, "ObjectColours"] = WeakKeyDictionary()


def colours_of(layer: Labels) -> "ObjectColours":
    """The colours of the objects of a layer; they live as long as the layer, whatever widget is open."""
    if layer not in _KNOWN:
        _KNOWN[layer] = ObjectColours(layer)
    return _KNOWN[layer]


class ObjectColours:
    """How the objects of a layer are coloured.

    Attributes
    ----------
    column : str
        The column that says the colours, "" for the user's own.
    colours : str
        Name of the colormap of the column.
    limits : (float, float) or None
        Values at its ends; None for those of the column.
    show : str
        How objects look while some are selected.
    selected : set of (tuple of int, int)
        Frame and number of the selected objects.
    changed : list of callable
        Called without anything when the colours are other ones, also when the user chose others in napari.
    """

    def __init__(self, layer: Labels):
        self._layer = ref(layer)
        self.measured: Measured = measured_of(layer)
        self.column, self.colours, self.show = "", "viridis", HIGHLIGHTED
        self.limits: tuple[float, float] | None = None
        self.selected: set[tuple[tuple[int, ...], int]] = set()
        self.changed: list[Callable[[], None]] = []
        self.jobs: list[Job] = []
        self._ours: ObjectColormap | None = None
        self._theirs: Any = None
        self._frame: tuple[int, ...] | None = None
        self._again = False
        layer.events.colormap.connect(self._on_colormap)
        layer.events.paint.connect(self._on_paint)
        layer.events.set_data.connect(self._on_drawn)
        follow_edits(layer, lambda edit: self._make_room(edit.made, drawn=False))
        self.measured.changed.append(self._on_rows)

    @property
    def on(self) -> bool:
        """Whether objects have other colours than those of the user."""
        return bool(self.column) or self._picks

    @property
    def _picks(self) -> bool:
        """Whether selected objects look other than the rest."""
        return self.show != ALL and bool(self.selected)

    def range(self) -> tuple[float, float]:
        """Values at the ends of the colormap."""
        if self.limits is not None:
            return self.limits
        if not self.column or self.column not in self.measured.rows.columns:
            return 0.0, 1.0
        values = self.measured.rows.values(self.column)
        values = values[np.isfinite(values)]
        return (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)

    def apply(self) -> None:
        """Show objects as the attributes say."""
        layer = self._layer()
        if layer is None:
            return
        if not self.on:
            self._restore(layer)
            return
        if self._ours is None or layer.colormap is not self._ours:
            self._theirs = layer.colormap
            self._ours = ObjectColormap.of(self.measured.rows.labels, UNKNOWN_COLOUR)
            self._paint(layer)
            self._look_up(layer)
            return
        count = len(self._ours.numbers)
        again = self._ours.add(self.measured.rows.labels) or len(self._ours.numbers) > count  # drawn before they were known
        self._paint(layer)
        layer.events.colormap()
        if again:
            self._look_up(layer)

    def stop(self) -> None:
        """Back to the user's own colours."""
        self.column, self.limits = "", None
        self.selected = set()
        self.apply()
        self._tell()

    # -- colours ------------------------------------------------------------------------------------------------------

    def _paint(self, layer: Labels) -> None:
        """Put the colours of the frame that is shown into the colormap."""
        rows, sheet = self.measured.rows, self.measured.sheet
        self._frame = shown_frame(layer, sheet) if sheet.looped else ()
        at = rows.in_frame(self._frame) if self._frame is not None and rows.frames.shape[1] == len(self._frame) else ()
        at = np.asarray(at, np.intp)
        numbers = rows.labels[at]
        if self.column in rows.columns:
            colours, others = self._of_column(rows.values(self.column)[at]), np.array(UNKNOWN_COLOUR)
        else:
            colours = _colours_in(self._theirs, numbers)
            others = np.array(UNKNOWN_COLOUR)
        if self._picks:
            mine = np.array([number for frame, number in self.selected if frame == self._frame], np.int64)
            share = DIMMED if self.show == HIGHLIGHTED else 0.0
            colours[:, 3] *= np.where(np.isin(numbers, mine), 1.0, share)
            others = others * (1, 1, 1, share)
        self._ours.paint(numbers, colours, others)

    def _of_column(self, values: np.ndarray) -> np.ndarray:
        low, high = self.range()
        known = np.isfinite(values)
        shares = np.clip((values[known] - low) / (high - low), 0, 1) if high > low else np.full(known.sum(), 0.5)
        colours = np.tile(np.asarray(UNKNOWN_COLOUR, np.float32), (len(values), 1))
        if known.any():
            colours[known] = ensure_colormap(self.colours).map(shares)
        return colours

    def _look_up(self, layer: Labels) -> None:
        """Look the pixels that are shown up in a thread, then show the colormap."""
        if self.jobs:
            self._again = True
            return
        raw = getattr(getattr(getattr(layer, "_slice", None), "image", None), "raw", None)
        if isinstance(raw, np.ndarray) and raw.dtype.itemsize > 2 and raw.size > 1 << 16:
            self.jobs.append(start_job(partial(once, self._ours.prepare, raw), on_end=self._on_looked_up))
        else:
            self._show(layer)

    def _on_looked_up(self, end: End) -> None:
        self.jobs.clear()
        layer, again, self._again = self._layer(), self._again, False
        if layer is None or not self.on or self._ours is None:
            return
        if again:
            self._look_up(layer)
        elif end.state != "cancelled":
            self._show(layer)

    def _show(self, layer: Labels) -> None:
        ours = self._ours
        if layer.colormap is not ours:  # else it was chosen meanwhile
            self._theirs = layer.colormap
        ours.use_selection, ours.selection = layer.show_selected_label, layer.selected_label
        layer.colormap = ours
        self._tell()

    def _restore(self, layer: Labels) -> None:
        ours, self._ours = self._ours, None
        if ours is None or layer.colormap is not ours:
            return
        theirs, self._theirs = self._theirs, None
        theirs.use_selection, theirs.selection = layer.show_selected_label, layer.selected_label
        layer.colormap = theirs

    # -- what others do -----------------------------------------------------------------------------------------------

    def _on_colormap(self, _: Any) -> None:
        """The user chose other colours in napari: those are his own now."""
        layer = self._layer()
        if self._ours is None or layer is None or layer.colormap is self._ours or self.jobs:
            return
        self._ours, self._theirs = None, None
        self.column, self.limits, self.show = "", None, ALL
        self._tell()

    def _on_rows(self) -> None:
        """Objects are other ones, or what is known of them."""
        if self.column and self.column not in self.measured.rows.numeric:
            self.stop()
        elif self.on:
            self.apply()

    def _on_paint(self, event: Any) -> None:
        """Objects that were made by an edit have a place before they are drawn, or are drawn anew."""
        if self._ours is None:
            return
        for atom in event.value:
            brush = hasattr(atom, "slice_key")
            new = atom.new_value if brush else atom[2]
            self._make_room(np.unique(np.asarray(new)), drawn=brush)

    def _make_room(self, numbers: Any, *, drawn: bool) -> None:
        layer = self._layer()
        if self._ours is None or layer is None:
            return
        count = len(self._ours.numbers)
        again = self._ours.add(np.asarray(numbers, np.int64))
        if again or (drawn and len(self._ours.numbers) > count):
            self._look_up(layer)

    def _on_drawn(self, _: Any) -> None:
        """Another frame is shown, in which a number means another object."""
        layer, sheet = self._layer(), self.measured.sheet
        if self._ours is None or layer is None or not sheet.looped or self.jobs:
            return
        if shown_frame(layer, sheet) != self._frame:
            self._paint(layer)
            layer.events.colormap()

    def _tell(self) -> None:
        for callback in tuple(self.changed):
            callback()


def _colours_in(colormap: Any, numbers: np.ndarray) -> np.ndarray:
    """The colours that objects have in a colormap of napari, (n, 4)."""
    if isinstance(colormap, CyclicLabelColormap):
        return np.array(colormap.map(numbers), np.float32).reshape(-1, 4)
    given, default = colormap.color_dict, colormap.default_color  # its own way has no numbers above 65,536
    return np.array([given.get(number, default) for number in numbers.tolist()], np.float32).reshape(-1, 4)
