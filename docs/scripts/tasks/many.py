"""The steps of docs/many.md."""

import csv

from steps import Task
from tasks import _images


def prepare(folder):
    """`plate7`: three fields of nuclei, and notes that are no image."""
    nuclei = _images.sample("nuclei")
    (folder / "plate7").mkdir()
    for number, left in enumerate((0, 200, 400)):
        _images.save(folder / "plate7" / f"field-{number}.tif", nuclei[120:280, left : left + 160])
    (folder / "plate7" / "notes.txt").write_text("field 1 was out of focus\n")


task = Task(name="many", prepare=prepare)


@task.step(
    "*Layers > Segment > Many images (ShiftSeg)*. **Images**: *Selected layers*, or *A folder or a plate*, and its "
    "**Folder**. *Pattern* says which files, such as `*.tif` or `*.tif;*.png` (capitals make no difference); `*` takes all "
    "images and leaves other files out. *And the folders in it* looks below as well. Hidden files and results of this "
    "plugin are no images.",
    "The list shows what was found.",
)
def images(hand, folder):
    hand.menu("Layers", "Segment", "Many images (ShiftSeg)")
    hand.choose("Images", "A folder or a plate")
    hand.type("Folder", str(folder / "plate7"))
    hand.sees("3 images")


@task.step(
    "**Settings**: *As the model suggests*, with the model below; *As the Segment widget says*; or *As of* a result that "
    "is open: segment one image, tune it, and then segment all like it.",
    "The model is the one that will run.",
)
def settings(hand, folder):
    hand.choose("Settings", "As the model suggests")
    hand.choose("Model", "nuclei")
    hand.sees_that(lambda: hand.find("Run", hand.ANY).isEnabled(), "a queue that can run")


@task.step(
    "**Results**: of layers, new layers beside each, in its place. Of files, an OME-Zarr store *Beside each image* "
    "(`NAME_shiftseg.ome.zarr`) or *In one folder* (`NAME.ome.zarr`), which is named under **Into**.",
    "Nothing is written before the run.",
)
def results(hand, folder):
    hand.choose("Results", "In one folder")
    hand.type("Into", str(folder / "results"))
    hand.sees_that(lambda: not (folder / "results").exists() or not any((folder / "results").iterdir()), "an empty folder")


@task.step(
    "**Run**. Each row says how far its image is, the line at the bottom how many are done and about how long the rest "
    "takes. A double click on a row, or Enter, opens its result, or selects its layer.",
    "At the end the line says how many are done, and where the two tables are.",
)
def run(hand, folder):
    hand.press("Run")
    hand.sees("3 done", "Tables:")
    check(folder / "results" / "shiftseg_images.csv")


def check(path):
    """Three images that are done, with objects in each."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["done"] * 3 and all(int(row["objects"]) > 5 for row in rows), rows


@task.command("shiftseg segment plate7 --out again --summary images.csv --features objects.csv")
def command(folder, printed):
    check(folder / "images.csv")
    assert (folder / "objects.csv").stat().st_size
