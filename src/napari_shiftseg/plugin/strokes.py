"""`painted`: what napari's brush, bucket, eraser and polygon did to labels, as an edit like any other."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from napari_shiftseg.instances import Edit
from napari_shiftseg.plugin.sheet import Sheet


def painted(atoms: Iterable[Any], sheet: Sheet) -> Edit | None:
    """The edit that a stroke is; None where it changed nothing.

    `atoms`: of one entry of napari's history: what a `paint` event brings, in the order in which it was done. An atom has the
    pixels before it, and the number that they got.
    """
    shape = np.shape(sheet.layer.data)
    places, old, new = [], [], []
    for atom in atoms:
        where, before, after = _changed(atom)
        places.append(np.ravel_multi_index(where, shape).ravel())
        old.append(np.ravel(before))
        new.append(np.broadcast_to(np.ravel(after) if np.ndim(after) else after, old[-1].shape))
    if not places:
        return None
    # the first atom that met a pixel knows what was there before the stroke, the last one what is there now; the pixels
    # themselves are not asked, since napari may write them only after it has said so
    together = np.concatenate(places)
    where, first = np.unique(together, return_index=True)
    last = len(together) - 1 - np.unique(together[::-1], return_index=True)[1]
    before, after = np.concatenate(old)[first], np.concatenate(new)[last].astype(sheet.layer.data.dtype)
    differs = before != after
    if not differs.any():
        return None
    indices = sheet.from_layer(np.unravel_index(where[differs], shape))
    return _edit(sheet, indices, before=before[differs], after=after[differs])


def _edit(sheet: Sheet, indices: tuple[np.ndarray, ...], *, before: np.ndarray, after: np.ndarray) -> Edit:
    window = tuple(slice(int(places.min()), int(places.max()) + 1) for places in indices)
    sizes = [edge.stop - edge.start for edge in window]
    places = np.ravel_multi_index([at - edge.start for at, edge in zip(indices, window, strict=True)], sizes)
    order = np.argsort(places, kind="stable")
    frame = tuple(edge.start for edge in window[: sheet.looped])
    return Edit(
        kind="paint",
        ids=tuple(int(number) for number in np.unique(before) if number > 0),
        made=tuple(int(number) for number in np.unique(after) if number > 0),
        frame=frame if all(edge.stop == at + 1 for edge, at in zip(window, frame, strict=False)) else (),
        window=window,
        places=places[order].astype(np.int64),
        before=before[order],
        after=after[order],
    )


def _changed(atom: Any) -> tuple[tuple[np.ndarray, ...], Any, Any]:
    """Indices of an atom in the layer, the numbers that were there, and those that came."""
    if hasattr(atom, "slice_key"):  # of the brush, the bucket and the polygon, since napari 0.8
        sizes = [edge.stop - edge.start for edge in atom.slice_key]
        mask = np.ones(sizes, bool) if atom.mask is None else atom.mask
        where = tuple(at + edge.start for at, edge in zip(np.nonzero(mask), atom.slice_key, strict=True))
        return where, atom.old_values, atom.new_value
    where, before, after = atom  # of data_setitem
    return tuple(np.asarray(at) for at in where), before, after
