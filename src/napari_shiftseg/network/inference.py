"""`InferenceNet`: a trained `UNet` as it runs over tiles, with the same output and less work."""

from __future__ import annotations

import copy
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_shiftseg.geometry import Pass, UNetSpec, Window
from napari_shiftseg.network import onednn, unet
from napari_shiftseg.network.device import channels_last
from napari_shiftseg.network.unet import UNet

__all__ = ["InferenceNet", "PlainNet", "inference_form"]

_FUNCTION: Any = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


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
        Convolution and ReLU in one step (`network.onednn`), on CPUs.
    """

    def __init__(self, net: UNet, *, fold: bool | None = None, one_step: bool = False) -> None:
        super().__init__()
        self.spec: UNetSpec = net.spec
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
                nn.ModuleList(onednn.fused(block) for block in blocks) for blocks in (self.encoder, self.decoder, self.up)
            )
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor, keep: Window) -> Tensor:
        """Window `keep` of the output, (B, out_channels, *keep), of an input (B, C, *in)."""
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
            x = unet.POOL[self.spec.ndim](_part(x, plan.pooled[level]), factor)
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
    """Any other network with the face of a `UNet`: the whole output is computed, and cropped."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.spec: UNetSpec = net.spec  # type: ignore[assignment]
        self.net = copy.deepcopy(net)
        self.head: Any = self.net.head
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor, keep: Window) -> Tensor:
        """Window `keep` of the output, (B, out_channels, *keep), of an input (B, C, *in)."""
        y: Tensor = self.net(x)
        return y[(slice(None), slice(None), *keep)]


def inference_form(net: nn.Module, *, fold: bool | None = None, one_step: bool = False) -> InferenceNet | PlainNet:
    """The form in which a network runs over tiles; the network itself is left as it is.

    Parameters
    ----------
    fold, one_step : bool
        As in `InferenceNet`.
    """
    if isinstance(net, UNet) and type(net).forward is UNet.forward and net.spec.padding == "valid":
        return InferenceNet(net, fold=fold, one_step=one_step)
    return PlainNet(net)


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
