"""Draw the pictures of docs/measure.md: segment the nuclei sample, measure, colour by area, select with a lasso by the mouse.

    xvfb-run -a -s "-screen 0 1600x1200x24" python docs/scripts/measure_screenshot.py

Needs a display (Xvfb will do) and the extra `napari`. The lasso goes around the objects that are large and bright.
"""

import time
from itertools import pairwise

import numpy as np
from napari.layers import Layer
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QScrollArea
from segment_screenshot import click, dock, open_viewer, save_window, settle, wait_for, wishes_of

from napari_shiftseg import read_image
from napari_shiftseg.plugin.measure_widget import MeasureWidget
from napari_shiftseg.plugin.object_colours import ONLY
from napari_shiftseg.plugin.object_plot import LASSO
from napari_shiftseg.plugin.samples import nuclei
from napari_shiftseg.plugin.segment_widget import SegmentWidget


def drag(widget, places):
    """Press at the first place of a widget, move over the others, release."""
    for number, place in enumerate(places):
        last = number == len(places) - 1
        kind = QEvent.Type.MouseButtonPress if number == 0 else QEvent.Type.MouseMove
        kind = QEvent.Type.MouseButtonRelease if last else kind
        of = Qt.MouseButton.NoButton if kind == QEvent.Type.MouseMove else Qt.MouseButton.LeftButton
        held = Qt.MouseButton.NoButton if last else Qt.MouseButton.LeftButton
        at = QPointF(*map(float, place))
        there = QPointF(widget.mapToGlobal(at.toPoint()))
        QApplication.sendEvent(widget, QMouseEvent(kind, at, there, of, held, Qt.KeyboardModifier.NoModifier))
        time.sleep(0.01)
    settle()


def around(plot):
    """A line around the upper right part of the points."""
    places = plot.places()[plot.known]
    middle = np.quantile(places[:, 0], 0.8), np.quantile(places[:, 1], 0.45)
    right, top = places[:, 0].max() + 6, places[:, 1].min() - 5
    corners = [middle, (middle[0] - 14, top + 12), (middle[0] + 10, top), (right, top), (right, middle[1]), middle]
    return [tuple(place) for a, b in pairwise(corners) for place in np.linspace(a, b, 8)]


def main():
    wishes = wishes_of(__doc__, image="an image file; the nuclei sample by default", model="a bundled model")
    viewer = open_viewer(1360, 1130)
    if wishes.image:
        image = read_image(wishes.image)
        options = {"scale": image.scale, "units": [unit or "pixel" for unit in image.units], "axis_labels": tuple(image.axes)}
        viewer.add_image(np.asarray(image.data[...]), name="nuclei", **options)
    else:
        viewer.add_layer(Layer.create(*next(made for made in nuclei() if made[2] == "image")))
    viewer.layers.selection.active = viewer.layers["nuclei"]
    segment = dock(viewer, SegmentWidget(viewer), "Segment (ShiftSeg)")
    wait_for(lambda: segment.equipment is not None)
    if wishes.model:
        segment.form.model.choose(wishes.model)
    wait_for(segment.run_button.isEnabled)
    click(segment, segment.run_button)
    layer = viewer.layers["nuclei instances"]
    viewer.window._qt_window.removeDockWidget(viewer.window._dock_widgets["Segment (ShiftSeg)"])
    widget = dock(viewer, MeasureWidget(viewer), "Measure (ShiftSeg)")
    widget.form.layers.value = layer

    def free():
        return not widget.jobs and not widget.colours.jobs

    QTest.mouseClick(widget.form.measure, Qt.MouseButton.LeftButton)
    wait_for(free)
    print(widget.form.status.text(), "|", widget.form.about.text())
    widget.form.column.setCurrentText("area")
    wait_for(free)
    viewer.reset_view()
    widget.form.across.setCurrentText("area")
    widget.form.up.setCurrentText("mean_intensity")
    widget.form.tool.setCurrentText(LASSO)
    settle()
    drag(widget.form.plot, around(widget.form.plot))
    wait_for(free)
    print(widget.form.count.text())
    widget.findChild(QScrollArea).ensureWidgetVisible(widget.form.copy)
    save_window(viewer, wishes.out / "measure.png")
    widget.form.show_.setCurrentText(ONLY)
    wait_for(free)
    settle()
    viewer.screenshot(str(wishes.out / "measure_selected.png"), canvas_only=True, size=(520, 696), scale=1, flash=False)
    widget.form.table.click()
    settle()
    save_window(viewer, wishes.out / "measure_table.png")
    viewer.close()


if __name__ == "__main__":
    main()
