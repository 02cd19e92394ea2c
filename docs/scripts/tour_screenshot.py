"""Draw the pictures of docs/tour.md: the sample of Fig. 3 by tiles off and on the lattice, and windows of one period.

    xvfb-run -a -s "-screen 0 1600x1100x24" python docs/scripts/tour_screenshot.py

Needs a display (Xvfb will do) and the extra `napari`. Prints what the widgets say.
"""

import argparse
from pathlib import Path

import napari
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from segment_screenshot import save_window, wait_for

from napari_shiftseg.plugin.inspect_widget import InspectWidget
from napari_shiftseg.plugin.segment_widget import SegmentWidget

IMAGES = Path(__file__).resolve().parents[1] / "images"


def click(widget, button):
    """Press a button, and wait for the end of what it starts."""
    wait_for(button.isEnabled)
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    wait_for(lambda: not widget.running)


def dock(viewer, widget, name):
    viewer.window.add_dock_widget(widget, name=name, area="right", tabify=True)
    return widget


def segment(widget, model, tile, allow):
    """Choose a model and a tile size as a user does, and run."""
    wait_for(lambda: widget.equipment is not None)  # which knows the models
    widget.form.model.names.setCurrentText(model)
    wait_for(lambda: widget.equipment is not None and widget.equipment.model.name == model)
    widget.form.allow.setChecked(allow)
    edit = widget.form.tile.lineEdit()
    edit.selectAll()
    QTest.keyClicks(edit, str(tile))
    QTest.keyClick(edit, Qt.Key.Key_Return)
    click(widget, widget.run_button)


def inspected(viewer, model, tile, path, *, grid=False):
    """The sample of Fig. 3 by a model and a tile size, in the Inspect widget, with its truth."""
    viewer.open_sample("napari-shiftseg", "fig3")
    viewer.layers.selection.active = viewer.layers["fig3"]
    segment(dock(viewer, SegmentWidget(viewer), "Segment (napari-shiftseg)"), model, tile, allow=True)
    widget = dock(viewer, InspectWidget(viewer), "Inspect (napari-shiftseg)")
    widget.form.layers.value = viewer.layers["fig3 instances"]
    widget.form.truth.value = viewer.layers["fig3 truth"]
    widget.form.seams.setChecked(True)
    widget.form.grid.setChecked(grid)
    click(widget, widget.form.measure)
    click(widget, widget.form.highlight)
    print(path.name, "|", widget.form.finding.text(), "|", widget.status.text())
    viewer.layers["fig3 instances"].visible = False
    viewer.layers["fig3 on seams"].visible = False
    viewer.layers["fig3 embedding RGB"].visible = True
    viewer.layers.selection.active = viewer.layers["fig3 embedding RGB"]
    viewer.reset_view()
    viewer.scene.camera.zoom *= 1.6
    save_window(viewer, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder of the pictures")
    wishes = parser.parse_args()
    wishes.out.mkdir(parents=True, exist_ok=True)
    shots = (
        ("disks-fig3", 20, "tour_seams.png", False),
        ("disks-fig3", 32, "tour_cured.png", False),
        ("disks-fig3a", 300, "tour_window.png", True),
    )
    for model, tile, name, grid in shots:
        viewer = napari.Viewer(show=True)
        viewer.window._qt_window.resize(1380, 980)
        inspected(viewer, model, tile, wishes.out / name, grid=grid)
        viewer.close()


if __name__ == "__main__":
    main()
