"""The steps of docs/segment.md."""

from steps import Task
from tasks import _images

from napari_shiftseg import open_result

task = Task(name="segment", prepare=_images.nuclei)


@task.step(
    "*File > Open File(s)*, or drag the file into napari. Under *Open Sample*, *ShiftSeg* has images to try.",
    "The image is a layer.",
)
def open_image(hand, folder):
    _images.open_file(hand, folder / "nuclei.tif")
    hand.sees_layer("nuclei")


@task.step(
    "*Layers > Segment > Segment (ShiftSeg)*; the menu *Plugins* has it as well. PyTorch is loaded while the widget is "
    "open already.",
    "As soon as it is, a line says which tiles will run and that they are *Compliant*.",
)
def open_widget(hand, folder):
    hand.menu("Layers", "Segment", "Segment (ShiftSeg)")
    hand.sees("Compliant")


@task.step(
    "Look at **Axes**: one letter per axis of the layer, of `t` (time), `c` (channel), `z`, `y`, `x`. They are those that "
    "the layer's own labels and units name, else those of the file that it was read from, also where napari's reader has "
    "lost them. Where nobody names them, the line below has a yellow dot and says what is assumed: choose under *Read as* "
    "what they are, or write the letters. A choice is remembered for the layer.",
    "Here they are `yx`.",
)
def look_at_axes(hand, folder):
    axes = hand.find("Axes", hand.FIELD)
    hand.sees_that(lambda: axes.text() == "yx", f"axes yx, not {axes.text()}")


@task.step(
    "Choose a **Model**: one that comes with the package, or a `.safetensors` file that `shiftseg train` wrote.",
    "A line says whether the image is *Like what nuclei knows*.",
)
def choose_model(hand, folder):
    hand.choose("Model", "nuclei")
    hand.sees("Like what nuclei knows")


@task.step(
    "**Run**. *Cancel* stops after the tile that is being computed, and leaves all layers as they were.",
    "The objects lie over the image, and a line says how many there are.",
)
def run(hand, folder):
    hand.press("Run")
    hand.sees("instances, compliant")
    layer = hand.sees_layer("nuclei instances", visible=True)
    hand.sees_that(lambda: 15 < len(layer.features) < 40, f"some twenty objects, not {len(layer.features)}")
    hand.sees_layer("nuclei embedding", visible=False)


@task.command("shiftseg segment nuclei.tif --model nuclei --out nuclei.ome.zarr")
def command(folder, printed):
    found = open_result(folder / "nuclei.ome.zarr")
    assert 15 < found.record["instances"][0] < 40 and found.record["status"] == "compliant"
