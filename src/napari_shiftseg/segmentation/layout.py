"""How an image larger than memory is cut into blocks, and what that will take: memory, disk, pixels computed twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import lcm, prod
from typing import Any, Literal

import numpy as np

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.geometry import (
    Block,
    BlockGrid,
    Method,
    StreamPlan,
    TilePlan,
    channel_count,
    choose_method,
    plan_part,
    plan_stream,
)
from napari_shiftseg.io import chunk_edges
from napari_shiftseg.machine import cores
from napari_shiftseg.network import Device, stream_wish
from napari_shiftseg.segmentation.prepare import Task, loop_axes

__all__ = ["Layout", "bytes_in_memory", "clustering_threads", "known_stream", "lay_out"]

# What Python with torch and zarr takes before any pixel is read, bytes (measured: 330 to 420 MB).
_BASE = 420 << 20
# What the clustering of one window takes, and per pixel that it sees, and per channel of those (measured: 90 to 790 bytes per
# pixel for 2 to 16 channels).
_CLUSTERING = (40 << 20, 100, 45)
_MOST_THREADS = 4
# Pieces, fragments and the shards being written, bytes per pixel of a block.
_PER_PIXEL = 28
# Labels and intermediate labels with their pyramids, compressed, bytes per pixel: generous, to refuse in time.
_DISK_PER_PIXEL = 1.0
# Share of the tiles' arithmetic below which blocks are streamed.
_WORTH_IT = 0.8
# Larger blocks save little (halo 64 px: 3 % more pixels at 8192 px, 6 % at 4096 px) and make few, long tasks.
_LARGEST = {2: 4096, 3: 512}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Blocks of one frame, and the tiles that run over them.

    Attributes
    ----------
    grid : BlockGrid
    tiles : TilePlan
        Whose tile edges and lattice the tiles of each block keep to.
    exact : bool
        Whether the very tiles of `tiles` run: for bits that depend on the network alone, and where a tile shows in the result
        (off the lattice, and where tiles stand alone). Else each block has tiles that fit it.
    stream : tuple or None
        Rows of a strip and edges of a column, if the network runs as a stream in each block; decided once, so that the columns
        of all blocks meet.
    frames : int
    memory : dict
        Bytes by purpose; their sum bounds the memory that the run takes.
    disk : int
        Bytes that result and intermediate files may take together.
    """

    grid: BlockGrid
    tiles: TilePlan
    exact: bool
    stream: tuple[int, tuple[int, ...]] | None
    frames: int
    memory: dict[str, int]
    disk: int

    @property
    def tasks(self) -> int:
        """Blocks of all frames."""
        return self.frames * len(self.grid)

    @property
    def redundancy(self) -> float:
        """Pixels computed over pixels of the image: blocks see a margin of their surroundings."""
        seen = [
            sum(min(n, start + edge + self.grid.halo) - max(0, start - self.grid.halo) for start in range(0, n, edge))
            for n, edge in zip(self.grid.shape, self.grid.edge, strict=True)
        ]
        return prod(seen) / prod(self.grid.shape)

    def part(self, block: Block) -> TilePlan:
        """The tiles that compute what a block sees."""
        return self.tiles.within(block.seen) if self.exact else plan_part(self.tiles, block.seen)

    def run(self, block: Block) -> Literal["tiles"] | StreamPlan:
        """How the network runs over that part."""
        if self.stream is None:
            return "tiles"
        strip, width = self.stream
        return plan_stream(self.part(block), strip=strip, width=width)

    def plan(self) -> TilePlan:
        """The passes of the network that write each pixel of a frame, as one plan."""
        if self.exact:
            return self.tiles
        axes = []
        for axis, count in enumerate(self.grid.counts):
            windows: list[tuple[slice, slice, slice]] = []
            for place in range(count):
                index = [0] * len(self.grid.counts)
                index[axis] = place
                block = self.grid.at(index)
                part, run = self.part(block), self.run(block)
                offset = part.origin[axis] - self.tiles.origin[axis]
                for read, keep, write in (part if run == "tiles" else run).axes[axis]:
                    start = max(write.start + offset, block.core[axis].start)
                    stop = min(write.stop + offset, block.core[axis].stop)
                    if start < stop:
                        first = keep.start + start - write.start - offset
                        windows.append((read, slice(first, first + stop - start), slice(start, stop)))
            axes.append(tuple(windows))
        return replace(self.tiles, axes=tuple(axes), result_shape=self.grid.shape)

    def method(self) -> dict[str, object]:
        """How the network runs, for the record."""
        if self.stream is None:
            return {"name": "tiles"}
        strip, width = self.stream
        return {"name": "stream", "strip": strip, "width": list(width)}

    def describe(self) -> str:
        """The layout in words."""
        edges = " x ".join(map(str, self.grid.edge))
        frames = f" in each of {self.frames} frames" if self.frames > 1 else ""
        return (
            f"{' x '.join(map(str, self.grid.counts))} block{'s' * (len(self.grid) > 1)} of {edges} px{frames}, "
            f"{self.redundancy:.2f}x the pixels; memory up to {_size(sum(self.memory.values()))}, "
            f"disk up to {_size(self.disk)}"
        )


def lay_out(task: Task, memory: int, *, deterministic: bool, embedding: bool, method: Method = "auto") -> Layout:
    """Choose the largest blocks that fit the memory.

    Parameters
    ----------
    task : Task
    memory : int
        Bytes that the run may take.
    deterministic : bool
        Whether the bits may depend on the network alone.
    embedding : bool
        Whether the embedding is written.
    method : {"auto", "tiles", "stream"}
        "auto" streams within a block where that saves a fifth of the arithmetic: tiles can be left out where they are constant.

    Raises
    ------
    SettingsError
        If even the smallest blocks do not fit, or a stream is wanted where there can be none.
    """
    spec, plan, shape = task.model.lattice, task.plan, task.plan.result_shape
    window, halo = task.clustering.lattice(spec.ndim)
    axes = "zyx"[-spec.ndim :]
    out_chunks = chunk_edges(axes, shape)
    steps = [lcm(window, out_chunks[axis]) for axis in axes]
    _, lengths = loop_axes(task.image, spec.ndim)
    most = _LARGEST[spec.ndim]
    needed: dict[str, int] = {}
    for edge in (most * share // 16 for share in range(16, 0, -1)):
        edges = tuple(_fitted(edge, step, chunk, n) for step, chunk, n in zip(steps, _in_chunks(task), shape, strict=True))
        needed = _memory(task, plan, shape, edges, halo, memory)
        if sum(needed.values()) <= memory:
            break
    else:
        raise SettingsError(
            f"{_size(memory)} of memory were allowed and the smallest blocks take {_size(sum(needed.values()))}; "
            f"allow more, or take a smaller tile (now {' x '.join(map(str, plan.write))} px)."
        )
    frames = prod(lengths)
    values = frames * prod(shape)
    per_pixel = _DISK_PER_PIXEL + (4 * 1.34 * task.model.embedding.count if embedding else 0)
    lattice = all(e % p == 0 for e, p in zip(plan.write, spec.period, strict=True))
    aligned = all((e - halo) % p == 0 or e >= n for e, p, n in zip(edges, spec.period, shape, strict=True))
    layout = Layout(
        grid=BlockGrid(shape=shape, edge=edges, halo=halo),
        tiles=plan,
        exact=deterministic or plan.zeros == "tile" or not (lattice and aligned),
        stream=None,
        frames=frames,
        memory=needed,
        disk=int(values * per_pixel),
    )
    return replace(layout, stream=_stream(layout, task.device, method, deterministic=deterministic))


def known_stream(values: Sequence[Any] | None) -> tuple[int, tuple[int, ...]] | None:
    """`Layout.stream` from what JSON made of it."""
    return None if values is None else (int(values[0]), tuple(values[1]))


def _stream(layout: Layout, device: Device, method: Method, *, deterministic: bool) -> tuple[int, tuple[int, ...]] | None:
    """Strip and columns for all blocks, from what the middle one sees."""
    if layout.exact:
        choose_method(layout.tiles, method, deterministic=deterministic)  # refuses what cannot be
        return None
    part = layout.part(layout.grid.at([count // 2 for count in layout.grid.counts]))
    found = choose_method(part, method, **stream_wish(device, layout.memory["network"]))
    if found is None or (method == "auto" and found.flops > _WORTH_IT * part.flops):
        return None
    return found.strip, tuple(-(-edge // p) * p for edge, p in zip(found.width, part.spec.period[1:], strict=True))


def _in_chunks(task: Task) -> list[int]:
    """Edges of the input's chunks on the spatial axes of the network; 1 where there are none."""
    reader = task.reader
    if reader is None:
        return [1] * task.model.lattice.ndim
    edges = dict(zip(task.image.axes, reader.chunks, strict=True))
    return [edges.get(axis, 1) for axis in "zyx"[-task.model.lattice.ndim :]]


def _fitted(edge: int, step: int, chunk: int, size: int) -> int:
    """An edge of `edge` or less that holds whole windows and output chunks and, where that costs little, input chunks."""
    if size <= max(edge, step):
        return -(-size // step) * step
    best = max(step, edge // step * step)
    both = lcm(step, chunk)
    if best // both * both >= 0.7 * best:
        step, best = both, best // both * both
    count = -(-size // best)
    return -(-size // (count * step)) * step  # as even as can be, so that workers get equal shares


def clustering_threads(device: Device) -> int:
    """Windows of a block that are clustered side by side while the network works on the next block."""
    free = cores() // 2 if device.kind == "cpu" else cores() - 1
    return max(1, min(_MOST_THREADS, free))


def _shared_pixels(task: Task, shape: Sequence[int], edges: Sequence[int], around: Sequence[int]) -> int:
    """Pixels of decoded chunks that wait for a later block, at most: blocks go in raster order and see a margin of each other.

    Before the border of two blocks these are those of the margin, behind it all of the chunks that the margin meets.
    """
    block, shared = [], []
    for n, edge, margin, chunk in zip(shape, edges, around, _in_chunks(task), strict=True):
        ends = [(at - margin, -(-(at + margin) // chunk) * chunk) for at in range(edge, n, edge)]
        shared.append(max((min(n, stop) - max(0, start) for start, stop in ends), default=0))
        block.append(min(n, edge + 2 * margin + chunk))
    return sum(shared[k] * prod(block[:k]) * prod(shape[k + 1 :]) for k in range(len(shape)))


def _clustering_bytes(task: Task) -> int:
    window, halo = task.clustering.lattice(task.model.lattice.ndim)
    base, pixel, channel = _CLUSTERING
    seen = prod((window + 2 * halo,) * task.model.lattice.ndim)
    return base + seen * (pixel + channel * task.model.embedding.count)


def _memory(task: Task, plan: TilePlan, shape: Sequence[int], edges: Sequence[int], halo: int, memory: int) -> dict[str, int]:
    spec, outputs = task.model.lattice, task.model.outputs
    core = prod(min(n, e) for n, e in zip(shape, edges, strict=True))
    seen = prod(min(n, e + 2 * halo) for n, e in zip(shape, edges, strict=True))
    context = [m // 2 + p for m, p in zip(spec.margin, spec.period, strict=True)]
    if plan.zeros == "tile":
        context = list(plan.write)  # whole tiles are read, wherever the block ends
    read = prod(min(n, e + 2 * (halo + c)) for n, e, c in zip(shape, edges, context, strict=True))
    item = np.dtype(task.image.data.dtype).itemsize
    channels = channel_count(outputs)
    cache = 0
    if task.reader is not None:
        shared = _shared_pixels(task, shape, edges, [halo + c for c in context]) * item * spec.in_channels
        cache = min(shared + task.reader.chunk_bytes, max(memory // 4, task.reader.chunk_bytes))
    return {
        "base": _BASE,
        "network": int(spec.peak_bytes(plan.read)),
        "clustering": clustering_threads(task.device) * _clustering_bytes(task),
        # one block is clustered while the network fills the next one
        "block": 2 * 4 * channels * seen + _PER_PIXEL * core,
        # one region is in work while the next one is read
        "input": 2 * item * spec.in_channels * read,
        "chunks": cache,
    }


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def bytes_in_memory(task: Task, *, embedding: bool) -> int:
    """What a run in memory takes for its result, bytes."""
    count = task.model.embedding.count
    pixels = prod(task.plan.result_shape)
    frames = len(task.frames)
    kept = 4 + 4 * ("foreground" in task.model.outputs) + 4 * count * embedding
    # the frame in work has an embedding in any case
    return int(pixels * frames * kept + pixels * (4 * count + _PER_PIXEL))
