"""What the present device can do, and what a network reaches on it: short measurements, not data sheets."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from napari_shiftseg.errors import OutOfMemoryError
from napari_shiftseg.geometry import plan_tiles
from napari_shiftseg.network.arithmetic import exact_products
from napari_shiftseg.network.constants import COPY_BYTES, LARGEST_EDGE
from napari_shiftseg.network.device import Device, choose_device, choose_precision, memory_errors
from napari_shiftseg.network.predict import predict
from napari_shiftseg.network.unet import UNet


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Measured rates of a device."""

    device: Device
    bandwidth: float  # bytes per second of a large copy, read and written bytes together
    matrix: Mapping[str, float]  # floating-point operations per second of a large matrix product, by number format


def measure_rates(device: str = "auto", dtypes: Sequence[str] = ("float32", "bfloat16"), *, seconds: float = 0.2) -> Rates:
    """Measure memory bandwidth and the rate of matrix products; DeviceError if the device or a number format is not there.

    Parameters
    ----------
    device : str
        As in `choose_device`.
    dtypes : sequence of str
        Number formats; float32 is full float32, whatever PyTorch was told.
    seconds : float
        Time for each of the measurements; the best of its turns counts.

    Returns
    -------
    Rates
    """
    chosen = choose_device(device)
    with memory_errors("the rates of the device"), exact_products():
        bandwidth = _bandwidth(chosen, seconds)
        matrix = {dtype: _matrix_rate(chosen, choose_precision(dtype, chosen, 2).dtype, seconds) for dtype in dtypes}
    return Rates(device=chosen, bandwidth=bandwidth, matrix=matrix)


def measure_pass(
    module: UNet, write: Sequence[int], device: str = "auto", *, dtype: str = "float32", seconds: float = 2.0
) -> float:
    """Time that `predict` takes for an image of one tile, seconds: from pixels in main memory to an embedding there.

    Parameters
    ----------
    write : sequence of int
        Shape of the image, pixels per axis.
    device, dtype : str
        As in `predict`.
    seconds : float
        Time for the turns after the first, which warms up; the best one counts, and there is one at least.
    """
    spec = module.spec
    plan = plan_tiles(spec, write, tuple(write), allow_noncompliant=True)
    image = np.random.default_rng(0).random((spec.in_channels, *write), np.float32)
    chosen = choose_device(device)
    return _best(lambda: predict(module, image, plan, device, dtype=dtype), chosen, seconds)


def _bandwidth(device: Device, seconds: float) -> float:
    size = COPY_BYTES[device.kind]
    if device.free:
        size = min(size, device.free // 8)
    source = torch.ones(size, dtype=torch.uint8, device=device.torch_device)
    target = torch.empty_like(source)
    return 2 * size / _best(lambda: target.copy_(source), device, seconds)


def _matrix_rate(device: Device, dtype: torch.dtype, seconds: float) -> float:
    """Rate of the largest product that leaves time for some turns; small ones do not fill the device."""
    best, edge = 0.0, 1024
    while edge <= LARGEST_EDGE:
        try:
            with memory_errors("a product of matrices"):
                a = torch.ones((edge, edge), dtype=dtype, device=device.torch_device)
                taken = _best(partial(torch.mm, a, torch.ones_like(a)), device, seconds / 3)
        except OutOfMemoryError:
            break
        best = max(best, 2.0 * edge**3 / taken)
        # the next edge takes eight times as long
        if 8 * taken > seconds / 2:
            break
        edge *= 2
    return best


def _best(call: Callable[[], object], device: Device, seconds: float) -> float:
    """Shortest of the turns that fit the time, after a first one that does not count."""
    call()
    _finish(device)
    best, end = math.inf, time.perf_counter() + seconds
    while True:
        started = time.perf_counter()
        call()
        _finish(device)
        now = time.perf_counter()
        best = min(best, now - started)
        if now >= end:
            return best


def _finish(device: Device) -> None:
    """Wait for what was launched: the calls of a GPU return before their work is done."""
    if device.kind == "cuda":
        torch.cuda.synchronize(device.torch_device)
    elif device.kind == "mps":
        torch.mps.synchronize()
