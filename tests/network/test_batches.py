"""Tiles that share a pass, as on a GPU: the same result as one by one, within the memory, and not in a deterministic run."""

from dataclasses import replace
from importlib import import_module
from itertools import product

import numpy as np
import pytest
import torch

from napari_shiftseg import UNetSpec, plan_tiles
from napari_shiftseg.events import drain
from napari_shiftseg.network import ConstantTiles, Device, predict_steps

tiles_module = import_module("napari_shiftseg.network.windows")
SPEC = UNetSpec(levels=1, features=3, in_channels=2, foreground=True)


class Overlapping:
    """Copies as on a GPU: a pass is started before the last one is fetched."""

    overlap = 1

    def __init__(self, device):
        pass

    def there(self, block):
        return torch.from_numpy(block)

    def back(self, y):
        kept = y.clone()
        return kept.numpy


def patches(shape=(84, 126), seed=0):
    """Two channels of large constant patches, which agree in one channel or the other, beside noise."""
    rng = np.random.default_rng(seed)
    image = np.empty((2, *shape), np.float32)
    for y, x in product(range(0, shape[0], 42), range(0, shape[1], 42)):
        image[:, y : y + 42, x : x + 42] = rng.choice([0.0, 0.5, 1.0], 2)[:, None, None]
    image[:, :20, -30:] = rng.random((2, 20, 30))
    return image


@pytest.fixture
def passes(monkeypatch):
    """`passes(size)` lets up to so many tiles share a pass; what it returns collects how many did."""
    once = tiles_module._one_pass

    def share(size):
        seen = []
        monkeypatch.setattr(tiles_module, "batch_size", lambda plan, device: size)
        monkeypatch.setattr(tiles_module, "_one_pass", lambda *given: seen.append(len(given[1])) or once(*given))
        return seen

    return share


def run(net, image, plan, **options):
    found = drain(predict_steps(net, image, plan, device="cpu", method="tiles", **options))
    return np.concatenate([found.embedding, found.foreground[None]])


@pytest.mark.parametrize("copies", ["at once", "later"])
@pytest.mark.parametrize("border", ["reflect", "valid"])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("write", [6, 12])
def test_shared_passes_with_constant_tiles_among_them_give_what_each_tile_gives(
    seeded_net, monkeypatch, passes, size, border, write, copies
):
    """Tiles of one value per channel are of several values here, several windows, and several of them in a pass."""
    net, image = seeded_net(SPEC), patches()
    plan = plan_tiles(SPEC, image.shape[1:], write, border)
    with monkeypatch.context() as alone:
        alone.setattr(ConstantTiles, "key", lambda self, pixels, keep: None)
        alone.setattr(tiles_module, "batch_size", lambda plan, device: 1)
        expected = run(net, image, plan)
    seen = passes(size)
    if copies == "later":
        monkeypatch.setattr(tiles_module, "Copies", Overlapping)
    found = run(net, image, plan)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    assert max(seen) <= size and sum(seen) < len(plan)  # some were constant, and known
    assert (max(seen) > 1) == (size > 1)


def test_what_is_known_of_constant_tiles_is_right_for_other_plans_too(seeded_net, passes):
    """Blocks of an image share it, and their tiles have other sizes."""
    net, known = seeded_net(SPEC), ConstantTiles()
    passes(3)
    for seed, write, border in product(range(2), (6, 12), ("valid", "reflect")):
        image = patches(seed=seed)
        plan = plan_tiles(SPEC, image.shape[1:], write, border)
        expected = run(net, image, plan, deterministic=True)
        np.testing.assert_allclose(run(net, image, plan, known=known), expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_constant_tiles_have_one_key_only_if_the_network_gives_one_output_for_them():
    """What differs in any of these differs in the output: a value of any channel, the read window's shape, the kept window."""
    first = {"values": (0.25, 0.5), "shape": (6, 8), "keep": ((1, 3), (0, 4))}
    others = {
        "values": [(0.5, 0.25), (0.25, 0.25), (0.5, 0.5), (-0.25, 0.5), (np.nextafter(np.float32(0.25), np.float32(1)), 0.5)],
        "shape": [(8, 6), (4, 12), (6, 10), (7, 8)],
        "keep": [((0, 3), (0, 4)), ((1, 4), (0, 4)), ((1, 3), (1, 4)), ((1, 3), (0, 5)), ((0, 4), (1, 3))],
    }
    empty, known = ConstantTiles(), {}

    def key(values, shape, keep):
        pixels = np.broadcast_to(np.array(values, np.float32)[:, None, None], (2, *shape)).copy()
        return empty.key(pixels, tuple(slice(*ends) for ends in keep))

    for name, changed in others.items():
        for value in changed:
            known[key(**{**first, name: value})] = (name, value)
    known[key(**first)] = ("first", None)
    assert None not in known and len(known) == 1 + sum(map(len, others.values()))
    assert key(**first) in known
    nearly = np.broadcast_to(np.array((0.25, 0.5), np.float32)[:, None, None], (2, 6, 8)).copy()
    for channel, place in product(range(2), (0, -1)):
        pixels = nearly.copy()
        pixels[channel].flat[place] += 0.1
        assert empty.key(pixels, (slice(1, 3), slice(0, 4))) is None


@pytest.mark.parametrize("size", [1, 8])
def test_a_deterministic_run_gives_each_tile_a_pass_of_its_own(seeded_net, passes, size):
    """In a batch, PyTorch may add in another order, and the bits of a tile would depend on the tiles beside it."""
    net = seeded_net(SPEC)
    image = np.random.default_rng(0).random((2, 60, 90), np.float32)
    plan = plan_tiles(SPEC, (60, 90), 10)
    seen = passes(size)
    run(net, image, plan, deterministic=True)
    assert seen == [1] * len(plan)


def test_a_batch_takes_a_quarter_of_the_memory_that_is_free_at_most():
    """The tiles before and after it, and what others take, have to fit as well."""
    several = set()
    for write, free in product((16, 64, 200), np.geomspace(1e6, 1e11, 40)):
        plan = plan_tiles(SPEC, (900, 900), write)
        device = Device(torch_device=torch.device("cuda"), kind="cuda", name="any", free=int(free))
        size, one = tiles_module.batch_size(plan, device), SPEC.peak_bytes(plan.read)
        assert size == 1 or size * one <= free / 4
        largest = min(8, max(1, (1 << 22) // (plan.read[0] * plan.read[1])))
        assert size == largest or (size + 1) * one > free / 4  # and no less than fits
        several.add(size)
    assert several >= {1, 2, 4, 8}
    unknown = replace(device, kind="mps", free=0)
    assert tiles_module.batch_size(plan_tiles(SPEC, (900, 900), 16), unknown) == 8
