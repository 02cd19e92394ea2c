"""The passes over the blocks of an image: find the pieces of each, find the rest that no instance reaches, write the labels.

Between two passes the blocks are joined. A block is a task that can be repeated: what it leaves behind is complete or not
there, and depends on nothing but the image, the model and the layout.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_shiftseg.events import Event
from napari_shiftseg.geometry import Block, TilePlan
from napari_shiftseg.instances import (
    BlockFaces,
    BlockRest,
    Numbers,
    Settling,
    block_table,
    faces_of,
    join_blocks,
    join_rest,
)
from napari_shiftseg.io import BlockPyramid, ChunkReader, WorkFolder
from napari_shiftseg.network import ConstantTiles, needed_pixels
from napari_shiftseg.segmentation.constants import KEPT_FACES
from napari_shiftseg.segmentation.job import Job
from napari_shiftseg.segmentation.layout import Layout
from napari_shiftseg.segmentation.pipeline import Seen, cluster_steps, embed_steps

Round: TypeAlias = Literal["find", "reach", "settle"]


@dataclass(frozen=True, eq=False)
class Region:
    """A part of a frame in memory that answers as the whole frame, for the windows of one block."""

    pixels: npt.NDArray[Any]  # (C, *part)
    corner: tuple[int, ...]  # its first pixel in the frame
    frame_shape: tuple[int, ...]  # (C, *shape) of the frame
    in_memory = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the frame."""
        return self.frame_shape

    @property
    def dtype(self) -> Any:
        """Type of a pixel."""
        return self.pixels.dtype

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[Any]:
        channel, *spatial = key
        moved = [slice(s.start - first, s.stop - first) for s, first in zip(spatial, self.corner, strict=True)]
        return self.pixels[(channel, *moved)]


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockJob:
    """A job by blocks, with the places of what its passes leave; workers make their own from the files of the run."""

    job: Job
    work: WorkFolder
    codes: BlockPyramid  # fragments of each block, between the passes
    labels: BlockPyramid  # the result
    outputs: Mapping[str, BlockPyramid] = field(default_factory=dict)  # of the network, as far as they are written as well
    _known: ConstantTiles = field(default_factory=ConstantTiles)

    @property
    def layout(self) -> Layout:
        """The blocks."""
        layout = self.job.layout
        assert layout is not None
        return layout

    def read(self, frame: int, block: Block) -> Region:
        """The pixels that a block needs, read at once."""
        view = self.job.opened.frames[frame].view
        window = needed_pixels(self.layout.part(block), view.shape[1:])
        channels = slice(0, view.shape[0])
        return Region(
            pixels=view[(channels, *window)], corner=tuple(part.start for part in window), frame_shape=tuple(view.shape)
        )

    def expect(self, tasks: Iterable[tuple[int, int]]) -> None:
        """Tell the reader of the image which blocks will be read, so that it keeps what several of them need."""
        reader = self.job.opened.reader
        if reader is None:
            return
        log = _Log(reader)
        frames = self.job.opened.logged(log, self.job.channels)
        for frame, number in tasks:
            window = needed_pixels(self.layout.part(self.layout.grid[number]), self.layout.tiles.image_shape)
            frames[frame].view[(slice(0, frames[frame].view.shape[0]), *window)]
        reader.expect(log.keys)

    def find_steps(self, frame: int, block: Block, region: Region | None = None) -> Generator[Event, None, None]:
        """Round 1: network and clustering of a block; yields the events of both."""
        seen = yield from self.embed_steps(frame, block, region)
        yield from self.cluster_steps(frame, block, seen)

    def embed_steps(self, frame: int, block: Block, region: Region | None = None) -> Generator[Event, None, Seen]:
        """The network's half of pass 1: yields a `TileDone` per tile, returns what the block sees."""
        part: TilePlan = self.layout.part(block)
        pixels = self.read(frame, block) if region is None else region
        run = self.layout.run(block)
        seen = yield from embed_steps(self.job, frame, part, run=run, pixels=pixels, known=self._known)
        return seen.cropped(
            tuple(
                slice(s.start - first + zero, s.stop - first + zero)
                for s, first, zero in zip(block.seen, part.origin, self.layout.tiles.origin, strict=True)
            )
        )

    def cluster_steps(self, frame: int, block: Block, seen: Seen, *, threads: int = 1) -> Generator[Event, None, None]:
        """The other half of pass 1, clustering and writing: yields a `WindowDone` per window."""
        grid = self.layout.grid
        found, fragments = yield from cluster_steps(
            self.job, seen, inner=block.inner, origin=block.origin, image_shape=grid.shape, threads=threads
        )
        self.codes.write(self.window(frame, block), fragments.codes[self._new_axes(frame)])
        own = seen.cropped(block.inner)
        for name, pyramid in self.outputs.items():
            self._write(pyramid, self.window(frame, block), own.outputs[name])
        # last, since it says that the block is done
        self.work.write_arrays(_faces_name(frame, block.number), faces_of(found, fragments).to_arrays())

    @staticmethod
    def _write(pyramid: BlockPyramid, window: tuple[slice, ...], values: npt.NDArray[np.float32]) -> None:
        """Write an output of a block; of a vector, the channels come before the spatial axes in `values`."""
        shape = tuple(s.stop - s.start for s in window)
        if "c" not in pyramid.axes:
            pyramid.write(window, values.reshape(shape))
            return
        at = pyramid.axes.index("c")
        place = (*window[:at], slice(0, len(values)), *window[at:])
        pyramid.write(place, np.moveaxis(values.reshape(len(values), *shape), 0, at))

    def join(self, frame: int) -> Numbers:
        """After pass 1: number the instances of a frame."""
        return self._numbers(
            f"numbers/{frame}.npz",
            lambda: join_blocks(self.layout.grid, lambda number: self.faces(frame, number), self.job.clustering),
        )

    def reach(self, frame: int, block: Block, numbers: Numbers) -> None:
        """Round 2: what no instance reaches in a block, with the numbers from `join`."""
        rest = self._settling(frame, block, numbers).rest()
        self.work.write_arrays(_rest_name(frame, block.number), rest.to_arrays())

    def join_rest(self, frame: int) -> Numbers:
        """After pass 2: number the instances of a frame anew."""

        def rest(number: int) -> BlockRest:
            return BlockRest.from_arrays(self.work.read_arrays(_rest_name(frame, number)))

        return self._numbers(
            f"numbers/{frame}-with-rest.npz",
            lambda: join_rest(self.layout.grid, rest, self.join(frame), settings=self.job.clustering),
        )

    def _numbers(self, name: str, join: Callable[[], Numbers]) -> Numbers:
        if not self.work.has(name):
            self.work.write_arrays(name, vars(join()))
        return Numbers(**self.work.read_arrays(name))

    def settle(self, frame: int, block: Block, numbers: Numbers) -> None:
        """Round 3: final labels of a block, with the numbers from `join_rest`, and the rows of its instances."""
        labels = self._settling(frame, block, numbers).labels()
        self.labels.write(self.window(frame, block), labels[self._new_axes(frame)])
        table = block_table(labels, [s.start for s in block.core], self.layout.grid.shape, seams=self.seams)
        self.work.write_arrays(_table_name(frame, block.number), table)

    def _settling(self, frame: int, block: Block, numbers: Numbers) -> Settling:
        spatial = tuple(s.stop - s.start for s in block.core)
        codes = np.asarray(self.codes.levels[0][self.window(frame, block)]).reshape(spatial)
        edge = self.job.clustering.lattice(len(spatial))[0]
        load = partial(self.faces, frame)
        return Settling(grid=self.layout.grid, block=block, codes=codes, numbers=numbers, load=load, window=edge)

    def faces(self, frame: int, number: int) -> BlockFaces:
        """What pass 1 wrote of a block."""
        return self._recent(frame, number)

    @cached_property
    def _recent(self) -> Callable[[int, int], BlockFaces]:
        def read(frame: int, number: int) -> BlockFaces:
            return BlockFaces.from_arrays(self.work.read_arrays(_faces_name(frame, number)))

        return lru_cache(KEPT_FACES)(read)

    def found(self) -> set[tuple[int, int]]:
        """Frames and blocks that pass 1 has finished."""
        return _finished(self.work.names("faces"))

    def reached(self) -> set[tuple[int, int]]:
        """Frames and blocks that pass 2 has finished."""
        return _finished(self.work.names("rest"))

    def settled(self) -> set[tuple[int, int]]:
        """Frames and blocks that pass 3 has finished."""
        return _finished(self.work.names("tables"))

    def is_done(self, which: Round, frame: int, number: int) -> bool:
        """Whether a pass has finished a block."""
        name = {"find": _faces_name, "reach": _rest_name, "settle": _table_name}[which]
        return self.work.has(name(frame, number))

    @cached_property
    def seams(self) -> tuple[tuple[int, ...], ...]:
        """Where two tiles meet, result pixels."""
        return self.layout.plan().seams()

    def window(self, frame: int, block: Block) -> tuple[slice, ...]:
        """Place of a block in the result."""
        position = self.job.opened.frames[frame].index.values()
        return (*(slice(at, at + 1) for at in position), *block.core)

    def _new_axes(self, frame: int) -> Any:
        return (None,) * len(self.job.opened.frames[frame].index)


def _faces_name(frame: int, number: int) -> str:
    return f"faces/{frame}-{number}.npz"


def _rest_name(frame: int, number: int) -> str:
    return f"rest/{frame}-{number}.npz"


def _table_name(frame: int, number: int) -> str:
    return f"tables/{frame}-{number}.npz"


def _finished(names: Iterable[str]) -> set[tuple[int, int]]:
    pairs = (name.split("-") for name in names)
    return {(int(frame), int(number)) for frame, number in pairs}


class _Log:
    """Stands for the image and writes down what is read of it."""

    def __init__(self, source: ChunkReader) -> None:
        self.shape, self.dtype, self.ndim = source.shape, source.dtype, source.ndim
        self.keys: list[tuple[Any, ...]] = []

    def __getitem__(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
        self.keys.append(key)
        sizes = [len(range(*k.indices(n))) for k, n in zip(key, self.shape, strict=True) if isinstance(k, slice)]
        return np.broadcast_to(np.zeros((), self.dtype), sizes)
