"""Nuclei-like blobs with ground truth."""

import numpy as np
import pytest
from scipy import ndimage

from napari_shiftseg import synthetic
from napari_shiftseg.errors import SettingsError


def touching_labels(labels):
    """Labels that have a pixel next to a pixel of another label, diagonals included."""
    window = np.ones((3,) * labels.ndim)
    highest = ndimage.maximum_filter(labels, footprint=window)
    lowest = ndimage.minimum_filter(np.where(labels > 0, labels, labels.max() + 1), footprint=window)
    return set(np.unique(labels[(labels > 0) & ((highest > labels) | (lowest < labels))]))


@pytest.mark.parametrize(
    ("shape", "count", "radius"),
    [((300,), 9, (3, 6)), ((160, 180), 30, (5, 9)), ((28, 60, 64), 18, (4, 7))],
    ids=["1d", "2d", "3d"],
)
@pytest.mark.parametrize("touching", [0.0, 0.5, 1.0], ids=["apart", "half", "clustered"])
def test_the_wanted_share_of_blobs_touches(shape, count, radius, touching):
    sample = synthetic.blobs(shape, count, radius=radius, touching=touching, seed=4)
    assert np.unique(sample.labels).tolist() == list(range(count + 1))
    close = touching_labels(sample.labels)
    if touching == 0:
        assert not close
    else:
        assert len(close) >= min(count, round(touching * count) + 1)
    for label in range(1, count + 1):
        assert ndimage.label(sample.labels == label, np.ones((3,) * len(shape)))[1] == 1


def test_blobs_differ_in_size_within_the_given_radii():
    labels = synthetic.blobs((400, 400), 40, radius=(5, 12), touching=0, seed=2).labels
    inner = [n for n in range(1, 41) if n not in border(labels)]
    radii = np.sqrt(np.bincount(labels.ravel())[inner] / np.pi)
    assert radii.min() > 4.7 and radii.max() < 12.3
    assert radii.max() > 1.5 * radii.min()


def border(labels):
    return set(labels[0]) | set(labels[-1]) | set(labels[:, 0]) | set(labels[:, -1])


def test_blobs_are_brighter_than_their_surroundings_although_the_light_is_uneven():
    sample = synthetic.blobs((200, 200), 30, touching=0.3, noise=0.02, seed=5)
    assert sample.image.dtype == np.float32 and sample.image.min() >= 0 and sample.image.max() <= 1
    means = ndimage.mean(sample.image, sample.labels, range(1, 31))
    assert means.min() > 3 * sample.image[sample.labels == 0].mean()
    assert means.std() > 0.05  # brightness varies between blobs


def test_no_blobs_give_an_empty_truth():
    assert not synthetic.blobs((32, 32), 0).labels.any()


def test_too_many_blobs_are_refused_with_the_number_that_fits():
    with pytest.raises(SettingsError, match=r"only \d+ of 500 blobs .* smaller count"):
        synthetic.blobs((64, 64), 500)
