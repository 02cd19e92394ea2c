"""Convolutions with their ReLU in one step, as oneDNN runs them on CPUs.

PyTorch computes convolution and ReLU one after the other, and float32 volumes by a slow path (`slow_conv3d`). The operator here
is the one that `torch.compile` uses; it is internal to PyTorch, so `works` tries it before it is relied on.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["ConvReLU", "fused", "works"]

_CONV = (nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)


class ConvReLU(nn.Module):
    """A convolution, plain or transposed, and the ReLU after it.

    Parameters
    ----------
    layer : Conv2d, Conv3d, ConvTranspose2d or ConvTranspose3d
        Without padding.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        given: Any = layer
        self.weight, self.bias, self.stride = given.weight, given.bias, list(given.stride)
        self.transposed = isinstance(layer, _TRANSPOSED)

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
        if layers and isinstance(layer, nn.ReLU) and isinstance(layers[-1], _CONV + _TRANSPOSED):
            layers[-1] = ConvReLU(layers[-1])
        else:
            layers.append(layer)
    return nn.Sequential(*layers)


@lru_cache
def works(ndim: int, dtype: torch.dtype) -> bool:
    """Whether this PyTorch on this CPU runs the operators, and right."""
    if ndim not in (2, 3) or not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((1, 2, *(6,) * ndim), generator=generator, device="cpu").to(dtype)
    for kind, kernel, stride in ((_CONV, 3, 1), (_TRANSPOSED, 2, 2)):
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
