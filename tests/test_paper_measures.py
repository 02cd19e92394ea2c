"""What the paper's experiments measure, on embeddings whose jumps are known."""

import numpy as np
import pytest

from napari_shiftseg.geometry import UNetSpec, plan_tiles
from napari_shiftseg.paper import measure
from napari_shiftseg.paper.experiment import Setup
from napari_shiftseg.paper.measure import GAP, Stitched, grid_jumps
from napari_shiftseg.synthetic import DiskRecipe
from napari_shiftseg.synthetic.degrade import warp

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
