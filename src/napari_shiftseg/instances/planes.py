"""`join_planes`: objects of a stack whose planes were segmented one by one, by overlap and agreement of their codes.

Objects of neighbouring planes are matched one to one, the pair with the best overlap first, so that the objects of a plane can
never become one. All that decides is counted in integers, pixel by pixel: the result depends neither on the parts in which the
stack is read nor on the numbers that the objects have.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import ImageError, SettingsError
from napari_shiftseg.events import Event, WindowDone, drain
from napari_shiftseg.instances.constants import CODE_STEP, TABLE_PIXELS
from napari_shiftseg.views import ArrayLike, LazyArray

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class JoinSettings:
    """How objects of planes become objects of a stack.

    Attributes
    ----------
    overlap : float
        Two objects can only be one if they share at least this much of the smaller of them, 0 to 1. Of several pairs the one
        with the highest intersection over union is taken.
    agreement : float
        Two objects can only be one if their mean codes are at most this far from each other, bandwidths; without an embedding
        it means nothing.
    gap : int
        Planes that an object may be missing in, 0 or more.
    """

    # half of the smaller lies over the other: a cap does, a neighbour does not; 0.1 to 0.7 give nearly the same objects
    overlap: float = 0.5
    # chosen among 0.5, 0.75 and 1 on a made stack; docs/link.md tells what it gives on one and on real ones
    agreement: float = 0.75
    gap: int = 1

    def check(self) -> None:
        """SettingsError where a value cannot work."""
        if not (isinstance(self.overlap, int | float) and 0 <= self.overlap <= 1):
            raise SettingsError(f"overlap is {self.overlap!r}; give a share from 0 to 1.")
        if not (isinstance(self.agreement, int | float) and isfinite(self.agreement) and self.agreement > 0):
            raise SettingsError(f"agreement is {self.agreement!r}; give a positive number of bandwidths.")
        if isinstance(self.gap, bool) or not isinstance(self.gap, int | np.integer) or self.gap < 0:
            raise SettingsError(f"gap is {self.gap!r}; give a number of planes, 0 or more.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Codes:
    """What the network says of the pixels of a stack.

    Attributes
    ----------
    embedding : array-like
        (E, Z, Y, X).
    bandwidth : float or array-like
        Of the clustering, embedding units, or (Z, Y, X) what the network says of each pixel.
    factor : float
        On the bandwidths.
    coordinates : bool
        Whether the first two channels are offsets, to which the place of the pixel is to be added.
    """

    embedding: ArrayLike
    bandwidth: float | ArrayLike
    factor: float = 1.0
    coordinates: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Renumbering:
    """New numbers of the objects of each plane or frame; objects that share one are one.

    Attributes
    ----------
    old, new : tuple of ndarray
        Per plane the numbers that are there, ascending, and those that they become.
    """

    old: tuple[npt.NDArray[np.int64], ...]
    new: tuple[npt.NDArray[np.uint32], ...]

    @property
    def count(self) -> int:
        """Of objects."""
        return int(max((numbers.max(initial=0) for numbers in self.new), default=0))

    def of(self, plane: int, labels: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
        """Labels of pixels of a plane in their new numbers."""
        old, new = self.old[plane], self.new[plane]
        if not len(old):
            return np.zeros(labels.shape, np.uint32)
        at = np.minimum(np.searchsorted(old, labels), len(old) - 1)
        return np.where(old[at] == labels, new[at], np.uint32(0)).astype(np.uint32)


class Renumbered(LazyArray):
    """Labels in new numbers, which are read where they are asked for.

    Parameters
    ----------
    labels : array-like
        (F, *shape) int.
    numbers : Renumbering
        Of each position on the first axes, in raster order.
    lead : int
        Number of these axes.
    """

    def __init__(self, labels: ArrayLike, numbers: Renumbering, lead: int = 1) -> None:
        self._labels, self._numbers, self._lead = labels, numbers, lead

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return tuple(self._labels.shape)

    @property
    def dtype(self) -> Any:
        """Type of labels."""
        return np.dtype(np.uint32)

    @property
    def source(self) -> Any:
        """The labels as they were."""
        return self._labels

    def _read(self, ranges: Sequence[range]) -> npt.NDArray[np.uint32]:
        made = np.empty(tuple(map(len, ranges)), np.uint32)
        rest = tuple(slice(taken.start, taken.stop, taken.step) for taken in ranges[self._lead :])
        for place in np.ndindex(*made.shape[: self._lead]):
            at = tuple(taken[k] for taken, k in zip(ranges, place, strict=False))
            plane = int(np.ravel_multi_index(at, self.shape[: self._lead]))
            made[place] = self._numbers.of(plane, np.asarray(self._labels[(*at, *rest)]))
        return made


def join_planes(
    labels: ArrayLike,
    codes: Codes | None = None,
    settings: JoinSettings | None = None,
    *,
    on_event: Callable[[Event], None] | None = None,
    window: int = TABLE_PIXELS,
) -> Renumbering:
    """Which objects of the planes of a stack are one.

    Parameters
    ----------
    labels : array-like
        (Z, Y, X) int, 0 is the background; a number means another object in each plane. Read in windows, so a zarr array will
        do: memory is that of a window and of a table of the objects.
    codes : Codes, optional
        What the network said; without it the overlap alone decides.
    settings : JoinSettings, optional
    on_event : callable, optional
        Called with a `WindowDone` per plane.
    window : int
        Pixels of a plane that are looked at at once, at least one row.

    Returns
    -------
    Renumbering
        Objects are numbered 1, 2, ... by their first plane, and there by their first pixel.

    Raises
    ------
    SettingsError
        If a setting cannot work or the shapes do not fit.
    ImageError
        If the labels are no integers, or negative.

    >>> stack = np.zeros((3, 4, 6), int)
    >>> stack[0, :2, :3], stack[1, :2, :3], stack[1, 3, 3:], stack[2, 3, 3:] = 1, 5, 1, 2
    >>> joined = join_planes(stack)
    >>> [numbers.tolist() for numbers in joined.new]
    [[1], [2, 1], [2]]
    """
    return drain(join_planes_steps(labels, codes, settings, window=window), on_event)


def join_planes_steps(
    labels: ArrayLike, codes: Codes | None = None, settings: JoinSettings | None = None, *, window: int = TABLE_PIXELS
) -> Generator[WindowDone, None, Renumbering]:
    """Generator form of `join_planes`: yields a `WindowDone` per plane, returns the `Renumbering`."""
    wish = settings or JoinSettings()
    wish.check()
    _check(labels, codes)
    planes: list[_Plane] = []
    matches: list[dict[int, _Overlaps]] = []
    for z in range(labels.shape[0]):
        reach = min(z, wish.gap + 1)
        plane, pairs = _plane(labels, codes, z, reach=reach, window=window)
        planes.append(plane)
        matches.append(pairs)
        yield WindowDone(done=z + 1, total=labels.shape[0], window=(slice(z, z + 1), *(slice(0, n) for n in labels.shape[1:])))
    return _numbered(planes, _linked(planes, matches, wish, factor=None if codes is None else codes.factor))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Plane:
    """Objects of a plane."""

    old: Counts  # (K,) their numbers, ascending
    size: Counts  # (K,) pixels
    first: Counts  # (K,) first pixel in raster order
    codes: Counts  # (K, E) sums of codes, in steps of `CODE_STEP`
    widths: Counts  # (K,) sums of bandwidths, likewise


@dataclass(frozen=True, kw_only=True, eq=False)
class _Overlaps:
    """Objects of two planes that overlap."""

    lower: Counts  # (P,) number of the object in the lower plane
    upper: Counts  # (P,) and in the upper one
    size: Counts  # (P,) pixels that they share
    first: Counts  # (P,) the first of these in raster order, which no two pairs of these planes have in common


def _check(labels: ArrayLike, codes: Codes | None) -> None:
    shape = tuple(labels.shape)
    if len(shape) != 3:
        raise SettingsError(f"labels of shape {shape} are no stack; give (Z, Y, X), one frame at a time.")
    if np.dtype(labels.dtype).kind not in "iu":
        raise ImageError(f"labels have number format {labels.dtype}; give integers with one number per instance.")
    if codes is None:
        return
    if tuple(codes.embedding.shape[1:]) != shape:
        raise SettingsError(f"the embedding has shape {tuple(codes.embedding.shape)}, the labels {shape}; give (E, *shape).")
    width = codes.bandwidth
    if isinstance(width, int | float):
        wrong, found = not (isfinite(width) and width > 0), str(width)
    else:
        wrong, found = tuple(width.shape) != shape, f"of shape {tuple(width.shape)}"
    if wrong:
        raise SettingsError(f"the bandwidth is {found}; give a positive number, or an array of the labels' shape {shape}.")


def _plane(labels: ArrayLike, codes: Codes | None, z: int, *, reach: int, window: int) -> tuple[_Plane, dict[int, _Overlaps]]:
    """The objects of a plane, and what they share with those of the planes below, by distance."""
    height, width = labels.shape[1:]
    step = max(1, window // max(1, width))
    objects: list[tuple[Counts, ...]] = []
    shared: dict[int, list[tuple[Counts, ...]]] = {k: [] for k in range(1, reach + 1)}
    for start in range(0, height, step) if height else (0,):
        rows = slice(start, min(start + step, height))
        here = _read(labels, z, rows)
        objects.append(_objects(here, codes, z, rows=rows))
        for k, found in shared.items():
            found.append(_overlaps(_read(labels, z - k, rows), here, start * width))
    old, size, first, sums, widths = _summed(objects, keys=1)
    plane = _Plane(old=old, size=size, first=first, codes=sums, widths=widths)
    names = ("lower", "upper", "size", "first")
    return plane, {k: _Overlaps(**dict(zip(names, _summed(found, keys=2), strict=True))) for k, found in shared.items()}


def _read(labels: ArrayLike, z: int, rows: slice) -> npt.NDArray[Any]:
    plane = np.asarray(labels[z, rows])
    if plane.size and plane.min() < 0:
        raise ImageError(f"labels hold the negative number {plane.min()}; give 0 for background and positive instances.")
    return plane


def _objects(plane: npt.NDArray[Any], codes: Codes | None, z: int, *, rows: slice) -> tuple[Counts, ...]:
    """Number, pixels, first pixel, sum of codes and of bandwidths of the objects in some rows of a plane; a row per pixel."""
    y, x = np.nonzero(plane)
    numbers = plane[y, x].astype(np.int64)
    place = (y + rows.start) * plane.shape[1] + x
    count = 0 if codes is None else codes.embedding.shape[0]
    sums, widths = np.zeros((len(numbers), count), np.int64), np.zeros(len(numbers), np.int64)
    if codes is not None:
        values = np.asarray(codes.embedding[:, z, rows], np.float64)[:, y, x].T
        if codes.coordinates:
            values[:, :2] += np.stack([y + rows.start, x], axis=1)
        sums = np.rint(values / CODE_STEP).astype(np.int64)
        told = codes.bandwidth
        given = np.full(len(numbers), told) if isinstance(told, int | float) else np.asarray(told[z, rows], np.float64)[y, x]
        widths = np.rint(given / CODE_STEP).astype(np.int64)
    return _reduced((numbers, np.ones(len(numbers), np.int64), place.astype(np.int64), sums, widths), keys=1)


def _overlaps(lower: npt.NDArray[Any], upper: npt.NDArray[Any], begin: int) -> tuple[Counts, ...]:
    """Numbers in both planes, pixels and first pixel of what objects share in some rows."""
    place = np.flatnonzero((lower > 0) & (upper > 0))
    pair = (lower.ravel()[place].astype(np.int64), upper.ravel()[place].astype(np.int64))
    return _reduced((*pair, np.ones(len(place), np.int64), place.astype(np.int64) + begin), keys=2)


def _reduced(columns: tuple[Counts, ...], keys: int) -> tuple[Counts, ...]:
    """One row per key: what follows the keys is summed, but of the second such column the least is taken."""
    order = np.lexsort(columns[:keys][::-1])
    columns = tuple(column[order] for column in columns)
    new = np.ones(len(order), bool)
    new[1:] = np.any([key[1:] != key[:-1] for key in columns[:keys]], axis=0)
    begin = np.flatnonzero(new)
    if not len(begin):
        return columns
    how = [np.minimum if number == 1 else np.add for number in range(len(columns) - keys)]
    reduced = (ufunc.reduceat(column, begin) for ufunc, column in zip(how, columns[keys:], strict=True))
    return (*(key[begin] for key in columns[:keys]), *reduced)


def _summed(parts: list[tuple[Counts, ...]], keys: int) -> tuple[Counts, ...]:
    return _reduced(tuple(map(np.concatenate, zip(*parts, strict=True))), keys)


def _linked(
    planes: list[_Plane], shared: list[dict[int, _Overlaps]], wish: JoinSettings, *, factor: float | None
) -> list[Counts]:
    """Per plane and object its predecessor, as the row among the objects of all planes, -1 for none."""
    offsets = np.cumsum([0, *(len(plane.old) for plane in planes)])
    before = [np.full(len(plane.old), -1, np.int64) for plane in planes]
    followed = [np.zeros(len(plane.old), bool) for plane in planes]
    for k in range(1, wish.gap + 2):
        for z in range(k, len(planes)):
            for a, b in _candidates(planes[z - k], planes[z], shared[z][k], wish=wish, factor=factor):
                if not followed[z - k][a] and before[z][b] < 0:
                    followed[z - k][a] = True
                    before[z][b] = offsets[z - k] + a
    return before


def _candidates(
    lower: _Plane, upper: _Plane, shared: _Overlaps, *, wish: JoinSettings, factor: float | None
) -> Iterator[tuple[int, int]]:
    """Rows of objects of two planes that can be one, the best pair first."""
    a, b = np.searchsorted(lower.old, shared.lower), np.searchsorted(upper.old, shared.upper)
    likeness = shared.size / (lower.size[a] + upper.size[b] - shared.size)
    fits = shared.size >= wish.overlap * np.minimum(lower.size[a], upper.size[b])
    if factor is not None:
        away = lower.codes[a] / lower.size[a, None] - upper.codes[b] / upper.size[b, None]
        width = np.maximum(lower.widths[a] / lower.size[a], upper.widths[b] / upper.size[b])
        fits &= np.sqrt((away**2).sum(axis=1)) <= wish.agreement * factor * width
    order = np.lexsort((shared.first, -likeness))
    order = order[fits[order]]
    return zip(a[order].tolist(), b[order].tolist(), strict=True)


def _numbered(planes: list[_Plane], before: list[Counts]) -> Renumbering:
    """Numbers along the links."""
    numbers: list[npt.NDArray[np.uint32]] = []
    known, count = np.zeros(0, np.uint32), 0
    for plane, earlier in zip(planes, before, strict=True):
        new = np.zeros(len(plane.old), np.uint32)
        follows = earlier >= 0
        new[follows] = known[earlier[follows]]
        begins = np.flatnonzero(~follows)
        new[begins[np.argsort(plane.first[begins])]] = np.arange(count + 1, count + 1 + len(begins), dtype=np.uint32)
        count += len(begins)
        numbers.append(new)
        known = np.concatenate([known, new])
    return Renumbering(old=tuple(plane.old for plane in planes), new=tuple(numbers))
