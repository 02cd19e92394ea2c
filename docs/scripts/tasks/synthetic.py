"""The steps of docs/synthetic.md."""

import numpy as np
from steps import Task
from tasks import _images  # noqa: F401  # its folder is where the files of the commands go
from tifffile import imread

from napari_shiftseg import synthetic

task = Task(name="synthetic", prepare=lambda folder: None)


@task.step(
    "*File > New Layer > Synthetic images (ShiftSeg)*; the menu *Plugins* has it as well.",
    "A small picture shows what will be drawn.",
)
def open_widget(hand, folder):
    hand.menu("File", "New Layer", "Synthetic images (ShiftSeg)")
    hand.sees_that(lambda: hand.find("Generate", hand.ANY).isEnabled(), "a recipe that can be drawn")


@task.step(
    "Choose a **Preset**, such as `fig2b`.",
    "The fields below say its recipe, and a line how many of its objects a network can tell apart.",
)
def preset(hand, folder):
    hand.choose("Preset", "fig2b")
    hand.sees("64 of", "225")


@task.step("**Generate**.", "An image appears, and a hidden labels layer with its truth.")
def generate(hand, folder):
    hand.press("Generate")
    hand.sees("fig2b: 225 objects.")
    layer = hand.sees_layer("fig2b")
    hand.sees_layer("fig2b truth", visible=False)
    made = synthetic.make(synthetic.preset("fig2b").recipe)
    hand.sees_that(lambda: np.array_equal(layer.data, made.image), "the pixels of the preset")


@task.step(
    "Change a field, such as **Spacing**, and **Generate** again.",
    "The preset is *None* then, and the image is another one beside the first.",
)
def change(hand, folder):
    hand.type("Spacing", "12")
    hand.press("Generate")
    hand.sees("disks:")
    hand.sees_layer("disks")
    hand.sees_layer("fig2b")


@task.command("shiftseg synth fig2b --out disks.tif --labels truth.tif")
def command(folder, printed):
    made = synthetic.make(synthetic.preset("fig2b").recipe)
    assert np.array_equal(imread(folder / "disks.tif"), made.image)
    assert np.array_equal(imread(folder / "truth.tif"), made.labels)
