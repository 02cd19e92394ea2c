"""`Refresher`: draws a layer anew now and then, however often it is asked to."""

import time

from napari.layers import Layer
from qtpy.QtCore import QTimer

from napari_shiftseg.plugin.constants import DRAWING_SHARE


class Refresher:
    """Draws a layer anew, at once when it was not drawn for a while, else as soon as it may.

    `every`: seconds between two refreshes, at least.
    """

    def __init__(self, layer: Layer, every: float):
        self.layer, self.every = layer, every
        self._again = False
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._on_timeout)

    def ask(self) -> None:
        """Say that the layer has changed."""
        if self._timer.isActive():
            self._again = True
        else:
            self._refresh()

    def stop(self) -> None:
        """Do not draw any more."""
        self._timer.stop()
        self._again = False

    def _refresh(self) -> None:
        self._again = False
        before = time.perf_counter()
        self.layer.refresh(extent=False)
        spent = time.perf_counter() - before
        self._timer.start(round(1000 * max(self.every, DRAWING_SHARE * spent)))

    def _on_timeout(self) -> None:
        if self._again:
            self._refresh()
