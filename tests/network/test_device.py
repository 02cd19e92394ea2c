"""The device is the one that was asked for, or an error says why not."""

import pytest
import torch
from no_memory import FORMS, OTHERS, in_turn

from napari_shiftseg.errors import DeviceError, OutOfMemoryError
from napari_shiftseg.network import Device, choose_device, choose_precision
from napari_shiftseg.network.device import memory_errors


def test_the_cpu_is_always_there():
    device = choose_device("cpu")
    assert (device.kind, device.torch_device) == ("cpu", torch.device("cpu"))
    assert device.describe().startswith("CPU: ")


def test_auto_takes_cuda_where_there_is_one(monkeypatch):
    if torch.cuda.is_available():
        assert choose_device("auto").kind == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto").kind == "cpu"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("cuda", "0 CUDA devices"),
        ("cuda:3", "use --device cpu"),
        ("mps", "this machine has none"),
        ("gpu", "is not known"),
        ("", "is not known"),
        ("meta", "is not supported"),
    ],
)
def test_nothing_falls_back_silently(monkeypatch, wanted, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=said):
        choose_device(wanted)


@pytest.mark.cuda
def test_a_cuda_device_that_is_not_there():
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no CUDA device")
    with pytest.raises(DeviceError, match=f"sees {torch.cuda.device_count()} CUDA devices"):
        choose_device("cuda:99")
    device = choose_device("cuda")
    assert device.free > 0 and device.name in device.describe()


def test_number_formats():
    cpu = choose_device("cpu")
    assert choose_precision("float32", cpu, 2).dtype == choose_precision("fp32", cpu, 2).dtype == torch.float32
    assert choose_precision("bf16", cpu, 2).dtype == torch.bfloat16
    with pytest.raises(DeviceError, match="use float32 or bfloat16"):
        choose_precision("float16", cpu, 2)
    with pytest.raises(DeviceError, match="'float64' is not known"):
        choose_precision("float64", cpu, 2)


def test_tf32_is_for_nvidia_gpus_alone():
    with pytest.raises(DeviceError, match="not of the CPU; use float32 or bfloat16"):
        choose_precision("tf32", choose_device("cpu"), 2)
    gpu = Device(torch_device=torch.device("cuda"), kind="cuda", name="any", free=0)
    assert choose_precision("tf32", gpu, 2).dtype == torch.float32


@pytest.mark.parametrize(("version", "right"), [(90701, True), (90800, False), (91401, False), (91500, True), (None, True)])
def test_a_cudnn_that_computes_volumes_wrong_is_refused(monkeypatch, version, right):
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: version)
    gpu = Device(torch_device=torch.device("cuda"), kind="cuda", name="any", free=0)
    for name, device, ndim in (("float32", gpu, 3), ("bfloat16", gpu, 2), ("bfloat16", choose_device("cpu"), 3)):
        assert choose_precision(name, device, ndim).name == name
    if right:
        assert choose_precision("bfloat16", gpu, 3).reduced
    else:
        with pytest.raises(DeviceError, match=r"cuDNN 9\.\d+ gives wrong bfloat16 .* nvidia-cudnn-cu12>=9\.15"):
            choose_precision("bfloat16", gpu, 3)


@pytest.mark.parametrize("form", **in_turn(FORMS))
def test_out_of_memory_is_an_error_of_ours_and_no_runtime_error(form):
    error = form()
    with pytest.raises(OutOfMemoryError, match="computing a tile; use smaller tiles") as caught, memory_errors("a tile"):
        raise error
    assert not isinstance(caught.value, RuntimeError) and isinstance(caught.value, MemoryError)
    assert caught.value.__cause__ is error


def test_what_is_said_first_stays():
    with pytest.raises(OutOfMemoryError, match="computing a tile; "), memory_errors("all"), memory_errors("a tile"):
        raise MemoryError


def test_the_cpu_allocator_words_are_still_known():
    with pytest.raises(OutOfMemoryError), memory_errors("a tile"):
        torch.empty(1 << 60)


@pytest.mark.parametrize("form", **in_turn(OTHERS))
def test_other_errors_pass(form):
    error = form()
    with pytest.raises(type(error)) as caught, memory_errors("a tile"):
        raise error
    assert caught.value is error
