"""What the metadata of a labels layer say of its edits, and how that is put into words; without what edits need."""

from typing import Any

from napari_shiftseg.plugin.signature import KEY

EDITED = " (edited)"
"""End of the name of a result that a user has corrected."""


def edits_of(layer: Any) -> list[dict[str, Any]]:
    """What was corrected in a layer, as its record will hold it."""
    known = layer.metadata.get(KEY)
    return list(known.get("edits", ())) if isinstance(known, dict) else []


def words_on_edits(edits: int) -> str:
    """A sentence that belongs beside whatever is said of labels, "" where nothing was edited."""
    return f"Edited by hand: {edits} edit{'s' * (edits != 1)}." if edits else ""
