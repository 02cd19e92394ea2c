"""Compliant prediction: one pass of the network per tile of a plan, pasted into one embedding."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit

from napari_shiftseg.errors import ImageError, ModelError
from napari_shiftseg.events import Event, TileDone, drain
from napari_shiftseg.geometry import TilePlan, Window
from napari_shiftseg.network.device import Device, arranged, channels_last, choose_device, choose_dtype, memory_errors
from napari_shiftseg.network.normalise import ArrayLike, Limits, Normalisation
from napari_shiftseg.network.record import Model
from napari_shiftseg.network.unet import UNet

__all__ = ["ConstantTiles", "Prediction", "needed_pixels", "predict", "predict_steps", "read_window"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What a network says of an image.

    Attributes
    ----------
    embedding : array
        (E, *shape) float32; with coordinates, the first `ndim` channels are offsets in pixels (`label_instances` adds the
        coordinates in double precision: in float32 a large image would round them to more than the tolerance).
    foreground : ndarray or None
        (*shape) float32 probability.
    device : Device
        Where it ran.
    """

    embedding: Any
    foreground: npt.NDArray[np.float32] | None
    device: Device


def predict(
    model: Model | UNet,
    image: ArrayLike,
    plan: TilePlan,
    device: str = "auto",
    out: Any = None,
    on_event: Callable[[Event], None] | None = None,
    *,
    dtype: str = "float32",
) -> Any:
    """Embedding of an image, tile by tile.

    Parameters
    ----------
    model : Model or UNet
        A `Model` brings its normalisation, which is computed once from the whole image; a bare `UNet` takes intensities as
        they are.
    image : array-like
        (C, *shape), or (*shape) for a network of one channel; read tile by tile.
    plan : TilePlan
        Made for the image's spatial shape.
    device : str
        "auto", "cpu", "cuda", ...
    out : array or zarr array, optional
        (E, *plan.result_shape) float32, filled in place.
    on_event : callable, optional
        Called with a `TileDone` per tile.
    dtype : str
        "float32", "bfloat16" or "float16" for the convolutions.

    Returns
    -------
    array
        (E, *plan.result_shape) float32: `out`, or a new numpy array.

    Raises
    ------
    ImageError, ModelError, DeviceError, OutOfMemoryError
    """
    return drain(predict_steps(model, image, plan, device=device, out=out, dtype=dtype), on_event).embedding


def predict_steps(
    model: Model | UNet,
    image: ArrayLike,
    plan: TilePlan,
    *,
    device: str = "auto",
    out: Any = None,
    dtype: str = "float32",
    limits: Limits | None = None,
    deterministic: bool = False,
    known: ConstantTiles | None = None,
) -> Generator[TileDone, None, Prediction]:
    """Generator form of `predict`: yields a `TileDone` per tile, returns a `Prediction`.

    Parameters
    ----------
    limits : Limits, optional
        Intensities that become 0 and 1, where the image is a part of something larger (one frame of a series).
    deterministic : bool
        Run only algorithms that give equal bits in each run.
    known : ConstantTiles, optional
        Outputs of constant tiles that earlier calls with this network and these settings found.

    Other parameters as in `predict`.
    """
    module = model.module if isinstance(model, Model) else model
    image = _with_channels(image, plan)
    _check(module, image, plan, out)
    chosen = choose_device(device)
    net = _prepare(module, chosen, dtype)
    if limits is None:
        record = model.record if isinstance(model, Model) else None
        normalisation = record.normalisation if record else Normalisation(low=0, high=0)
        limits = normalisation.limits(image)
    spec = module.spec
    embedding = np.empty((spec.embedding_dim, *plan.result_shape), np.float32) if out is None else out
    foreground = np.empty(plan.result_shape, np.float32) if spec.foreground else None
    empty = ConstantTiles() if known is None else known
    for index, tile in enumerate(plan):
        with memory_errors(f"a tile of {' x '.join(str(s.stop - s.start) for s in tile.read)} px"):
            pixels = limits.apply(read_window(image, tile.read, plan.pad))
            key = empty.key(pixels, tile.keep)
            block = empty.known.get(key)
            if block is None:
                block = empty.keep(key, _one_pass(net, pixels, tile.keep, chosen, deterministic))
        embedding[(slice(None), *tile.write)] = block[: spec.embedding_dim]
        if foreground is not None:
            foreground[tile.write] = expit(block[spec.embedding_dim])
        yield TileDone(done=index + 1, total=len(plan), write=tile.write)
    return Prediction(embedding=embedding, foreground=foreground, device=chosen)


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
        _reflect(np.arange(w.start - before, w.stop - before), size)
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
        folded = _reflect(np.arange(first - before, last - before), size)
        window.append(slice(int(folded.min()), int(folded.max()) + 1))
    return tuple(window)


def _reflect(index: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """Positions folded back into `[0, size)` without repeating the border pixel, however far they lie outside."""
    if size == 1:
        return np.zeros_like(index)
    folded = np.abs(index) % (2 * size - 2)
    return np.where(folded < size, folded, 2 * size - 2 - folded)


def _with_channels(image: ArrayLike, plan: TilePlan) -> ArrayLike:
    if len(image.shape) == plan.spec.ndim:
        return np.asarray(image)[None] if isinstance(image, np.ndarray) else _OneChannel(image)
    return image


@dataclass(frozen=True, eq=False)
class _OneChannel:
    """A lazy image seen with a channel axis."""

    image: ArrayLike

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, *self.image.shape)

    @property
    def dtype(self) -> Any:
        return self.image.dtype

    def __getitem__(self, key: Any) -> Any:
        return np.asarray(self.image[key[1:]])[None]


def _check(module: UNet, image: ArrayLike, plan: TilePlan, out: Any) -> None:
    spec = module.spec
    if spec != plan.spec:
        raise ModelError("the tile plan was made for another network; make it with plan_tiles(model.spec, ...).")
    if tuple(image.shape[1:]) != plan.image_shape:
        raise ImageError(
            f"the tile plan was made for an image of {plan.image_shape} px, but the image has {tuple(image.shape[1:])}; "
            "make the plan with the image's spatial shape, and give channels first."
        )
    if image.shape[0] != spec.in_channels:
        raise ImageError(
            f"the image has {image.shape[0]} channels, the network wants {spec.in_channels}; choose {spec.in_channels}."
        )
    wanted = (spec.embedding_dim, *plan.result_shape)
    if out is not None and tuple(out.shape) != wanted:
        raise ImageError(f"the array to fill has shape {tuple(out.shape)}; give {wanted}.")
    if out is not None and np.dtype(out.dtype).kind != "f":
        raise ImageError(f"the array to fill has type {out.dtype}, which would cut off decimals; give float32.")


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
