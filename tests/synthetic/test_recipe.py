"""A recipe says everything about an image."""

import dataclasses
import json

import numpy as np
import pytest

from napari_shiftseg import synthetic
from napari_shiftseg.errors import SettingsError

SAMPLES = {
    "disks-1d": lambda seed: synthetic.disks((40,), 7, 2, noise=0.1, seed=seed),
    "disks-2d": lambda seed: synthetic.disks((40, 50), (13, 15), 5, offset=(4, -2), noise=0.1, elastic=0.4, seed=seed),
    "disks-3d": lambda seed: synthetic.disks((16, 30, 30), 9, 3, elastic=0.4, noise=0.05, seed=seed),
    "constant-2d": lambda seed: synthetic.constant((20, 30), value=0.5, noise=0.2, seed=seed),
    "blobs-2d": lambda seed: synthetic.blobs((80, 80), 8, seed=seed),
    "blobs-3d": lambda seed: synthetic.blobs((24, 40, 40), 5, radius=(3, 5), seed=seed),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_recipe_gives_the_same_pixels_again_also_after_json(name):
    sample = SAMPLES[name](np.int64(7))
    stored = json.loads(json.dumps(dataclasses.asdict(sample.recipe)))
    for again in (synthetic.make(sample.recipe), synthetic.make(stored)):
        assert again.recipe == sample.recipe
        np.testing.assert_array_equal(again.image, sample.image)
        np.testing.assert_array_equal(again.labels, sample.labels)
    assert not np.array_equal(SAMPLES[name](8).image, sample.image)


def test_a_ramp_comes_back_from_json():
    sample = synthetic.ramp((3, 4))
    again = synthetic.make(json.loads(json.dumps(dataclasses.asdict(sample.recipe))))
    np.testing.assert_array_equal(again.image, sample.image)


def test_noise_does_not_change_the_deformation():
    plain, noisy = (synthetic.disks((64, 64), 16, 5, elastic=0.5, noise=noise, seed=2) for noise in (0, 0.1))
    np.testing.assert_array_equal(plain.labels, noisy.labels)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: synthetic.disks((8, 8), 4, 0), "radius 0"),
        (lambda: synthetic.disks((8, 8), 4, float("nan")), "radius nan"),
        (lambda: synthetic.disks((8, 8), 4, "big"), "radius 'big' is not a number"),
        (lambda: synthetic.disks((8, 8), 0, 2), "spacing .* below 1"),
        (lambda: synthetic.disks((8, 8), 4.5, 2), "spacing 4.5 .* whole"),
        (lambda: synthetic.disks((8, 8), (4, 4, 4), 2), "3 entries for 2 axes"),
        (lambda: synthetic.disks((8, 8), 4, 2, offset=(1,)), "offset .* 1 entries for 2 axes"),
        (lambda: synthetic.disks((8, 8), 4, 2, noise=-0.1), "noise -0.1"),
        (lambda: synthetic.disks((8, 8), 4, 2, elastic=float("inf")), "elastic inf"),
        (lambda: synthetic.disks((8, 8), 4, 2, seed=-1), "seed -1"),
        (lambda: synthetic.disks((8, 8), 4, 2, seed=1.5), "seed 1.5"),
        (lambda: synthetic.disks((4, 4, 4, 4), 4, 2), "4 dimensions"),
        (lambda: synthetic.disks((), 4, 2), "0 dimensions"),
        (lambda: synthetic.disks(8, 4, 2), "shape 8"),
        (lambda: synthetic.constant((0, 5)), "edge below 1"),
        (lambda: synthetic.constant((2**16, 2**16)), "more than 2147483647 pixels"),
        (lambda: synthetic.constant((5, 5), value=2), "value 2"),
        (lambda: synthetic.ramp((5000, 5000)), "smaller shape"),
        (lambda: synthetic.blobs((64, 64), -1), "count -1"),
        (lambda: synthetic.blobs((64, 64), 3, radius=(9, 5)), "radius"),
        (lambda: synthetic.blobs((64, 64), 3, radius=5), "not a pair"),
        (lambda: synthetic.blobs((12, 64), 3, radius=(5, 9)), "half of the shortest edge"),
        (lambda: synthetic.blobs((64, 64), 3, touching=1.5), "touching 1.5"),
        (lambda: synthetic.capacity(0, (8, 8)), "below 1"),
        (lambda: synthetic.capacity((3, 3, 3), (8, 8)), "3 entries for 2 axes"),
        (lambda: synthetic.make({"kind": "stars"}), "'stars' is unknown; use one of disks"),
        (lambda: synthetic.make({"kind": "ramp", "shape": [3, 3], "slope": 2}), "no field slope"),
        (lambda: synthetic.make({"kind": "ramp"}), "lacks a field"),
        (lambda: synthetic.make({"kind": "ramp", "shape": [3.5, 3]}), "whole numbers"),
    ],
)
def test_a_bad_value_gets_one_sentence(call, says):
    with pytest.raises(SettingsError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_recipes_are_frozen_values():
    recipe = synthetic.ramp((3, 4)).recipe
    assert recipe == synthetic.RampRecipe(shape=(3, 4)) and hash(recipe) == hash(synthetic.RampRecipe(shape=(3, 4)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.shape = (4, 4)
