"""Draw the pictures of "Images larger than memory" in docs/segment.md: a run out of core while it works, and its embedding.

    xvfb-run -a -s "-screen 0 1600x1100x24" python docs/scripts/large_screenshot.py

Needs a display (Xvfb will do) and the extra `napari`. Prints what the widget says.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from segment_screenshot import dock, open_viewer, save_window, wait_for, wishes_of

from napari_shiftseg.plugin.samples import nuclei
from napari_shiftseg.plugin.segment_widget import SegmentWidget


def main():
    wishes = wishes_of(__doc__, repeat="samples along each axis of the mosaic, 3 by default")
    turned = [1 - 2 * (place % 2) for place in range(int(wishes.repeat or 3))]
    sample = nuclei()[0][0]
    viewer = open_viewer()
    viewer.add_image(np.block([[sample[::y, ::x] for x in turned] for y in turned]), name="plate")
    widget = dock(viewer, SegmentWidget(viewer), "Segment (ShiftSeg)")
    wait_for(lambda: widget.equipment is not None)
    widget.form.model.names.setCurrentText("nuclei")
    wait_for(widget.run_button.isEnabled)
    widget.form.tile.setCurrentText("256")
    widget.form.tile.changed.emit()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = folder  # the pictures show no home of anybody
        form = widget.form.large
        form.group.expand()
        form.choice.setCurrentText("Always")
        form.memory.setValue(0.7)
        form.store.value = Path(folder) / "plate.ome.zarr"
        wait_for(widget.run_button.isEnabled, 5)
        print(widget.form.writing.text())
        QTest.mouseClick(widget.run_button, Qt.MouseButton.LeftButton)
        wait_for(lambda: "(3 of" in widget.status.text(), 900)
        wait_for(lambda: "tile" in widget.status.text(), 900)
        print(widget.status.text())
        save_window(viewer, wishes.out / "segment_large.png")
        wait_for(lambda: not widget.running, 1800)
        print(widget.status.text())
        viewer.scene.camera.zoom *= 6
        QTest.mouseClick(widget.embedding_button, Qt.MouseButton.LeftButton)
        wait_for(lambda: "tiles computed" in widget.status.text())
        print(widget.status.text())
        viewer.layers["plate instances"].contour = 2
        save_window(viewer, wishes.out / "segment_large_embedding.png")
        viewer.close()


if __name__ == "__main__":
    main()
