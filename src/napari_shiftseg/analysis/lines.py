"""Lines across a result: where tiles meet, and beside each such seam the lines that it is compared with.

A line `p` on an axis lies between pixels `p - 1` and `p`. Around each seam one slab of `2 * period + 2` pixels is read, and
all lines in it are measured: the seam, the lines of the same phase one period away, and those of all other phases between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.analysis.constants import SEGMENT, SLAB_BYTES
from napari_shiftseg.errors import ImageError, SettingsError
from napari_shiftseg.geometry import TilePlan
from napari_shiftseg.views import ArrayLike

__all__ = ["Lines", "Slab", "counted", "jumps", "lines_of", "segment_sums", "slabs"]


@dataclass(frozen=True, kw_only=True)
class Lines:
    """What a tile plan says about lines: seams and period per axis, pixels of the result."""

    shape: tuple[int, ...]
    period: tuple[int, ...]
    seams: tuple[tuple[int, ...], ...]

    def chosen(self, most: int) -> tuple[tuple[int, int], ...]:
        """(axis, position) of up to `most` seams per axis, evenly spaced."""
        picked: list[tuple[int, int]] = []
        for axis, seams in enumerate(self.seams):
            count = min(most, len(seams))
            picked += [(axis, seams[i * len(seams) // count]) for i in range(count)]
        return tuple(picked)

    def same_phase(self, axis: int, position: int) -> tuple[int, ...]:
        """Lines one period away that are no seams: the same two output functions meet there."""
        period = self.period[axis]
        return self._no_seams(axis, (position - period, position + period))

    def next_phase(self, axis: int, position: int) -> tuple[int, ...]:
        """Lines where only the deepest pooling has no boundary: the most alike where every line of this phase is a seam."""
        period = self.period[axis]
        factor = next((n for n in range(2, period + 1) if period % n == 0), 1)
        return self._no_seams(axis, (position - period // factor, position + period // factor))

    def nearby(self, axis: int, position: int) -> tuple[int, ...]:
        """Lines of all phases within a period, that are no seams and do not touch this one."""
        reach = max(self.period[axis], 4)
        return self._no_seams(axis, [position + d for d in range(-reach, reach + 1) if abs(d) > 1])

    def extent(self, axis: int, position: int) -> slice:
        """Pixels along `axis` that hold the seam and all lines that it is compared with."""
        reach = max(self.period[axis], 4)
        return slice(max(0, position - reach - 1), min(self.shape[axis], position + reach + 1))

    def _no_seams(self, axis: int, lines: Sequence[int]) -> tuple[int, ...]:
        seams = set(self.seams[axis])
        return tuple(p for p in lines if 0 < p < self.shape[axis] and p not in seams)


def lines_of(plan: TilePlan | Mapping[str, Any]) -> Lines:
    """Seams and period of a plan, of `TilePlan.to_dict()`, or of a whole record that holds it under "plan".

    Raises
    ------
    SettingsError
        If the mapping is none of these.
    """
    if isinstance(plan, TilePlan):
        return Lines(shape=plan.result_shape, period=plan.lattice.period, seams=plan.seams())
    try:
        values = plan.get("plan", plan)
        lines = Lines(
            shape=tuple(map(int, values["result_shape"])),
            period=tuple(map(int, values["period"])),
            seams=tuple(tuple(map(int, axis)) for axis in values["seams"]),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise SettingsError(f"the plan holds no {exc}; give a TilePlan, or the plan that a result's record holds.") from exc
    if not len(lines.shape) == len(lines.period) == len(lines.seams):
        raise SettingsError("the plan's result_shape, period and seams have different numbers of axes; give one plan's.")
    return lines


@dataclass(frozen=True, kw_only=True, eq=False)
class Slab:
    """Pixels around a seam, the axis across it first.

    Attributes
    ----------
    first : int
        Line of `pixels[..., 1, ...]`'s lower border: line `p` lies between entries `p - first` and `p - first + 1`.
    pixels : ndarray
        (E, lines + 1, *other axes) for an embedding, (lines + 1, *other axes) for labels.
    truth : ndarray or None
        (lines + 1, *other axes) int, true objects at the same place.
    """

    first: int
    pixels: npt.NDArray[Any]
    truth: npt.NDArray[Any] | None = None


def slabs(array: ArrayLike, lines: Lines, axis: int, *, position: int, truth: ArrayLike | None = None) -> Iterator[Slab]:
    """Read the surroundings of a seam in pieces of bounded memory; a piece holds whole segments.

    Parameters
    ----------
    array : array-like
        (E, *shape) or (*shape), anything that slices to numpy arrays.
    truth : array-like, optional
        (*shape) int, read beside it.
    """
    lead = len(array.shape) - len(lines.shape)
    if tuple(array.shape[lead:]) != lines.shape or lead not in (0, 1):
        raise ImageError(
            f"an array of shape {tuple(array.shape)} does not fit the plan's result of {lines.shape} px; "
            "give the result that was computed with this plan, channels first."
        )
    if truth is not None and tuple(truth.shape) != lines.shape:
        raise ImageError(f"a truth of shape {tuple(truth.shape)} does not fit the plan's result of {lines.shape} px.")
    across = lines.extent(axis, position)
    others = [k for k in range(len(lines.shape)) if k != axis]
    for piece in _pieces(array, lines, others, depth=across.stop - across.start):
        window = [slice(None)] * len(lines.shape)
        window[axis] = across
        if others:
            window[others[0]] = piece
        block = np.asarray(array[(*[slice(None)] * lead, *window)])
        yield Slab(
            first=across.start + 1,
            pixels=np.moveaxis(block, lead + axis, lead),
            truth=None if truth is None else np.moveaxis(np.asarray(truth[tuple(window)]), axis, 0),
        )


def _pieces(array: ArrayLike, lines: Lines, others: Sequence[int], *, depth: int) -> Iterator[slice]:
    if not others:
        yield slice(None)
        return
    size, segment = lines.shape[others[0]], SEGMENT[len(lines.shape)]
    channels = prod(array.shape) // prod(lines.shape)
    row = depth * channels * prod(lines.shape[k] for k in others[1:]) * 4
    length = max(1, SLAB_BYTES // (row * segment)) * segment
    for start in range(0, size, length):
        yield slice(start, min(start + length, size))


def jumps(slab: Slab) -> npt.NDArray[np.float64]:
    """L2 distance of the two pixels at each place of each line: (lines, *other axes)."""
    step = np.diff(slab.pixels.astype(np.float64), axis=1)
    lengths = np.asarray(np.sqrt((step**2).sum(axis=0)))
    if not np.isfinite(lengths).all():
        raise ImageError("the embedding holds NaN or infinite values beside a seam; compute it again from a finite image.")
    return lengths


def counted(slab: Slab) -> npt.NDArray[np.bool_]:
    """Which jumps count, (lines, *other axes): all, or with a truth those inside one of its objects."""
    if slab.truth is None:
        return np.ones((slab.pixels.shape[1] - 1, *slab.pixels.shape[2:]), bool)
    below, above = slab.truth[:-1], slab.truth[1:]
    return np.asarray((below == above) & (below > 0))


def segment_sums(values: npt.NDArray[Any], ndim: int) -> npt.NDArray[np.float64]:
    """Sums over the segments of each line: (lines, *other axes) -> (lines, segments)."""
    length = SEGMENT[ndim]
    sums = values.astype(np.float64)
    for axis in range(1, sums.ndim):
        size = sums.shape[axis]
        # the last segment takes what would be a short rest
        starts = np.arange(0, max(1, size // length)) * length
        sums = np.add.reduceat(sums, starts, axis=axis)
    return sums.reshape(len(sums), -1)
