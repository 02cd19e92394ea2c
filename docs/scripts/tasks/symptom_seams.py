"""Seams are visible: the steps of docs/symptoms.md, with tiles that break the rules."""

from steps import Task
from tasks import _images


def begin(hand, folder):
    """A run by tiles that are no multiple of the period."""
    _images.open_file(hand, folder / "nuclei.tif")
    hand.sees_layer("nuclei")
    hand.menu("Layers", "Segment", "Segment (ShiftSeg)")
    hand.sees("Compliant")
    hand.press("Allow non-compliant")
    hand.type("Tile size", "61")
    hand.press("Run")
    hand.sees("instances, non-compliant")


task = Task(name="symptom_seams", prepare=_images.nuclei, begin=begin)


@task.step(
    "Look at the name of the layers and at the dot: *(non-compliant)* and a yellow dot say that the tiles break a rule.",
    "The text says which rule, and the nearest legal sizes.",
)
def look(hand, folder):
    hand.sees("56", "64")
    hand.sees_layer("nuclei instances (non-compliant)")


@task.step(
    "Take the tick from **Allow non-compliant**, and **Run**.",
    "The tile size is set to the nearest legal one, and the tiles are *Compliant*.",
)
def mend(hand, folder):
    hand.press("Allow non-compliant")
    hand.sees("Compliant")
    hand.press("Run")
    hand.sees("instances, compliant")


@task.step(
    "To see whether what is left comes from the tiles: *Layers > Visualize > Inspect (ShiftSeg)*, then **Verify tiling**.",
    "Green: the tiles changed nothing, and what you see comes from the network or from the image.",
)
def verify(hand, folder):
    hand.menu("Layers", "Visualize", "Inspect (ShiftSeg)")
    hand.choose("Result", "nuclei instances")
    hand.press("Verify tiling")
    hand.sees("tiles", "equal")


@task.command(
    "shiftseg verify nuclei.tif --model nuclei --tile 61 --allow-noncompliant   # the tiles differ: exit code 3", code=3
)
def illegal(folder, printed):
    assert "differ" in printed


@task.command("shiftseg verify nuclei.tif --model nuclei --tile 64")
def legal(folder, printed):
    assert "equal" in printed
