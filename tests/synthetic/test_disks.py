"""Disks on a lattice: the paper's images, and what noise and deformation do to them."""

import numpy as np
import pytest
from scipy import ndimage
from skimage import measure

from napari_shiftseg import synthetic
from napari_shiftseg.synthetic.degrade import warp


def test_a_disk_of_radius_5_has_69_pixels_and_is_9_wide():
    labels = synthetic.disks((11, 11), 20, 5).labels
    assert (labels == 1).sum() == 69
    assert np.flatnonzero(labels.any(axis=0)).tolist() == list(range(1, 10))


@pytest.mark.parametrize(
    ("size", "spacing", "offset", "count"),
    [(220, 16, 4, 14), (220, 15, 4, 15), (284, 13, 0, 22), (284, 16, 0, 18), (292, 16, 0, 19)],
    ids=["fig2a", "fig2b", "fig3", "fig6", "fig7"],
)
def test_the_papers_images_have_the_papers_number_of_disks(size, spacing, offset, count):
    sample = synthetic.disks((size, size), spacing, 5, offset=offset)
    assert sample.labels.max() == count**2
    np.testing.assert_array_equal(sample.image, sample.labels > 0)


@pytest.mark.parametrize(
    ("shape", "spacing", "radius", "offset"),
    [
        ((50,), 7, 2, 0),
        ((60, 47), 15, 5, 4),
        ((60, 47), (13, 16), 5.5, (-5, 3)),
        ((20, 31, 28), (7, 9, 11), 3, (0, -2, 1)),
        ((40, 40), 12, 5, -30),
    ],
    ids=["1d", "2d", "2d-per-axis", "3d-per-axis", "2d-far-offset"],
)
def test_disks_follow_the_rule_and_separate_disks_are_numbered_like_connected_components(shape, spacing, radius, offset):
    sample = synthetic.disks(shape, spacing, radius, offset=offset)
    spacings, offsets = np.broadcast_to(spacing, len(shape)), np.broadcast_to(offset, len(shape))
    first = int(np.ceil(radius))
    centres = [range(first + o, n + 2 * p + 20, p) for n, p, o in zip(shape, spacings, offsets, strict=True)]
    expected = np.zeros(shape, dtype=bool)
    for centre in np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1).reshape(-1, len(shape)):
        expected |= sum((axis - c) ** 2 for axis, c in zip(np.indices(shape), centre, strict=True)) < radius**2
    np.testing.assert_array_equal(sample.image > 0, expected)
    np.testing.assert_array_equal(sample.labels, measure.label(expected, connectivity=len(shape)))
    assert sample.image.dtype == np.float32
    assert sample.labels.dtype == np.int32


@pytest.mark.parametrize("elastic", [0.0, 0.5], ids=["rigid", "elastic"])
def test_disks_that_touch_keep_their_own_labels(elastic):
    sample = synthetic.disks((64, 64), 8, 5, elastic=elastic)
    assert measure.label(sample.labels > 0).max() == 1
    assert sample.labels.max() == 64
    centres = ndimage.center_of_mass(sample.labels > 0, sample.labels, range(1, 65))
    grid = np.stack(np.mgrid[5:64:8, 5:64:8], axis=-1).reshape(-1, 2)
    assert np.abs(np.array(centres) - grid).max() < 2.5  # each label stays at its own place


def test_noise_is_clipped_so_background_only_gets_brighter_and_disks_only_darker():
    clean, noisy = (synthetic.disks((200, 200), 16, 5, noise=noise, seed=3) for noise in (0, 0.1))
    np.testing.assert_array_equal(clean.labels, noisy.labels)
    assert noisy.image.dtype == np.float32
    assert noisy.image.min() == 0 and noisy.image.max() == 1
    background = noisy.image[clean.labels == 0]
    assert np.mean(background == 0) == pytest.approx(0.5, abs=0.02)
    assert np.std(np.concatenate([background[background > 0], -background[background > 0]])) == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("shape", [(59,), (95, 71), (35, 47, 47)], ids=["1d", "2d", "3d"])
def test_elastic_deformation_moves_disks_a_little_and_loses_none(shape):
    straight, bent = (synthetic.disks(shape, 12, 5, elastic=elastic, seed=1) for elastic in (0, 0.8))
    assert not np.array_equal(straight.image, bent.image)
    assert straight.labels.max() == bent.labels.max() == np.prod([(n + 1) // 12 for n in shape])
    numbers = range(1, straight.labels.max() + 1)
    before, after = (np.array(ndimage.center_of_mass(s.labels > 0, s.labels, numbers)) for s in (straight, bent))
    assert np.abs(after - before).max() < 4
    support = ndimage.binary_dilation(bent.image > 0, np.ones((3,) * len(shape)))
    assert support[bent.labels > 0].all()  # image and labels went through the same deformation


def test_elastic_steps_have_the_wanted_size():
    rng = np.random.default_rng(0)
    ruler = np.tile(np.arange(400, dtype=np.float32), (400, 1))
    seen, _ = warp(ruler, ruler.astype(np.int32), 0.5, rng=rng)
    inside = (slice(20, -20), slice(20, -20))  # what comes from outside the image is 0
    # at the control points the standard deviation is 0.5; the spline between them is flatter
    assert 0.3 < np.std((seen - ruler)[inside]) < 0.5


@pytest.mark.parametrize(
    ("spacing", "period", "count"),
    [
        (15, (8, 8), 64),
        (16, (8, 8), 1),
        (13, (16, 16), 256),
        (12, (8, 8), 4),
        ((15, 16), (8, 8), 8),
        (7, (1, 4, 4), 16),
        (6, 8, 4),
    ],
    ids=["coprime", "multiple", "fig3", "half", "mixed", "anisotropic-3d", "1d"],
)
def test_capacity_counts_the_phases_of_the_lattice_in_the_period(spacing, period, count):
    """Corollary 2 of the paper, per axis: objects with equal phases get equal embeddings."""
    assert synthetic.capacity(spacing, period) == count
    periods = np.atleast_1d(period)
    spacings = np.broadcast_to(spacing, periods.shape)
    sites = np.stack(np.meshgrid(*[np.arange(40) * p for p in spacings]), axis=-1).reshape(-1, periods.size)
    assert len(np.unique(sites % periods, axis=0)) == count
