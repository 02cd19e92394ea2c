"""Each rule is broken once on purpose, and legal plans break none."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_shiftseg import UNetSpec, plan_tiles, violations
from napari_shiftseg.geometry import coverage, judge, rules

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


@pytest.mark.parametrize("rule", CASES)
def test_a_run_is_judged_once_and_everything_is_read_off_that(rule, monkeypatch):
    checked, judged = [], rules._Rule.ruling
    monkeypatch.setattr(rules._Rule, "ruling", lambda row, case: checked.append(row.name) or judged(row, case))
    run, trained = CASES[rule][0]()
    found = judge(run, trained)
    assert checked == [ruling.rule for ruling in found.rulings] and set(checked) <= RULES
    assert found.violations == tuple(v for ruling in found.rulings for v in ruling.broken) == violations(run, trained) != ()
    if not isinstance(run, UNetSpec):
        assert found.tile_exact == judge(run).tile_exact == (rule in {"padding", "training-window"})
        assert {ruling.rule for ruling in found.rulings} == RULES


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
    trained = Training(window, neighbours=spec.padding == "zero")
    assert violations(spec, trained) == ()
    # a padded network runs on the tiles of its training, and on no others
    own = plan if spec.padding == "valid" else plan_tiles(spec, plan.image_shape, trained=trained)
    assert violations(own, trained) == ()
    assert {v.rule for v in violations(plan, trained)} == ({"padding"} if own.axes != plan.axes else set())


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


@pytest.mark.parametrize(
    ("values", "window", "counts"),
    [
        ({"levels": 3, "convs": 3}, 6, (36, 64, 60, 128)),
        ({"levels": 1, "pool": 3}, 2, (4, 9, 4, 18)),
        ({"levels": 4}, 4, (16, 256, 24, 512)),
        ({"levels": 4}, 12, (144, 256, 264, 512)),
        ({"levels": 3, "ndim": 3}, 4, (64, 512, 144, 1536)),
    ],
)
def test_directly_neighbouring_valid_tiles_add_no_function(values, window, counts):
    """Each tile passes the network on its own: its neighbour repeats its functions, and does not go on with the next ones."""
    spec = UNetSpec(**values)
    trained = Training((window,) * spec.ndim, neighbours=True)
    count = coverage(spec, trained)
    assert (count.functions, count.of_functions, count.pairs, count.of_pairs) == counts
    found = violations(spec, trained)
    assert [v.axis for v in found] == list(range(spec.ndim)) and {v.rule for v in found} == {"training-window"}
    (legal,) = found[0].nearest
    assert spec.output_size(spec.input_size(legal, 0), 0) == legal
    assert violations(spec, Training((legal,) * spec.ndim, neighbours=True)) == ()


def test_neighbours_add_the_pair_at_the_seam_where_the_window_is_the_period():
    """The next tile then starts with the function that follows: with w = f^l all pairs meet, which a single window lacks."""
    spec = UNetSpec(levels=2)
    assert violations(spec, Training((4, 4), neighbours=True)) == ()
    assert [v.nearest for v in violations(spec, Training((4, 4)))] == [(8,), (8,)]
    assert coverage(spec, Training((4, 4))).describe() == "16 of 16 functions, 24 of 32 pairs"


def test_an_axis_without_pooling_has_one_function_that_neighbours_itself():
    spec = UNetSpec(ndim=3, levels=1, pool=((1, 2, 2),))
    assert [v.axis for v in violations(spec, Training((1, 4, 4)))] == [0]
    assert violations(spec, Training((2, 4, 4))) == ()


def test_pairs_that_meet_at_seams_off_the_lattice_alone_are_counted_and_not_trained():
    found = judge(plan_tiles(UNetSpec(), (100, 100), 20, allow_noncompliant=True), Training((20, 20)))
    assert found.coverage.describe() == "64 of 64 functions, 128 of 144 pairs"
    assert [ruling.verdict for ruling in found.rulings[:5]] == ["FAIL", "FAIL", "pass", "pass", "pass"]


PADDED = UNetSpec(levels=2, padding="zero")
NEIGHBOURS = Training((12, 20), neighbours=True)


def test_a_padded_network_runs_as_it_was_trained_or_says_that_it_does_not():
    """> with zero padding, d+1 directly neighbouring tiles: of tiles with their own zeros, and of no others"""
    plan = plan_tiles(PADDED, (50, 60), trained=NEIGHBOURS)
    assert violations(plan, NEIGHBOURS) == ()
    assert judge(plan, NEIGHBOURS).coverage.describe() == "240 of 240 functions, 480 of 480 pairs"
    assert not judge(plan).tile_exact and not judge(plan, NEIGHBOURS).tile_exact
    for other in (
        plan_tiles(PADDED, (50, 60)),
        plan_tiles(PADDED, (50, 60), (12, 20)),
        plan_tiles(PADDED, (50, 60), 1000),
        plan_tiles(PADDED, (50, 60), (12, 40), allow_noncompliant=True, trained=NEIGHBOURS),
    ):
        (found,) = violations(other, NEIGHBOURS)
        assert (found.rule, found.nearest) == ("padding", (12, 20)) and "12 x 20 px" in found.message
        assert judge(other).tile_exact and not judge(other, NEIGHBOURS).coverage.complete
    # as trained for one training is not as trained for another
    for trained in (Training((20, 12), neighbours=True), Training((12, 40), neighbours=True), Training((12, 20))):
        assert violations(plan, trained) != ()


def test_tiles_that_only_look_as_trained_are_none():
    plan = plan_tiles(PADDED, (48, 20), trained=NEIGHBOURS)
    read, keep, write = plan.axes[0][1]
    for windows in (
        (plan.axes[0][0], (moved(read, 4), keep, write), *plan.axes[0][2:]),  # off its place
        (plan.axes[0][0], (slice(read.start, read.stop + 4), keep, write), *plan.axes[0][2:]),  # larger
        (plan.axes[0][0], (read, slice(0, 11), slice(write.start, write.stop - 1)), *plan.axes[0][2:]),  # cut
    ):
        assert violations(with_axis(plan, 0, windows), NEIGHBOURS) != ()


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_context_is_enough_from_the_very_pixel_on_that_a_pixel_sees(levels, side):
    spec = UNetSpec(levels=levels, padding="zero")
    plan, (reach, _) = plan_tiles(spec, (40 * spec.period[0], 8), 8 * spec.period[0]), spec.reach
    number = len(plan.axes[0]) // 2
    for around, enough in ((reach, True), (reach - 1, False), (reach + 1, True), (0, False)):
        _, keep, write = plan.axes[0][number]
        ends = [around if s == side else 4 * reach for s in (0, 1)]
        size = keep.stop - keep.start
        windows = list(plan.axes[0])
        windows[number] = slice(write.start - ends[0], write.stop + ends[1]), slice(ends[0], ends[0] + size), write
        found = [v for v in violations(with_axis(plan, 0, windows)) if v.rule == "context"]
        assert (found == []) == enough
        assert all((v.found, v.nearest) == (around, (reach,)) for v in found)


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
