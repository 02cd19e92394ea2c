"""Which number format runs is decided once, with a reason; a short format loses nothing that costs nothing to keep."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch

from napari_shiftseg import UNetSpec, load_model, plan_tiles, predict, synthetic, verify_tiling
from napari_shiftseg.errors import DeviceError
from napari_shiftseg.network import Device, choose_device, choose_precision
from napari_shiftseg.network.unet import InferenceNet, PlainNet
from napari_shiftseg.network.windows import ready_network

device_module = import_module("napari_shiftseg.network.device")
SPEC = UNetSpec(levels=2, features=4, foreground=True)
CPU = choose_device("cpu")
GPU = Device(torch_device=torch.device("cuda"), kind="cuda", name="any", free=0)
APPLE = Device(torch_device=torch.device("cpu"), kind="mps", name="any", free=0)


@pytest.fixture(autouse=True)
def no_matrix_units():
    """Here the machine may say what it has."""


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


@pytest.mark.parametrize(
    ("device", "units", "ndim", "cudnn", "name", "why"),
    [
        (CPU, True, 2, None, "bfloat16", "the processor has matrix units for bfloat16 (AMX)"),
        (CPU, True, 3, 90800, "bfloat16", "(AMX)"),  # cuDNN is no matter of a processor
        (CPU, False, 2, None, "float32", "the processor has no matrix units"),
        (GPU, (9, 0), 2, 90800, "bfloat16", "the GPU has matrix units for bfloat16 (compute capability 9.0)"),
        (GPU, (8, 0), 3, 91500, "bfloat16", "(compute capability 8.0)"),
        (GPU, (8, 6), 3, 90800, "float32", "computes volumes wrong"),
        (GPU, (7, 5), 2, 91500, "float32", "no matrix units for bfloat16 (compute capability 7.5)"),
        (APPLE, None, 2, None, "float32", "Apple"),
    ],
)
def test_auto_takes_bfloat16_where_there_are_matrix_units_that_compute_right(
    monkeypatch, device, units, ndim, cudnn, name, why
):
    monkeypatch.setattr(device_module, "amx", lambda: units)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: units)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: cudnn)
    found = choose_precision("auto", device, ndim)
    assert (found.name, found.dtype, found.reduced) == (name, getattr(torch, name), name != "float32")
    assert why in found.why


@pytest.mark.parametrize("amx", [False, True])
def test_a_wish_is_kept_whatever_the_processor_has(monkeypatch, amx):
    monkeypatch.setattr(device_module, "amx", lambda: amx)
    assert [choose_precision(name, CPU, 2).name for name in ("float32", "fp32", "bf16")] == ["float32", "float32", "bfloat16"]
    with pytest.raises(DeviceError, match="float16 on a CPU"):
        choose_precision("float16", CPU, 2)
    with pytest.raises(DeviceError, match="'automatic' is not known; use auto, float32"):
        choose_precision("automatic", CPU, 2)


def test_a_wish_for_wrong_volumes_is_refused_when_it_is_decided(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 90800)
    with pytest.raises(DeviceError, match=r"cuDNN 9\.8 gives wrong"):
        choose_precision("bfloat16", GPU, 3)
    assert choose_precision("bfloat16", GPU, 2).reduced and choose_precision("tf32", GPU, 3).reduced


@pytest.mark.parametrize(
    ("flags", "told", "expected"),
    [
        ("fpu amx_tile amx_bf16 amx_int8", True, True),
        ("fpu amx_tile amx_bf16", None, True),  # a PyTorch that does not tell
        ("fpu amx_tile amx_int8", True, False),  # tiles, and none of bfloat16
        ("fpu avx512_bf16", False, False),  # bfloat16, and no matrices
        ("fpu avx512_bf16", None, False),
        ("fpu amx_tile amx_bf16", False, False),  # the system does not let a process use it
        ("", True, True),  # a system that does not list what its processor can do
        ("", None, False),
    ],
)
def test_amx_is_tiles_of_bfloat16(monkeypatch, flags, told, expected):
    monkeypatch.setattr(device_module, "processor_flags", lambda: frozenset(flags.split()))
    if told is None:
        monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: told, raising=False)
    assert device_module.amx() is expected


@pytest.mark.parametrize(("amx", "same"), [(False, "float32"), (True, "bfloat16")])
@pytest.mark.parametrize("method", ["tiles", "stream"])
def test_auto_computes_what_the_format_that_it_takes_does(seeded_net, monkeypatch, amx, same, method):
    monkeypatch.setattr(device_module, "amx", lambda: amx)
    net, image, plan = seeded_net(SPEC), noise(1, 50, 40), plan_tiles(SPEC, (50, 40), 16)
    found, wanted = (predict(net, image, plan, device="cpu", dtype=dtype, method=method) for dtype in ("auto", same))
    assert np.array_equal(found, wanted)
    other = predict(net, image, plan, device="cpu", dtype={"float32": "bfloat16", "bfloat16": "float32"}[same], method=method)
    assert not np.array_equal(found, other)


@pytest.mark.parametrize("padding", ["valid", "zero"])
@pytest.mark.parametrize("tiled", [False, True])
def test_the_head_keeps_the_weights_that_it_was_trained_with(seeded_net, padding, tiled):
    """They would be rounded on the way through the short format, and all embeddings be wrong by the same."""
    net = seeded_net(UNetSpec(levels=1, features=3, padding=padding))
    ready = ready_network(net, CPU, "bfloat16", tiled=tiled)
    assert isinstance(ready, InferenceNet if padding == "valid" else PlainNet)
    for name, weight in net.head.state_dict().items():
        assert torch.equal(ready.head.state_dict()[name], weight) and weight.dtype == torch.float32


@pytest.mark.parametrize("method", ["tiles", "stream"])
@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        UNetSpec(levels=1, features=4, in_channels=3),
        UNetSpec(ndim=1, levels=2, features=4),
        UNetSpec(ndim=3, levels=1, features=4, upsampling="fixed"),
    ],
    ids=["2D", "three channels", "1D", "3D"],
)
def test_pixels_are_not_rounded_to_the_short_format(seeded_net, spec, method):
    """Differences that bfloat16 cannot hold, as of 16 bits that a bare network takes as they are, are still seen."""
    net, shape = seeded_net(spec), (40,) * spec.ndim if spec.ndim < 3 else (14, 12, 12)
    with torch.no_grad():  # only what is beside 1 counts in the sums of the first layer, and it counts much
        first = net.encoder[0][0]
        first.weight -= first.weight.mean(dim=tuple(range(1, first.weight.ndim)), keepdim=True)
        first.weight *= 2**9
    plan = plan_tiles(spec, shape, spec.period)
    image = 1 + noise(spec.in_channels, *shape) * 2.0**-9
    exact, rough = (predict(net, image, plan, device="cpu", dtype=dtype, method=method) for dtype in ("float32", "bfloat16"))
    spread = exact - exact.mean(axis=tuple(range(1, exact.ndim)), keepdims=True)
    assert np.abs(rough - exact).max() < 0.1 * np.abs(spread).max()


@pytest.mark.parametrize("method", ["tiles", "stream"])
def test_verify_measures_in_the_format_that_runs(seeded_net, monkeypatch, method):
    net, image, plan = seeded_net(SPEC), noise(1, 50, 40), plan_tiles(SPEC, (50, 40), 16)
    for amx, dtype, said in ((False, "float32", "tolerance 1e-05)"), (True, "bfloat16", "tolerance 2e-02 in bfloat16)")):
        monkeypatch.setattr(device_module, "amx", lambda amx=amx: amx)
        check = verify_tiling(net, image, plan, device="cpu", dtype="auto", method=method)
        assert check.ok and check.dtype == dtype and said in check.text
    assert verify_tiling(net, image, plan, device="cpu", dtype="bf16").tolerance == 2e-2


class Faulty(torch.nn.Module):
    """A network that spoils the pixels of a tile, and not those of a single pass.

    Parameters
    ----------
    spoil : callable
        Of (1, C, *in).
    largest : int
        Edge of a tile, pixels.
    """

    def __init__(self, net, spoil, largest):
        super().__init__()
        self.net, self.spoil, self.largest = net, spoil, largest

    def forward(self, x):
        return self.net(self.spoil(x) if x.shape[-1] <= self.largest else x)


def without_context(x, lost=16):
    inside = x[..., lost:-lost, lost:-lost]
    return torch.nn.functional.pad(inside, [lost] * 4, mode="reflect")


@pytest.mark.parametrize(
    "spoil", [None, lambda x: x.roll(1, -1), without_context, lambda x: x - x.mean()], ids=["phase", "crop", "context", "mean"]
)
def test_a_fault_of_tiling_is_found_in_bfloat16_too(spoil):
    """The tolerance of the short format hides no tile of a trained network that is out of phase or has other pixels."""
    model = load_model("nuclei")
    image = synthetic.blobs((96, 96), count=8, seed=1).image
    if spoil is None:
        check = verify_tiling(model, image, plan_tiles(model.spec, (96, 96), 20, allow_noncompliant=True), dtype="bfloat16")
    else:
        plan = plan_tiles(model.spec, (96, 96), 48)
        assert verify_tiling(model, image, plan, dtype="bfloat16").ok
        spoilt = replace(model, module=Faulty(model.module, spoil, largest=48 + 96))
        check = verify_tiling(spoilt, image, plan, dtype="bfloat16")
    assert not check.ok and check.differing > 1 and check.max_difference > 2 * check.tolerance == 0.04
    assert "in bfloat16" in check.text
