"""Compliant prediction: a network runs over an image by tiles or in strips, pasted into one embedding."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit

from napari_shiftseg.arguments import told
from napari_shiftseg.errors import ImageError, ModelError, OutOfMemoryError, SettingsError
from napari_shiftseg.events import Event, Stage, TileDone, drain
from napari_shiftseg.geometry import (
    Method,
    Output,
    StreamPlan,
    TilePlan,
    Window,
    channel_count,
    choose_method,
    named_outputs,
    narrower_stream,
    smaller_plan,
)
from napari_shiftseg.network.arithmetic import exact_convolutions
from napari_shiftseg.network.constants import LARGEST_EXPONENT, TRIAL_SHARE
from napari_shiftseg.network.device import (
    Device,
    choose_device,
    choose_precision,
    memory_errors,
    release_memory,
    stream_wish,
)
from napari_shiftseg.network.normalise import Limits, Normalisation
from napari_shiftseg.network.record import Model
from napari_shiftseg.network.turned import check_turning
from napari_shiftseg.network.unet import Network, PlainNet, UNet, entered, plain_net
from napari_shiftseg.network.windows import (
    ConstantTiles,
    computed_strips,
    computed_tiles,
    constant_share,
    streamable,
    tile_network,
)
from napari_shiftseg.views import ArrayLike, View, as_array, check_writable, in_memory


def _exp(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.exp(np.minimum(values, LARGEST_EXPONENT))


ACTIVATE: Mapping[str, Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]] = {
    "linear": lambda values: values,
    "sigmoid": expit,
    "exp": _exp,
}
"""What makes values of the channels, by `Output.activation`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What a network says of an image.

    Attributes
    ----------
    outputs : mapping of str to array
        What the network says by name, float32: (count, *shape) of a vector, (*shape) of a single value.
    device : Device
        Where it ran.
    plan : TilePlan
        Its tiles; smaller than those that were given if memory ran out and nobody had wished for their size.
    stream : StreamPlan or None
        Its columns and strips, where it ran as a stream.
    """

    outputs: Mapping[str, Any]
    device: Device
    plan: TilePlan
    stream: StreamPlan | None = None

    @property
    def embedding(self) -> Any:
        """What instances are clustered by, (E, *shape) float32.

        Of offsets (`Output.meaning`) the first `ndim` channels are pixels, to which `label_instances` adds the coordinates in
        double precision: in float32 a large image would round them to more than the tolerance.

        Raises
        ------
        ModelError
            If the network has no output of that name.
        """
        if "embedding" not in self.outputs:
            raise ModelError(f"no output of the network is named 'embedding', only {', '.join(self.outputs)}; name one so.")
        return self.outputs["embedding"]

    @property
    def foreground(self) -> Any:
        """(*shape) float32 probability, or None."""
        return self.outputs.get("foreground")


@told
def predict(
    model: Model | Network,
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
    model : Model, UNet, Module or callable
        A `Model` brings its normalisation, which is computed once from the whole image; a bare network takes intensities as
        they are, and one that is not a `UNet` has the sizes that the plan's lattice states, and embeds with all its channels.
    image : array-like
        (C, *shape), or (*shape) for a network of one channel; read tile by tile.
    plan : TilePlan
        Made for the image's spatial shape, and the network's lattice.
    device : str
        "auto", "cpu", "cuda", ...
    out : array or zarr array, optional
        (E, *plan.result_shape) float32, filled in place.
    on_event : callable, optional
        Called with a `TileDone` per tile, or per strip of a column.
    dtype : str
        "float32", "bfloat16", "float16" (GPUs) or "tf32" (NVIDIA GPUs) for the convolutions; "auto" as in `choose_precision`.
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

    >>> from napari_shiftseg import UNet, UNetSpec, plan_tiles
    >>> net = UNet(UNetSpec(levels=1, features=2, embedding_dim=3))
    >>> predict(net, np.zeros((40, 30), np.float32), plan_tiles(net.spec, (40, 30), 16), "cpu").shape
    (3, 40, 30)
    """
    steps = predict_steps(model, image, plan, device=device, out=out, dtype=dtype, method=method, memory=memory)
    return drain(steps, on_event).embedding


def predict_steps(
    model: Model | Network,
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
    out : array or mapping of str to array, optional
        The embedding, or outputs by name, filled in place.
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
    if not isinstance(plan, TilePlan):
        raise SettingsError(f"the plan is a {type(plan).__name__}; give one that plan_tiles made.")
    image = _with_channels(as_array(image, "the image"), plan)
    outputs, module = _outputs(model, plan), _runnable(model, plan)
    _check(module, image, plan)
    if plan.lattice.turned:
        check_turning(outputs, plan.lattice.ndim)
    canvas = _Canvas(outputs, plan.result_shape, out)
    chosen = device if isinstance(device, Device) else choose_device(device)
    dtype = choose_precision(dtype, chosen, plan.lattice.ndim).name
    stream: StreamPlan | None = None
    if isinstance(method, StreamPlan):
        stream = method
    elif method != "tiles":
        instead = "tiles" if method == "auto" else "columns"
        wish: Any = {"memory": memory, "deterministic": deterministic}
        stream = choose_stream(module, plan, method, device=chosen, **wish, images=(image,))
    if limits is None:
        record = model.record if isinstance(model, Model) else None
        normalisation = record.normalisation if record else Normalisation(low=0, high=0)
        limits = normalisation.limits(image)
    options: Any = {"device": chosen, "dtype": dtype, "limits": limits}

    def by_strips(stream: StreamPlan) -> Generator[TileDone]:
        return _pasted(computed_strips(cast(UNet, module), image, stream, **options), canvas, stream.steps)

    def by_tiles(plan: TilePlan) -> Generator[TileDone]:
        blocks = computed_tiles(module, image, plan, deterministic=deterministic, known=known, outputs=outputs, **options)
        return _pasted(blocks, canvas, len(plan))

    if stream is not None:
        stream = yield from _streamed(by_strips, stream, instead, device=chosen)
    if stream is None:
        plan = yield from _tiled(by_tiles, fitting_plan(module, plan, chosen, dtype=dtype), chosen)
    return Prediction(outputs=canvas.arrays, device=chosen, plan=plan, stream=stream)


def _streamed(
    run: Callable[[StreamPlan], Generator[TileDone]],
    stream: StreamPlan,
    instead: Literal["columns", "tiles"] | None,
    *,
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


def _pasted(blocks: Generator[tuple[Window, npt.NDArray[np.float32]]], canvas: _Canvas, total: int) -> Generator[TileDone]:
    """Paste each block where it belongs, and say so."""
    with closing(blocks):
        for index, (write, block) in enumerate(blocks):
            canvas.paste(write, block)
            yield TileDone(done=index + 1, total=total, write=write)


class _Canvas:
    """The arrays that blocks are pasted into, by the names of the outputs.

    Parameters
    ----------
    outputs : mapping of str to Output or None
        None makes an embedding of all channels that the first block has.
    shape : tuple of int
        Of the result, pixels.
    out : array, mapping of str to array or None
        Arrays that are there already.
    """

    def __init__(self, outputs: Mapping[str, Output] | None, shape: tuple[int, ...], out: Any) -> None:
        self._shape = shape
        self.arrays: dict[str, Any] = dict(out) if isinstance(out, Mapping) else {} if out is None else {"embedding": out}
        self._outputs: Mapping[str, Output] = {}
        self._targets: dict[str, Any] = {}
        for array in self.arrays.values():
            check_writable(array, "the array to fill")
        if outputs is None and "embedding" in self.arrays:
            outputs = _whole_output(self.arrays["embedding"].shape[0])
        if outputs is not None:
            self._prepare(outputs)

    def _prepare(self, outputs: Mapping[str, Output]) -> None:
        self._outputs = outputs
        for name, array in self.arrays.items():
            if name not in outputs:
                raise ModelError(
                    f"an array to fill was given for {name!r}, which the network does not give; name {' or '.join(outputs)}."
                )
            _check_array(array, outputs[name].shape(self._shape))
        for name, output in outputs.items():
            if name not in self.arrays:
                self.arrays[name] = np.empty(output.shape(self._shape), np.float32)
        self.arrays = {name: self.arrays[name] for name in outputs}
        self._targets = {name: _target(self.arrays[name]) if outputs[name].vector else self.arrays[name] for name in outputs}

    def paste(self, write: Window, block: npt.NDArray[np.float32]) -> None:
        """A block (channels, *write)."""
        if not self._outputs:
            self._prepare(_whole_output(len(block)))
        for name, output in self._outputs.items():
            values = block[output.channels] if output.vector else block[output.channels.start]
            values = ACTIVATE[output.activation](values)
            target = self._targets[name]
            place = (slice(None), *write) if output.vector else write
            target[place] = torch.from_numpy(values) if target is not self.arrays[name] else values


def _whole_output(channels: int) -> dict[str, Output]:
    return named_outputs([Output(name="embedding", channels=slice(0, channels))])


def _check_array(array: Any, wanted: tuple[int, ...]) -> None:
    if tuple(array.shape) != wanted:
        raise ImageError(f"the array to fill has shape {tuple(array.shape)}; give {wanted}.")
    if np.dtype(array.dtype).kind != "f":
        raise ImageError(f"the array to fill has type {array.dtype}, which would cut off decimals; give float32.")
    if isinstance(array, np.ndarray) and array.size:
        low, high = np.lib.array_utils.byte_bounds(array)
        if high - low < array.nbytes:  # what is written in one place is read in another
            raise ImageError("the array to fill has elements that share memory, as a broadcast one; give one of np.empty.")


def _target(embedding: Any) -> Any:
    """What blocks are pasted into: PyTorch turns their channels over on all threads, twice as fast as numpy."""
    try:
        return torch.from_numpy(embedding)
    except (TypeError, ValueError):  # zarr; an array with a byte order or strides that PyTorch does not know
        return embedding


def _outputs(model: Model | Network, plan: TilePlan) -> Mapping[str, Output] | None:
    """What the channels of a network say; None if nothing says so."""
    if isinstance(model, Model):
        return model.outputs
    spec = model.spec if isinstance(model, UNet) else plan.lattice.network.spec
    return None if spec is None else spec.outputs


def _runnable(model: Model | Network, plan: TilePlan) -> UNet | PlainNet:
    """The network in the form that the loops know; ModelError if the plan is not one for it."""
    module = model.module if isinstance(model, Model) else model
    wanted = plan.lattice.network
    if isinstance(module, UNet):
        lattice = module.spec.lattice
        fits = lattice.same_sizes(wanted) and wanted.spec in (None, module.spec)
    else:
        lattice = model.lattice if isinstance(model, Model) else wanted
        fits = lattice.same_sizes(wanted)
    if not fits:
        raise ModelError("the tile plan was made for another network; make it with plan_tiles(model.lattice, ...).")
    if isinstance(module, UNet):
        return module
    outputs = _outputs(model, plan)
    return plain_net(module, lattice, None if outputs is None else channel_count(outputs), tiles=len(plan))


def choose_stream(
    module: Network,
    plan: TilePlan,
    method: Method,
    *,
    device: Device,
    memory: int | None = None,
    deterministic: bool = False,
    images: Sequence[ArrayLike] = (),
) -> StreamPlan | None:
    """The stream by which a network runs over an image, or None where tiles run.

    SettingsError if a stream is wanted where there can be none.

    Parameters
    ----------
    plan, method, device, memory, deterministic
        As in `predict_steps`.
    images : sequence of array-like
        Frames (C, *shape). Where all of them are in memory, "auto" counts the tiles that are constant, which cost nothing.
    """
    if not streamable(module):
        if method == "stream":
            raise SettingsError("only a UNet can be streamed, since its layers run one by one; take method 'tiles' or 'auto'.")
        method = "tiles"

    def empty() -> float:
        looked = bool(images) and all(map(in_memory, images))
        return float(np.mean([constant_share(image, plan) for image in images])) if looked else 0.0

    return choose_method(plan, method, **stream_wish(device, memory), deterministic=deterministic, empty=empty)


def _with_channels(image: ArrayLike, plan: TilePlan) -> ArrayLike:
    ndim = plan.lattice.ndim
    return View.whole(image, (None, *range(ndim))) if len(image.shape) == ndim else image


def _check(module: UNet | PlainNet, image: ArrayLike, plan: TilePlan) -> None:
    channels = module.lattice.in_channels if isinstance(module, PlainNet) else module.spec.in_channels
    if tuple(image.shape[1:]) != plan.image_shape:
        raise ImageError(
            f"the tile plan was made for an image of {plan.image_shape} px, but the image has {tuple(image.shape[1:])}; "
            "make the plan with the image's spatial shape, and give channels first."
        )
    if image.shape[0] != channels:
        raise ImageError.of_channels(image.shape[0], channels)


def fitting_plan(module: UNet | PlainNet, plan: TilePlan, device: Device, *, dtype: str) -> TilePlan:
    """The plan, or one of smaller tiles and the same result if a tile takes more memory than there is.

    Only tile sizes that nobody wished for are changed, and only GPUs are tried: a CPU has the memory that it says.
    """
    if not plan.automatic or device.kind != "cuda":
        return plan
    while _peak(module, plan, device, dtype) > TRIAL_SHARE * device.free:
        smaller = smaller_plan(plan)
        if smaller is None:
            return plan  # the run itself says what is missing
        plan = smaller
    return plan


@torch.inference_mode()
def _peak(module: UNet | PlainNet, plan: TilePlan, device: Device, dtype: str) -> float:
    """Memory that the largest tile takes beside what was there before, bytes; infinite if there is not enough."""
    where = device.torch_device
    try:
        with memory_errors("a trial tile"), exact_convolutions(tf32=dtype == "tf32"):
            net = tile_network(module, device, dtype, lattice=plan.lattice, outputs=None)
            before = torch.cuda.memory_allocated(where)
            torch.cuda.reset_peak_memory_stats(where)
            x = entered(net, torch.zeros((1, plan.lattice.in_channels, *plan.read), device=where))
            net(x, tuple(max(axis, key=lambda tile: tile[0].stop - tile[0].start)[1] for axis in plan.axes))
            torch.cuda.synchronize(where)
            return torch.cuda.max_memory_allocated(where) - before
    except OutOfMemoryError:
        torch.cuda.empty_cache()
        return math.inf
