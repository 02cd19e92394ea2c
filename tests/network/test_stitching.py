"""Tiles that keep the rules give the whole image's output; tiles that break them do not."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_shiftseg import UNetSpec, plan_tiles, predict, violations

quick = settings(max_examples=60, deadline=None, derandomize=True)


def whole_output(net, image, border):
    """The network on the whole image at once, padded by numpy: (E, *result)."""
    spec = net.spec
    plan = plan_tiles(spec, image.shape[1:], 10**9, border)  # for its sizes only
    if spec.padding == "zero":
        sizes = [-(-n // p) * p for n, p in zip(image.shape[1:], spec.period, strict=True)]
        pads = [(0, size - n) for size, n in zip(sizes, image.shape[1:], strict=True)]
    elif border == "reflect":
        sizes = spec.input_size(tuple(-(-n // p) * p for n, p in zip(image.shape[1:], spec.period, strict=True)))
        pads = [(before, size - n - before) for (before, _), size, n in zip(plan.pad, sizes, image.shape[1:], strict=True)]
    else:
        sizes = [n - (n - spec.input_size(1, k)) % spec.period[k] for k, n in enumerate(image.shape[1:])]
        image = image[(slice(None), *(slice(0, n) for n in sizes))]
        pads = [(0, 0)] * spec.ndim
    padded = np.pad(image, [(0, 0), *pads], mode="reflect")
    out = net(torch.from_numpy(padded)[None])[0].numpy()
    first = [o + before - m // 2 for o, (before, _), m in zip(plan.origin, pads, spec.margin, strict=True)]
    return out[(slice(None), *(slice(a, a + n) for a, n in zip(first, plan.result_shape, strict=True)))]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


@st.composite
def cases_2d(draw):
    levels, pool, largest = draw(st.sampled_from([(1, 2, 60), (2, 2, 70), (3, 2, 80), (4, 2, 70), (1, 3, 60), (2, 3, 60)]))
    spec = UNetSpec(
        levels=levels,
        pool=pool,
        features=2,
        in_channels=draw(st.integers(1, 2)),
        padding=draw(st.sampled_from(["valid", "valid", "zero"])),
        upsampling=draw(st.sampled_from(["learnt", "fixed"])),
        decoder_convs=draw(st.sampled_from([None, 1])),
        head_kernel=draw(st.sampled_from([1, 3])),
    )
    border = draw(st.sampled_from(["reflect", "valid"]))
    least = spec.input_size(spec.period) if border == "valid" else (2, 2)
    shape = tuple(n + draw(st.integers(0, largest)) for n in least)
    write = tuple(draw(st.integers(1, 4)) * p for p in spec.period)
    return spec, shape, write, border, draw(st.integers(0, 1000))


@quick
@given(cases_2d())
def test_stitched_tiles_equal_the_whole_image(seeded_net, case):
    """> crop output tiles to some n * f^l: stitched, they are what a single pass over the whole image gives."""
    spec, shape, write, border, seed = case
    net = seeded_net(spec, seed)
    image = noise(spec.in_channels, *shape, seed=seed)
    plan = plan_tiles(spec, shape, write, border)
    tiled = predict(net, image, plan, device="cpu")
    np.testing.assert_allclose(tiled, whole_output(net, image, border), rtol=0, atol=1e-5)


@st.composite
def cases_3d(draw):
    spec = draw(
        st.sampled_from(
            [
                UNetSpec(ndim=3, levels=1, convs=1, features=2),
                UNetSpec(ndim=3, levels=1, pool=3, convs=1, features=2),
                UNetSpec(ndim=3, levels=2, convs=1, features=2, padding="zero"),
                UNetSpec(ndim=3, levels=2, pool=((1, 2, 2), (2, 2, 2)), kernel=(1, 3, 3), convs=1, features=2),
            ]
        )
    )
    border = draw(st.sampled_from(["reflect", "valid"]))
    least = spec.input_size(spec.period) if border == "valid" else (2, 2, 2)
    shape = tuple(n + draw(st.integers(0, 12)) for n in least)
    return spec, shape, tuple(draw(st.integers(1, 3)) * p for p in spec.period), border, draw(st.integers(0, 1000))


@settings(quick, max_examples=20)
@given(cases_3d())
def test_stitched_blocks_equal_the_whole_stack(seeded_net, case):
    spec, shape, write, border, seed = case
    net = seeded_net(spec, seed)
    image = noise(1, *shape, seed=seed)
    tiled = predict(net, image, plan_tiles(spec, shape, write, border), device="cpu")
    np.testing.assert_allclose(tiled, whole_output(net, image, border), rtol=0, atol=1e-5)


@pytest.mark.parametrize("padding", ["valid", "zero"])
def test_four_levels_on_the_papers_image(seeded_net, padding):
    """Fig. 3c: 284 px in tiles of 16 px, l = 4."""
    spec = UNetSpec(levels=4, features=3, padding=padding)
    net, image = seeded_net(spec, 5), noise(1, 284, 284)
    plan = plan_tiles(spec, (284, 284), 48, "valid")
    np.testing.assert_allclose(predict(net, image, plan, device="cpu"), whole_output(net, image, "valid"), rtol=0, atol=1e-5)


def test_batch_norm_is_a_constant_at_test_time(seeded_net):
    spec = UNetSpec(levels=2, features=2, batch_norm=True)
    net, image = seeded_net(spec, 1), noise(1, 60, 45)
    net.train()  # predict must not use the statistics of a tile
    tiled = predict(net, image, plan_tiles(spec, (60, 45), 12), device="cpu")
    assert net.training
    np.testing.assert_allclose(tiled, whole_output(net.eval(), image, "reflect"), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("levels", "write"), [(1, 3), (2, 10), (3, 12), (3, 9), (4, 20)])
def test_tiles_off_the_lattice_differ_from_the_whole_image(seeded_net, levels, write):
    """Fig. 3b: raw outputs stitched at a stride that is no multiple of f^l; the first tile is still right."""
    spec = UNetSpec(levels=levels, features=3)
    net = seeded_net(spec, 7)
    shape = (spec.input_size(3 * write, 0),) * 2
    image = noise(1, *shape)
    plan = plan_tiles(spec, shape, write, "valid", allow_noncompliant=True)
    assert {v.rule for v in violations(plan)} == {"write-multiple"}
    tiled = predict(net, image, plan, device="cpu")
    # the whole image with the crop of the naive tiles
    whole = net(torch.from_numpy(image)[None])[0].numpy()
    crop = plan.origin[0] - spec.margin[0] // 2
    whole = whole[:, crop : crop + tiled.shape[1], crop : crop + tiled.shape[2]]
    spread = float(np.ptp(whole))
    first = (slice(None), slice(0, write), slice(0, write))
    assert np.abs(tiled[first] - whole[first]).max() < 1e-5
    assert np.abs(tiled - whole).max() > 1e-4 * spread


def test_too_little_context_is_not_repaired_by_the_tolerance(seeded_net):
    """Zero padding at the tiles' own borders, the mistake that `context` forbids, is far larger than rounding."""
    spec = UNetSpec(levels=2, features=3, padding="zero")
    net, image = seeded_net(spec, 2), noise(1, 64, 64)
    whole = net(torch.from_numpy(image)[None])[0]
    alone = net(torch.from_numpy(image)[None, :, :32, :32])[0]
    assert float((whole[:, :32, :32] - alone).abs().max()) > 1e-2 * float(whole.max() - whole.min())


def test_a_tile_size_other_than_in_training_changes_nothing(seeded_net):
    """> larger tiles can be used at inference: the output function of a pixel depends on its position modulo f^l alone."""
    spec = UNetSpec(levels=3, features=3)
    net, image = seeded_net(spec, 3), noise(1, 120, 96)
    results = [predict(net, image, plan_tiles(spec, (120, 96), write), device="cpu") for write in (8, 24, 64, 10**6)]
    assert max(np.abs(r - results[0]).max() for r in results) < 1e-5


def test_canonical_plans_give_equal_bits_whatever_was_wished(seeded_net):
    spec = UNetSpec(levels=2, features=3)
    net, image = seeded_net(spec, 3), noise(1, 230, 70)
    plans = [plan_tiles(spec, (230, 70), write).canonical() for write in (8, 52, 1000)]
    first, *others = (predict(net, image, plan, device="cpu") for plan in plans)
    assert all(np.array_equal(first, other) for other in others)


def test_tiles_on_every_device_equal_the_whole_image(seeded_net, device):
    spec = UNetSpec(levels=3, features=8)
    net, image = seeded_net(spec, 4), noise(1, 150, 130)
    tiled = predict(net, image, plan_tiles(spec, (150, 130), 40), device=device)
    np.testing.assert_allclose(tiled, whole_output(net, image, "reflect"), rtol=0, atol=1e-4)
    single = predict(net, image, plan_tiles(spec, (150, 130), 10**6), device=device)
    np.testing.assert_allclose(tiled, single, rtol=0, atol=1e-5)
