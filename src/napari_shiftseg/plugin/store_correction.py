"""`StoreCorrection`: labels that lie in a saved result, corrected there; its verbs are called in a thread."""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Labels

from napari_shiftseg.instances import Edit
from napari_shiftseg.io import StoredEdits
from napari_shiftseg.plugin.constants import MOST_FEATURES
from napari_shiftseg.plugin.correction import accept_layer, edited_rows, tell_edits
from napari_shiftseg.plugin.edited import tell_followers
from napari_shiftseg.plugin.layers import KEY
from napari_shiftseg.plugin.sheet import Sheet

_KNOWN: WeakKeyDictionary[Labels, "StoreCorrection"] = WeakKeyDictionary()


def store_correction_of(layer: Labels, stored: StoredEdits | None = None) -> "StoreCorrection | None":
    """The correction of a layer; begun with a store where there is none, None where none is given either.

    A store has one history, so whoever edits the layer does it by the same one.
    """
    if layer not in _KNOWN and stored is not None:
        _KNOWN[layer] = StoreCorrection(layer, stored)
    return _KNOWN.get(layer)


class StoreCorrection:
    """As `Correction`, with the pixels, the history and the table in a store.

    Attributes
    ----------
    layer, sheet, changed, subject
        As of `Correction`.
    stored : StoredEdits
        The store.
    """

    in_background = True

    def __init__(self, layer: Labels, stored: StoredEdits):
        self.layer, self.sheet, self.stored = layer, Sheet(layer), stored
        self.changed: Callable[[], None] | None = None
        self.subject: Any = None

    @property
    def edits(self) -> list[str]:
        """What was done, in words."""
        none = {name: np.zeros(0, np.int64) for name in ("places", "before", "after")}
        told = ({"frame": [], "window": [], **values} for values in self.stored.edits)
        return [Edit.from_dict(values, none).describe() for values in told]

    @property
    def undone(self) -> int:
        """How many edits can be done again."""
        return self.stored.undone

    @property
    def count(self) -> int:
        """Edits of the labels, those of earlier sessions as well."""
        return len(self.stored.edits)

    @property
    def accepted(self) -> bool:
        """Whether the layer is the user's."""
        return "role" not in self.layer.metadata[KEY]

    def objects(self, frame: tuple[int, ...]) -> int | None:
        """How many objects a frame has; None where the store has no table of them."""
        rows = self.stored.rows(frame)
        return len(rows["index"]) if rows else None

    def accept(self) -> None:
        """Make the layer the user's."""
        accept_layer(self.layer)
        if self.changed is not None:
            self.changed()

    def merge(self, ids: Sequence[int], frame: tuple[int, ...]) -> Edit:
        """Make objects of a frame one, with the number of the first."""
        return self.stored.merge(ids, frame)

    def delete(self, ids: int | Sequence[int], frame: tuple[int, ...]) -> Edit:
        """Make an object of a frame, or several in one step, background."""
        return self.stored.delete(ids, frame)

    def split(self, number: int, frame: tuple[int, ...], embedding: Any = None, **wish: Any) -> Edit:
        """Split an object of a frame; by the embedding in the store, where it has one and no other is given."""
        return self.stored.split(number, frame, embedding, spacing=self.sheet.steps(), **wish)

    def undo(self) -> Edit:
        """Take the last edit back."""
        return self.stored.undo()

    def redo(self) -> Edit:
        """Do again what was undone last."""
        return self.stored.redo()

    def after(self, edit: Edit) -> None:
        """Show what has been written; called in the main thread."""
        tell_followers(self.layer, edit)
        # napari 0.9 keeps a copy of the coarsest level of a plane; data that are set anew would be drawn coarse at first
        forget = getattr(self.layer, "_reset_thumbnail_level_data", None)
        if forget is not None:
            forget()
        self.layer.refresh(extent=False)
        if not self.sheet.looped:
            rows = self.stored.rows()
            if rows and len(rows["index"]) <= MOST_FEATURES:
                self._show_rows(rows, edit)
        record = self.stored.result.record
        tell_edits(self.layer, self.stored.edits, record=record)
        if self.changed is not None:
            self.changed()

    def _show_rows(self, rows: dict[str, np.ndarray], edit: Edit) -> None:
        """The table of the store as features; where others have columns there, they keep them but for what was edited."""
        shown = self.layer.features
        if set(shown.columns) <= set(rows):
            self.layer.features = rows
        elif "index" in shown.columns:
            self.layer.features = edited_rows(shown, rows, edit)
