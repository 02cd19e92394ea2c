"""Tiles against one pass: equal for every correct plan, whatever part of it is compared."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from napari_shiftseg import UNet, UNetSpec, plan_tiles
from napari_shiftseg.analysis import verify_steps, verify_tiling
from napari_shiftseg.errors import ModelError, SettingsError
from napari_shiftseg.events import Stage, TileDone
from napari_shiftseg.network import Limits, Model, ModelRecord

SPECS = {
    "l2": UNetSpec(levels=2, features=2),
    "l3": UNetSpec(levels=3, features=2),
    "f3": UNetSpec(levels=2, pool=3, features=2, convs=1),
    "zero padding": UNetSpec(levels=2, features=2, padding="zero"),
    "anisotropic": UNetSpec(levels=2, pool=((1, 2), (2, 2)), features=2),
    "foreground": UNetSpec(levels=1, features=2, foreground=True),
    "1D": UNetSpec(ndim=1, levels=3, features=2),
    "3D": UNetSpec(ndim=3, levels=1, features=1),
}


def unet(spec, seed=0):
    torch.manual_seed(seed)
    return UNet(spec).eval()


def noise(shape, seed=0):
    return np.random.default_rng(seed).random((1, *shape), dtype=np.float32)


@pytest.mark.parametrize("border", ["reflect", "valid"])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("part", [False, True], ids=["whole", "part"])
def test_tiles_of_whole_periods_equal_one_pass(spec, border, part):
    """> crop output tiles to some n * f^l before stitching: then tiles equal the whole image's output"""
    extra = spec.margin if border == "valid" else (0,) * spec.ndim
    shape = tuple(5 * period + 3 + more for period, more in zip(spec.period, extra, strict=True))
    plan = plan_tiles(spec, shape, tuple(2 * period for period in spec.period), border)
    most = int(np.prod([2 * period for period in spec.period])) if part else 1 << 22
    check = verify_tiling(unet(spec), noise(shape), plan, max_pixels=most)
    assert check.ok and check.max_difference < 1e-5 and check.first is None
    assert check.whole is not part
    assert check.compared == (2**spec.ndim if part else len(plan))
    assert "equal one pass" in check.text


def test_the_first_differing_tile_and_the_worst_pixel_are_named():
    spec = SPECS["l3"]
    plan = plan_tiles(spec, (60, 60), 12, allow_noncompliant=True)
    check = verify_tiling(unet(spec), noise((60, 60)), plan)
    assert not check.ok and check.first.write == (slice(0, 12), slice(12, 24))
    assert all(0 <= p < 60 for p in check.where)
    # tiles whose offset is a multiple of 8 are in phase: indices 0, 2, 4 on each axis
    assert check.differing == 25 - 9
    assert "16 of 25 tiles differ" in check.text and "(0, 12)" in check.text


def test_a_window_of_a_large_result_lies_across_seams_and_runs_only_its_tiles():
    spec = SPECS["l2"]
    plan = plan_tiles(spec, (400, 400), 40)
    events = []
    check = verify_tiling(unet(spec), noise((400, 400)), plan, max_pixels=900, on_event=events.append)
    assert check.ok and check.compared == 4 and not check.whole
    for axis, window in enumerate(check.window):
        assert any(window.start < p < window.stop for p in plan.seams()[axis])
    assert sum(isinstance(e, TileDone) for e in events) == 4 + 1
    assert [e.text for e in events if isinstance(e, Stage)] == ["tiles", "one pass"]


def test_the_generator_gives_the_check_at_its_end():
    spec = SPECS["l2"]
    plan = plan_tiles(spec, (20, 20), 8)
    steps = verify_steps(unet(spec), noise((20, 20)), plan)
    assert isinstance(next(steps), Stage)
    steps.close()  # cancelling is not asking for the next event


def test_one_tile_leaves_nothing_to_compare():
    spec = SPECS["l2"]
    check = verify_tiling(unet(spec), noise((20, 20)), plan_tiles(spec, (20, 20), 100))
    assert check.ok and check.compared == 1 and "nothing to compare" in check.text


def test_the_models_own_normalisation_is_of_the_whole_image():
    spec = SPECS["l2"]
    model = Model(spec=spec, module=unet(spec), record=ModelRecord(window=(24, 24)))
    image = noise((60, 60)) * np.linspace(0, 5, 60, dtype=np.float32)
    plan = plan_tiles(spec, (60, 60), 8)
    for wish in ("global", "none", Limits(low=(0.0,), high=(2.0,))):
        assert verify_tiling(model, image, plan, normalisation=wish).ok


def test_any_callable_can_be_verified():
    spec = SPECS["l2"]
    net = unet(spec)
    assert verify_tiling(lambda x: net(x), noise((30, 30)), plan_tiles(spec, (30, 30), 8)).ok


def test_a_constant_output_of_zero_is_equal():
    spec = SPECS["l2"]
    net = unet(spec)
    nn.init.zeros_(net.head.weight)
    assert verify_tiling(net, noise((30, 30)), plan_tiles(spec, (30, 30), 8)).max_difference == 0


def test_nan_in_the_output_is_a_difference():
    spec = SPECS["l2"]

    def broken(x):
        return unet(spec)(x) * (torch.nan if x.shape[-1] > 60 else 1)

    assert not verify_tiling(broken, noise((30, 30)), plan_tiles(spec, (30, 30), 8)).ok


@pytest.mark.parametrize(
    ("network", "wishes", "error", "says"),
    [
        (lambda x: x, {}, ModelError, "the lattice states"),
        (nn.Conv2d(7, 1, 1), {}, ModelError, "does not take an input"),
        ("nuclei", {}, ModelError, "give a Model"),
        (None, {"max_pixels": 1}, SettingsError, "two periods per axis"),
        (None, {"tolerance": 0}, SettingsError, "positive"),
        (None, {"normalisation": "tile"}, SettingsError, "'global'"),
    ],
    ids=["shape", "channels", "name", "max_pixels", "tolerance", "normalisation"],
)
def test_bad_input_gets_one_sentence(network, wishes, error, says):
    spec = SPECS["l2"]
    with pytest.raises(error, match=says):
        verify_tiling(network or unet(spec), noise((30, 30)), plan_tiles(spec, (30, 30), 8), **wishes)


def test_a_plan_may_leave_the_first_tile_moved_back():
    """The last tile of a plan moves back by whole periods; a window of it alone must undo that."""
    spec = SPECS["l3"]
    plan = plan_tiles(spec, (40, 40), 16)
    last = replace(plan, axes=tuple(axis[1:] for axis in plan.axes))
    shifted = replace(
        last,
        axes=tuple(tuple((r, k, slice(w.start - 16, w.stop - 16)) for r, k, w in axis) for axis in last.axes),
        result_shape=(24, 24),
        origin=(16, 16),
    )
    assert any(k.start >= 8 for _, k, _ in plan.axes[0])
    assert verify_tiling(unet(spec), noise((40, 40)), shifted).ok
