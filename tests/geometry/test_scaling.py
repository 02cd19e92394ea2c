"""A network that runs on a scaled image has a lattice of its own, from integers alone."""

import json
from fractions import Fraction
from itertools import pairwise, product
from math import gcd, lcm

import pytest

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.geometry import (
    Lattice,
    Scaling,
    UNetSpec,
    as_lattice,
    judge,
    nearest_factor,
    plan_again,
    plan_tiles,
    scaled_lattice,
)
from napari_shiftseg.geometry.constants import FACTORS
from napari_shiftseg.network import ModelRecord

NETS = {
    "8": UNetSpec(levels=3, features=2).lattice,
    "16": UNetSpec(levels=4, features=2).lattice,
    "3": UNetSpec(levels=1, pool=3, features=2).lattice,
    "stated": Lattice(period=(4, 4), margin=(10, 10)),
    "padded": Lattice(period=(4, 4), reach=(9, 9)),
}


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
@pytest.mark.parametrize("factor", FACTORS)
def test_the_period_is_whole_pixels_of_both_and_a_tile_reads_enough(net, factor):
    steps, per = factor
    axis = Scaling(inner=net, factors=(factor, factor)).axes[0]
    assert Fraction(axis.period * steps, per) % net.period[0] == 0
    assert axis.period == lcm(net.period[0] * per, steps) // steps  # no smaller shift is
    assert axis.around * steps % per == 0  # a tile begins with a pixel of the network
    for write in (axis.period, 2 * axis.period, 7 * axis.period):
        first, count = axis.read(write)
        read = {at for pixel in (first, first + count - 1) for at, _ in axis.taps(pixel)}
        assert -axis.around <= min(read) and max(read) < write + axis.around
        start = first + axis.lost
        inner = count - (net.margin[0] if net.padding == "valid" else 2 * axis.lost)
        said = [at for pixel in (0, write - 1) for at, _ in axis.taps_back(pixel)]
        assert start <= min(said) and max(said) < start + inner and start % net.period[0] == 0
        if net.padding == "valid":
            net.output_size(count, 0)


@pytest.mark.parametrize("factor", FACTORS)
def test_resampling_keeps_constants_and_places(factor):
    """Of a ramp the area around a network pixel has the value at its centre, and interpolation leads back to the pixel."""
    steps, per = factor
    axis = Scaling(inner=NETS["8"], factors=(factor, factor)).axes[1]
    for pixel in range(-9, 9):
        for taps, at in ((axis.taps(pixel), Fraction((2 * pixel + 1) * per, 2 * steps) - Fraction(1, 2)),
                         (axis.taps_back(pixel), Fraction((2 * pixel + 1) * steps, 2 * per) - Fraction(1, 2))):  # fmt: skip
            assert sum(share for _, share in taps) == 1 and min(share for _, share in taps) > 0
            off = abs(sum(place * share for place, share in taps) - at)
            # pixels that lie in two areas count in each by the part that does, wherever their centre is
            assert off == 0 or (taps == axis.taps(pixel) and 1 < steps < per and off <= Fraction(1, 4))
        shifted = axis.taps(pixel + axis.period * steps // per)
        assert shifted == tuple((place + axis.period, share) for place, share in axis.taps(pixel))


def test_a_plan_of_it_goes_to_json_and_back_and_is_judged_by_its_training():
    spec = UNetSpec(levels=3, features=2)
    lattice = scaled_lattice(spec.lattice, ((1, 4), (3, 2)))
    plan = plan_tiles(lattice, (300, 200), (64, 48))
    values = json.loads(json.dumps(plan.to_dict()))
    assert lattice.period == (32, 16) and plan_again(None, values) == plan == plan_again(spec, values)
    assert as_lattice(json.loads(json.dumps(lattice.to_dict()))) == lattice
    # a period of the image along y is more than the window, one of the network less
    judged = judge(plan, ModelRecord(window=(12, 12)))
    assert judged.tile_exact and not judged.violations and judged.coverage == judge(spec, ModelRecord(window=(12, 12))).coverage
    short = judge(plan, ModelRecord(window=(4, 4)))
    assert {v.rule for v in short.violations} == {"training-window"}
    off = judge(plan_tiles(lattice, (300, 200), (60, 40), allow_noncompliant=True), ModelRecord(window=(12, 12)))
    assert not off.tile_exact and {v.nearest for v in off.violations if v.rule == "write-multiple"} == {(32, 64), (32, 48)}
    assert scaled_lattice(spec.lattice, ((2, 2), (1, 1))) is spec.lattice
    assert lattice.peak_bytes(plan.read) > spec.lattice.peak_bytes(lattice.scaling.read_shape(plan.read))


def test_factors_are_ratios_of_small_numbers_and_the_nearest_is_taken():
    assert all(gcd(*factor) == 1 and max(factor) <= 8 for factor in FACTORS)
    ratios = [steps / per for steps, per in FACTORS]
    assert ratios == sorted(ratios) and max(b / a for a, b in pairwise(ratios)) < 1.34
    for wanted in (1e-9, 0.1, 0.7, 0.99, 1.19, 3.3, 1e9):
        distances = {pair: abs(Fraction(*pair) / Fraction(wanted)) for pair in FACTORS}
        best = min(distances, key=lambda pair: max(distances[pair], 1 / distances[pair]))
        assert nearest_factor(wanted) == best
    with pytest.raises(SettingsError, match="a number above 0"):
        nearest_factor(0)
    for factors in (
        ((1, 0), (1, 1)),
        ((1, 2),),
        ((-1, 2), (1, 2)),
        ((1, 65), (1, 2)),
        ((1, 2), (10**12, 1)),
        ((1.0, 2), (1, 2)),
    ):
        with pytest.raises(SettingsError, match="whole numbers"):
            Scaling(inner=NETS["8"], factors=factors)


def test_tiles_are_as_large_for_the_network_as_without_scale():
    """A canonical tile of a strongly shrunk image is not one of a few network pixels, of which most would be context."""
    for (steps, per), net in product(((1, 8), (1, 4), (4, 1)), (NETS["8"], NETS["16"])):
        plan = plan_tiles(scaled_lattice(net, ((steps, per),) * 2), (9000, 9000), memory=1 << 40)
        native = plan_tiles(net, (9000, 9000), memory=1 << 40)
        for scaled, own in ((plan, native), (plan.canonical(), native.canonical())):
            assert scaled.write[0] * steps / per == pytest.approx(own.write[0], rel=0.35)
