"""PyTorch's counter of operations, told about the fused convolutions of oneDNN, which it does not know."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def flop_counter() -> FlopCounterMode:
    """A counter; a multiply-add counts as two."""
    mapping = {}
    for name, count in (("_convolution_pointwise", _plain), ("_convolution_transpose_pointwise", _transposed)):
        if hasattr(torch.ops.mkldnn, name):
            mapping[getattr(torch.ops.mkldnn, name)] = count
    return FlopCounterMode(display=False, custom_mapping=mapping)


def _plain(x: Sequence[int], weight: Sequence[int], *rest: Any, out_shape: Sequence[int], **more: Any) -> int:
    """Each output value has a tap for each weight of its channel."""
    return 2 * prod(out_shape) * prod(weight[1:])


def _transposed(x: Sequence[int], weight: Sequence[int], *rest: Any, out_shape: Sequence[int], **more: Any) -> int:
    """Each input value goes through all weights of its channel."""
    return 2 * prod(x) * prod(weight[1:])
