"""Draw the pictures of docs/inspect.md: segment the nuclei sample by legal and by illegal tiles, inspect both, save the window.

    xvfb-run -a -s "-screen 0 1600x1100x24" python docs/scripts/inspect_screenshot.py

Needs a display (Xvfb will do) and the extra `napari`.
"""

import numpy as np
from napari.layers import Layer
from qtpy.QtCore import Qt
from segment_screenshot import click, dock, open_viewer, save_window, settle, wishes_of

from napari_shiftseg import SegmentSettings, UNetSpec, plan_tiles
from napari_shiftseg.events import drain
from napari_shiftseg.plugin.inspect_widget import InspectWidget
from napari_shiftseg.plugin.layers import KEY, layer_tuples, segment_and_draw
from napari_shiftseg.plugin.replacement import put_layers
from napari_shiftseg.plugin.samples import nuclei, touching_blobs_3d
from napari_shiftseg.plugin.source import image_of, placement_of


def instances(viewer):
    """The instances layer, whose name says whether the rules were kept."""
    return next(layer for layer in viewer.layers if layer.metadata.get(KEY, {}).get("role") == "instances")


def segmented(viewer, model, write, **options):
    """The nuclei sample and its result, as the Segment widget shows them."""
    data, known, kind = nuclei()[0]
    layer = viewer.add_layer(Layer.create(data, {**known, **options}, kind))
    settings = SegmentSettings(write=write, allow_noncompliant=True)
    drawn = drain(segment_and_draw(image_of(layer, "yx"), model, settings))
    put_layers(viewer, layer_tuples(drawn, placement_of(layer, "yx", "yx"), "nuclei", source_id=layer.unique_id))
    instances(viewer).opacity = 0.45
    viewer.reset_view()


def inspect(viewer):
    widget = dock(viewer, InspectWidget(viewer), "Inspect (ShiftSeg)")
    viewer.window._qt_window.resizeDocks([viewer.window.dock_widgets["Inspect (ShiftSeg)"].parent()], [430],
                                         Qt.Orientation.Horizontal)  # fmt: skip
    widget.form.seams.setChecked(True)
    return widget


def window_with(model, write, path):
    viewer = open_viewer(1480, 1000)
    segmented(viewer, model, write)
    widget = inspect(viewer)
    click(widget, widget.form.measure)
    click(widget, widget.form.verify)
    if path.stem.endswith("bad"):
        widget.form.table.selectRow(0)
        widget.form.table.cellClicked.emit(0, 0)
        click(widget, widget.form.highlight)
        widget.form.grid.setChecked(True)
    else:
        viewer.scene.camera.zoom *= 0.95
    viewer.layers.selection.active = instances(viewer)
    save_window(viewer, path)
    print(path.name, "|", widget.form.finding.text(), "|", widget.form.answer.text())
    viewer.close()


def canvas(viewer, path):
    settle()
    viewer.screenshot(str(path), canvas_only=True, size=(520, 696), scale=1, flash=False)
    viewer.close()


def turned(model, path):
    """A rotated layer, close up, so that pixels can be counted."""
    viewer = open_viewer(1480, 1000)
    segmented(viewer, model, 64, rotate=30, scale=(0.5, 0.5), translate=(10, 20))
    widget = inspect(viewer)
    widget.form.grid.setChecked(True)
    instances(viewer).opacity = 0.3
    layer = viewer.layers["nuclei"]
    layer.interpolation2d = "nearest"
    layer.contrast_limits = (0, 80)
    viewer.scene.camera.center = (0, *layer.data_to_world((191.5, 255.5)))  # two seams cross here
    viewer.scene.camera.zoom = 20
    canvas(viewer, path)


def volume(path):
    """The tiles of an anisotropic volume as boxes; the plan alone decides them, so no network runs."""
    viewer = open_viewer(1480, 1000)
    image, truth = touching_blobs_3d()
    spec = UNetSpec(ndim=3, levels=2, pool=((1, 2, 2), (2, 2, 2)))
    plan = plan_tiles(spec, image[0].shape, (16, 64, 64))
    place = {"scale": (3.0, 1.0, 1.0)}
    viewer.add_layer(Layer.create(image[0], {**image[1], **place}, image[2]))
    known = {"role": "instances", "source": "blobs", "source_id": 1, "axes": "zyx", "plan": plan, "record": {}}
    labels = np.asarray(truth[0])
    viewer.add_layer(Layer.create(labels, {"name": "blobs instances", "metadata": {KEY: known}, **place}, "labels"))
    inspect(viewer)
    viewer.layers[0].visible = False
    viewer.dims.ndisplay = 3
    viewer.reset_view()
    viewer.scene.camera.angles = (8, 28, 62)
    viewer.scene.camera.zoom *= 0.45
    canvas(viewer, path)


def main():
    wishes = wishes_of(__doc__, model="a model file; the bundled model by default")
    model = wishes.model or "nuclei"
    window_with(model, 64, wishes.out / "inspect.png")
    window_with(model, 61, wishes.out / "inspect_bad.png")
    turned(model, wishes.out / "inspect_turned.png")
    volume(wishes.out / "inspect_3d.png")


if __name__ == "__main__":
    main()
