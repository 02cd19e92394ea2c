"""The steps of docs/correct.md."""

import csv

import numpy as np
from steps import Task
from tasks import _images

from napari_shiftseg import read_labels

task = Task(
    name="correct", prepare=_images.nuclei, intro="Corrected labels that were saved are measured and exported as any other:"
)
known = {}


def middle(layer, number):
    """The pixel of an object that is farthest from its border."""
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(np.pad(np.asarray(layer.data) == number, 1))[1:-1, 1:-1]
    return np.unravel_index(int(depth.argmax()), depth.shape)


def largest(layer, many=4):
    """The largest objects of a layer, the largest first."""
    numbers, counts = np.unique(np.asarray(layer.data)[np.asarray(layer.data) > 0], return_counts=True)
    return [int(number) for number in numbers[np.argsort(-counts)][:many]]


@task.step(
    "[Segment](segment.md) an image, then *Layers > Annotate > Correct (ShiftSeg)*.",
    "The widget says how many objects there are.",
)
def begin(hand, folder):
    _images.segmented(hand, folder)
    hand.select("nuclei instances")
    hand.menu("Layers", "Annotate", "Correct (ShiftSeg)")
    layer = hand.sees_layer("nuclei instances")
    known["labels"], known["count"] = np.array(layer.data), _images.count(layer)
    hand.sees(f"{known['count']} objects")


@task.step(
    "Press **Merge**, or the key `J`, and click two objects.",
    "The second has the number and the colour of the first, and the list says so.",
)
def merge(hand, folder):
    layer = hand.sees_layer("nuclei instances")
    known["one"], known["two"], known["cut"], known["gone"] = largest(layer)
    hand.press("Merge")
    hand.click("nuclei instances", middle(layer, known["one"]))
    hand.sees(f"Object {known['one']}: click the one that becomes a part of it.")
    hand.click("nuclei instances", middle(layer, known["two"]))
    hand.sees(f"{known['count'] - 1} objects", "Edited by hand: 1 edit")
    hand.sees_that(lambda: known["two"] not in layer.data, "one number for both")


EDITED = "nuclei instances (edited)"  # the name that the first edit gives the layer


@task.step(
    "Press **Split**, or the key `K`, and draw a line across an object where it is to be cut, or from one part to the other.",
    "There are two objects, and a line says whether the embedding or your line has cut them.",
)
def split(hand, folder):
    layer = hand.sees_layer(EDITED)
    hand.press("Split")
    ends = [np.array(place, float) for place in zip(*np.nonzero(known["labels"] == known["cut"]), strict=True)]
    centre = np.mean(ends, axis=0)
    long = np.linalg.svd(np.array(ends) - centre, full_matrices=False)[2][0]
    across = np.array([-long[1], long[0]])
    start, stop = centre - 30 * across, centre + 30 * across
    top = np.array(known["labels"].shape) - 1.0
    hand.line(EDITED, np.clip(start, 0, top), np.clip(stop, 0, top))
    hand.sees("Split", "into")
    hand.sees(f"{known['count']} objects", "Edited by hand: 2 edits")
    known["split"] = np.array(layer.data)


@task.step("Press **Delete**, or the key `D`, and click an object.", "It is background.")
def delete(hand, folder):
    layer = hand.sees_layer(EDITED)
    hand.press("Delete")
    hand.click(EDITED, middle(layer, known["gone"]))
    hand.sees(f"{known['count'] - 1} objects", "Edited by hand: 3 edits")
    hand.sees_that(lambda: known["gone"] not in layer.data, "a deleted object is not there")


@task.step("**Undo**, or `Ctrl+Z` in the canvas, takes back the last edit.", "The object is there again.")
def undo(hand, folder):
    layer = hand.sees_layer(EDITED)
    hand.press("Undo")
    hand.sees("Undone: deleted")
    hand.sees_that(lambda: np.array_equal(layer.data, known["split"]), "the labels before the deletion")


@task.step(
    "**Accept**, when all is as it should be.",
    "The layer is yours, and called *nuclei accepted*: no run and no change of a setting replaces it.",
)
def accept(hand, folder):
    hand.press("Accept")
    hand.sees("nuclei accepted is yours now: no run replaces it")


@task.step(
    "*File > Save Selected Layers*, and choose the format *OME-Zarr of labels*.",
    "The labels and the list of edits are in the store.",
)
def save(hand, folder):
    hand.select("nuclei accepted")
    hand.answer_files(folder / "corrected.ome.zarr", kind="OME-Zarr of labels")
    hand.menu("File", "Save Selected Layers")
    hand.sees_that((folder / "corrected.ome.zarr").exists, "the store")
    saved = read_labels(folder / "corrected.ome.zarr")
    hand.sees_that(lambda: len(saved.record["edits"]) == 2, "two edits in the record")


@task.command("shiftseg measure corrected.ome.zarr --out cells.csv\nshiftseg export corrected.ome.zarr cells.geojson")
def command(folder, printed):
    with open(folder / "cells.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == known["count"] and (folder / "cells.geojson").stat().st_size
