"""Limits of intensities belong to the whole image."""

import numpy as np
import pytest

from napari_shiftseg.errors import ImageError
from napari_shiftseg.network import Limits, Normalisation, normalise


def test_percentiles_of_each_channel_become_0_and_1():
    rng = np.random.default_rng(0)
    image = np.stack([rng.integers(0, 4000, (50, 60)), rng.integers(100, 200, (50, 60))]).astype(np.uint16)
    limits = Normalisation(low=2, high=98).limits(image)
    for channel in range(2):
        assert limits.low[channel] == np.percentile(image[channel], 2)
        assert limits.high[channel] == np.percentile(image[channel], 98)
    scaled = limits.apply(image)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(np.percentile(scaled, (2, 98), axis=(1, 2)), [[0, 0], [1, 1]], atol=1e-6)


def test_a_hot_pixel_is_clipped():
    image = np.zeros((1, 50, 50), np.float32)
    image[0, :25] = 1
    image[0, 0, 0] = 1e9
    assert Normalisation().limits(image).apply(image).max() == 4


def test_intensities_can_be_left_as_they_are():
    image = np.array([[[-50.0, 0.0, 7.0, 1e6]]])
    np.testing.assert_array_equal(Normalisation(low=0, high=0).limits(image).apply(image), image)


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_a_constant_image_becomes_zero(value):
    image = np.full((1, 9, 9), value, np.uint16)
    assert (Normalisation().limits(image).apply(image) == 0).all()


def test_a_nearly_constant_image_takes_its_full_range():
    image = np.zeros((1, 100, 100), np.uint8)
    image[0, 0, 0] = 200
    assert Normalisation().limits(image) == Limits(low=(0.0,), high=(200.0,))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(bad):
    image = np.ones((2, 5, 5), np.float32)
    image[1, 2, 2] = bad
    with pytest.raises(ImageError, match="channel 1 of the image holds NaN or infinite"):
        Normalisation().limits(image)


class Lazy:
    """An array that remembers how much was asked for at once."""

    def __init__(self, data):
        self.data, self.shape, self.dtype, self.largest = data, data.shape, data.dtype, 0

    def __getitem__(self, key):
        block = self.data[key]
        self.largest = max(self.largest, block.size)
        return block


def test_a_large_image_is_sampled_in_small_patches(monkeypatch):
    monkeypatch.setattr(normalise, "_SAMPLE", 1 << 12)
    data = np.random.default_rng(0).gamma(2.0, 100.0, (1, 700, 500)).astype(np.float32)
    lazy = Lazy(data)
    limits = Normalisation(low=1, high=99).limits(lazy)
    exact = np.percentile(data, (1, 99))
    assert lazy.largest <= 500
    assert limits.low[0] == pytest.approx(exact[0], abs=5)
    assert limits.high[0] == pytest.approx(exact[1], rel=0.1)
    assert Normalisation(low=1, high=99).limits(Lazy(data)) == limits
