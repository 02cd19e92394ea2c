"""What the paper says of tiles side by side: section 2.1, section 3.2 and appendix A.1."""

from dataclasses import make_dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from napari_shiftseg import UNet, UNetSpec, plan_tiles, predict, synthetic
from napari_shiftseg.analysis import absolutely_equal, prime_network, relatively_equal
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.geometry import coverage

LINE = UNetSpec(ndim=1, levels=2, features=6)
TrainedOn = make_dataclass("TrainedOn", ["window", "neighbours"])


def unet(spec, seed=0):
    torch.manual_seed(seed)
    return UNet(spec).eval()


def tiled(net, image, write):
    plan = plan_tiles(net.spec, image.shape[1:], write, "valid", allow_noncompliant=True)
    return predict(net, image, plan, device="cpu")


@pytest.mark.parametrize(
    ("write", "shifts"),
    [
        (4, {4, 8, 12}),
        (8, {4, 8, 12}),
        (12, {4, 8, 12}),
        (6, {6, 12}),
        (10, {10}),
        (1, set(range(1, 13))),
        (2, {2, 4, 6, 8, 10, 12}),
    ],
)
def test_stitched_tiles_move_with_the_image_by_these_shifts_alone(write, shifts):
    """> section 2.1: with period 4, tiles of 4, 8, 12 px are equivariant to shifts by 4; of 6 px to 6 and 12, of 10 px to 10"""
    net = unet(LINE)
    image = np.random.default_rng(0).random((1, 150), dtype=np.float32)
    whole, found = tiled(net, image, write), set()
    for shift in range(1, 13):
        moved = tiled(net, image[:, shift:], write)
        length = min(whole.shape[1] - shift, moved.shape[1])
        # float32 rounds to 1e-7
        if np.abs(whole[:, shift : shift + length] - moved[:, :length]).max() < 1e-5 * np.ptp(whole):
            found.add(shift)
    assert found == shifts


@pytest.mark.parametrize(("write", "codes"), [(1, 1), (2, 2), (3, 3), (4, 4), (8, 4), (6, 4)])
def test_tiles_of_fewer_pixels_than_the_period_run_as_many_functions_as_they_have_pixels(write, codes):
    """> appendix A.1: a sliding window of one pixel applies one function everywhere; w < f^l leaves w of them"""
    net = prime_network(UNetSpec(ndim=1, levels=2, features=1, growth=1, embedding_dim=1))
    out = tiled(net, np.ones((1, 120), np.float32), write)
    assert len(np.unique(out)) == codes


@pytest.mark.parametrize(("write", "codes"), [(1, 1), (2, 2), (4, 4)])
def test_same_looking_objects_are_told_apart_by_so_many_functions(write, codes):
    """> appendix A.1, the other half: what moves with the image by any shift cannot tell same-looking objects apart"""
    net = unet(LINE, 1)
    image = np.zeros((1, 400), np.float32)
    image[:, ::5] = 1  # 5 and 4 share no divisor
    out = tiled(net, image, write)
    start = plan_tiles(net.spec, image.shape[1:], write, "valid", allow_noncompliant=True).origin[0]
    same = out[:, -start % 5 :: 5][:, :40].T
    assert len(np.unique((same / np.ptp(out) * 1e4).round(), axis=0)) == codes


@pytest.mark.parametrize(("pool", "levels"), [(2, 1), (2, 2), (3, 1), (2, 3), (3, 2)])
def test_the_first_and_the_last_function_are_neighbours_in_a_window_of_more_than_a_period_alone(pool, levels):
    """> section 3.2, in 1D: with w = f^l no window holds u_(f^l - 1) beside u_0, with one pixel more each does"""
    spec = UNetSpec(ndim=1, levels=levels, pool=pool, features=1, growth=1, embedding_dim=1)
    net, period = prime_network(spec), pool**levels
    out = net(torch.ones(1, 1, spec.input_size(4 * period, 0)))[0, 0].detach().round().long().tolist()
    phase = -(spec.grid_phase[0]) % period
    names = {value: (k + phase) % period for k, value in enumerate(out[:period])}
    assert len(names) == period
    around = {(k, (k + 1) % period) for k in range(period)}

    def pairs(window, start):
        part = [names[value] for value in out[start : start + window]]
        return set(pairwise(part))

    cells = [k for k, value in enumerate(out) if names[value] == 0][:2]
    counts = [coverage(spec, TrainedOn(window=(window,), neighbours=False)).pairs for window in (2, period, period + 1)]
    assert counts == [len(pairs(window, cells[0])) for window in (2, period, period + 1)], "as the rules count them"
    assert pairs(period, cells[0]) == around - {(period - 1, 0)}
    assert all(len(pairs(period, start)) == period - 1 for start in range(period))
    assert all(pairs(period + 1, start) == around for start in range(period))


def test_equality_of_output_functions_is_absolute_or_relative():
    """> Definition 1"""
    cell = nn.Sequential(nn.MaxPool1d(2), nn.Upsample(scale_factor=2))
    for i in range(2, 8):
        for j in range(2, 8):
            assert absolutely_equal(cell, (i,), (j,), size=(12,)) == (i // 2 == j // 2)
            assert relatively_equal(cell, (i,), (j,), size=(12,)) == ((i - j) % 2 == 0)


@pytest.mark.parametrize("spec", [LINE, UNetSpec(levels=1, features=4), UNetSpec(ndim=1, levels=1, pool=3, features=4)])
def test_output_functions_of_a_valid_network_are_relatively_equal_a_period_apart_alone(spec):
    """> section 2.1 and Lemma 1, part II: u_i = u_j relatively if i - j is a multiple of f^l, so there are f^(dl) at most"""
    net, period = unet(spec), spec.period[0]
    size = spec.input_size((3 * period,) * spec.ndim)
    here = (period,) * spec.ndim
    for step in range(-period, period + 1):
        for axis in range(spec.ndim):
            there = tuple(p + step * (k == axis) for k, p in enumerate(here))
            assert relatively_equal(net, here, there, size=size) == (step % period == 0)
            assert absolutely_equal(net, here, there, size=size) == (step == 0)


def test_places_that_do_not_exist_are_refused():
    with pytest.raises(SettingsError, match="outside of an output"):
        absolutely_equal(nn.Identity(), (4,), (12,), size=(12,))
    with pytest.raises(SettingsError, match="one per axis"):
        relatively_equal(nn.Identity(), (4,), (5, 5), size=(12,))


@pytest.mark.parametrize(("spacing", "codes"), [(16, 1), (32, 1), (15, 16), (8, 2), (12, 4)])
def test_fig_2_with_four_poolings(spacing, codes):
    """> Fig. 2 with l = 4: disks 16 px apart all look the same, disks 15 px apart get the 16 codes per axis that there are"""
    spec = UNetSpec(ndim=1, levels=4, features=8)
    net = unet(spec, 3).double()
    size = spec.input_size(20 * spacing, 0)
    line = torch.zeros(1, 1, size + spacing, dtype=torch.float64)
    for offset in range(-2, 3):
        line[..., 4 + offset :: spacing] = 1
    out = net(line[..., :size])[0].detach()
    first = (4 - spec.margin[0] // 2) % spacing
    places = out[:, first::spacing].T
    distinct = len(torch.unique((places / out.abs().max() * 1e10).round(), dim=0))
    assert len(places) >= 16 and distinct == codes == synthetic.capacity((spacing,), spec.period)


@pytest.mark.parametrize(("mode", "places"), [("zeros", True), ("reflect", False), ("replicate", False), ("circular", False)])
def test_every_padding_breaks_tiles_and_zeros_alone_tell_the_place(mode, places):
    """> section 2: padding at the borders of tiles breaks the equivariance, whatever it is filled with"""
    torch.manual_seed(0)
    net = nn.Sequential(*[layer for k in (1, 4, 4) for layer in (nn.Conv1d(k, 4, 3, padding=1, padding_mode=mode), nn.ReLU())])
    net = net.double().eval().requires_grad_(False)
    image, reach = torch.rand(1, 1, 64, dtype=torch.float64), 3
    whole = net(image)[0]
    stitched = torch.cat([net(image[..., k : k + 16])[0] for k in range(0, 64, 16)], 1)
    off = (whole - stitched).abs().amax(0) > 1e-12
    # where an image ends its tiles pad as one pass does, unless they look at its other end
    inner = range(0, 68) if mode == "circular" else range(16, 64)
    near = torch.tensor([k + reach in inner and (k + reach) % 16 < 2 * reach for k in range(64)])
    assert bool((off & near).any()) and not bool((off & ~near).any())
    flat = net(torch.ones(1, 1, 64, dtype=torch.float64))[0]
    assert bool((flat - flat[:, 32:33]).abs().max() > 1e-12) == places


def places_known(edge, seeds):
    """Most distinct outputs of zero-padded networks on a constant image, over a few random starts."""
    spec = UNetSpec(levels=2, features=3, upsampling="fixed", padding="zero", decoder_convs=1, head_kernel=3)
    counts = []
    for seed in seeds:
        net = unet(spec, seed).double()
        with torch.inference_mode():
            out = net(torch.ones(1, 1, edge, edge, dtype=torch.float64))[0].flatten(1).T
        counts.append(len(torch.unique((out / out.abs().max() * 1e10).round(), dim=0)))
    return max(counts)


def test_a_padded_network_knows_every_place_up_to_40_px_and_not_beyond():
    """> Fig. 5: as long as every pixel sees a border, all of a constant image can be told apart; a larger one repeats inside"""
    assert [places_known(edge, range(8)) for edge in (36, 40)] == [36**2, 40**2]
    assert [places_known(edge, range(8)) for edge in (44, 48)] == [41**2, 41**2], "20 px at each side, and one value between"
