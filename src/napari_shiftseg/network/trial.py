"""`fitting_plan`: one tile is tried on the device before a run, since what a pass takes there is only estimated."""

from __future__ import annotations

import math

import torch

from napari_shiftseg.errors import OutOfMemoryError
from napari_shiftseg.geometry import TilePlan, smaller_plan
from napari_shiftseg.network.arithmetic import exact_convolutions
from napari_shiftseg.network.device import Device, is_tf32, memory_errors
from napari_shiftseg.network.execution import ready_network
from napari_shiftseg.network.unet import UNet

__all__ = ["fitting_plan"]

# Share of the free memory that a pass may take: the blocks of the next and of the last tile lie beside it.
_SHARE = 0.9


def fitting_plan(module: UNet, plan: TilePlan, device: Device, dtype: str) -> TilePlan:
    """The plan, or one of smaller tiles and the same result if a tile takes more memory than there is.

    Only tile sizes that nobody wished for are changed, and only GPUs are tried: a CPU has the memory that it says.
    """
    if not plan.automatic or device.kind != "cuda":
        return plan
    while _peak(module, plan, device, dtype) > _SHARE * device.free:
        smaller = smaller_plan(plan)
        if smaller is None:
            return plan  # the run itself says what is missing
        plan = smaller
    return plan


@torch.inference_mode()
def _peak(module: UNet, plan: TilePlan, device: Device, dtype: str) -> float:
    """Memory that the largest tile takes beside what was there before, bytes; infinite if there is not enough."""
    where = device.torch_device
    try:
        with memory_errors("a trial tile"), exact_convolutions(tf32=is_tf32(dtype)):
            net = ready_network(module, device, dtype, tiled=True)
            before = torch.cuda.memory_allocated(where)
            torch.cuda.reset_peak_memory_stats(where)
            x = torch.zeros((1, plan.spec.in_channels, *plan.read), dtype=next(net.parameters()).dtype, device=where)
            net(x, tuple(max(axis, key=lambda tile: tile[0].stop - tile[0].start)[1] for axis in plan.axes))
            torch.cuda.synchronize(where)
            return torch.cuda.max_memory_allocated(where) - before
    except OutOfMemoryError:
        torch.cuda.empty_cache()
        return math.inf
