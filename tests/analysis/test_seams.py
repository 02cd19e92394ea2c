"""The seam report sees tiles that show, and blames nothing else on them."""

import csv
import io
import math

import numpy as np
import pytest
import torch

from napari_shiftseg import UNet, UNetSpec, plan_tiles, predict, synthetic
from napari_shiftseg.analysis import seam_report
from napari_shiftseg.errors import ImageError, SettingsError
from napari_shiftseg.network import discriminative_loss

# Four poolings, as in the paper's Fig. 3, and one convolution per level, which trains in seconds.
SPEC = UNetSpec(levels=4, features=4, convs=1)
EDGE = 208


def trained_on_disks(seed, steps=160):
    """A network that was shown windows of 34 px of same-looking disks 13 px apart."""
    torch.manual_seed(seed)
    net, rng = UNet(SPEC), np.random.default_rng(seed)
    sample = synthetic.disks((220, 220), 13, 5)
    image, labels = torch.from_numpy(sample.image)[None, None], torch.from_numpy(sample.labels).long()
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    size = SPEC.input_size(20)
    out, lost = SPEC.output_size(size), SPEC.margin[0] // 2
    for _ in range(steps):
        y, x = rng.integers(0, 220 - size, 2)
        truth = labels[y + lost : y + lost + out, x + lost : x + lost + out]
        embedding = net(image[..., y : y + size, x : x + size])[0]
        loss = discriminative_loss(embedding, truth, delta_var=0, delta_dist=3, background_is_instance=True).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.eval()


@pytest.fixture(scope="module")
def network():
    return trained_on_disks(0)


@pytest.fixture(scope="module")
def disks():
    return synthetic.disks((EDGE, EDGE), 13, 5)


def predicted(network, disks, write):
    plan = plan_tiles(SPEC, (EDGE, EDGE), write, allow_noncompliant=True)
    return predict(network, disks.image, plan, device="cpu"), plan


def noise_field(shape=(2, 160, 160), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def plan_of(shape=(160, 160), write=32, period=8):
    levels = int(math.log2(period))
    spec = UNetSpec(ndim=len(shape), levels=levels, features=1)
    return plan_tiles(spec, shape, write)


# -- the paper's figure -----------------------------------------------------------------------------------------------


def test_tiles_of_20_px_show_at_a_period_of_16_px(network, disks):
    """> Fig. 3b: at test time, it is necessary to crop output tiles of size != n * f^l to some n * f^l"""
    embedding, plan = predicted(network, disks, 20)
    report = seam_report(embedding, plan)
    assert report.interval[0] > 1.1 and report.exposed
    assert "the tiles show" in report.verdict


@pytest.mark.parametrize("write", [16, 32])
def test_tiles_of_whole_periods_do_not_show(network, disks, write):
    """> Fig. 3c: no inconsistencies if the tiles are cropped to n * f^l"""
    embedding, plan = predicted(network, disks, write)
    report = seam_report(embedding, plan)
    assert report.interval[0] < 1 < report.interval[1]
    assert report.exposed is False
    assert report.control == ("next phase" if write == 16 else "same phase")


# -- no false alarm ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_an_image_without_tiles_in_it_is_never_blamed_on_tiles(seed):
    sample = synthetic.blobs((160, 160), count=40, radius=(4, 8), seed=seed)
    embedding = np.stack([sample.image, sample.labels % 7]).astype(np.float32)
    report = seam_report(embedding, plan_of(write=(8, 16, 24, 48)[seed % 4]), sample.labels, sample.labels, seed=seed)
    assert report.exposed is not True
    assert report.score.splits == 0


@pytest.mark.parametrize("seed", range(5))
def test_the_borders_of_a_mosaic_are_not_blamed_on_tiles(seed):
    """Fields of 64 px with steps between them: some borders lie on seams, most do not."""
    field = noise_field((2, 384, 384), seed)
    steps = np.random.default_rng(seed).normal(size=(2, 6, 6)) * 3
    field += np.kron(steps, np.ones((64, 64))).astype(np.float32)
    report = seam_report(field, plan_of((384, 384), 40))
    assert report.exposed is False


def test_the_grid_of_a_network_is_not_blamed_on_tiles():
    """Jumps at every line of the period grid, seam or not."""
    field = noise_field()
    grid = np.random.default_rng(1).normal(size=(2, 20, 20)) * 2
    field += np.kron(grid, np.ones((8, 8))).astype(np.float32)
    large, small = seam_report(field, plan_of(write=32)), seam_report(field, plan_of(write=8))
    assert large.exposed is False and large.nearby.interval[0] > 1 and large.alike.interval[0] < 1
    assert small.exposed is None and "larger tiles would tell" in small.verdict


# -- detection --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_offsets_between_tiles_are_seen(ndim):
    shape = {1: (4000,), 2: (160, 160), 3: (48, 48, 48)}[ndim]
    write = 16
    field = noise_field((2, *shape))
    offsets = np.random.default_rng(1).normal(size=(2, *(-(-n // write) for n in shape))) * 2
    for axis in range(1, ndim + 1):
        offsets = np.repeat(offsets, write, axis=axis)
    report = seam_report(field + offsets[(slice(None), *map(slice, shape))].astype(np.float32), plan_of(shape, write))
    assert report.exposed and report.ratio > 1.3
    assert report.alike.superiority > 0.7


def test_one_bad_seam_is_the_worst_row_of_the_table():
    field = noise_field((2, 256, 256))
    field[:, 48:] += 5
    report = seam_report(field, plan_of((256, 256), 48))
    worst = report.worst(1)[0]
    assert (worst.axis, worst.position) == (0, 48) and worst.interval[0] > 1
    assert report.exposed is False, "nine of ten seams are fine"
    assert len(report.table) == report.seams == 10


def test_labels_cut_at_seams_are_counted():
    truth = synthetic.disks((160, 160), 20, 8, offset=4).labels  # four of eight rows of disks lie across seams
    plan = plan_of()
    tile = np.add.outer(np.arange(160) // 32 * 5, np.arange(160) // 32)
    labels = np.where(truth > 0, truth * 25 + tile, 0)
    cut, whole = seam_report(None, plan, labels, truth), seam_report(None, plan, truth, truth)
    assert cut.cuts.cut.interval[0] > 1.5 > whole.cuts.cut.value
    assert cut.cuts.straight > 10 + cut.cuts.straight_control and cut.cuts.crossing == 0
    assert whole.cuts.crossing > 0 and whole.score.splits == 0
    assert cut.score.at_seams.splits > 10 and cut.score.elsewhere.splits == 0
    assert "true objects at seams are split" in cut.verdict
    assert math.isnan(cut.ratio) and all(math.isnan(row.jump) for row in cut.table)


# -- the seams are one statement, the objects another ----------------------------------------------------------------


def mistaken(truth, how):
    """Labels that are wrong in one way, none of which has to do with the seams of 32 px tiles."""
    labels = truth.copy()
    if how == "missed":
        labels[np.isin(labels, (1, 9, 30))] = 0
    elif how == "extra":
        labels[np.ix_(*[np.arange(12, 16)] * 2)] = truth.max() + 1  # the background between four disks
    elif how == "merged":
        labels[labels == 2] = 1
    elif how == "split":
        labels[:11][labels[:11] > 0] += truth.max()  # the upper third of the first row of disks
    return labels


@pytest.mark.parametrize("how", ["right", "missed", "extra", "merged", "split"])
@pytest.mark.parametrize("write", [32, 1000])
def test_a_result_without_seams_is_a_pass_only_if_its_objects_are_right(how, write):
    field, truth = disks_with_borders(0.0)
    labels, plan = mistaken(truth, how), plan_of(write=write)
    alone, with_truth = seam_report(field, plan, labels), seam_report(field, plan, labels, truth)
    assert not with_truth.exposed and with_truth.right == (how == "right")
    assert with_truth.finding == ("pass" if how == "right" else "warn")
    assert "Against the truth" in with_truth.verdict and with_truth.score.text in with_truth.verdict
    seams = "No seam shows" if write == 32 else "There is no seam"
    said = "and the objects are right" if how == "right" else "but the objects are not all right"
    assert with_truth.meaning == f"{seams}, {said}."
    assert alone.right is None and alone.finding == ("pass" if write == 32 else "")
    assert "only a truth tells" in alone.meaning


@pytest.mark.parametrize("lost", [False, True])
def test_seams_that_show_fail_whatever_the_objects(lost):
    field, truth = disks_with_borders(0.3)
    report = seam_report(field, plan_of(), mistaken(truth, "missed" if lost else "right"), truth)
    assert report.exposed and report.finding == "fail" and report.right != lost
    said = "and the objects are not all right" if lost else "but the objects are right"
    assert report.meaning == f"The seams show, {said}."


def test_a_truth_without_labels_says_nothing_of_the_objects():
    field, truth = disks_with_borders(0.0)
    report = seam_report(field, plan_of(), truth=truth)
    assert report.finding == "pass" and report.right is None and "only a truth tells" in report.meaning
    assert all(row.missed is None and row.split is None for row in report.table)


@pytest.mark.parametrize("shape", [(96,), (96, 80), (48, 40, 40)])
def test_each_seam_has_the_missed_objects_that_lie_across_it(shape):
    cells = np.indices(shape) // 12  # of 12 px, some of which begin or end at a seam, and some lie across one
    truth = 1 + np.ravel_multi_index(tuple(cells), tuple(cells.max(axis=tuple(range(1, len(shape) + 1))) + 1))
    lost = np.unique(truth)[::3].tolist()
    labels = np.where(np.isin(truth, lost), 0, truth)
    report = seam_report(None, plan_of(shape, 16), labels, truth)
    for row in report.table:
        below, above = (np.unique(part) for part in np.split(truth, [row.position], row.axis))
        assert row.missed == len(set(below) & set(above) & set(lost)) and row.split == 0
    assert sum(row.missed for row in report.table) > 0
    assert report.score.at_seams.fn + report.score.elsewhere.fn == len(lost) == report.score.unlabelled
    assert f"{report.score.at_seams.fn} at seams are missed" in report.verdict


# -- form -------------------------------------------------------------------------------------------------------------


def test_a_single_tile_has_no_seams_to_judge():
    report = seam_report(noise_field(), plan_of(write=1000))
    assert math.isnan(report.ratio) and report.exposed is None and report.table == ()
    assert report.verdict == "The plan has a single tile, so there are no seams to judge."


def test_a_recorded_plan_gives_the_same_report():
    plan = plan_of()
    reports = [seam_report(noise_field(), p) for p in (plan, plan.to_dict(), {"plan": plan.to_dict()})]
    assert len({(r.ratio, r.interval, r.table) for r in reports}) == 1


def test_the_table_is_ready_for_csv():
    report = seam_report(noise_field(), plan_of())
    rows = report.rows()
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    assert len(text.getvalue().splitlines()) == 9
    assert {"axis", "position", "jump", "control", "ratio", "low", "high", "touching", "cut"} <= rows[0].keys()


class Slices:
    """An array of which only slices can be had, as of a file; counts what was read."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.read = array, array.shape, array.dtype, 0

    def __getitem__(self, key):
        part = self.array[key]
        self.read += part.size
        return part


def test_only_the_surroundings_of_seams_are_read():
    field = noise_field((2, 512, 512))
    plan = plan_of((512, 512), 128, 4)
    lazy = Slices(field)
    assert seam_report(lazy, plan).table == seam_report(field, plan).table
    assert lazy.read <= 6 * (2 * 4 + 2) * 512 * 2  # six seams, two periods and the seam's two rows, two channels


def test_many_seams_are_sampled_evenly():
    report = seam_report(noise_field(), plan_of(write=8), most=5)
    assert [row.position for row in report.table if row.axis == 0] == [8, 32, 64, 96, 128]
    assert report.seams == 38


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: seam_report(np.zeros((2, 9, 9)), plan_of()), ImageError, "does not fit"),
        (lambda: seam_report(None, plan_of()), SettingsError, "at least one"),
        (lambda: seam_report(None, plan_of(), truth=np.zeros((160, 160), int)), SettingsError, "at least one"),
        (lambda: seam_report(noise_field(), plan_of(), truth=np.zeros((160, 9), int)), ImageError, "a truth of shape"),
        (lambda: seam_report(noise_field(), {"seams": []}), SettingsError, "give a TilePlan"),
        (lambda: seam_report(noise_field(), plan_of(), level=99), SettingsError, "between 0 and 1"),
        (lambda: seam_report(noise_field() * np.nan, plan_of()), ImageError, "NaN"),
        (lambda: seam_report(noise_field()[0], plan_of()), ImageError, "channels first"),
    ],
    ids=["shape", "nothing", "truth alone", "truth of another shape", "no plan", "level", "NaN", "no channels"],
)
def test_bad_input_gets_one_sentence(call, error, says):
    with pytest.raises(error, match=says):
        call()


# -- with a truth -----------------------------------------------------------------------------------------------------


def disks_with_borders(shift):
    """An embedding that jumps at the borders of disks, and by `shift` inside the disks that lie across seams of 32 px."""
    made = synthetic.disks((160, 160), 20, 8, offset=4)
    field = noise_field() * 0.05 + 6 * (made.labels > 0)
    tile = np.add.outer(np.arange(160) // 32 * 5, np.arange(160) // 32)
    return (field + shift * (tile % 3) * (made.labels > 0)).astype(np.float32), made.labels


@pytest.mark.parametrize(("shift", "exposed"), [(0.0, False), (0.3, True)])
def test_with_a_truth_the_borders_of_objects_do_not_count(shift, exposed):
    field, truth = disks_with_borders(shift)
    blunt, sharp = seam_report(field, plan_of()), seam_report(field, plan_of(), truth=truth)
    assert sharp.exposed is exposed
    assert (sharp.interval[0] > 1.5) == exposed
    assert blunt.exposed is False, "borders of disks drown a small jump"
    assert "inside true objects" in sharp.verdict.lower() and sharp.score is None
    widths = [report.interval[1] / report.interval[0] for report in (blunt, sharp)]
    assert widths[1] < widths[0]


def test_jumps_inside_objects_are_means_over_their_pairs():
    field, truth = disks_with_borders(0.3)
    row = next(row for row in seam_report(field, plan_of(), truth=truth).table if (row.axis, row.position) == (0, 32))
    inside = (truth[31] == truth[32]) & (truth[32] > 0)
    jump = np.linalg.norm(field[:, 32] - field[:, 31], axis=0)[inside].mean()
    assert inside.any() and row.jump == pytest.approx(float(jump), rel=1e-5)


def test_a_truth_without_objects_at_seams_says_so():
    report = seam_report(noise_field(), plan_of(), truth=np.zeros((160, 160), int))
    assert math.isnan(report.ratio) and report.exposed is None
    assert "no true object lies across" in report.verdict.lower()
