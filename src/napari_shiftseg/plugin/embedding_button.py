"""`EmbeddingButton`: shows the embedding of a result that has none, computed where the viewer looks."""

from collections.abc import Callable
from functools import partial
from typing import Any

from napari.layers import Layer
from qtpy.compat import isalive
from qtpy.QtWidgets import QPushButton, QWidget

from napari_shiftseg.plugin.jobs import End, sentence, start_job
from napari_shiftseg.plugin.subject import subject_of, without_embedding


class EmbeddingButton(QPushButton):
    """Visible while the viewer holds a result without an embedding.

    Parameters
    ----------
    viewer : napari viewer
    image : callable
        Gives the image layer whose result is meant, if there are several.
    device : callable
        Gives the name of the device that computes.
    tell : callable
        Called with level and text of what there is to say.
    """

    def __init__(
        self,
        viewer: Any,
        image: Callable[[], Layer | None],
        device: Callable[[], str],
        tell: Callable[[str, str], None],
        parent: QWidget | None = None,
    ):
        super().__init__("Show embedding", parent)
        self.viewer = viewer
        self._image, self._device, self._tell = image, device, tell
        self.setToolTip("A layer with the embedding of what is in view, computed anew when the view changes.")
        self.clicked.connect(lambda _: self.show_embedding())
        self.look()

    def look(self) -> None:
        """See whether there is something to show."""
        self.setVisible(without_embedding(self.viewer, self._image()) is not None)

    def show_embedding(self) -> None:
        """Load the model in a thread, then add the layer."""
        from napari_shiftseg.plugin.embedding_view import lazy_steps  # loads torch

        labels = without_embedding(self.viewer, self._image())
        if labels is not None and self.isEnabled():
            self.setEnabled(False)
            subject = subject_of(self.viewer, labels)
            start_job(partial(lazy_steps, subject, self._device()), on_end=partial(self._on_end, labels, subject.run))

    def _on_end(self, labels: Layer, run: str, end: End) -> None:
        from napari_shiftseg.plugin.embedding_view import EmbeddingView

        if not isalive(self):
            return
        self.setEnabled(True)
        if end.state == "error":
            self._tell("fail", sentence(end.value))
        elif end.state == "done" and labels in self.viewer.layers and subject_of(self.viewer, labels).run == run:
            EmbeddingView(self.viewer, end.value, labels, self._tell)
