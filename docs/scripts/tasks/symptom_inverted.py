"""Everything found, the image is inverted: the steps of docs/symptoms.md, on dark nuclei on a bright background."""

import numpy as np
from steps import Task
from tasks import _images

from napari_shiftseg import open_result


def prepare(folder):
    """`dark.tif`: the nuclei, turned over."""
    _images.save(folder / "dark.tif", 255 - _images.sample("nuclei")[120:312, 200:456])


def begin(hand, folder):
    """A run on the image as it is."""
    _images.open_file(hand, folder / "dark.tif")
    hand.sees_layer("dark")
    hand.menu("Layers", "Segment", "Segment (ShiftSeg)")
    hand.press("Run")
    hand.sees("instances, compliant")
    known["covered"] = float(np.mean(np.asarray(hand.sees_layer("dark instances").data) > 0))


task = Task(name="symptom_inverted", prepare=prepare, begin=begin)
known = {}


@task.step(
    "Read the line with *Like* or *Unlike*.",
    "It says what is other than what the model knows, and what to do: here *Invert it*.",
)
def read(hand, folder):
    hand.sees("Unlike what nuclei knows", "dark objects on a bright background", "Invert it")


@task.step(
    "In the group **Intensities**, tick **Dark objects on bright**, and **Run**.",
    "The image is *Like what nuclei knows*, and less of it is object.",
)
def invert(hand, folder):
    hand.open_group("Intensities")
    hand.press("Dark objects on bright", group="Intensities")
    hand.sees("Like what nuclei knows")
    hand.press("Run")
    hand.sees("Its objects are, too.")
    covered = float(np.mean(np.asarray(hand.sees_layer("dark instances").data) > 0))
    hand.sees_that(
        lambda: covered < 0.8 * known["covered"], f"less than {known['covered']:.2f} of the image, not {covered:.2f}"
    )


@task.command(
    "shiftseg segment dark.tif --model nuclei --out all.ome.zarr\n"
    "shiftseg segment dark.tif --model nuclei --invert --out objects.ome.zarr"
)
def command(folder, printed):
    every, objects = (open_result(folder / f"{name}.ome.zarr") for name in ("all", "objects"))
    assert every.record["likeness"]["verdict"] == "unlike" and objects.record["likeness"]["verdict"] == "like"
    assert np.mean(objects.labels[...] > 0) < 0.8 * np.mean(every.labels[...] > 0)
