"""The wrong channel: the steps of docs/symptoms.md, on two channels of which the second has the nuclei."""

import numpy as np
from steps import Task
from tasks import _images
from tifffile import imwrite

from napari_shiftseg import open_result


def prepare(folder):
    """`two.ome.tif`: a dark channel named background, and one named nuclei."""
    nuclei = _images.sample("nuclei")[120:312, 200:456]
    noise = np.random.default_rng(0).integers(3, 6, nuclei.shape).astype(np.uint8)
    metadata = {"axes": "CYX", "Channel": {"Name": ["background", "nuclei"]}}
    imwrite(folder / "two.ome.tif", np.stack([noise, nuclei]), metadata=metadata)


def begin(hand, folder):
    """A run on the first channel."""
    _images.open_file(hand, folder / "two.ome.tif")
    hand.sees_that(lambda: len(hand.viewer.layers) > 0, "the image")
    hand.menu("Layers", "Segment", "Segment (ShiftSeg)")
    hand.press("Run")
    hand.sees("0 instances")


task = Task(name="symptom_channel", prepare=prepare, begin=begin)


@task.step("Look at **Channel** in the Segment widget, take the one that shows the objects, and **Run**.", "They are found.")
def channel(hand, folder):
    hand.choose("Channel", "1 nuclei")
    hand.press("Run")
    hand.sees("22 instances, compliant")


@task.command(
    "shiftseg info --image two.ome.tif                 # which channels there are\n"
    "shiftseg segment two.ome.tif --model nuclei --channels 1 --out nuclei.ome.zarr"
)
def command(folder, printed):
    assert open_result(folder / "nuclei.ome.zarr").record["instances"] == [22]
