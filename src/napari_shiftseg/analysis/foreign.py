"""Networks that are not a `UNet`: any Module or callable, with the sizes that a spec states."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from napari_shiftseg.errors import ModelError, memory_ran_out
from napari_shiftseg.geometry import UNetSpec

__all__ = ["Foreign"]


class Foreign(nn.Module):
    """A network with the face of a `UNet`, so that the one tile loop can run it.

    Parameters
    ----------
    network : Module or callable
        (B, C, *in) -> (B, E, *out).
    spec : UNetSpec
        States the sizes; the network's inside may be anything.

    Raises
    ------
    ModelError
        In `forward`, if the network fails or its output has another shape than the spec states.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], spec: UNetSpec) -> None:
        super().__init__()
        if not callable(network):
            raise ModelError(f"a {type(network).__name__} was given as the network; give a Model, a Module or a callable.")
        self.spec = spec
        # says which number format is wanted
        self.dtype_holder = nn.Parameter(torch.zeros(1, device="cpu"), requires_grad=False)
        self.network = network
        self.head = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Output of the network, checked."""
        try:
            y = self.network(x)
        except RuntimeError as exc:
            if memory_ran_out(exc):
                raise
            raise ModelError(f"the network does not take an input of shape {tuple(x.shape)} ({_first_line(exc)}).") from exc
        wanted = (len(x), self.spec.out_channels, *self.spec.output_size(x.shape[2:]))
        if not isinstance(y, Tensor) or tuple(y.shape) != wanted:
            found = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise ModelError(
                f"the network made {found} of an input of shape {tuple(x.shape)}; the spec of the plan states {wanted}."
            )
        return y


def _first_line(exc: Exception) -> str:
    return str(exc).strip().splitlines()[0][:120] if str(exc).strip() else type(exc).__name__
