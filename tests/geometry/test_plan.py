"""Tile plans: every result pixel once, reads inside the padded image, one phase for all tiles."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_shiftseg import UNetSpec, plan_tiles
from napari_shiftseg.errors import TilingError
from napari_shiftseg.geometry import Pass, TilePlan

quick = settings(max_examples=150, deadline=None, derandomize=True)

BORDERS = pytest.mark.parametrize("border", ["reflect", "valid"])


def specs(ndim=1, padding=("valid", "zero")):
    """Networks whose period is at most 27 px."""
    return st.builds(
        lambda levels, pool, **rest: UNetSpec(ndim=ndim, levels=min(levels, 3 if pool == 3 else 4), pool=pool, **rest),
        levels=st.integers(0, 4),
        pool=st.sampled_from([2, 3]),
        kernel=st.sampled_from([1, 3, 5]),
        convs=st.integers(1, 3),
        decoder_convs=st.sampled_from([None, 1]),
        head_kernel=st.sampled_from([1, 3]),
        padding=st.sampled_from(padding),
    )


@st.composite
def line_plans(draw, padding=("valid", "zero")):
    """Legal plans along one axis; 2D and 3D plans are products of them."""
    spec = draw(specs(padding=padding))
    border = draw(st.sampled_from(["reflect", "valid"]))
    least = spec.input_size(spec.period[0], 0) if border == "valid" else 1
    size = least + draw(st.integers(0, 300))
    write = draw(st.integers(1, 8)) * spec.period[0]
    return plan_tiles(spec, (size,), write, border)


def edges(windows):
    return tuple(s.stop - s.start for s in windows)


@quick
@given(line_plans())
def test_writes_cover_every_result_pixel_exactly_once(plan):
    covered = np.zeros(plan.result_shape, int)
    for tile in plan:
        covered[tile.write] += 1
    assert (covered == 1).all()


@quick
@given(line_plans())
def test_reads_are_legal_inputs_inside_the_padded_image(plan):
    padded = [before + size + after for size, (before, after) in zip(plan.image_shape, plan.pad, strict=True)]
    for tile in plan:
        assert all(s.start >= 0 and s.stop <= n for s, n in zip(tile.read, padded, strict=True))
        out = plan.spec.output_size(edges(tile.read))
        assert all(s.start >= 0 and s.stop <= n for s, n in zip(tile.keep, out, strict=True))
        assert edges(tile.keep) == edges(tile.write)


@quick
@given(line_plans())
def test_tiles_have_one_phase_and_one_crop(plan):
    """> crop output tiles of size != n * f^l to some n * f^l before stitching: all starts agree modulo f^l."""
    (period,) = plan.spec.period
    assert plan.write[0] % period == 0
    assert len({tile.read[0].start % period for tile in plan}) == 1
    assert len({tile.read[0].start + tile.keep[0].start - tile.write[0].start for tile in plan}) == 1
    assert all(tile.write[0].start % period == 0 for tile in plan)
    assert all(seam % period == 0 for seam in plan.seams()[0])


@quick
@given(line_plans())
def test_a_network_that_copies_its_input_gives_the_image_back(plan):
    """Each pixel lands where it came from: a centre crop stands for the network."""
    image = np.arange(1, plan.image_shape[0] + 1)
    padded = np.pad(image, plan.pad[0], mode="reflect") if len(image) > 1 else np.pad(image, plan.pad[0], mode="edge")
    result = np.zeros(plan.result_shape, int)
    for tile in plan:
        margin = plan.spec.margin[0] // 2
        block = padded[tile.read]
        result[tile.write] = block[margin : len(block) - margin][tile.keep]
    origin = plan.origin[0]
    np.testing.assert_array_equal(result, image[origin : origin + len(result)])
    if plan.border == "reflect":
        assert plan.result_shape == plan.image_shape


@quick
@given(line_plans(padding=("valid",)))
def test_without_reflection_less_than_two_periods_are_lost(plan):
    if plan.border == "valid":
        assert plan.pad == ((0, 0),)
        possible = plan.image_shape[0] - plan.spec.margin[0]
        assert 0 <= possible - plan.result_shape[0] < 2 * plan.spec.period[0]


@quick
@given(line_plans(), st.integers(1, 40))
def test_the_grid_does_not_depend_on_the_tile_size(plan, periods):
    other = plan_tiles(plan.spec, plan.image_shape, periods * plan.spec.period[0], plan.border)
    assert (other.grid_phase(), other.grid(), other.origin) == (plan.grid_phase(), plan.grid(), plan.origin)
    assert other.result_shape == plan.result_shape


@quick
@given(specs(), st.integers(1, 300), st.integers(1, 60))
def test_a_bad_write_names_legal_ones(spec, size, write):
    (period,) = spec.period
    if write % period == 0 or write >= size:
        return
    with pytest.raises(TilingError, match=f"{write} px on axis 0 is not a multiple of the period {period} px") as caught:
        plan_tiles(spec, (size,), write)
    nearest = caught.value.nearest
    assert nearest and all(abs(n - write) < period and plan_tiles(spec, (size,), n) for n in nearest)
    assert plan_tiles(spec, (size,), write, allow_noncompliant=True).write == (write,)


@quick
@given(specs(padding=("valid",)), st.integers(0, 200), st.integers(1, 100), st.sampled_from(["reflect", "valid"]))
def test_noncompliant_plans_also_paste_every_pixel_once(spec, extra, write, border):
    size = spec.input_size(spec.period[0], 0) + extra
    plan = plan_tiles(spec, (size,), write, border, allow_noncompliant=True)
    covered = np.zeros(plan.result_shape, int)
    image = np.pad(np.arange(size), plan.pad[0], mode="reflect") if size > 1 else np.zeros(1 + sum(plan.pad[0]), int)
    for tile in plan:
        covered[tile.write] += 1
        block = image[tile.read]
        middle = block[spec.margin[0] // 2 :][: len(block) - spec.margin[0]][tile.keep]
        np.testing.assert_array_equal(middle, np.arange(size)[plan.origin[0] :][tile.write])
    assert (covered == 1).all()


def test_naive_tiling_of_the_papers_image_goes_on_to_its_end():
    """Fig. 3b: 5 x 5 raw outputs of 20 px from 284 px, not multiples of 16; Fig. 3c: 6 x 6 crops of 16 px."""
    spec = UNetSpec(levels=4)
    naive = plan_tiles(spec, (284, 284), 20, "valid", allow_noncompliant=True)
    assert (naive.counts, naive.result_shape, naive.read) == ((5, 5), (100, 100), (204, 204))
    exact = plan_tiles(spec, (284, 284), 16, "valid")
    assert (exact.counts, exact.result_shape, exact.read) == ((6, 6), (96, 96), (204, 204))
    assert (exact.origin, naive.origin) == ((94, 94), (92, 92))


def test_a_cropped_tile_starts_on_a_bottleneck_cell():
    plan = plan_tiles(UNetSpec(levels=4), (284, 284), 48, "valid")
    assert plan.grid_phase() == (0, 0)
    assert plan.grid() == ((0, 16, 32, 48, 64, 80, 96),) * 2
    assert plan.seams() == ((48,), (48,))


def test_a_plan_in_3d_is_the_product_of_its_axes():
    spec = UNetSpec(ndim=3, levels=2, pool=((1, 2, 2), (2, 2, 2)), kernel=(1, 3, 3), convs=1)
    plan = plan_tiles(spec, (9, 30, 41), (4, 8, 16))
    assert (len(plan), plan.counts) == (3 * 4 * 3, (3, 4, 3))
    covered = np.zeros(plan.result_shape, int)
    for tile in plan:
        covered[tile.write] += 1
    assert (covered == 1).all() and plan.result_shape == (9, 30, 41)
    starts = [tuple(s.start for s in tile.write) for tile in plan]
    assert starts == sorted(starts), "tiles come in raster order"


def test_a_window_larger_than_the_image_is_one_tile():
    spec = UNetSpec(levels=3)
    for write in (10**9, 104, 101, 100):
        plan = plan_tiles(spec, (100, 90), write)
        assert (len(plan), plan.write, plan.result_shape) == (1, (104, 96), (100, 90))
    assert plan_tiles(spec, (100, 90), (96, 95)).counts == (2, 1)


def test_wishes_that_are_no_edges_are_refused():
    spec = UNetSpec(levels=3)
    for write, said in (
        (0, "too small"),
        (-8, "too small"),
        (8.0, "whole pixels"),
        ((8, 8, 8), "3 tile edges"),
        ("8", "whole"),
    ):
        with pytest.raises(TilingError, match=said):
            plan_tiles(spec, (100, 100), write)
    for shape in ((100,), (0, 10), ()):
        with pytest.raises(TilingError, match="2 axes of 1 pixel or more"):
            plan_tiles(spec, shape)
    with pytest.raises(TilingError, match="border is 'wrap'"):
        plan_tiles(spec, (100, 100), border="wrap")
    assert plan_tiles(spec, np.array([100, 100]), np.int64(16)).write == (16, 16)
    assert plan_tiles(spec, (100, 100), np.array([16, 24])).write == (16, 24)


def test_an_image_without_enough_context_says_how_much_it_needs():
    spec = UNetSpec(levels=4)
    with pytest.raises(TilingError, match="needs 204 px") as caught:
        plan_tiles(spec, (300, 203), border="valid")
    assert caught.value.nearest == (204,)
    assert plan_tiles(spec, (300, 204), border="valid").result_shape == (112, 16)
    assert plan_tiles(spec, (1, 1)).result_shape == (1, 1)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("padding", ["valid", "zero"])
def test_the_default_tile_fits_the_memory(ndim, padding):
    spec = UNetSpec(ndim=ndim, levels=2, padding=padding)
    smallest = spec.peak_bytes(plan_tiles(spec, (4000, 300, 300)[:ndim], spec.period).read)
    for factor in (1.5, 4, 40):
        plan = plan_tiles(spec, (4000, 300, 300)[:ndim], memory=int(factor * smallest))
        assert spec.peak_bytes(plan.read) <= factor * smallest
        assert all(write % period == 0 for write, period in zip(plan.write, spec.period, strict=True))
    least = plan_tiles(spec, (4000, 300, 300)[:ndim], memory=1)
    assert least.write == spec.period


def test_more_memory_never_means_smaller_tiles():
    spec = UNetSpec(levels=3)
    sizes = [plan_tiles(spec, (900, 1100), memory=mega << 20).write for mega in (1, 8, 32, 64, 128, 512, 4096)]
    assert sizes == sorted(sizes) and len(set(sizes)) > 3


def test_the_canonical_plan_depends_on_network_and_image_alone():
    spec = UNetSpec(levels=3)
    first, *others = (plan_tiles(spec, (500, 300), write).canonical() for write in (8, 64, 200, 10**6))
    assert all(other == first for other in others)
    assert first.result_shape == (500, 300)


@BORDERS
def test_the_record_of_a_plan_makes_the_same_plan(border):
    plan = plan_tiles(UNetSpec(levels=3), (300, 201), (24, 40), border)
    kept = plan.to_dict()
    assert plan_tiles(plan.spec, kept["image_shape"], kept["write"], kept["border"]) == plan
    assert kept["tiles"] == list(plan.counts) and kept["grid_phase"] == list(plan.grid_phase())


def brute_redundancy(plan: TilePlan) -> float:
    valid = plan.spec.padding == "valid"
    cost = sum(
        Pass.of(plan.spec, edges(tile.read), tile.keep).flops if valid else plan.spec.flops(edges(tile.read)) for tile in plan
    )
    return cost / (plan.spec.flops_per_pixel * math.prod(plan.result_shape))


def test_redundancy_counts_every_tile():
    rng = random.Random(0)
    for padding in ("valid", "zero"):
        spec = UNetSpec(levels=2, padding=padding)
        for _ in range(5):
            plan = plan_tiles(spec, (rng.randint(1, 99), rng.randint(1, 99)), (4 * rng.randint(1, 9), 4 * rng.randint(1, 9)))
            assert plan.redundancy == pytest.approx(brute_redundancy(plan), rel=1e-12)


def test_a_slide_of_millions_of_tiles_is_described_at_once():
    plan = plan_tiles(UNetSpec(levels=3), (100_000, 100_000), 8)
    assert len(plan) == 12_500**2
    assert plan.describe().startswith("12500 x 12500 tiles of 8 x 8 px = 1 x 1 periods of 8 px")


def test_redundancy_falls_towards_one_for_large_tiles():
    spec = UNetSpec(levels=3)
    values = [plan_tiles(spec, (4096, 4096), write).redundancy for write in (32, 128, 512, 4096)]
    assert values == sorted(values, reverse=True)
    assert 1 < values[-1] < 1.1
