"""The networks of the paper's proofs do what the proofs say."""

import numpy as np
import pytest
import torch

from napari_shiftseg import UNetSpec, synthetic
from napari_shiftseg.analysis import passing_network, prime_network
from napari_shiftseg.errors import SettingsError


def small(ndim, levels, **values):
    return UNetSpec(ndim=ndim, levels=levels, features=1, growth=1, embedding_dim=1, **values)


@pytest.mark.parametrize(
    "spec",
    [small(2, 1), small(2, 2), small(2, 3), small(1, 3), small(2, 1, pool=3), small(3, 1), small(2, 2, pool=((1, 2), (2, 2)))],
    ids=["2D-l1", "2D-l2", "2D-l3", "1D-l3", "f3", "3D", "anisotropic"],
)
def test_primes_tell_every_pixel_of_every_period_window_apart(spec):
    """> Corollary 4: there are weights that give each pixel of any window of f^l pixels per edge its own value"""
    net = prime_network(spec)
    size = spec.input_size(tuple(2 * period for period in spec.period))
    outputs = [net(torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(seed)))[0, 0] for seed in (0, 1)]
    assert torch.equal(*outputs), "the IDs depend on the image"
    wanted = int(np.prod(spec.period))
    windows = outputs[0]
    for axis, period in enumerate(spec.period):
        windows = windows.unfold(axis, period, 1)
    windows = windows.reshape(-1, wanted)
    assert all(len(np.unique(window)) == wanted for window in windows.detach().numpy())


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_ramp_shows_all_output_functions_at_one_place(levels):
    """> Lemma 1: f^(d*l) distinct outputs at one pixel over all shifts of the image"""
    spec = small(2, levels)
    net, period = passing_network(spec), spec.period[0]
    size = spec.input_size(period)
    image = torch.from_numpy(synthetic.ramp((size + period,) * 2).image)
    seen = set()
    for y in range(period):
        for x in range(period):
            out = net(image[None, None, y : y + size, x : x + size])[0, 0].detach()
            # the same physical pixel, seen from a window that moved by (y, x)
            seen.add(float(out[period - 1 - y, period - 1 - x]))
    assert len(seen) == period**2


def test_fixed_upsampling_is_refused():
    with pytest.raises(SettingsError, match="learnt upsampling"):
        prime_network(small(2, 2, upsampling="fixed"))
