"""The tile loop: tiles of a plan are read and normalised ahead, put through the network in batches, and given back in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_shiftseg.geometry import Tile, TilePlan, Window
from napari_shiftseg.network.arithmetic import exact_convolutions
from napari_shiftseg.network.compiled import CompiledNet
from napari_shiftseg.network.constant_tiles import ConstantTiles
from napari_shiftseg.network.device import Device, channels_last, is_tf32, memory_errors
from napari_shiftseg.network.execution import ready_network
from napari_shiftseg.network.inference import InferenceNet, PlainNet
from napari_shiftseg.network.normalise import ArrayLike, Limits
from napari_shiftseg.network.transfer import Copies
from napari_shiftseg.network.unet import UNet
from napari_shiftseg.network.windows import in_memory, read_window
from napari_shiftseg.threads import ahead

__all__ = ["batch_size", "computed_tiles"]

Block = npt.NDArray[np.float32]

# Small tiles share a pass of a GPU up to this many input pixels. On a CPU with several threads a tile's bits would depend on
# the tiles beside it, and a preview would differ from the run.
_BATCH_PIXELS = 1 << 22
_MOST = 8
# Batches that are read, or being read, before they are needed.
_AHEAD = 2


def computed_tiles(
    module: UNet,
    image: ArrayLike,
    plan: TilePlan,
    *,
    device: Device,
    dtype: str,
    limits: Limits,
    deterministic: bool,
    known: ConstantTiles | None = None,
) -> Generator[tuple[Window, Block]]:
    """What the network gives for each tile, in the order of the plan: its window in the result and (channels, *window) float32.

    Parameters as in `predict_steps`; the image has a channel axis. Where reading takes time, and on GPUs, the next tiles are
    read in a thread while the network runs. Closing the generator ends that thread.
    """
    with memory_errors("the weights of the network"):
        net = ready_network(module, device, dtype, tiled=True)
    empty = ConstantTiles() if known is None else known
    copies = Copies(device.torch_device)
    size = 1 if deterministic or isinstance(net, PlainNet) else batch_size(plan, device)
    tuned = _tuned(plan, device, deterministic)
    batches = _batches(image, plan, limits, size, empty.key)
    if copies.overlap or not in_memory(image):
        batches = ahead(batches, _AHEAD)
    running: deque[tuple[_Batch, list[int], list[Block | None], Callable[[], Block]]] = deque()
    with closing(batches):
        for batch in batches:
            found = [empty.known.get(key) for key in batch.keys]
            fresh = [k for k, key in enumerate(batch.keys) if found[k] is None and (key is None or key not in batch.keys[:k])]
            with memory_errors(batch.what), exact_convolutions(deterministic, tf32=is_tf32(dtype), tuned=tuned):
                blocks = batch.pixels if len(fresh) == len(batch.tiles) else batch.pixels[fresh]
                finish = _one_pass(net, blocks, batch.tiles[0].keep, copies) if fresh else _nothing
            running.append((batch, fresh, found, finish))
            if len(running) > copies.overlap:
                yield from _finished(*running.popleft(), empty)
        while running:
            yield from _finished(*running.popleft(), empty)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Batch:
    """Tiles of one kind, neighbours in the order of the plan; `pixels` (tiles, C, *read), and what decides constant tiles."""

    tiles: list[Tile]
    pixels: Block
    keys: list[Any]

    @property
    def what(self) -> str:
        """For messages."""
        edges = " x ".join(str(s.stop - s.start) for s in self.tiles[0].read)
        return f"a tile of {edges} px" if len(self.tiles) == 1 else f"{len(self.tiles)} tiles of {edges} px"


def batch_size(plan: TilePlan, device: Device) -> int:
    """How many tiles of a plan share a pass, which takes a quarter of the free memory at most."""
    if device.kind == "cpu":
        return 1
    fitting = int(device.free // 4 // plan.spec.peak_bytes(plan.read)) if device.free else _MOST
    return max(1, min(_MOST, fitting, _BATCH_PIXELS // prod(plan.read)))


def _batches(
    image: ArrayLike, plan: TilePlan, limits: Limits, size: int, key: Callable[[Block, Window], Any]
) -> Generator[_Batch]:
    """Tiles read and normalised."""
    for tiles in _runs(plan, size):
        with memory_errors("the pixels of a tile"):
            blocks = [limits.apply(read_window(image, tile.read, plan.pad)) for tile in tiles]
            pixels = np.stack(blocks) if len(blocks) > 1 else blocks[0][None]
        keys = [key(block, tile.keep) for block, tile in zip(blocks, tiles, strict=True)]
        yield _Batch(tiles=tiles, pixels=pixels, keys=keys)


def _runs(plan: TilePlan, size: int) -> Iterator[list[Tile]]:
    """Consecutive tiles that read and keep windows of the same shape, up to `size` of them."""
    tiles: list[Tile] = []
    for tile in plan:
        if tiles and (len(tiles) == size or _kind(tile) != _kind(tiles[0])):
            yield tiles
            tiles = []
        tiles.append(tile)
    if tiles:
        yield tiles


def _kind(tile: Tile) -> tuple[tuple[int, int, int], ...]:
    return tuple(_ends(read, keep) for read, keep in zip(tile.read, tile.keep, strict=True))


def _ends(read: slice, keep: slice) -> tuple[int, int, int]:
    return read.stop - read.start, keep.start, keep.stop


def _finished(
    batch: _Batch, fresh: list[int], found: list[Block | None], finish: Callable[[], Block], empty: ConstantTiles
) -> Iterator[tuple[Window, Block]]:
    with memory_errors(batch.what):
        computed = finish()
    by_key: dict[Any, Block] = {}
    for k, block in zip(fresh, computed, strict=True):
        found[k] = by_key[batch.keys[k]] = empty.keep(batch.keys[k], block)
    for tile, key, known in zip(batch.tiles, batch.keys, found, strict=True):
        yield tile.write, by_key[key] if known is None else known


def _nothing() -> Block:
    return np.empty((0,), np.float32)


def _tuned(plan: TilePlan, device: Device, deterministic: bool) -> bool:
    """Whether cuDNN may try its algorithms first: it does so once per shape, which pays for few shapes and many tiles."""
    kinds = prod(
        len({_kind(Tile(read=(read,), keep=(keep,), write=(write,))) for read, keep, write in axis}) for axis in plan.axes
    )
    return device.kind == "cuda" and not deterministic and kinds <= 2 and len(plan) >= 16


@torch.inference_mode()
def _one_pass(net: InferenceNet | PlainNet | CompiledNet, blocks: Block, keep: Window, copies: Copies) -> Callable[[], Block]:
    """Start one pass; what is returned waits for its (tiles, channels, *keep) float32."""
    x = copies.there(blocks)
    layout = torch.contiguous_format if isinstance(net, CompiledNet) else channels_last(net.spec.ndim)
    x = x.to(next(net.parameters()).dtype).contiguous(memory_format=layout)
    return copies.back(net(x, keep).float())
