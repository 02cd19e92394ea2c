"""The U-Net that a `UNetSpec` describes: as it learns, and as it runs over windows, with the same output and less work."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_shiftseg.arguments import told
from napari_shiftseg.errors import ModelError, OutOfMemoryError, SettingsError, memory_ran_out
from napari_shiftseg.geometry import Lattice, Layer, Pass, UNetSpec, Window
from napari_shiftseg.machine import free_memory
from napari_shiftseg.network.constants import FIRST_BANDWIDTH
from napari_shiftseg.network.device import channels_last

# per number of axes; typed loosely, because torch types sizes per number of axes
_CONV: Any = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: Any = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORM: Any = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOL: Any = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
"""Max pooling `(x, factor)` per number of axes."""
Network = Callable[[Tensor], Tensor]
"""(B, C, *in) -> (B, channels, *out): a Module, or anything else that can be called."""

# Layers that average or compare over all pixels that they are given.
_OF_ALL_PIXELS = (nn.GroupNorm, nn.MultiheadAttention, _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd)

_FUNCTION: Any = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_RAISING = (nn.ConvTranspose2d, nn.ConvTranspose3d)


class UNet(nn.Module):
    """U-Net with max pooling, centre-cropped skips and a linear head (Ronneberger et al. 2015; Rumberger et al. 2021).

    No layer depends on the extent of its input, so a pixel's output is decided by its surroundings and its position modulo
    the period alone.

    Parameters
    ----------
    spec : UNetSpec

    Notes
    -----
    `forward` maps (B, C, *in) to (B, channels of `spec.outputs` before their activation, *out),
    `out = spec.output_size(in)`. With `spec.coordinates` the first `ndim` channels are offsets in pixels, to which the loss and
    the labelling add coordinates.

    >>> net = UNet(UNetSpec(levels=1, features=2, embedding_dim=3))
    >>> tuple(net(torch.zeros(1, 1, 20, 20)).shape)
    (1, 3, 4, 4)
    """

    @told
    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        if spec.ndim not in _CONV:
            raise SettingsError(f"ndim is {spec.ndim}; give 1, 2 or 3.")
        if 4 * spec.weights > free_memory():
            raise OutOfMemoryError(
                f"the network has {spec.weights:.3g} weights, which take {4 * spec.weights / 1e9:.3g} GB, and "
                f"{free_memory() / 1e9:.3g} GB are free; take fewer levels, features or embedding channels."
            )
        self.spec = spec
        self.encoder = nn.ModuleList(_block(spec, "encoder", level) for level in range(spec.levels + 1))
        self.up = nn.ModuleList(_raising(layer) for layer in reversed(spec.walk) if layer.kind == "upsampling")
        self.decoder = nn.ModuleList(_block(spec, "decoder", level) for level in range(spec.levels))
        self.head = _convolution(spec.walk[-1])
        self.apply(_initialise)
        if "bandwidth" in spec.outputs:
            with torch.no_grad():
                self.head.bias[spec.outputs["bandwidth"].channels] = math.log(FIRST_BANDWIDTH[spec.coordinates])

    def forward(self, x: Tensor) -> Tensor:
        """Output of the network, channels first (see the class)."""
        skips = []
        for block, factor in zip(self.encoder, self.spec.factors, strict=False):
            x = block(x)
            skips.append(x)
            x = POOL[self.spec.ndim](x, factor)
        x = self.encoder[-1](x)  # (B, deepest features, *size / period)
        for level in reversed(range(self.spec.levels)):
            x = self.up[level](x)
            x = self.decoder[level](torch.cat([_centre(skips.pop(), x.shape[2:]), x], 1))
        # the head runs in full precision: an embedding is compared by distance, and 8 bits of mantissa are coarse
        with torch.autocast(x.device.type, enabled=False):
            return self.head(x.to(self.head.weight.dtype))  # type: ignore[no-any-return]


def _convolution(layer: Layer, **more: Any) -> Any:
    padding = tuple((k - 1) // 2 - lost for k, lost in zip(layer.kernel, layer.lost, strict=True))
    return _CONV[len(padding)](layer.source, layer.target, layer.kernel, padding=padding, **more)


def _block(spec: UNetSpec, path: str, level: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for layer in spec.walk:
        if (layer.kind, layer.path, layer.level) == ("convolution", path, level):
            norm = [_NORM[spec.ndim](layer.target)] if spec.batch_norm else []
            layers += [_convolution(layer, bias=not spec.batch_norm), *norm, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _raising(layer: Layer) -> nn.Sequential:
    if layer.taps:
        return nn.Sequential(
            _TRANSPOSED[len(layer.factor)](layer.source, layer.target, layer.factor, layer.factor), nn.ReLU(inplace=True)
        )
    return nn.Sequential(nn.Upsample(scale_factor=tuple(map(float, layer.factor)), mode="nearest"))


def _centre(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Centre crop of the spatial axes; margins of valid convolutions with odd kernels are even, so it is exact."""
    window: list[Any] = [...]
    for have, want in zip(x.shape[2:], shape, strict=True):
        start = (have - want) // 2
        window.append(slice(start, start + want))
    return x[tuple(window)]


def _initialise(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


class InferenceNet(nn.Module):
    """A valid `UNet` in evaluation mode that computes the kept window of its output and nothing else.

    Every map is cropped to what the kept window depends on before it is computed (`geometry.Pass`); batch normalisation is
    folded into the convolutions.

    Parameters
    ----------
    net : UNet
        With valid convolutions; it is left as it is.
    fold : bool, optional
        Fold nearest-neighbour upsampling into the convolution after it; None does so in 2D, where it is faster.
    one_step : bool
        Convolution and ReLU in one step (`ConvReLU`), on CPUs.
    number : torch.dtype
        Number format that the convolutions will have; it decides how `entered` gives them pixels.
    """

    def __init__(
        self, net: UNet, *, fold: bool | None = None, one_step: bool = False, number: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.spec: UNetSpec = net.spec
        self.layout = channels_last(net.spec.ndim)
        self.encoder = nn.ModuleList(_folded(block) for block in net.encoder)
        self.decoder = nn.ModuleList(_folded(block) for block in net.decoder)
        self.up = copy.deepcopy(net.up)
        self.head = copy.deepcopy(net.head)
        self.joins = nn.ModuleList()
        if net.spec.upsampling == "fixed" and (net.spec.ndim == 2 if fold is None else fold):
            for block, factor in zip(self.decoder, net.spec.factors, strict=True):
                self.joins.append(_FoldedJoin(block[0], factor))  # type: ignore[index]
            self.decoder = nn.ModuleList(block[2:] for block in self.decoder)  # type: ignore[index]
        if one_step:
            self.encoder, self.decoder, self.up = (
                nn.ModuleList(fused(block) for block in blocks) for blocks in (self.encoder, self.decoder, self.up)
            )
        if number != torch.float32:
            _widen(self.encoder[0][0], number)  # type: ignore[index]
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor, keep: Window) -> Tensor:
        """Window `keep` of the output, (B, out_channels, *keep), of an input (B, C, *in) as `entered` gives it."""
        return self.passed(x, self.planned(tuple(x.shape[2:]), keep))

    def planned(self, edges: tuple[int, ...], keep: Window) -> Pass:
        """What is read and kept of each map, for an input with these edges."""
        return _planned(self.spec, edges, tuple((part.start, part.stop) for part in keep))

    def passed(self, x: Tensor, plan: Pass) -> Tensor:
        """The output that a pass keeps."""
        x, skips = _part(x, plan.read), []
        for level, factor in enumerate(self.spec.factors):
            x = self.encoder[level](x)
            skips.append(self._placed(level, _part(x, plan.skips[level])))
            x = POOL[self.spec.ndim](_part(x, plan.pooled[level]), factor)
        x = self.encoder[-1](x)
        for level in reversed(range(self.spec.levels)):
            skip, raised = skips.pop(), plan.raised[level]
            x = self.joins[level](skip, x, raised) if self.joins else _joined(skip, _part(self.up[level](x), raised))
            x = self.decoder[level](x)
        return self.head(x.to(self.head.weight.dtype))  # type: ignore[no-any-return]

    def _placed(self, level: int, skip: Tensor) -> Tensor:
        """A skip; on a CPU it goes at once to its place in the map that the decoder reads, and its own memory is free again."""
        if self.joins or skip.device.type != "cpu":
            return skip
        first: Any = self.decoder[level][0]  # type: ignore[index]
        layout = channels_last(self.spec.ndim) if skip.stride(1) == 1 else torch.contiguous_format
        room = torch.empty((len(skip), first.weight.shape[1], *skip.shape[2:]), dtype=skip.dtype, memory_format=layout)
        room[:, : skip.shape[1]] = skip
        return room


def _widen(first: Any, number: torch.dtype) -> None:
    """Make a first convolution read pixels as `entered` splits them: it multiplies almost as exactly as float32 does then.

    Rounding the pixels, and the weights that they meet, to a short format does more harm to a result than rounding all that
    comes after them; and of all convolutions this one is the smallest.
    """
    weight = first.weight.detach()
    rounded = weight.to(number).to(weight.dtype)
    first.weight = nn.Parameter(torch.cat([rounded, rounded, weight - rounded], 1))


def entered(net: nn.Module, x: Tensor) -> Tensor:
    """Pixels (B, C, *in) in the number format of a network in the form in which it runs.

    For a first convolution that was made for it, they come three times: rounded, what rounding lost, and rounded.
    """
    first = next(net.parameters())
    rounded = x.to(first.dtype)
    if not isinstance(net, InferenceNet) or first.shape[1] == x.shape[1]:
        return rounded
    return torch.cat([rounded, (x - rounded).to(first.dtype), rounded], 1)


def _joined(skip: Tensor, raised: Tensor) -> Tensor:
    """Skip and raised map, side by side as channels."""
    if skip.device.type != "cpu":
        return torch.cat([skip, raised], 1)
    skip[:, -raised.shape[1] :] = raised
    return skip


class _FoldedJoin(nn.Module):
    """`relu(conv(cat[skip, nearest(deep)]))` without the upsampled map.

    There is nothing between upsampling and convolution, so taps that fall on the same deep pixel add up: each of the f^d phases
    of the output is a smaller convolution of the deep map.
    """

    def __init__(self, conv: Any, factor: tuple[int, ...]) -> None:
        super().__init__()
        fine = conv.out_channels
        weight = conv.weight.detach()
        self.factor = factor
        self.skip = nn.Parameter(weight[:, :fine].clone())
        self.deep = nn.Parameter(_phases(weight[:, fine:].double(), factor).to(weight.dtype))
        self.bias = nn.Parameter(conv.bias.detach().clone())

    def forward(self, skip: Tensor, deep: Tensor, raised: Window) -> Tensor:
        """(B, fine, *out) of a skip (B, fine, *in) and a deep map; `raised` is the skip's window in the upsampled map."""
        convolve = _FUNCTION[len(self.factor)]
        y: Tensor = convolve(skip, self.skip, self.bias)
        spread = _spread(convolve(self._filled(deep, y, raised), self.deep), self.factor)
        window = tuple(slice(part.start, part.start + size) for part, size in zip(raised, y.shape[2:], strict=True))
        return y.add_(_part(spread, window)).relu_()

    def _filled(self, deep: Tensor, y: Tensor, raised: Window) -> Tensor:
        """The deep map with zeros behind it, which only phases that do not reach so far would need."""
        missing: list[int] = []
        for axis in reversed(range(len(self.factor))):
            phased = -(-(raised[axis].start + y.shape[2 + axis]) // self.factor[axis])
            missing += [0, max(0, phased + self.deep.shape[2 + axis] - 1 - deep.shape[2 + axis])]
        return F.pad(deep, missing) if any(missing) else deep


def _phases(weight: Tensor, factor: tuple[int, ...]) -> Tensor:
    """Weights (out * f^d, in, *taps) of the phases, from weights (out, in, *kernel) on the upsampled map."""
    kernel = weight.shape[2:]
    taps = tuple((f + k - 2) // f + 1 for f, k in zip(factor, kernel, strict=True))
    phases = weight.new_zeros((weight.shape[0], *factor, weight.shape[1], *taps))
    whole: Any = (slice(None), slice(None))
    for phase in product(*map(range, factor)):
        for tap in product(*map(range, kernel)):
            deep: Any = tuple((a + b) // f for a, b, f in zip(phase, tap, factor, strict=True))
            phases[(slice(None), *phase, slice(None), *deep)] += weight[whole + tap]
    return phases.reshape(-1, weight.shape[1], *taps)


def _spread(x: Tensor, factor: tuple[int, ...]) -> Tensor:
    """(B, out, *(f * size)) from phases (B, out * f^d, *size)."""
    if len(factor) == 2 and factor[0] == factor[1]:
        return F.pixel_shuffle(x, factor[0])  # knows channels last
    ndim, sizes = len(factor), x.shape[2:]
    order = [0, 1]
    for axis in range(ndim):
        order += [2 + ndim + axis, 2 + axis]
    apart = x.reshape(len(x), -1, *factor, *sizes).permute(order)
    return apart.reshape(len(x), x.shape[1] // prod(factor), *(f * n for f, n in zip(factor, sizes, strict=True)))


class PlainNet(nn.Module):
    """Any other network: its whole output is computed, checked and cropped.

    ModelError: in `forward`, if the network fails or its output is not as stated.

    Parameters
    ----------
    net : Module or callable
        (B, C, *in) -> (B, channels, *out); a callable is given float32.
    lattice : Lattice
        States the sizes; the network's inside may be anything. Of an output that is larger than stated, as one without the
        pixels that see zeros is, the centre counts.
    channels : int, optional
        Of the output, as stated.
    """

    def __init__(self, net: Network, lattice: Lattice, channels: int | None = None) -> None:
        super().__init__()
        if not callable(net):
            raise ModelError(f"a {type(net).__name__} was given as the network; give a Model, a Module or a callable.")
        self.lattice, self.channels = lattice, channels
        # the first parameter says which number format is wanted: a callable has none
        self.number = nn.Parameter(torch.zeros(1, device="cpu"), requires_grad=False)
        self.net = net if isinstance(net, nn.Module) else lambda x: net(x.float())
        # layers of others may want their pixels in the usual order
        self.layout = channels_last(lattice.ndim) if isinstance(net, UNet) else torch.contiguous_format

    @property
    def head(self) -> nn.Module | None:
        """The last layer, which runs in float32, if it is known."""
        return self.net.head if isinstance(self.net, UNet) else None

    def forward(self, x: Tensor, keep: Window) -> Tensor:
        """Window `keep` of the output, (B, channels, *keep), of an input (B, C, *in)."""
        return _part(self._centre(x, self._whole(x)), keep)

    def _whole(self, x: Tensor) -> Tensor:
        try:
            y: Any = self.net(x)
        except Exception as exc:  # whatever a stranger's code raises
            if memory_ran_out(exc):
                raise
            raise ModelError(
                f"the network does not take an input of shape {tuple(x.shape)} ({_first_line(exc)}); state the sizes "
                "that it takes (Lattice.smallest), or take those that probe_period finds."
            ) from exc
        channels = self.channels or (y.shape[1] if isinstance(y, Tensor) and y.ndim > 1 else 1)
        wanted = (len(x), channels, *self.lattice.output_size(tuple(x.shape[2:])))
        found = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        if not isinstance(y, Tensor) or y.ndim != x.ndim or y.shape[:2] != wanted[:2] or not self._fits(x, y, wanted):
            raise ModelError(
                f"the network made {found} of an input of shape {tuple(x.shape)}, where the lattice states {wanted}; "
                "state the margin and the outputs that it has."
            )
        return y

    def _fits(self, x: Tensor, y: Tensor, wanted: Sequence[int]) -> bool:
        """Whether the output has the stated size, or more around it that is cropped."""
        return all(
            have == least or (any(self.lattice.margin) and least < have <= edge and (have - least) % 2 == 0)
            for edge, have, least in zip(x.shape[2:], y.shape[2:], wanted[2:], strict=True)
        )

    def _centre(self, x: Tensor, y: Tensor) -> Tensor:
        stated = self.lattice.output_size(tuple(x.shape[2:]))
        starts = [(have - size) // 2 for have, size in zip(y.shape[2:], stated, strict=True)]
        return _part(y, tuple(slice(start, start + size) for start, size in zip(starts, stated, strict=True)))


def plain_net(net: Network, lattice: Lattice, channels: int | None, *, tiles: int) -> PlainNet:
    """A network that is not a `UNet`, as it runs over so many tiles.

    ModelError if there are several, and a layer gives something else for each tile than for one pass.
    """
    if isinstance(net, PlainNet):
        return net
    layers = net.named_modules() if isinstance(net, nn.Module) and tiles > 1 else ()
    for name, layer in layers:
        if isinstance(layer, _OF_ALL_PIXELS) or (isinstance(layer, _NormBase) and layer.running_mean is None):
            raise ModelError(
                f"the layer {name!r} ({type(layer).__name__}) of the network depends on all pixels that it is given, so "
                f"{tiles} tiles would not give what one pass gives; take one tile as large as the image, or a network without "
                "such layers."
            )
    return PlainNet(net, lattice, channels)


def inference_form(
    net: nn.Module, *, fold: bool | None = None, one_step: bool = False, number: torch.dtype = torch.float32
) -> InferenceNet | PlainNet:
    """The form in which a network runs over tiles; the network itself is left as it is.

    `fold`, `one_step`, `number`: as in `InferenceNet`.
    """
    if isinstance(net, UNet) and type(net).forward is UNet.forward and net.spec.padding == "valid":
        return InferenceNet(net, fold=fold, one_step=one_step, number=number)
    if isinstance(net, UNet):
        net = PlainNet(net, net.spec.lattice, net.spec.out_channels)
    try:
        with torch.no_grad():  # scripted weights are cloned as results of a computation
            form: Any = copy.deepcopy(net)
    except (RuntimeError, TypeError, ValueError) as exc:
        if memory_ran_out(exc):
            raise
        raise ModelError(
            f"the network cannot be copied ({_first_line(exc)}), and a run leaves it as it is; give a function that calls it."
        ) from exc
    return form.eval()  # type: ignore[no-any-return]


def _first_line(exc: Exception) -> str:
    return str(exc).strip().splitlines()[0][:120] if str(exc).strip() else type(exc).__name__


@lru_cache(maxsize=256)  # the tiles of a plan are of a handful of kinds
def _planned(spec: UNetSpec, read: tuple[int, ...], keep: tuple[tuple[int, int], ...]) -> Pass:
    return Pass.of(spec, read, tuple(slice(*ends) for ends in keep))


def _folded(block: nn.Module) -> nn.Sequential:
    """A block of convolutions whose batch normalisations are part of their weights."""
    layers: list[nn.Module] = []
    for layer in copy.deepcopy(block).eval().children():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            before: Any = layers.pop()
            dtype = before.weight.dtype
            # in double precision, so that only the sums of the convolution are rounded differently
            layer = fuse_conv_bn_eval(before.double(), layer.double()).to(dtype)
        layers.append(layer)
    return nn.Sequential(*layers)


def _part(x: Tensor, window: Window) -> Tensor:
    return x[(slice(None), slice(None), *window)]


class ConvReLU(nn.Module):
    """A convolution, plain or transposed, and the ReLU after it, in one step, as oneDNN runs them on CPUs.

    PyTorch computes one after the other, and float32 volumes by a slow path (`slow_conv3d`). The operator here is the one that
    `torch.compile` uses; it is internal to PyTorch, so `one_step_works` tries it before it is relied on. `layer`: without
    padding.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        given: Any = layer
        self.weight, self.bias, self.stride = given.weight, given.bias, list(given.stride)
        self.transposed = isinstance(layer, _RAISING)

    def forward(self, x: Tensor) -> Tensor:
        """(B, out_channels, *out) of (B, in_channels, *in)."""
        none, ones = [0] * len(self.stride), [1] * len(self.stride)
        if self.transposed:
            up: Any = torch.ops.mkldnn._convolution_transpose_pointwise
            raised: Tensor = up(x, self.weight, self.bias, none, none, self.stride, ones, 1, "relu", [], "")
            return raised
        run: Any = torch.ops.mkldnn._convolution_pointwise
        result: Tensor = run(x, self.weight, self.bias, none, self.stride, ones, 1, "relu", [], "")
        return result


def fused(block: nn.Module) -> nn.Sequential:
    """A block of layers with each pair of convolution and ReLU made one."""
    layers: list[nn.Module] = []
    for layer in block.children():
        if layers and isinstance(layer, nn.ReLU) and isinstance(layers[-1], _CONVOLUTIONS + _RAISING):
            layers[-1] = ConvReLU(layers[-1])
        else:
            layers.append(layer)
    return nn.Sequential(*layers)


@lru_cache
def one_step_works(ndim: int, dtype: torch.dtype) -> bool:
    """Whether this PyTorch on this CPU runs the operators, and right."""
    if ndim not in (2, 3) or not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((1, 2, *(6,) * ndim), generator=generator, device="cpu").to(dtype)
    for kind, kernel, stride in ((_CONVOLUTIONS, 3, 1), (_RAISING, 2, 2)):
        layer: Any = kind[ndim - 2](2, 3, kernel, stride, device="cpu")
        with torch.no_grad():
            layer.weight.copy_(torch.rand(layer.weight.shape, generator=generator, device="cpu") - 0.5)
            layer.bias.zero_()
            plain = layer(x.float()).relu()
            try:
                found = ConvReLU(layer.to(dtype))(x)
            except (AttributeError, RuntimeError, TypeError):  # another PyTorch, or a CPU without this format
                return False
        if not torch.allclose(found.float(), plain, atol=1e-5 if dtype == torch.float32 else 0.1):
            return False
    return True
