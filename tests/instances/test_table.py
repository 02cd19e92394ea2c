"""The table of instances agrees with scikit-image, whatever the slabs."""

import doctest
from importlib import import_module

import numpy as np
import pytest
from skimage.measure import regionprops

from napari_shiftseg import synthetic
from napari_shiftseg.errors import ImageError, SettingsError
from napari_shiftseg.instances import object_table

MODULE = import_module("napari_shiftseg.instances.table")


@pytest.mark.parametrize("shape", [(90, 70), (24, 40, 36), (200,)], ids=["2d", "3d", "1d"])
@pytest.mark.parametrize("block", [1, 1500, 10**9])
def test_sizes_places_and_extents_are_those_of_scikit_image(shape, block):
    labels = synthetic.disks(shape, 11, 5, offset=-3).labels * 3  # cut at the border, numbers with gaps
    table = object_table(labels, block=block)
    lifted = labels.reshape((1,) * (2 - labels.ndim) + shape)  # scikit-image wants two axes
    for row, region in enumerate(regionprops(lifted)):
        assert (table["index"][row], table["area"][row]) == (region.label, region.area)
        for axis, name in enumerate("zyx"[-len(shape) :], start=lifted.ndim - len(shape)):
            assert table[f"centroid_{name}"][row] == pytest.approx(region.centroid[axis])
            assert table[f"first_{name}"][row] == region.bbox[axis]
            assert table[f"last_{name}"][row] == region.bbox[axis + lifted.ndim] - 1
    assert len(table["index"]) == len(np.unique(labels)) - 1


@pytest.mark.parametrize("block", [1, 10**9])
def test_instances_beside_seams_and_at_the_border_are_marked(block):
    labels = synthetic.disks((90, 70), 11, 5, offset=-3).labels
    seams = ((32, 64), (48,))
    table = object_table(labels, seams, block=block)
    beside = np.concatenate([np.take(labels, (p - 1, p), axis).ravel() for axis, ps in enumerate(seams) for p in ps])
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    assert set(table["index"][table["on_seam"]]) == set(beside) - {0}
    assert set(table["index"][table["on_border"]]) == set(edge) - {0}
    assert "on_seam" not in object_table(labels)


def test_no_instance_gives_an_empty_table():
    table = object_table(np.zeros((5, 6), np.uint32), ((), ()))
    assert all(len(column) == 0 for column in table.values()) and "centroid_x" in table


@pytest.mark.parametrize(
    ("labels", "seams", "error"),
    [
        (np.zeros((4, 4)), None, ImageError),
        (np.full((4, 4), -1), None, ImageError),
        (np.zeros((4, 4), int), ((),), SettingsError),
        (np.zeros((1, 1, 4, 4), int), None, SettingsError),
    ],
    ids=["float", "negative", "seams", "axes"],
)
def test_bad_input_gets_one_sentence(labels, seams, error):
    with pytest.raises(error, match="give"):
        object_table(labels, seams)


def test_the_example_is_true():
    assert doctest.testmod(MODULE, extraglobs={"np": np}) == (0, 2)
