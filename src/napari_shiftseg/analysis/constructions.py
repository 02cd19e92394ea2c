"""Networks that the paper's proofs construct: their weights are written down, not trained."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.geometry import UNetSpec
from napari_shiftseg.network import UNet


def passing_network(spec: UNetSpec) -> UNet:
    """Network that hands each bottleneck value to all pixels of its cell: convolutions pass, skips are cut.

    On an image that increases strictly along its diagonals, one place gets prod(period) different outputs over all shifts.
    SettingsError if the spec has fixed upsampling or batch normalisation. `spec`: with learnt upsampling and no batch
    normalisation; the first feature channel carries the value.

    Source: Rumberger et al. 2021, Lemma 1, part I.
    """
    net = _empty(spec)
    with torch.no_grad():
        for block in net.encoder:
            for conv in _convolutions(block):
                _pass(conv, 0)
        for level, (up, block) in enumerate(zip(net.up, net.decoder, strict=True)):
            _layer(up, 0).weight[0, 0] = 1.0
            first, *others = _convolutions(block)
            _pass(first, spec.channels[level])  # behind the skip's channels
            for conv in others:
                _pass(conv, 0)
        _pass(net.head, 0)
    return net


def prime_network(spec: UNetSpec) -> UNet:
    """Network whose output tells each pixel of every period window apart, whatever the image.

    Each tap of each upsampling is a prime of its own, so a pixel's value is the product of the primes on its way, and
    factorisation is unique. From five levels in 2D products pass 2^24, the largest exact integer of float32; run `.double()`.
    `spec` and errors as for `passing_network`.

    Source: Rumberger et al. 2021, Corollary 4.
    """
    net = passing_network(spec)
    primes = _primes()
    with torch.no_grad():
        first = _convolutions(net.encoder[0])[0]
        first.weight.zero_()
        _bias(first).fill_(0)[0] = 1.0
        for up, factor in zip(net.up, spec.factors, strict=True):
            taps = torch.tensor(list(islice(primes, prod(factor))), dtype=torch.float32)
            _layer(up, 0).weight[0, 0] = taps.reshape(factor)
    return net


def _empty(spec: UNetSpec) -> UNet:
    if spec.upsampling != "learnt" or spec.batch_norm:
        raise SettingsError("the construction needs learnt upsampling and no batch normalisation; give such a spec.")
    net = UNet(spec).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    return net


def _convolutions(block: nn.Module) -> list[Any]:
    return [layer for layer in block.children() if hasattr(layer, "weight")]


def _layer(block: nn.Module, index: int) -> Any:
    return list(block.children())[index]


def _bias(layer: Any) -> Tensor:
    bias: Tensor = layer.bias
    return bias


def _pass(conv: Any, source: int) -> None:
    """Hand channel `source` on as channel 0."""
    middle = tuple(edge // 2 for edge in conv.kernel_size)
    conv.weight[(0, source, *middle)] = 1.0


def _primes() -> Iterator[int]:
    return (n for n in count(2) if all(n % k for k in range(2, int(n**0.5) + 1)))
