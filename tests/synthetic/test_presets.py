"""Recipes with names, and how many of their objects a network can tell apart."""

import dataclasses
import json

import numpy as np
import pytest

from napari_shiftseg import synthetic
from napari_shiftseg.errors import SettingsError

LINES = {
    "fig2a": "1 of 196 disks is distinguishable by l = 3, f = 2",
    "fig2b": "64 of 225 disks are distinguishable by l = 3, f = 2",
    "fig3": "256 of 484 disks are distinguishable by l = 4, f = 2",
    "fig4": "256 of 55,696 pixels are distinguishable by l = 4, f = 2",
    "fig6_noise": "the period sets no limit to the 361 disks: noise makes them differ",
    "fig6_elastic": "the period sets no limit to the 324 disks: deformation makes them differ",
    "spaced_squares": "64 of 225 squares are distinguishable by l = 3, f = 2",
}


@pytest.mark.parametrize("name", LINES)
def test_a_preset_says_how_many_objects_its_network_can_tell_apart(name):
    assert synthetic.preset(name).capacity == LINES[name]


@pytest.mark.parametrize("name", synthetic.presets())
def test_a_preset_is_ready_for_json_and_says_what_it_shows(name):
    preset = synthetic.preset(name)
    assert preset.name == name and preset.shows.endswith(".") and preset.capacity
    drawn = synthetic.make(json.loads(json.dumps(dataclasses.asdict(preset.recipe))))
    assert drawn.recipe == preset.recipe


def test_figure_5_is_for_a_network_that_knows_the_place_by_its_padding():
    """The paper's network, and with it no number that follows from the period."""
    spec = synthetic.preset("fig5a").spec
    assert (spec.padding, spec.upsampling, spec.levels, spec.margin) == ("zero", "fixed", 2, (0, 0))
    assert "padding" in synthetic.preset("fig5b").capacity


@pytest.mark.parametrize("name", ["fig1", "fig2a", "fig2b", "fig2c", "fig3", "fig4", "fig5a", "fig5b", "fig6_elastic"])
def test_the_network_of_a_preset_takes_the_image_as_a_whole(name):
    preset = synthetic.preset(name)
    edge = preset.recipe.shape[0]
    assert preset.spec.input_size(preset.spec.output_size(edge)) == edge


def test_an_unknown_preset_is_answered_with_those_that_exist():
    with pytest.raises(SettingsError, match="no preset 'fig9'; use one of fig1, fig2a, fig2b"):
        synthetic.preset("fig9")


@pytest.mark.parametrize(
    ("shape", "spacing", "radius", "offset"),
    [
        ((60, 47), 15, 5, 4),
        ((60, 47), (13, 16), 5.5, (-5, 3)),
        ((20, 31, 28), (7, 9, 11), 3, 0),
        ((40,), 12, 5, -30),
        ((31, 31), 3, 9, 2),
    ],
    ids=["2d", "per-axis", "3d", "far-offset", "overlapping"],
)
@pytest.mark.parametrize("kind", ["disks", "squares"])
def test_the_line_counts_the_objects_that_are_drawn(kind, shape, spacing, radius, offset):
    recipe = synthetic.recipe_of(kind, shape, spacing=spacing, radius=radius, offset=offset)
    count = synthetic.make(recipe).labels.max()
    assert f" of {count} {kind} " in synthetic.capacity_line(recipe, 4)


LIMITS = {
    "fewer than phases": (("disks", (48, 48), 16), 7, "9 of 9 disks are distinguishable by a network of period 7 px"),
    "anisotropic": (("disks", (90, 26), 15), (4, 8), "8 of 12 disks are distinguishable by a network of period 4 x 8 px"),
    "constant": (("constant", (8, 8)), 4, "16 of 64 pixels are distinguishable by a network of period 4 px"),
    "ramp": (("ramp", (8, 8)), 4, "the period sets no limit to the 64 pixels: each has a value of its own"),
    "blobs": (("blobs", (80, 80)), 4, "the period sets no limit to the 4 blobs: they differ in size and brightness"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_the_line_names_what_limits_the_network(name):
    (kind, shape, *spacing), period, line = LIMITS[name]
    values = {"spacing": spacing[0], "radius": 5, "offset": 0} if spacing else {"count": 4} if kind == "blobs" else {}
    assert synthetic.capacity_line(synthetic.recipe_of(kind, shape, **values), period) == line


@pytest.mark.parametrize("period", [0, (8, 8, 8), 2.5], ids=str)
def test_a_bad_period_gets_one_sentence(period):
    with pytest.raises(SettingsError):
        synthetic.capacity_line(synthetic.preset("fig2a").recipe, period)


WINDOWS = [np.s_[...], np.s_[3], np.s_[-1], np.s_[5:30], np.s_[..., 2:9], np.s_[::-3], np.s_[4:4], np.s_[..., -4]]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize(
    "recipe",
    [
        synthetic.recipe_of("disks", (60, 47), spacing=(13, 8), radius=5, offset=(4, -3), light=0.4),
        synthetic.recipe_of("squares", (20, 31, 28), spacing=7, radius=3, offset=1),
        synthetic.recipe_of("disks", (50,), spacing=7, radius=2, offset=0),
        synthetic.recipe_of("constant", (30, 20), value=0.5, light=0.3),
    ],
    ids=["disks", "cubes", "line", "constant"],
)
def test_a_lazy_image_equals_the_drawn_one_in_every_window(recipe, window):
    whole, lazy = synthetic.make(recipe).image, synthetic.lazy(recipe)
    np.testing.assert_array_equal(lazy[window], whole[window])
    assert (lazy.shape, lazy.ndim, lazy.size, lazy.dtype) == (whole.shape, whole.ndim, whole.size, whole.dtype)
    np.testing.assert_array_equal(np.asarray(lazy), whole)


def test_a_lazy_image_may_be_larger_than_memory():
    recipe = synthetic.recipe_of("disks", (46_000, 46_000), spacing=15, radius=5, offset=0)
    window = synthetic.lazy(recipe)[30_000:30_030, 45_000:45_030]
    np.testing.assert_array_equal(window, synthetic.disks((30, 30), 15, 5).image)
    assert synthetic.capacity_line(recipe, 8).startswith("64 of 9,406,489 disks")


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (synthetic.preset("fig6_noise").recipe, "noise is drawn for a whole image"),
        (synthetic.preset("fig6_elastic").recipe, "elastic is drawn"),
        (synthetic.preset("jittered_disks").recipe, "jitter is drawn"),
        (synthetic.recipe_of("ramp", (8, 8)), "kind ramp is drawn as a whole"),
    ],
    ids=["noise", "elastic", "jitter", "ramp"],
)
def test_what_needs_the_whole_image_is_refused(recipe, says):
    with pytest.raises(SettingsError, match=says):
        synthetic.lazy(recipe)


@pytest.mark.parametrize("index", [(0, 0, 0), [1, 2], 99, (..., ...)], ids=str)
def test_a_lazy_image_refuses_other_indices(index):
    with pytest.raises(IndexError):
        synthetic.lazy(synthetic.preset("fig2a").recipe)[index if index != 99 else 999]
