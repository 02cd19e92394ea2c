"""The Measure widget in a viewer without a window, and labels for it."""

from types import SimpleNamespace

import numpy as np
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication

from napari_shiftseg.plugin.measure_widget import MeasureWidget


def squares(shape=(40, 60), kind=np.int32, first=1):
    """Rectangles of unlike sizes with numbers that have gaps."""
    labels = np.zeros(shape, kind)
    for number in range(6):
        row, column = divmod(number, 3)
        labels[..., 2 + 18 * row : 8 + 18 * row + number, 3 + 19 * column : 12 + 19 * column] = first + 3 * number
    return labels


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 1000, shape).astype(np.uint16)


class Desk:
    """A viewer without a window, and the widget."""

    def __init__(self, qtbot, *layers, closes=False):
        self.qtbot, self.viewer = qtbot, ViewerModel()
        for layer in layers:
            self.viewer.add_layer(layer)
        self.widget = MeasureWidget(self.viewer)
        if not closes:  # else the test closes it
            qtbot.addWidget(self.widget)
        for event in (self.viewer.layers.events.inserted, self.viewer.layers.events.removed):
            event.connect(self.widget.reset_choices)
        self.wait()

    layer = property(lambda self: self.widget.layer)
    features = property(lambda self: self.widget.layer.features)
    form = property(lambda self: self.widget.form)

    def wait(self):
        def done():
            QApplication.processEvents()
            measured, colours = self.widget.measured, self.widget.colours
            touched = measured is not None and (measured.jobs or (measured._touched and measured._images is not None))
            return not self.widget.jobs and not touched and not (colours and colours.jobs)

        self.qtbot.waitUntil(done, timeout=30_000)
        QApplication.processEvents()

    def measure(self):
        self.form.measure.click()
        self.wait()
        return self.features

    def select(self, *numbers):
        rows = self.widget.measured.rows
        self.widget.select(np.flatnonzero(np.isin(rows.labels, numbers)))

    def click(self, point):
        """A click on the canvas at a place of the labels."""
        layer, dims = self.layer, self.viewer.dims
        event = SimpleNamespace(
            type="mouse_press", button=1, position=layer.data_to_world(point), pos=(0, 0), modifiers=[],
            view_direction=None, dims_displayed=list(dims.displayed),
        )  # fmt: skip
        steps = self.widget._on_click(layer, event)
        if next(steps, "nothing") is None:
            event.type = "mouse_release"
            assert next(steps, "end") == "end"
        QApplication.processEvents()
