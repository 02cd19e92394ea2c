"""The inference form of a network computes what is kept, and nothing else."""

from math import prod

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from napari_shiftseg import UNetSpec, plan_tiles, predict
from napari_shiftseg.geometry import Pass
from napari_shiftseg.network.inference import InferenceNet, PlainNet, inference_form

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
    "batch-norm": UNetSpec(levels=2, features=3, batch_norm=True),
    "1d": UNetSpec(ndim=1, levels=3, features=3),
    "3d": UNetSpec(ndim=3, levels=1, features=2),
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


@each_spec
def test_a_kept_window_is_that_of_the_whole_output(spec, seeded_net):
    net = seeded_net(spec)
    form = inference_form(net)
    for seed in range(6):
        x, keep = drawn(spec, seed)
        wanted = net(x)[(slice(None), slice(None), *keep)]
        # the same sums; PyTorch picks another kernel for small maps, which rounds elsewhere
        torch.testing.assert_close(form(x, keep), wanted, rtol=0, atol=2e-6 * float(wanted.abs().max()))


@each_spec
def test_the_arithmetic_is_what_the_pass_says(spec, seeded_net):
    form = inference_form(seeded_net(spec))
    for seed in range(2):
        x, keep = drawn(spec, seed)
        with FlopCounterMode(display=False) as counted:
            form(x, keep)
        whole, cropped = spec.flops(x.shape[2:]), Pass.of(spec, x.shape[2:], keep).flops
        assert counted.get_total_flops() == len(x) * cropped
        everything = all((part.start, part.stop) == (0, n) for part, n in zip(keep, spec.output_size(x.shape[2:]), strict=True))
        assert cropped == whole if everything else cropped < whole


def test_the_redundancy_of_a_plan_is_that_of_the_code(seeded_net):
    """The last tile of an axis was moved back: only what it writes is computed."""
    spec = SPECS["l2"]
    plan = plan_tiles(spec, (70, 44), 32)
    with FlopCounterMode(display=False) as counted:
        predict(seeded_net(spec), np.random.default_rng(0).random((2, 70, 44), np.float32), plan, device="cpu", method="tiles")
    assert counted.get_total_flops() == plan.flops
    assert plan.redundancy == plan.flops / spec.flops_per_pixel / prod(plan.result_shape)
    assert plan.flops < 0.9 * sum(spec.flops([s.stop - s.start for s in tile.read]) for tile in plan)


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
