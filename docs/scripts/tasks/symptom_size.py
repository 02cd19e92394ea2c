"""Objects of another size: the steps of docs/symptoms.md, on nuclei that are magnified four times."""

import numpy as np
from steps import Task
from tasks import _images

from napari_shiftseg import open_result


def prepare(folder):
    """`large.tif`: some nuclei, each pixel 4 x 4 pixels."""
    _images.save(folder / "large.tif", np.kron(_images.sample("nuclei")[120:216, 200:328], np.ones((4, 4), np.uint8)), 0.1625)


def begin(hand, folder):
    """A run on the image as it is."""
    _images.open_file(hand, folder / "large.tif")
    hand.sees_layer("large")
    hand.menu("Layers", "Segment", "Segment (ShiftSeg)")
    hand.press("Run")
    hand.sees("instances, compliant")
    known["before"] = _images.count(hand.sees_layer("large instances"))


task = Task(name="symptom_size", prepare=prepare, begin=begin)
known = {}


@task.step(
    "Press **Measure** beside *Object diameter*, or type how large the objects are, in pixels.",
    "A line says at which scale the network will run.",
)
def measure(hand, folder):
    hand.press("Measure")
    hand.sees("scale 1/4")


@task.step("**Run**.", "Objects that were cut into pieces are whole.")
def run(hand, folder):
    hand.press("Run")
    layer = hand.sees_layer("large instances")
    hand.sees_that(lambda: 5 <= _images.count(layer) < known["before"], f"fewer than {known['before']} objects")


@task.command(
    "shiftseg segment large.tif --model nuclei --out pieces.ome.zarr\n"
    "shiftseg segment large.tif --model nuclei --diameter auto --out whole.ome.zarr"
)
def command(folder, printed):
    pieces, whole = (open_result(folder / f"{name}.ome.zarr").record["instances"][0] for name in ("pieces", "whole"))
    assert whole < pieces
