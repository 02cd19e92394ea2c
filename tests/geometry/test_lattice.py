"""A lattice is all that a plan needs of a network, stated or from a spec."""

import json
from contextlib import nullcontext
from dataclasses import replace

import pytest

from napari_shiftseg import Lattice, UNetSpec, plan_tiles, violations
from napari_shiftseg.errors import SettingsError, SizeError
from napari_shiftseg.geometry import (
    as_lattice,
    choose_method,
    coverage,
    judge,
    naive_plan,
    network_cost,
    plan_again,
    plan_part,
    plan_stream,
    smaller_plan,
)

SPECS = {
    "valid": UNetSpec(),
    "deep": UNetSpec(levels=4, convs=1, in_channels=3),
    "unequal": UNetSpec(levels=2, pool=((1, 2), (2, 3))),
    "padded": UNetSpec(levels=2, padding="zero"),
    "volume": UNetSpec(ndim=3, levels=2, pool=((1, 2, 2), (2, 2, 2)), features=4),
    "flat": UNetSpec(levels=0),
}


def stated(spec):
    """What a stranger would say of the network: its numbers, and nothing of its layers."""
    return replace(spec.lattice, spec=None)


@pytest.fixture(params=SPECS.values(), ids=SPECS)
def spec(request):
    return request.param


@pytest.mark.parametrize("border", ["reflect", "valid"])
def test_a_stated_lattice_gives_the_windows_that_the_spec_gives(spec, border):
    shape = (210, 190, 130)[: spec.ndim]
    write = tuple(3 * period for period in spec.period)
    ours, theirs = (plan_tiles(network, shape, write, border) for network in (spec, stated(spec)))
    assert list(ours) == list(theirs)
    assert (ours.pad, ours.origin, ours.seams(), ours.grid()) == (theirs.pad, theirs.origin, theirs.seams(), theirs.grid())
    window = tuple(slice(period, 4 * period) for period in spec.period)
    assert list(plan_part(ours, window)) == list(plan_part(theirs, window))
    assert list(ours.canonical()) == list(theirs.canonical())
    assert [r.verdict for r in judge(ours).rulings] == [r.verdict for r in judge(theirs).rulings]
    assert violations(spec) == violations(stated(spec))


def test_sizes_of_a_stated_lattice_are_those_of_the_spec(spec):
    lattice = stated(spec)
    for edge in range(1, 70):
        assert lattice.input_size((edge,) * spec.ndim) == spec.input_size((edge,) * spec.ndim)
        legal = edge >= lattice.smallest[0] and (edge - lattice.smallest[0]) % spec.period[0] == 0
        with nullcontext() if legal else pytest.raises(SizeError):
            assert lattice.output_size(edge, 0) == edge - spec.margin[0]


def test_a_plan_remembers_its_lattice_in_json(spec):
    write = tuple(4 * period for period in spec.period)
    for network in (spec, stated(spec)):
        plan = plan_tiles(network, (150,) * spec.ndim, write)
        written = json.loads(json.dumps(plan.to_dict()))
        assert plan_again(None, written) == plan == plan_again(network, written)
        assert plan_again(None, written).lattice == as_lattice(network)


def test_costs_of_a_stated_lattice_are_by_the_pixel_and_those_of_a_spec_counted(spec):
    lattice = stated(spec)
    read = spec.input_size((64,) * spec.ndim)
    pixels = 1
    for edge in read:
        pixels *= edge
    assert lattice.flops(read) == pytest.approx(spec.flops_per_pixel * pixels)
    assert spec.lattice.flops(read) == spec.flops(read)
    assert spec.lattice.peak_bytes(read, 2) == spec.peak_bytes(read, 2)
    assert lattice.peak_bytes(read, 2) == pytest.approx(lattice.peak_bytes(read) / 2)
    plan = plan_tiles(lattice, (300,) * spec.ndim, tuple(4 * p for p in spec.period))
    assert plan.redundancy >= 1


def test_the_default_costs_are_those_of_the_network_that_they_name():
    spec, lattice = UNetSpec(levels=4, features=64, embedding_dim=8), Lattice(period=(16, 16), margin=(184, 184))
    assert lattice.flops_per_pixel == pytest.approx(network_cost(spec).flops, rel=0.05)
    assert lattice.bytes_per_pixel == pytest.approx(spec.lattice.bytes_per_pixel, rel=0.01)


def test_a_tile_of_a_stated_lattice_fits_the_memory_and_gives_way_to_smaller_ones():
    lattice = Lattice(period=(16, 16), reach=(60, 60), bytes_per_pixel=4000)
    plan = plan_tiles(lattice, (3000, 2000), memory=200 << 20)
    assert lattice.peak_bytes(plan.read) <= 200 << 20
    smaller = smaller_plan(plan)
    assert lattice.peak_bytes(smaller.read) <= lattice.peak_bytes(plan.read) / 2


def test_only_layers_that_are_known_can_be_streamed():
    plan = plan_tiles(stated(UNetSpec()), (900, 900))
    assert choose_method(plan) is None
    with pytest.raises(SettingsError, match="layers of its network are not known"):
        choose_method(plan, "stream")
    with pytest.raises(SettingsError, match="layers of its network are not known"):
        plan_stream(plan)
    with pytest.raises(SettingsError, match="layers are not known"):
        plan.spec  # noqa: B018


def test_naive_tiles_break_the_rules_of_a_stated_lattice_too():
    for network in (stated(SPECS["valid"]), stated(SPECS["padded"])):
        assert violations(naive_plan(plan_tiles(network, (300, 300), 96)))


def test_defaults_follow_from_what_is_stated():
    valid = Lattice(period=(8, 4), margin=(40, 20))
    assert (valid.padding, valid.smallest, valid.reach) == ("valid", (48, 24), (27, 13))
    assert Lattice(period=8, margin=40) == Lattice(ndim=2, period=(8, 8), margin=[40, 40])
    padded = Lattice(ndim=3, period=(2, 4, 4), reach=(9, 20, 20))
    assert (padded.padding, padded.smallest, padded.margin) == ("zero", (2, 4, 4), (0, 0, 0))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"period": (8,) * 3}, "period is"),
        ({"period": 0, "reach": 1}, "period is 0"),
        ({"period": 2.5}, "period is 2.5"),
        ({"period": "88"}, "period is"),
        ({"period": None}, "period is None"),
        ({"period": 8}, "no reach was given"),
        ({"period": 8, "margin": -2}, "margin is -2"),
        ({"period": 8, "margin": 40, "smallest": 40}, "smallest is 40 px"),
        ({"period": 8, "margin": 40, "padding": "zero", "reach": 30}, "padded network has a margin of 40 px"),
        ({"period": 8, "reach": 30, "smallest": 12}, "multiple of the period 8 px"),
        ({"period": 8, "reach": 30, "padding": "reflect"}, "padding is 'reflect'"),
        ({"period": 8, "reach": 30, "ndim": 4}, "ndim is 4"),
        ({"period": 8, "reach": 30, "in_channels": 0}, "in_channels is 0"),
        ({"period": 8, "reach": 30, "flops_per_pixel": 0}, "flops_per_pixel is 0"),
        ({"period": 8, "reach": 30, "bytes_per_pixel": float("nan")}, "bytes_per_pixel is nan"),
    ],
)
def test_what_describes_no_network_is_refused_in_a_sentence(values, says):
    with pytest.raises(SettingsError, match=says):
        Lattice(**values)


def test_what_is_no_lattice_is_refused_at_the_door():
    for wrong in (None, 8, "nuclei", object()):
        with pytest.raises(SettingsError, match="give a Lattice or a UNetSpec"):
            plan_tiles(wrong, (100, 100))
    with pytest.raises(SettingsError, match="does not fit this version"):
        as_lattice({"period": [8, 8], "stride": 2})


@pytest.mark.parametrize("spec", [spec for spec in SPECS.values() if spec.padding == "valid"])
def test_trainings_are_judged_by_a_stated_lattice(spec):
    class Training:
        window, neighbours = tuple(p + 1 for p in spec.period), False

    assert coverage(spec, Training) == coverage(stated(spec), Training) == judge(stated(spec), Training).coverage


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"period": 4, "grid_phase": 4}, "grid_phase is 4 px on axis 0, and the grid has a boundary every 4 px; give 0 to 3"),
        ({"period": (4, 2), "grid_phase": (3, 2)}, "grid_phase is 2 px on axis 1, .* give 0 to 1"),
        ({"period": 1, "grid_phase": 1}, "give 0 to 0"),
        ({"period": 4, "grid_phase": -1}, "grid_phase is -1; give 2 whole pixels"),
        ({"period": 4, "spec": 3}, "spec is 3; give the UNetSpec of the network, or None"),
        ({"period": 4, "spec": "nuclei"}, "spec is 'nuclei'; give the UNetSpec"),
        ({"period": 4, "spec": {"levels": 2}}, "give the UNetSpec"),
    ],
)
def test_what_describes_no_grid_and_no_network_is_refused(values, says):
    with pytest.raises(SettingsError, match=says):
        Lattice(**{"margin": 40, **values})
    assert Lattice(margin=40, period=(4, 2), grid_phase=(3, 1)).grid_phase == (3, 1)
