"""The inference form of a network computes what is kept, and nothing else."""

from math import prod

import numpy as np
import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.flop_counter import FlopCounterMode

from napari_shiftseg import UNetSpec, plan_tiles, predict
from napari_shiftseg.geometry import Pass
from napari_shiftseg.network import unet
from napari_shiftseg.network.unet import InferenceNet, PlainNet, inference_form

SPECS = {
    "l0": UNetSpec(levels=0, features=2, head_kernel=3),
    "l1": UNetSpec(levels=1, features=3, foreground=True),
    "l2": UNetSpec(levels=2, features=3, in_channels=2),
    "l3": UNetSpec(levels=3, features=3),
    "l4": UNetSpec(levels=4, features=2),
    "f3": UNetSpec(levels=2, pool=3, features=3),
    "anisotropic": UNetSpec(levels=2, pool=((1, 2), (2, 3)), features=3),
    "k5": UNetSpec(levels=2, kernel=5, features=3, decoder_convs=1),
    "mixed": UNetSpec(levels=2, kernel=(3, 5), convs=1, decoder_convs=3, head_kernel=3, features=3, upsampling="fixed"),
    "f3-fixed": UNetSpec(levels=1, pool=3, features=3, upsampling="fixed", kernel=5),
    "uneven-fixed": UNetSpec(levels=2, pool=((1, 2), (3, 2)), features=3, upsampling="fixed", batch_norm=True),
    "batch-norm": UNetSpec(levels=2, features=3, batch_norm=True),
    "1d": UNetSpec(ndim=1, levels=3, features=3),
    "3d": UNetSpec(ndim=3, levels=1, features=2),
    "3d-fixed": UNetSpec(ndim=3, levels=2, pool=((1, 2, 2), (2, 2, 2)), convs=1, features=2, upsampling="fixed"),
    "3d-anisotropic": UNetSpec(ndim=3, levels=2, pool=((1, 2, 2), (2, 2, 2)), kernel=(1, 3, 3), convs=1, features=2),
}
each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def drawn(spec, seed):
    """An input and a window of its output; the first window is all of it."""
    rng = np.random.default_rng(seed)
    read = spec.input_size([int(rng.integers(1, 3 * period + 1)) for period in spec.period])
    keep = []
    for size in spec.output_size(read):
        start, stop = sorted(rng.choice(size + 1, 2, replace=False).tolist())
        keep.append(slice(start, stop) if seed else slice(0, size))
    return torch.from_numpy(rng.random((2, spec.in_channels, *read), np.float32)), tuple(keep)


def forms(net):
    """All forms in which the network can run on this machine."""
    ndim, fixed = net.spec.ndim, net.spec.upsampling == "fixed"
    for fold in (False, True)[: 1 + fixed]:
        for one_step in (False, True)[: 1 + unet.one_step_works(ndim, torch.float32)]:
            yield InferenceNet(net, fold=fold, one_step=one_step)


@each_spec
def test_a_kept_window_is_that_of_the_whole_output(spec, seeded_net):
    net = seeded_net(spec)
    for form in forms(net):
        for seed in range(5):
            x, keep = drawn(spec, seed)
            wanted = net(x)[(slice(None), slice(None), *keep)]
            # the same sums; another kernel, or a folded weight, rounds elsewhere
            torch.testing.assert_close(form(x, keep), wanted, rtol=0, atol=2e-6 * float(wanted.abs().max()))


@each_spec
def test_the_arithmetic_is_what_the_pass_says(spec, seeded_net):
    """Folded upsampling needs less than that: its taps that meet the same deep pixel were added up before."""
    for seed in range(2):
        x, keep = drawn(spec, seed)
        whole, cropped = len(x) * spec.flops(x.shape[2:]), len(x) * Pass.of(spec, x.shape[2:], keep).flops
        assert counted(InferenceNet(seeded_net(spec), fold=False), x, keep) == cropped
        everything = all((part.start, part.stop) == (0, n) for part, n in zip(keep, spec.output_size(x.shape[2:]), strict=True))
        assert cropped == whole if everything else cropped < whole
        if everything and spec.upsampling == "fixed":
            assert counted(InferenceNet(seeded_net(spec), fold=True), x, keep) < cropped


def counted(call, *given):
    with FlopCounterMode(display=False) as counter:
        call(*given)
    return counter.get_total_flops()


def test_one_step_is_tried_before_it_is_relied_on(monkeypatch):
    assert not unet.one_step_works(1, torch.float32)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    unet.one_step_works.cache_clear()
    assert not unet.one_step_works(2, torch.float32)
    unet.one_step_works.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_convolution_and_relu_in_one_step_is_both(dtype):
    if not unet.one_step_works(3, dtype):
        pytest.skip("this PyTorch has no such operator")
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Conv3d(3, 4, (1, 3, 5)), torch.nn.ReLU(), torch.nn.Conv3d(4, 2, 1))
    x = torch.randn(2, 3, 5, 9, 8)
    single = unet.fused(plain)
    assert [type(layer) for layer in single] == [unet.ConvReLU, torch.nn.Conv3d]
    wanted = plain(x)
    found = single.to(dtype)(x.to(dtype)).float()
    assert (found - wanted).abs().max() < (1e-6 if dtype == torch.float32 else 2e-2) * wanted.abs().max()


def test_the_redundancy_of_a_plan_is_that_of_the_code(seeded_net, monkeypatch):
    """The last tile of an axis was moved back: only what it writes is computed."""
    spec = SPECS["l2"]
    plan = plan_tiles(spec, (70, 44), 32)
    monkeypatch.setattr(unet, "one_step_works", lambda ndim, dtype: False)  # the counter does not know its operators
    image = np.random.default_rng(0).random((2, 70, 44), np.float32)
    assert counted(lambda: predict(seeded_net(spec), image, plan, device="cpu", method="tiles")) == plan.flops
    assert plan.redundancy == plan.flops / spec.flops_per_pixel / prod(plan.result_shape)
    assert plan.flops < 0.9 * sum(spec.flops([s.stop - s.start for s in tile.read]) for tile in plan)


def test_a_skip_is_held_once(seeded_net):
    net = InferenceNet(seeded_net(SPECS["l2"]))
    made, alive = [], []
    net.encoder[0].register_forward_hook(lambda block, given, map_: made.append(StorageWeakRef(map_.untyped_storage())))
    net.encoder[-1].register_forward_hook(lambda block, given, map_: alive.append(not made[-1].expired()))
    net(torch.rand(1, 2, 52, 52), (slice(0, 4), slice(0, 4)))
    assert alive == [False]


def test_the_network_itself_stays_as_it_is(seeded_net):
    net = seeded_net(SPECS["batch-norm"]).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    form = inference_form(net)
    form.head.weight.fill_(0)
    assert net.training and not form.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_network_of_another_make_is_run_as_it_is(seeded_net):
    """Zero padding and foreign networks: the whole output is computed, and cropped."""
    net = seeded_net(UNetSpec(levels=1, features=2, padding="zero"))
    form = inference_form(net)
    assert isinstance(form, PlainNet) and isinstance(inference_form(seeded_net(SPECS["l1"])), InferenceNet)
    x = torch.rand(1, 1, 12, 16)
    assert torch.equal(form(x, (slice(3, 9), slice(0, 5))), net(x)[:, :, 3:9, 0:5])
