"""What a network says of a scaled image, in pixels of the image itself: the same whatever the tiles are."""

import math

import numpy as np
import pytest
import torch

from napari_shiftseg import Output, UNet, UNetSpec, predict, verify_tiling
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.events import drain
from napari_shiftseg.geometry import Lattice, Scaling, plan_part, plan_tiles, scaled_lattice
from napari_shiftseg.geometry.constants import FACTORS
from napari_shiftseg.network import Model, predict_steps
from napari_shiftseg.network.scaled import ScaledNet, resampled

SPECS = {
    "offsets": UNetSpec(levels=2, features=4, embedding_dim=2, coordinates=True, foreground=True),
    "fixed upsampling": UNetSpec(levels=2, features=4, embedding_dim=3, upsampling="fixed"),
    "padded": UNetSpec(levels=2, features=3, embedding_dim=2, padding="zero"),
}


def net_of(spec):
    torch.manual_seed(0)
    return UNet(spec).eval().requires_grad_(False)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("factor", [(1, 4), (5, 8), (3, 2)])
def test_tiles_of_any_size_give_what_one_pass_gives(spec, factor):
    net, image = net_of(spec), np.random.default_rng(0).random((1, 130, 101), np.float32)
    lattice = scaled_lattice(spec.lattice, (factor, factor))
    period = -(-24 // lattice.period[0]) * lattice.period[0]
    whole = predict(net, image, plan_tiles(lattice, image.shape[1:], 10**4), "cpu")
    assert whole.shape == (spec.embedding_dim, 130, 101) and whole.std() > 0
    # convolutions are rounded otherwise in tiles of another size; resampling adds nothing to that (see the next test)
    allowed = 1e-6 * np.abs(whole).max()
    for write in (period, (2 * period, 3 * period)):
        found = predict(net, image, plan_tiles(lattice, image.shape[1:], write), "cpu")
        np.testing.assert_allclose(found, whole, rtol=0, atol=allowed)
    part = plan_part(plan_tiles(lattice, image.shape[1:], period), (slice(period, 2 * period), slice(0, 101)))
    np.testing.assert_allclose(predict(net, image, part, "cpu"), whole[:, period : 2 * period], rtol=0, atol=allowed)
    check = verify_tiling(net, image, plan_tiles(lattice, image.shape[1:], 2 * period), device="cpu")
    assert check.ok and check.compared > 1


def shifted(x):
    """A pixel and the one after next, which no arithmetic rounds."""
    return torch.cat([x[..., :-2, :-2], x[..., 2:, 2:]], 1)


@pytest.mark.parametrize("factor", FACTORS)
def test_resampling_gives_equal_bits_in_tiles_of_any_size(factor):
    outputs = (Output(name="embedding", channels=slice(0, 2), meaning="offset"),)
    model = Model(module=shifted, lattice=Lattice(period=(2, 2), margin=(2, 2)), outputs=outputs)
    image = np.random.default_rng(2).random((1, 90, 71), np.float32)
    lattice = scaled_lattice(model.lattice, (factor, factor))
    whole = predict(model, image, plan_tiles(lattice, (90, 71), 10**4), "cpu")
    period = -(-16 // lattice.period[0]) * lattice.period[0]
    for write in (period, (2 * period, 3 * period)):
        np.testing.assert_array_equal(predict(model, image, plan_tiles(lattice, (90, 71), write), "cpu"), whole)


def test_tiles_off_the_lattice_show():
    spec = SPECS["offsets"]
    image = np.random.default_rng(0).random((1, 130, 101), np.float32)
    lattice = scaled_lattice(spec.lattice, ((3, 4), (3, 4)))
    plan = plan_tiles(lattice, (130, 101), 25, allow_noncompliant=True)
    assert not verify_tiling(net_of(spec), image, plan, device="cpu").ok


def test_volumes_and_axes_of_other_scales():
    spec = UNetSpec(ndim=3, levels=1, pool=((1, 2, 2),), features=2, embedding_dim=3, coordinates=True)
    image = np.random.default_rng(1).random((1, 14, 40, 37), np.float32)
    lattice = scaled_lattice(spec.lattice, ((2, 1), (1, 2), (3, 4)))
    whole = predict(net_of(spec), image, plan_tiles(lattice, image.shape[1:], 10**4), "cpu")
    tiles = plan_tiles(lattice, image.shape[1:], tuple(2 * p for p in lattice.period))
    assert len(tiles) > 4
    np.testing.assert_array_equal(predict(net_of(spec), image, tiles, "cpu"), whole)


OUTPUTS = (
    Output(name="embedding", channels=slice(0, 2), meaning="offset"),
    Output(name="foreground", channels=slice(2, 3), activation="sigmoid", meaning="probability"),
    Output(name="scale", channels=slice(3, 4), meaning="value"),
)


def pointing(x):
    """Offsets to the network's pixel (20, 10), a foreground, a value; sees one pixel on each side."""
    inner = torch.nn.functional.avg_pool2d(x, 3, 1)
    place = torch.stack(torch.meshgrid(*(torch.arange(n, dtype=x.dtype) for n in inner.shape[2:]), indexing="ij"))
    return torch.cat([torch.tensor([20.0, 10.0]).reshape(2, 1, 1) - place, inner[0], 3 * inner[0]])[None]


@pytest.mark.parametrize("factors", [((1, 4), (1, 4)), ((1, 2), (3, 4)), ((2, 1), (5, 2))])
def test_offsets_lead_to_the_same_place_and_other_values_stay(factors):
    """> network pixel q lies at image pixel (q + 1/2) / s - 1/2"""
    model = Model(module=pointing, lattice=Lattice(period=(1, 1), margin=(2, 2)), outputs=OUTPUTS)
    lattice = scaled_lattice(model.lattice, factors)
    plan = plan_tiles(lattice, (64, 48), 10**4)
    found = drain(predict_steps(model, np.full((1, 64, 48), 0.5, np.float32), plan, device="cpu")).outputs
    places = np.indices((64, 48)) + found["embedding"]
    # what the function calls its pixel 0 lies `ahead` periods before the image
    for axis, (part, wanted) in enumerate(zip(lattice.scaling.axes, (20, 10), strict=True)):
        scale = part.steps / part.per
        at = (wanted - part.ahead + 0.5) / scale - 0.5
        np.testing.assert_allclose(places[axis], at, atol=1e-4)
    np.testing.assert_allclose(found["foreground"], 1 / (1 + math.exp(-0.5)), rtol=1e-6)
    np.testing.assert_allclose(found["scale"], 1.5, rtol=1e-6)


@pytest.mark.parametrize("embedding", ["offset", "code"])
@pytest.mark.parametrize("activation", ["linear", "exp"])
def test_bandwidths_are_lengths_where_embeddings_are(embedding, activation):
    class Said:
        def __init__(self, channels, meaning, activation="linear"):
            self.channels, self.meaning, self.activation = channels, meaning, activation

    outputs = {"embedding": Said(slice(0, 1), embedding), "bandwidth": Said(slice(1, 2), "bandwidth", activation)}
    scaling = Scaling(inner=Lattice(ndim=1, period=(1,), margin=(2,)), factors=((1, 4),))
    net = ScaledNet(lambda x, keep: x[..., :1].repeat(1, 2, keep[0].stop - keep[0].start), lambda _, x: x, scaling, outputs)
    net.net.layout = torch.contiguous_format
    y = net(torch.full((1, 1, 4 + 2 * scaling.axes[0].around), 3.0), (slice(0, 4),))
    length = 4.0 if embedding == "offset" else 1.0
    away = 1.5 if embedding == "offset" else 0.0  # from the first of four pixels to the middle of them
    assert y[0, 0, 0] == 3 * length + away
    assert y[0, 1, 0].item() == pytest.approx(3 * length if activation == "linear" else 3 + math.log(length))


def test_a_sum_does_not_depend_on_where_it_is_made():
    x = torch.rand(1, 2, 40, 33, generator=torch.Generator().manual_seed(0))
    places, weights = tuple(range(5, 30)), tuple(0.1 * (k % 3 + 1) for k in range(25))
    taps = ((places, weights), (tuple(p + 1 for p in places), weights))
    whole = resampled(x, 2, taps)
    for part in (slice(0, 1), slice(7, 20), slice(24, 25)):
        few = tuple((at[part], by[part]) for at, by in taps)
        assert torch.equal(resampled(x, 2, few), whole[:, :, part])
    assert torch.equal(x, torch.rand(1, 2, 40, 33, generator=torch.Generator().manual_seed(0)))  # left as it was


def test_a_scaled_image_cannot_be_streamed():
    spec = SPECS["offsets"]
    plan = plan_tiles(scaled_lattice(spec.lattice, ((1, 2), (1, 2))), (130, 101))
    image = np.zeros((1, 130, 101), np.float32)
    assert predict(net_of(spec), image, plan, "cpu", method="auto").shape == (2, 130, 101)
    with pytest.raises(SettingsError, match="runs on a scaled image"):
        predict(net_of(spec), image, plan, "cpu", method="stream")
