"""Tiles that break the rules on purpose."""

import pytest

from napari_shiftseg import UNetSpec, plan_tiles, violations
from napari_shiftseg.errors import SettingsError, TilingError
from napari_shiftseg.geometry import naive_plan

NETS = {
    "odd output": (UNetSpec(levels=3), "write-multiple"),
    "even output": (UNetSpec(levels=1, convs=1), "write-multiple"),
    "zero padding": (UNetSpec(levels=2, padding="zero"), "context"),
    "3D": (UNetSpec(ndim=3, levels=2), "write-multiple"),
}


@pytest.mark.parametrize("write", [64, 10**6])
@pytest.mark.parametrize(("spec", "rule"), NETS.values(), ids=NETS)
def test_naive_tiles_break_a_rule_on_each_axis(spec, rule, write):
    plan = plan_tiles(spec, (200,) * spec.ndim, write)
    made = naive_plan(plan)
    assert {v.axis for v in violations(made) if v.rule == rule} == set(range(spec.ndim))
    assert made.result_shape == plan.result_shape
    if rule == "write-multiple" and write == 64:
        natural = spec.output_size(spec.input_size(64, 0), 0)
        assert made.write[0] == (natural if natural % spec.period[0] else natural + spec.period[0] // 2)


def test_a_small_image_has_nothing_to_compare():
    with pytest.raises(TilingError, match="larger"):
        naive_plan(plan_tiles(UNetSpec(levels=3), (10, 10)))


@pytest.mark.parametrize("spec", [spec for spec, _ in NETS.values()], ids=NETS)
def test_tiles_off_the_lattice_keep_their_places(spec):
    plan = plan_tiles(spec, (200,) * spec.ndim, 32)
    made = naive_plan(plan, "shifted")
    assert {v.axis for v in violations(made) if v.rule == "lattice"} == set(range(spec.ndim))
    assert [tile.write for tile in made] == [tile.write for tile in plan]
    for tile in made:
        for axis, (read, keep) in enumerate(zip(tile.read, tile.keep, strict=True)):
            out = spec.output_size(read.stop - read.start, axis)  # raises where the network does not take it
            assert 0 <= keep.start < keep.stop <= out
            before, after = made.pad[axis]
            assert read.start >= 0 and read.stop <= before + 200 + after


def test_the_smallest_tiles_hold_one_period():
    assert naive_plan(plan_tiles(UNetSpec(levels=3), (200, 200), 64), "one period").write == (12, 12)


def test_an_unknown_way_is_refused():
    with pytest.raises(SettingsError, match="'uncropped'"):
        naive_plan(plan_tiles(UNetSpec(levels=3), (200, 200), 64), "askew")
