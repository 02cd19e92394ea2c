"""`object_table`: size, place and extent of each instance, and whether it meets a seam or the border of the image."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import ImageError, SettingsError
from napari_shiftseg.events import Event, drain
from napari_shiftseg.instances.constants import TABLE_PIXELS
from napari_shiftseg.views import ArrayLike

ObjectTable: TypeAlias = dict[str, npt.NDArray[Any]]


def object_table(labels: ArrayLike, seams: Sequence[Sequence[int]] | None = None, *, block: int = TABLE_PIXELS) -> ObjectTable:
    """Measure all instances in one pass over the labels.

    ImageError if the labels are no integers, or negative. SettingsError if `seams` has not one entry per axis, or there are
    more than three axes.

    Parameters
    ----------
    labels : array-like
        (*shape) int, 0 is the background; read in slabs along the first axis, so a zarr array will do.
    seams : sequence of sequence of int, optional
        Per axis the seam positions, pixels: p is the seam between pixels p - 1 and p (as `TilePlan.seams` gives them).
    block : int
        Pixels of a slab, at least one row.

    Returns
    -------
    dict of ndarray
        One entry per instance, ascending: "index" (its number), "area" (pixels), "centroid_y", "first_y", "last_y" and so on
        per axis (pixels; the last one belongs to the instance), "on_border" (bool, has a pixel at the border of the image)
        and, with seams, "on_seam" (bool, has a pixel beside a seam).

    >>> table = object_table(np.array([[1, 1, 0], [0, 0, 7]]))
    >>> table["index"].tolist(), table["area"].tolist(), table["centroid_x"].tolist()
    ([1, 7], [2, 1], [0.5, 2.0])
    """
    return drain(table_steps(labels, seams, block=block))


def table_steps(
    labels: ArrayLike, seams: Sequence[Sequence[int]] | None = None, *, block: int = TABLE_PIXELS
) -> Generator[Event, None, ObjectTable]:
    """As `object_table`, in steps: an event per slab."""
    shape = tuple(int(n) for n in labels.shape)
    if not 1 <= len(shape) <= 3:
        raise SettingsError(f"labels have {len(shape)} axes; give 1 to 3, one frame at a time.")
    if seams is not None and len(seams) != len(shape):
        raise SettingsError(f"seams have {len(seams)} entries for {len(shape)} axes; give positions for each axis.")
    rest = (0,) * (len(shape) - 1)
    parts = []
    for first, slab in _slabs(labels, shape, block):
        parts.append(block_table(slab, (first, *rest), shape, seams=seams))
        yield Event(done=first + len(slab), total=shape[0])
    return whole_table(parts)


def whole_table(parts: Sequence[ObjectTable]) -> ObjectTable:
    """The table of an image, as `object_table` gives it, from those of its blocks.

    `parts`: from `block_table`, one or more.
    """
    joined = _together({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    return _named(joined, sum(name.startswith("sum_") for name in joined), "on_seam" in joined)


def _slabs(labels: ArrayLike, shape: tuple[int, ...], block: int) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    rows = max(1, block // max(1, prod(shape[1:])))
    for first in range(0, shape[0], rows) if shape[0] else (0,):
        slab = np.asarray(labels[first : first + rows])
        if not np.issubdtype(slab.dtype, np.integer):
            raise ImageError(f"labels have number format {slab.dtype}; give integers with one number per instance.")
        if slab.size and slab.min() < 0:
            raise ImageError(f"labels hold the negative number {slab.min()}; give 0 for background and positive instances.")
        yield first, slab


def block_table(
    block: npt.NDArray[Any], corner: Sequence[int], shape: Sequence[int], *, seams: Sequence[Sequence[int]] | None
) -> ObjectTable:
    """Sums and extremes of the instances of a block, for `whole_table`.

    Parameters
    ----------
    block : ndarray
        int labels.
    corner : sequence of int
        Pixel of the image at which the block begins.
    shape : sequence of int
        Of the image.
    seams
        As in `object_table`.
    """
    inside = np.nonzero(block)
    numbers = block[inside]
    places = [place + first for place, first in zip(inside, corner, strict=True)]
    order = np.argsort(numbers, kind="stable")
    index, begin = np.unique(numbers[order], return_index=True)
    table: ObjectTable = {"index": index.astype(np.int64)}

    def reduced(ufunc: np.ufunc, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return ufunc.reduceat(values[order], begin) if len(begin) else values[:0]

    table["area"] = reduced(np.add, np.ones(len(numbers), np.int64))
    border, beside = np.zeros(len(numbers), bool), np.zeros(len(numbers), bool)
    for axis, place in enumerate(places):
        table[f"sum_{axis}"] = reduced(np.add, place.astype(np.float64))
        table[f"first_{axis}"] = reduced(np.minimum, place)
        table[f"last_{axis}"] = reduced(np.maximum, place)
        border |= (place == 0) | (place == shape[axis] - 1)
        if seams is not None:
            at_seam = np.zeros(shape[axis] + 1, bool)
            positions = [p for p in seams[axis] if 0 < p < shape[axis]]
            at_seam[positions] = True
            beside |= at_seam[place] | at_seam[place + 1]
    table["on_border"] = reduced(np.logical_or, border)
    return table if seams is None else table | {"on_seam": reduced(np.logical_or, beside)}


def _together(table: ObjectTable) -> ObjectTable:
    """One row per instance from one row per instance and slab."""
    order = np.argsort(table["index"], kind="stable")
    index, begin = np.unique(table["index"][order], return_index=True)
    how = {"first": np.minimum, "last": np.maximum, "on": np.logical_or}
    merged: ObjectTable = {"index": index}
    for name, values in table.items():
        if name != "index":
            ufunc = how.get(name.partition("_")[0], np.add)
            merged[name] = ufunc.reduceat(values[order], begin) if len(begin) else values[:0]
    return merged


def _named(table: ObjectTable, ndim: int, seams: bool) -> ObjectTable:
    names = "zyx"[-ndim:]
    named: ObjectTable = {"index": table["index"], "area": table["area"]}
    named |= {f"centroid_{name}": table[f"sum_{axis}"] / table["area"] for axis, name in enumerate(names)}
    for end in ("first", "last"):
        named |= {f"{end}_{name}": table[f"{end}_{axis}"] for axis, name in enumerate(names)}
    named["on_border"] = table["on_border"]
    return named | ({"on_seam": table["on_seam"]} if seams else {})


def summed(rows: ObjectTable, number: int) -> ObjectTable:
    """The row of several objects of a frame that become one, with this number; columns of others are those of the first."""
    weights = rows["area"].astype(np.float64)
    one: ObjectTable = {}
    for name, values in rows.items():
        kind = name.partition("_")[0]
        if name == "index":
            one[name] = np.array([number], values.dtype)
        elif kind in ("area", "first", "last", "on"):
            how = {"area": np.add, "first": np.minimum, "last": np.maximum, "on": np.logical_or}[kind]
            one[name] = np.array([how.reduce(values)], values.dtype)
        elif kind == "centroid":
            one[name] = np.array([(values * weights).sum() / weights.sum()], values.dtype)
        else:
            one[name] = values[:1]
    return one
