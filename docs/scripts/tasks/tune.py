"""The steps of docs/tune.md."""

import numpy as np
from steps import Task
from tasks import _images

from napari_shiftseg import open_result

task = Task(name="tune", prepare=_images.nuclei)
known = {}


@task.step("[Segment](segment.md) an image, or open a saved result.", "The objects lie over the image.")
def begin(hand, folder):
    _images.segmented(hand, folder)
    known["labels"] = np.array(hand.sees_layer("nuclei instances").data)


@task.step(
    "Open the group **Tune** in the Segment widget. It looks after the result that is selected, else that of the chosen image.",
    "It says of which labels changes show at once.",
)
def open_group(hand, folder):
    hand.open_group("Tune")
    hand.sees("nuclei instances: changes show at once; the network does not run again")


@task.step(
    "Move **Threshold**, **Bandwidth x** or **Valley** (for a model without seeds *Dip*), or type a number beside the "
    "slider. As soon as it stands still, what is in view is labelled anew and shown, then the rest. A newer change stops "
    "the older one.",
    "The line below the run says how many objects there are now, and what was changed.",
)
def move_sliders(hand, folder):
    hand.type("Threshold", "0.4", group="Tune")
    hand.sees("tuned without the network: threshold 0.4 (run: 0.5)")
    hand.type("Valley", "0.5", group="Tune")
    hand.sees("valley 0.5")
    hand.type("Bandwidth x", "4", group="Tune")
    hand.sees("instances; tuned without the network", "bandwidth 4")
    layer = hand.sees_layer("nuclei instances")
    found, before = known.setdefault("tuned", _images.count(layer)), np.count_nonzero(np.unique(known["labels"]))
    hand.sees_that(lambda: found < before, f"fewer objects than {before}, not {found}")


@task.step(
    "Drag the line in the histogram of sizes, or type the **Smallest** size. Bars left of the line are pale: these objects "
    "go to one that they touch, or away. With the keyboard, arrows move the line by a little, *Page up* and *Page down* by "
    "more, *Home* to none.",
    "There are fewer objects.",
)
def smallest_size(hand, folder):
    from qtpy.QtCore import Qt

    plot = hand.find("Tune: sizes of the objects, and the smallest size", hand.ANY)
    middle = plot.height() / 2
    hand.drag("Tune: sizes of the objects, and the smallest size", (plot.at(plot.least), middle), (plot.at(150), middle))
    hand.sees_that(lambda: 100 < plot.least < 220, f"a line at about 150 px, not {plot.least}")
    hand.sees("smallest size")
    hand.type("Smallest", "200", group="Tune")
    hand.sees("smallest size 200")
    hand.keys("Tune: sizes of the objects, and the smallest size", Qt.Key.Key_PageUp)
    hand.sees("smallest size 240")
    found = _images.count(hand.sees_layer("nuclei instances"))
    hand.sees_that(lambda: found < known["tuned"], f"fewer objects than {known['tuned']}, not {found}")


@task.step(
    "**Reset** takes the settings of the run. *Cancel* stops, and leaves the labels as they were before.",
    "The labels are those of the run.",
)
def reset(hand, folder):
    hand.press("Reset", group="Tune")
    hand.sees("the settings of the run")
    layer = hand.sees_layer("nuclei instances")
    hand.sees_that(lambda: np.array_equal(layer.data, known["labels"]), "the labels of the run")


@task.command(
    "shiftseg segment nuclei.tif --model nuclei --out nuclei.ome.zarr\n"
    "shiftseg relabel nuclei.ome.zarr --threshold 0.4 --bandwidth 4 --valley 0.5 --min-size 200 --out tuned.ome.zarr"
)
def command(folder, printed):
    before, after = open_result(folder / "nuclei.ome.zarr"), open_result(folder / "tuned.ome.zarr")
    assert after.record["relabelled"]["changed"]["threshold"] == [0.5, 0.4]
    assert after.record["instances"] != before.record["instances"]
