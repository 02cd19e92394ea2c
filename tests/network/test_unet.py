"""The network has the sizes, the period and the reach that its spec says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from napari_shiftseg import UNet, UNetSpec

SPECS = {
    "2d-l1": UNetSpec(levels=1, features=3),
    "2d-l2": UNetSpec(levels=2, features=2, foreground=True),
    "2d-l3": UNetSpec(levels=3, features=2, growth=1),
    "2d-f3": UNetSpec(levels=2, pool=3, features=2),
    "2d-const": UNetSpec(levels=2, features=3, upsampling="fixed", decoder_convs=1, head_kernel=3),
    "2d-f3-fixed": UNetSpec(levels=1, pool=3, features=4, upsampling="fixed"),
    "2d-zero": UNetSpec(levels=2, features=2, padding="zero", head_kernel=3),
    "2d-k5": UNetSpec(levels=1, kernel=5, convs=1, features=2, batch_norm=True),
    "2d-channels": UNetSpec(levels=1, in_channels=3, features=2, embedding_dim=5),
    "2d-l0": UNetSpec(levels=0, features=2),
    "1d": UNetSpec(ndim=1, levels=2, features=2),
    "3d": UNetSpec(ndim=3, levels=1, convs=1, features=2),
    "3d-anisotropic": UNetSpec(ndim=3, levels=2, pool=((1, 2, 2), (2, 2, 2)), kernel=(1, 3, 3), convs=1, features=2),
}
each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


@each_spec
def test_the_output_has_the_size_that_the_spec_says(spec, seeded_net):
    net = seeded_net(spec)
    for more in (1, *spec.period[:1]):
        size = spec.input_size(tuple(more + axis for axis in range(spec.ndim)))
        out = net(torch.zeros(2, spec.in_channels, *size))
        assert out.shape == (2, spec.embedding_dim + spec.foreground, *spec.output_size(size))


def test_an_illegal_size_does_not_pass_silently(seeded_net):
    """The spec is right to refuse it: flooring in a pooling would shift the skips against the deep path."""
    spec = SPECS["2d-l2"]
    size = spec.input_size(8, 0) + 1
    assert seeded_net(spec)(torch.zeros(1, 1, size, size)).shape[-1] != size - spec.margin[0]


def strip(spec, axis):
    """An image of noise: four periods of output long on one axis, as thin as can be on the others."""
    wanted = [1 + 2 * r * (spec.padding == "zero") for r in spec.reach]
    wanted[axis] += 4 * spec.period[axis]
    return torch.from_numpy(np.random.default_rng(0).random((1, spec.in_channels, *spec.input_size(wanted))))


def shifted_difference(net, image, shift, axis):
    """Largest difference between F(T I) and T F(I), over the range of the output; both passes read equally large windows."""
    spec = net.spec
    size = image.shape[2 + axis] - spec.period[axis]
    first, second = (net(image.narrow(2 + axis, start, size)) for start in (0, shift))
    # the borders of a padded network see zeros
    border = spec.reach[axis] if spec.padding == "zero" else 0
    kept = first.shape[2 + axis] - shift - 2 * border
    a, b = first.narrow(2 + axis, shift + border, kept), second.narrow(2 + axis, border, kept)
    return float((a - b).abs().max() / (first.max() - first.min()))


@pytest.mark.parametrize("name", [name for name in SPECS if name not in {"2d-l0", "2d-channels"}])
def test_shifts_commute_with_the_network_at_the_period_and_not_below(name, seeded_net):
    """> a U-Net is periodic-f^l shift equivariant: F(T_t I) = T_t F(I) for t = f^l, and for no smaller shift."""
    net = seeded_net(replace(SPECS[name], features=6), seed=2).double()  # few features die easily
    for axis, period in enumerate(net.spec.period):
        image = strip(net.spec, axis)
        assert shifted_difference(net, image, period, axis) < 1e-12
        for shift in range(1, period):
            assert shifted_difference(net, image, shift, axis) > 1e-7, (axis, shift)


@pytest.mark.parametrize("name", ["2d-l1", "2d-l2", "2d-l3", "2d-f3", "2d-const", "2d-k5", "1d"])
def test_an_output_pixel_sees_exactly_as_far_as_reach_says(name):
    """Positive weights let nothing cancel: an input pixel with a gradient is seen, over all phases of the period."""
    spec = SPECS[name]
    net = UNet(UNetSpec(**{**spec.to_dict(), "padding": "zero", "batch_norm": False})).double()
    for layer in net.modules():
        if hasattr(layer, "weight"):
            nn.init.constant_(layer.weight, 0.05)
    period, reach = spec.period[0], spec.reach[0]
    size = -(-(2 * reach + 3 * period) // period) * period
    shape = (size,) + (spec.period[-1],) * (spec.ndim - 1)
    seen = 0
    for ramp in (torch.linspace(1, 2, size), torch.linspace(2, 1, size)):  # max pooling takes the last or the first pixel
        for pixel in range(size // 2, size // 2 + period):
            image = ramp.double().reshape(-1, *[1] * (spec.ndim - 1)).expand(shape).clone()[None, None].requires_grad_()
            net(image)[0, 0, pixel].sum().backward()
            places = torch.nonzero(image.grad[0, 0].reshape(size, -1).abs().sum(1)).ravel()
            seen = max(seen, pixel - int(places.min()), int(places.max()) - pixel)
    assert seen == reach


def copying_net(spec, source):
    """Every convolution copies one channel: of the skip (0) or of the deep path (-1)."""
    net = UNet(replace(spec, upsampling="fixed", features=1, growth=1, batch_norm=False, in_channels=1)).requires_grad_(False)
    for layer in net.modules():
        if hasattr(layer, "weight"):
            layer.weight.zero_()
            layer.weight[(slice(None), source, *((k - 1) // 2 for k in layer.weight.shape[2:]))] = 1
    return net


@pytest.mark.parametrize("name", [name for name in SPECS if SPECS[name].levels])
def test_skips_lie_on_the_pixels_that_they_show(name):
    """A skip that is cropped off its centre would still have the right size."""
    spec = SPECS[name]
    size = spec.input_size(tuple(2 * p + 1 for p in spec.period))
    image = torch.rand(1, 1, *size)
    inner = tuple(slice(m // 2, n - m // 2) for m, n in zip(spec.margin, size, strict=True))
    assert torch.equal(copying_net(spec, 0)(image)[0, 0], image[(0, 0, *inner)])


@pytest.mark.parametrize("name", SPECS)
def test_bottleneck_cells_lie_where_grid_phase_says(name):
    spec = SPECS[name]
    net = copying_net(spec, -1)
    shape = spec.input_size(tuple(2 * p + 1 for p in spec.period))
    for axis, (period, phase) in enumerate(zip(spec.period, spec.grid_phase, strict=True)):
        ramp = torch.arange(1.0, shape[axis] + 1).reshape(-1, *[1] * (spec.ndim - 1 - axis))
        out = net(ramp.expand(shape)[None, None])[0, 0].movedim(axis, 0)
        line = out.reshape(len(out), -1)[:, 0]
        steps = torch.nonzero(line[1:] != line[:-1]).ravel() + 1
        assert len(steps) and {int(s) % period for s in steps} == {phase}


@pytest.mark.parametrize(("upsampling", "values"), [("learnt", 16), ("fixed", 1)])
def test_a_constant_image_gets_one_output_per_function_with_learnt_upsampling_only(upsampling, values, seeded_net):
    """Fig. 4: up to f^(d l) different outputs with learnt upsampling, one with nearest neighbours."""
    spec = UNetSpec(levels=2, features=4, upsampling=upsampling, decoder_convs=1, head_kernel=3)
    out = seeded_net(spec, seed=3).double()(torch.ones(1, 1, 56, 56, dtype=torch.float64))[0]
    assert len(torch.unique(out.flatten(1).T.mul(1e9).round(), dim=0)) == values


def test_fixed_upsampling_repeats_each_pixel_exactly():
    for factor in (3, 5, 6, 7):
        up = UNet(UNetSpec(levels=1, pool=factor, features=1, growth=1, upsampling="fixed")).up[0]
        x = torch.arange(200.0).reshape(1, 1, 1, 200)
        assert torch.equal(up(x)[0, 0, 0], x.ravel().repeat_interleave(factor))


def test_convolutions_start_as_glorot_with_zero_bias():
    torch.manual_seed(0)
    net = UNet(UNetSpec(levels=2, features=16))
    weight = net.encoder[1][0].weight.detach()  # 16 -> 32 channels, 3 x 3
    assert weight.abs().max() <= (6 / (9 * (16 + 32))) ** 0.5
    assert float(weight.std()) == pytest.approx((2 / (9 * (16 + 32))) ** 0.5, rel=0.05)
    assert all(float(m.bias.detach().abs().sum()) == 0 for m in net.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize(("levels", "upsampling", "expected"), [(3, "learnt", 481_779), (3, "fixed", 487_043)])
def test_number_of_parameters_of_the_papers_networks(levels, upsampling, expected):
    net = UNet(UNetSpec(levels=levels, features=16, upsampling=upsampling))
    assert sum(p.numel() for p in net.parameters()) == expected


def test_the_small_const_networks_have_the_papers_number_of_parameters():
    def count(**values):
        return sum(p.numel() for p in UNet(UNetSpec(features=3, **values)).parameters())

    assert count(levels=4) == 68_526
    assert count(levels=2, upsampling="fixed", decoder_convs=1, head_kernel=3) == 3_888


def test_the_head_runs_in_full_precision_under_autocast(seeded_net):
    net = seeded_net(SPECS["2d-l1"])
    with torch.autocast("cpu", torch.bfloat16):
        assert net(torch.zeros(1, 1, 20, 20)).dtype == torch.float32
