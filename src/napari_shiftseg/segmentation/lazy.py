"""`LazyEmbedding`: the embedding of an image too large to keep it, computed tile by tile where it is asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from itertools import product
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_shiftseg.events import TileDone, drain
from napari_shiftseg.geometry import TilePlan, Window
from napari_shiftseg.network import ConstantTiles, Limits, Model
from napari_shiftseg.segmentation.constants import CACHE, SMALLEST_LEVEL
from napari_shiftseg.segmentation.decision import decide
from napari_shiftseg.segmentation.intensity import Intensity
from napari_shiftseg.segmentation.job import Job
from napari_shiftseg.segmentation.pipeline import predict_part
from napari_shiftseg.segmentation.settings import SegmentSettings
from napari_shiftseg.views import LazyArray, View

Place: TypeAlias = tuple[int, ...]
"""A tile: positions on the looped axes, then its number along each axis of the plan."""


def lazy_embedding(
    image: Any,
    model: Model | str | Path,
    settings: SegmentSettings,
    *,
    limits: Limits | Intensity,
    plan: TilePlan | None = None,
    cache: int = CACHE,
) -> LazyEmbedding:
    """The embedding of an image as an array that is computed on demand.

    Parameters
    ----------
    image, model, settings
        As in `segment`.
    limits : Limits or Intensity
        Intensities that become 0 and 1: those of the run whose embedding it is.
    plan : TilePlan, optional
        The tiles of that run, where they are known; by default those that `segment` would take.
    cache : int
        Bytes of tiles that are kept.
    """
    job = decide(image, model, replace(settings, out_of_core=False))
    intensity = Intensity(limits=(limits,)) if isinstance(limits, Limits) else limits
    return LazyEmbedding(replace(job, intensity=intensity, plan=plan or job.plan), cache=cache)


class LazyEmbedding(LazyArray):
    """An array (E, [t], [z], y, x) float32 of which only the tiles that a request meets are computed.

    The tiles are those of the plan for the whole image, so that each value is the one that a run over the whole image gives.
    Tiles that were used last are kept. Several threads may ask at once; one tile is computed at a time.

    Parameters
    ----------
    job : Job
        With the limits of the whole image.
    cache : int
        Bytes of tiles that are kept, one tile at least.

    Attributes
    ----------
    plan : TilePlan
        Of one frame.
    axes : str
        All axes but the channels, which come first.
    computed : int
        Passes of the network so far.
    """

    def __init__(self, job: Job, *, cache: int = CACHE) -> None:
        self.plan: TilePlan = job.plan
        self.axes, self._looped = job.axes, job.lengths
        self.computed = 0
        self._job, self._most = job, cache
        self._tiles: OrderedDict[Place, npt.NDArray[np.float32]] = OrderedDict()
        self._constant = ConstantTiles()
        self._lock, self._working = Lock(), Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> LazyEmbedding:
        return self  # a copied layer looks at the same embedding

    # -- an array -----------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, then the sizes of `axes`."""
        return (self._job.opened.model.embedding.count, *self._looped, *self.plan.result_shape)

    @property
    def chunks(self) -> tuple[int, ...]:
        """What is computed at once."""
        write = (min(edge, n) for edge, n in zip(self.plan.write, self.plan.result_shape, strict=True))
        return (self._job.opened.model.embedding.count, *(1,) * len(self._looped), *write)

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Type of one value."""
        return np.dtype(np.float32)

    def _read(self, ranges: Sequence[range]) -> npt.NDArray[np.float32]:
        out = np.empty(tuple(map(len, ranges)), np.float32)
        for place in self.tiles([slice(r[0], r[-1] + 1) for r in ranges[1:]]):
            self._paste(out, ranges, place, block=self._tile(place))
        return out

    # -- tiles --------------------------------------------------------------------------------------------------------

    @property
    def at_once(self) -> int:
        """How many tiles can be kept together."""
        return max(1, self._most // (4 * prod(self.chunks)))

    def tiles(self, window: Sequence[slice]) -> list[Place]:
        """The tiles that a window meets, without computing any.

        `window`: one per axis of `axes`, pixels, inside the array.
        """
        return list(product(*self._met(window)))

    def count(self, window: Sequence[slice]) -> int:
        """How many tiles a window meets."""
        return prod(map(len, self._met(window)))

    def _met(self, window: Sequence[slice]) -> list[range]:
        looped = len(self._looped)
        met = [range(part.start, part.stop) for part in window[:looped]]
        for tiles, edge, part in zip(self.plan.axes, self.plan.write, window[looped:], strict=True):
            stop = min(len(tiles), -(-part.stop // edge))
            met.append(range(min(part.start // edge, stop), stop))
        return met

    def known(self, place: Place) -> bool:
        """Whether a tile is there already."""
        with self._lock:
            return place in self._tiles

    def steps(self, places: Iterable[Place]) -> Generator[TileDone, None, None]:
        """Compute some tiles, in this order; a `TileDone` for each, with its window along `axes`."""
        wanted = list(places)
        for number, place in enumerate(wanted):
            self._tile(place)
            yield TileDone(done=number + 1, total=len(wanted), write=self.window(place))

    def window(self, place: Place) -> Window:
        """What a tile writes, one slice per axis of `axes`."""
        looped = len(self._looped)
        spatial = (tiles[number][2] for tiles, number in zip(self.plan.axes, place[looped:], strict=True))
        return (*(slice(at, at + 1) for at in place[:looped]), *spatial)

    def _tile(self, place: Place) -> npt.NDArray[np.float32]:
        block = self._kept(place)
        if block is not None:
            return block
        with self._working:
            block = self._kept(place)  # another thread may have been faster
            if block is None:
                block = self._compute(place)
                self._keep(place, block)
        return block

    def _kept(self, place: Place) -> npt.NDArray[np.float32] | None:
        with self._lock:
            block = self._tiles.get(place)
            if block is not None:
                self._tiles.move_to_end(place)
            return block

    def _keep(self, place: Place, block: npt.NDArray[np.float32]) -> None:
        with self._lock:
            self._tiles[place] = block
            self.computed += 1
            while len(self._tiles) > 1 and sum(kept.nbytes for kept in self._tiles.values()) > self._most:
                self._tiles.popitem(last=False)

    def _compute(self, place: Place) -> npt.NDArray[np.float32]:
        looped = len(self._looped)
        number = int(np.ravel_multi_index(place[:looped], self._looped)) if looped else 0
        part = self.plan.within(self.window(place)[looped:])
        prediction = drain(predict_part(self._job, number, part, known=self._constant))
        block: npt.NDArray[np.float32] = prediction.embedding
        return block[(slice(None), *(None,) * looped)]

    def _paste(
        self, out: npt.NDArray[np.float32], ranges: Sequence[range], place: Place, *, block: npt.NDArray[np.float32]
    ) -> None:
        """Copy what the ranges see of a tile."""
        into: list[slice] = [slice(None)]
        part: list[slice | list[int]] = [slice(None)]
        for positions, write in zip(ranges[1:], self.window(place), strict=True):
            first = max(0, -(-(write.start - positions.start) // positions.step))
            last = min(len(positions), -(-(write.stop - positions.start) // positions.step))
            if first >= last:
                return
            into.append(slice(first, last))
            start = positions.start + first * positions.step - write.start
            part.append(slice(start, start + (last - first - 1) * positions.step + 1, positions.step))
        channels = ranges[0]
        out[tuple(into)] = block[tuple(part)][channels.start : channels.stop : channels.step]

    # -- what is known ------------------------------------------------------------------------------------------------

    def fill(self, ranges: Sequence[range]) -> npt.NDArray[np.float32]:
        """The known values at some positions of each axis, NaN elsewhere; nothing is computed."""
        out = np.full(tuple(map(len, ranges)), np.nan, np.float32)
        with self._lock:
            tiles = list(self._tiles.items())
        for place, block in tiles:
            self._paste(out, ranges, place, block=block)
        return out

    def levels(self) -> list[View]:
        """What is known, NaN elsewhere, as a pyramid for a viewer: each level half as large on y and x; it never computes."""
        found, factor = [], 1
        while True:
            steps = [1, *(factor if axis in "yx" else 1 for axis in self.axes)]
            picks = [range(0, size, step) for size, step in zip(self.shape, steps, strict=True)]
            found.append(View(_Known(self), picks, range(self.ndim), name="the embedding"))
            if max(found[-1].shape[-2:]) < SMALLEST_LEVEL:
                return found
            factor *= 2


class _Known(LazyArray):
    """What is known of a lazy embedding, NaN elsewhere."""

    def __init__(self, embedding: LazyEmbedding) -> None:
        self._embedding = embedding

    @property
    def shape(self) -> tuple[int, ...]:
        return self._embedding.shape

    @property
    def dtype(self) -> np.dtype[np.float32]:
        return self._embedding.dtype

    def _read(self, ranges: Sequence[range]) -> npt.NDArray[np.float32]:
        return self._embedding.fill(ranges)
