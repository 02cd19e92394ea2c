"""`Edit`: a correction of labels by hand as a value that can be undone and redone; `merge` and `delete` make one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import ImageError, SettingsError
from napari_shiftseg.instances.constants import MOST_NAMED, TABLE_PIXELS
from napari_shiftseg.views import ArrayLike

Kind: TypeAlias = Literal["merge", "split", "delete", "paint"]

_WORDS = {"merge": "merged", "split": "split", "delete": "deleted", "paint": "painted"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Edit:
    """A change of some pixels of labels: what they were, and what they are then.

    Only these pixels are looked at and written, so that edits of other objects, and what was painted elsewhere, may come and go
    in between.

    Attributes
    ----------
    kind : {"merge", "split", "delete", "paint"}
        What was done.
    ids : tuple of int
        Objects that were named; of a merge the first is the one that all become.
    made : tuple of int
        Numbers that their pixels have afterwards; none of a deletion.
    window : tuple of slice
        Smallest box of the objects that change in the labels, one slice per axis.
    places : ndarray
        (n,) int64, ascending: the pixels that change, counted through the window in C order.
    before, after : ndarray
        (n,) their numbers.
    frame : tuple of int
        Positions on the leading axes of a series, () for labels without frames.
    how : str
        Of a split, what it went by: "embedding", "stroke" or "distance".
    """

    kind: Kind
    ids: tuple[int, ...]
    made: tuple[int, ...]
    window: tuple[slice, ...]
    places: npt.NDArray[np.int64] = field(repr=False)
    before: npt.NDArray[Any] = field(repr=False)
    after: npt.NDArray[Any] = field(repr=False)
    frame: tuple[int, ...] = ()
    how: str = ""

    def indices(self) -> tuple[npt.NDArray[np.int64], ...]:
        """Where the pixels lie in the labels, an array per axis."""
        inside = np.unravel_index(self.places, [edge.stop - edge.start for edge in self.window])
        return tuple((place + edge.start).astype(np.int64) for place, edge in zip(inside, self.window, strict=True))

    def apply(self, labels: Any) -> None:
        """Do it, or do it again, in an array in memory; errors as of `check`."""
        self.check(labels)
        labels[self.indices()] = self.after.astype(labels.dtype)

    def undo(self, labels: Any) -> None:
        """Take it back, in an array in memory; errors as of `check`."""
        self.check(labels, undo=True)
        labels[self.indices()] = self.before.astype(labels.dtype)

    def check(self, labels: ArrayLike, *, undo: bool = False) -> None:
        """Refuse to do or undo it where a pixel is not as the edit found or left it; SettingsError."""
        if not (self.is_done(labels) if undo else self.is_undone(labels)):
            raise SettingsError(
                f"the edit that {self.describe()} cannot be {'undone' if undo else 'done'}: some of its pixels have other "
                "numbers now; undo first what changed them."
            )

    def is_done(self, labels: ArrayLike) -> bool:
        """Whether all its pixels are as the edit left them."""
        return np.array_equal(self._found(labels), self.after)

    def is_undone(self, labels: ArrayLike) -> bool:
        """Whether all its pixels are as they were before."""
        return np.array_equal(self._found(labels), self.before)

    def describe(self) -> str:
        """What was done, in words.

        >>> merge(np.array([[1, 1, 2]]), (1, 2)).describe()
        'merged 1, 2 into 1'
        """
        numbers, made = ", ".join(map(str, self.ids)), ", ".join(map(str, self.made))
        end = {"merge": f" into {made}", "split": f" into {made}", "paint": f" as {made or 0}"}.get(self.kind, "")
        where = f" in frame {', '.join(map(str, self.frame))}" if self.frame else ""
        if self.kind == "paint":
            return f"painted {len(self.places)} pixels{end}{where}"
        if len(self.ids) > MOST_NAMED:
            numbers = f"{len(self.ids)} objects"
        return f"{_WORDS[self.kind]} {numbers}{end}{where}" + (f", by {self.how}" if self.how else "")

    def to_dict(self) -> dict[str, Any]:
        """All but the pixels as plain values, for a record.

        >>> delete(np.array([[1, 1, 2]]), 2).to_dict()
        {'kind': 'delete', 'ids': [2], 'made': [], 'frame': [], 'window': [[0, 1], [2, 3]], 'pixels': 1}
        """
        values: dict[str, Any] = {"kind": self.kind, "ids": list(self.ids), "made": list(self.made), "frame": list(self.frame)}
        values |= {"window": [[edge.start, edge.stop] for edge in self.window], "pixels": len(self.places)}
        return values | ({"how": self.how} if self.how else {})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], pixels: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The inverse of `to_dict`; `pixels` holds places, before and after."""
        return cls(
            kind=values["kind"],
            ids=tuple(values["ids"]),
            made=tuple(values["made"]),
            frame=tuple(values["frame"]),
            window=tuple(slice(*edge) for edge in values["window"]),
            how=values.get("how", ""),
            **{name: pixels[name] for name in ("places", "before", "after")},
        )

    def _found(self, labels: ArrayLike) -> npt.NDArray[Any]:
        if isinstance(labels, np.ndarray):
            return labels[self.indices()]
        return np.asarray(labels[self.window]).reshape(-1)[self.places]


def merge(labels: ArrayLike, ids: Sequence[int], *, frame: Sequence[int] = (), window: Sequence[slice] | None = None) -> Edit:
    """Several objects become one, with the number of the first; they need not touch.

    Parameters
    ----------
    labels : array-like
        (*shape) int, 0 is the background; not changed. In memory, or a zarr array, which is read in slabs.
    ids : sequence of int
        Two or more numbers.
    frame : sequence of int
        Positions on the leading axes, where a number means another object in each frame of a series.
    window : sequence of slice, optional
        Part of the frame in which the objects lie wholly, where that is known; all of it by default.

    Returns
    -------
    Edit
        To be done by `Edit.apply`.

    Raises
    ------
    SettingsError
        If fewer than two numbers are given, one of them is 0, or there is no such object.
    ImageError
        If the labels are no integers.

    >>> labels = np.array([[1, 1, 0, 2, 2]])
    >>> edit = merge(labels, (2, 1))
    >>> edit.apply(labels)
    >>> labels.tolist()
    [[2, 2, 0, 2, 2]]
    >>> edit.undo(labels)
    >>> labels.tolist()
    [[1, 1, 0, 2, 2]]
    """
    ids = tuple(dict.fromkeys(int(number) for number in ids))
    if len(ids) < 2:
        raise SettingsError(f"{len(ids)} object{'s' * (len(ids) != 1)} to merge; give two or more different numbers.")
    find_objects(labels, ids[:1], frame=frame, window=window)
    return merged(find_objects(labels, ids[1:], frame=frame, window=window), ids[0])


def merged(found: Found, into: int) -> Edit:
    """The edit that makes objects parts of another one."""
    edit = found.edit("merge", found.inside, np.asarray(into), made=(into,))
    return replace(edit, ids=(into, *found.ids))


def delete(
    labels: ArrayLike, ids: int | Sequence[int], *, frame: Sequence[int] = (), window: Sequence[slice] | None = None
) -> Edit:
    """An object, or several in one step, become background; other parameters, result and errors are those of `merge`.

    >>> labels = np.array([[1, 1, 2, 3]])
    >>> delete(labels, 1).apply(labels)
    >>> labels.tolist()
    [[0, 0, 2, 3]]
    >>> delete(labels, (2, 3)).apply(labels)
    >>> labels.tolist()
    [[0, 0, 0, 0]]
    """
    found = find_objects(labels, numbers_of(ids), frame=frame, window=window)
    return found.edit("delete", found.inside, np.asarray(0), made=())


def numbers_of(ids: int | Sequence[int]) -> tuple[int, ...]:
    """One number or several, each once, in their order; SettingsError for none."""
    numbers = (int(ids),) if isinstance(ids, int | np.integer) else tuple(dict.fromkeys(int(number) for number in ids))
    if not numbers:
        raise SettingsError("no object was named; give one number or more.")
    return numbers


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Some objects of a frame, and the smallest box that holds them."""

    ids: tuple[int, ...]
    frame: tuple[int, ...]
    box: tuple[slice, ...]  # in the frame
    block: npt.NDArray[Any]  # the labels there
    inside: npt.NDArray[np.bool_]  # where they are one of `ids`

    def edit(
        self, kind: Kind, changed: npt.NDArray[np.bool_], after: npt.NDArray[Any], *, made: tuple[int, ...], how: str = ""
    ) -> Edit:
        """The edit that gives some pixels new numbers: `after`, one for all or one per pixel of the box."""
        places = np.flatnonzero(changed)
        numbers = np.broadcast_to(after, changed.shape)[changed].astype(self.block.dtype)
        window = (*(slice(at, at + 1) for at in self.frame), *self.box)
        before = self.block.reshape(-1)[places]
        who: dict[str, Any] = {"ids": self.ids, "made": made, "frame": self.frame, "window": window, "how": how}
        return Edit(kind=kind, places=places, before=before, after=numbers, **who)


def find_objects(
    labels: ArrayLike, ids: tuple[int, ...], *, frame: Sequence[int] = (), window: Sequence[slice] | None = None
) -> Found:
    """Where objects lie, errors as of `merge`."""
    kind = np.dtype(labels.dtype)
    if kind.kind not in "iu":
        raise ImageError(f"labels have number format {kind}; give integers with one number per instance.")
    frame = tuple(int(at) for at in frame)
    shape = tuple(labels.shape)[len(frame) :]
    if not shape or any(not 0 <= at < n for at, n in zip(frame, labels.shape, strict=False)):
        raise SettingsError(f"frame {frame} is not one of labels of shape {tuple(labels.shape)}; count from 0.")
    limits = np.iinfo(kind)
    for number in ids:
        if number <= 0:
            raise SettingsError(f"{number} is the background or below; click an object, whose number is 1 or more.")
        if number > limits.max:
            raise SettingsError(f"there is no object {number} in labels of type {kind}; give a number that is there.")
    wanted = np.asarray(ids, kind)
    given = (slice(None),) * len(shape) if window is None else window
    whole = tuple(slice(*edge.indices(n)[:2]) for edge, n in zip(given, shape, strict=True))
    box, missing = _box_of(labels, wanted, frame=frame, whole=whole)
    if missing:
        raise SettingsError(f"there is no object {missing[0]} here; give a number that is there.")
    block = np.array(labels[(*frame, *box)])
    return Found(ids=ids, frame=frame, box=box, block=block, inside=np.isin(block, wanted))


def _box_of(
    labels: ArrayLike, wanted: npt.NDArray[Any], *, frame: tuple[int, ...], whole: tuple[slice, ...]
) -> tuple[tuple[slice, ...], list[int]]:
    """The smallest box of some numbers within a window of a frame, and those of them that are not there."""
    ends: list[list[int]] = [[edge.stop, edge.start] for edge in whole]
    seen: set[int] = set()
    for part, slab in _slabs(labels, frame, whole):
        inside = np.isin(slab, wanted) if len(wanted) > 1 else slab == wanted[0]
        if not inside.any():
            continue
        seen.update(np.unique(slab[inside]).tolist())
        for axis, edge in enumerate(part):
            along = np.flatnonzero(inside.any(axis=tuple(other for other in range(inside.ndim) if other != axis)))
            ends[axis][0] = min(ends[axis][0], edge.start + int(along[0]))
            ends[axis][1] = max(ends[axis][1], edge.start + int(along[-1]) + 1)
    return tuple(slice(*pair) for pair in ends), [number for number in wanted.tolist() if number not in seen]


def _slabs(
    labels: ArrayLike, frame: tuple[int, ...], whole: tuple[slice, ...]
) -> Iterator[tuple[tuple[slice, ...], npt.NDArray[Any]]]:
    """Parts of a window of a frame along its first axis, each with its labels."""
    first, rest = whole[0], whole[1:]
    row = max(1, int(np.prod([edge.stop - edge.start for edge in rest])))
    step = max(1, TABLE_PIXELS // row)
    for start in range(first.start, first.stop, step):
        part = (slice(start, min(start + step, first.stop)), *rest)
        yield part, np.asarray(labels[(*frame, *part)])


def free_numbers(labels: ArrayLike, count: int, *, first: int | None = None) -> tuple[int, ...]:
    """Numbers that no object of any frame has.

    SettingsError if the type of the labels has none left.

    Parameters
    ----------
    labels : array-like
        (*shape) int.
    count : int
        How many.
    first : int, optional
        From where on none is used, where that is known; by default the labels are read for it.

    >>> free_numbers(np.array([[1, 5]], np.uint8), 2), free_numbers(np.array([[1, 255]], np.uint8), 2)
    ((6, 7), (2, 3))
    """
    kind = np.dtype(labels.dtype)
    most = int(np.iinfo(kind).max)
    whole = tuple(slice(0, n) for n in labels.shape)
    if first is None:
        largest = [int(slab.max()) for _, slab in _slabs(labels, (), whole) if slab.size]
        first = max(max(largest, default=0), 0) + 1
    if first + count - 1 <= most:
        return tuple(range(first, first + count))
    used = set[int]()
    for _, slab in _slabs(labels, (), whole):
        used.update(np.unique(slab).tolist())
    found: list[int] = []
    for number in range(1, min(most, len(used) + count) + 1):
        if number not in used:
            found.append(number)
        if len(found) == count:
            return tuple(found)
    raise SettingsError(
        f"labels of type {kind} hold {len(used)} numbers and none is left; convert the layer to a larger type first."
    )
