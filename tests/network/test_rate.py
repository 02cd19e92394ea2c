"""Rates of the device: they are rates, and they are not made up."""

import time

import pytest
import torch

from napari_shiftseg.errors import DeviceError
from napari_shiftseg.network import measure_rates

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]),
]


@pytest.mark.parametrize("device", DEVICES)
def test_rates_are_within_what_this_device_does_in_a_plain_loop(device):
    rates = measure_rates(device, ("float32",), seconds=0.1)
    assert rates.device.kind == device and set(rates.matrix) == {"float32"}
    a = torch.ones(1024, 1024, device=device)
    best = 0.0
    for _ in range(5):
        started = time.perf_counter()
        (a @ a).sum().item()  # waits
        best = max(best, 2 * 1024**3 / (time.perf_counter() - started))
    # the machine may be busy, so only the order of magnitude is tested
    assert 0.1 * best < rates.matrix["float32"] < 100 * best
    assert 1e8 < rates.bandwidth < 1e14


def test_a_number_format_that_is_not_there_is_refused():
    with pytest.raises(DeviceError):
        measure_rates("cpu", ("float16",))
