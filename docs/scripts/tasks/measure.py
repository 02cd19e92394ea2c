"""The steps of docs/measure.md."""

import csv

import numpy as np
from steps import Task
from tasks import _images

task = Task(name="measure", prepare=_images.nuclei)
known = {}


@task.step(
    "[Segment](segment.md) an image, then *Layers > Measure > Measure (ShiftSeg)*. Choose the **Labels**. Below "
    "*Intensities* stand the images on which they lie; those with a tick are measured as well, each channel by itself. Of "
    "a result it is the image that was segmented.",
    "Here it is *nuclei*.",
)
def begin(hand, folder):
    _images.segmented(hand, folder)
    hand.select("nuclei instances")
    hand.menu("Layers", "Measure", "Measure (ShiftSeg)")
    hand.choose("Labels", "nuclei instances")
    images = hand.find("Images whose intensities are measured", hand.ANY)
    hand.sees_that(lambda: images.item(0).text() == "nuclei", "the image that was segmented")


@task.step(
    "Press **Measure**. It works part by part beside the window, with a bar; *Cancel* leaves everything as it was.",
    "A line says how many objects and columns there are, and in which unit. Point at an object to see its values in "
    "napari's status line.",
)
def measure(hand, folder):
    hand.press("Measure")
    layer = hand.sees_layer("nuclei instances")
    known["count"] = _images.count(layer)
    hand.sees(f"{known['count']} objects", "columns, in")
    hand.sees_that(lambda: {"area", "unit", "solidity", "mean_intensity"} <= set(layer.features), "features")
    hand.sees_that(lambda: len(layer.features) == known["count"], "a row for each object")


@task.step("Choose a **Column**, such as *area*.", "Each object has the colour of its value.")
def colour(hand, folder):
    layer = hand.sees_layer("nuclei instances")
    known["before"] = np.array(layer.get_color(1))
    hand.choose("Column", "area")
    numbers = layer.features.sort_values("area")["label"].to_numpy()
    first, last = (np.asarray(layer.get_color(int(numbers[at]))) for at in (0, -1))
    hand.sees_that(lambda: not np.allclose(first, last), "two colours for the smallest and the largest object")


@task.step("**Back to label colours** gives the layer the colours that it had.", "They are the same.")
def back(hand, folder):
    hand.press("Back to label colours")
    layer = hand.sees_layer("nuclei instances")
    hand.sees_that(lambda: np.allclose(layer.get_color(1), known["before"]), "the colours of before")


@task.step("**Save table…** writes CSV or Parquet, as the end of the name says.", "The file has a row for each object.")
def save(hand, folder):
    hand.answer_files(folder / "cells.csv")
    hand.press("Save table")
    hand.sees_that((folder / "cells.csv").exists, "the file")
    hand.sees("Written to", "cells.csv")
    with open(folder / "cells.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    hand.sees_that(lambda: len(rows) == known["count"] and float(rows[0]["area"]) > 0, "a row for each object")


@task.command(
    "shiftseg segment nuclei.tif --model nuclei --out nuclei.ome.zarr\n"
    "shiftseg measure nuclei.ome.zarr --image nuclei.tif --out nuclei.csv"
)
def command(folder, printed):
    with open(folder / "nuclei.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == known["count"] and rows[0]["unit"] == "micrometer" and float(rows[0]["mean_intensity"]) > 0
