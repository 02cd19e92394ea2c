"""Squares, jitter, uneven light: what the lattice images have beyond the paper's disks."""

import numpy as np
import pytest
from skimage import measure

from napari_shiftseg import synthetic
from napari_shiftseg.errors import SettingsError


@pytest.mark.parametrize("shape", [(50,), (60, 47), (20, 31, 28)], ids=["1d", "2d", "3d"])
def test_squares_are_equal_and_separate(shape):
    sample = synthetic.squares(shape, 13, 3, offset=2)
    expected = np.ones(shape, dtype=bool)
    for axis, size in enumerate(shape):
        line = np.zeros(size, dtype=bool)
        for centre in range(5, size + 13, 13):
            line[max(centre - 2, 0) : centre + 3] = True
        expected &= line.reshape(tuple(-1 if k == axis else 1 for k in range(len(shape))))
    np.testing.assert_array_equal(sample.image, expected)
    np.testing.assert_array_equal(sample.labels, measure.label(expected, connectivity=len(shape)))


def test_disks_of_the_touching_preset_touch_and_keep_their_labels():
    labels = synthetic.make(synthetic.preset("touching_disks").recipe).labels
    assert measure.label(labels > 0).max() < labels.max() == 576
    assert np.bincount(labels.ravel())[1] == 69


@pytest.mark.parametrize(
    ("shape", "draw"),
    [
        ((200,), synthetic.disks),
        ((150, 170), synthetic.disks),
        ((150, 170), synthetic.squares),
        ((40, 40, 50), synthetic.disks),
    ],
    ids=["1d", "disks", "squares", "balls"],
)
def test_jitter_moves_each_object_by_whole_pixels_and_changes_none(shape, draw):
    straight, moved = (draw(shape, 20, 5, jitter=jitter, offset=4, seed=3) for jitter in (0, 4))
    centres, areas = [], []
    for sample in (straight, moved):
        found = measure.regionprops(sample.labels[None] if sample.labels.ndim == 1 else sample.labels)
        centres.append(np.array([region.centroid for region in found])[:, -len(shape) :])
        areas.append(np.array([region.area for region in found]))
    inner = (centres[0] < np.array(shape) - 10).all(axis=1)  # whole in both images
    steps = [centres[1][np.abs(centres[1] - at).max(axis=1).argmin()] - at for at in centres[0][inner]]
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-6)
    assert np.abs(steps).max() <= 4 and np.ptp(steps, axis=0).min() > 2
    assert (areas[0][inner] == areas[0][0]).all() and (areas[1] == areas[0][0]).sum() >= inner.sum()


def test_jittered_disks_that_meet_are_cut_halfway():
    sample = synthetic.disks((120, 120), 12, 5, jitter=6, seed=1)
    single = synthetic.disks((120, 120), 12, 5, jitter=0).image.sum() / 100
    assert np.bincount(sample.labels.ravel())[1:].max() <= single
    np.testing.assert_array_equal(sample.image, sample.labels > 0)


@pytest.mark.parametrize("shape", [(30,), (40, 25), (8, 9, 10)], ids=["1d", "2d", "3d"])
def test_light_falls_linearly_from_the_first_corner_to_the_last(shape):
    image = synthetic.constant(shape, light=0.5).image
    expected = 1 - 0.5 / len(shape) * sum(np.ogrid[tuple(slice(0, 1, n * 1j) for n in shape)])
    np.testing.assert_allclose(image, np.broadcast_to(expected, shape), atol=1e-6)
    disks = synthetic.disks(shape, 7, 3, light=0.5)
    np.testing.assert_array_equal(disks.image, np.where(disks.labels > 0, image, 0))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: synthetic.squares((8, 8), 4, 0), "radius 0"),
        (lambda: synthetic.disks((8, 8), 4, 2, jitter=-1), "jitter -1 px is negative"),
        (lambda: synthetic.disks((8, 8), 4, 2, jitter=0.5), "jitter 0.5 is not a whole number"),
        (lambda: synthetic.disks((8, 8), 4, 2, jitter=5), "at most the spacing"),
        (lambda: synthetic.disks((8, 8), 4, 9, jitter=1), "at most twice the spacing"),
        (lambda: synthetic.constant((8, 8), light=1.5), "light 1.5 is not a fraction"),
        (lambda: synthetic.recipe_of("disks", (8, 8), spacing=4), "lacks a field"),
        (lambda: synthetic.recipe_of("stars", (8, 8)), "unknown"),
    ],
)
def test_a_bad_value_gets_one_sentence(call, says):
    with pytest.raises(SettingsError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)
