"""Too slow, out of memory: the steps of docs/symptoms.md."""

import numpy as np
from steps import Task
from tasks import _images

from napari_shiftseg import open_result


def begin(hand, folder):
    """Tiles of one period, of which each is computed with its surroundings."""
    _images.open_file(hand, folder / "nuclei.tif")
    hand.sees_layer("nuclei")
    hand.menu("Layers", "Segment", "Segment (ShiftSeg)")
    hand.sees("Compliant")
    hand.type("Tile size", "8")


task = Task(name="symptom_slow", prepare=_images.nuclei, begin=begin)
known = {}


@task.step(
    "Read the line below **Tile size**: the *redundancy* says how many times the network computes each pixel.",
    "Tiles that are small against their surroundings cost most of the time.",
)
def read(hand, folder):
    hand.find("Tile size", hand.FIELD)
    line = hand.sees("redundancy")
    known["redundancy"] = float(line.split("redundancy ")[1].split("x")[0].replace(",", ""))
    hand.sees_that(lambda: known["redundancy"] > 20, f"a high redundancy, not {known['redundancy']}")


@task.step(
    "Type `Automatic` into **Tile size**, and leave **Precision** and **Device** at *automatic* and *auto*: the line below "
    "says what runs, and why not something faster.",
    "The redundancy is about as small as memory allows.",
)
def automatic(hand, folder):
    hand.choose("Tile size", "Automatic")
    hand.choose("Precision", "automatic")
    hand.choose("Device", "auto")
    hand.sees_that(lambda: _redundancy(hand) < 3, "a redundancy below 3")


@task.step(
    "To try settings, segment what is in view alone: zoom in, and **Preview view**.",
    "One layer, *nuclei preview instances*, in a part of the time.",
)
def preview(hand, folder):
    hand.look_at("nuclei", (96, 128), 12)
    hand.press("Preview view")
    hand.sees("Preview of ", "Run segments the whole image")
    hand.sees_that(lambda: any("preview" in layer.name for layer in hand.viewer.layers), "a preview")


@task.step(
    "Where memory is short: in the group **Large images**, set **Out of core** to *Always*, or **Memory** to what the run "
    "may take; then **Run**.",
    "The result is written block by block into a store beside the image, and shown from there.",
)
def large(hand, folder):
    hand.open_group("Large images")
    hand.choose("Out of core", "Always", group="Large images")
    hand.type("Memory", "2", group="Large images")
    hand.press("Run")
    hand.sees("instances, compliant", "Written to")
    hand.sees_layer("nuclei instances")


def _redundancy(hand):
    return float(hand.sees("redundancy").split("redundancy ")[1].split("x")[0].replace(",", ""))


@task.command(
    "shiftseg segment nuclei.tif --model nuclei --out nuclei.ome.zarr --dry-run            # tiles, memory, time\n"
    "shiftseg segment nuclei.tif --model nuclei --memory 2GB --out-of-core --out nuclei.ome.zarr"
)
def command(folder, printed):
    assert "redundancy" in printed
    assert np.count_nonzero(open_result(folder / "nuclei.ome.zarr").labels[...])
