"""How long the Measure widget holds napari's window still, on an image of 8,192 px with 16,384 objects.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/measure_stall.py [--edge 8192]

A timer of a millisecond says the longest time between two turns of the event loop, ms, for each thing that a user does, beside
what napari itself takes for the same layers: adding them, and drawing them in other colours.
"""

import argparse
import time

import numpy as np


class Clock:
    """The longest time between two turns of the event loop."""

    def __init__(self):
        from qtpy.QtCore import QTimer
        from qtpy.QtWidgets import QApplication

        self.last, self.longest = time.perf_counter(), 0.0
        self.turn = QApplication.processEvents
        self.timer = QTimer()
        self.timer.timeout.connect(self.tick)
        self.timer.start(1)

    def tick(self):
        now = time.perf_counter()
        self.longest, self.last = max(self.longest, now - self.last), now

    def measure(self, name, action, done=lambda: True, turns=40):
        """Do something, wait until it is done and drawn, and print how long the loop stood still."""
        for _ in range(turns):
            self.turn()
        self.last, self.longest, began = time.perf_counter(), 0.0, time.perf_counter()
        action()
        self.tick()
        while not done():
            self.turn()
        for _ in range(turns):
            self.turn()
        self.tick()
        print(f"{name:58s} {1000 * self.longest:8.0f} ms of {1000 * (time.perf_counter() - began):8.0f} ms", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edge", type=int, default=8192, help="pixels of the image along an axis")
    wishes = parser.parse_args()
    import napari

    from napari_shiftseg.plugin.correction import correction_of
    from napari_shiftseg.plugin.measure_widget import MeasureWidget
    from napari_shiftseg.plugin.object_colours import HIGHLIGHTED

    cells = wishes.edge // 64
    block = np.zeros((64, 64), np.int32)
    block[6:58, 6:58] = 1
    labels = np.kron(np.arange(1, cells**2 + 1, dtype=np.int32).reshape(cells, cells), block)
    image = np.random.default_rng(0).integers(0, 4000, labels.shape).astype(np.uint16)
    viewer, clock = napari.Viewer(show=True), Clock()
    clock.measure("napari: image added", lambda: viewer.add_image(image, name="image", contrast_limits=(0, 4000)))
    clock.measure("napari: labels added", lambda: viewer.add_labels(labels, name="labels"))
    layer = viewer.layers["labels"]
    clock.measure("napari: labels in other colours", lambda: layer.new_colormap(1))
    widget = MeasureWidget(viewer)
    clock.measure("widget opened", lambda: viewer.window.add_dock_widget(widget, name="Measure"))

    def free():
        return not (widget.jobs or widget.colours.jobs or widget.measured.jobs or widget.measured._touched)

    clock.measure("measured, with intensities", widget.measure, free)
    print(widget.form.status.text())
    clock.measure("coloured by intensity", lambda: widget.form.column.setCurrentText("mean_intensity"), free)
    widget.form.low.setText("1950")
    clock.measure("another range", widget.form.low.editingFinished.emit, free)
    clock.measure("scatter", lambda: widget.form.up.setCurrentText("std_intensity"), free)
    rows = np.arange(0, cells**2, 8)
    clock.measure(f"{len(rows)} objects selected", lambda: widget.select(rows), free)
    clock.measure("highlighted", lambda: widget.form.show_.setCurrentText(HIGHLIGHTED), free)
    widget.select(np.arange(20, 40))
    clock.measure("20 objects deleted", widget.delete, free)
    clock.measure("undone", widget.undo, free)
    clock.measure("an object deleted by Correct", lambda: correction_of(layer).delete(5, ()), free)
    clock.measure("label colours", widget.form.back.click, free)
    viewer.close()


if __name__ == "__main__":
    main()
