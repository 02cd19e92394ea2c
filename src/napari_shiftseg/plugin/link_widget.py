"""The Link widget: objects of planes or frames become objects of the stack or of the series, in a new layer."""

from functools import partial
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox
from napari.layers import Labels, Layer
from qtpy.compat import isalive
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_shiftseg.events import Event
from napari_shiftseg.plugin.dock import fill_dock
from napari_shiftseg.plugin.inputs import keep_choice
from napari_shiftseg.plugin.jobs import End, Job, cancel_all, sentence, start_job
from napari_shiftseg.plugin.kept import Keeper
from napari_shiftseg.plugin.layers import KEY
from napari_shiftseg.plugin.link_form import LinkForm
from napari_shiftseg.plugin.link_jobs import link_layer_steps, linkable_of, words_of

if TYPE_CHECKING:
    import napari


class LinkWidget(QWidget):
    """Link objects; verbs: `link`, `cancel`."""

    leader = "Alt+K"

    def __init__(self, viewer: "napari.viewer.Viewer", parent: QWidget | None = None):
        super().__init__(parent)
        self.viewer = viewer
        self.jobs: list[Job] = []
        self.form = LinkForm(ComboBox(choices=self._label_layers, nullable=False))
        Keeper(self, "link", self.form.kept())
        content = QWidget()
        column = QVBoxLayout(content)
        column.addWidget(self.form)
        column.addStretch()
        fill_dock(self, content, self.form.foot)
        self.form.layers.changed.connect(self._on_layer)
        self.form.link.clicked.connect(lambda _: self.link())
        self.form.cancel.clicked.connect(lambda _: self.cancel())
        self.destroyed.connect(partial(cancel_all, self.jobs))
        active = viewer.layers.selection.active
        if isinstance(active, Labels):
            self.form.layers.value = active
        self._on_layer()

    @property
    def layer(self) -> Labels | None:
        """The chosen labels."""
        return self.form.layers.value

    def link(self) -> None:
        """Link the objects of the layer."""
        if self.layer is None or self.jobs:
            return
        axis = self.form.axis
        steps = partial(link_layer_steps, linkable_of(self.viewer, self.layer, axis), axis, self.form.wishes())
        self.form.status.tell("", "Linking\u2026")
        self.jobs.append(start_job(steps, on_end=self._on_end, on_event=self._on_event))
        self.form.begin(True)

    def cancel(self) -> None:
        """Stop what is computed."""
        cancel_all(self.jobs)

    def reset_choices(self, *_: Any) -> None:
        """Called by napari when layers come, go or are renamed; also once the dock is closed."""
        if isalive(self):
            chosen = self.layer
            keep_choice(self.form.layers)
            if self.layer is not chosen:
                self._on_layer()
            self.form.begin(bool(self.jobs))

    def _on_event(self, event: Event) -> None:
        if isalive(self) and self.jobs:
            self.form.progress.setRange(0, event.total)
            self.form.progress.setValue(event.done)

    def _on_end(self, end: End) -> None:
        if not isalive(self):
            return
        unwanted = any(job.cancelled.is_set() for job in self.jobs)  # maybe when it was done, and nobody had heard of it
        self.jobs.clear()
        if end.state == "error":
            self.form.status.tell("fail", sentence(end.value))
        elif unwanted or end.state == "cancelled":
            self.form.status.tell("", "Cancelled; nothing was added.")
        else:
            for made in end.value:
                self.viewer.add_layer(Layer.create(*made))
            self.form.status.tell("pass", words_of(end.value[0]))
        self.form.begin(False)

    def _on_layer(self, *_: Any) -> None:
        """Offer what the axes of the chosen layer allow."""
        if self.layer is not None and not self.jobs:
            axes = (self.layer.metadata.get(KEY) or {}).get("axes") or "".join(self.layer.axis_labels)
            if ("t" in axes) != ("z" in axes):
                self.form.choose("t" if "t" in axes else "z")
        self.form.begin(bool(self.jobs))

    def _label_layers(self, _: Any) -> list[Labels]:
        return [layer for layer in self.viewer.layers if isinstance(layer, Labels)]
