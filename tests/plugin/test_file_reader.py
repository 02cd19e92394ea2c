"""What napari shows of a file is what the command reads of it: axes, steps, units, channels, and each image of several."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers._source import layer_source
from npe2 import PluginManifest

import napari_shiftseg
from napari_shiftseg import read_image
from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.io import scene_names
from napari_shiftseg.plugin.layer_axes import axes_of_layer
from napari_shiftseg.plugin.layers import KEY
from napari_shiftseg.plugin.source import image_of

AWKWARD = Path(__file__).resolve().parents[3] / "shared" / "data" / "awkward"
FILES = sorted(
    path for path in AWKWARD.glob("*") if path.name not in ("README.md", "BioImageTools__invalid", "BioImageTools__2d_testing")
)
FILES += sorted((AWKWARD / "BioImageTools__2d_testing").glob("*.zarr"))


@pytest.fixture
def opened(npe2pm):
    """`opened(path)`: layers as napari makes them of a file."""
    with npe2pm.tmp_plugin(manifest=PluginManifest.from_file(Path(napari_shiftseg.__file__).with_name("napari.yaml"))):
        yield lambda path: list(ViewerModel().open(str(path), plugin="napari-shiftseg"))


def check_same(layer, image):
    """A layer says of its pixels what the image does, axis by axis."""
    found = axes_of_layer(layer)
    assert found.by == ("assumed" if image.assumed else "file" if layer.rgb and found.by == "file" else "layer")
    again = image_of(layer, found.axes)
    assert sorted(again.axes) == sorted(image.axes)
    order = [image.axes.index(axis) for axis in again.axes]
    np.testing.assert_allclose(again.scale, [image.scale[at] for at in order])
    assert [None if unit == "pixel" else unit for unit in again.units] == [image.units[at] for at in order]
    np.testing.assert_allclose(
        again.translation or [0] * len(order), [(image.translation or [0] * len(order))[at] for at in order]
    )
    assert (again.channels, again.scene) == (image.channels, image.scene)
    corner = tuple(slice(0, 40) for _ in order)
    np.testing.assert_array_equal(np.asarray(again.data[corner]), np.asarray(image.reordered(again.axes).data[corner]))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_layers_of_awkward_files_are_what_read_image_gives(path, opened):
    try:
        names = scene_names(path)
        images = [read_image(path, scene=scene if len(names) > 1 else None) for scene in range(len(names))]
    except ShiftsegError as exc:
        assert opened(path) == []  # the same sentence is shown
        pytest.skip(f"the command does not read it either: {exc}")
    layers = [layer for layer in opened(path) if isinstance(layer, ImageLayer)]
    assert len(layers) >= 1 and [layer.visible for layer in layers] == [True, *[False] * (len(layers) - 1)]
    for layer, image in zip(layers, images, strict=False):
        check_same(layer, image)


def imagej(path, data, axes, **metadata):
    tifffile.imwrite(path, data, imagej=True, resolution=(4, 2), metadata={"axes": axes, "unit": "um", **metadata})


def ome(path, data, axes, **metadata):
    tifffile.imwrite(path, data, metadata={"axes": axes, "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, **metadata})


RNG = np.random.default_rng(0)
MADE = {
    "stack.tif": lambda path: imagej(path, RNG.integers(0, 99, (5, 30, 40)).astype(np.uint16), "ZYX", spacing=3.0),
    "series.tif": lambda path: imagej(path, RNG.integers(0, 99, (5, 30, 40)).astype(np.uint16), "TYX", finterval=30.0),
    "channels.tif": lambda path: imagej(path, RNG.integers(0, 99, (4, 2, 30, 40)).astype(np.uint16), "ZCYX", spacing=2.0),
    "named.ome.tif": lambda path: ome(path, RNG.random((2, 30, 40), np.float32), "CYX", Channel={"Name": ["DAPI", "actin"]}),
    "volumes.ome.tif": lambda path: ome(
        path, RNG.integers(0, 9, (3, 4, 30, 40)).astype(np.uint8), "TZYX", PhysicalSizeZ=2.0, TimeIncrement=60.0
    ),
    "colours.tif": lambda path: tifffile.imwrite(path, RNG.integers(0, 255, (30, 40, 3)).astype(np.uint8), photometric="rgb"),
    "deep.tif": lambda path: tifffile.imwrite(path, RNG.integers(0, 999, (30, 40, 3)).astype(np.uint16), photometric="rgb"),
    "plain.TIF": lambda path: tifffile.imwrite(path, RNG.integers(0, 255, (30, 40)).astype(np.uint8)),
}


@pytest.mark.parametrize("name", MADE)
def test_layers_of_made_files_are_what_read_image_gives(name, tmp_path, opened):
    MADE[name](tmp_path / name)
    (layer,) = opened(tmp_path / name)
    check_same(layer, read_image(tmp_path / name))


def test_large_files_are_read_by_planes(tmp_path, monkeypatch, opened):
    monkeypatch.setattr("napari_shiftseg.io.tiff.EAGER_BYTES", 10)
    imagej(tmp_path / "stack.tif", np.arange(5 * 30 * 40, dtype=np.uint16).reshape(5, 30, 40), "ZYX", spacing=3.0)
    (layer,) = opened(tmp_path / "stack.tif")
    assert not isinstance(layer.data, np.ndarray)
    check_same(layer, read_image(tmp_path / "stack.tif"))


def two_images(path):
    with tifffile.TiffWriter(path, ome=True) as file:
        for k, name in enumerate(("left", "right")):
            data = np.full((30 + k, 40), 5 + k, np.uint8)
            file.write(data, metadata={"axes": "YX", "Name": name, "PhysicalSizeX": 0.5 + k, "PhysicalSizeY": 0.5 + k})


def test_each_image_of_a_file_is_a_layer_that_remembers_which_it_is(tmp_path, opened):
    two_images(tmp_path / "two.ome.tif")
    layers = opened(tmp_path / "two.ome.tif")
    assert [layer.name for layer in layers] == ["two#0", "two#1"]
    for scene, layer in enumerate(layers):
        check_same(layer, read_image(tmp_path / "two.ome.tif", scene=scene))


def field(group, value, version):
    data = np.full((30, 40), value, np.uint16)
    options = {"chunks": (30, 40), "shape": data.shape, "dtype": data.dtype}
    group.create_array("0", **options)[:] = data
    scale = [{"type": "scale", "scale": [0.5, 0.25]}]
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    entry = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}], "version": version}
    told = {"multiscales": [entry]}
    group.attrs.update({"ome": {"version": version, **told}} if version == "0.5" else told)


@pytest.mark.parametrize(("version", "form"), [("0.4", 2), ("0.5", 3)])
def test_the_fields_of_a_plate_are_its_images(tmp_path, version, form, opened):
    root = zarr.open_group(tmp_path / "plate.zarr", mode="w", zarr_format=form)

    def tell(group, told):
        group.attrs.update({"ome": {"version": version, **told}} if version == "0.5" else told)

    tell(root, {"plate": {"wells": [{"path": "A/1"}, {"path": "B/2"}]}})
    for number, well in enumerate(("A/1", "B/2")):
        group = root.create_group(well)
        tell(group, {"well": {"images": [{"path": "0"}, {"path": "1"}]}})
        for at in range(2):
            field(group.create_group(str(at)), 10 * number + at, version)
    path = tmp_path / "plate.zarr"
    assert scene_names(path) == ("A/1/0", "A/1/1", "B/2/0", "B/2/1")
    layers = opened(path)
    assert [int(np.asarray(layer.data).max()) for layer in layers] == [0, 1, 10, 11]
    for scene, layer in enumerate(layers):
        check_same(layer, read_image(path, scene=scene))
    assert scene_names(path / "B" / "2") == ("0", "1") and len(opened(path / "B" / "2")) == 2
    (layer,) = opened(path / "B" / "2" / "1")
    check_same(layer, read_image(path / "B" / "2" / "1"))


def test_what_cannot_be_read_is_a_sentence(tmp_path, monkeypatch, opened):
    said = []
    monkeypatch.setattr("napari_shiftseg.plugin.file_reader.show_warning", said.append)
    monkeypatch.setitem(sys.modules, "bioio", None)
    (tmp_path / "a.czi").write_bytes(b"ZISRAWFILE" + bytes(100))
    (tmp_path / "b.tif").write_bytes(b"II*\0" + bytes(3))
    for name, word in (("a.czi", r"napari-shiftseg[bioio]"), ("b.tif", "b.tif")):
        assert opened(tmp_path / name) == [] and word in said[-1]


# -- files that lack something ----------------------------------------------------------------------------------------


def no_strips(path):
    tifffile.imwrite(path, np.full((40, 48), 9, np.uint8), rowsperstrip=8, compression="zlib", metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["StripByteCounts"].overwrite([0] * 5)


def no_companion(path):
    text = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><BinaryOnly MetadataFile="all.companion.ome"/></OME>'
    tifffile.imwrite(path, np.arange(1920, dtype=np.uint16).reshape(40, 48), description=text, metadata=None)


def cut_pages(path):
    with tifffile.TiffWriter(path) as writer:
        for _ in range(4):
            writer.write(np.arange(1920, dtype=np.uint16).reshape(40, 48), contiguous=False, metadata=None)
    with tifffile.TiffFile(path) as whole:
        end = whole.pages[2].offset
    path.write_bytes(path.read_bytes()[:end])


LACKING = {"strips": (no_strips, "lacks pixels"), "companion": (no_companion, "companion"), "pages": (cut_pages, "breaks off")}


@pytest.mark.gui
@pytest.mark.parametrize("by", ["our reader", "a layer of another reader"])
@pytest.mark.parametrize("what", LACKING)
def test_what_a_file_lacks_stands_in_the_widget_and_in_the_record(opened, open_widget, qtbot, tmp_path, what, by):
    make, said = LACKING[what]
    path = tmp_path / ("a.ome.tif" if what == "companion" else "a.tif")
    make(path)
    if by == "our reader":
        (layer,) = opened(path)
    else:
        with layer_source(path=str(path), reader_plugin="napari"):
            layer = ImageLayer(np.asarray(read_image(path).data), name="a")
    viewer, widget = open_widget(layer)
    assert said in widget.form.about_image.text() and widget.form.about_image.isVisibleTo(widget.form)
    qtbot.waitUntil(widget.run_button.isEnabled, timeout=60_000)
    widget.run()
    qtbot.waitUntil(lambda: not widget.running and len(viewer.layers) > 1, timeout=60_000)
    notes = {each.metadata[KEY]["record"]["image"]["note"] for each in viewer.layers if KEY in each.metadata}
    assert notes and all(said in note for note in notes)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_napari_opens_no_layer_of_a_jpeg_that_is_cut(tmp_path, share):
    """Such files are napari's own to read, and what it would make up of the rest is no layer either."""
    from imagecodecs import jpeg8_encode

    data = jpeg8_encode(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    (tmp_path / "a.jpg").write_bytes(data[: int(share * len(data))])
    viewer = ViewerModel()
    with pytest.raises(Exception, match=r"truncated|a\.jpg"):
        viewer.open(str(tmp_path / "a.jpg"), plugin="napari")
    assert not viewer.layers
