"""The steps of docs/link.md."""

import numpy as np
from steps import Task
from tasks import _images

from napari_shiftseg import open_result


def prepare(folder):
    """`stack.tif`: three planes, in each of which the nuclei lie a pixel farther."""
    nuclei = _images.sample("nuclei")[120:312, 200:456]
    _images.save_stack(folder / "stack.tif", np.stack([np.roll(nuclei, step, 1) for step in range(3)]))


task = Task(name="link", prepare=prepare)


@task.step(
    "[Segment](segment.md) a stack by a 2D model. Each plane has its own numbers.",
    "The line below the run says in how many frames objects are.",
)
def begin(hand, folder):
    _images.open_file(hand, folder / "stack.tif")
    hand.sees_layer("stack")
    hand.menu("Layers", "Segment", "Segment (ShiftSeg)")
    hand.press("Run")
    hand.sees("instances in 3 frames")
    hand.sees_layer("stack instances")


@task.step(
    "*Layers > Track > Link objects (ShiftSeg)*, **Through** *planes of a stack (z)* or *frames of a series (t)*, then "
    "**Link**.",
    "A new layer, in which an object has one number in all planes; the result is as it was.",
)
def link(hand, folder):
    hand.menu(*MENU)
    hand.choose("Through", "planes of a stack (z)")
    hand.press("Link")
    layer = hand.sees_layer("stack instances linked through z")
    before = hand.sees_layer("stack instances")
    numbers = [set(np.unique(plane)) - {0} for plane in np.asarray(layer.data)]
    shared = numbers[0] & numbers[1] & numbers[2]
    hand.sees_that(lambda: len(shared) >= 15, f"objects with one number in all planes, not {len(shared)}")
    hand.sees_that(lambda: _images.count(before) < 40, "the result as it was")


MENU = ("Layers", "Track", "Link objects (ShiftSeg)")


@task.command(
    "shiftseg segment stack.tif --model nuclei --out stack.ome.zarr\n"
    "shiftseg link stack.ome.zarr --through z --out objects.ome.zarr"
)
def command(folder, printed):
    planes = open_result(folder / "objects.ome.zarr").labels[...]
    assert len((set(np.unique(planes[0])) & set(np.unique(planes[2]))) - {0}) >= 15
