"""`InferenceNet`: a trained `UNet` as it runs over tiles, with the same output and less work."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_shiftseg.geometry import Pass, UNetSpec, Window
from napari_shiftseg.network import unet
from napari_shiftseg.network.unet import UNet

__all__ = ["InferenceNet", "PlainNet", "inference_form"]


class InferenceNet(nn.Module):
    """A valid `UNet` in evaluation mode that computes the kept window of its output and nothing else.

    Batch normalisation is folded into the convolutions, and every map is cropped to what the kept window depends on before it
    is computed (`geometry.Pass`).

    Parameters
    ----------
    net : UNet
        With valid convolutions; it is left as it is.
    """

    def __init__(self, net: UNet) -> None:
        super().__init__()
        self.spec: UNetSpec = net.spec
        self.encoder = nn.ModuleList(_folded(block) for block in net.encoder)
        self.decoder = nn.ModuleList(_folded(block) for block in net.decoder)
        self.up = copy.deepcopy(net.up)
        self.head = copy.deepcopy(net.head)
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor, keep: Window) -> Tensor:
        """Window `keep` of the output, (B, out_channels, *keep), of an input (B, C, *in)."""
        plan = _planned(self.spec, tuple(x.shape[2:]), tuple((part.start, part.stop) for part in keep))
        x, skips = _part(x, plan.read), []
        for level, factor in enumerate(self.spec.factors):
            x = self.encoder[level](x)
            skips.append(_part(x, plan.skips[level]))
            x = unet._POOL[self.spec.ndim](_part(x, plan.pooled[level]), factor)
        x = self.encoder[-1](x)
        for level in reversed(range(self.spec.levels)):
            x = _part(self.up[level](x), plan.raised[level])
            x = self.decoder[level](torch.cat([skips.pop(), x], 1))
        return self.head(x.to(self.head.weight.dtype))  # type: ignore[no-any-return]


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


def inference_form(net: nn.Module) -> InferenceNet | PlainNet:
    """The form in which a network runs over tiles; the network itself is left as it is."""
    if isinstance(net, UNet) and type(net).forward is UNet.forward and net.spec.padding == "valid":
        return InferenceNet(net)
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
