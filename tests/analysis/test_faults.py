"""Faults put in on purpose: which check finds which, and that none fires where there is no fault."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from napari_shiftseg import UNet, UNetSpec, plan_tiles, predict, violations
from napari_shiftseg.analysis import probe_period, seam_report, verify_tiling
from napari_shiftseg.geometry import TilePlan

VALID = UNetSpec(levels=2, features=3)
ZERO = UNetSpec(levels=2, features=3, padding="zero")
# axes of one size, of which one is pooled twice and the other once: only the period tells them apart
SQUARE = UNetSpec(levels=2, pool=((1, 2), (1, 2)), kernel=(1, 1), features=4)
SHAPE = (48, 48)
EDGE = 8


def unet(spec=VALID, seed=0):
    torch.manual_seed(seed)
    return UNet(spec).eval()


def texture(seed=0):
    """Smooth, as microscopy is: in white noise a jump at a seam could not be told from any other."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 2)
    return (field / field.std()).astype(np.float32)[None]


def shifted(plan, *, read=0, keep=0):
    """The same plan with the windows of every second tile per axis moved."""

    def moved(window, by):
        return slice(window.start + by, window.stop + by)

    axes = tuple(
        tuple((moved(r, read * (i % 2)), moved(k, keep * (i % 2)), w) for i, (r, k, w) in enumerate(axis)) for axis in plan.axes
    )
    pad = tuple((before, after + abs(read)) for before, after in plan.pad)
    return replace(plan, axes=axes, pad=pad)


def without_halo(plan):
    """Each tile reads only what it writes."""
    axes = tuple(tuple((w, slice(0, w.stop - w.start), w) for _, _, w in axis) for axis in plan.axes)
    return replace(plan, axes=axes)


class Normalised(nn.Module):
    """Subtracts the mean of whatever it is given."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x - x.mean())


class InstanceNorm(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net, self.norm = net, nn.InstanceNorm2d(net.spec.embedding_dim)

    def forward(self, x):
        return self.norm(self.net(x))


class Swapped(nn.Module):
    """Its axes are the wrong way round."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x.transpose(-1, -2)).transpose(-1, -2)


@dataclass(frozen=True)
class Training:
    window: tuple
    neighbours: bool = False
    inner: tuple | None = None


# of a padded network whose loss saw no zeros: up to 23 px are seen, so 24 px around the inner part
WITHOUT_ZEROS = Training((60, 60), inner=(12, 12))


@dataclass(frozen=True)
class Case:
    plan: TilePlan
    network: object
    window: tuple = (12, 12)


def plan_of(spec=VALID, edge=EDGE, **wishes):
    return plan_tiles(spec, SHAPE, edge, trained=WITHOUT_ZEROS if spec.padding == "zero" else None, **wishes)


def roomy(plan):
    """Tiles read one period more, so that there is room to shift the crop."""
    axes = tuple(tuple((slice(r.start, r.stop + 4), k, w) for r, k, w in axis) for axis in plan.axes)
    return replace(plan, axes=axes, pad=tuple((before, after + 4) for before, after in plan.pad))


def checks_that_fire(case, seed=0):
    """Names of the checks that find something wrong."""
    plan = case.plan
    fired = set()
    if violations(plan, WITHOUT_ZEROS if plan.spec.padding == "zero" else Training(case.window)):
        fired.add("violations")
    if not verify_tiling(case.network, texture(seed), plan).ok:
        fired.add("verify")
    if probe_period(case.network, spec=plan.spec, seed=seed).agrees is False:
        fired.add("probe")
    if isinstance(case.network, UNet) and seam_report(predict(case.network, texture(seed), plan), plan).exposed:
        fired.add("seams")
    return fired


FAULTS = {
    "stride off by one": (
        Case(plan_of(edge=9, allow_noncompliant=True), unet()),
        {"verify", "violations"},
    ),
    "crop shifted per tile": (Case(shifted(roomy(plan_of()), keep=1), unet()), {"verify", "violations"}),
    "normalised per tile": (Case(plan_of(), Normalised(unet())), {"verify", "probe"}),
    "instance norm": (Case(plan_of(), InstanceNorm(unet())), {"verify", "probe"}),
    "no context for zero padding": (
        Case(without_halo(plan_tiles(ZERO, SHAPE, EDGE)), unet(ZERO)),
        {"verify", "violations", "seams"},
    ),
    "wrong phase": (Case(shifted(roomy(plan_of()), read=-1, keep=1), unet()), {"verify", "violations"}),
    "tiles of another place": (Case(shifted(plan_of(), read=4), unet()), {"verify", "violations", "seams"}),
    "trained on windows of one period": (Case(plan_of(), unet(), (4, 4)), {"violations"}),
    "swapped axes": (Case(plan_of(SQUARE), Swapped(unet(SQUARE))), {"probe"}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_by_the_checks_that_can_see_it(name):
    case, found_by = FAULTS[name]
    assert checks_that_fire(case) == found_by


CORRECT = {
    "valid": UNetSpec(levels=1, features=3),
    "zero padding": UNetSpec(levels=1, features=2, padding="zero"),
    "fixed upsampling": UNetSpec(levels=1, features=3, upsampling="fixed"),
    "f3": UNetSpec(levels=1, features=2, pool=3, convs=1),
    "anisotropic": UNetSpec(levels=2, features=2, convs=1, pool=((1, 2), (2, 2))),
}


@pytest.mark.parametrize("spec", CORRECT.values(), ids=CORRECT)
def test_no_check_fires_where_there_is_no_fault(spec):
    """Ten networks, images and tile sizes each; fifty in all."""
    for seed in range(10):
        edge = tuple((2 + seed % 4) * period for period in spec.period)
        case = Case(plan_of(spec, edge, border=("reflect", "valid")[seed % 2]), unet(spec, seed))
        assert checks_that_fire(case, seed) == set(), f"seed {seed}"
