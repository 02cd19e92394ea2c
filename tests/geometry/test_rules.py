"""Each rule is broken once on purpose, and legal plans break none."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_shiftseg import UNetSpec, plan_tiles, violations

RULES = {"write-multiple", "lattice", "crop", "context", "padding", "training-window"}


@dataclass(frozen=True)
class Training:
    window: tuple[int, ...]
    neighbours: bool = False


def moved(window, by):
    return slice(window.start + by, window.stop + by)


def with_axis(plan, axis, windows):
    axes = list(plan.axes)
    axes[axis] = tuple(windows)
    return replace(plan, axes=tuple(axes))


def broken_write():
    return plan_tiles(UNetSpec(levels=4), (100, 100), (20, 16), allow_noncompliant=True), None


def broken_lattice():
    """Tiles of 8 px, read from places that are not 8 px apart."""
    plan = plan_tiles(UNetSpec(levels=3), (60, 8), 8)
    windows = [(moved(read, n), moved(keep, -n), write) for n, (read, keep, write) in enumerate(plan.axes[0])]
    return with_axis(plan, 0, windows), None


def broken_crop():
    """Every tile starts on the lattice, but one is pasted a pixel aside."""
    plan = plan_tiles(UNetSpec(levels=3), (60, 8), 8)
    windows = list(plan.axes[0])
    read, keep, write = windows[2]
    windows[2] = (read, moved(keep, 1), write)
    return with_axis(plan, 0, windows), None


def broken_context():
    """A padded network on tiles that end at what they write."""
    spec = UNetSpec(levels=3, padding="zero")
    plan = plan_tiles(spec, (64, 8), 16)
    windows = [(write, moved(write, -write.start), write) for _, _, write in plan.axes[0]]
    return with_axis(plan, 0, windows), Training((24, 24), neighbours=True)


def broken_padding():
    return UNetSpec(levels=3, padding="zero"), Training((24, 24))


def broken_window():
    return UNetSpec(levels=3), Training((8, 12))


CASES = {
    "write-multiple": (broken_write, [(0, 20, (16, 32))]),
    "lattice": (broken_lattice, [(0, 8, (8,))]),
    "crop": (broken_crop, [(0, 2, (2,))]),
    "context": (broken_context, [(0, 0, (51,))]),
    "padding": (broken_padding, [(None, "zero", ())]),
    "training-window": (broken_window, [(0, 8, (12,))]),
}


def test_every_rule_has_its_case():
    assert set(CASES) == RULES


@pytest.mark.parametrize("rule", CASES)
def test_a_broken_rule_is_named_with_its_axis_and_the_nearest_legal_values(rule):
    make, expected = CASES[rule]
    found = violations(*make())
    assert {v.rule for v in found} == {rule}
    assert [(v.axis, v.found, v.nearest) for v in found] == expected
    for v in found:
        assert v.message.endswith(".") and ("Rumberger et al. 2021" in v.source)
        assert all(str(n) in v.message for n in v.nearest if v.rule != "crop")


@st.composite
def legal_plans(draw):
    levels, pool = draw(st.sampled_from([(1, 2), (2, 2), (3, 2), (4, 2), (1, 3), (2, 3)]))
    spec = UNetSpec(levels=levels, pool=pool, padding=draw(st.sampled_from(["valid", "zero"])))
    border = draw(st.sampled_from(["reflect", "valid"]))
    least = spec.input_size(spec.period[0], 0) if border == "valid" else 1
    shape = [least + draw(st.integers(0, 200)) for _ in range(2)]
    return plan_tiles(spec, shape, [draw(st.integers(1, 6)) * p for p in spec.period], border)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(legal_plans())
def test_a_legal_plan_breaks_no_rule(plan):
    spec = plan.spec
    window = spec.output_size(spec.input_size(tuple(p + 1 for p in spec.period)))
    assert violations(plan, Training(window, neighbours=spec.padding == "zero")) == ()
    assert violations(spec, Training(window, neighbours=True)) == ()


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_the_training_window_must_exceed_the_period(levels):
    """> w > f^l: else some neighbouring output functions are never compared (Fig. 3a: w = 16 = f^l)."""
    spec = UNetSpec(levels=levels)
    period = 2**levels
    assert [v.axis for v in violations(spec, Training((period, period)))] == [0, 1]
    assert violations(spec, Training((period + 1, period + 1))) == ()
    (first, _) = violations(spec, Training((period, period)))
    (legal,) = first.nearest
    spec.output_size(legal + spec.margin[0], 0)  # is a legal output window
    assert violations(spec, Training((legal, legal))) == ()
    assert legal - 2**levels <= period


def test_directly_neighbouring_tiles_halve_the_window_that_is_needed():
    spec = UNetSpec(levels=4)
    assert violations(spec, Training((12, 12), neighbours=True)) == ()
    for window in (4, 8):
        (first, _) = violations(spec, Training((window, window), neighbours=True))
        assert first.nearest == (20,)
    assert violations(spec, Training((9, 9), neighbours=True)) == ()


def test_zero_padding_needs_a_training_that_vouches_for_it():
    spec = UNetSpec(levels=2, padding="zero")
    unknown, single = violations(spec), violations(spec, Training((12, 12)))
    assert "nothing says how it was trained" in unknown[0].message
    assert "trained on single tiles" in single[0].message and "3 directly neighbouring tiles" in single[0].message
    assert violations(spec, Training((12, 12), neighbours=True)) == ()


def test_a_training_window_of_other_dimension_is_named():
    (found,) = violations(UNetSpec(levels=2), Training((12,)))
    assert (found.rule, found.axis) == ("training-window", None)
    assert "2 axes" in found.message


def test_a_single_tile_has_no_seam_to_judge():
    plan = plan_tiles(UNetSpec(levels=4), (10, 40), 20, allow_noncompliant=True)
    assert [v.axis for v in violations(plan)] == [1]
