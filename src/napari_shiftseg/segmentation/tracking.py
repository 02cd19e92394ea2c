"""`track_frames`: which objects of the frames of a series are one, and which are daughters, by laptrack."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from math import pi, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.events import Event, WindowDone
from napari_shiftseg.instances import Renumbering, object_table
from napari_shiftseg.views import ArrayLike, View

Places = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TrackSettings:
    """How objects of frames become objects of a series.

    Attributes
    ----------
    distance : float
        An object is at most so far from itself in the next frame, in diameters of the median object. A change of its diameter
        counts as a way of the same length.
    gap : int
        Frames that an object may be missing in, 0 or more.
    splits : bool
        Whether an object can become two. Both are smaller than it was, and within its `distance`.
    """

    distance: float = 1.0
    gap: int = 1
    splits: bool = True

    def check(self) -> None:
        """SettingsError where a value cannot work."""
        numbers = (int, float, np.integer, np.floating)
        if isinstance(self.distance, bool) or not isinstance(self.distance, numbers) or not 0 < self.distance < float("inf"):
            raise SettingsError(f"distance is {self.distance!r}; give a positive number of diameters.")
        if isinstance(self.gap, bool) or not isinstance(self.gap, int | np.integer) or self.gap < 0:
            raise SettingsError(f"gap is {self.gap!r}; give a number of frames, 0 or more.")
        if not isinstance(self.splits, bool):
            raise SettingsError(f"splits is {self.splits!r}; give True or False.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Tracks:
    """Objects through time.

    Attributes
    ----------
    numbers : Renumbering
        Of each frame: the number of an object is that of its track. Tracks are numbered 1, 2, ... by their first frame. Where
        an object splits its track ends, and two others begin.
    parents : dict of int to int
        The track that each daughter came from.
    places : ndarray
        (N, 2 + ndim) track, frame and centroid (pixels) of each object, by track and frame: the data of a layer of napari
        tracks.
    """

    numbers: Renumbering
    parents: dict[int, int]
    places: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Frame:
    """Objects of a frame, in the order of their places, which their numbers do not change."""

    old: npt.NDArray[np.int64]
    pixels: Places  # (N, ndim) centroid
    at: Places  # (N, ndim + 1) centroid and diameter, in the unit


def check_laptrack() -> Any:
    """The tracker; SettingsError where it is not installed."""
    try:
        from laptrack import LapTrack
    except ImportError as exc:
        raise SettingsError(
            'linking through time needs laptrack, which is not installed: pip install "napari-shiftseg[track]".'
        ) from exc
    return LapTrack


def track_frames_steps(
    labels: ArrayLike, spacing: Sequence[float], settings: TrackSettings | None = None
) -> Generator[Event, None, Tracks]:
    """Link the frames of a series; yields a `WindowDone` per frame, returns the `Tracks`.

    Neighbouring frames are linked first, then what is missing in some, then daughters to what they came from: each time by
    the assignment of least total squared distance (Jaqaman et al. 2008), which laptrack finds. One frame is read at a time.

    Parameters
    ----------
    labels : array-like
        (T, *shape) int, 0 is the background.
    spacing : sequence of float
        Step per axis of a frame, all in one unit.
    settings : TrackSettings, optional
    """
    wish = settings or TrackSettings()
    wish.check()
    tracker = check_laptrack()
    frames: list[_Frame] = []
    for t in range(labels.shape[0]):
        frames.append(_frame(View.at(labels, {0: t}, name="the labels"), spacing))
        yield WindowDone(done=t + 1, total=labels.shape[0], window=(slice(t, t + 1),))
    yield Event(done=0, total=len(frames))
    links = _Links(frames, _reach(frames, wish), tracker)
    for t in range(len(frames) - 1):
        links.join(t, t + 1)
        yield Event(done=t + 1, total=len(frames))
    for k in range(2, wish.gap + 2):
        for t in range(len(frames) - k):
            links.join(t, t + k)
    mothers = links.split() if wish.splits else {}
    yield Event(done=len(frames), total=len(frames))
    return _tracks(frames, links.before, mothers, ndim=len(spacing))


def tracks_of(labels: ArrayLike, parents: Mapping[int, int]) -> Tracks:
    """Of labels (T, *shape) whose numbers are those of tracks already; one frame is read at a time."""
    ndim = len(labels.shape) - 1
    frames = [_frame(View.at(labels, {0: t}, name="the labels"), (1.0,) * ndim) for t in range(labels.shape[0])]
    there = tuple(np.sort(frame.old) for frame in frames)
    rows = [np.column_stack([frame.old, np.full(len(frame.old), t), frame.pixels]) for t, frame in enumerate(frames)]
    places = np.concatenate(rows) if rows else np.zeros((0, 2 + ndim))
    numbers = Renumbering(old=there, new=tuple(old.astype(np.uint32) for old in there))
    return Tracks(numbers=numbers, parents=dict(parents), places=places[np.lexsort((places[:, 1], places[:, 0]))])


def _frame(labels: ArrayLike, spacing: Sequence[float]) -> _Frame:
    table = object_table(labels)
    ndim = len(spacing)
    pixels = np.stack([table[f"centroid_{axis}"] for axis in "zyx"[-ndim:]], axis=1)
    size = table["area"] * prod(spacing)
    diameter = 2 * np.sqrt(size / pi) if ndim == 2 else np.cbrt(6 * size / pi)
    order = np.lexsort((table["area"], *pixels.T[::-1]))
    at = np.column_stack([pixels * np.asarray(spacing), diameter])
    return _Frame(old=table["index"][order], pixels=pixels[order], at=at[order])


def _reach(frames: list[_Frame], wish: TrackSettings) -> float:
    diameters = np.concatenate([frame.at[:, -1] for frame in frames]) if frames else np.zeros(0)
    return wish.distance * float(np.median(diameters)) if len(diameters) else 0.0


class _Links:
    """Links between objects of frames; each has one predecessor and one successor at most."""

    def __init__(self, frames: list[_Frame], reach: float, tracker: Any) -> None:
        self._frames, self._reach, self._tracker = frames, reach, tracker
        # per frame and object: frame and row of the one before, -1 for none; and whether there is one after
        self.before = [np.full((len(frame.old), 2), -1, np.int64) for frame in frames]
        self.after = [np.full((len(frame.old), 2), -1, np.int64) for frame in frames]

    def join(self, t: int, later: int) -> None:
        """Link what ends in one frame to what begins in a later one."""
        ends, starts = np.flatnonzero(self.after[t][:, 0] < 0), np.flatnonzero(self.before[later][:, 0] < 0)
        for a, b in self._pairs(self._frames[t].at[ends], self._frames[later].at[starts]):
            self.after[t][ends[a]] = later, starts[b]
            self.before[later][starts[b]] = t, ends[a]

    def split(self) -> dict[tuple[int, int], tuple[int, int]]:
        """Frame and row of each daughter to those of its mother, which has two."""
        found: dict[tuple[int, int], tuple[int, int]] = {}
        for t in range(len(self._frames) - 1):
            here, next_ = self._frames[t].at, self._frames[t + 1].at
            mothers = np.flatnonzero(self.after[t][:, 0] == t + 1)
            heirs = self.after[t][mothers, 1]
            smaller = next_[heirs, -1] < here[mothers, -1]
            mothers, heirs = mothers[smaller], heirs[smaller]
            starts = np.flatnonzero(self.before[t + 1][:, 0] < 0)
            for a, b in self._pairs(here[mothers], next_[starts]):
                if next_[starts[b], -1] < here[mothers[a], -1]:
                    found[t + 1, int(starts[b])] = found[t + 1, int(heirs[a])] = (t, int(mothers[a]))
        return found

    def _pairs(self, ends: Places, starts: Places) -> list[tuple[int, int]]:
        """Rows that belong together."""
        if not len(ends) or not len(starts) or not self._reach:
            return []
        # its steps that follow ask of each track for all others, which takes hours for ten thousand: they are done above
        tracker = self._tracker(cutoff=self._reach**2, gap_closing_cutoff=False)
        return sorted((a, b) for (_, a), (_, b) in tracker.predict([ends, starts]).edges)


def _tracks(
    frames: list[_Frame],
    before: list[npt.NDArray[np.int64]],
    mothers: Mapping[tuple[int, int], tuple[int, int]],
    *,
    ndim: int,
) -> Tracks:
    """Numbers along the links."""
    numbers: list[npt.NDArray[np.uint32]] = []
    parents: dict[int, int] = {}
    count = 0
    for t, frame in enumerate(frames):
        new = np.zeros(len(frame.old), np.uint32)
        for row, (s, earlier) in enumerate(before[t].tolist()):
            mother = mothers.get((t, row))
            if s >= 0 and mother is None:
                new[row] = numbers[s][earlier]
                continue
            count += 1
            new[row] = count
            if mother is not None:
                parents[count] = int(numbers[mother[0]][mother[1]])
        numbers.append(new)
    there = enumerate(zip(numbers, frames, strict=True))
    rows = [np.column_stack([new, np.full(len(new), t), frame.pixels]) for t, (new, frame) in there]
    places = np.concatenate(rows) if rows else np.zeros((0, 2 + ndim))
    places = places[np.lexsort((places[:, 1], places[:, 0]))]
    order = [np.argsort(frame.old) for frame in frames]
    return Tracks(
        numbers=Renumbering(
            old=tuple(frame.old[at] for frame, at in zip(frames, order, strict=True)),
            new=tuple(new[at] for new, at in zip(numbers, order, strict=True)),
        ),
        parents=parents,
        places=places,
    )
