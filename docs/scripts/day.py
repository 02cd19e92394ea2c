"""A day's work in napari, by mouse and keys alone, on real images: a series of nuclei, and ten fields of others.

    xvfb-run -a -s "-screen 0 1600x1000x24" python docs/scripts/day.py --data ../shared/data --out pictures

Opens a file that does not say what its pages are, says it, segments, tunes, splits, merges, deletes, accepts, measures,
colours by area, saves in four formats, runs ten images, closes napari, opens it again, and goes on. A picture of the window is
saved after each act. Ends with exit code 0 if in every act the window showed what it should.
"""

import argparse
import csv
import sys
import tempfile
from pathlib import Path

import numpy as np
from steps import ROOT, Task, enter, run
from tasks.export import FORMATS
from tifffile import imread, imwrite

from napari_shiftseg import read_labels

SERIES, FIELDS = "laptrack_timelapse/images/example.tif", "dsb2018_fluo/images"
known = {}


def prepare(folder: Path, data: Path) -> None:
    """The series, as another program would have written it, and ten fields in a folder of their own."""
    imwrite(folder / "series.tif", np.asarray(imread(data / SERIES)), photometric="minisblack", metadata=None)
    (folder / "fields").mkdir()
    chosen = [path for path in sorted((data / FIELDS).glob("*.tif")) if path.stat().st_size < 60_000][:10]
    assert len(chosen) == 10, f"{data / FIELDS} has no ten small images"
    for number, path in enumerate(chosen):
        (folder / "fields" / f"field-{number}.tif").write_bytes(path.read_bytes())


def task_of(data: Path, without: tuple[str, ...] = ()) -> Task:
    """All acts, but for some."""
    task = Task(name="day", prepare=lambda folder: prepare(folder, data))
    for act in (
        open_image,
        fix_axes,
        run_it,
        tune,
        split,
        merge,
        delete,
        accept,
        measure,
        colour,
        save,
        many,
        close,
        reopen,
        go_on,
    ):
        if act.__name__ not in without:
            task.step(act.__doc__.splitlines()[0], "")(act)
    return task


# -- acts -----------------------------------------------------------------------------------------------------------------


def open_image(hand, folder):
    """Open: *File > Open File(s)*."""
    hand.answer_files(folder / "series.tif")
    hand.menu("File", "Open File(s)")
    layer = hand.sees_layer("series")
    hand.sees_that(lambda: layer.data.shape == (6, 200, 200), f"six frames, not {layer.data.shape}")


def fix_axes(hand, folder):
    """Fix axes: *Layers > Segment > Segment (ShiftSeg)*, then **Read as**."""
    hand.menu("Layers", "Segment", "Segment (ShiftSeg)")
    hand.sees("Choose what they are")
    box = hand.find("Read as", hand.BOX)
    words = next(box.itemText(number) for number in range(box.count()) if box.itemData(number) == "tyx")
    hand.choose("Read as", words)
    axes = hand.find("Axes", hand.FIELD)
    hand.sees_that(lambda: axes.text() == "tyx", f"tyx, not {axes.text()}")


def run_it(hand, folder):
    """Run: **Run**."""
    hand.choose("Model", "nuclei")
    hand.open_group("Advanced")
    hand.type("Threshold", "0.45", group="Advanced")
    hand.press("Run")
    hand.sees("instances in 6 frames")
    layer = hand.sees_layer("series instances", visible=True)
    known["run"] = np.array(layer.data)
    hand.sees_that(lambda: all(frame.any() for frame in known["run"]), "objects in each frame")


def tune(hand, folder):
    """Tune: **Tune**, **Threshold**, **Smallest**, without a new run."""
    hand.open_group("Tune")
    hand.sees("changes show at once; the network does not run again")
    hand.type("Threshold", "0.6", group="Tune")
    hand.sees("tuned without the network: threshold 0.6")
    hand.type("Smallest", "40", group="Tune")
    hand.sees("smallest size 40")
    layer = hand.sees_layer("series instances")
    hand.sees_that(lambda: not np.array_equal(layer.data, known["run"]), "other labels than those of the run")


def split(hand, folder):
    """Split: *Layers > Annotate > Correct (ShiftSeg)*, **Split**, a stroke across an object."""
    hand.select("series instances")
    hand.menu("Layers", "Annotate", "Correct (ShiftSeg)")
    layer = hand.sees_layer("series instances")
    hand.sees("objects in this frame")
    frame = known["frame"] = round(hand.viewer.dims.point[-3])
    labels = np.array(layer.data[frame])
    known["layer"], known["objects"] = layer, len(np.unique(labels)) - 1
    number = largest_inside(labels)[0]
    (y, x), height = middle_of(labels, number), np.ptp(np.nonzero(labels == number)[0])
    hand.look_at("series instances", (frame, y, x), 6)
    hand.press("Split")
    hand.line("series instances", (frame, y - height / 2 - 4, x), (frame, y + height / 2 + 4, x))
    hand.sees(f"{known['objects'] + 1} objects in this frame", "Edited by hand: 1 edit")
    hand.sees_that(lambda: layer.name == "series instances (edited)", f"a name that says so, not {layer.name}")


def merge(hand, folder):
    """Merge: **Merge**, two clicks."""
    layer = known["layer"]
    labels = np.array(layer.data[known["frame"]])
    one, two = largest_inside(labels)[:2]
    hand.press("Merge")
    for number in (one, two):
        place = (known["frame"], *middle_of(labels, number))
        hand.look_at(layer.name, place, 4)
        hand.click(layer.name, place)
    hand.sees(f"{known['objects']} objects in this frame", "Edited by hand: 2 edits")
    hand.sees_that(lambda: two not in layer.data[known["frame"]], f"{two} is a part of {one}")


def delete(hand, folder):
    """Delete: **Delete**, a click; and **Undo**, **Redo**."""
    layer, frame = known["layer"], known["frame"]
    labels = np.array(layer.data[frame])
    number = largest_inside(labels)[2]
    hand.press("Delete")
    hand.look_at(layer.name, (frame, *middle_of(labels, number)), 4)
    hand.click(layer.name, (frame, *middle_of(labels, number)))
    hand.sees(f"{known['objects'] - 1} objects in this frame", "Edited by hand: 3 edits")
    hand.press("Undo")
    hand.sees_that(lambda: np.array_equal(layer.data[frame], labels), "the object again")
    hand.press("Redo")
    hand.sees_that(lambda: number not in layer.data[frame], "no object")


def accept(hand, folder):
    """Accept: **Accept**, and what is accepted outlives a new run."""
    hand.press("Accept")
    hand.sees("series accepted is yours now: no run replaces it")
    kept = np.array(known["layer"].data)
    hand.front("Segment")
    hand.press("Run")
    hand.sees_layer("series instances")
    hand.sees("instances in 6 frames")
    hand.sees_that(lambda: np.array_equal(known["layer"].data, kept), "the accepted labels as they were")
    known["labels"] = kept


def save(hand, folder):
    """Save: *File > Save Selected Layers*, four formats."""
    for kind, name in FORMATS.items():
        path = folder / name.replace("nuclei-labels", "series-labels")
        hand.select("series accepted")
        hand.answer_files(path, kind=kind)
        hand.menu("File", "Save Selected Layers")
        hand.sees_that(path.exists, f"the file {path.name}")
    for name in ("series-labels.tif", "series-labels.ome.zarr"):
        again = read_labels(folder / name)
        hand.sees_that(
            lambda again=again: np.array_equal(np.asarray(again.data[...]), known["labels"]), f"the labels in {name}"
        )


def close(hand, folder):
    """Close: *File > Close Window*."""
    hand.answer("Close")
    hand.menu("File", "Close Window")
    hand.sees_that(lambda: not hand.is_open, "no window")


def reopen(hand, folder):
    """Open again: napari anew with the settings of before, the saved labels and their image."""
    hand.enter(enter())
    hand.answer_files(folder / "series.tif")
    hand.menu("File", "Open File(s)")
    hand.sees_layer("series")
    hand.menu("Layers", "Segment", "Segment (ShiftSeg)")
    hand.sees("As last time", "0.45")
    hand.answer_files(folder / "series-labels.ome.zarr")
    hand.answer("OK", choose="ShiftSeg", title="Choose reader")  # napari asks where several can read a folder
    hand.menu("File", "Open Folder")
    hand.sees_that(lambda: bool(_labels(hand)), "the saved labels")


def go_on(hand, folder):
    """Go on: an object is deleted from the labels of before, and undone."""
    layer = _labels(hand)[0]
    hand.select(layer.name)
    hand.menu("Layers", "Annotate", "Correct (ShiftSeg)")
    hand.sees("objects in this frame")
    frame = round(hand.viewer.dims.point[-3])
    labels = np.array(np.asarray(layer.data[0] if layer.multiscale else layer.data)[frame])
    hand.sees_that(lambda: np.array_equal(labels, known["labels"][frame]), "the labels that were saved")
    number = largest_inside(labels)[0]
    place = (frame, *middle_of(labels, number))
    hand.press("Delete")
    hand.look_at(layer.name, place, 4)
    hand.click(layer.name, place)
    hand.sees("Deleted")
    hand.key("Ctrl+Z")
    hand.sees("Undone: deleted")


def measure(hand, folder):
    """Measure: *Layers > Measure > Measure (ShiftSeg)*, **Measure**."""
    hand.select("series accepted")
    hand.menu("Layers", "Measure", "Measure (ShiftSeg)")
    hand.choose("Labels", "series accepted")
    hand.press("Measure")
    layer, wanted = known["layer"], {"t", "label", "num_pixels", "area", "unit", "mean_intensity"}
    hand.sees_that(lambda: wanted <= set(layer.features), f"columns {wanted}")
    rows = sum(len(np.unique(frame)) - 1 for frame in known["labels"])
    hand.sees_that(lambda: len(layer.features) == rows, f"a row for each of {rows} objects, not {len(layer.features)}")


def colour(hand, folder):
    """Colour by area: **Column**."""
    layer = known["layer"]
    before = type(layer.colormap).__name__
    hand.choose("Column", "area")
    hand.sees_that(lambda: type(layer.colormap).__name__ != before, f"other colours than {before}")
    frame = known["labels"][round(hand.viewer.dims.point[-3])]
    large, small = _by_size(frame)[0], _by_size(frame)[-1]
    colours = np.asarray(layer.get_color(large)), np.asarray(layer.get_color(small))
    hand.sees_that(lambda: not np.allclose(*colours), "a large and a small object in other colours")


def many(hand, folder):
    """Run ten images: *Layers > Segment > Many images (ShiftSeg)*, a folder, one table for all."""
    hand.menu("Layers", "Segment", "Many images (ShiftSeg)")
    hand.choose("Images", "A folder or a plate")
    hand.type("Folder", str(folder / "fields"))
    hand.sees("10 images")
    hand.choose("Results", "In one folder")
    hand.type("Into", str(folder / "results"))
    hand.press("Run")
    hand.sees("10 done", "Tables:")
    with open(folder / "results" / "shiftseg_images.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    hand.sees_that(lambda: [row["state"] for row in rows] == ["done"] * 10, "ten images that are done")


# -- help -----------------------------------------------------------------------------------------------------------------


def largest_inside(labels: np.ndarray) -> list[int]:
    """Objects that do not touch the border, the largest first."""
    border = set(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]).tolist())
    return [number for number in _by_size(labels) if number not in border]


def _labels(hand) -> list:
    return [layer for layer in hand.viewer.layers if type(layer).__name__ == "Labels"]


def _by_size(labels: np.ndarray) -> list[int]:
    numbers, counts = np.unique(labels[labels > 0], return_counts=True)
    return [int(number) for number in numbers[np.argsort(-counts)]]


def middle_of(labels: np.ndarray, number: int) -> tuple[float, float]:
    """The pixel of an object that is farthest from its border."""
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(np.pad(labels == number, 1))[1:-1, 1:-1]
    return tuple(float(at) for at in np.unravel_index(int(depth.argmax()), depth.shape))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of real images")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="folder for a picture of each act")
    parser.add_argument("--without", nargs="+", default=[], metavar="ACT", help="leave acts out")
    wishes = parser.parse_args()
    wishes.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        run(task_of(wishes.data.resolve(), tuple(wishes.without)), Path(folder), wishes.out.resolve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
