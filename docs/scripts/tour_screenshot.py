"""Draw the pictures of docs/tour.md: follow it to the letter in one window, and save the window where the tour shows it.

    xvfb-run -a -s "-screen 0 1600x1100x24" python docs/scripts/tour_screenshot.py

Needs a display (Xvfb will do) and the extra `napari`. Prints what the widgets say and which layers there are.
"""

from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from segment_screenshot import click, dock, open_viewer, save_window, wait_for, wishes_of

from napari_shiftseg.plugin.inspect_widget import InspectWidget
from napari_shiftseg.plugin.layers import KEY
from napari_shiftseg.plugin.segment_widget import SegmentWidget


def to_front(viewer, name):
    """Show the tab of a dock, as a click on it does."""
    viewer.window.dock_widgets[name].parent().raise_()


def segment(viewer, widget, model, tile):
    """Choose the image, a model and a tile size as a user does, and run."""
    to_front(viewer, "Segment (ShiftSeg)")
    viewer.layers.selection.active = viewer.layers["fig3"]
    widget.form.layers.value = viewer.layers["fig3"]
    wait_for(lambda: widget.equipment is not None)  # which knows the models
    widget.form.model.names.setCurrentText(model)
    wait_for(lambda: widget.equipment is not None and widget.equipment.model.name == model)
    edit = widget.form.tile.lineEdit()
    edit.selectAll()
    QTest.keyClicks(edit, str(tile))
    QTest.keyClick(edit, Qt.Key.Key_Return)
    click(widget, widget.run_button)


def made(viewer, role):
    """The layer of a role of the last run."""
    return [layer for layer in viewer.layers if layer.metadata.get(KEY, {}).get("role") == role][-1]


def inspect(viewer, widget, path, *, highlight):
    """Measure the seams against the truth, outline what is wrong, and save the window."""
    to_front(viewer, "Inspect (ShiftSeg)")
    widget.form.layers.value = made(viewer, "instances")
    widget.form.truth.value = viewer.layers["fig3 truth"]
    click(widget, widget.form.measure)
    if highlight:
        click(widget, widget.form.highlight)
    print(path.name, "|", widget.form.finding.text(), "|", widget.status.text())
    print("layers:", *(layer.name for layer in viewer.layers if layer.visible), sep="\n    ")
    made(viewer, "instances").visible = False
    if highlight:
        made(viewer, "on seams").visible = made(viewer, "extra objects").visible = False
    rgb = made(viewer, "embedding RGB")
    rgb.visible = True
    viewer.layers.selection.active = rgb
    viewer.reset_view()
    viewer.scene.camera.zoom *= 1.6
    save_window(viewer, path)


def main():
    out, viewer = wishes_of(__doc__).out, open_viewer()
    viewer.open_sample("napari-shiftseg", "fig3")
    segmenting = dock(viewer, SegmentWidget(viewer), "Segment (ShiftSeg)", tabify=True)
    segmenting.form.allow.setChecked(True)
    segment(viewer, segmenting, "disks-fig3", 20)
    inspecting = dock(viewer, InspectWidget(viewer), "Inspect (ShiftSeg)", tabify=True)
    inspecting.form.seams.setChecked(True)
    inspect(viewer, inspecting, out / "tour_seams.png", highlight=True)
    segment(viewer, segmenting, "disks-fig3", 32)
    inspect(viewer, inspecting, out / "tour_cured.png", highlight=False)
    segment(viewer, segmenting, "disks-fig3a", 300)
    inspecting.form.grid.setChecked(True)
    inspect(viewer, inspecting, out / "tour_window.png", highlight=True)
    viewer.close()


if __name__ == "__main__":
    main()
