"""Results become layers that lie on the image."""

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer

from napari_shiftseg import SegmentSettings, segment
from napari_shiftseg.plugin.layers import KEY, draw, layer_tuples
from napari_shiftseg.plugin.replacement import put_layers
from napari_shiftseg.plugin.source import image_of, placement_of


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)


def made(layer, axes, model, **settings):
    """Tuples of the segmentation of a layer."""
    result = segment(image_of(layer, axes), model, SegmentSettings(**settings))
    place = placement_of(layer, axes, result.axes)
    return layer_tuples(draw(result), place, layer.name, source_id=layer.unique_id)


def layers_of(tuples):
    return {data_options[1]["metadata"][KEY]["role"]: Layer.create(*data_options) for data_options in tuples}


@pytest.fixture
def plane():
    turned = {"rotate": 20, "shear": [0.1], "affine": np.array([[1, 0.2, 3], [0, 1, -4], [0, 0, 1]])}
    units = {"units": ("um", "um"), "axis_labels": ("y", "x")}
    return ImageLayer(noise((30, 34)), name="cells", scale=(0.5, 0.25), translate=(7, 8), **turned, **units)


def test_a_segmentation_becomes_three_layers(plane, tiny):
    found = layers_of(made(plane, "yx", tiny))
    assert [layer.name for layer in found.values()] == ["cells embedding", "cells embedding RGB", "cells instances"]
    assert found["embedding"].data.shape == (3, 30, 34)
    assert found["embedding RGB"].rgb
    assert found["instances"].data.dtype == np.int32
    assert [layer.visible for layer in found.values()] == [False, False, True]


def test_every_layer_lies_on_the_image(plane, tiny):
    """Scale, rotation, shear and affine are copied: each pixel has the same place in the world."""
    found = layers_of(made(plane, "yx", tiny))
    for pixel in [(0, 0), (3, 4), (29, 33)]:
        there = plane.data_to_world(pixel)
        assert found["instances"].data_to_world(pixel) == pytest.approx(there)
        assert found["embedding RGB"].data_to_world(pixel) == pytest.approx(there)
        assert found["embedding"].data_to_world((1, *pixel)) == pytest.approx((1, *there))
    assert found["instances"].units == plane.units
    assert found["instances"].axis_labels == ("y", "x")
    assert found["embedding"].axis_labels == ("channel", "y", "x")


def test_without_an_embedding_there_are_instances_only(plane, tiny):
    assert list(layers_of(made(plane, "yx", tiny, keep_embedding=False))) == ["instances"]


def test_instances_know_their_area(plane, tiny):
    labels = layers_of(made(plane, "yx", tiny))["instances"]
    index, area = labels.features["index"].to_numpy(), labels.features["area"].to_numpy()
    assert index.tolist() == [number for number in np.unique(labels.data) if number]
    assert area.sum() == (labels.data > 0).sum()
    assert {"centroid_y", "first_x", "on_seam", "on_border"} <= set(labels.features)


def test_metadata_hold_plan_status_and_record(plane, tiny):
    for layer in layers_of(made(plane, "yx", tiny, write=10)).values():
        known = layer.metadata[KEY]
        assert known["plan"].write == (10, 10)
        assert known["status"] == "compliant"
        assert known["record"]["plan"]["write"] == [10, 10]
        assert known["source_id"] == plane.unique_id


def test_a_noncompliant_result_is_marked(plane, tiny):
    tuples = made(plane, "yx", tiny, write=11, allow_noncompliant=True)
    assert {layer.metadata[KEY]["status"] for layer in layers_of(tuples).values()} == {"non-compliant"}


@pytest.mark.parametrize(("window", "marked"), [((2, 2), True), ((8, 8), False), (None, False)])
def test_names_say_where_the_training_broke_the_rules(plane, save_tiny, window, marked):
    """A network whose window was one period leaves pairs of output functions untrained, however its tiles lie."""
    model = save_tiny(f"trained_on_{window}", window=window)
    names = [layer.name for layer in layers_of(made(plane, "yx", model, allow_noncompliant=True)).values()]
    assert [name.endswith("(non-compliant)") for name in names] == [marked] * 3


SERIES = {
    "time": ((2, 20, 22), "tyx", (2, 20, 22)),
    "planes": ((3, 20, 22), "zyx", (3, 20, 22)),
    "channels first": ((2, 20, 22), "cyx", (20, 22)),
    "channels, then time": ((2, 2, 20, 22), "ctyx", (2, 20, 22)),
}


@pytest.mark.parametrize(("shape", "axes", "expected"), SERIES.values(), ids=SERIES)
def test_axes_that_the_result_has_keep_their_place(tiny, shape, axes, expected):
    scale = tuple(range(2, 2 + len(shape)))
    layer = ImageLayer(noise(shape), scale=scale, name="cells")
    tuples = made(layer, axes, tiny, channels=(1,) if "c" in axes else None)
    found = layers_of(tuples)
    wanted = [scale[axis] for axis, letter in enumerate(axes) if letter != "c"]
    assert found["instances"].data.shape == expected
    assert found["instances"].scale.tolist() == wanted
    assert found["embedding"].data.shape == (3, *expected)
    assert found["embedding"].scale.tolist() == [1, *wanted]


def test_in_a_series_a_number_has_no_area(tiny):
    """Number 3 of one frame is another object than number 3 of the next."""
    found = layers_of(made(ImageLayer(noise((2, 20, 22)), name="cells"), "tyx", tiny))
    assert "area" not in found["instances"].features


def test_a_second_result_updates_the_layers_in_place(plane, tiny):
    viewer = ViewerModel()
    viewer.add_layer(plane)
    first = put_layers(viewer, made(plane, "yx", tiny))
    first[-1].visible = False
    plane.scale = (2, 2)
    second = put_layers(viewer, made(plane, "yx", tiny, min_size=200))
    assert [a is b for a, b in zip(first, second, strict=True)] == [True] * 3
    assert len(viewer.layers) == 4
    assert not second[-1].visible
    assert second[-1].scale.tolist() == [2, 2]
    assert second[-1].metadata[KEY]["record"]["clustering"]["min_size"] == 200
    assert second[-1].features["area"].sum() == (second[-1].data > 0).sum()


def test_a_result_of_another_shape_gets_layers_of_its_own(plane, tiny):
    viewer = ViewerModel()
    viewer.add_layer(plane)
    first = put_layers(viewer, made(plane, "yx", tiny))
    plane.data = noise((20, 22))
    second = put_layers(viewer, made(plane, "yx", tiny))
    assert not {id(layer) for layer in first} & {id(layer) for layer in second}
    assert len(viewer.layers) == 7


def test_layers_of_another_source_are_left_alone(plane, tiny):
    twin = ImageLayer(noise((30, 34), seed=1), name="cells")
    viewer = ViewerModel()
    (labels,) = put_layers(viewer, made(plane, "yx", tiny, keep_embedding=False))
    before = labels.data.copy()
    put_layers(viewer, made(twin, "yx", tiny, keep_embedding=False))
    assert np.array_equal(labels.data, before)
    assert sum(isinstance(layer, Labels) for layer in viewer.layers) == 2


def test_the_view_stays(plane, tiny):
    viewer = ViewerModel()
    viewer.add_layer(plane)
    viewer.scene.camera.zoom = 17
    put_layers(viewer, made(plane, "yx", tiny))
    assert viewer.scene.camera.zoom == 17
