"""The axes of a layer: of the user, the layer, its file, or a question; one place decides for command and widget."""

import numpy as np
import pytest

pytest.importorskip("napari")

import tifffile
import zarr
from napari.layers import Image as ImageLayer

from napari_shiftseg import read_image
from napari_shiftseg.plugin.layer_axes import axes_of_layer, choose_axes, readings
from napari_shiftseg.plugin.source import guess_axes, image_of

rng = np.random.default_rng(0)


def pixels(*shape, dtype="uint16"):
    return rng.integers(0, 200, shape).astype(dtype)


def layer_from(path, data, **options):
    """A layer of some reader, that knows its file."""
    from napari.layers._source import layer_source

    with layer_source(path=str(path), reader_plugin="other"):
        return ImageLayer(data, name="cells", **options)


def opened(path):
    """The layer that napari's own reader makes of a file."""
    reader = pytest.importorskip("napari_builtins.io").napari_get_reader
    ((data,),) = reader(str(path))(str(path))
    return layer_from(path, data)


IMAGEJ = ["CYX", "TYX", "ZYX", "ZCYX", "TCYX", "TZYX", "TZCYX"]


@pytest.mark.parametrize("axes", IMAGEJ)
def test_a_hyperstack_of_napari_has_the_axes_of_its_file(tmp_path, axes):
    sizes = {"T": 2, "Z": 3, "C": 2, "Y": 20, "X": 24}
    path = tmp_path / "hyper.tif"
    tifffile.imwrite(path, pixels(*(sizes[axis] for axis in axes)), imagej=True, metadata={"axes": axes})
    layer, file = opened(path), read_image(path)
    found = axes_of_layer(layer)
    assert (found.axes, found.by) == (axes.lower(), "file") == (file.axes, "file")
    assert "assumed" not in found.note


@pytest.mark.parametrize("order", ["XYCZT", "XYZTC", "XYTCZ", "XYCTZ", "XYZCT", "XYTZC"])
def test_an_ome_tiff_of_napari_has_the_axes_steps_and_channels_of_its_file(tmp_path, order):
    axes = "".join(axis for axis in reversed(order))
    sizes = {"T": 2, "Z": 3, "C": 2, "Y": 20, "X": 24}
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": axes, "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "Channel": {"Name": ["DAPI", "membrane"]}}
    tifffile.imwrite(path, pixels(*(sizes[axis] for axis in axes)), metadata=metadata)
    layer = opened(path)
    axes, _ = guess_axes(layer)
    image, file = image_of(layer, axes), read_image(path)
    assert (image.axes, image.scale, image.units) == (file.axes, file.scale, file.units)
    assert dict(zip(image.axes, image.scale, strict=True))["y"] == 0.5
    assert image.channels == ("DAPI", "membrane")


def test_an_ome_zarr_of_napari_has_the_axes_of_its_store(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=pixels(2, 3, 20, 24))
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}, *({"name": n, "type": "space"} for n in "yx")]
    steps = [{"type": "scale", "scale": [2, 1, 0.5, 0.5]}, {"type": "translation", "translation": [0, 0, 7, 9]}]
    group.attrs["multiscales"] = [
        {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}
    ]
    layer = opened(tmp_path / "a.zarr")
    image = image_of(layer, guess_axes(layer)[0])
    assert (image.axes, image.scale, image.translation) == ("tcyx", (2, 1, 0.5, 0.5), (0, 0, 7, 9))


def test_what_nothing_names_is_assumed_and_said(tmp_path):
    tifffile.imwrite(tmp_path / "plain.tif", pixels(5, 20, 24), photometric="minisblack", metadata=None)
    for layer in (opened(tmp_path / "plain.tif"), ImageLayer(pixels(5, 20, 24))):
        found = axes_of_layer(layer)
        assert (found.axes, found.by) == ("zyx", "assumed")
        assert "5 planes of depth are assumed" in found.note
        assert list(readings(layer)) == ["zyx", "tyx", "cyx"]


def test_a_plane_raises_no_question():
    found = axes_of_layer(ImageLayer(pixels(20, 24)))
    assert (found.axes, found.by, found.note, readings(ImageLayer(pixels(20, 24)))) == ("yx", "layer", "", {})


@pytest.fixture
def stack(tmp_path):
    """A file of two channels and three planes, and its pixels."""
    data = pixels(3, 2, 20, 24)
    tifffile.imwrite(tmp_path / "stack.tif", data, imagej=True, metadata={"axes": "ZCYX", "spacing": 2, "unit": "um"})
    return tmp_path / "stack.tif", data


def test_a_channel_of_a_file_has_the_other_axes_of_it(stack):
    path, data = stack
    layer = layer_from(path, data[:, 1])
    assert (axes_of_layer(layer).axes, axes_of_layer(layer).by) == ("zyx", "file")
    assert image_of(layer, "zyx").scale[0] == 2


@pytest.mark.parametrize("part", [np.s_[0], np.s_[:2, 0], np.s_[:, :, :10]], ids=["a plane", "some planes", "a strip"])
def test_a_part_of_a_file_makes_no_silent_claim(stack, part):
    path, data = stack
    found = axes_of_layer(layer_from(path, data[part]))
    assert found.by == "assumed"
    assert "assumed" in found.note


def test_a_part_that_could_be_two_things_is_asked_for(tmp_path):
    """Two planes of one channel, or two channels of one plane: the sizes are equal."""
    data = pixels(2, 2, 20, 24)
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, metadata={"axes": "ZCYX"})
    assert axes_of_layer(layer_from(tmp_path / "a.tif", data[0])).by == "assumed"


def test_labels_of_the_layer_are_believed_before_the_file(stack):
    path, data = stack
    layer = layer_from(path, data, axis_labels=("time", "channel", "row", "col"))
    assert (axes_of_layer(layer).axes, axes_of_layer(layer).by) == ("tcyx", "layer")
    contrary = layer_from(path, data, axis_labels=("time", "-3", "-2", "-1"))
    assert axes_of_layer(contrary).by == "assumed"  # the file is not that of this layer
    assert axes_of_layer(contrary).axes[0] == "t"


@pytest.mark.parametrize(
    ("units", "axes"), [(("s", "um", "um"), "tyx"), (("um", "um", "um"), "zyx"), (("nm", "pixel", "pixel"), "zyx")]
)
def test_units_name_time_and_depth(units, axes):
    found = axes_of_layer(ImageLayer(pixels(5, 20, 24), units=units))
    assert (found.axes, found.by) == (axes, "layer")


def test_a_colour_series_has_the_axes_of_its_file(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", pixels(4, 40, 44, 3, dtype="uint8"), imagej=True, metadata={"axes": "TYXS"})
    layer = opened(tmp_path / "a.tif")
    assert layer.rgb
    assert (axes_of_layer(layer).axes, axes_of_layer(layer).by) == ("tyxc", "file")


def test_a_choice_lives_as_long_as_the_number_of_axes(stack):
    path, data = stack
    layer, other = layer_from(path, data), layer_from(path, data)
    choose_axes(layer, "tcyx")
    assert (axes_of_layer(layer).axes, axes_of_layer(layer).by) == ("tcyx", "user")
    assert axes_of_layer(other).by == "file"
    layer.data = data[0]
    assert axes_of_layer(layer).by != "user"


def test_what_the_user_calls_an_axis_keeps_the_steps_of_the_others(stack):
    path, data = stack
    layer = layer_from(path, data)
    choose_axes(layer, "tcyx")
    assert image_of(layer, "tcyx").axes == "tcyx"
    assert image_of(layer, "tcyx").scale[0] == 1  # the file gives a step of depth
    assert image_of(layer, "zcyx").scale[0] == 2


def test_a_layer_that_was_placed_keeps_its_own_steps(stack):
    path, data = stack
    layer = layer_from(path, data, scale=(3, 1, 1, 1), units=("um", "pixel", "um", "um"))
    assert image_of(layer, "zcyx").scale == (3, 1, 1, 1)


def test_what_is_wrong_with_the_file_reaches_the_image(tmp_path):
    data = pixels(6, 20, 24)
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, metadata={"axes": "ZYX", "spacing": -2, "unit": "um"})
    image = image_of(opened(tmp_path / "a.tif"), "zyx")
    assert image.scale[0] == 2
    assert "-2" in image.note


def test_nothing_is_decoded_to_know_the_axes(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels(4, 20, 24), imagej=True, metadata={"axes": "TYX"}, compression="zlib")
    layer = opened(path)
    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", lambda *_, **__: pytest.fail("pixels were decoded"))
    assert axes_of_layer(layer).axes == "tyx"
