"""Draw the picture of docs/many.md: ten real images in a folder, one of them broken, segmented by the widget; save the window.

    xvfb-run -a -s "-screen 0 1600x1000x24" python docs/scripts/many_screenshot.py --images FOLDER

Needs a display (Xvfb will do), the extra `napari`, and a folder with TIFF images of nuclei, such as those of the 2018 Data
Science Bowl: the first ten are copied, and the fourth of them is cut short. What the widget says is printed, and the command
beside it has to give the same table.
"""

import csv
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from segment_screenshot import click, dock, open_viewer, save_window, wait_for, wishes_of

from napari_shiftseg.plugin.queue_form import FOLDER, INSIDE
from napari_shiftseg.plugin.queue_widget import QueueWidget

COUNT, BROKEN = 10, 3


def copied(images, folder):
    """Ten images under short names, of which one ends too early."""
    folder.mkdir()
    for number, path in enumerate(sorted(Path(images).glob("*.tif"))[:COUNT]):
        shutil.copyfile(path, folder / f"field_{number + 1}.tif")
    cut = folder / f"field_{BROKEN + 1}.tif"
    cut.write_bytes(cut.read_bytes()[:300])


def rows(path):
    """What a table says of each image, but for the time that it took and where the result lies."""
    with path.open(newline="") as file:
        return [(row["image"], row["objects"], row["area"], row["verdict"]) for row in csv.DictReader(file)]


def run_widget(viewer, folder, out):
    widget = dock(viewer, QueueWidget(viewer), "Many images (ShiftSeg)")
    form = widget.form
    form.what.setCurrentText(FOLDER)
    form.place.setCurrentText(INSIDE)
    form.out.value = out
    form.folder.value = folder
    wait_for(lambda: not widget.running)
    click(widget, form.run)
    print(form.found.text(), "|", form.status.text())
    for row in range(form.table.rowCount()):
        print(" | ".join(form.table.item(row, column).text() for column in range(form.table.columnCount())))
    return widget


def open_by_mouse(viewer, widget, row):
    """Double click a row, as a user does."""
    table = widget.form.table
    place = table.visualItemRect(table.item(row, 0)).center()
    QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    QTest.mouseDClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    wait_for(lambda: len(viewer.layers) == 2)
    viewer.layers[-1].opacity = 0.55
    viewer.reset_view()


def main():
    wishes = wishes_of(__doc__, images="folder with TIFF images of nuclei")
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place) / "plate 7", Path(place) / "results"
        copied(wishes.images, folder)
        viewer = open_viewer(1500, 940)
        widget = run_widget(viewer, folder, out)
        open_by_mouse(viewer, widget, 1)
        viewer.window._qt_window.resizeDocks(
            [viewer.window.dock_widgets["Many images (ShiftSeg)"].parent()], [640], Qt.Orientation.Horizontal
        )
        save_window(viewer, wishes.out / "many.png")
        viewer.close()
        command = ["segment", str(folder), "--out", str(Path(place) / "again"), "--summary", str(Path(place) / "again.csv")]
        done = subprocess.run([sys.executable, "-m", "napari_shiftseg.cli", *command, "--no-embedding", "--quiet"], check=False)
        same = rows(out / "shiftseg_images.csv") == rows(Path(place) / "again.csv")
        print(f"the command: exit code {done.returncode}, the same table: {same}")
        if not same:
            raise SystemExit("the command gives another table than the widget")


if __name__ == "__main__":
    main()
