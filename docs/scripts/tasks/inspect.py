"""The steps of docs/inspect.md."""

from steps import Task
from tasks import _images

task = Task(
    name="inspect", prepare=_images.nuclei, intro="The same as commands; their exit code is 0 where the answer is good:"
)


@task.step(
    "[Segment](segment.md) an image, or open a result that was saved: drag the `.zarr` folder into napari, or take *Open…* "
    "in the widget of the next step. A small **Tile size** makes more seams to look at.",
    "The objects lie over the image.",
)
def begin(hand, folder):
    hand.answer_files(folder / "nuclei.tif")
    hand.menu("File", "Open File(s)")
    hand.menu("Layers", "Segment", "Segment (ShiftSeg)")
    hand.sees("Compliant")
    hand.type("Tile size", "64")
    hand.press("Run")
    hand.sees("instances, compliant")
    hand.sees_layer("nuclei instances")


@task.step(
    "*Layers > Visualize > Inspect (ShiftSeg)*; the menu *Plugins* has it as well. Choose the embedding or the instances "
    "layer as **Result**.",
    "A line says what the lines of the next step are.",
)
def open_widget(hand, folder):
    hand.menu("Layers", "Visualize", "Inspect (ShiftSeg)")
    hand.choose("Result", "nuclei instances")
    hand.sees("seams: tiles meet here", "cells of the network")


@task.step(
    "Tick **Tile seams** and look: an object that ends on an orange line with a straight edge may have been cut.",
    "The lines lie over the result; they are a layer of their own.",
)
def seams(hand, folder):
    hand.press("Tile seams")
    hand.sees_that(lambda: any("seams" in layer.name for layer in hand.viewer.layers), "a layer of seams")


@task.step(
    "**Measure seams**. A click on a row moves the camera to that seam.",
    "The sentence with the dot is the finding; the seams are listed below it, the worst first.",
)
def measure(hand, folder):
    hand.press("Measure seams")
    hand.sees("the tiles do not show", "No seam shows")


@task.step("**Verify tiling** computes the image once more in one pass.", "A line says whether the tiles changed anything.")
def verify(hand, folder):
    hand.press("Verify tiling")
    hand.sees("tiles", "equal")


@task.command(
    "shiftseg segment nuclei.tif --model nuclei --tile 64 --out nuclei.ome.zarr\n"
    "shiftseg seams nuclei.ome.zarr\n"
    "shiftseg verify nuclei.tif --model nuclei --tile 64"
)
def command(folder, printed):
    assert "finding" in printed
