"""The Correct widget in a viewer without a window, and a mouse and keys for it."""

from types import SimpleNamespace

from app_model.types import KeyBinding
from napari.components import ViewerModel
from napari.utils._proxies import ReadOnlyWrapper
from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks
from qtpy.QtWidgets import QApplication

from napari_shiftseg.plugin.correct_widget import CorrectWidget


class Bench:
    """A viewer without a window, the widget, and a mouse."""

    def __init__(self, qtbot, *layers, viewer=None):
        self.viewer = ViewerModel() if viewer is None else viewer
        for layer in layers:
            self.viewer.add_layer(layer)
        self.qtbot = qtbot
        self.widget = CorrectWidget(self.viewer)
        qtbot.addWidget(self.widget)
        for event in (self.viewer.layers.events.inserted, self.viewer.layers.events.removed):
            event.connect(self.widget.reset_choices)
        self.wait()

    layer = property(lambda self: self.widget.layer)
    edits = property(lambda self: self.widget.correction.edits)

    def wait(self):
        QApplication.processEvents()
        self.qtbot.waitUntil(lambda: not self.widget.jobs, timeout=20_000)
        QApplication.processEvents()

    def mouse(self, *points, button=1):
        """Press at the first point of the data, move over the others, release; a point is (..., y, x) in pixels."""
        layer, dims = self.viewer.layers.selection.active, self.viewer.dims

        def event(kind, point):
            world = layer.data_to_world(point)
            screen = tuple(10 * at for at in point[-2:])
            return SimpleNamespace(
                type=kind, button=button, position=world, pos=screen, modifiers=[], view_direction=None,
                dims_displayed=list(dims.displayed), dims_point=list(dims.point), inverted=False, is_dragging=False,
            )  # fmt: skip

        mouse_press_callbacks(layer, ReadOnlyWrapper(event("mouse_press", points[0])))
        for point in points[1:]:
            mouse_move_callbacks(layer, event("mouse_move", point))
        mouse_release_callbacks(layer, event("mouse_release", points[-1]))
        self.wait()

    def do(self, mode, *points):
        self.widget.tool.choose(mode)
        if mode == "merge":
            for point in points:
                self.mouse(point)
        else:
            self.mouse(*points)

    def press(self, key):
        """A key of the layer, as its keymap has it."""
        found = {str(bound): action for bound, action in self.layer.keymap.items()}
        found[str(KeyBinding.from_str(key))](self.layer)
        self.wait()

    def status(self):
        return self.widget.form.status.text()
