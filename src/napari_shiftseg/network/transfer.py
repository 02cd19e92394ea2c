"""`Copies`: blocks to a device and back; on CUDA through pinned memory, beside the computation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Copies"]

Block = npt.NDArray[np.float32]


class Copies:
    """Moves blocks between main memory and a device.

    Parameters
    ----------
    device : torch.device

    Attributes
    ----------
    overlap : int
        Passes that may be started before the first is waited for: 1 on CUDA, where they run beside this thread, else 0.

    Notes
    -----
    On CUDA one stream copies to the device and one copies back. Events order them with the computing stream, and
    `record_stream` keeps the allocator from giving memory away that another stream still uses.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.overlap = int(device.type == "cuda")
        if self.overlap:
            self._to: Any = torch.cuda.Stream(device)
            self._from: Any = torch.cuda.Stream(device)

    def there(self, block: Block) -> Tensor:
        """The block on the device; the computing stream waits for it, this thread does not."""
        tensor = torch.from_numpy(block)
        if not self.overlap:
            return tensor.to(self.device)
        computing = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._to):
            moved = tensor.pin_memory().to(self.device, non_blocking=True)
        computing.wait_stream(self._to)
        moved.record_stream(computing)
        return moved

    def back(self, y: Tensor) -> Callable[[], Block]:
        """Start the way back; what is returned waits for the block in main memory."""
        if not self.overlap:
            here = y.cpu().numpy()
            return lambda: here
        # in the order of the array, so that the copy back is one piece
        y = y.contiguous()
        target = torch.empty(y.shape, dtype=y.dtype, device="cpu", pin_memory=True)
        self._from.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._from):
            target.copy_(y, non_blocking=True)
            done = torch.cuda.Event()
            done.record(self._from)
        y.record_stream(self._from)

        def wait() -> Block:
            done.synchronize()
            return np.array(target.numpy())  # pinned memory goes back to its pool

        return wait
