"""What is no object does not decide the scale, and an image without such things is scaled by its percentiles alone."""

import numpy as np
import pytest
from scipy import ndimage

from napari_shiftseg.network import Normalisation

PLAIN = Normalisation(robust=False)
SHAPE = (200, 260)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
RNG = np.random.default_rng(0)


def discs(seed=0, count=25, radius=9, top=500.0, shape=SHAPE):
    """Discs of various brightness with soft edges, no background."""
    rng = np.random.default_rng(seed)
    image = np.zeros(shape)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for _ in range(count):
        centre = [rng.uniform(0, edge) for edge in shape]
        image[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2] = top * rng.uniform(0.5, 1)
    return ndimage.gaussian_filter(image, 1.5)


def field(offset=100.0, noise=4.0, **values):
    return discs(**values) + offset + np.random.default_rng(5).normal(0, noise, values.get("shape", SHAPE))


def hot(image, share=0.004, value=60000.0):
    return np.where(np.random.default_rng(2).random(image.shape) < share, value, image)


def lines(image):
    image = image.copy()
    image[50] = image[:, 100] = 60000
    return image


def rays(image, size=(2, 9)):
    image, rng = image.copy(), np.random.default_rng(3)
    for _ in range(15):
        y, x = (rng.integers(0, edge - max(size)) for edge in image.shape)
        image[y : y + size[0], x : x + size[1]] = 65535
    return image


def speck(image, radius=14, blur=0.0):
    return image + ndimage.gaussian_filter((radius**2 > (Y - 22) ** 2 + (X - 235) ** 2) * 60000.0, blur)


def letters(image):
    """A line of 12 signs: more and smaller things than the objects."""
    sign = np.zeros((11, 12))
    sign[:, :3] = sign[:3, :9] = sign[-3:, :9] = 60000
    image = image.copy()
    image[180:191, 40 : 40 + 12 * 12] += np.tile(sign, 12)
    return image


def strip(image, value=0.0):
    image = image.copy()
    image[:, :9] = value
    return image


def mosaic(image):
    larger = np.zeros((2 * SHAPE[0], SHAPE[1] + 60))
    larger[30 : 30 + SHAPE[0], 20 : 20 + SHAPE[1]] = image
    return larger


def gap(image):
    image = image.copy()
    image[90:100] = 0
    return image


def bar(image):
    image = image.copy()
    image[185:189, 190:250] = 65535
    return image


def circle(image):
    return np.where((Y - 100) ** 2 + (X - 130) ** 2 < 98**2, image, 0)


def turned(image):
    return ndimage.rotate(image, 20, order=0, cval=0)


DISTURBED = {
    "hot pixels": hot,
    "dead pixels": lambda image: hot(image, 0.015, 0),
    "lines": lines,
    "rays": rays,
    "clusters": lambda image: rays(image, (3, 3)),
    "large clusters": lambda image: rays(image, (5, 5)),
    "letters": letters,
    "long tracks": lambda image: rays(image, (2, 25)),
    "a speck": speck,
    "a large speck": lambda image: speck(image, 20),
    "a blurred speck": lambda image: speck(image, blur=1.0),
    "a scale bar": bar,
    "a strip of zeros": strip,
    "a strip of saturation": lambda image: strip(image, 65535),
    "a mosaic": mosaic,
    "a gap": gap,
    "a round field of view": circle,
    "a turned image": turned,
    "NaN": lambda image: strip(image, np.nan),
    "a dark strip with noise": lambda image: np.where(X < 12, RNG.normal(9, 3, SHAPE), image),
    "a dark border with noise": lambda image: np.where(np.hypot(Y - 100, X - 130) < 95, image, RNG.poisson(5, SHAPE)),
    "zeros and hot pixels": lambda image: strip(hot(image)),
}


# Where dark things are looked for, a bright speck is a part of the background, and zeros lie beyond it.
TURNED = {name: DISTURBED[name] for name in ("hot pixels", "dead pixels", "lines", "rays", "a strip of zeros", "NaN")}
CASES = [(disturb, False) for disturb in DISTURBED.values()] + [(disturb, True) for disturb in TURNED.values()]


@pytest.mark.parametrize(("disturb", "invert"), CASES, ids=[*DISTURBED, *(f"dark objects, {name}" for name in TURNED)])
@pytest.mark.parametrize(("offset", "gain"), [(400, 1), (400, 0.25), (0, 1)])
def test_what_is_no_object_does_not_decide_the_scale(disturb, offset, gain, invert):
    """Limits stay within a quarter of the scale, and that of the background within the tenth that a strip of zeros can take."""
    image = field() * gain + offset
    if invert:
        image = -image
    known = PLAIN.scaling([image[None]], invert=invert).limits
    found = Normalisation().scaling([disturb(image)[None]], invert=invert).limits
    width = known.high[0] - known.low[0]
    assert abs(found.low[0] - known.low[0]) < 0.3 * width and abs(found.high[0] - known.high[0]) < 0.3 * width, (known, found)


def sparse(count, noise=5.0, radius=9):
    return field(count=count, noise=noise, radius=radius, shape=(500, 500))


ORDINARY = {
    "a field of nuclei": field(),
    "one that fills a third": field(count=90),
    "a sparse field": sparse(3),
    "a single nucleus": sparse(1),
    "tiny objects": sparse(60, radius=2.5),
    "noise": RNG.normal(100, 5, SHAPE),
    "shot noise": RNG.poisson(3, SHAPE).astype(float),
    "few photons": RNG.poisson(0.1, SHAPE).astype(float),
    "very few photons": RNG.poisson(0.01, SHAPE).astype(float),
    "vignetting": 100 * (1 - ((Y - 100) ** 2 + (X - 130) ** 2) / 1e5) + RNG.normal(0, 2, SHAPE),
    "a gradient with few nuclei": sparse(3) + np.linspace(0, 60, 500),
    "out-of-focus light": sparse(4) + ndimage.gaussian_filter(discs(1, 30, 20, shape=(500, 500)), 15) / 4,
    "many out of focus under few bright ones": field(count=2, top=8000, noise=1.0, shape=(400, 400))
    + ndimage.gaussian_filter(discs(0, 10, 14, shape=(400, 400)), 9),
    "8 bits, background 0": discs().astype(np.uint8),
    "a background cut off": np.where(field() < 130, 0, field()),
    "few levels": (discs() // 100).astype(np.uint8),
    "large nuclei, background cut off": np.where(discs(2, 9, 45) < 130, 0, field(count=9, radius=45, seed=2)),
    "two levels": (discs() > 200).astype(np.uint8) * 255,
    "two levels, dark objects": (discs() < 200).astype(np.uint8) * 255,
    "dark flat objects": np.where(discs() > 200, 0, RNG.normal(200, 5, SHAPE)),
    "saturated objects": np.where(discs() > 200, 255, RNG.normal(10, 2, SHAPE)),
    "constant": np.full(SHAPE, 77.0),
    "one hot pixel": (Y * SHAPE[1] + X == 5000) * 4000.0,
    "nuclei in dim cells": sparse(0) + sum(discs(3, 20, *cell, shape=(500, 500)) for cell in ((4, 9000), (24, 1000))),
    "dim texture under bright nuclei": field(noise=0.5) + (discs(1, 60, 5) > 200) * 3.0,
}


@pytest.mark.parametrize("image", ORDINARY.values(), ids=ORDINARY)
def test_an_ordinary_image_is_scaled_by_its_percentiles_alone(image):
    assert Normalisation().limits(image[None]) == PLAIN.limits(image[None])


def test_a_bright_minority_is_only_left_out_beside_many_objects():
    """One bright cell over an empty field is what was looked for; over a field of 25 it is not."""
    empty, full = field(count=0), field()
    assert Normalisation().limits(speck(empty)[None]).high[0] > 50000
    assert Normalisation().limits(speck(full)[None]).high[0] < 800


def test_each_channel_has_its_own_limits():
    image = np.stack([field(), hot(field(seed=1) * 20), strip(field(seed=2) + 400)])
    found = Normalisation().scaling([image])
    for channel in range(3):
        alone = Normalisation().limits(image[channel : channel + 1])
        assert (found.limits.low[channel], found.limits.high[channel]) == (alone.low[0], alone.high[0])
    assert found.limits.empty == ((None, None), (None, None), (0.0, None))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_strip_without_data_beside_an_empty_field_is_found(count):
    image = field(count=count, offset=500)
    known, found = PLAIN.limits(image[None]), Normalisation().limits(strip(image)[None])
    assert abs(found.low[0] - known.low[0]) < 2 and abs(found.high[0] - known.high[0]) < 0.1 * (known.high[0] - known.low[0])


def test_dark_planes_of_a_stack_are_no_data():
    stack = np.stack([field(seed=k) + 400 for k in range(8)])
    known = PLAIN.limits(stack[None])
    stack[:2] = stack[-1:] = 0
    found = PLAIN.limits(stack[None]), Normalisation().limits(stack[None])
    assert (
        found[0].low[0] == 0 and found[1].low[0] == pytest.approx(known.low[0], rel=0.02) and found[1].empty == ((0.0, None),)
    )


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("gain", [1e-20, 3.0, 1e4])
@pytest.mark.parametrize(
    "disturb", [hot, speck, strip, rays, lambda image: image], ids=["hot", "speck", "strip", "rays", "plain"]
)
def test_gain_and_offset_change_nothing_but_the_limits(disturb, gain, offset):
    image = disturb(field() + 400)
    other = gain * (image + offset)
    scaled = [Normalisation().limits(one[None]).apply(one[None]) for one in (image, other)]
    np.testing.assert_allclose(scaled[0], scaled[1], rtol=0, atol=1e-5)
