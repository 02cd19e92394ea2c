"""Draw the pictures of docs/correct.md: segment the nuclei sample, then merge, split and delete with the mouse.

    xvfb-run -a -s "-screen 0 1600x1000x24" python docs/scripts/correct_screenshot.py

Needs a display (Xvfb will do) and the extra `napari`. The two nuclei are the pair that shares the longest border.
"""

import time

import numpy as np
from napari.layers import Layer
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from segment_screenshot import click, dock, open_viewer, save_window, settle, wait_for, wishes_of
from skimage.io import imsave

from napari_shiftseg import read_image
from napari_shiftseg.plugin.correct_widget import CorrectWidget
from napari_shiftseg.plugin.samples import nuclei
from napari_shiftseg.plugin.segment_widget import SegmentWidget


class Mouse:
    """Clicks and lines on the canvas at places of a layer."""

    def __init__(self, viewer, layer):
        self.viewer, self.layer = viewer, layer
        self.canvas = viewer.window._qt_viewer.canvas.native

    def at(self, place):
        """Where a place of the layer is on the canvas."""
        camera = self.viewer.scene.camera
        by = (np.array(self.layer.data_to_world(place))[-2:] - np.array(camera.center[-2:])) * camera.zoom
        return QPoint(round(self.canvas.width() / 2 + by[1]), round(self.canvas.height() / 2 + by[0]))

    def click(self, place):
        QTest.mouseMove(self.canvas, self.at(place))
        QTest.mouseClick(self.canvas, Qt.MouseButton.LeftButton, pos=self.at(place))
        settle()

    def line(self, start, stop):
        for number, place in enumerate(np.linspace(start, stop, 20)):
            kind = {0: QEvent.Type.MouseButtonPress, 19: QEvent.Type.MouseButtonRelease}.get(number, QEvent.Type.MouseMove)
            at = self.at(tuple(place))
            of = Qt.MouseButton.NoButton if kind == QEvent.Type.MouseMove else Qt.MouseButton.LeftButton
            held = Qt.MouseButton.NoButton if number == 19 else Qt.MouseButton.LeftButton
            there = QPointF(self.canvas.mapToGlobal(at))
            QApplication.sendEvent(self.canvas, QMouseEvent(kind, QPointF(at), there, of, held, Qt.KeyboardModifier.NoModifier))
            time.sleep(0.02)
        settle()


def touching(labels):
    """The two objects with the longest common border, a pixel deep in each, and the ends of a line along that border."""
    pairs = {}
    for axis in range(2):
        one, two = np.take(labels, range(labels.shape[axis] - 1), axis), np.take(labels, range(1, labels.shape[axis]), axis)
        for place in np.argwhere((one != two) & (one > 0) & (two > 0)):
            pairs.setdefault(tuple(sorted((int(one[tuple(place)]), int(two[tuple(place)])))), []).append(place)
    (first, second), border = max(pairs.items(), key=lambda pair: len(pair[1]))
    middles = [np.argwhere(labels == number).mean(axis=0) for number in (first, second)]
    border = np.array(border, float)
    across = np.array([middles[1][1] - middles[0][1], middles[0][0] - middles[1][0]])
    across *= (np.ptp(border, axis=0).max() / 2 + 10) / np.linalg.norm(across)
    return middles, (border.mean(axis=0) - across, border.mean(axis=0) + across)


def main():
    wishes = wishes_of(__doc__, image="an image file; the nuclei sample by default")
    viewer = open_viewer(1360)
    if wishes.image:
        image = read_image(wishes.image)
        viewer.add_image(np.asarray(image.data[...]), name="nuclei", axis_labels=tuple(image.axes))
    else:
        viewer.add_layer(Layer.create(*next(made for made in nuclei() if made[2] == "image")))
    viewer.layers.selection.active = viewer.layers["nuclei"]
    segment = dock(viewer, SegmentWidget(viewer), "Segment (ShiftSeg)")
    wait_for(lambda: segment.equipment is not None)
    wait_for(segment.run_button.isEnabled)
    click(segment, segment.run_button)
    layer = viewer.layers["nuclei instances"]
    layer.opacity = 0.55
    viewer.window._qt_window.removeDockWidget(viewer.window._dock_widgets["Segment (ShiftSeg)"])
    widget = dock(viewer, CorrectWidget(viewer), "Correct (ShiftSeg)")
    wait_for(lambda: widget.tool is not None and not widget.jobs)
    widget.form.layers.value = layer
    wait_for(lambda: widget.layer is layer and widget.tool is not None and not widget.jobs)
    (one, two), (start, stop) = touching(layer.data)
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, *((one + two) / 2)), 8
    settle()
    mouse, steps = Mouse(viewer, layer), []

    def keep():
        settle()
        print(widget.form.about.text(), "|", widget.form.status.text())
        steps.append(viewer.screenshot(canvas_only=True, size=(400, 400), scale=1, flash=False)[..., :3])

    keep()
    QTest.mouseClick(widget.form.merge, Qt.MouseButton.LeftButton)
    mouse.click(one)
    mouse.click(two)
    keep()
    QTest.mouseClick(widget.form.split, Qt.MouseButton.LeftButton)
    mouse.line(start, stop)
    keep()
    QTest.mouseClick(widget.form.delete, Qt.MouseButton.LeftButton)
    mouse.click(two)
    keep()
    gap = np.full((400, 8, 3), 255, np.uint8)
    imsave(
        wishes.out / "correct_steps.png", np.hstack([part for step in steps for part in (step, gap)][:-1]), check_contrast=False
    )
    QTest.mouseClick(widget.form.undo, Qt.MouseButton.LeftButton)
    save_window(viewer, wishes.out / "correct.png")
    viewer.close()


if __name__ == "__main__":
    main()
