"""Results lie where their image lies, whatever the order of its axes, at every position of every slider."""

from itertools import permutations

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.components import ViewerModel
from napari.layers import Image as ImageLayer

from napari_shiftseg import SegmentSettings, decide
from napari_shiftseg.events import drain
from napari_shiftseg.plugin.layers import KEY, layer_tuples, segment_and_draw
from napari_shiftseg.plugin.replacement import put_layers
from napari_shiftseg.plugin.source import image_of, placement_of
from napari_shiftseg.plugin.subject import subject_of

SIZES = {"t": 2, "c": 4, "z": 3, "y": 10, "x": 13}
PLACES = {
    "plain": {},
    "moved, scaled and mirrored": {"scale": (2.0, 3.0, -0.5, 0.25), "translate": (5.0, -7.0, 11.0, 3.0)},
    "turned": {"scale": (1.0, 2.0, 0.5, 0.5), "translate": (0.0, 1.0, 2.0, 3.0), "rotate": 30.0},
}


# all orders of two and three axes, and some of four
ORDERS = ["".join(order) for letters in ("yx", "tyx", "cyx") for order in permutations(letters)]
ORDERS += [*map("".join, [*permutations("tcyx")][::5]), "zxcy", "tzxy", "cztyx"]


def put(viewer, layer, axes, model):
    """Segment the layer, show the result as the widget does; returns the segmentation."""
    viewer.add_layer(layer)
    settings = SegmentSettings(channels=(1,) if "c" in axes else None)
    drawn = drain(segment_and_draw(image_of(layer, axes), model, settings))
    place = placement_of(layer, axes, drawn.result.axes)
    put_layers(viewer, layer_tuples(drawn, place, layer.name, source_id=layer.unique_id))
    return drawn.result


def wrong(viewer, layer, axes, result):
    """Positions of the sliders at which labels or colours under a pixel of the image are not those of the pixel."""
    labels, colours = viewer.layers["cells instances"], viewer.layers["cells embedding RGB"]
    first, bad = viewer.dims.ndim - layer.ndim, []
    at = np.random.default_rng(0)
    for index in np.ndindex(*np.shape(layer.data)[: layer.ndim - 2]):
        pixel = np.array([*index, *(at.integers(0, size) for size in np.shape(layer.data)[layer.ndim - 2 : layer.ndim])], float)
        world = np.zeros(viewer.dims.ndim)
        world[first:] = layer.data_to_world(pixel)
        viewer.dims.point = tuple(world)
        here = dict(zip(axes, pixel.astype(int), strict=False))
        place = tuple(here[axis] for axis in result.axes)
        found = [one.get_value(world, world=True, dims_displayed=list(viewer.dims.displayed)) for one in (labels, colours)]
        if found[0] != result.labels[place] or found[1] is None or not layer_value(layer, pixel, viewer, world):
            bad.append((index, found[0], int(result.labels[place])))
    return bad


def layer_value(layer, pixel, viewer, world):
    seen = layer.get_value(world, world=True, dims_displayed=list(viewer.dims.displayed))
    return seen is not None and np.array_equal(seen, np.asarray(layer.data)[tuple(pixel.astype(int))])


@pytest.mark.parametrize("axes", ORDERS)
def test_labels_and_colours_lie_on_the_image(tiny, axes):
    data = np.random.default_rng(1).integers(0, 255, [SIZES[axis] for axis in axes]).astype(np.uint8)
    viewer, layer = ViewerModel(), ImageLayer(data, name="cells", rgb=False, scale=range(2, 2 + len(axes)))
    result = put(viewer, layer, axes, tiny)
    viewer.layers["cells embedding RGB"].visible = True
    assert wrong(viewer, layer, axes, result) == []


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("axes", ["tcyx", "tyxz", "yxzt"])
def test_so_do_those_of_a_layer_that_was_moved(tiny, axes, place):
    options = dict(PLACES[place])
    if "rotate" in options:
        matrix, turn = np.eye(4), np.deg2rad(options["rotate"])
        matrix[-2:, -2:] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
        options["rotate"] = matrix
    data = np.random.default_rng(1).integers(0, 255, [SIZES[axis] for axis in axes]).astype(np.uint8)
    viewer, layer = ViewerModel(), ImageLayer(data, name="cells", rgb=False, **options)
    result = put(viewer, layer, axes, tiny)
    viewer.layers["cells embedding RGB"].visible = True
    assert wrong(viewer, layer, axes, result) == []


def test_an_image_with_a_wish_is_decided_and_drawn_as_its_job_is(tiny):
    image, settings = image_of(ImageLayer(np.random.default_rng(0).random((40, 48), np.float32)), "yx"), SegmentSettings()
    drawn = [
        drain(segment_and_draw(image, str(tiny), settings)),
        drain(segment_and_draw(decide(image, tiny, settings), str(tiny))),
    ]
    np.testing.assert_array_equal(drawn[0].result.labels, drawn[1].result.labels)


@pytest.mark.parametrize("axes", ["yxc", "tyxc", "yxtc", "zyxc"])
def test_so_do_those_of_colours(tiny, axes):
    shape = [3 if axis == "c" else SIZES[axis] for axis in axes]
    data = np.random.default_rng(1).integers(0, 255, shape).astype(np.uint8)
    viewer, layer = ViewerModel(), ImageLayer(data, name="cells", rgb=True, scale=range(2, 1 + len(axes)))
    result = put(viewer, layer, axes, tiny)
    viewer.layers["cells embedding RGB"].visible = True
    assert wrong(viewer, layer, axes, result) == []


@pytest.mark.parametrize("axes", ["tcyx", "yxz", "yxc", "xy"])
def test_the_embedding_shows_each_of_its_channels_there(tiny, axes):
    data = np.random.default_rng(1).integers(0, 255, [SIZES[axis] for axis in axes]).astype(np.uint8)
    viewer, layer = ViewerModel(), ImageLayer(data, name="cells", rgb=False)
    result = put(viewer, layer, axes, tiny)
    shown = viewer.layers["cells embedding"]
    shown.visible = True
    for index in np.ndindex(len(result.embedding), *data.shape):
        if index[-1] or index[-2]:  # one pixel of each plane
            continue
        world = np.zeros(viewer.dims.ndim)
        world[:] = (index[0], *layer.data_to_world(index[1:]))
        viewer.dims.point = tuple(world)
        here = dict(zip(axes, index[1:], strict=True))
        value = shown.get_value(world, world=True, dims_displayed=list(viewer.dims.displayed))
        assert value == result.embedding[(index[0], *(here[axis] for axis in result.axes))]


@pytest.mark.parametrize("axes", ["tcyx", "yxz", "xy", "ytx"])
def test_what_is_measured_has_the_order_of_the_result(tiny, axes):
    data = np.random.default_rng(1).integers(0, 255, [SIZES[axis] for axis in axes]).astype(np.uint8)
    viewer, layer = ViewerModel(), ImageLayer(data, name="cells", rgb=False)
    result = put(viewer, layer, axes, tiny)
    last = np.asarray(data.shape) - 1
    viewer.dims.point = (0, *last)
    subject = subject_of(viewer, viewer.layers["cells instances"])
    assert subject.axes == result.axes
    frame = tuple(SIZES[axis] - 1 for axis in result.axes[:-2])
    assert subject.index == frame
    assert np.array_equal(subject.frame("labels")[...], result.labels[frame])
    assert np.array_equal(subject.frame("embedding")[...], result.embedding[(slice(None), *frame)])
    assert set(viewer.layers["cells instances"].metadata[KEY]["axes"]) <= set(axes) | {"_"}


@pytest.mark.gui
@pytest.mark.parametrize("axes", ["tcyx", "xy", "yxt"])
def test_a_result_out_of_core_lies_there_and_reopens_there(open_large, qtbot, tmp_path, axes):
    from napari_shiftseg.plugin.reader import get_reader

    sizes = {"t": 2, "c": 4, "y": 60, "x": 70}
    data = np.random.default_rng(1).integers(0, 255, [sizes[axis] for axis in axes]).astype(np.uint8)
    place = {"translate": range(3, 3 + len(axes)), "scale": range(2, 2 + len(axes))}
    viewer, widget = open_large(tmp_path / "r.ome.zarr", data, axis_labels=tuple(axes), **place)
    widget.run()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    assert "Written" in widget.status.text(), widget.status.text()
    image, labels = viewer.layers["cells"], viewer.layers["cells instances"]
    path = str(tmp_path / "r.ome.zarr")
    (again,) = (ViewerModel().add_labels(found, **look) for found, look, kind in get_reader(path)(path) if kind == "labels")
    assert np.asarray(labels.data).any()
    for pixel in np.ndindex(*(min(size, 4) for size in data.shape)):
        world = np.asarray(image.data_to_world(pixel))[-labels.ndim :]
        at = [tuple(np.rint(layer.world_to_data(world)).astype(int)) for layer in (labels, again)]
        here = dict(zip(axes, pixel, strict=True))
        kept = dict(zip(labels.metadata[KEY]["axes"], at[0], strict=True))
        assert all(kept[axis] == here[axis] for axis in "tyx" if axis in axes)
        assert np.asarray(labels.data[at[0]]) == again.data[at[1]]
