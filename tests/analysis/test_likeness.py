"""Traits of an image mean what they say, and what is known is told from what is not, by sentences that hold both."""

from functools import cache

import numpy as np
import pytest
from scipy import ndimage
from skimage.transform import rescale

from napari_shiftseg import synthetic
from napari_shiftseg.analysis.likeness import TRAITS, Difference, Likeness, differences, ground_of, known_ranges, polarity_of
from napari_shiftseg.analysis.traits import FoundWindow, found_traits, image_traits, object_contrasts, sample_windows
from napari_shiftseg.network import Known, Normalisation


@cache
def nuclei(seed, count=40, noise=0.02):
    """Bright ellipses of 12 to 24 px on a dark background, 256 px: image and labels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:256, :256].astype(np.float32)
    labels, image = np.zeros(y.shape, np.uint32), np.full(y.shape, 0.06, np.float32)
    for number in range(1, count + 1):
        (cy, cx), (a, b), turn = rng.uniform(0, 256, 2), rng.uniform(6, 12, 2), rng.uniform(0, np.pi)
        u, v = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn), (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        inside = ((u / a) ** 2 + (v / b) ** 2 < 1) & (labels == 0)
        labels[inside], image[inside] = number, rng.uniform(0.45, 0.95)
    image = ndimage.gaussian_filter(image * (1 + 0.1 * rng.standard_normal(image.shape, np.float32)), 0.8)
    return image + noise * rng.standard_normal(image.shape, np.float32), labels


def traits(image):
    seen = Normalisation().limits(image[None]).apply(image[None])[0]
    return image_traits([seen[part] for part in sample_windows(seen.shape)])


@pytest.fixture(scope="module")
def known():
    """Ranges of 24 synthetic images of different density, noise and size of nuclei."""
    rng = np.random.default_rng(1)
    rows = [traits(nuclei(seed, count=int(rng.integers(10, 45)), noise=rng.uniform(0.005, 0.04))[0]) for seed in range(24)]
    return known_ranges(rows)


def others(kind):
    """Images of a kind that is not known, each another."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:256, :256].astype(float)
    for k in range(3):
        image = nuclei(100 + k, count=25)[0]
        seeds = np.ones((256, 256), bool)
        seeds[tuple(rng.integers(0, 256, (2, 60 + 20 * k)))] = False
        index = ndimage.distance_transform_edt(seeds, return_distances=False, return_indices=True)
        cells = ndimage.morphological_gradient(index[0] * 256 + index[1], 3) > 0
        membranes = ndimage.gaussian_filter(cells.astype(float), 1.2) + rng.normal(0, 0.01, image.shape)
        yield {
            "inverted": lambda image=image: -image,
            "blurred": lambda image=image: ndimage.gaussian_filter(image, 8),
            "large": lambda image=image: rescale(image, 4, order=1)[:256, :256],
            "small": lambda k=k: rescale(np.tile(nuclei(200 + k)[0], (4, 4)), 0.25, anti_aliasing=True),
            "noisy": lambda image=image: image + rng.normal(0, 0.5, image.shape),
            "noise": lambda: rng.normal(size=(256, 256)),
            "clouds": lambda k=k: ndimage.gaussian_filter(rng.normal(size=(256, 256)), 2 + 2 * k),
            "gradient": lambda k=k: x * np.cos(k) + y * np.sin(k) + rng.normal(0, 3 + 4 * k, x.shape),
            "grating": lambda k=k: np.sin((x * np.cos(k) + y * np.sin(k)) / (1 + 2 * k)) + rng.normal(0, 0.05, x.shape),
            "membranes": lambda membranes=membranes: membranes,
            "dark membranes": lambda membranes=membranes: -membranes,
            "constant": lambda: np.ones((256, 256)),
            "threads": lambda: ndimage.gaussian_filter((np.abs(np.sin(x / 9 + np.sin(y / 20))) < 0.06).astype(float), 1),
        }[kind]().astype(np.float32)


def test_images_of_the_known_kind_raise_no_alarm(known):
    """Of 20 that had no say in the ranges, no more than one."""
    rng = np.random.default_rng(2)
    unlike = [
        differences(traits(nuclei(1000 + k, count=int(rng.integers(10, 45)), noise=rng.uniform(0.005, 0.04))[0]), known)
        for k in range(20)
    ]
    assert sum(map(bool, unlike)) <= 1, [one[0].text for one in unlike if one]


@pytest.mark.parametrize(
    "kind",
    [
        "inverted", "blurred", "large", "small", "noisy", "noise", "clouds", "gradient", "grating", "membranes",
        "dark membranes", "constant", "threads",
    ],
)  # fmt: skip
def test_images_of_other_kinds_raise_one(known, kind):
    for image in others(kind):
        told = differences(traits(image), known)
        assert told, kind
        assert all(f"{TRAITS[one.trait].show(one.value)}" in one.text and "(known: " in one.text for one in told)
        assert [one.excess for one in told] == sorted((one.excess for one in told), reverse=True)


def test_a_bright_image_and_its_negative_differ_in_which_way_they_are():
    image = nuclei(3, count=25)[0]
    assert (ground_of(traits(image)), ground_of(traits(-image))) == ("bright", "dark")
    upright, negative = traits(image), traits(-image)
    # detail of each size: as strong, and of the other sign
    for level in range(5):
        assert negative[f"detail{level}"] == pytest.approx(upright[f"detail{level}"], abs=0.05)
        assert negative[f"sign{level}"] == pytest.approx(-upright[f"sign{level}"], abs=0.3)


def test_traits_do_not_depend_on_bit_depth_gain_or_offset():
    image = nuclei(4, count=25)[0]
    counts = (image * 40000 + 10_000).astype(np.uint16)
    wanted = traits(image)
    for name, value in traits(counts).items():
        assert value == pytest.approx(wanted[name], abs=0.02), name


@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf])
def test_pixels_without_a_value_leave_finite_traits(fault):
    image = nuclei(5)[0].copy()
    image[40:60, 40:60] = fault
    found = image_traits([image])
    assert len(found) > 20 and np.isfinite(list(found.values())).all()


@pytest.mark.parametrize("shape", [(3, 3), (1, 200), (16, 16), (8, 300)])
def test_small_images_have_fewer_traits_and_break_nothing(shape):
    found = image_traits([np.random.default_rng(0).random(shape)])
    assert found and np.isfinite(list(found.values())).all() and set(found) < set(TRAITS)


def test_volumes_have_the_same_traits():
    image = synthetic.make(synthetic.BlobRecipe(shape=(48, 64, 64), count=20, radius=(5.0, 8.0), noise=0.02, seed=0)).image
    assert set(image_traits([image])) >= {"background", "thickness", "roundness", "sign2", "unevenness"}
    assert image_traits([image])["thickness"] == pytest.approx(np.log2(11), abs=0.8)


def test_windows_are_few_and_the_same_however_large_the_image_is():
    assert sample_windows((200, 256)) == [(slice(0, 200), slice(0, 256))]
    for shape in ((300, 100_000), (100_000, 100_000), (500, 500, 500)):
        windows = sample_windows(shape)
        assert sum(np.prod([part.stop - part.start for part in window]) for window in windows) <= 2_100_000
        assert windows[0][-1].start == 0 and windows[-1][-1].stop == shape[-1]


def test_the_margin_grows_as_fewer_images_are_known():
    rows = [{"background": value} for value in np.random.default_rng(0).normal(0.5, 0.05, 400)]
    width = {count: np.ptp(known_ranges(rows[:count])["background"]) for count in (2, 10, 400)}
    assert width[2] > width[400] * 0.5 and known_ranges(rows[:1])["background"][0] < rows[0]["background"]
    low, high = known_ranges(rows)["background"]
    assert 0.28 < low < 0.42 and 0.58 < high < 0.72
    assert known_ranges([]) == {}


def test_a_line_says_what_differs_what_is_known_and_what_to_do():
    known = Known(ndim=2, channels=1, kind="fluorescent nuclei", polarity="bright")
    assert Likeness(model="nuclei", known=known).text == "Like what nuclei knows: fluorescent nuclei."
    told = tuple(Difference(trait="direction", text=f"sentence {number}") for number in range(4))
    unlike = Likeness(model="nuclei", known=known, differences=told, remedy="Invert it.")
    assert unlike.text == "Unlike what nuclei knows, fluorescent nuclei: sentence 0; sentence 1 (and 2 more). Invert it."
    assert (unlike.verdict, unlike.level, len(unlike.to_dict()["differences"])) == ("unlike", "warn", 4)
    unknown = Likeness(model="mine", known=None)
    assert unknown.verdict == "unknown" and "does not state" in unknown.text


def test_found_objects_are_measured_against_what_is_around_them():
    image, labels = nuclei(7, count=25)
    bright = FoundWindow(pixels=image, labels=labels)
    dark = FoundWindow(pixels=1 - image, labels=labels)
    assert (polarity_of(object_contrasts(bright)), polarity_of(object_contrasts(dark))) == ("bright", "dark")
    assert (found_traits([bright])["brighter"], found_traits([dark])["brighter"]) == (1.0, 0.0)
    moat = np.where(labels > 0, 0.5, np.where(ndimage.distance_transform_edt(labels == 0) <= 3, 0.2, 0.9))
    assert found_traits([FoundWindow(pixels=moat, labels=labels)])["brighter"] == 1.0, "what lies farther away has no say"
    shuffled = FoundWindow(pixels=np.random.default_rng(0).random(image.shape), labels=labels)
    assert polarity_of(object_contrasts(shuffled)) == ""


def test_shapes_of_found_objects_are_those_of_their_moments():
    y, x = np.mgrid[:200, :200] - 100.0
    disk, ring = np.hypot(y, x) < 20, (np.hypot(y, x) < 60) & (np.hypot(y, x) > 50)
    rod = (np.abs(y) < 5) & (np.abs(x) < 50)
    seen = {
        name: found_traits([FoundWindow(pixels=mask * 1.0, labels=mask.astype(np.uint32))])
        for name, mask in {"disk": disk, "ring": ring, "rod": rod}.items()
    }
    assert seen["disk"]["diameter"] == pytest.approx(np.log2(40), abs=0.05)
    assert seen["disk"]["fullness"] == pytest.approx(1, abs=0.02) and seen["ring"]["fullness"] < 0.3
    assert seen["disk"]["length"] == pytest.approx(1, abs=0.02) and seen["rod"]["length"] == pytest.approx(10.5, rel=0.1)


def test_doubt_and_scatter_are_of_the_foreground_and_of_single_objects():
    image, labels = nuclei(8, count=25)
    sure = np.where(labels > 0, 0.99, 0.01)
    unsure = np.where(labels > 0, 0.6, 0.01)
    centres = np.array(ndimage.center_of_mass(np.ones(labels.shape), labels, np.arange(labels.max() + 1)))[labels]
    codes = np.moveaxis(centres, -1, 0)
    noise = np.random.default_rng(0).normal(0, 5, codes.shape)

    def look(foreground, codes):
        return found_traits([FoundWindow(pixels=image, labels=labels, foreground=foreground, codes=codes)], bandwidth=2.5)

    assert (look(sure, codes)["doubt"], look(unsure, codes)["doubt"]) == (0.0, 1.0)
    assert look(sure, codes)["scatter"] < 0.01
    assert look(sure, codes + noise)["scatter"] == pytest.approx(5 * np.sqrt(2) / 2.5, rel=0.1)


def test_a_result_without_objects_has_no_traits_of_them():
    found = found_traits([FoundWindow(pixels=np.zeros((64, 64)), labels=np.zeros((64, 64), np.uint32))])
    assert found["coverage"] == 0 and not set(found) & {"diameter", "contrast", "scatter"}
