"""Nothing found: the steps of docs/symptoms.md, on nuclei that a scale of intensities turns black."""

from steps import Task
from tasks import _images

from napari_shiftseg import open_result


def begin(hand, folder):
    """A run with limits that are not those of the image."""
    _images.open_file(hand, folder / "nuclei.tif")
    hand.sees_layer("nuclei")
    hand.menu("Layers", "Segment", "Segment (ShiftSeg)")
    hand.sees("Compliant")
    hand.open_group("Intensities")
    hand.choose("Scale", "limits", group="Intensities")
    hand.type("0 and 1", "4095", group="Intensities", number=1)
    hand.press("Run")
    hand.sees("0 instances")


task = Task(name="symptom_nothing", prepare=_images.nuclei, begin=begin)


@task.step(
    "Read the line on intensities below *Run*: it says which of them became 0 and 1.",
    "Here the upper one is far above all that the image has, and the line warns of it.",
)
def read(hand, folder):
    hand.sees("Intensities:", "4095", "become 0 and 1")


@task.step(
    "In the group **Intensities**, set **Scale** to *from the model*, and **Run**.",
    "The objects are there.",
)
def scale(hand, folder):
    hand.open_group("Intensities")
    hand.choose("Scale", "from the model", group="Intensities")
    hand.press("Run")
    hand.sees("22 instances, compliant")
    hand.sees_that(lambda: _images.count(hand.viewer.layers["nuclei instances"]) == 22, "22 objects")


@task.command(
    "shiftseg segment nuclei.tif --model nuclei --limits 0,4095 --out black.ome.zarr   # nothing is found\n"
    "shiftseg segment nuclei.tif --model nuclei --out found.ome.zarr"
)
def command(folder, printed):
    black, found = (open_result(folder / f"{name}.ome.zarr").record["instances"][0] for name in ("black", "found"))
    assert black == 0 and 15 < found < 40
