"""Layers of napari are read as the images that they show."""

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.layers import Image as ImageLayer

from napari_shiftseg.errors import ImageError
from napari_shiftseg.plugin.source import guess_axes, image_of, placement_of


def layer_of(shape, dtype="uint16", **options):
    return ImageLayer(np.zeros(shape, dtype), name="cells", **options)


AXES = {
    "plane": (layer_of((5, 6)), 1, "yx"),
    "stack": (layer_of((4, 5, 6)), 1, "zyx"),
    "colours": (layer_of((5, 6, 3), "uint8", rgb=True), 1, "yxc"),
    "colour stack": (layer_of((4, 5, 6, 3), "uint8", rgb=True), 1, "zyxc"),
    "uint8 of width 3 that is not shown in colours": (layer_of((4, 5, 3), "uint8", rgb=False), 1, "zyx"),
    "labels": (layer_of((4, 5, 6), axis_labels=("time", "Y", "X")), 1, "tyx"),
    "one label": (layer_of((2, 4, 5, 6), axis_labels=("channel", "a", "b", "c")), 1, "czyx"),
    "time by unit": (layer_of((4, 5, 6), units=("second", "um", "um")), 1, "tyx"),
    "one plane": (layer_of((1, 5, 6)), 1, "zyx"),
    "two-channel model": (layer_of((2, 5, 6)), 2, "cyx"),
    "labels that mean something else": (layer_of((4, 5, 6), axis_labels=("z", "z", "z")), 1, "zyx"),
    "axes in another order": (layer_of((5, 6, 4), axis_labels=("y", "x", "z")), 1, "yxz"),
}


@pytest.mark.parametrize(("layer", "channels", "axes"), AXES.values(), ids=AXES)
def test_axes_are_guessed_from_labels_units_and_colours(layer, channels, axes):
    assert guess_axes(layer, channels)[0] == axes
    assert image_of(layer, axes).axes == axes


def test_a_guess_says_so():
    assert "depth" in guess_axes(layer_of((4, 5, 6)))[1]
    assert guess_axes(layer_of((5, 6)))[1] == ""


def test_the_image_carries_scale_units_and_name():
    image = image_of(layer_of((4, 5, 6), scale=(2, 0.5, -0.5), units=("s", "um", "um")), "tyx")
    assert (image.scale, image.units, image.name) == ((2, 0.5, 0.5), ("second", "micrometer", "micrometer"), "cells")


def test_axes_that_do_not_fit_are_refused():
    with pytest.raises(ImageError, match="axes"):
        image_of(layer_of((4, 5, 6)), "yx")


class Counting:
    """An array that counts the pixels that were read."""

    def __init__(self, shape):
        self.shape, self.ndim, self.dtype, self.size, self.read = shape, len(shape), np.dtype("uint16"), np.prod(shape), 0

    def __getitem__(self, key):
        block = np.zeros(self.shape, self.dtype)[key]
        self.read += block.size
        return block


def test_nothing_is_read_before_it_is_asked_for():
    pixels = Counting((64, 64))
    layer = ImageLayer(pixels, contrast_limits=(0, 1))
    pixels.read = 0
    view = image_of(layer, guess_axes(layer)[0]).frames(2)[0].view
    assert pixels.read == 0
    assert view[:, 2:4, 2:4].shape == (1, 2, 2)
    assert pixels.read == 4


def test_of_a_pyramid_the_finest_level_is_taken():
    layer = ImageLayer([np.zeros((64, 64)), np.zeros((32, 32))], multiscale=True)
    assert image_of(layer, guess_axes(layer)[0]).data.shape == (64, 64)


def test_a_place_is_that_of_the_kept_axes():
    shear = np.array([[1, 0, 0], [0, 1, 0.25], [0, 0, 1]])
    layer = layer_of((2, 5, 6), scale=(1, 2, 3), translate=(7, 8, 9), shear=shear)
    place = placement_of(layer, "cyx", "yx")
    assert place.scale.tolist() == [2, 3]
    assert place.translate.tolist() == [8, 9]
    assert place.shear.tolist() == [[1, 0.25], [0, 1]]
