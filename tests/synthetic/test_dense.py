"""Images in which every pixel is an object: the constant of Fig. 4 and the ramp of Lemma 1."""

import itertools

import numpy as np
import pytest

from napari_shiftseg import synthetic

SHAPES = pytest.mark.parametrize("shape", [(9,), (5, 7), (4, 5, 3)], ids=["1d", "2d", "3d"])


@SHAPES
def test_every_pixel_of_the_constant_is_its_own_object(shape):
    sample = synthetic.constant(shape)
    assert (sample.image == 1).all() and sample.image.dtype == np.float32
    np.testing.assert_array_equal(sample.labels.ravel(), np.arange(1, np.prod(shape) + 1))
    assert sample.labels.dtype == np.int32


def test_noise_on_the_constant_differs_by_seed():
    first, again, other = (synthetic.constant((30, 30), value=0.5, noise=0.1, seed=seed).image for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@SHAPES
def test_the_ramp_grows_strictly_in_every_non_negative_direction(shape):
    """Lemma 1: then max pooling takes the last pixel of each window, whatever the shift."""
    image = synthetic.ramp(shape).image
    for step in itertools.product((0, 1), repeat=len(shape)):
        if any(step):
            later = image[tuple(slice(s, None) for s in step)]
            earlier = image[tuple(slice(None, n - s) for s, n in zip(step, shape, strict=True))]
            assert (later > earlier).all()
    assert np.unique(image).size == image.size


def test_the_ramp_is_exact_up_to_its_largest_size():
    image = synthetic.ramp((4096, 4096)).image
    assert image[-1, -1] == 2**24 and image[-1, -2] == 2**24 - 1
