"""How an image larger than memory is cut into blocks, and what that will take: memory, disk, pixels computed twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import lcm, prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.geometry import (
    Block,
    BlockGrid,
    Method,
    Output,
    StreamPlan,
    TilePlan,
    choose_method,
    plan_part,
    plan_stream,
    value_count,
)
from napari_shiftseg.instances import LabelSettings
from napari_shiftseg.io import chunk_edges
from napari_shiftseg.machine import byte_text
from napari_shiftseg.network import Device, stream_wish
from napari_shiftseg.segmentation.constants import BASE, DISK_PER_PIXEL, LARGEST, MOST_THREADS, PER_PIXEL, WORTH_IT

if TYPE_CHECKING:
    from napari_shiftseg.segmentation.job import Inputs


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Blocks of one frame, and the tiles that run over them."""

    grid: BlockGrid
    tiles: TilePlan  # whose tile edges and lattice the tiles of each block keep to
    # whether the very tiles of `tiles` run: for bits that depend on the network alone, and where a tile shows in the result
    # (off the lattice, and where tiles stand alone). Else each block has tiles that fit it.
    exact: bool
    # rows of a strip and edges of a column, if the network runs as a stream in each block; decided once, so that the columns of
    # all blocks meet
    stream: tuple[int, tuple[int, ...]] | None
    frames: int
    memory: dict[str, int]  # bytes by purpose; their sum bounds the memory that the run takes
    disk: int  # bytes that result and intermediate files may take together

    def to_dict(self) -> dict[str, Any]:
        """JSON values, without the tiles."""
        return {
            "shape": self.grid.shape,
            "edge": self.grid.edge,
            "halo": self.grid.halo,
            "exact": self.exact,
            "stream": self.stream,
            "frames": self.frames,
            "memory": self.memory,
            "disk": self.disk,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], tiles: TilePlan) -> Layout:
        """The layout that `to_dict` wrote, over its tiles."""
        known = dict(values)
        grid = BlockGrid(shape=tuple(known.pop("shape")), edge=tuple(known.pop("edge")), halo=known.pop("halo"))
        return cls(grid=grid, tiles=tiles, stream=known_stream(known.pop("stream")), **known)

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
            f"{self.redundancy:.2f}x the pixels; memory up to {byte_text(sum(self.memory.values()))}, "
            f"disk up to {byte_text(self.disk)}"
        )


def lay_out(
    inputs: Inputs,
    plan: TilePlan,
    clustering: LabelSettings,
    *,
    device: Device,
    memory: int,
    fixed: bool,
    kept: Mapping[str, Output],
    method: Method = "auto",
    began: Mapping[str, Any] | None = None,
) -> Layout:
    """Choose the largest blocks that fit the memory, or take those of a run that began.

    SettingsError if even the smallest blocks do not fit, or a stream is wanted where there can be none.

    Parameters
    ----------
    plan : TilePlan
        Tiles of a frame.
    memory : int
        Bytes that the run may take.
    fixed : bool
        Whether the bits may depend on the network alone, so that the very tiles of the plan run.
    kept : mapping of str to Output
        Outputs of the network that are written beside the labels.
    method : {"auto", "tiles", "stream"}
        "auto" streams within a block where that saves a fifth of the arithmetic: tiles can be left out where they are constant.
    began : mapping, optional
        "edge", "write" and "stream" of the run that is to go on: they may follow from the memory that was free then, and other
        tiles round otherwise.
    """
    if began is not None and began["write"] != list(plan.write):
        plan = plan.resized(began["write"])
    lattice, shape = plan.lattice, plan.result_shape
    window, halo = clustering.lattice(lattice.ndim)
    axes = "zyx"[-lattice.ndim :]
    out_chunks = chunk_edges(axes, shape)
    steps = [lcm(window, out_chunks[axis]) for axis in axes]
    chunks = _in_chunks(inputs)
    most = LARGEST[lattice.ndim]
    needed: dict[str, int] = {}
    sizes = [most * share // 16 for share in range(16, 0, -1)]
    fitting = [
        tuple(_fitted(edge, step, chunk, size=n) for step, chunk, n in zip(steps, chunks, shape, strict=True)) for edge in sizes
    ]
    for edges in fitting if began is None else [tuple(began["edge"])]:
        needed = _memory(
            inputs, plan, clustering, device=device, grid=BlockGrid(shape=shape, edge=edges, halo=halo), memory=memory
        )
        if began is not None or sum(needed.values()) <= memory:
            break
    else:
        smaller = f", or take a smaller tile (now {' x '.join(map(str, plan.write))} px)" * (plan.write != lattice.period)
        raise SettingsError(
            f"{byte_text(memory)} of memory were allowed and the smallest blocks take {byte_text(sum(needed.values()))}; "
            f"allow more{smaller}."
        )
    frames = len(inputs.frames)
    values = frames * prod(shape)
    per_pixel = DISK_PER_PIXEL + 4 * 1.34 * value_count(kept)
    aligned = all((e - halo) % p == 0 or e >= n for e, p, n in zip(edges, lattice.period, shape, strict=True))
    layout = Layout(
        grid=BlockGrid(shape=shape, edge=edges, halo=halo),
        tiles=plan,
        exact=fixed or plan.zeros == "tile" or not (plan.on_lattice and aligned),
        stream=None,
        frames=frames,
        memory=needed,
        disk=int(values * per_pixel),
    )
    stream = _stream(layout, device, method, fixed=fixed) if began is None else known_stream(began["stream"])
    return replace(layout, stream=stream)


def known_stream(values: Sequence[Any] | None) -> tuple[int, tuple[int, ...]] | None:
    """`Layout.stream` from what JSON made of it."""
    return None if values is None else (int(values[0]), tuple(values[1]))


def _stream(layout: Layout, device: Device, method: Method, *, fixed: bool) -> tuple[int, tuple[int, ...]] | None:
    """Strip and columns for all blocks, from what the middle one sees."""
    if layout.exact:
        choose_method(layout.tiles, method, deterministic=fixed)  # refuses what cannot be
        return None
    part = layout.part(layout.grid.at([count // 2 for count in layout.grid.counts]))
    found = choose_method(part, method, **stream_wish(device, layout.memory["network"]))
    if found is None or (method == "auto" and found.flops > WORTH_IT * part.flops):
        return None
    return found.strip, found.edges


def _in_chunks(inputs: Inputs) -> list[int]:
    """Edges of the input's chunks on the spatial axes of the network; 1 where there are none."""
    ndim = inputs.model.lattice.ndim
    if inputs.reader is None:
        return [1] * ndim
    edges = dict(zip(inputs.image.axes, inputs.reader.chunks, strict=True))
    return [edges.get(axis, 1) for axis in "zyx"[-ndim:]]


def _fitted(edge: int, step: int, chunk: int, *, size: int) -> int:
    """An edge of `edge` or less that holds whole windows and output chunks and, where that costs little, input chunks."""
    if size <= max(edge, step):
        return -(-size // step) * step
    best = max(step, edge // step * step)
    both = lcm(step, chunk)
    if best // both * both >= 0.7 * best:
        step, best = both, best // both * both
    count = -(-size // best)
    return -(-size // (count * step)) * step  # as even as can be, so that workers get equal shares


def _shared_pixels(inputs: Inputs, grid: BlockGrid, around: Sequence[int]) -> int:
    """Pixels of decoded chunks that wait for a later block, at most: blocks go in raster order and see a margin of each other.

    Before the border of two blocks these are those of the margin, behind it all of the chunks that the margin meets.
    """
    block, shared, shape = [], [], grid.shape
    for n, edge, margin, chunk in zip(shape, grid.edge, around, _in_chunks(inputs), strict=True):
        ends = [(at - margin, -(-(at + margin) // chunk) * chunk) for at in range(edge, n, edge)]
        shared.append(max((min(n, stop) - max(0, start) for start, stop in ends), default=0))
        block.append(min(n, edge + 2 * margin + chunk))
    return sum(shared[k] * prod(block[:k]) * prod(shape[k + 1 :]) for k in range(len(shape)))


def _memory(
    inputs: Inputs, plan: TilePlan, clustering: LabelSettings, *, device: Device, grid: BlockGrid, memory: int
) -> dict[str, int]:
    """Bytes by purpose of a run by these blocks, where so many are allowed."""
    lattice, model, reader, halo = plan.lattice, inputs.model, inputs.reader, grid.halo
    core = prod(min(n, e) for n, e in zip(grid.shape, grid.edge, strict=True))
    seen = prod(min(n, e + 2 * halo) for n, e in zip(grid.shape, grid.edge, strict=True))
    context = [m // 2 + p for m, p in zip(lattice.margin, lattice.period, strict=True)]
    if plan.zeros == "tile":
        context = list(plan.write)  # whole tiles are read, wherever the block ends
    read = prod(min(n, e + 2 * (halo + c)) for n, e, c in zip(grid.shape, grid.edge, context, strict=True))
    item = np.dtype(inputs.image.data.dtype).itemsize
    cache = 0
    if reader is not None:
        shared = _shared_pixels(inputs, grid, [halo + c for c in context]) * item * lattice.in_channels
        cache = min(shared + reader.chunk_bytes, max(memory // 4, reader.chunk_bytes))
    return {
        "base": BASE,
        "network": int(lattice.peak_bytes(plan.read)),
        "clustering": min(MOST_THREADS, device.spare_cores) * clustering.window_bytes(lattice.ndim, model.embedding.count),
        # one block is clustered while the network fills the next one
        "block": 2 * 4 * value_count(model.outputs) * seen + PER_PIXEL * core,
        # one region is in work while the next one is read
        "input": 2 * item * lattice.in_channels * read,
        "chunks": cache,
    }
