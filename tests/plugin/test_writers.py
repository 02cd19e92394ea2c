"""File > Save of a labels layer writes what `shiftseg export` writes of a file with these labels."""

import csv
import json

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

import roifile
from napari.layers import Labels
from npe2 import PluginManifest
from npe2.io_utils import write

import napari_shiftseg
from napari_shiftseg.io import read_labels
from napari_shiftseg.plugin.signature import KEY
from napari_shiftseg.segmentation import SegmentSettings, decide


@pytest.fixture(autouse=True)
def plugin(npe2pm):
    from pathlib import Path

    manifest = PluginManifest.from_file(Path(napari_shiftseg.__file__).with_name("napari.yaml"))
    with npe2pm.tmp_plugin(manifest=manifest):
        yield


def save(layer, path):
    """As napari does after its dialog."""
    return write(str(path), layer_data=[layer.as_layer_data_tuple()], plugin_name="napari-shiftseg")


def planes():
    labels = np.zeros((3, 20, 24), np.int32)
    labels[:, 2:8, 3:9], labels[1, 10:15, 10:20], labels[1, 12, 12] = 5, 70_000, 0
    return labels


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.ome.zarr"])
@pytest.mark.parametrize(("labels", "axes"), [(("t", "y", "x"), "tyx"), (("z", "y", "x"), "zyx"), (None, "zyx")])
def test_images_keep_numbers_axes_and_steps(name, labels, axes, tmp_path):
    units = ("s" if axes[0] == "t" else "um", "um", "um")
    layer = Labels(planes(), scale=(2, 0.5, 0.25), units=units, axis_labels=labels)
    assert save(layer, tmp_path / name) == [str(tmp_path / name)]
    back = read_labels(tmp_path / name)
    np.testing.assert_array_equal(back.data[:], planes())
    assert (back.axes, back.scale) == (axes, (2, 0.5, 0.25))
    assert back.units == ("second" if axes[0] == "t" else "micrometer", "micrometer", "micrometer")


def test_outlines_and_tables_are_of_the_layer_as_it_is(tmp_path):
    layer = Labels(planes()[1], scale=(0.5, 0.5), units=("um", "um"), name="mine")
    layer.data[0, 0] = 9  # painted since
    for name in ("a.geojson", "a.zip", "a.csv"):
        save(layer, tmp_path / name)
        save(layer, tmp_path / name)  # napari has asked
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert sorted(one["properties"]["name"] for one in features) == ["5", "70000", "9"]
    assert sorted(one.name for one in roifile.roiread(tmp_path / "a.zip")) == ["5", "70000", "9"]
    rows = {row["label"]: row for row in csv.DictReader((tmp_path / "a.csv").read_text().splitlines())}
    assert (rows["9"]["area"], rows["5"]["area"], rows["70000"]["unit"]) == ("0.25", "9.0", "micrometer")


def test_a_pyramid_is_written_at_full_resolution(tmp_path):
    layer = Labels([planes()[1], planes()[1, ::2, ::2]])
    save(layer, tmp_path / "a.tif")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif").data[:], planes()[1])


def test_an_axis_of_one_pixel_that_the_image_has_is_left_out(tmp_path):
    layer = Labels(planes()[1][:, None], scale=(0.5, 9, 0.5), metadata={KEY: {"axes": "y_x"}})
    save(layer, tmp_path / "a.csv")
    save(layer, tmp_path / "a.tif")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif").data[:], planes()[1])


def test_planes_of_a_stack_that_were_segmented_one_by_one_are_measured_one_by_one(tmp_path):
    image = napari_shiftseg.io.Image.from_array(np.zeros((3, 64, 64), np.uint8), axes="zyx")
    plan = decide(image, napari_shiftseg.load_model("nuclei"), SegmentSettings(), refuse=False).plan
    layer = Labels(planes(), metadata={KEY: {"axes": "zyx", "plan": plan}})
    save(layer, tmp_path / "a.csv")
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [(row["z"], row["label"]) for row in rows] == [("0", "5"), ("1", "5"), ("1", "70000"), ("2", "5")]
