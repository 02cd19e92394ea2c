"""What the paper's experiments measure, on embeddings whose jumps are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_shiftseg.analysis import passing_network
from napari_shiftseg.geometry import UNetSpec, plan_tiles
from napari_shiftseg.network import UNet
from napari_shiftseg.paper import measure
from napari_shiftseg.paper.experiment import Setup
from napari_shiftseg.paper.measure import GAP, Stitched, grid_jumps, places
from napari_shiftseg.synthetic import ConstantRecipe, DiskRecipe
from napari_shiftseg.synthetic.degrade import warp
from napari_shiftseg.synthetic.figures import PADDED

EDGE, PERIOD = 220, 8


@pytest.fixture
def jumps_at_grid(monkeypatch):
    """`jumps_at_grid(at, elsewhere, moved)`: `grid_jumps` of an embedding that steps by `at` on the lines of the grid, moved by
    so many pixels, and by `elsewhere` on all others; squares of 14 px are its true objects."""
    spec = UNetSpec(levels=3, features=1)
    plan = plan_tiles(spec, (EDGE, EDGE), 1000, "valid")
    shape = plan.result_shape
    assert plan.grid() == (tuple(range(0, shape[0] + 1, PERIOD)),) * 2
    truth = np.kron(np.arange(1, 101).reshape(10, 10), np.ones((14, 14), int))[: shape[0], : shape[1]]
    disks = DiskRecipe(shape=(EDGE, EDGE), spacing=(13, 13), radius=5, offset=(0, 0))
    setup = Setup(spec=spec, test=disks, weights="random")

    def measured(at, elsewhere, moved=0):
        on_line = (np.arange(shape[0]) - moved) % PERIOD == 0
        height = np.where(on_line, at, elsewhere).cumsum()
        embedding = np.stack(np.broadcast_arrays(height[:, None], height)).astype(np.float32)
        made = Stitched(image=truth, truth=truth, embedding=embedding, plan=plan)
        monkeypatch.setattr(measure, "stitch", lambda *_: made)
        monkeypatch.setattr(measure, "instances", lambda *_: {})  # which a slope has none of
        return grid_jumps(None, setup, 0)

    return measured


def test_jumps_at_the_grid_are_those_of_its_own_lines(jumps_at_grid):
    """> Fig. 3a: with w <= f^l some neighbouring output functions are never compared, and objects split on the grid"""
    found = jumps_at_grid(at=10.0, elsewhere=0.5)
    assert (found["at_grid"], found["elsewhere"], found["ratio"]) == (10.0, 0.5, 20.0)


@pytest.mark.parametrize("moved", [-3, -1, 1, 4])
def test_jumps_beside_the_grid_are_none_of_the_grid(jumps_at_grid, moved):
    found = jumps_at_grid(at=10.0, elsewhere=0.5, moved=moved)
    assert found["at_grid"] == 0.5 < found["elsewhere"] and found["ratio"] < 1


@pytest.mark.parametrize(("jump", "share"), [(3.2 * GAP, 1.0), (2.8 * GAP, 0.0)], ids=["above", "below"])
def test_halves_of_a_disk_differ_from_three_gaps_on(jumps_at_grid, jump, share):
    """> Fig. 3a: objects split on the grid: their halves differ by a quarter or more of the distance that the loss wants"""
    found = jumps_at_grid(at=jump, elsewhere=0.0)
    assert (found["share"], found["share_elsewhere"]) == (share, 0.0)


def test_a_disk_is_counted_once_at_each_line_that_it_crosses_with_two_rows():
    truth = np.zeros((24, 24), int)
    truth[6:12, 2:10] = 1  # across row 8 by two and four rows: counted, and split there
    truth[7:12, 14:20] = 2  # across row 8 by a single row: not counted
    truth[10:22, 21:24] = 3  # across row 16 alone, with equal halves: counted, and whole
    embedding = np.zeros((2, 24, 24))
    embedding[1, 8:, :12] = 4 * GAP
    assert measure._halves(embedding, truth, ((8, 16), ())) == (2, 1)
    assert measure._halves(embedding, truth, ((), (8, 16))) == (2, 0)


@pytest.fixture
def squares():
    """Truth of 64 squares of 8 px, 16 px apart, an embedding that gives each a code of its own, and the codes."""
    truth = np.zeros((140, 140), int)
    truth[6:134, 6:134] = np.kron(np.arange(1, 65).reshape(8, 8), np.pad(np.ones((8, 8), int), 4))
    codes = 6.0 * np.array([[0, 0], *((x, y) for x in range(1, 9) for y in range(1, 9))])
    noise = np.random.default_rng(0).normal(0, 0.05, (2, *truth.shape))
    return truth, np.moveaxis(codes[truth], -1, 0) + noise, codes


def moved(embedding, truth, number, part, by):
    """The embedding with a part of an object moved by so much in code."""
    corner = [int(axis.min()) for axis in np.nonzero(truth == number)]
    out = embedding.copy()
    out[(slice(None), *(slice(c + p.start, c + p.stop) for c, p in zip(corner, part, strict=True)))] += by
    return out


WHOLE = slice(0, 8)


def test_mean_shift_finds_what_is_there(squares):
    truth, embedding, _ = squares
    found = measure.instances(embedding, truth, ((14, 30), ()))
    assert found == {"objects": 64, "missed": 0, "merged": 0, "across": 16, "cut": 0}


@pytest.mark.parametrize(
    ("part", "by", "wanted"),
    [
        ((slice(0, 4), WHOLE), 3.0, {"missed": 0, "cut": 1}),  # either half is an object
        ((slice(0, 2), WHOLE), 3.0, {"missed": 0, "cut": 1}),
        ((slice(0, 4), WHOLE), -6.0, {"missed": 0, "cut": 0}),  # half of it background, and half of it found
        ((slice(0, 5), WHOLE), -6.0, {"missed": 1, "cut": 0}),  # more than half
        ((slice(0, 1), WHOLE), 3.0, {"missed": 0, "cut": 0}),  # a row of it
        ((WHOLE, slice(0, 4)), 3.0, {"missed": 0, "cut": 1}),
        ((WHOLE, WHOLE), -6.0, {"missed": 1, "cut": 0}),  # the code of the background
    ],
    ids=["half", "quarter", "half lost", "most lost", "row", "across", "background"],
)
def test_what_is_missed_and_cut_is_counted(squares, part, by, wanted):
    """> Fig. 3 and 7: the instances of a result are those of mean shift; some are missed, some fall into two"""
    truth, embedding, _ = squares
    found = measure.instances(moved(embedding, truth, 1, part, by), truth, ((14,), ()))
    assert {name: found[name] for name in ("missed", "cut")} == wanted and found["merged"] == 0


def test_cuts_off_the_lines_are_not_counted_there(squares):
    truth, embedding, _ = squares
    found = measure.instances(moved(embedding, truth, 1, (slice(0, 4), WHOLE), 3.0), truth, ((30,), ()))
    assert (found["missed"], found["across"], found["cut"]) == (0, 8, 0)


def test_objects_that_share_a_code_and_touch_are_merged():
    """> Corollary 3: objects with one code are one instance where they touch, and two where they do not"""
    truth = np.zeros((40, 60), int)
    truth[10:20, 10:20], truth[10:20, 20:30], truth[10:20, 40:50] = 1, 2, 3
    embedding = 6.0 * (truth > 0)[None] * np.ones((2, 1, 1))
    assert measure.instances(embedding, truth, ((), ())) == {"objects": 3, "missed": 1, "merged": 1, "across": 0, "cut": 0}


def test_the_background_is_no_object_although_one_is_larger():
    truth = np.zeros((40, 40), int)
    truth[3:37, 3:37] = 1
    embedding = 6.0 * truth[None] * np.ones((2, 1, 1))
    found = measure.instances(embedding, truth, ((20,), ()))
    assert (found["objects"], found["missed"], found["across"]) == (1, 0, 1)


def test_objects_at_the_border_of_the_result_do_not_count():
    truth = np.zeros((40, 40), int)
    truth[0:9, 4:14], truth[14:24, 14:24], truth[31:40, 4:14] = 1, 2, 3
    embedding = np.zeros((2, 40, 40))
    embedding[:, 14:24, 14:24] = 6.0
    assert measure.instances(embedding, truth, ((), ()))["objects"] == 1
    assert measure.instances(embedding, truth, ((), ()))["missed"] == 0


@pytest.mark.parametrize(("shared", "clusters"), [(1, 64), (2, 32), (64, 1)])
def test_clusters_are_the_codes_that_mean_shift_finds(squares, shared, clusters):
    """> Fig. 2: as many clusters as there are codes"""
    truth, embedding, codes = squares
    same = np.moveaxis(codes[np.where(truth > 0, (truth + shared - 1) // shared, 0)], -1, 0)
    assert measure.clusters(same + 0.0 * embedding, truth) == {"clusters": clusters, "loose": 0}
    torn = moved(same, truth, 1, (slice(0, 4), WHOLE), 300.0)
    assert measure.clusters(torn, truth)["loose"] == 1, "half of its pixels have another mode"


def test_jumps_at_seams_are_told_in_parts_of_the_margin(squares):
    """> Fig. 7: a seam may show, and yet be small beside the distance that the loss wants"""
    truth, _, _ = squares
    embedding = np.zeros((1, 140, 140))
    embedding[:, 14:] = 1.5  # of 6
    assert measure.jumps_inside(embedding, truth, ((14, 30), ())) == (0.75, 0.0)
    at, elsewhere = measure.jumps_inside(embedding, truth, ((13, 15), ()))
    assert at == 0.0 < elsewhere < 0.75


def test_sizes_of_tiles_stand_beside_what_their_grid_changes(monkeypatch):
    """> Fig. 7: tiles off the effective period show"""
    monkeypatch.setattr(measure, "SIZES", (6, 12, 10))
    spec = UNetSpec(levels=2, features=1, growth=1, embedding_dim=1)
    disks = DiskRecipe(shape=(160, 160), spacing=(13, 13), radius=5, offset=(0, 0), noise=0.1)
    setup = Setup(spec=spec, test=disks, weights="passing", write=6)
    monkeypatch.setattr(measure, "instances", lambda *_: {"cut": 3, "missed": 1})
    found = measure.seam_sizes(passing_network(spec), setup, 0)
    assert found["sizes"] == [6, 12, 10] and found["effective"] == 4
    assert [shown is True for shown in found["exposed"]] == [True, False, True] and found["felt"][1] == 0.0 < min(
        found["felt"][::2]
    )
    one, told = measure.seam_jumps(passing_network(spec), setup, 0), ("ratio", "share", "margin", "cut")
    assert [found[name][0] for name in told] == [one[name] for name in told]
    felt = measure.effective_period(passing_network(spec), measure.make(disks).image)
    monkeypatch.setattr(measure, "effective_period", lambda *_: replace(felt, period=(2, 4)))
    assert measure.seam_sizes(passing_network(spec), setup, 0)["effective"] == 4, "a tile has one edge for both axes"


@pytest.mark.parametrize("shape", [(400, 400), (284, 284)], ids=["large", "of the paper"])
def test_control_points_of_the_deformation_lie_20_px_apart(shape):
    """> Fig. 6, bottom: slight deformation suffices to tell same-looking objects apart (control points 20 px apart, 0.2 px)"""
    ruler = np.broadcast_to(np.arange(shape[1], dtype=np.float32), shape)
    rng = np.random.default_rng(0)
    fields = [(warp(ruler, ruler.astype(np.int32), 0.2, rng=rng)[0] - ruler)[30:-30, 30:-30] for _ in range(6)]

    def alike(distance):
        """Correlation of the displacements of two pixels of one row."""
        return np.mean([np.corrcoef(f[:, :-distance].ravel(), f[:, distance:].ravel())[0, 1] for f in fields])

    assert alike(5) > 0.8, "neighbours move together"
    assert abs(alike(20)) < 0.25 and abs(alike(30)) < 0.25, "pixels a control point apart do not"


@pytest.mark.parametrize(
    ("changed", "edges", "wanted"),
    [
        ({}, [36, 40, 44, 48], [36, 40, 41, 41]),
        ({"levels": 1}, [14, 16, 18, 20], [14, 16, 17, 17]),
        ({"levels": 1, "upsampling": "learnt"}, [14, 16, 18, 20], [14, 16, 18, 18]),
        ({"levels": 1, "pool": 3}, [18, 21, 24, 27], [18, 21, 23, 23]),
        ({"ndim": 1}, [36, 40, 44, 48], [36, 40, 41, 41]),
    ],
    ids=["as in the paper", "one pooling", "learnt", "by 3", "1D"],
)
def test_places_are_those_that_see_a_border_and_one_inside_per_output_function(changed, edges, wanted):
    """> Fig. 5: the boundary of the receptive field from both sides, by codes and by mean shift"""
    spec = replace(PADDED, features=16, **changed)
    torch.manual_seed(1)
    network = UNet(spec)
    setup = Setup(spec=spec, test=ConstantRecipe(shape=(40,) * spec.ndim), weights="random")
    near = places(network, setup, 0)
    assert near["edges"] == edges and near["codes"][-1] < near["wanted"][-1], "untrained codes are too near to each other"
    with torch.no_grad():
        network.head.weight *= 1e9
    found = places(network, setup, 0)
    assert found["wanted"] == [count**spec.ndim for count in wanted]
    assert found["codes"] == found["clusters"] == found["wanted"]
