"""How many same-looking places a network can tell apart, and where zero padding tells it the place."""

import numpy as np
import pytest
import torch

from napari_shiftseg import UNetSpec, plan_tiles, predict, synthetic


def distinct(vectors):
    """Number of different rows of (N, E), beyond rounding."""
    return len(torch.unique(vectors.mul(1e9).round(), dim=0))


@pytest.mark.parametrize("spacing", [3, 4, 5, 6, 8, 12])
def test_same_looking_objects_get_as_many_codes_as_phases_meet(seeded_net, spacing):
    """> identical objects at spacing p fall into at most f^l / gcd(p, f^l) classes per axis (Corollary 2)."""
    net = seeded_net(UNetSpec(levels=2, features=8), seed=1).double()
    size = net.spec.input_size(5 * spacing, 0)
    made = synthetic.disks((size + 4 * spacing,) * 2, spacing, 1.2, offset=(0, 0))
    inner = slice(2 * spacing, 2 * spacing + size)  # away from the end of the lattice
    out = net(torch.from_numpy(made.image[inner, inner].astype(np.float64))[None, None])[0]
    # the same pixel of each object, from the first object on that lies inside the output
    first = -(net.spec.margin[0] // 2) % spacing
    places = out[:, first::spacing, first::spacing].flatten(1).T
    assert len(places) >= 16
    assert distinct(places) == synthetic.capacity((spacing, spacing), net.spec.period)


def test_padding_tells_the_place_only_near_the_border(seeded_net):
    """Fig. 5: 40 px is the largest constant image in which every pixel can know its place, for the paper's network."""
    spec = UNetSpec(levels=2, features=3, upsampling="fixed", padding="zero", decoder_convs=1, head_kernel=3)
    out = seeded_net(spec, seed=1).double()(torch.ones(1, 1, 56, 56, dtype=torch.float64))[0]
    assert distinct(out[:, 20:36, 20:36].flatten(1).T) == 1
    edge = out[:, 28, :]
    assert float((edge[:, 19] - edge[:, 28]).abs().max()) > 1e-9
    assert distinct(edge[:, :20].T) == 20


def test_a_stride_of_one_pixel_has_one_output_function(seeded_net):
    """Appendix A.1: then the output moves with the image by any shift; with larger tiles it does not."""
    net = seeded_net(UNetSpec(levels=1, features=6), seed=2)
    image = np.random.default_rng(0).random((1, 26, 26), np.float32)

    def run(part, write):
        plan = plan_tiles(net.spec, part.shape[1:], write, "valid", allow_noncompliant=True)
        return predict(net, part, plan, device="cpu")

    whole, moved = run(image, 1), run(image[:, 1:], 1)
    np.testing.assert_allclose(whole[:, 1:], moved, atol=1e-6)
    whole, moved = run(image, 2), run(image[:, 1:], 2)
    rows = min(whole.shape[1] - 1, moved.shape[1])
    assert np.abs(whole[:, 1 : 1 + rows] - moved[:, :rows]).max() > 1e-3 * np.ptp(whole)
