"""`Between`: a network that runs between two steps of its own, and is given the pixels of the image in full precision."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from napari_shiftseg.geometry import Window


class Between(nn.Module):
    """What such networks have in common.

    Parameters
    ----------
    net : Module
        (B, C, *in), window -> (B, channels, *window), in the form in which it runs, with a `layout`.
    enter : callable
        As `unet.entered`: pixels in the number format of the network.
    """

    layout = torch.contiguous_format

    def __init__(self, net: nn.Module, enter: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        # the first parameter says which number format is wanted: the steps are taken in full precision
        self.number = nn.Parameter(torch.zeros(1, device="cpu"), requires_grad=False)
        self.net, self._enter = net, enter

    def inner(self, x: Tensor, keep: Window) -> Tensor:
        """Window `keep` of what the network says of pixels (B, C, *in), float32."""
        net: nn.Module = self.net
        pixels = self._enter(net, x).contiguous(memory_format=net.layout)  # type: ignore[arg-type]
        y: Tensor = net(pixels, keep)
        return y.float()
