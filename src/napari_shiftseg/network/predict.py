"""Compliant prediction: a network runs over an image by tiles or in strips, pasted into one embedding."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit

from napari_shiftseg.errors import ImageError, ModelError, OutOfMemoryError, SettingsError
from napari_shiftseg.events import Event, Stage, TileDone, drain
from napari_shiftseg.geometry import Method, StreamPlan, TilePlan, Window, choose_method, narrower_stream, smaller_plan
from napari_shiftseg.network.arithmetic import exact_convolutions
from napari_shiftseg.network.device import (
    Device,
    choose_device,
    choose_dtype,
    is_tf32,
    memory_errors,
    release_memory,
    stream_wish,
)
from napari_shiftseg.network.normalise import ArrayLike, Limits, Normalisation
from napari_shiftseg.network.record import Model
from napari_shiftseg.network.unet import UNet
from napari_shiftseg.network.windows import (
    ConstantTiles,
    computed_strips,
    computed_tiles,
    constant_share,
    in_memory,
    ready_network,
    streamable,
)

__all__ = ["Prediction", "fitting_plan", "predict", "predict_steps"]


# Share of the free memory that a pass may take: the blocks of the next and of the last tile lie beside it.
_SHARE = 0.9


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
    plan : TilePlan
        Its tiles; smaller than those that were given if memory ran out and nobody had wished for their size.
    stream : StreamPlan or None
        Its columns and strips, where it ran as a stream.
    """

    embedding: Any
    foreground: npt.NDArray[np.float32] | None
    device: Device
    plan: TilePlan
    stream: StreamPlan | None = None


def predict(
    model: Model | UNet,
    image: ArrayLike,
    plan: TilePlan,
    device: str = "auto",
    out: Any = None,
    on_event: Callable[[Event], None] | None = None,
    *,
    dtype: str = "float32",
    method: Method = "auto",
    memory: int | None = None,
) -> Any:
    """Embedding of an image, by the tiles of a plan or in strips, which give the same.

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
        "auto", "cpu", "openvino", "cuda", ...
    out : array or zarr array, optional
        (E, *plan.result_shape) float32, filled in place.
    on_event : callable, optional
        Called with a `TileDone` per tile, or per strip of a column.
    dtype : str
        "float32", "bfloat16", "float16" (GPUs) or "tf32" (NVIDIA GPUs) for the convolutions.
    method : {"auto", "tiles", "stream"}
        Tile by tile, or in strips along the first axis that compute no row twice; "auto" takes what costs less (see
        `geometry.choose_method`). Results differ by rounding alone.
    memory : int, optional
        Bytes that a column of the stream may take (on a GPU half of what is free, unless told otherwise); tiles are as large
        as the plan says.

    Returns
    -------
    array
        (E, *plan.result_shape) float32: `out`, or a new numpy array.

    Raises
    ------
    ImageError, ModelError, DeviceError, OutOfMemoryError
    SettingsError
        If there is no such method, or a stream is wanted where there can be none.
    """
    steps = predict_steps(model, image, plan, device=device, out=out, dtype=dtype, method=method, memory=memory)
    return drain(steps, on_event).embedding


def predict_steps(
    model: Model | UNet,
    image: ArrayLike,
    plan: TilePlan,
    *,
    device: str | Device = "auto",
    out: Any = None,
    dtype: str = "float32",
    limits: Limits | None = None,
    deterministic: bool = False,
    known: ConstantTiles | None = None,
    method: Method | StreamPlan = "auto",
    memory: int | None = None,
    instead: Literal["columns", "tiles"] | None = None,
) -> Generator[Event, None, Prediction]:
    """Generator form of `predict`: yields a `TileDone` per tile or strip, returns a `Prediction`.

    Where memory runs out and nobody wished for the tile size (`plan.automatic`), it starts again with smaller tiles on the same
    lattice, or with a narrower stream, and yields a `Stage` that says so; a stream that cannot be narrower gives way to tiles
    if `method` is "auto".

    Constant tiles are computed once, and a stream repeats strips of constant rows. Where the image is in memory, "auto" counts
    the tiles that are constant and takes tiles if those that are left cost less than the stream; nothing is read from a disk
    for that.

    Parameters
    ----------
    limits : Limits, optional
        Intensities that become 0 and 1, where the image is a part of something larger (one frame of a series).
    deterministic : bool
        Run only algorithms that give equal bits in each run, and fixed tiles.
    known : ConstantTiles, optional
        Outputs of constant tiles that earlier calls with this network and these settings found.
    device
        As in `predict`, or the device itself.
    method
        As in `predict`, or the columns and strips themselves.
    instead : {"columns", "tiles"}, optional
        What may run where the memory does not suffice for columns and strips that were given: narrower ones, or in the end
        tiles as well. By default nothing else: columns can be those of other blocks, too.

    Other parameters as in `predict`.
    """
    module = model.module if isinstance(model, Model) else model
    image = _with_channels(image, plan)
    _check(module, image, plan, out)
    chosen = device if isinstance(device, Device) else choose_device(device)
    choose_dtype(dtype, chosen)
    if not isinstance(method, StreamPlan):
        instead = "tiles" if method == "auto" else "columns"
    stream = _stream(module, image, plan, method, stream_wish(chosen, memory), deterministic)
    if limits is None:
        record = model.record if isinstance(model, Model) else None
        normalisation = record.normalisation if record else Normalisation(low=0, high=0)
        limits = normalisation.limits(image)
    spec = module.spec
    embedding = np.empty((spec.embedding_dim, *plan.result_shape), np.float32) if out is None else out
    foreground = np.empty(plan.result_shape, np.float32) if spec.foreground else None
    options: Any = {"device": chosen, "dtype": dtype, "limits": limits}

    def by_strips(stream: StreamPlan) -> Generator[TileDone]:
        return _pasted(computed_strips(module, image, stream, **options), embedding, foreground, stream.steps)

    def by_tiles(plan: TilePlan) -> Generator[TileDone]:
        blocks = computed_tiles(module, image, plan, deterministic=deterministic, known=known, **options)
        return _pasted(blocks, embedding, foreground, len(plan))

    if stream is not None:
        stream = yield from _streamed(by_strips, stream, instead, chosen)
    if stream is None:
        if chosen.compiled:
            yield Stage(done=0, total=len(plan), text="OpenVINO compiles the network for each kind of tile first")
        plan = yield from _tiled(by_tiles, fitting_plan(module, plan, chosen, dtype), chosen)
    return Prediction(embedding=embedding, foreground=foreground, device=chosen, plan=plan, stream=stream)


def _streamed(
    run: Callable[[StreamPlan], Generator[TileDone]],
    stream: StreamPlan,
    instead: Literal["columns", "tiles"] | None,
    device: Device,
) -> Generator[Event, None, StreamPlan | None]:
    """Run a stream, and a narrower one where memory runs out; returns what ran, or None if tiles are to be tried."""
    while True:
        try:
            yield from run(stream)
            return stream
        except OutOfMemoryError:
            narrower = None if instead is None else narrower_stream(stream)
            if narrower is None and instead != "tiles":
                raise
        release_memory(device)
        if narrower is None:
            yield Stage(done=0, total=0, text="memory ran out; again by tiles")
            return None
        stream = narrower
        columns = f" in columns of {' x '.join(map(str, stream.width))} px" * bool(stream.width)
        yield Stage(done=0, total=stream.steps, text=f"memory ran out; again with strips of {stream.strip} rows{columns}")


def _tiled(run: Callable[[TilePlan], Generator[TileDone]], plan: TilePlan, device: Device) -> Generator[Event, None, TilePlan]:
    """Run tiles, and smaller ones where memory runs out and nobody wished for their size; returns what ran."""
    while True:
        try:
            yield from run(plan)
            return plan
        except OutOfMemoryError:
            smaller = smaller_plan(plan) if plan.automatic else None
            if smaller is None:
                raise
        release_memory(device)
        plan = smaller
        edges = " x ".join(map(str, plan.write))
        yield Stage(done=0, total=len(plan), text=f"memory ran out; again with tiles of {edges} px")


def _pasted(
    blocks: Generator[tuple[Window, npt.NDArray[np.float32]]], embedding: Any, foreground: Any, total: int
) -> Generator[TileDone]:
    """Paste each block where it belongs, and say so."""
    target = _target(embedding)
    with closing(blocks):
        for index, (write, block) in enumerate(blocks):
            values = block[: embedding.shape[0]]
            target[(slice(None), *write)] = torch.from_numpy(values) if target is not embedding else values
            if foreground is not None:
                foreground[write] = expit(block[embedding.shape[0]])
            yield TileDone(done=index + 1, total=total, write=write)


def _target(embedding: Any) -> Any:
    """What blocks are pasted into: PyTorch turns their channels over on all threads, twice as fast as numpy."""
    try:
        return torch.from_numpy(embedding)
    except (TypeError, ValueError):  # zarr; an array with a byte order or strides that PyTorch does not know
        return embedding


def _stream(
    module: UNet, image: ArrayLike, plan: TilePlan, method: Method | StreamPlan, wish: Any, deterministic: bool
) -> StreamPlan | None:
    """The streamed plan, or None where tiles run."""
    if isinstance(method, StreamPlan):
        return method
    if not streamable(module):
        if method == "stream":
            raise SettingsError("only a UNet can be streamed, since its layers run one by one; take method 'tiles' or 'auto'.")
        method = "tiles"
    stream = choose_method(plan, method, **wish, deterministic=deterministic)
    if stream is None or method == "stream" or not in_memory(image):
        return stream
    return choose_method(plan, method, **wish, empty=constant_share(image, plan))


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

    @property
    def in_memory(self) -> bool:
        return in_memory(self.image)

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
        raise ImageError.of_channels(image.shape[0], spec.in_channels)
    wanted = (spec.embedding_dim, *plan.result_shape)
    if out is not None and tuple(out.shape) != wanted:
        raise ImageError(f"the array to fill has shape {tuple(out.shape)}; give {wanted}.")
    if out is not None and np.dtype(out.dtype).kind != "f":
        raise ImageError(f"the array to fill has type {out.dtype}, which would cut off decimals; give float32.")


def fitting_plan(module: UNet, plan: TilePlan, device: Device, dtype: str) -> TilePlan:
    """The plan, or one of smaller tiles and the same result if a tile takes more memory than there is.

    Only tile sizes that nobody wished for are changed, and only GPUs are tried: a CPU has the memory that it says.
    """
    if not plan.automatic or device.kind != "cuda":
        return plan
    while _peak(module, plan, device, dtype) > _SHARE * device.free:
        smaller = smaller_plan(plan)
        if smaller is None:
            return plan  # the run itself says what is missing
        plan = smaller
    return plan


@torch.inference_mode()
def _peak(module: UNet, plan: TilePlan, device: Device, dtype: str) -> float:
    """Memory that the largest tile takes beside what was there before, bytes; infinite if there is not enough."""
    where = device.torch_device
    try:
        with memory_errors("a trial tile"), exact_convolutions(tf32=is_tf32(dtype)):
            net = ready_network(module, device, dtype, tiled=True)
            before = torch.cuda.memory_allocated(where)
            torch.cuda.reset_peak_memory_stats(where)
            x = torch.zeros((1, plan.spec.in_channels, *plan.read), dtype=next(net.parameters()).dtype, device=where)
            net(x, tuple(max(axis, key=lambda tile: tile[0].stop - tile[0].start)[1] for axis in plan.axes))
            torch.cuda.synchronize(where)
            return torch.cuda.max_memory_allocated(where) - before
    except OutOfMemoryError:
        torch.cuda.empty_cache()
        return math.inf
