"""Wrong axes: the steps of docs/symptoms.md, on frames of a series that a file without a name for its pages holds."""

import numpy as np
from steps import Task
from tasks import _images
from tifffile import imwrite

from napari_shiftseg import open_result


def prepare(folder):
    """`pages.tif`: three frames; the file does not say what its pages are."""
    nuclei = _images.sample("nuclei")[120:312, 200:456]
    imwrite(folder / "pages.tif", np.stack([nuclei, np.roll(nuclei, 8, 1), np.roll(nuclei, 16, 1)]), photometric="minisblack")


def begin(hand, folder):
    """The image and the widget."""
    _images.open_file(hand, folder / "pages.tif")
    hand.sees_layer("pages")
    hand.menu("Layers", "Segment", "Segment (ShiftSeg)")


task = Task(name="symptom_axes", prepare=prepare, begin=begin)


@task.step(
    "Look at **Axes**, and at the line below: a yellow dot says that nobody named the axes, and what is assumed.",
    "Here a file of plain pages is taken for a stack.",
)
def look(hand, folder):
    axes = hand.find("Axes", hand.FIELD)
    hand.sees("Choose what they are")
    hand.sees_that(lambda: axes.text() == "zyx", f"zyx, not {axes.text()}")


@task.step(
    "Type what they are into **Axes**, such as `tyx`, or take it under *Read as*; then **Run**.",
    "Each frame of the series has its objects.",
)
def say(hand, folder):
    hand.type("Axes", "tyx")
    hand.press("Run")
    hand.sees("instances in 3 frames")
    layer = hand.sees_layer("pages instances")
    hand.sees_that(lambda: layer.metadata["napari-shiftseg"]["axes"] == "tyx", "a result whose first axis is time")


@task.command("shiftseg segment pages.tif --axes tyx --model nuclei --out series.ome.zarr")
def command(folder, printed):
    assert open_result(folder / "series.ome.zarr").axes == "tyx"
