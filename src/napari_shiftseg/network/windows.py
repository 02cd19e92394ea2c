"""Windows of an image: read and normalised ahead, put through a network, by tiles or in strips, and given back in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from napari_shiftseg.events import ahead
from napari_shiftseg.geometry import Lattice, Output, Pass, StreamPlan, Strip, Tile, TilePlan, Window
from napari_shiftseg.network import unet
from napari_shiftseg.network.arithmetic import exact_convolutions, threads_work
from napari_shiftseg.network.constants import AHEAD, BATCH_PIXELS, MOST_TILES
from napari_shiftseg.network.device import (
    Block,
    Copies,
    Device,
    arranged,
    channels_last,
    choose_precision,
    memory_errors,
)
from napari_shiftseg.network.normalise import Limits
from napari_shiftseg.network.scaled import ScaledNet
from napari_shiftseg.network.stream import StreamNet
from napari_shiftseg.network.turned import TurnedNet
from napari_shiftseg.network.unet import InferenceNet, PlainNet, UNet, inference_form
from napari_shiftseg.views import ArrayLike, in_memory

FormNet: TypeAlias = InferenceNet | PlainNet | ScaledNet | TurnedNet
"""What runs over the tiles of a plan: with a `layout`, of pixels and the window of the output that is kept."""


def read_window(image: ArrayLike, window: Window, pad: Sequence[tuple[int, int]]) -> npt.NDArray[Any]:
    """Pixels of a window of the padded image, reflected where it lies beyond the image.

    Parameters
    ----------
    image : array-like
        (C, *shape).
    window : tuple of slice
        In the padded image, pixels per spatial axis.
    pad : sequence of (int, int)
        Pixels before and after the image per axis.

    Returns
    -------
    ndarray
        (C, *window shape); only pixels of the image that are needed are read.
    """
    indices = [
        reflected(np.arange(w.start - before, w.stop - before), size)
        for w, (before, _), size in zip(window, pad, image.shape[1:], strict=True)
    ]
    slices = tuple(slice(int(i.min()), int(i.max()) + 1) for i in indices)
    block = np.asarray(image[(slice(0, image.shape[0]), *slices)])
    for axis, (index, part) in enumerate(zip(indices, slices, strict=True), start=1):
        if len(index) != part.stop - part.start or index[0] != part.start or index[-1] != part.stop - 1:
            block = np.take(block, index - part.start, axis=axis)
    return block


def needed_pixels(plan: TilePlan, image_shape: Sequence[int]) -> Window:
    """Window of the image that all tiles of a plan read together, reflections folded back; pixels per axis."""
    window = []
    for tiles, (before, _), size in zip(plan.axes, plan.pad, image_shape, strict=True):
        first, last = min(read.start for read, _, _ in tiles), max(read.stop for read, _, _ in tiles)
        folded = reflected(np.arange(first - before, last - before), size)
        window.append(slice(int(folded.min()), int(folded.max()) + 1))
    return tuple(window)


def reflected(index: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """Positions folded back into `[0, size)` without repeating the border pixel, however far they lie outside."""
    if size == 1:
        return np.zeros_like(index)
    folded = np.abs(index) % (2 * size - 2)
    return np.where(folded < size, folded, 2 * size - 2 - folded)


def constant_share(image: ArrayLike, plan: TilePlan) -> float:
    """Share of a plan's tiles that read one value per channel, 0 to 1."""
    pads = [before for before, _ in plan.pad]
    found = 0
    for tile in plan:
        # a reflection adds no other values
        inside = [
            (min(max(read.start - before, 0), size - 1), max(min(read.stop - before, size), 1))
            for read, before, size in zip(tile.read, pads, image.shape[1:], strict=True)
        ]
        corners = (slice(0, image.shape[0]), *(slice(start, stop, max(1, stop - start - 1)) for start, stop in inside))
        whole = (corners[0], *(slice(a, b) for a, b in inside))
        found += _constant(image[corners]) is not None and _constant(image[whole]) is not None
    return found / len(plan)


def _constant(block: Any) -> bytes | None:
    """The one value that each channel of a block has; None where a channel has several."""
    flat = np.asarray(block).reshape(len(block), -1)
    values = flat[:, :1]
    return (
        values.tobytes() if all(bool((channel == value).all()) for channel, value in zip(flat, values, strict=True)) else None
    )


class RowReader:
    """Reads a window of the padded image from top to bottom.

    Rows that a reflection at the border needs a second time are held back until then.

    Parameters
    ----------
    image : array-like
        (C, *shape).
    window : tuple of slice
        In the padded image, pixels.
    pad : sequence of (int, int)
        Pixels before and after the image per axis.
    """

    def __init__(self, image: ArrayLike, window: Window, pad: Sequence[tuple[int, int]]) -> None:
        self._image, self._across, self._pad = image, window[1:], pad
        before = pad[0][0]
        self._rows = reflected(np.arange(window[0].start - before, window[0].stop - before), image.shape[1])
        # the lowest row of the image that this or any later row of the window needs
        self._lowest = np.minimum.accumulate(self._rows[::-1])[::-1]
        self._held: npt.NDArray[Any] | None = None
        self._first = self._stop = 0  # rows of the image that are held

    def read(self, part: slice) -> npt.NDArray[Any]:
        """Rows `part` of the window, (C, rows, *across); each call goes on where the one before ended."""
        rows = self._rows[part]
        top = int(rows.max()) + 1
        lowest = int(self._lowest[part.start])  # where the top is reflected, later parts lie above this one
        if self._held is None or self._stop < lowest:
            self._held, self._first, self._stop = None, lowest, lowest
        if top > self._stop:
            before = self._pad[0][0]
            window = (slice(self._stop + before, top + before), *self._across)
            new = read_window(self._image, window, self._pad)
            self._held = new if self._held is None else np.concatenate([self._held, new], axis=1)
            self._stop = top
        held: Any = self._held
        block: npt.NDArray[Any] = np.take(held, rows - self._first, axis=1)
        if part.stop < len(self._rows):
            self._forget(int(self._lowest[part.stop]))
        return block

    def _forget(self, lowest: int) -> None:
        """Let go of the rows below `lowest`."""
        if self._held is not None and lowest > self._first:
            # a copy, because a view would keep all rows alive
            self._held = self._held[:, lowest - self._first :].copy() if lowest < self._stop else None
            self._first = min(lowest, self._stop)


class ConstantTiles:
    """Outputs of tiles that read one value per channel: equal inputs give equal outputs, so each is computed once."""

    MOST = 8  # blocks kept: inner and border tiles of a few values

    def __init__(self) -> None:
        self.known: dict[Any, npt.NDArray[np.float32]] = {}

    def key(self, pixels: npt.NDArray[np.float32], keep: Window) -> Any:
        """What decides the output of a constant tile; None for any other tile."""
        values = _constant(pixels)
        return None if values is None else (values, pixels.shape, *((s.start, s.stop) for s in keep))

    def keep(self, key: Any, block: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Remember a block, if it has a key, and give it back."""
        if key is not None:
            if len(self.known) >= self.MOST:
                self.known.pop(next(iter(self.known)))
            self.known[key] = block
        return block


def ready_network(module: UNet | PlainNet, device: Device, dtype: str, *, tiled: bool = False) -> InferenceNet | PlainNet:
    """The inference form on the device; the head stays in float32, where distances are made.

    With `tiled`, layers are merged where the device does so; without, each layer of the network is there.
    """
    threads_work()
    ndim = module.lattice.ndim if isinstance(module, PlainNet) else module.spec.ndim
    number = choose_precision(dtype, device, ndim).dtype
    one_step = tiled and device.kind == "cpu" and unet.one_step_works(ndim, number)
    net = inference_form(module, fold=None if tiled else False, one_step=one_step, number=number)
    head = {} if net.head is None else net.head.state_dict()
    net = net.to(device.torch_device, number)
    if net.head is not None:
        net.head.float().load_state_dict(head)  # as it was before its weights were rounded
    return arranged(net, net.layout)


def tile_network(
    module: UNet | PlainNet, device: Device, dtype: str, *, lattice: Lattice, outputs: Mapping[str, Output] | None
) -> FormNet:
    """The form of a network that runs over the tiles of a plan with this lattice, with its resampling and its turns."""
    if lattice.scaling is not None:
        inner = tile_network(module, device, dtype, lattice=lattice.scaling.inner, outputs=outputs)
        return ScaledNet(inner, unet.entered, lattice.scaling, outputs)
    net = ready_network(module, device, dtype, tiled=True)
    return net if lattice.turning is None else TurnedNet(net, unet.entered, lattice.turning, outputs)


def computed_tiles(
    module: UNet | PlainNet,
    image: ArrayLike,
    plan: TilePlan,
    *,
    device: Device,
    dtype: str,
    limits: Limits,
    deterministic: bool,
    known: ConstantTiles | None = None,
    outputs: Mapping[str, Output] | None = None,
) -> Generator[tuple[Window, Block]]:
    """What the network gives for each tile, in the order of the plan: its window in the result and (channels, *window) float32.

    Parameters as in `predict_steps`; the image has a channel axis. Where reading takes time, and on GPUs, the next tiles are
    read in a thread while the network runs. Closing the generator ends that thread. `outputs`: what the channels say, which
    matters where the image is scaled for the network.
    """
    with memory_errors("the weights of the network"):
        net = tile_network(module, device, dtype, lattice=plan.lattice, outputs=outputs)
    empty = ConstantTiles() if known is None else known
    copies = Copies(device.torch_device)
    size = 1 if deterministic or isinstance(module, PlainNet) else batch_size(plan, device)
    tuned = _tuned(plan, device, deterministic)
    batches = _batches(image, plan, limits, size=size, key=empty.key)
    if copies.overlap or not in_memory(image):
        batches = ahead(batches, AHEAD)
    running: deque[Callable[[], Iterator[tuple[Window, Block]]]] = deque()
    with closing(batches):
        for batch in batches:
            found = [empty.known.get(key) for key in batch.keys]
            fresh = [k for k, key in enumerate(batch.keys) if found[k] is None and (key is None or key not in batch.keys[:k])]
            with memory_errors(batch.what), exact_convolutions(deterministic, tf32=dtype == "tf32", tuned=tuned):
                blocks = batch.pixels if len(fresh) == len(batch.tiles) else batch.pixels[fresh]
                finish = _one_pass(net, blocks, batch.tiles[0].keep, copies) if fresh else _nothing
            running.append(partial(_finished, batch, fresh, found, finish=finish, empty=empty))
            if len(running) > copies.overlap:
                yield from running.popleft()()
        while running:
            yield from running.popleft()()


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
    fitting = int(device.free // 4 // plan.lattice.peak_bytes(plan.read)) if device.free else MOST_TILES
    return max(1, min(MOST_TILES, fitting, BATCH_PIXELS // prod(plan.read)))


def _batches(
    image: ArrayLike, plan: TilePlan, limits: Limits, *, size: int, key: Callable[[Block, Window], Any]
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
    batch: _Batch, fresh: list[int], found: list[Block | None], *, finish: Callable[[], Block], empty: ConstantTiles
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
def _one_pass(net: FormNet, blocks: Block, keep: Window, copies: Copies) -> Callable[[], Block]:
    """Start one pass; what is returned waits for its (tiles, channels, *keep) float32."""
    x = unet.entered(net, copies.there(blocks)).contiguous(memory_format=net.layout)
    return copies.back(net(x, keep).float())


def streamable(module: object) -> bool:
    """Whether the layers of a network are those that a stream runs one by one."""
    return isinstance(module, UNet) and type(module).forward is UNet.forward


def computed_strips(
    module: UNet, image: ArrayLike, plan: StreamPlan, *, device: Device, dtype: str, limits: Limits
) -> Generator[tuple[Window, Block]]:
    """What the network gives for each strip, column by column: its window in the result and (channels, *window) float32.

    Where the image has one value per channel over more rows than the network sees, strips repeat and are not computed again.
    Where reading takes time, and on GPUs, the next strips are read in a thread while the network runs, and a strip comes back
    from a GPU while it computes the next one. Closing the generator ends that thread. Parameters as in `predict_steps`; the
    image has a channel axis.
    """
    spec, layout = module.spec, channels_last(module.spec.ndim)
    with memory_errors("the weights of the network"):
        net: Any = ready_network(module, device, dtype)
    one_step = device.kind == "cpu" and unet.one_step_works(spec.ndim, choose_precision(dtype, device, spec.ndim).dtype)
    # what is held and what a strip gives depend on no row further back
    memory = plan.strip + spec.margin[0] + 2 * spec.period[0]
    copies = Copies(device.torch_device)
    running: deque[tuple[Window, str, Callable[[], Block]]] = deque()
    for column in plan.columns:
        one = Pass.of(spec, [part.stop - part.start for part in column.read], column.keep)
        window = tuple(
            slice(whole.start + part.start, whole.start + part.stop) for whole, part in zip(column.read, one.read, strict=True)
        )
        size = " x ".join(str(part.stop - part.start) for part in window[1:])
        what = f"a strip of {plan.strip} rows" + f" of a column of {size} px" * bool(size)
        with memory_errors(what):
            stream = StreamNet(net, one, plan.strip, layout, one_step=one_step)
        strips = _read_strips(RowReader(image, window, plan.tiles.pad), plan, limits, what=what)
        if copies.overlap or not in_memory(image):
            strips = ahead(strips, AHEAD)
        last: Callable[[], Block] | None = None
        with closing(strips):
            for strip, pixels, plain in strips:
                rows = pixels.shape[1]
                inside = strip.read.stop <= one.read[0].stop - memory
                if last is not None and inside and rows == plan.strip and plain - rows >= memory:
                    stream.skip(rows)
                else:
                    with memory_errors(what), exact_convolutions(False, tf32=dtype == "tf32"):
                        y = stream.push(copies.there(pixels)[None])
                        last = None if y is None else copies.back(y[0].float())
                if last is not None and strip.write.start < strip.write.stop:
                    running.append(((strip.write, *column.write[1:]), what, last))
                    if len(running) > copies.overlap:
                        yield _waited(*running.popleft())
    while running:
        yield _waited(*running.popleft())


def _read_strips(reader: RowReader, plan: StreamPlan, limits: Limits, *, what: str) -> Generator[tuple[Strip, Block, int]]:
    """Strips of a column, each with its pixels, normalised, and the rows up to here that have the values of its last."""
    plain = _PlainRows()
    for strip in plan.strips():
        with memory_errors(what):
            pixels = limits.apply(reader.read(strip.read))
            seen = plain.seen(pixels)
        yield strip, pixels, seen


def _waited(window: Window, what: str, finish: Callable[[], Block]) -> tuple[Window, Block]:
    with memory_errors(what):
        return window, finish()


class _PlainRows:
    """Counts rows with one value per channel."""

    def __init__(self) -> None:
        self._values: bytes | None = None
        self._count = 0

    def seen(self, pixels: Block) -> int:
        """Rows up to here that have the values of the last; 0 if these have several."""
        values = _constant(pixels)
        before = self._count if values == self._values else 0
        self._values, self._count = values, before + pixels.shape[1] * (values is not None)
        return self._count
