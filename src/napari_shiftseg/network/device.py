"""Which device runs, in which number format, and how blocks get there and back; nothing falls back silently."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_shiftseg.errors import DeviceError, OutOfMemoryError, memory_ran_out
from napari_shiftseg.machine import cores, free_memory, processor_flags
from napari_shiftseg.network.arithmetic import threads_work
from napari_shiftseg.network.constants import BFLOAT16_SINCE, RIGHT_VOLUMES, WRONG_SINCE

Net = TypeVar("Net", bound=torch.nn.Module)
Block = npt.NDArray[np.float32]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "tf32": torch.float32}
_SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device that runs networks."""

    torch_device: torch.device
    kind: str  # "cuda", "mps" or "cpu"; `torch_device` is what PyTorch wants
    name: str  # the device in words
    free: int  # free memory, bytes; 0 where it is not known

    @property
    def spare_cores(self) -> int:
        """Cores of the processor that other work can have while this device computes; 1 at least."""
        return max(1, cores() // 2 if self.kind == "cpu" else cores() - 1)

    def describe(self) -> str:
        """One line for people: device, name and free memory."""
        return f"{self.kind.upper()}: {self.name}" + (f", {self.free / 2**30:.1f} GiB free" if self.free else "")


def choose_device(wanted: str = "auto") -> Device:
    """The device that will run; DeviceError if the wanted device is not there; there is no fallback.

    SettingsError as of `threads_work`. `wanted`: "auto" (CUDA where there is one, else Apple's MPS, else the CPU), or a PyTorch
    device such as "cpu" or "cuda:1".
    """
    threads_work()
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as exc:
        known = "'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'"
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
    threads = torch.get_num_threads()
    name = f"{threads} thread{'s' * (threads > 1)}"
    return Device(torch_device=torch.device("cpu"), kind="cpu", name=name, free=free_memory())


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Number format in which the convolutions of a network run."""

    name: str  # "float32", "bfloat16", "float16" or "tf32"
    dtype: torch.dtype  # of weights and feature maps
    why: str  # why this one, as half a sentence

    @property
    def reduced(self) -> bool:
        """Whether values are rounded to fewer bits than float32 has.

        Sums of another order can round to a neighbouring value then, so runs take blocks whose size the network alone decides
        (`TilePlan.canonical`).
        """
        return self.name != "float32"


def choose_precision(wanted: str, device: Device, ndim: int) -> Precision:
    """The number format that will run.

    DeviceError if the format is unknown, or the device has no fast or no right arithmetic for it.

    Parameters
    ----------
    wanted : str
        "auto" (bfloat16 where the device has matrix units for it and computes right with them, else float32), "float32",
        "bfloat16", "float16" (also "fp32", "bf16", "fp16"), or "tf32", which stores float32 and multiplies with ten bits of
        mantissa.
    ndim : int
        Axes of the network.

    >>> choose_precision("bf16", choose_device("cpu"), 2).name
    'bfloat16'
    """
    wrong = _wrong_volumes(device) if ndim == 3 else ""
    if wanted == "auto":
        has, why = matrix_units(device)
        if has and wrong:
            has, why = False, f"cuDNN {wrong} computes volumes wrong in bfloat16"
        name = "bfloat16" if has else "float32"
    else:
        name, why = _named(wanted, device), "as asked"
    if name == "bfloat16" and wrong:
        raise DeviceError(
            f"cuDNN {wrong} gives wrong bfloat16 convolutions of volumes; install nvidia-cudnn-cu12>=9.15, or use float32."
        )
    return Precision(name=name, dtype=_DTYPES[name], why=why)


def _named(wanted: str, device: Device) -> str:
    name = _SHORT.get(wanted, wanted)
    if name not in _DTYPES:
        raise DeviceError(f"dtype {wanted!r} is not known; use auto, float32, bfloat16, float16 or tf32.")
    if name == "float16" and device.kind == "cpu":
        raise DeviceError("float16 on a CPU is slow and inexact; use float32 or bfloat16.")
    if name == "tf32" and device.kind != "cuda":
        raise DeviceError(f"tf32 is arithmetic of NVIDIA GPUs, not of the {device.kind.upper()}; use float32 or bfloat16.")
    return name


def _wrong_volumes(device: Device) -> str:
    """The installed cuDNN, if it computes bfloat16 convolutions of volumes wrong (pytorch #163539)."""
    version = (torch.backends.cudnn.version() if device.kind == "cuda" else None) or 0
    return f"{version // 10000}.{version // 100 % 100}" if WRONG_SINCE <= version < RIGHT_VOLUMES else ""


def matrix_units(device: Device) -> tuple[bool, str]:
    """Whether a device multiplies matrices of bfloat16 in units of their own, and what is said of that."""
    if device.kind == "cuda":
        major, minor = torch.cuda.get_device_capability(device.torch_device)
        has = major >= BFLOAT16_SINCE
        return has, f"the GPU has {'' if has else 'no '}matrix units for bfloat16 (compute capability {major}.{minor})"
    if device.kind == "mps":
        return False, "bfloat16 on Apple's GPUs was never measured"
    has = amx()
    return has, "the processor has matrix units for bfloat16 (AMX)" if has else "the processor has no matrix units for bfloat16"


def amx() -> bool:
    """Whether this processor has Intel's AMX with bfloat16; its AVX-512 alone rounds as much and gains less."""
    flags = processor_flags()
    told: Callable[[], bool] | None = getattr(torch.cpu, "_is_amx_tile_supported", None)  # internal to PyTorch
    tiles = "amx_tile" in flags if told is None else told()
    return tiles and (not flags or "amx_bf16" in flags)


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

    Bytes that a column may take, and the height of strips. `memory`: bytes that were wished for.
    """
    gpu = device.kind != "cpu"
    budget = device.free // 2 if gpu and memory is None and device.free else memory
    return {"memory": budget, "tall": gpu}


def release_memory(device: Device) -> None:
    """Give back what PyTorch keeps for later on a GPU."""
    if device.kind == "cuda":
        torch.cuda.empty_cache()
    elif device.kind == "mps":
        torch.mps.empty_cache()


@contextmanager
def memory_errors(what: str) -> Iterator[None]:
    """Turn an out-of-memory error of PyTorch (a RuntimeError of one kind or another) or of Python into ours.

    `what`: what was being computed, for the message.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as exc:
        if isinstance(exc, OutOfMemoryError) or not memory_ran_out(exc):
            raise
        raise OutOfMemoryError(f"memory ran out while computing {what}; use smaller tiles or another device.") from exc


class Copies:
    """Moves blocks between main memory and a device.

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
