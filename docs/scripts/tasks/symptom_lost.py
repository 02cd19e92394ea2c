"""A correction seems lost: the steps of docs/symptoms.md, with a run after an edit."""

import numpy as np
from steps import Task
from tasks import _images
from tasks.correct import largest, middle


def begin(hand, folder):
    """An object is deleted by hand, then the image is segmented again."""
    _images.segmented(hand, folder)
    hand.select("nuclei instances")
    hand.menu("Layers", "Annotate", "Correct (ShiftSeg)")
    layer = hand.sees_layer("nuclei instances")
    hand.sees("objects")
    known["gone"] = largest(layer)[0]
    hand.press("Delete")
    hand.click("nuclei instances", middle(layer, known["gone"]))
    hand.sees("Edited by hand: 1 edit")
    known["edited"] = np.array(layer.data)
    hand.front("Segment")
    hand.press("Run")
    hand.sees_layer("nuclei instances")


task = Task(name="symptom_lost", prepare=_images.nuclei, begin=begin, intro="What a saved result says of its edits:")
known = {}


@task.step(
    "Look in the list of layers: a run never writes to labels that you touched. They are in a layer of their own, such as "
    "*nuclei instances (edited)*, below the new ones.",
    "It is there, with your edit.",
)
def look(hand, folder):
    kept = hand.sees_layer("nuclei instances (edited)")
    hand.sees_that(lambda: np.array_equal(kept.data, known["edited"]), "the labels as they were edited")
    fresh = hand.sees_layer("nuclei instances")
    hand.sees_that(lambda: not np.array_equal(fresh.data, kept.data), "other labels of the new run")


@task.step(
    "Take that layer under **Labels** in the Correct widget: its edits are listed. **Undo** takes them back one by one, "
    "**Redo** does them again; both work after a run as well, and for a result on a disk in a later session.",
    "The object comes and goes.",
)
def history(hand, folder):
    hand.front("Correct")
    hand.choose("Labels", "nuclei instances (edited)")
    kept = hand.sees_layer("nuclei instances (edited)")
    hand.press("Undo")
    hand.sees("Undone: deleted")
    hand.sees_that(lambda: known["gone"] in kept.data, "the object")
    hand.press("Redo")
    hand.sees("Done again: deleted")
    hand.sees_that(lambda: known["gone"] not in kept.data, "no object")


@task.command("shiftseg segment nuclei.tif --model nuclei --out nuclei.ome.zarr\nshiftseg seams nuclei.ome.zarr")
def command(folder, printed):
    assert "finding" in printed
