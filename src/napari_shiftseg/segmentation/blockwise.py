"""The passes over the blocks of an image: find the pieces of each, find the rest that no instance reaches, write the labels.

Between two passes the blocks are joined. A block is a task that can be repeated: what it leaves behind is complete or not
there, and depends on nothing but the image, the model and the layout. What it read of the image it says by a digest, so that
nothing of another image is joined with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_shiftseg.events import Event
from napari_shiftseg.geometry import Block
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
from napari_shiftseg.segmentation.decision import part_sum, sum_text
from napari_shiftseg.segmentation.job import Job
from napari_shiftseg.segmentation.layout import Layout
from napari_shiftseg.segmentation.pipeline import Embedded, Seen, block_steps, cluster_steps, gave_way
from napari_shiftseg.views import LazyArray, in_memory

Round: TypeAlias = Literal["find", "reach", "settle"]

FOLDERS: Mapping[Round, str] = {"find": "faces", "reach": "rest", "settle": "tables"}
"""Where each round leaves a file for each block that it has finished."""

NUMBERS: Mapping[str, str] = {"join": "numbers/{}.npz", "join_rest": "numbers/{}-with-rest.npz"}
"""What is left of the joins of a frame."""


class Region(LazyArray):
    """A part of a frame in memory that answers as the whole frame, for the windows of one block."""

    in_memory = True

    def __init__(self, pixels: npt.NDArray[Any], corner: tuple[int, ...], frame_shape: tuple[int, ...]) -> None:
        # (C, *part), its first pixel in the frame, and (C, *shape) of that
        self._pixels, self._corner, self._shape = pixels, (0, *corner), frame_shape

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the frame."""
        return self._shape

    @property
    def dtype(self) -> Any:
        """Type of a pixel."""
        return self._pixels.dtype

    def _read(self, ranges: Sequence[range]) -> npt.NDArray[Any]:
        return self._pixels[tuple(slice(r.start - at, r.stop - at, r.step) for r, at in zip(ranges, self._corner, strict=True))]

    def digest(self) -> str:
        """Of all pixels, as they were read."""
        found = hashlib.blake2b(digest_size=16)
        for rows in (rows for channel in self._pixels for rows in channel):
            found.update(np.ascontiguousarray(rows).data)
        return found.hexdigest()

    def sum(self, window: Sequence[slice], frame: int) -> str | None:
        """The `part_sum` of a window of the frame; None where not all of it is here."""
        corner = [part.start - at for part, at in zip(window, self._corner[1:], strict=True)]
        sizes = [part.stop - part.start for part in window]
        ends = zip(corner, sizes, self._pixels.shape[1:], strict=True)
        if not all(first >= 0 and first + size <= there for first, size, there in ends):
            return None
        own = self._pixels[(slice(None), *(slice(at, at + size) for at, size in zip(corner, sizes, strict=True)))]
        return sum_text(part_sum(np.ascontiguousarray(own), [part.start for part in window], frame))


def _own_pixels(block: Block, result: Sequence[int], frame: Sequence[int]) -> tuple[slice, ...]:
    """The part of a frame that counts for a block: such parts cover it, once, also where its border has no result."""
    return tuple(
        slice(part.start * size // edge, part.stop * size // edge)
        for part, edge, size in zip(block.core, result, frame, strict=True)
    )


def read_region(job: Job, frame: int, block: Block) -> Region:
    """The pixels that a block needs, read at once."""
    assert job.layout is not None
    view = job.opened.frames[frame].view
    window = needed_pixels(job.layout.part(block), view.shape[1:])
    pixels = view[(slice(0, view.shape[0]), *window)]
    if in_memory(view):  # where others may write meanwhile
        pixels = pixels.copy()
    return Region(pixels, tuple(part.start for part in window), tuple(view.shape))


def expect_blocks(job: Job, tasks: Iterable[tuple[int, int]]) -> None:
    """Tell the reader of the image which blocks will be read, so that it keeps what several of them need."""
    layout, reader = job.layout, job.opened.reader
    if reader is None or layout is None:
        return
    log = _Log(reader)
    frames = job.opened.logged(log, job.channels)
    for frame, number in tasks:
        window = needed_pixels(layout.part(layout.grid[number]), layout.tiles.image_shape)
        frames[frame].view[(slice(0, frames[frame].view.shape[0]), *window)]
    reader.expect(log.keys)


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockJob:
    """A job by blocks, with the places of what its passes leave; workers make their own from the files of the run."""

    job: Job
    work: WorkFolder
    codes: BlockPyramid  # fragments of each block, between the passes
    labels: BlockPyramid  # the result
    outputs: Mapping[str, BlockPyramid] = field(default_factory=dict)  # of the network, as far as they are written as well
    _known: ConstantTiles = field(default_factory=ConstantTiles)
    # of what was read, by frame and block; and the sum of what no other block counts
    _digests: dict[tuple[int, int], tuple[str, str | None]] = field(default_factory=dict)

    @property
    def layout(self) -> Layout:
        """The blocks."""
        layout = self.job.layout
        assert layout is not None
        return layout

    def read(self, frame: int, block: Block) -> Region:
        """The pixels that a block needs, read at once."""
        region = read_region(self.job, frame, block)
        own = _own_pixels(block, self.layout.grid.shape, region.shape[1:])
        self._digests[frame, block.number] = (region.digest(), region.sum(own, frame))
        return region

    def expect(self, tasks: Iterable[tuple[int, int]]) -> None:
        """As `expect_blocks`."""
        expect_blocks(self.job, tasks)

    def find_steps(self, frame: int, block: Block) -> Generator[Event, None, None]:
        """Round 1: network and clustering of a block; yields the events of both."""
        seen = yield from self.embed_steps(frame, block, self.read(frame, block))
        yield from self.cluster_steps(frame, block, seen)

    def embed_steps(self, frame: int, block: Block, region: Region) -> Generator[Event, None, Seen]:
        """The network's half of round 1: yields a `TileDone` per tile, returns what the block sees."""
        return (yield from block_steps(self.job, frame, block, pixels=region, known=self._known))

    def cluster_steps(self, frame: int, block: Block, seen: Seen, *, threads: int = 1) -> Generator[Event, None, None]:
        """The other half of round 1, clustering and writing: yields a `WindowDone` per window."""
        found, fragments = yield from cluster_steps(self.job, seen, block, threads=threads)
        self.codes.write(self.window(frame, block), fragments.codes[self._new_axes(frame)])
        files = self.codes.files(self.window(frame, block))
        own = seen.cropped(block.inner)
        for name, pyramid, place in self._outputs(frame, block):
            values, shape = own.outputs[name], [part.stop - part.start for part in place]
            if "c" in pyramid.axes:  # which comes before the spatial axes in `values`, and in the file after the time
                at = pyramid.axes.index("c")
                values = np.moveaxis(values.reshape(len(values), *shape[:at], *shape[at + 1 :]), 0, at)
            pyramid.write(place, values.reshape(shape))
            files += pyramid.files(place)
        if isinstance(seen, Embedded) and (smaller := gave_way(seen.planned, seen.prediction)):
            self.work.write_json("smaller.json", smaller)
        # last, since it says that the block is done
        digest, counted = self._digests.pop((frame, block.number), ("", None))
        told = {
            "pixels": digest,
            "sum": counted,
            "gaps": seen.gaps_of(frame) if isinstance(seen, Embedded) else None,
        }
        faces = faces_of(found, fragments).to_arrays()
        self.work.write_arrays(part_file("find", frame, block.number), faces, files=files, told=told)

    def _outputs(self, frame: int, block: Block) -> Iterator[tuple[str, BlockPyramid, tuple[slice, ...]]]:
        """Each output that is written, and the place of a block in it."""
        window = self.window(frame, block)
        for name, pyramid in self.outputs.items():
            if "c" in pyramid.axes:
                at = pyramid.axes.index("c")
                yield name, pyramid, (*window[:at], slice(0, pyramid.levels[0].shape[at]), *window[at:])
            else:
                yield name, pyramid, window

    def join(self, frame: int) -> Numbers:
        """After round 1: number the instances of a frame."""
        return self._numbers(
            NUMBERS["join"].format(frame),
            lambda: join_blocks(self.layout.grid, lambda number: self.faces(frame, number), self.job.clustering),
        )

    def reach(self, frame: int, block: Block, numbers: Numbers) -> None:
        """Round 2: what no instance reaches in a block, with the numbers from `join`."""
        rest = self._settling(frame, block, numbers).rest()
        self.work.write_arrays(part_file("reach", frame, block.number), rest.to_arrays())

    def join_rest(self, frame: int) -> Numbers:
        """After round 2: number the instances of a frame anew."""

        def rest(number: int) -> BlockRest:
            return BlockRest.from_arrays(self.work.read_arrays(part_file("reach", frame, number)))

        return self._numbers(
            NUMBERS["join_rest"].format(frame),
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
        files = self.labels.files(self.window(frame, block))
        self.work.write_arrays(part_file("settle", frame, block.number), table, files=files)

    def _settling(self, frame: int, block: Block, numbers: Numbers) -> Settling:
        spatial = tuple(s.stop - s.start for s in block.core)
        codes = np.asarray(self.codes.levels[0][self.window(frame, block)]).reshape(spatial)
        edge = self.job.clustering.lattice(len(spatial))[0]
        load = partial(self.faces, frame)
        return Settling(grid=self.layout.grid, block=block, codes=codes, numbers=numbers, load=load, window=edge)

    @cached_property
    def faces(self) -> Callable[[int, int], BlockFaces]:
        """What round 1 wrote of a block, by frame and number."""

        def read(frame: int, number: int) -> BlockFaces:
            return BlockFaces.from_arrays(self.work.read_arrays(part_file("find", frame, number)))

        return lru_cache(KEPT_FACES)(read)

    def done(self, which: Round) -> set[tuple[int, int]]:
        """Frames and blocks that a round has finished."""
        pairs = (name.split("-") for name in self.work.names(FOLDERS[which]))
        return {(int(frame), int(number)) for frame, number in pairs}

    def is_done(self, which: Round, frame: int, number: int) -> bool:
        """Whether a round has finished a block."""
        return self.work.has(part_file(which, frame, number))

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


def part_file(which: Round, frame: int, number: int) -> str:
    """What a round leaves of a block, in the work folder."""
    return f"{FOLDERS[which]}/{frame}-{number}.npz"


class _Log(LazyArray):
    """Stands for the image and writes down what is read of it."""

    def __init__(self, source: ChunkReader) -> None:
        self._source, self.keys = source, list[tuple[slice, ...]]()

    @property
    def shape(self) -> tuple[int, ...]:
        return self._source.shape

    @property
    def dtype(self) -> Any:
        return self._source.dtype

    def _read(self, ranges: Sequence[range]) -> npt.NDArray[Any]:
        self.keys.append(tuple(slice(r.start, r.stop, r.step) for r in ranges))
        return np.broadcast_to(np.zeros((), self.dtype), tuple(map(len, ranges)))
