"""`LikenessLine`: the line that says whether the image, and after a run its objects, is like what the model knows."""

from collections.abc import Generator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtWidgets import QWidget

from napari_shiftseg.events import Event
from napari_shiftseg.plugin.inputs import Note
from napari_shiftseg.plugin.jobs import End, start_job

if TYPE_CHECKING:
    from napari_shiftseg.analysis import Likeness
    from napari_shiftseg.io import Image
    from napari_shiftseg.network import Model
    from napari_shiftseg.plugin.segment_widget import SegmentWidget
    from napari_shiftseg.plugin.verdict import Verdict
    from napari_shiftseg.segmentation import SegmentSettings

__all__ = ["LEVELS", "LikenessLine", "likeness_steps"]

LEVELS = {"like": "pass", "unlike": "warn", "unknown": ""}
"""Dot per verdict."""

# Settings that leave what the network sees as it is.
_BLIND = {
    "write", "method", "device", "dtype", "memory", "bandwidth", "min_size", "deterministic", "allow_noncompliant",
    "threshold", "keep_embedding", "out_of_core", "workers", "cluster",
}  # fmt: skip


class LikenessLine(Note):
    """A line with a dot; the image is compared in a thread, once for each choice of image and model."""

    def __init__(self, parent: QWidget | None = None):
        super().__init__("", parent)
        self._asked: Any = None
        self.verdict = ""
        self.fill("")

    def follow(self, verdict: "Verdict | None", widget: "SegmentWidget") -> None:
        """Compare what the widget would run; say nothing where that is nothing."""
        if verdict is None or not verdict.can_run:
            self.forget()
        else:
            self.ask(widget.layer.data, widget.image(), widget.equipment.model, widget.settings())

    def ask(self, data: Any, image: "Image", model: "Model", settings: "SegmentSettings") -> None:
        """Compare, unless the same was asked before; a late answer to an earlier question is not shown.

        Parameters
        ----------
        data : array-like
            Of the layer, by which another image is known.
        image, model, settings
            What would run.
        """
        key = (id(data), image.axes, model, _looks(settings))
        if key == self._asked:
            return
        self._asked, self.verdict = key, ""
        self.fill("Comparing the image with what the model knows\u2026")
        start_job(partial(likeness_steps, image, model, settings), on_end=partial(self._on_end, key))

    def forget(self) -> None:
        """Say nothing: there is nothing to compare."""
        self._asked, self.verdict = None, ""
        self.fill("")

    def show_record(self, record: Mapping[str, Any]) -> None:
        """Say what the record of a run says of image and objects; it stays until another image or model is chosen."""
        found = record.get("likeness")
        if found:
            self._show(found["verdict"], found["text"])

    def _on_end(self, key: Any, end: End) -> None:
        if not isalive(self) or key != self._asked or self.verdict:
            return
        if end.state == "done":
            self._show(end.value.verdict, end.value.text)
        else:  # Run says what is wrong with an image that cannot be read
            self.fill("")

    def _show(self, verdict: str, text: str) -> None:
        self.verdict = verdict
        self.tell(LEVELS[verdict], text)
        self.setVisible(True)


def _looks(settings: "SegmentSettings") -> dict[str, Any]:
    """Those of the settings that change what the network sees."""
    return {name: value for name, value in vars(settings).items() if name not in _BLIND}


def likeness_steps(image: "Image", model: "Model", settings: "SegmentSettings") -> Generator[Event, None, "Likeness"]:
    """The job: compare an image with what a model knows."""
    from napari_shiftseg.segmentation import likeness

    return likeness(image, model, settings)
    yield  # a generator without steps: jobs are generators
