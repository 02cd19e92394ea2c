"""The effective period is what a network's weights make of its period, and it says which illegal tiles show."""

import numpy as np
import pytest
import torch
from torch import nn

from napari_shiftseg import UNet, UNetSpec, load_model, plan_tiles, synthetic
from napari_shiftseg.analysis import EffectivePeriod, effective_period, effective_steps, prime_network, verify_tiling
from napari_shiftseg.errors import ModelError, SettingsError
from napari_shiftseg.events import Stage
from napari_shiftseg.geometry import Lattice
from napari_shiftseg.network import Model, ModelRecord, Normalisation

SPECS = {
    "2D": UNetSpec(levels=3, features=3),
    "1D, f = 3": UNetSpec(ndim=1, levels=2, pool=3, features=4),
    "3D": UNetSpec(ndim=3, levels=2, features=2, convs=1),
    "zero padding": UNetSpec(levels=2, features=3, padding="zero"),
    "fixed": UNetSpec(levels=2, features=3, upsampling="fixed"),
    "anisotropic": UNetSpec(levels=3, pool=((1, 2), (2, 2), (2, 2)), features=3),
}


def unet(spec, live=None, seed=0):
    """A random network; with `live` all that lies deeper than so many poolings has no say."""
    torch.manual_seed(seed)
    net = UNet(spec).eval()
    if live is not None:
        first = next(layer for layer in net.decoder[live].modules() if getattr(layer, "weight", None) is not None)
        with torch.no_grad():
            first.weight[:, spec.channels[live] :] = 0  # behind the skip's channels
    return net


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_deep_path_without_weights_leaves_the_period_of_the_rest(spec):
    """> Fig. 7a: tiles of 52 px are off the period 16 and on 4, and whether they show is a matter of the weights"""
    for live in range(spec.levels):
        cells = [1] * spec.ndim
        for factor in spec.factors[:live]:
            cells = [a * b for a, b in zip(cells, factor, strict=True)]
        found = effective_period(unet(spec, live), tolerance=1e-9)
        assert (found.period, found.declared) == (tuple(cells), spec.period)
        for felt, shares, cell in zip(found.change, found.shares, cells, strict=True):
            assert all((value == 0) == (step % cell == 0) for step, value in felt.items())
            assert not any(shares[live:])
            assert sum(shares) == pytest.approx(float(cell > 1))


def test_all_of_a_random_network_is_felt_the_less_the_deeper_it_is():
    found = effective_period(unet(UNetSpec(levels=3, features=3)), tolerance=1e-9)
    assert found.period == found.declared == (8, 8)
    assert all(shares[0] > shares[1] > shares[2] > 0 for shares in found.shares)


def test_what_is_felt_is_the_distance_over_the_spread_by_hand():
    cell = nn.Sequential(nn.MaxPool1d(2), nn.Upsample(scale_factor=2))
    image = np.arange(600.0)
    found = effective_period(cell, image, lattice=Lattice(ndim=1, period=(2,), reach=(1,)))
    # moved by one, each pixel gets its neighbour's maximum, one more or one less
    assert found.change[0][1] == pytest.approx(1 / np.std(np.arange(512)), rel=0.02)


@pytest.mark.parametrize("live", [1, 2, None])
def test_it_says_which_tile_sizes_off_the_period_show(live):
    net = unet(UNetSpec(levels=3, features=3), live)
    image = np.random.default_rng(1).random((260, 260), dtype=np.float32)
    found = effective_period(net, image)
    for edge in (40, 42, 44, 46, 47, 52):
        check = verify_tiling(
            net, image, plan_tiles(net.spec, image.shape, edge, "valid", allow_noncompliant=True), device="cpu"
        )
        assert check.compared > 1 and check.ok == (max(found.felt(edge, axis) for axis in (0, 1)) == 0), edge
    assert found.felt(8) == 0 and found.felt(1) == max(found.change[0].values())
    with pytest.raises(SettingsError, match="give 1 px"):
        found.felt(0)


@pytest.mark.parametrize(("low", "high"), [((0, 0), (180, 180)), ((20, 30), (250, 270))])
def test_a_trained_network_has_the_same_one_wherever_it_is_looked_at(low, high):
    disks = synthetic.make(synthetic.preset("fig3").recipe).image
    found = effective_period(load_model("disks-fig3"), disks[low[0] : high[0], low[1] : high[1]])
    assert found.period == (16, 16), "spacing 13 has to be told apart by all of the period"
    assert min(felt[8] for felt in found.change) > 0.3, "by its deepest pooling too"
    assert "the period itself" in found.text


def test_a_network_that_does_not_say_its_sizes_is_probed_first():
    net = unet(UNetSpec(levels=2, features=3), live=1)
    found = effective_period(lambda x: net(x.float()), tolerance=1e-4)
    assert found.declared[0] in (2, 4) and found.period == (2, 2)


def test_intensities_are_those_of_the_model_and_rounding_is_no_change():
    net = unet(UNetSpec(levels=2, features=3))
    image = np.random.default_rng(0).random((60, 80), dtype=np.float32)
    record = ModelRecord(window=(12, 12), neighbours=False, steps=0, normalisation=Normalisation(low=1, high=99))
    model = Model(module=net, record=record)
    assert effective_period(model, image).change[0][1] == pytest.approx(effective_period(model, 1000 * image).change[0][1])
    assert not any(effective_period(prime_network(net.spec), image).shares[0][2:])
    flat = effective_period(unet(UNetSpec(levels=2, features=3, upsampling="fixed")), np.ones((60, 80)))
    assert flat.period == (1, 1) and not any(flat.change[0].values())


def test_what_cannot_be_answered_is_refused():
    net = unet(UNetSpec(levels=1, features=2))
    with pytest.raises(SettingsError, match="1 channels and 2 axes"):
        effective_period(net, np.ones((3, 40, 40)))
    with pytest.raises(SettingsError, match="tolerance is 0"):
        effective_period(net, tolerance=0)
    with pytest.raises(ModelError, match="not finite"):
        effective_period(lambda x: x / 0, np.ones((60, 60)), lattice=Lattice(period=(2, 2), reach=(0, 0)))


def test_each_pass_is_an_event():
    events = list(effective_steps(unet(UNetSpec(levels=1, features=2))))
    assert [event.done for event in events if not isinstance(event, Stage)] == [1, 2] * 2


@pytest.mark.parametrize(("edge", "felt"), [(64, 0.0), (65, 0.9), (66, 0.9), (67, 0.9), (3, 0.9), (4, 0.0)])
def test_a_size_is_felt_as_much_as_the_farthest_of_its_tiles(edge, felt):
    """The second tile of 65 px is 1 px off the grid, the third 2 px, and so on."""
    found = EffectivePeriod(
        period=(4,),
        declared=(4,),
        change=({1: 0.1, 2: 0.9, 3: 0.2},),
        shares=((0.1, 0.9),),
        tolerance=0.05,
        size=(64,),
        text="",
    )
    assert found.felt(edge) == felt


def test_a_step_whose_multiples_are_felt_is_no_effective_period():
    def network(image):
        return image * 0 + torch.arange(image.shape[2]) % 4 // 2  # functions 0, 0, 1, 1: moved by 1 px half are others

    found = effective_period(network, np.ones(600), lattice=Lattice(ndim=1, period=(4,), reach=(0,)), tolerance=1.7)
    assert found.change[0] == pytest.approx({1: 2**0.5, 2: 2, 3: 2**0.5}, rel=0.01)
    assert found.period == (4,), "tiles of 1 px are off by 2 px, too"
