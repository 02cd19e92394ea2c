"""What the metadata of a labels layer say of its edits, and how that is put into words; without what edits need."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from napari_shiftseg.plugin.signature import KEY

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_shiftseg.instances import Edit

EDITED = " (edited)"
"""End of the name of a result that a user has corrected."""

_FOLLOWERS: "WeakKeyDictionary[Layer, list[Callable[[Edit], None]]]" = WeakKeyDictionary()


def follow_edits(layer: "Layer", follower: "Callable[[Edit], None]") -> None:
    """Have edits of a layer whose pixels lie on a disk told to somebody; of others napari's `paint` event tells."""
    _FOLLOWERS.setdefault(layer, []).append(follower)


def tell_followers(layer: "Layer", edit: "Edit") -> None:
    """Say that an edit was done or undone, before the layer is drawn anew."""
    for follower in _FOLLOWERS.get(layer, ()):
        follower(edit)


def edits_of(layer: Any) -> list[dict[str, Any]]:
    """What was corrected in a layer, as its record will hold it."""
    known = layer.metadata.get(KEY)
    return list(known.get("edits", ())) if isinstance(known, dict) else []


def words_on_edits(edits: int) -> str:
    """A sentence that belongs beside whatever is said of labels, "" where nothing was edited."""
    return f"Edited by hand: {edits} edit{'s' * (edits != 1)}." if edits else ""
