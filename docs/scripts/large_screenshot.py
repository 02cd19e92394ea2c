"""Draw the pictures of "Images larger than memory" in docs/segment.md: a run out of core while it works, and its embedding.

    xvfb-run -a -s "-screen 0 1600x1100x24" python docs/scripts/large_screenshot.py

Needs a display (Xvfb will do) and the extra `napari`. Prints how long the window stood still at most.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import napari
import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest
from segment_screenshot import save_window, wait_for

from napari_shiftseg.plugin.samples import nuclei
from napari_shiftseg.plugin.segment_widget import SegmentWidget

IMAGES = Path(__file__).resolve().parents[1] / "images"


class Heartbeat:
    """How long the window stood still at most."""

    def __init__(self):
        self.longest, self._last = 0.0, time.perf_counter()
        self._timer = QTimer()
        self._timer.timeout.connect(self._beat)
        self._timer.start(5)

    def _beat(self):
        now = time.perf_counter()
        self.longest, self._last = max(self.longest, now - self._last), now

    def said(self):
        longest, self.longest = self.longest, 0.0
        return f"{1000 * longest:.0f} ms"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder of the pictures")
    parser.add_argument("--repeat", type=int, default=3, help="samples along each axis of the mosaic")
    wishes = parser.parse_args()
    wishes.out.mkdir(parents=True, exist_ok=True)
    sample = nuclei()[0][0]
    mosaic = np.block(
        [[sample[:: 1 - 2 * (y % 2), :: 1 - 2 * (x % 2)] for x in range(wishes.repeat)] for y in range(wishes.repeat)]
    )
    viewer = napari.Viewer(show=True)
    viewer.window._qt_window.resize(1380, 980)
    viewer.add_image(mosaic, name="plate")
    widget = SegmentWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Segment (ShiftSeg)", area="right")
    wait_for(lambda: widget.equipment is not None)
    widget.form.model.names.setCurrentText("nuclei")
    wait_for(widget.run_button.isEnabled)
    widget.form.tile.setCurrentText("256")
    widget.form.tile.changed.emit()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = folder  # the pictures show no home of anybody
        form = widget.form.large
        form.group.expand(animate=False)
        form.choice.setCurrentText("Always")
        form.memory.setValue(0.7)
        form.store.value = Path(folder) / "plate.ome.zarr"
        wait_for(widget.run_button.isEnabled, 5)
        print(widget.form.writing.text())
        heart = Heartbeat()
        QTest.mouseClick(widget.run_button, Qt.MouseButton.LeftButton)
        started = time.perf_counter()
        wait_for(lambda: "(3 of" in widget.status.text(), 900)
        wait_for(lambda: "tile" in widget.status.text(), 900)
        print(widget.status.text(), "still for", heart.said())
        save_window(viewer, wishes.out / "segment_large.png")
        wait_for(lambda: not widget.running, 1800)
        print(widget.status.text(), f"{time.perf_counter() - started:.0f} s, still for", heart.said())
        viewer.scene.camera.zoom *= 6
        QTest.mouseClick(widget.embedding_button, Qt.MouseButton.LeftButton)
        wait_for(lambda: "tiles computed" in widget.status.text())
        print(widget.status.text(), "still for", heart.said())
        viewer.layers["plate instances"].contour = 2
        save_window(viewer, wishes.out / "segment_large_embedding.png")
        viewer.close()


if __name__ == "__main__":
    main()
