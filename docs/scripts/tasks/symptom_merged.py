"""Objects merged: the steps of docs/symptoms.md, on stained tissue of which a run with too wide a bandwidth merges nuclei."""

from importlib.resources import files

import numpy as np
from steps import Task
from tasks import _images
from tifffile import imread

from napari_shiftseg import open_result
from napari_shiftseg.instances import match_score

WIDE = "4"


def prepare(folder):
    """The sample of stained tissue, as a colour image."""
    _images.save(folder / "tissue.tif", _images.sample("nuclei-he"), None)


def begin(hand, folder):
    """A run with a bandwidth that is too wide."""
    _images.open_file(hand, folder / "tissue.tif")
    hand.sees_layer("tissue")
    hand.menu("Layers", "Segment", "Segment (ShiftSeg)")
    hand.choose("Model", "nuclei-he")
    hand.sees("Compliant")
    hand.open_group("Advanced")
    hand.type("Bandwidth x", WIDE, group="Advanced")
    hand.press("Run")
    hand.sees("instances, compliant")
    known["before"] = score(hand.sees_layer("tissue instances").data)


def score(labels):
    """Of labels against the truth of the sample."""
    return match_score(np.asarray(labels), np.asarray(imread(files("napari_shiftseg.samples") / "nuclei-he_truth.tif")))


task = Task(name="symptom_merged", prepare=prepare, begin=begin)
known = {}


@task.step(
    "Open the group **Tune** of the Segment widget, and make **Bandwidth x** smaller: by a half, then by a half again. The "
    "network does not run again.",
    "There are more objects; go on until objects begin to be cut.",
)
def tune(hand, folder):
    hand.open_group("Tune")
    hand.sees("changes show at once")
    hand.type("Bandwidth x", "2", group="Tune")
    hand.sees("bandwidth 2 (run: 4)")
    hand.type("Bandwidth x", "1", group="Tune")
    hand.sees("bandwidth 1 (run: 4)")
    after = score(hand.sees_layer("tissue instances").data)
    hand.sees_that(lambda: after.merges < known["before"].merges, f"fewer merged objects: {known['before']}, {after}")
    hand.sees_that(lambda: after.ap > known["before"].ap, "better objects")


@task.command(
    "shiftseg segment tissue.tif --model nuclei-he --bandwidth 4 --out merged.ome.zarr\n"
    "shiftseg relabel merged.ome.zarr --bandwidth 1 --out apart.ome.zarr"
)
def command(folder, printed):
    merged, apart = (score(open_result(folder / f"{name}.ome.zarr").labels[...]) for name in ("merged", "apart"))
    assert apart.merges < merged.merges and apart.ap > merged.ap
