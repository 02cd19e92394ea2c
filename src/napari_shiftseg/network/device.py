"""Which device runs, in which number format, and how blocks get there and back; nothing falls back silently."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_shiftseg.errors import DeviceError, OutOfMemoryError, memory_ran_out
from napari_shiftseg.machine import free_memory

__all__ = [
    "Block",
    "Copies",
    "Device",
    "arranged",
    "channels_last",
    "check_volumes",
    "choose_device",
    "choose_dtype",
    "is_tf32",
    "memory_errors",
    "release_memory",
    "stream_wish",
]

Net = TypeVar("Net", bound=torch.nn.Module)
Block = npt.NDArray[np.float32]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "tf32": torch.float32}
# First version of cuDNN, as PyTorch counts, whose bfloat16 convolutions of volumes are right again (pytorch #163539).
_RIGHT_VOLUMES, _WRONG_SINCE = 91500, 90800
_SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device that runs networks.

    Attributes
    ----------
    kind : str
        "cuda", "mps" or "cpu"; `torch_device` is what PyTorch wants.
    name : str
        The device in words.
    free : int
        Free memory, bytes; 0 where it is not known.
    compiled : bool
        Whether OpenVINO runs the tiles, instead of PyTorch.
    """

    torch_device: torch.device
    kind: str
    name: str
    free: int
    compiled: bool = False

    def describe(self) -> str:
        """One line for people: device, name and free memory."""
        return f"{self.kind.upper()}: {self.name}" + (f", {self.free / 2**30:.1f} GiB free" if self.free else "")


def choose_device(wanted: str = "auto") -> Device:
    """The device that will run.

    Parameters
    ----------
    wanted : str
        "auto" (CUDA where there is one, else Apple's MPS, else the CPU), a PyTorch device such as "cpu", "cuda:1", or
        "openvino": the CPU, where OpenVINO compiles the network for each kind of tile.

    Raises
    ------
    DeviceError
        If the wanted device is not there; there is no fallback.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if wanted == "openvino":
        return _openvino()
    try:
        device = torch.device(wanted)
    except RuntimeError as exc:
        known = "'auto', 'cpu', 'openvino', 'cuda', 'cuda:1' or 'mps'"
        raise DeviceError(f"device {wanted!r} is not known; give {known}.") from exc
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise DeviceError(
                f"device {wanted!r} was asked for, but PyTorch {torch.__version__} sees {count} CUDA devices; "
                "install a CUDA build of PyTorch and a driver, or use --device cpu."
            )
        free, _ = torch.cuda.mem_get_info(device)
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # what PyTorch holds for later
        return Device(torch_device=device, kind="cuda", name=torch.cuda.get_device_name(device), free=free)
    if device.type == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError("device 'mps' was asked for, but this machine has none; use --device cpu.")
        return Device(torch_device=device, kind="mps", name="Apple GPU", free=0)
    if device.type != "cpu":
        raise DeviceError(f"device {wanted!r} is not supported; use 'auto', 'cpu', 'cuda' or 'mps'.")
    return _cpu()


def _cpu() -> Device:
    threads = torch.get_num_threads()
    name = f"{threads} thread{'s' * (threads > 1)}"
    return Device(torch_device=torch.device("cpu"), kind="cpu", name=name, free=free_memory())


def _openvino() -> Device:
    if find_spec("openvino") is None:
        raise DeviceError(
            "device 'openvino' was asked for, but OpenVINO is not installed; "
            "run `pip install 'napari-shiftseg[openvino]'`, or use --device cpu."
        )
    cpu = _cpu()
    return replace(cpu, name=f"{cpu.name}, tiles by OpenVINO {version('openvino')}", compiled=True)


def choose_dtype(name: str, device: Device) -> torch.dtype:
    """Number format by name: "float32", "bfloat16", "float16" (also "fp32", "bf16", "fp16") or "tf32".

    "tf32" stores float32 and multiplies with ten bits of mantissa, on NVIDIA GPUs alone.

    Raises
    ------
    DeviceError
        If the format is unknown or the device has no fast arithmetic for it.
    """
    full = _SHORT.get(name, name)
    if full not in _DTYPES:
        raise DeviceError(f"dtype {name!r} is not known; use float32, bfloat16, float16 or tf32.")
    if full == "float16" and device.kind == "cpu":
        raise DeviceError("float16 on a CPU is slow and inexact; use float32 or bfloat16.")
    if full == "tf32" and device.kind != "cuda":
        raise DeviceError(f"tf32 is arithmetic of NVIDIA GPUs, not of the {device.kind.upper()}; use float32 or bfloat16.")
    return _DTYPES[full]


def is_tf32(name: str) -> bool:
    """Whether a number format stands for float32 with fast, coarse products."""
    return name == "tf32"


def check_volumes(dtype: torch.dtype, ndim: int, device: Device) -> None:
    """Refuse bfloat16 convolutions of volumes where the installed cuDNN computes them wrong.

    Source: https://github.com/pytorch/pytorch/issues/163539.

    Raises
    ------
    DeviceError
    """
    version = torch.backends.cudnn.version() if device.kind == "cuda" else None
    if ndim == 3 and dtype == torch.bfloat16 and version and _WRONG_SINCE <= version < _RIGHT_VOLUMES:
        shown = f"{version // 10000}.{version // 100 % 100}"
        raise DeviceError(
            f"cuDNN {shown} gives wrong bfloat16 convolutions of volumes; install nvidia-cudnn-cu12>=9.15, or use float32."
        )


def channels_last(ndim: int) -> torch.memory_format:
    """Memory layout in which convolutions are fast (2 to 3 times on CPUs; tensor cores want it too)."""
    return {2: torch.channels_last, 3: torch.channels_last_3d}.get(ndim, torch.contiguous_format)


def arranged(net: Net, layout: torch.memory_format) -> Net:
    """The network with its weights in a memory layout."""
    move: Any = net.to  # torch's types do not know this form
    moved: Net = move(memory_format=layout)
    return moved


def stream_wish(device: Device, memory: int | None) -> dict[str, Any]:
    """What `geometry.choose_method` has to know of a device, as its arguments.

    Bytes that a column may take, the height of strips, and whether passes are compiled.

    Parameters
    ----------
    device : Device
    memory : int or None
        Bytes that were wished for.
    """
    gpu = device.kind != "cpu"
    budget = device.free // 2 if gpu and memory is None and device.free else memory
    return {"memory": budget, "tall": gpu, "compiled": device.compiled}


def release_memory(device: Device) -> None:
    """Give back what PyTorch keeps for later on a GPU."""
    if device.kind == "cuda":
        torch.cuda.empty_cache()
    elif device.kind == "mps":
        torch.mps.empty_cache()


@contextmanager
def memory_errors(what: str) -> Iterator[None]:
    """Turn an out-of-memory error of PyTorch (a RuntimeError of one kind or another) or of Python into ours.

    Parameters
    ----------
    what : str
        What was being computed, for the message.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as exc:
        if isinstance(exc, OutOfMemoryError) or not memory_ran_out(exc):
            raise
        raise OutOfMemoryError(f"memory ran out while computing {what}; use smaller tiles or another device.") from exc


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
