"""The U-Net that a `UNetSpec` describes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.geometry import UNetSpec

__all__ = ["POOL", "UNet"]

# per number of axes; typed loosely, because torch types sizes per number of axes
_CONV: Any = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: Any = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORM: Any = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOL: Any = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
"""Max pooling `(x, factor)` per number of axes."""


class UNet(nn.Module):
    """U-Net with max pooling, centre-cropped skips and a linear head (Ronneberger et al. 2015; Rumberger et al. 2021).

    No layer depends on the extent of its input, so a pixel's output is decided by its surroundings and its position modulo
    the period alone.

    Parameters
    ----------
    spec : UNetSpec

    Notes
    -----
    `forward` maps (B, C, *in) to (B, E [+ 1 foreground logit], *out), `out = spec.output_size(in)`. With
    `spec.coordinates` the first `ndim` channels are offsets in pixels, to which the loss and the labelling add coordinates.
    """

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        if spec.ndim not in _CONV:
            raise SettingsError(f"ndim is {spec.ndim}; give 1, 2 or 3.")
        self.spec = spec
        features = spec.channels
        decoder_convs = spec.decoder_convs or spec.convs
        inputs = (spec.in_channels, *features[:-1])
        self.encoder = nn.ModuleList(_block(spec, a, b, spec.convs) for a, b in zip(inputs, features, strict=True))
        up, decoder = [], []
        for level, factor in enumerate(spec.factors):
            deep, fine = features[level + 1], features[level]
            if spec.upsampling == "learnt":
                layers = [_TRANSPOSED[spec.ndim](deep, fine, factor, factor)]
                up.append(nn.Sequential(*layers, nn.ReLU(inplace=True)))
                decoder.append(_block(spec, 2 * fine, fine, decoder_convs))
            else:
                up.append(nn.Sequential(nn.Upsample(scale_factor=tuple(map(float, factor)), mode="nearest")))
                decoder.append(_block(spec, fine + deep, fine, decoder_convs))
        self.up, self.decoder = nn.ModuleList(up), nn.ModuleList(decoder)
        padding = (spec.head_kernel - 1) // 2 if spec.padding == "zero" else 0
        self.head = _CONV[spec.ndim](features[0], spec.out_channels, spec.head_kernel, padding=padding)
        self.apply(_initialise)

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


def _block(spec: UNetSpec, source: int, target: int, convs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    padding = tuple((k - 1) // 2 for k in spec.kernels) if spec.padding == "zero" else 0
    for index in range(convs):
        before = target if index else source
        layers.append(_CONV[spec.ndim](before, target, spec.kernels, padding=padding, bias=not spec.batch_norm))
        if spec.batch_norm:
            layers.append(_NORM[spec.ndim](target))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


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
