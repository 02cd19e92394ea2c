"""`LikenessLine`: the line that says whether the image, and after a run its objects, is like what the model knows."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QWidget

from napari_shiftseg.plugin.inputs import Note
from napari_shiftseg.plugin.jobs import End, once, start_job

if TYPE_CHECKING:
    from napari_shiftseg.analysis import Likeness
    from napari_shiftseg.io import Image
    from napari_shiftseg.plugin.verdict import Verdict
    from napari_shiftseg.segmentation import Job, SegmentSettings

LEVELS = {"like": "pass", "unlike": "warn", "unknown": ""}
"""Dot per verdict."""

# Settings that leave what the network sees as it is.
_BLIND = {
    "write", "method", "device", "dtype", "memory", "bandwidth", "min_size", "deterministic", "allow_noncompliant",
    "threshold", "augment", "keep_embedding", "out_of_core", "workers", "cluster",
}  # fmt: skip


class LikenessLine(Note):
    """A line with a dot; the image is compared in a thread, once for each choice of image and model.

    Attributes
    ----------
    use : QPushButton
        Takes the bundled model that knows such images, where the chosen one does not; hidden where there is none.
    wished : Signal
        The name of that model, when the button was pressed; nothing else changes the model.
    """

    wished = Signal(str)

    def __init__(self, parent: QWidget | None = None):
        super().__init__("", parent)
        self._asked: Any = None
        self.verdict = ""
        self.suggested = ""
        self.use = QPushButton()
        self.use.setToolTip("The image is like what this model knows. Nothing is run; your other choices stay.")
        self.use.clicked.connect(lambda _: self.wished.emit(self.suggested))
        self._suggest(())
        self.fill("")

    def follow(self, verdict: "Verdict | None", data: Any, image: "Image | None" = None) -> None:
        """Compare what would run; say nothing where that is nothing, and compare nothing twice.

        `data`: of the layer, by which another image is known. `image`: the layer as an image, for which a model is looked for
        where the chosen one cannot take it.
        """
        if verdict is not None and verdict.can_run:
            job = verdict.job
            key = (id(data), job.image.axes, job.opened.model, _looks(job.settings))
            work = partial(once, _compared, job)
            self._ask(key, "Comparing the image with what the model knows\u2026", work=work, answer=self._on_compared)
        elif verdict is not None and verdict.job is None and image is not None:
            self._ask((id(data), image.axes), "", work=partial(once, _suggested, image), answer=self._on_suggested)
        else:
            self.forget()

    def forget(self) -> None:
        """Say nothing: there is nothing to compare."""
        self._asked, self.verdict = None, ""
        self._suggest(())
        self.fill("")

    def show_record(self, record: Mapping[str, Any]) -> None:
        """Say what the record of a run says of image and objects; it stays until another image or model is chosen."""
        found = record.get("likeness")
        if found:
            self._show(found["verdict"], found["text"], found.get("suggested", ()))

    def _ask(self, key: Any, text: str, *, work: Any, answer: Any) -> None:
        if key == self._asked:
            return
        self.forget()
        self._asked = key
        self.fill(text)
        # a late answer to an earlier question is not shown
        start_job(work, on_end=partial(self._on_end, key, answer))

    def _on_end(self, key: Any, answer: Any, end: End) -> None:
        if not isalive(self) or key != self._asked or self.verdict:
            return
        if end.state == "done":
            answer(end.value)
        else:  # Run says what is wrong with an image that cannot be read
            self.fill("")

    def _on_compared(self, found: "Likeness") -> None:
        self._show(found.verdict, found.text, found.suggested)

    def _on_suggested(self, names: Sequence[str]) -> None:
        if names:
            self._show("unlike", f"The model {names[0]} knows such images.", names)

    def _show(self, verdict: str, text: str, suggested: Sequence[str]) -> None:
        self.verdict = verdict
        self.tell(LEVELS[verdict], text)
        self.setVisible(True)
        self._suggest(suggested)

    def _suggest(self, names: Sequence[str]) -> None:
        self.suggested = names[0] if names else ""
        self.use.setText(f"Use {self.suggested}")
        self.use.setVisible(bool(names))
        form = self.parentWidget()
        if form is not None and form.layout() is not None:  # which else keeps the places that it had before, over this text
            form.layout().invalidate()
            form.layout().activate()


def _looks(settings: "SegmentSettings") -> dict[str, Any]:
    """Those of the settings that change what the network sees."""
    return {name: value for name, value in vars(settings).items() if name not in _BLIND}


def _compared(job: "Job") -> "Likeness":
    """Compare the image of a job with what its model knows."""
    from napari_shiftseg.segmentation.likeness import compare_image, look

    return compare_image(look(job, likeness=False))


def _suggested(image: "Image") -> tuple[str, ...]:
    """The models that know an image which the chosen one cannot take."""
    from napari_shiftseg.segmentation import suggest_models

    return suggest_models(image)
