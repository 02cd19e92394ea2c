"""The Synthetic images widget: a recipe becomes an image layer and its truth."""

from functools import partial
from typing import TYPE_CHECKING

from napari.layers import Layer
from napari.utils.notifications import show_error
from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_shiftseg import synthetic
from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.plugin.constants import PREVIEW_PAUSE
from napari_shiftseg.plugin.dock import StatusLine, fill_dock
from napari_shiftseg.plugin.inputs import Note
from napari_shiftseg.plugin.jobs import End, Job, cancel_all, sentence, start_job
from napari_shiftseg.plugin.kept import Keeper
from napari_shiftseg.plugin.samples import draw_steps, preview, synthetic_layers
from napari_shiftseg.plugin.synth_form import FREE, Picture, SynthForm

if TYPE_CHECKING:
    import napari


class SynthWidget(QWidget):
    """Draw a synthetic image; three verbs: `recipe`, `run`, `show_result`."""

    leader = "Alt+Y"

    def __init__(self, viewer: "napari.viewer.Viewer", parent: QWidget | None = None):
        super().__init__(parent)
        self.viewer = viewer
        self.jobs: list[Job] = []
        self._name = ""
        self._build()
        Keeper(self, "synthesize", self.form.kept())
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(PREVIEW_PAUSE)
        self._timer.timeout.connect(self.refresh)
        self.form.preset.currentTextChanged.connect(self._on_preset)
        self.form.edited.connect(self._on_edited)
        self.form.changed.connect(self._on_changed)
        self.button.clicked.connect(lambda _: self.run())
        self.refresh()

    @property
    def running(self) -> bool:
        """Whether an image is being drawn."""
        return bool(self.jobs)

    def recipe(self) -> synthetic.Recipe:
        """The recipe that the form holds; SettingsError if a value is bad."""
        return self.form.recipe()

    def run(self) -> None:
        """Draw the image in a thread; nothing happens while one is drawn."""
        if self.jobs:
            return
        try:
            recipe = self.recipe()
        except ShiftsegError as exc:
            self.status.tell("fail", sentence(exc))
            return
        preset = self.form.preset.currentText()
        self._name = recipe.kind if preset == FREE else preset
        self.button.setEnabled(False)
        self.status.tell("", "Drawing\u2026")
        self.jobs.append(start_job(partial(draw_steps, recipe), on_end=self._on_end, torch=False))

    def show_result(self, drawn: synthetic.Synthetic) -> None:
        """Add the image and its truth to the viewer."""
        for layer in synthetic_layers(drawn, self._name):
            self.viewer.add_layer(Layer.create(*layer))

    def refresh(self) -> None:
        """Draw the small picture and say how many objects can be told apart."""
        try:
            recipe = self.recipe()
        except ShiftsegError as exc:
            self.picture.clear()
            self.about.tell("fail", sentence(exc))
            self.button.setEnabled(False)
            return
        self.button.setEnabled(not self.jobs)
        self.about.tell("", self._capacity(recipe))
        try:
            self.picture.draw(preview(recipe))
        except ShiftsegError as exc:  # blobs that find no room in the corner may find it in the whole image
            self.picture.clear()
            self.about.tell("warn", f"No picture of the corner: {exc}")

    def _capacity(self, recipe: synthetic.Recipe) -> str:
        levels, pool = self.form.levels.value(), self.form.pool.value()
        known = synthetic.presets().get(self.form.preset.currentText())
        if known is not None and (levels, pool) == (known.spec.levels, known.spec.pool):
            text = known.capacity
        else:
            text = synthetic.capacity_line(recipe, pool**levels, f"l = {levels}, f = {pool}")
        return f"{text[:1].upper()}{text[1:]}." + (f" {known.shows}" if known is not None else "")

    def _on_preset(self, name: str) -> None:
        if name == FREE:
            self._on_changed()
            return
        chosen = synthetic.preset(name)
        blocked = self.form.blockSignals(True)
        self.form.fill(chosen.recipe)
        self.form.levels.setValue(chosen.spec.levels)
        self.form.pool.setValue(chosen.spec.pool)
        self.form.blockSignals(blocked)
        self._on_changed()

    def _on_edited(self) -> None:
        """What was typed is no preset any more."""
        self.form.preset.blockSignals(True)
        self.form.preset.setCurrentText(FREE)
        self.form.preset.blockSignals(False)

    def _on_changed(self) -> None:
        if not self.jobs:
            self.status.tell("", "")  # it is about an earlier image
        if not self._timer.isActive():  # so that a wheel over a field draws ten pictures a second, not a hundred
            self._timer.start()

    def _on_end(self, end: End) -> None:
        if not isalive(self):  # the window was closed
            return
        self.jobs.clear()
        self.button.setEnabled(True)
        if end.state == "done":
            self.show_result(end.value)
            self.status.tell("pass", f"{self._name}: {int(end.value.labels.max()):,} objects.")
        elif end.state == "error":
            text = sentence(end.value)
            self.status.tell("fail", text)
            show_error(text)

    def _build(self) -> None:
        self.form, self.picture, self.about, self.status = SynthForm(), Picture(), Note(), Note()
        self.button = QPushButton("Generate")
        self.button.setToolTip("Draw the image and its truth as new layers.")
        content, foot = QWidget(), QWidget()
        column, below = QVBoxLayout(content), QVBoxLayout(foot)
        for widget in (self.picture, self.about, self.form):
            column.addWidget(widget)
        column.addStretch()
        below.addWidget(self.button)
        below.addWidget(StatusLine(self.status))
        fill_dock(self, content, foot)
        self.destroyed.connect(partial(cancel_all, self.jobs))
