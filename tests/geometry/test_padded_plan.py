"""Plans of zero-padded networks as their training asks for: tiles that stand alone, or tiles that meet no zeros."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_shiftseg import UNetSpec, plan_tiles, violations
from napari_shiftseg.errors import TilingError
from napari_shiftseg.geometry import (
    NAIVE,
    choose_method,
    judge,
    naive_plan,
    plan_again,
    plan_part,
    smaller_plan,
)

SPEC = UNetSpec(levels=2, padding="zero")
quick = settings(max_examples=100, deadline=None, derandomize=True)


@dataclass(frozen=True)
class Training:
    window: tuple[int, ...]
    neighbours: bool = False
    inner: tuple[int, ...] | None = None


ALONE = Training((12, 20), neighbours=True)
# reach 23, so 24 px of whole periods see no zeros on either side
INNER = Training((60, 60), inner=(12, 12))


@st.composite
def line_plans(draw):
    """Plans along one axis, of both kinds."""
    levels, pool = draw(st.sampled_from([(0, 2), (1, 2), (2, 2), (3, 2), (1, 3), (2, 3)]))
    spec = UNetSpec(ndim=1, levels=levels, pool=pool, convs=draw(st.integers(1, 2)), padding="zero")
    (period,), (reach,) = spec.period, spec.reach
    border, edge = draw(st.sampled_from(["reflect", "valid"])), draw(st.integers(1, 5)) * period
    around = -(-reach // period) * period
    alone = draw(st.booleans())
    least = 1 if border == "reflect" else edge if alone else 2 * around + period
    size = least + draw(st.integers(0, 150))
    if alone:
        return plan_tiles(spec, (size,), None, border, trained=Training((edge,), neighbours=True))
    return plan_tiles(spec, (size,), edge, border, trained=Training((2 * around + 3 * period,), inner=(3 * period,)))


@quick
@given(line_plans())
def test_each_pixel_is_written_once_and_comes_from_where_it_lies(plan):
    image = np.arange(plan.image_shape[0])
    padded = np.pad(image, plan.pad[0], mode="reflect") if len(image) > 1 else np.zeros(1 + sum(plan.pad[0]), int)
    result = np.full(plan.result_shape, -1)
    for (read,), (keep,), (write,) in ((t.read, t.keep, t.write) for t in plan):
        assert read.start >= 0 and read.stop <= len(padded)
        plan.spec.output_size(read.stop - read.start, 0)  # passes the network
        assert (result[write] == -1).all()
        result[write] = padded[read][keep]
    np.testing.assert_array_equal(result, image[plan.origin[0] :][: len(result)])
    assert plan.border == "valid" or plan.result_shape == plan.image_shape
    assert plan.border == "reflect" or plan.pad == ((0, 0),), "no reflected pixel counts"


@quick
@given(line_plans())
def test_tiles_stand_alone_or_see_all_that_their_pixels_see(plan):
    for (read,), (keep,), (write,) in ((t.read, t.keep, t.write) for t in plan):
        if plan.zeros == "tile":
            assert (read.start, read.stop) == (write.start, write.start + plan.write[0]) and keep.start == 0
        else:
            assert min(keep.start, read.stop - read.start - keep.stop) >= plan.spec.reach[0]
    assert len({tile.read[0].start % plan.spec.period[0] for tile in plan}) == 1


@quick
@given(line_plans())
def test_the_record_of_a_plan_makes_the_same_plan(plan):
    assert plan_again(plan.spec, plan.to_dict()) == plan
    assert plan.resized(plan.write) == plan
    old = {key: value for key, value in plan.to_dict().items() if key != "zeros"}
    assert plan_again(plan.spec, old).zeros == "image", "files of older versions met zeros at the image's border"


@quick
@given(line_plans(), st.integers(0, 100), st.integers(1, 60))
def test_parts_read_and_keep_what_the_whole_plan_does(plan, start, length):
    (size,), (period,) = plan.result_shape, plan.spec.period
    start = min(start, size - 1) // period * period
    window = (slice(start, min(size, start + length)),)
    part = plan.within(window)
    assert {(t.read[0].start, t.keep[0].start) for t in part} <= {(t.read[0].start, t.keep[0].start) for t in plan}
    if plan.zeros == "tile":
        with pytest.raises(TilingError, match="stand alone"):
            plan_part(plan, window)
        return
    part = plan_part(plan, window)
    offset = part.origin[0] - plan.origin[0]
    shift = {t.read[0].start + t.keep[0].start - t.write[0].start for t in plan}
    assert {t.read[0].start + t.keep[0].start - t.write[0].start - offset for t in part} == shift
    assert all(min(t.keep[0].start, t.read[0].stop - t.read[0].start - t.keep[0].stop) >= plan.spec.reach[0] for t in part)


def test_an_image_that_is_no_multiple_of_the_window_is_filled_up_by_reflection():
    plan = plan_tiles(SPEC, (50, 7), trained=ALONE)
    assert (plan.write, plan.counts, plan.pad, plan.result_shape) == ((12, 20), (5, 1), ((0, 10), (0, 13)), (50, 7))
    assert plan.axes[0][-1] == (slice(48, 60), slice(0, 2), slice(48, 50))
    assert "each alone as in training" in plan.describe() and "halo" not in plan.describe()
    valid = plan_tiles(SPEC, (50, 45), border="valid", trained=ALONE)
    assert (valid.result_shape, valid.origin, valid.pad) == ((48, 40), (0, 0), ((0, 0), (0, 0)))
    with pytest.raises(TilingError, match="has 19 px; without reflection the network needs 20 px") as caught:
        plan_tiles(SPEC, (50, 19), border="valid", trained=ALONE)
    assert caught.value.nearest == (20,)


def test_other_tiles_than_those_of_the_training_are_refused_or_allowed_and_named():
    for wish in (16, (12, 24), (24, 20), 13, 10**6):
        with pytest.raises(TilingError, match="stood alone; use 12 x 20 px") as caught:
            plan_tiles(SPEC, (90, 90), wish, trained=ALONE)
        assert caught.value.nearest == (12, 20)
        allowed = plan_tiles(SPEC, (90, 90), wish, allow_noncompliant=True, trained=ALONE)
        assert allowed == plan_tiles(SPEC, (90, 90), wish, allow_noncompliant=True) and violations(allowed, ALONE) != ()
    for wish in (None, (12, 20), (12, np.int64(20))):
        assert plan_tiles(SPEC, (90, 90), wish, trained=ALONE).zeros == "tile"
    # one tile is what was trained where the image fits into one window
    assert plan_tiles(SPEC, (10, 18), 100, trained=ALONE) == plan_tiles(SPEC, (10, 18), trained=ALONE)
    with pytest.raises(TilingError, match="3 tile edges"):
        plan_tiles(SPEC, (90, 90), (12, 20, 4), trained=ALONE)


def test_neither_memory_nor_speed_changes_tiles_that_stand_alone():
    plan = plan_tiles(SPEC, (3000, 3000), memory=1, trained=ALONE)
    assert plan.write == (12, 20) and not plan.automatic
    assert plan.canonical() is plan and smaller_plan(plan) is None and choose_method(plan) is None
    with pytest.raises(TilingError, match="which they do at"):
        plan.resized((24, 20))


def test_what_meets_no_zeros_may_have_any_legal_size():
    plans = [plan_tiles(SPEC, (90, 70), write, trained=INNER) for write in (4, 32, None, 1000)]
    assert {plan.zeros for plan in plans} == {"nowhere"} and len({plan.counts for plan in plans}) > 2
    for plan in (*plans, plans[0].canonical(), smaller_plan(plan_tiles(SPEC, (900, 700), trained=INNER))):
        assert violations(plan, INNER) == () and judge(plan).tile_exact
        assert judge(plan, INNER).coverage.describe() == "16 of 16 functions, 32 of 32 pairs"
    with pytest.raises(TilingError, match="not a multiple of the period"):
        plan_tiles(SPEC, (90, 70), 13, trained=INNER)
    # at the image's own zeros functions run that no loss had
    for plan in (plan_tiles(SPEC, (90, 70), 32), plan_tiles(SPEC, (90, 70), 1000)):
        (found,) = violations(plan, INNER)
        assert found.rule == "padding" and "reflect the image" in found.message
        assert not judge(plan, INNER).coverage.complete


@pytest.mark.parametrize("tile", [0, -1])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("write", [32, 1000])
def test_one_pixel_less_than_is_seen_meets_zeros(tile, side, write):
    plan = plan_tiles(SPEC, (90, 70), write, trained=INNER)
    for around, kept in ((23, True), (22, False)):
        windows = list(plan.axes[0])
        read, keep, paste = windows[tile]
        size = keep.stop - keep.start
        before, after = (around, 40) if side == 0 else (40, around)
        start = read.start + keep.start - before
        windows[tile] = slice(start, start + before + size + after), slice(before, before + size), paste
        found = violations(replace(plan, axes=(tuple(windows), plan.axes[1])), INNER)
        assert bool({v.rule for v in found} & {"padding", "context"}) != kept


@pytest.mark.parametrize("trained", [ALONE, INNER])
@pytest.mark.parametrize("how", NAIVE)
@pytest.mark.parametrize("shape", [(90, 70), (96, 80)])  # the second one holds whole windows
def test_naive_tiles_break_a_rule_of_the_tiles(trained, how, shape):
    plan = plan_tiles(SPEC, shape, None if trained is ALONE else 16, trained=trained)
    naive = naive_plan(plan, how)
    assert {v.rule for v in violations(naive, trained)} & {"context", "lattice"}
    image = np.pad(np.arange(shape[0]), (plan.pad[0][0], 200), mode="reflect")
    for read, keep, write in naive.axes[0]:
        np.testing.assert_array_equal(image[read][keep], np.arange(shape[0])[write])


def test_the_training_of_a_valid_network_changes_no_plan():
    spec = UNetSpec(levels=2)
    for trained in (Training((8, 8)), Training((8, 8), neighbours=True)):
        assert plan_tiles(spec, (90, 70), 16, trained=trained) == plan_tiles(spec, (90, 70), 16)


@pytest.mark.parametrize("window", [(12,), (13, 12), (0, 12)])
def test_a_window_that_no_padded_network_can_have_is_named(window):
    trained = Training(window, neighbours=True)
    found = violations(plan_tiles(SPEC, (50, 50), trained=trained), trained)
    assert "training-window" in {v.rule for v in found}
