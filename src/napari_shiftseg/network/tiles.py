"""The tile loop: each tile of a plan is read, normalised and put through the network."""

from __future__ import annotations

import copy
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_shiftseg.geometry import Tile, TilePlan, Window
from napari_shiftseg.network.device import Device, arranged, channels_last, choose_dtype, memory_errors
from napari_shiftseg.network.normalise import ArrayLike, Limits
from napari_shiftseg.network.unet import UNet
from napari_shiftseg.network.windows import read_window

__all__ = ["ConstantTiles", "computed_tiles"]


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
) -> Generator[tuple[Tile, npt.NDArray[np.float32]]]:
    """What the network gives for each tile, in the order of the plan: the tile and its block (channels, *tile.write) float32.

    Parameters as in `predict_steps`; the image has a channel axis.
    """
    net = _prepare(module, device, dtype)
    empty = ConstantTiles() if known is None else known
    for tile in plan:
        with memory_errors(f"a tile of {' x '.join(str(s.stop - s.start) for s in tile.read)} px"):
            pixels = limits.apply(read_window(image, tile.read, plan.pad))
            key = empty.key(pixels, tile.keep)
            block = empty.known.get(key)
            if block is None:
                block = empty.keep(key, _one_pass(net, pixels, tile.keep, device, deterministic))
        yield tile, block


class ConstantTiles:
    """Outputs of tiles that read one value per channel: equal inputs give equal outputs, so each is computed once."""

    MOST = 8  # blocks kept: inner and border tiles of a few values

    def __init__(self) -> None:
        self.known: dict[Any, npt.NDArray[np.float32]] = {}

    def key(self, pixels: npt.NDArray[np.float32], keep: Window) -> Any:
        """What decides the output of a constant tile; None for any other tile."""
        values = pixels.reshape(len(pixels), -1)[:, 0]
        flat = all(bool((channel == value).all()) for channel, value in zip(pixels, values, strict=True))
        return (values.tobytes(), pixels.shape, *((s.start, s.stop) for s in keep)) if flat else None

    def keep(self, key: Any, block: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Remember a block, if it has a key, and give it back."""
        if key is not None:
            if len(self.known) >= self.MOST:
                self.known.pop(next(iter(self.known)))
            self.known[key] = block
        return block


def _prepare(module: UNet, device: Device, dtype: str) -> UNet:
    """A copy in evaluation mode on the device; the head stays in float32, where distances are made."""
    net = copy.deepcopy(module).eval().requires_grad_(False)
    net = net.to(device.torch_device, choose_dtype(dtype, device))
    net.head.float()
    return arranged(net, channels_last(module.spec.ndim))


@torch.inference_mode()
def _one_pass(
    net: UNet, block: npt.NDArray[np.float32], keep: Window, device: Device, deterministic: bool
) -> npt.NDArray[np.float32]:
    x = torch.from_numpy(block)[None].to(device.torch_device)
    x = x.to(next(net.parameters()).dtype).contiguous(memory_format=channels_last(net.spec.ndim))
    with _exact_convolutions(deterministic):
        y = net(x)[0]
    return np.array(y[(slice(None), *keep)].float().cpu().numpy(), order="C")


@contextmanager
def _exact_convolutions(deterministic: bool) -> Iterator[None]:
    """Full float32 on CUDA: TF32 has ten bits of mantissa and would break the tolerance of tile-exactness."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=deterministic, allow_tf32=False):
        yield
