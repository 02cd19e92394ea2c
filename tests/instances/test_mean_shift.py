"""Mean shift finds the clusters that were put there, whatever the order of the points."""

import doctest
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from napari_shiftseg import mean_shift
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.instances.constants import LONE
from napari_shiftseg.instances.neighbours import nearest_mode

MODULE = import_module("napari_shiftseg.instances.mean_shift")
DENSITY, NEIGHBOURS = (import_module(f"napari_shiftseg.instances.{name}") for name in ("density", "neighbours"))


@pytest.fixture(params=["trees", "distances", pytest.param("cuda", marks=pytest.mark.cuda)])
def placed(request, monkeypatch):
    """Puts an array where it is to be clustered; "distances" is the way of a GPU, on the processor."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    if request.param == "distances":
        for module in (NEIGHBOURS, DENSITY):
            monkeypatch.setattr(module, "has_trees", lambda values: False)
        monkeypatch.setattr(NEIGHBOURS, "CPU_VALUES", 5000)  # so that there are several blocks
    return lambda array: torch.tensor(np.asarray(array, float), device="cuda" if request.param == "cuda" else "cpu")


def clusters(centres, count=50, spread=0.2, seed=0):
    """Points around each centre, cluster after cluster, and the number of each point's cluster."""
    rng = np.random.default_rng(seed)
    centres = np.asarray(centres, float)
    points = np.concatenate([c + rng.normal(0, spread, (count, len(c))) for c in centres])
    return points, np.repeat(np.arange(len(centres)), count)


def same_partition(a, b):
    """Whether two assignments group the points alike, whatever the numbers."""
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    return len(pairs) == len({x for x, _ in pairs}) == len({y for _, y in pairs})


@pytest.mark.parametrize("dim", range(1, 9))
def test_well_separated_clusters_in_any_dimension(dim, placed):
    corners = 6.0 * np.eye(dim + 1)[:, :dim]  # the origin and one step along each axis
    points, truth = clusters(corners, spread=0.3 / dim**0.5)
    modes, assignment = mean_shift(placed(points), 0.7)
    assert modes.shape == (dim + 1, dim) and same_partition(assignment, truth)
    for number in range(dim + 1):
        mode = modes[assignment[truth == number][0]]
        np.testing.assert_allclose(mode, points[truth == number].mean(axis=0), atol=0.15)


def test_modes_come_densest_first():
    points = np.concatenate([clusters([[0.0, 0]], 20)[0], clusters([[9.0, 9]], 80)[0], clusters([[0.0, 9]], 40)[0]])
    found = mean_shift(points, 0.5)
    np.testing.assert_allclose(found.modes, [[9, 9], [0, 9], [0, 0]], atol=0.2)
    assert (np.diff(found.density) < 0).all()
    np.testing.assert_allclose(found.density, [80, 40, 20], rtol=0.25)


def test_a_mode_stands_where_the_gradient_of_the_density_is_zero(placed):
    """Against the kernel density written out, for two clusters that overlap."""
    points, _ = clusters([[0.0, 0], [2.5, 0.4]], 60, spread=0.5, seed=2)
    bandwidth = 0.6
    modes, _ = mean_shift(placed(points), bandwidth)
    assert len(modes) == 2
    for mode in modes:
        weight = np.exp(-0.5 * ((points - mode) ** 2).sum(1) / bandwidth**2)
        shift = (points * weight[:, None]).sum(0) / weight.sum() - mode
        assert np.linalg.norm(shift) < 0.05 * bandwidth


def test_duplicates_are_one_mode(placed):
    points = np.repeat([[1.0, 2.0], [5.0, 5.0]], [30, 10], axis=0)
    found = mean_shift(placed(points), 0.5)
    np.testing.assert_allclose(found.modes, [[1, 2], [5, 5]])
    np.testing.assert_allclose(found.density, [30, 10])
    np.testing.assert_array_equal(found.assignment, np.repeat([0, 1], [30, 10]))


def test_a_single_point_is_its_own_mode():
    found = mean_shift([[3.0, -4.0, 5.0]], 0.1)
    np.testing.assert_allclose(found.modes, [[3, -4, 5]])
    assert found.assignment.tolist() == [0] and found.density.tolist() == [1]


def test_no_points_give_no_modes():
    modes, assignment = mean_shift(np.empty((0, 3)), 1.0)
    assert modes.shape == (0, 3) and assignment.shape == (0,)


def test_the_result_unpacks_as_modes_and_assignment():
    found = mean_shift([[0.0]], 1.0)
    modes, assignment = found
    assert modes is found.modes and assignment is found.assignment


@pytest.mark.parametrize("distance", [0.3, 0.9, 1.1, 3.0])
def test_modes_within_the_merging_radius_are_one(distance):
    """Seeds on two points that do not attract each other: only the radius decides."""
    points = np.array([[0.0], [10.0], [10.0 + 4 * distance]])
    found = mean_shift(points, 1.0, merge=4.0, radius=100)
    assert len(found.modes) == (2 if distance < 1 else 3)
    assert (found.assignment >= 0).all()


def test_points_far_from_all_modes_belong_to_none(placed):
    points = np.concatenate([clusters([[0.0, 0]], 50)[0], [[2.9, 0], [3.3, 0], [40, 0]]])
    found = mean_shift(placed(points), 1.0, radius=3.0, min_density=5)
    assert len(found.modes) == 1
    assert found.assignment.tolist()[50:] == [0, -1, -1]
    assert (found.assignment[:50] == 0).all()


def test_sparse_modes_are_dropped(placed):
    points = np.concatenate([clusters([[0.0]], 50)[0], [[9.0], [9.1]]])
    points = placed(points)
    assert len(mean_shift(points, 0.5).modes) == 2
    kept = mean_shift(points, 0.5, min_density=3)
    assert len(kept.modes) == 1 and kept.assignment.tolist()[50:] == [-1, -1]
    nothing = mean_shift(points, 0.5, min_density=1000)
    assert len(nothing.modes) == 0 and set(nothing.assignment) == {-1}


def test_a_shallow_valley_joins_two_bumps_and_a_deep_one_does_not():
    points, _ = clusters([[0.0], [2.4]], 400, spread=0.5)
    shallow = mean_shift(points, 0.6, dip=0.3)
    deep = mean_shift(points, 0.6, dip=0.9)
    assert (len(shallow.modes), len(deep.modes), len(mean_shift(points, 0.6).modes)) == (1, 2, 2)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), dim=st.integers(1, 4), bandwidth=st.sampled_from([0.3, 0.8]))
def test_the_order_of_the_points_does_not_matter(seed, dim, bandwidth):
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 2, (rng.integers(1, 150), dim))
    order = rng.permutation(len(points))
    first, second = mean_shift(points, bandwidth), mean_shift(points[order], bandwidth)
    np.testing.assert_allclose(first.modes, second.modes, atol=1e-6)
    np.testing.assert_array_equal(first.assignment[order], second.assignment)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), move=st.floats(-50, 50), zoom=st.floats(0.01, 100))
def test_the_unit_and_the_origin_do_not_matter(seed, move, zoom):
    points, _ = clusters([[0.0, 0], [4, 0], [0, 5]], 30, seed=seed)
    plain = mean_shift(points, 0.6)
    changed = mean_shift(points * zoom + move, 0.6 * zoom)
    assert same_partition(plain.assignment, changed.assignment)


def test_noise_far_below_the_bandwidth_changes_nothing():
    points, _ = clusters(np.random.default_rng(1).uniform(-20, 20, (12, 3)), 60)
    noise = np.random.default_rng(2).normal(0, 1e-7, points.shape)
    plain, moved = mean_shift(points, 0.5), mean_shift(points + noise, 0.5)
    np.testing.assert_array_equal(plain.assignment, moved.assignment)
    np.testing.assert_allclose(plain.modes, moved.modes, atol=1e-3)


def test_codes_that_lie_on_an_edge_of_a_cell_stay_one_mode():
    """Rounding splits a mode on a rounding edge; a merging radius does not."""
    edge = NEIGHBOURS.EDGE
    points = np.array([[2 * edge, 5 * edge]]) + np.random.default_rng(0).normal(0, 1e-6, (200, 2))
    found = mean_shift(points, 1.0)
    assert len(found.modes) == 1 and (found.assignment == 0).all()


@pytest.mark.parametrize("seeds", [200, np.array([[0.3, 0.1], [4.1, 0.2], [0.2, 4.9]])], ids=["random", "given"])
def test_given_seeds_find_the_same_modes(seeds):
    points, truth = clusters([[0.0, 0], [4, 0], [0, 5]], 80)
    found = mean_shift(points, 0.6, seeds=seeds)
    assert len(found.modes) == 3 and same_partition(found.assignment, truth)


def test_one_seed_finds_one_mode():
    points, _ = clusters([[0.0, 0], [40, 0]], 30)
    found = mean_shift(points, 0.6, seeds=[[40.0, 0.3]])
    np.testing.assert_allclose(found.modes, [[40, 0]], atol=0.2)


def test_a_sample_of_the_cells_finds_the_same_clusters(monkeypatch):
    points, truth = clusters(12.0 * np.eye(4)[:, :3], 3000, spread=0.6)
    monkeypatch.setattr(DENSITY, "FEWEST_CELLS", 400)
    monkeypatch.setattr(MODULE, "grid_of", lambda cells: None)
    monkeypatch.setattr(DENSITY, "ENOUGH", 0.0)
    first, again = mean_shift(points, 0.6, dip=0.7), mean_shift(points, 0.6, dip=0.7)
    near = first.assignment >= 0
    assert near.mean() > 0.95
    best = [np.bincount(first.assignment[near & (truth == k)]).argmax() for k in range(4)]
    assert len(set(best)) == 4
    assert np.mean([(first.assignment[near & (truth == k)] == best[k]).mean() for k in range(4)]) > 0.95
    np.testing.assert_array_equal(first.assignment, again.assignment)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_grid_and_sums_over_cells_find_the_same(dim, placed, monkeypatch):
    centres = np.random.default_rng(3).uniform(-12, 12, (40, dim))
    points, _ = clusters(centres, 80, spread=0.4, seed=4)
    points = placed(points)
    grid = mean_shift(points, 0.7, dip=0.8, min_density=5)
    monkeypatch.setattr(MODULE, "grid_of", lambda cells: None)
    sums = mean_shift(points, 0.7, dip=0.8, min_density=5)
    assert len(grid.modes) >= 5
    np.testing.assert_allclose(grid.modes, sums.modes, atol=0.01)
    assert (grid.assignment == sums.assignment).mean() > 0.999  # modes differ by their last digits


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_grid_holds_the_density_of_the_definition(dim, placed):
    points = np.random.default_rng(3).normal(0, 2, (2000, dim))
    grid = DENSITY.grid_of(NEIGHBOURS.cells_of(placed(points), 1.0))
    density, corner = grid.density.cpu().numpy(), grid.corner.cpu().numpy()
    nodes = np.argwhere(density > 1)[:: 37 if dim > 1 else 3]
    at, found = nodes * grid.edge + corner, density[tuple(nodes.T)]
    exact = np.exp(-0.5 * ((at[:, None] - points) ** 2).sum(axis=2)).sum(axis=1)
    assert len(at) > 3
    np.testing.assert_allclose(found, exact, rtol=0.05, atol=0.01 * exact.max())


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_search_starts_near_the_modes(dim, placed):
    """A node alone may lie half an edge off along each axis: 0.25 bandwidths."""
    centres = np.random.default_rng(6).uniform(-1, 1, (12, dim)) + 5 * np.arange(12)[:, None]
    points, _ = clusters(centres, 400, spread=0.5, seed=7)
    starts = np.sort(DENSITY.grid_of(NEIGHBOURS.cells_of(placed(points), 1.0)).peaks(LONE).cpu().numpy(), axis=0)
    modes = np.sort(mean_shift(points, 1.0).modes, axis=0)
    assert len(starts) == len(modes) == 12
    assert np.abs(starts - modes).max() < 0.1


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_point_alone_is_a_start_wherever_it_lies_between_nodes(dim, placed):
    """The more axes share it with two nodes each, the less the nearest has; nodes are half a bandwidth apart."""
    grid = DENSITY.grid_of(NEIGHBOURS.cells_of(placed(np.full((1, dim), 0.25)), 1.0))
    least = float(grid.density.max())
    assert least == pytest.approx(0.96**dim, abs=0.002) and least > 0.88 > LONE
    assert len(grid.peaks(LONE)) >= 1 and len(grid.peaks(least)) == 0


@pytest.mark.parametrize(("dim", "edge"), [(2, 0.5), (5, 0.9)])
@pytest.mark.parametrize("radius", [1.0, 3.0, np.inf])
def test_cells_decide_for_their_points_as_each_point_would(dim, edge, radius, placed):
    rng = np.random.default_rng(4)
    points = np.repeat(rng.normal(0, 3, (400, dim)), 30, axis=0) + rng.normal(0, 0.1, (12_000, dim))
    modes = rng.normal(0, 3, (40, dim))
    cells = NEIGHBOURS.cells_of(placed(points), 1.0)
    assert cells.edge == edge and cells.counts.max() > 10
    distance, nearest = cKDTree(modes).query(points)
    found = nearest_mode(placed(points), 1.0, cells, modes=placed(modes), radius=radius).cpu().numpy()
    np.testing.assert_array_equal(found, np.where(distance <= radius, nearest, -1))


@pytest.mark.parametrize("dim", [3, 7])
@pytest.mark.parametrize(("count", "others"), [(1, 40), (2, 40), (2, 1)])
def test_the_nearest_are_those_of_all_distances(dim, count, others, placed, monkeypatch):
    monkeypatch.setattr(NEIGHBOURS, "CPU_VALUES", 1000)  # so that there are several blocks
    rng = np.random.default_rng(8)
    at, modes = rng.normal(1000, 3, (200, dim)), rng.normal(1000, 3, (others, dim))
    all_distances = np.linalg.norm(at[:, None] - modes, axis=2)
    expected = np.sort(np.pad(all_distances, ((0, 0), (0, 1)), constant_values=np.inf), axis=1)[:, :count]
    bound = np.median(expected[:, 0])
    distance, index = (found.cpu().numpy() for found in NEIGHBOURS.nearest(placed(at), placed(modes), count, bound=bound))
    near = expected <= bound
    assert 0 < near.sum() < near.size
    np.testing.assert_allclose(distance, np.where(near, expected, np.inf), rtol=1e-9)
    assert (index[~near] == others).all()
    rows = np.broadcast_to(np.arange(len(at))[:, None], index.shape)[near]
    np.testing.assert_array_equal(all_distances[rows, index[near]], expected[near])


@pytest.mark.parametrize(("few", "dim"), [(True, 3), (True, 6), (False, 4)])
def test_sums_over_cells_are_those_of_the_definition(few, dim, placed):
    """In a small and in a large space, where cells have most others and few of them in the reach of their kernel."""
    rng = np.random.default_rng(5)
    means, weights = rng.normal(0, 20 if few else 0.3, (500, dim)), rng.uniform(1, 5, 500)
    at = means[:50] + 0.1
    density, mean = DENSITY.Kernels(means=placed(means), weights=placed(weights)).sums(at)
    distance = np.linalg.norm(at[:, None] - means, axis=2)
    kernel = np.exp(-0.5 * distance**2) * weights * (distance <= DENSITY.KERNEL_REACH)
    assert ((kernel > 0).mean() < 0.1) == few
    np.testing.assert_allclose(density, kernel.sum(axis=1), rtol=1e-4)
    np.testing.assert_allclose(mean, kernel @ means / kernel.sum(axis=1)[:, None], atol=1e-3)


@pytest.mark.parametrize("dim", [2, 6])
def test_peaks_are_the_densest_of_their_surroundings(dim, placed):
    rng = np.random.default_rng(6)
    means, weights = rng.normal(0, 1.5, (300, dim)), rng.uniform(1, 4, 300)
    distance = np.linalg.norm(means[:, None] - means, axis=2)
    density = (np.exp(-0.5 * distance**2) * (distance <= 1) * weights).sum(axis=1)
    expected = means[[density[near].max() <= own for near, own in zip(distance <= 1, density, strict=True)]]
    found = DENSITY.Kernels(means=placed(means), weights=placed(weights)).peaks(1.0)
    np.testing.assert_allclose(found, expected)


def voronoi_codes(edge, dim, count, seed):
    """Codes 3 apart, one for each of the regions of an image, and pixels on borders that mix the codes of both sides."""
    rng = np.random.default_rng(seed)
    codes = np.zeros((count, dim))
    found = 1
    while found < count:
        code = rng.uniform(-1, 1, dim) * (2.4 * count ** (1 / dim) + 1.5)
        if ((codes[:found] - code) ** 2).sum(axis=1).min() > 9:
            codes[found], found = code, found + 1
    places = np.stack(np.mgrid[: edge // 16, : edge // 16], -1).reshape(-1, 2)
    sites = (rng.permutation(places)[:count] + rng.uniform(0.2, 0.8, (count, 2))) * 16
    pixels = np.stack(np.mgrid[:edge, :edge], -1).reshape(-1, 2)
    distance, owner = cKDTree(sites).query(pixels, k=2)
    share = np.where(distance[:, 1] - distance[:, 0] < 1.5, rng.uniform(0, 0.5, len(pixels)), 0)[:, None]
    points = (1 - share) * codes[owner[:, 0]] + share * codes[owner[:, 1]]
    return points + rng.normal(0, 0.3 / dim**0.5, points.shape), owner[:, 0], share[:, 0] == 0


@pytest.mark.parametrize("dim", [3, 4, 8])
def test_pixels_that_mix_two_codes_are_no_objects(dim, placed):
    points, truth, pure = voronoi_codes(256, dim, 60, seed=1)
    found = mean_shift(placed(points), 0.75, dip=0.8, min_density=50)
    assert len(found.modes) == 60
    assert same_partition(found.assignment[pure], truth[pure])
    if dim == 3:  # in more dimensions the borders of so small an image are too thin to heap up
        assert len(mean_shift(points, 0.75, min_density=10).modes) > 60


def test_a_small_cluster_between_two_large_ones_stays_if_nothing_lies_between():
    points = np.concatenate([clusters([[0.0, 0]], 900)[0], clusters([[12.0, 0]], 900)[0], clusters([[6.0, 0]], 40)[0]])
    assert len(mean_shift(points, 0.75, dip=0.8).modes) == 3
    mixed = np.stack([np.linspace(0, 12, 60), np.zeros(60)], axis=1)
    assert len(mean_shift(np.concatenate([points, mixed]), 0.75, dip=0.8).modes) == 2


@pytest.mark.parametrize(("count", "modes"), [(180, 2), (240, 3)])
def test_what_lies_between_two_objects_is_a_mixture_only_if_both_are_three_times_as_dense(count, modes):
    """A third as dense as they are and along a way full of points: an object that has their mixtures on both sides stays."""
    ends, middle = clusters([[0.0, 0], [12, 0]], 900)[0], clusters([[6.0, 0]], count)[0]
    mixed = np.linspace([0.0, 0], [12, 0], 600)
    assert len(mean_shift(np.concatenate([ends, mixed, middle]), 0.75, dip=0.8).modes) == modes


def test_where_the_mixtures_of_two_pairs_cross_is_no_object():
    """The heap lies on neither of the straight ways, but near both."""
    ends = np.array([[0.0, 0, 0], [12, 0, 0], [6, -6, 1.3], [6, 6, 1.3]])
    mixed = np.concatenate([np.linspace(ends[k], ends[k + 1], 120) for k in (0, 2)])
    heap, apart = clusters([[6.0, 0, 0.65]], 100)[0], clusters([[6.0, 0, 5]], 100)[0]
    points = np.concatenate([clusters(ends, 900)[0], mixed, heap])
    assert len(mean_shift(points, 1.0, dip=0.8).modes) == 4
    assert len(mean_shift(np.concatenate([points, apart]), 1.0, dip=0.8).modes) == 5


@pytest.mark.parametrize(
    ("points", "bandwidth", "said"),
    [
        ([1.0, 2.0], 1.0, r"have shape \(2,\); give \(N, E\)"),
        ([[np.nan, 1.0]], 1.0, "finite"),
        ([[np.inf, 1.0]], 1.0, "finite"),
        ([[0.0]], 0.0, "bandwidth is 0.0; give a positive number"),
        ([[0.0]], -1.0, "bandwidth is -1.0"),
        ([[0.0]], np.nan, "bandwidth is nan"),
    ],
    ids=["1d", "nan", "inf", "zero", "negative", "nan-bandwidth"],
)
def test_what_cannot_be_clustered_is_named(points, bandwidth, said):
    with pytest.raises(SettingsError, match=said):
        mean_shift(points, bandwidth)


def test_the_examples_are_true():
    failed, tried = doctest.testmod(MODULE)
    assert tried > 0 and failed == 0
