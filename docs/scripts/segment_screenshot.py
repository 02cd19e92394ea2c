"""Draw the pictures of docs/segment.md and docs/tune.md: open napari on the nuclei sample, click Run, tune, save the window.

    xvfb-run -a -s "-screen 0 1600x1000x24" python docs/scripts/segment_screenshot.py

Needs a display (Xvfb will do) and the extra `napari`.
"""

import argparse
import time
from pathlib import Path

import napari
from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QScrollArea

from napari_shiftseg.plugin import kept
from napari_shiftseg.plugin.samples import nuclei
from napari_shiftseg.plugin.segment_widget import SegmentWidget

IMAGES = Path(__file__).resolve().parents[1] / "images"


def wait_for(condition, seconds=300.0):
    """Let the window live until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("the window did not get there in time")
        QApplication.processEvents()
        time.sleep(0.01)


def settle():
    """Layouts and textures settle over a few turns."""
    for _ in range(30):
        QApplication.processEvents()
        time.sleep(0.02)


def save_window(viewer, path):
    """Save the window as it is on the screen."""
    settle()
    viewer.window._qt_window.grab().save(str(path))


def click(widget, button):
    """Press a button, and wait for the end of what it starts."""
    wait_for(button.isEnabled)
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    wait_for(lambda: not widget.running)


def wishes_of(doc, **more):
    """What was asked for on the command line; options of one script are named with their help."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder of the pictures")
    for name, help_ in more.items():
        parser.add_argument(f"--{name}", help=help_)
    wishes = parser.parse_args()
    wishes.out.mkdir(parents=True, exist_ok=True)
    return wishes


def open_viewer(width=1380, height=980):
    kept.place = lambda: None  # the pictures show new widgets, and leave what the user's keep
    viewer = napari.Viewer(show=True)
    viewer.window._qt_window.resize(width, height)
    return viewer


def dock(viewer, widget, name, **options):
    viewer.window.add_dock_widget(widget, name=name, area="right", **options)
    return widget


def save_tuned(viewer, widget, path):
    """Tune as the page says: lower the threshold, and take the smallest size in the histogram by keys."""
    panel = widget.tune
    panel.form.expand()
    wait_for(lambda: panel.ready is not None)
    panel.form.threshold.setValue(0.4)
    panel.form.plot.setFocus()
    for _ in range(6):
        QTest.keyClick(panel.form.plot, Qt.Key.Key_PageUp)
    wait_for(lambda: panel.settled)
    settle()
    widget.findChild(QScrollArea).ensureWidgetVisible(panel.form.reset)
    save_window(viewer, path)


def main():
    wishes = wishes_of(__doc__, model="a model file; the bundled model by default")
    viewer = open_viewer(1360)
    for data, options, kind in nuclei():
        viewer.add_layer(Layer.create(data, options, kind))
    viewer.layers.selection.active = viewer.layers["nuclei"]
    widget = dock(viewer, SegmentWidget(viewer), "Segment (ShiftSeg)")
    wait_for(lambda: widget.equipment is not None)
    if wishes.model:
        widget.form.model.choose_file(wishes.model)
    wait_for(widget.run_button.isEnabled)
    widget.form.advanced.expand()
    click(widget, widget.run_button)
    viewer.layers["nuclei instances"].opacity = 0.55
    viewer.reset_view()
    save_window(viewer, wishes.out / "segment.png")
    widget.form.advanced.collapse()
    save_tuned(viewer, widget, wishes.out / "tune.png")
    click(widget, widget.run_button)
    viewer.layers["nuclei instances"].visible = False
    viewer.layers["nuclei embedding RGB"].visible = True
    viewer.layers.selection.active = viewer.layers["nuclei embedding RGB"]
    viewer.screenshot(str(wishes.out / "segment_embedding.png"), canvas_only=True, size=(520, 696), scale=1, flash=False)
    viewer.close()


if __name__ == "__main__":
    main()
