"""The mean of what a network says of all turns of an image: of the right pixels, as vectors, the same whatever the tiles."""

from itertools import product

import numpy as np
import pytest
import torch

from napari_shiftseg import Output, UNet, UNetSpec, predict, verify_tiling
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.events import drain
from napari_shiftseg.geometry import Lattice, as_lattice, plan_again, plan_part, plan_tiles, scaled_lattice, turned_lattice
from napari_shiftseg.network import Model, predict_steps

OFFSETS = {"features": 3, "embedding_dim": 2, "coordinates": True}
SPECS = {
    "seeds": UNetSpec(levels=2, **OFFSETS, foreground=True, seeds=True),
    "three poolings": UNetSpec(levels=3, **OFFSETS, upsampling="fixed"),
    "axes that differ": UNetSpec(levels=2, pool=((2, 1), (2, 2)), **OFFSETS),
    "padded": UNetSpec(levels=2, **OFFSETS, padding="zero"),
    "volume": UNetSpec(ndim=3, levels=1, pool=((1, 2, 2),), features=2, embedding_dim=3, coordinates=True),
}


def net_of(spec):
    torch.manual_seed(0)
    return UNet(spec).eval().requires_grad_(False)


def noise(shape, seed=0):
    return np.random.default_rng(seed).random((1, *shape), np.float32)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_one_pass_is_the_mean_over_turned_inputs_with_offsets_as_vectors(spec):
    """Turned by hand: the input of a pass, each output back, and the components of its vectors."""
    net, lattice = net_of(spec), turned_lattice(spec.lattice)
    ndim, shape = spec.ndim, (20, 28, 24)[-spec.ndim :]
    plan = plan_tiles(lattice, shape, 10**4)
    read = next(iter(plan)).read
    x = np.pad(noise(shape), ((0, 0), *plan.pad), mode="reflect")[(slice(None), *read)]
    total, turns = 0.0, 0
    square = all(v[-1] == v[-2] for v in (spec.lattice.period, spec.lattice.margin))
    for swap, flips in product((False, True)[: 1 + square], product((False, True), repeat=ndim)):
        turned = x.swapaxes(-1, -2) if swap else x
        axes = [1 + k for k, flip in enumerate(flips) if flip]
        with torch.no_grad():
            y = net(torch.from_numpy(np.flip(turned, axes).copy())[None])[0].numpy()
        y = np.flip(y, axes).copy()
        for k, flip in enumerate(flips):
            y[k] *= -1 if flip else 1
        if swap:
            y = y.swapaxes(-1, -2)
            y[[ndim - 2, ndim - 1]] = y[[ndim - 1, ndim - 2]]
        total, turns = total + y, turns + 1
    assert turns == len(lattice.turning.turns) == {"axes that differ": 4, "volume": 16}.get(name_of(spec), 8)
    keep = next(iter(plan)).keep
    expected = (total / turns)[(slice(None), *keep)]
    found = drain(predict_steps(net, noise(shape), plan, device="cpu")).outputs
    np.testing.assert_allclose(found["embedding"], expected[:ndim], atol=2e-6 * np.abs(expected).max())
    if spec.seeds:
        np.testing.assert_allclose(np.log(found["bandwidth"]), expected[ndim + 1], atol=1e-5)
        np.testing.assert_allclose(found["seed"], 1 / (1 + np.exp(-expected[ndim + 2])), atol=1e-6)


def name_of(spec):
    return next(name for name, known in SPECS.items() if known is spec)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_tiles_of_any_size_and_parts_anywhere_give_what_one_pass_gives(spec):
    rng = np.random.default_rng(1)
    net, lattice = net_of(spec), turned_lattice(spec.lattice)
    for _ in range(2):
        # edges that are no multiples of the period
        shape = tuple(int(rng.integers(*((9, 14) if spec.ndim == 3 else (41, 75)))) for _ in range(spec.ndim))
        image = noise(shape)
        whole = predict(net, image, plan_tiles(lattice, shape, 10**4), "cpu")
        allowed = 2e-6 * np.abs(whole).max()  # convolutions round otherwise in tiles of another size
        write = tuple(int(rng.integers(1, 4)) * p for p in lattice.period)
        plan = plan_tiles(lattice, shape, write)
        assert len(plan) > 1
        np.testing.assert_allclose(predict(net, image, plan, "cpu"), whole, rtol=0, atol=allowed)
        starts = [int(rng.integers(0, n // p)) * p for n, p in zip(shape, lattice.period, strict=True)]
        part = tuple(slice(s, int(rng.integers(s + 1, n + 1))) for s, n in zip(starts, shape, strict=True))
        found = predict(net, image, plan_part(plan, part), "cpu")
        np.testing.assert_allclose(found, whole[(slice(None), *part)], rtol=0, atol=allowed)
    assert verify_tiling(net, image, plan, device="cpu").ok


def test_tiles_off_the_lattice_show():
    spec = SPECS["three poolings"]
    plan = plan_tiles(turned_lattice(spec.lattice), (130, 101), 25, allow_noncompliant=True)
    assert not verify_tiling(net_of(spec), noise((130, 101)), plan, device="cpu").ok


@pytest.mark.parametrize("levels", [1, 2])
def test_a_turned_image_gets_the_turned_result(levels):
    """Where the network's own output edge is whole periods, its grid is that of the turned image, too."""
    spec = UNetSpec(levels=levels, **OFFSETS)
    shape, lattice = (8 * spec.period[0],) * 2, turned_lattice(spec.lattice)
    assert spec.output_size(spec.input_size(shape[0])) % spec.period[0] == 0
    image, net, plan = noise(shape), net_of(spec), plan_tiles(lattice, shape, 2 * spec.period[0])
    plain = predict(net, image, plan, "cpu")
    quarter = predict(net, np.rot90(image, axes=(1, 2)).copy(), plan, "cpu")
    back = np.rot90(quarter, -1, axes=(1, 2))
    # counter-clockwise: x becomes -y
    np.testing.assert_allclose(np.stack([back[1], -back[0]]), plain, atol=1e-6)
    alone = predict(net, image, plan_tiles(spec.lattice, shape, 2 * spec.period[0]), "cpu")
    assert np.abs(alone - plain).max() > 100e-6


OUTPUTS = (
    Output(name="embedding", channels=slice(1, 3), meaning="offset"),
    Output(name="foreground", channels=slice(0, 1), activation="sigmoid", meaning="probability"),
    Output(name="flow", channels=slice(3, 5), meaning="value"),
)


def slopes(x):
    """A foreground, the slope of the image, the constant (1, 2); sees one pixel on each side."""
    middle = x[..., 1:-1, 1:-1]
    slope = [x[..., 2:, 1:-1] - x[..., :-2, 1:-1], x[..., 1:-1, 2:] - x[..., 1:-1, :-2]]
    return torch.cat([middle, *slope, torch.full_like(middle, 1.0), torch.full_like(middle, 2.0)], 1)


def constant_offsets(x):
    y = slopes(x)
    return torch.cat([y[:, :1], y[:, 3:], y[:, 3:]], 1)


def test_a_slope_turns_with_the_image_a_fixed_direction_has_no_mean_and_other_values_stay():
    lattice = Lattice(period=(1, 1), margin=(2, 2))
    image = noise((14, 11))
    plan = plan_tiles(turned_lattice(lattice), (14, 11), 4)
    model = Model(module=slopes, lattice=lattice, outputs=OUTPUTS)
    found = drain(predict_steps(model, image, plan, device="cpu")).outputs
    alone = drain(predict_steps(model, image, plan_tiles(lattice, (14, 11), 4), device="cpu")).outputs
    for name in alone:
        np.testing.assert_allclose(found[name], alone[name], atol=1e-6)
    assert (found["flow"][0] == 1).all() and (found["flow"][1] == 2).all()
    fixed = Model(module=constant_offsets, lattice=lattice, outputs=OUTPUTS)
    np.testing.assert_array_equal(predict(fixed, image, plan, "cpu"), 0)


def test_an_odd_margin_and_a_grid_of_poolings_stay_where_they_are():
    """A network that sees a pixel and the next one; and one that gives the largest value of each four from an even pixel on."""
    outputs = (Output(name="foreground", channels=slice(0, 1), meaning="probability"),)
    image = noise((13, 9))
    stated = Lattice(period=(1, 1), margin=(1, 1))
    ahead = Model(module=lambda x: x[..., 1:, 1:] - x[..., :-1, :-1], lattice=stated, outputs=outputs)
    lattice = turned_lattice(stated)
    assert lattice.margin == (2, 2) and lattice.smallest == (3, 3)
    wide = np.pad(image[0], 1, mode="reflect")
    corners = [wide[1 + a : 14 + a, 1 + b : 10 + b] for a in (-1, 1) for b in (-1, 1)]
    for write in (10**4, 4, (3, 5)):
        plan = plan_tiles(lattice, (13, 9), write)
        found = drain(predict_steps(ahead, image, plan, device="cpu")).outputs["foreground"]
        np.testing.assert_allclose(found, np.mean(corners, axis=0) - image[0], atol=1e-6)

    def largest(x):
        return torch.nn.functional.interpolate(torch.nn.functional.max_pool2d(x, 2), scale_factor=2)

    pairs = Model(module=largest, lattice=Lattice(period=(2, 2), reach=(1, 1)), outputs=outputs)
    even = noise((12, 8))
    for write in (10**4, 2, (4, 6)):
        plan = plan_tiles(turned_lattice(pairs.lattice), (12, 8), write)
        found = drain(predict_steps(pairs, even, plan, device="cpu")).outputs["foreground"]
        expected = even[0].reshape(6, 2, 4, 2).max(axis=(1, 3)).repeat(2, 0).repeat(2, 1)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_network_on_a_scaled_image_is_turned_there():
    spec = SPECS["seeds"]
    lattice = scaled_lattice(turned_lattice(spec.lattice), ((1, 2), (3, 4)))
    assert lattice.network == spec.lattice and lattice.turned is not None
    image = noise((70, 61))
    whole = predict(net_of(spec), image, plan_tiles(lattice, (70, 61), 10**4), "cpu")
    plan = plan_tiles(lattice, (70, 61), 32)
    assert len(plan) > 1
    np.testing.assert_allclose(predict(net_of(spec), image, plan, "cpu"), whole, atol=2e-6 * np.abs(whole).max())
    for one in (lattice, turned_lattice(spec.lattice)):
        assert as_lattice(one.to_dict()) == one
        values = plan_tiles(one, (70, 61), 32).to_dict()
        assert plan_again(spec, values).lattice == one == plan_again(None, values).lattice


def test_costs_are_those_of_all_turns():
    plain = UNetSpec(levels=2, features=32, embedding_dim=2, coordinates=True).lattice
    turned = turned_lattice(plain)
    assert turned.flops((60, 44)) == pytest.approx(8 * plain.flops((60, 44)))
    assert plan_tiles(turned, (60, 44)).redundancy == pytest.approx(plan_tiles(plain, (60, 44)).redundancy, rel=0.5)
    assert plain.peak_bytes((60, 44)) < turned.peak_bytes((60, 44)) < 1.3 * plain.peak_bytes((60, 44))


def test_codes_have_no_mean_and_what_says_nothing_is_refused():
    codes = UNetSpec(levels=1, features=2, embedding_dim=2)
    both = UNetSpec(levels=1, features=2, embedding_dim=3, coordinates=True)
    for spec in (codes, both):
        with pytest.raises(SettingsError, match="free codes"):
            predict(net_of(spec), noise((20, 20)), plan_tiles(turned_lattice(spec.lattice), (20, 20)), "cpu")
    lattice = Lattice(period=(1, 1), margin=(2, 2))
    with pytest.raises(SettingsError, match="nothing says what the channels"):
        predict(slopes, noise((20, 20)), plan_tiles(turned_lattice(lattice), (20, 20)), "cpu")
    spec = SPECS["seeds"]
    with pytest.raises(SettingsError, match="flipped and turned"):
        predict(net_of(spec), noise((60, 60)), plan_tiles(turned_lattice(spec.lattice), (60, 60)), "cpu", method="stream")
