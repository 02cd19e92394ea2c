"""Appendix A.2 step by step, on the layers of the package's own U-Net; and part I of Lemma 1 in 1D, in 3D and with f = 3."""

import math

import pytest
import torch
from torch.nn import functional as F

from napari_shiftseg import UNet, UNetSpec, synthetic
from napari_shiftseg.analysis import passing_network
from napari_shiftseg.network.unet import POOL, _centre

SPEC = UNetSpec(ndim=1, levels=3, features=4)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return UNet(SPEC).double().eval().requires_grad_(False)


def moved(step, channels=1, size=120, **of):
    """By how many pixels the output moves if the input moves by one, two, ... up to 8; None where it does not merely move."""
    image = torch.rand(1, channels, size + 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) - 0.5
    still, found = step(image[..., :size], **of), []
    for shift in range(1, 9):
        out = step(image[..., shift : shift + size], **of)
        fits = [
            k for k in range(1, 20)
            if k < out.shape[-1] and torch.allclose(out[..., :-k], still[..., k:], rtol=0, atol=1e-12)
        ]  # fmt: skip
        found.append(fits[0] if fits else None)
    return found


EVERY = [1, 2, 3, 4, 5, 6, 7, 8]


def halves(factor, out=1):
    """Only multiples of the factor move the output, by `out` per factor."""
    return [shift // factor * out if shift % factor == 0 else None for shift in EVERY]


def test_a_convolution_and_a_relu_move_with_the_image(net):
    """> A.2: convolution and ReLU are shift equivariant"""
    assert moved(net.encoder[0][0]) == EVERY
    assert moved(F.relu) == EVERY


@pytest.mark.parametrize("factor", [2, 3])
def test_max_pooling_is_a_window_maximum_that_moves_and_a_sub_sampling_that_does_not(factor):
    """> A.2: the maximum of each window is shift equivariant; of each f-th value, shifts by f become shifts by 1"""

    def maximum(x):
        return F.max_pool1d(x, factor, stride=1)

    def sampled(x):
        return x[..., ::factor]

    assert moved(maximum) == EVERY
    assert moved(sampled) == halves(factor)
    x = torch.rand(1, 1, 60)
    assert torch.equal(sampled(maximum(x)), POOL[1](x, (factor,)))


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_encoder_blocks_turn_a_shift_by_their_period_into_one(net, levels):
    """> A.2: an encoder block turns a shift by f into one by 1, and l of them a shift by f^l"""

    def encoder(x):
        for level in range(levels):
            x = POOL[1](net.encoder[level](x), SPEC.factors[level])
        return x

    assert moved(encoder, size=SPEC.input_size(40, 0)) == halves(2**levels)


def test_upsampling_turns_a_shift_by_one_into_one_by_the_factor(net):
    """> A.2: upsampling by f turns a shift by 1 into one by f"""
    assert moved(net.up[0], channels=8, size=30) == [2 * shift for shift in EVERY]


def test_a_concatenation_moves_as_both_of_its_parts_do(net):
    """> A.2: a skip moves by every shift and the deep path by multiples of f, so both together by multiples of f"""

    def joined(x):
        skip = net.encoder[0](x)
        deep = net.up[0](net.encoder[1](POOL[1](skip, (2,))))
        return torch.cat([_centre(skip, deep.shape[2:]), deep], 1)

    assert moved(joined) == [None, 2, None, 4, None, 6, None, 8]
    assert moved(lambda x: joined(x)[:, :4]) == EVERY


def below(net, x, level):
    """U_i: all of the network from a level on, without the head."""
    x = net.encoder[level](x)
    if level == net.spec.levels:
        return x
    deep = net.up[level](below(net, POOL[1](x, net.spec.factors[level]), level + 1))
    return net.decoder[level](torch.cat([_centre(x, deep.shape[2:]), deep], 1))


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_each_part_of_the_network_has_the_period_of_the_poolings_that_it_holds(net, level):
    """> A.2: U_i is periodic-f^(l - i) shift equivariant, by induction from the bottleneck up"""
    poolings = SPEC.levels - level
    size = SPEC.input_size(160, 0)
    for factor in SPEC.factors[:level]:
        size = (size - 4) // factor[0]
    wanted = [shift if shift % 2**poolings == 0 else None for shift in EVERY]
    assert moved(lambda x: below(net, x, level), channels=1 if level == 0 else SPEC.channels[level - 1], size=size) == wanted
    if level == 0:
        x = torch.rand(1, 1, size, dtype=torch.float64)
        assert torch.equal(net.head(below(net, x, 0)), net(x)), "and U_0 is the network"


@pytest.mark.parametrize(
    ("ndim", "levels", "pool"), [(1, 1, 2), (1, 3, 2), (1, 4, 2), (1, 2, 3), (3, 1, 2), (2, 1, 3), (3, 1, 3)],
)  # fmt: skip
def test_a_ramp_shows_all_output_functions_at_one_place_in_any_dimension(ndim, levels, pool):
    """> Lemma 1, part I: there are an image and weights for which f^(dl) shifts give f^(dl) outputs at one place"""
    spec = UNetSpec(ndim=ndim, levels=levels, pool=pool, features=1, growth=1, embedding_dim=1)
    net, period = passing_network(spec).requires_grad_(False), pool**levels
    size = spec.input_size(period, 0)
    image = torch.from_numpy(synthetic.ramp((size + period,) * ndim).image)
    seen = set()
    for index in range(period**ndim):
        shift = [index // period**axis % period for axis in range(ndim)]
        out = net(image[(None, None, *(slice(s, s + size) for s in shift))])[0, 0]
        seen.add(float(out[tuple(period - 1 - s for s in shift)]))
    assert len(seen) == math.prod(spec.period)
