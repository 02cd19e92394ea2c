"""Limits of intensities belong to the whole image."""

import json
from dataclasses import replace

import numpy as np
import pytest

from napari_shiftseg.errors import ImageError
from napari_shiftseg.network import Limits, Normalisation, robust


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


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_no_data(bad):
    rng = np.random.default_rng(0)
    image = rng.gamma(2.0, 100.0, (2, 60, 50))
    known = Normalisation(robust=False).limits(image[:, 20:])
    image[1, :20] = bad
    scaling = Normalisation(robust=False).scaling([image])
    assert scaling.limits.low[1] == known.low[1] and scaling.limits.high[1] == known.high[1]
    assert scaling.missing == pytest.approx(1 / 3) and scaling.infinite == np.isinf(bad)
    scaled = scaling.limits.apply(image)
    assert (scaled[1, :20] == 0).all() and np.isfinite(scaled).all() and (scaled[0, :20] != 0).any()
    assert scaling.limits.missing(image) is None, "the other channel holds data there"
    np.testing.assert_array_equal(scaling.limits.missing(image[1:]), np.arange(60)[:, None].repeat(50, 1) < 20)


def test_an_image_without_any_data_is_refused():
    image = np.ones((2, 5, 5), np.float32)
    image[1] = np.nan
    with pytest.raises(ImageError, match="channel 1 of the image holds no data"):
        Normalisation().limits(image)
    with pytest.raises(ImageError, match="channel 0 of the image holds no data"):
        Normalisation().scaling([np.zeros((1, 5, 5), np.uint8)], no_data=0)


# Images that hold the same numbers less an offset, in types that single precision does not hold.
STEPS = np.random.default_rng(3).integers(0, 200, (1, 40, 30))
FAR = {
    "float64 + 1e9": STEPS / 8 + 1e9,
    "float64 - 1e12": STEPS / 8 - 1e12,
    "uint32 + 2^28": STEPS.astype(np.uint32) + 2**28,
    "int32 near its least": STEPS.astype(np.int32) + np.int32(-(2**31)),
    "int64 + 2^60": STEPS.astype(np.int64) + 2**60,
    "int64 near its least": STEPS.astype(np.int64) + np.int64(-(2**63)),
    "uint64 + 2^63": STEPS.astype(np.uint64) + np.uint64(2**63),
    "float32 x 1e-30": (STEPS * 2.0**-100).astype(np.float32),
    "float64 x 1e-200": STEPS * 2.0**-660,
    "float16": STEPS.astype(np.float16),
    "big-endian": STEPS.astype(">u2"),
    "longdouble": STEPS.astype(np.longdouble) + 2**40,
    "negative": STEPS.astype(np.int16) - 32000,
}


@pytest.mark.parametrize("image", FAR.values(), ids=FAR)
@pytest.mark.parametrize("invert", [False, True])
def test_no_type_and_no_offset_costs_a_digit(image, invert):
    near = Normalisation().scaling([STEPS.astype(np.float64)], invert=invert)
    far = Normalisation().scaling([image], invert=invert)
    # limits of huge integers are integers, so that they can be half a step beside the percentile
    off = 1e-2 if image.dtype.itemsize == 8 and image.dtype.kind in "iu" else 1e-6
    np.testing.assert_allclose(far.limits.apply(image), near.limits.apply(STEPS), rtol=0, atol=off)
    kept = json.loads(json.dumps({"low": far.limits.low, "high": far.limits.high}))
    back = replace(far.limits, low=tuple(kept["low"]), high=tuple(kept["high"]))
    np.testing.assert_array_equal(back.apply(image), far.limits.apply(image))


def test_two_levels_of_any_type_become_0_and_1():
    levels = STEPS > 150
    for image in (levels, levels.astype(np.uint8) * 255, levels.astype(np.int64) + 2**62, levels / 1e20):
        assert set(np.unique(Normalisation().limits(image).apply(image)).tolist()) == {0.0, 1.0}


def test_inverted_limits_turn_dark_into_bright():
    rng = np.random.default_rng(1)
    image = rng.gamma(2.0, 100.0, (1, 90, 80))
    plain = Normalisation().scaling([image])
    turned = Normalisation().scaling([7 - image], invert=True)
    np.testing.assert_allclose(turned.limits.apply(7 - image), plain.limits.apply(image), atol=1e-5)
    assert turned.limits.low[0] < turned.limits.high[0]
    given = Normalisation().scaling([image], given=[(0.0, 50.0)], invert=True).limits
    np.testing.assert_array_equal(given.apply(np.array([[[0.0, 25.0, 50.0, -1e9, 1e9]]])), [[[1, 0.5, 0, 4, -1]]])


def test_given_limits_are_taken_as_they_are_and_what_they_do_is_told():
    image = np.arange(1000.0).reshape(1, 20, 50)
    scaling = Normalisation().scaling([image], given=[(100, 200)])
    assert scaling.limits == Limits(low=(100,), high=(200,))
    assert scaling.below == pytest.approx(0.1) and scaling.above == pytest.approx(0.799) and scaling.reach > 9
    assert Normalisation().scaling([image], given=[(0, 1e6)]).reach == pytest.approx(1e-3, rel=0.02)


def test_a_series_is_sampled_in_all_its_parts():
    frames = [np.full((1, 300, 300), level, np.uint16) + np.eye(300, dtype=np.uint16)[None] for level in range(0, 2000, 10)]
    scaling = Normalisation().scaling(frames)
    assert len(scaling.frames) == robust.FRAMES and scaling.frames[-1][0] == 199
    assert scaling.limits.low[0] < 40 and scaling.limits.high[0] > 1970


class Lazy:
    """An array that remembers how much was asked for at once."""

    def __init__(self, data):
        self.data, self.shape, self.dtype, self.largest = data, data.shape, data.dtype, 0

    def __getitem__(self, key):
        block = self.data[key]
        self.largest = max(self.largest, block.size)
        return block


def test_a_large_image_is_sampled_in_small_patches(monkeypatch):
    monkeypatch.setattr(robust, "SAMPLE", 1 << 12)
    data = np.random.default_rng(0).gamma(2.0, 100.0, (1, 700, 500)).astype(np.float32)
    lazy = Lazy(data)
    limits = Normalisation(low=1, high=99).limits(lazy)
    exact = np.percentile(data, (1, 99))
    assert lazy.largest <= 500
    assert limits.low[0] == pytest.approx(exact[0], abs=5)
    assert limits.high[0] == pytest.approx(exact[1], rel=0.1)
    assert Normalisation(low=1, high=99).limits(Lazy(data)) == limits
