"""Objects cut: the steps of docs/symptoms.md, on stained tissue of which a run with too narrow a bandwidth cuts nuclei."""

from steps import Task
from tasks import _images
from tasks.symptom_merged import prepare, score

from napari_shiftseg import open_result


def begin(hand, folder):
    """A run with a bandwidth that is too narrow."""
    _images.open_file(hand, folder / "tissue.tif")
    hand.sees_layer("tissue")
    hand.menu("Layers", "Segment", "Segment (ShiftSeg)")
    hand.choose("Model", "nuclei-he")
    hand.sees("Compliant")
    hand.open_group("Advanced")
    hand.type("Bandwidth x", "0.5", group="Advanced")
    hand.press("Run")
    hand.sees("instances, compliant")
    known["before"] = score(hand.sees_layer("tissue instances").data)


task = Task(name="symptom_cut", prepare=prepare, begin=begin)
known = {}


@task.step(
    "Open the group **Tune** of the Segment widget, and make **Bandwidth x** larger: twice, then twice again. The network "
    "does not run again.",
    "There are fewer pieces; go on until neighbours begin to be merged.",
)
def tune(hand, folder):
    hand.open_group("Tune")
    hand.sees("changes show at once")
    hand.type("Bandwidth x", "1", group="Tune")
    hand.sees("bandwidth 1 (run: 0.5)")
    after = score(hand.sees_layer("tissue instances").data)
    hand.sees_that(lambda: after.splits < known["before"].splits, f"fewer cut objects: {known['before']}, {after}")


@task.step(
    "Small pieces that are left go to the object that they touch: make the **Smallest** size larger.",
    "They are gone, and the objects that they were cut from are whole.",
)
def smallest(hand, folder):
    before = score(hand.sees_layer("tissue instances").data)
    hand.type("Smallest", "60", group="Tune")
    hand.sees("smallest size 60")
    after = score(hand.sees_layer("tissue instances").data)
    hand.sees_that(lambda: after.fp < before.fp, f"fewer pieces: {before}, {after}")


@task.command(
    "shiftseg segment tissue.tif --model nuclei-he --bandwidth 0.5 --out cut.ome.zarr\n"
    "shiftseg relabel cut.ome.zarr --bandwidth 1 --min-size 60 --out whole.ome.zarr"
)
def command(folder, printed):
    cut, whole = (score(open_result(folder / f"{name}.ome.zarr").labels[...]) for name in ("cut", "whole"))
    assert whole.splits < cut.splits and whole.fp < cut.fp and whole.ap > cut.ap
