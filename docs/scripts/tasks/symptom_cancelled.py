"""A run was cancelled: the steps of docs/symptoms.md."""

import numpy as np
from steps import Task
from tasks import _images

from napari_shiftseg import open_result


def begin(hand, folder):
    """A result, and small tiles, after each of which a run can stop."""
    _images.segmented(hand, folder)
    hand.type("Tile size", "16")


task = Task(
    name="symptom_cancelled",
    prepare=_images.nuclei,
    begin=begin,
    intro="As commands; one that was interrupted goes on where it was when it is given again:",
)
known = {}


@task.step(
    "Press **Run**, and **Cancel** while it works.", "*Cancelled; no layer was changed.* What an earlier run made is as it was."
)
def cancel(hand, folder):
    layer = hand.sees_layer("nuclei instances")
    known["labels"] = np.array(layer.data)
    hand.press("Run")
    hand.press("Cancel")
    hand.sees("Cancelled; no layer was changed.")
    hand.sees_that(lambda: np.array_equal(hand.viewer.layers["nuclei instances"].data, known["labels"]), "the labels of before")


@task.step("**Run** again.", "It runs to its end. A run out of core goes on with the blocks that are missing.")
def again(hand, folder):
    hand.choose("Tile size", "Automatic")
    hand.press("Run")
    hand.sees("22 instances, compliant")


@task.command(
    "shiftseg segment nuclei.tif --model nuclei --out-of-core --memory 2GB --out large.ome.zarr\n"
    "shiftseg segment nuclei.tif --model nuclei --out whole.ome.zarr"
)
def command(folder, printed):
    large, whole = (open_result(folder / f"{name}.ome.zarr") for name in ("large", "whole"))
    assert np.array_equal(large.labels[...] > 0, whole.labels[...] > 0)
