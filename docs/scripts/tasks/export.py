"""The steps of docs/export.md."""

import json

import numpy as np
from roifile import roiread
from steps import Task
from tasks import _images

from napari_shiftseg import read_labels

task = Task(name="export", prepare=_images.nuclei)
known = {}

FORMATS = {
    "labels with pixel size": "nuclei-labels.tif",
    "OME-Zarr of labels": "nuclei-labels.ome.zarr",
    "GeoJSON for QuPath": "nuclei-labels.geojson",
    "regions for ImageJ": "nuclei-labels.zip",
}


def save(hand, folder, layer):
    """Save a layer in four formats by napari's dialog."""
    for kind, name in FORMATS.items():
        hand.select(layer)
        hand.answer_files(folder / name, kind=kind)
        hand.menu("File", "Save Selected Layers")
        hand.sees_that((folder / name).exists, f"the file {name}")


def check_saved(folder, labels, scale):
    """Other programs find the same objects in all four."""
    numbers = set(np.unique(labels)) - {0}
    for name in ("nuclei-labels.tif", "nuclei-labels.ome.zarr"):
        again = read_labels(folder / name)
        assert np.array_equal(np.asarray(again.data[...]), labels), name
        assert np.allclose(again.scale, scale), f"{name}: {again.scale}"
    features = json.loads((folder / "nuclei-labels.geojson").read_text())
    features = features["features"] if isinstance(features, dict) else features
    assert len(features) == len(numbers)
    regions = {int(region.name.split("-")[0]) for region in roiread(folder / "nuclei-labels.zip")}
    assert regions == numbers


@task.step(
    "[Segment](segment.md) an image, or open labels of others, and click the labels in the list of layers.",
    "They are selected.",
)
def begin(hand, folder):
    _images.segmented(hand, folder)
    hand.select("nuclei instances")
    hand.sees_that(lambda: hand.viewer.layers.selection.active.name == "nuclei instances", "the labels selected")


@task.step(
    "*File > Save Selected Layers*, choose a format below the name, such as *labels with pixel size*, *OME-Zarr of "
    "labels*, *GeoJSON for QuPath* or *regions for ImageJ*, and give the name its ending.",
    "The file holds the layer as it is, with what was painted since the run.",
)
def save_all(hand, folder):
    save(hand, folder, "nuclei instances")
    labels = known["labels"] = np.array(hand.sees_layer("nuclei instances").data)
    check_saved(folder, labels, tuple(hand.sees_layer("nuclei instances").scale))


@task.command(
    "shiftseg segment nuclei.tif --model nuclei --out nuclei.ome.zarr\n"
    "shiftseg export nuclei.ome.zarr nuclei-labels.ome.tif\n"
    "shiftseg export nuclei.ome.zarr nuclei-labels.tif --overwrite\n"
    "shiftseg export nuclei.ome.zarr nuclei-labels.ome.zarr --overwrite\n"
    "shiftseg export nuclei.ome.zarr nuclei-labels.geojson --overwrite\n"
    "shiftseg export nuclei.ome.zarr nuclei-labels.zip --overwrite\n"
    "shiftseg measure nuclei.ome.zarr --out nuclei.csv"
)
def command(folder, printed):
    check_saved(folder, known["labels"], (0.65, 0.65))  # the widget and the command make the same labels
    assert np.array_equal(np.asarray(read_labels(folder / "nuclei-labels.ome.tif").data[...]), known["labels"])
    assert (folder / "nuclei.csv").read_text().startswith("label,num_pixels,area,unit")
