"""`LikenessLine`: the line that says whether the image, and after a run its objects, is like what the model knows."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtWidgets import QWidget

from napari_shiftseg.plugin.inputs import Note
from napari_shiftseg.plugin.jobs import End, once, start_job

if TYPE_CHECKING:
    from napari_shiftseg.analysis import Likeness
    from napari_shiftseg.plugin.verdict import Verdict
    from napari_shiftseg.segmentation import Job, SegmentSettings

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

    def follow(self, verdict: "Verdict | None", data: Any) -> None:
        """Compare what would run; say nothing where that is nothing, and compare nothing twice.

        `data`: of the layer, by which another image is known.
        """
        if verdict is None or not verdict.can_run:
            self.forget()
            return
        job = verdict.job
        key = (id(data), job.image.axes, job.opened.model, _looks(job.settings))
        if key == self._asked:
            return
        self._asked, self.verdict = key, ""
        self.fill("Comparing the image with what the model knows\u2026")
        # a late answer to an earlier question is not shown
        start_job(partial(once, _compared, job), on_end=partial(self._on_end, key))

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


def _compared(job: "Job") -> "Likeness":
    """Compare the image of a job with what its model knows."""
    from napari_shiftseg.segmentation.likeness import compare_image, look

    return compare_image(look(job, likeness=False))
