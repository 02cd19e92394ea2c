"""How a result can be made again, as text in the clipboard: buttons for a widget, and commands on the active layer."""

from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING

from napari.layers import Layer
from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtWidgets import QApplication, QHBoxLayout, QPushButton, QWidget

from napari_shiftseg.errors import ResultError
from napari_shiftseg.events import Event
from napari_shiftseg.plugin.edited import edits_of
from napari_shiftseg.plugin.jobs import End, sentence, start_job
from napari_shiftseg.plugin.signature import KEY

if TYPE_CHECKING:
    import napari

Tell = Callable[[str, str], None]
"""Takes the level of a note, and its text."""


class CopyRow(QWidget):
    """Two buttons for the result that `layer` gives; `tell` hears what became of a copy."""

    def __init__(self, layer: Callable[[], Layer | None], tell: Tell, parent: QWidget | None = None):
        super().__init__(parent)
        self.code, self.command = QPushButton("Copy as code"), QPushButton("Copy as command")
        self.code.setToolTip("A Python script that gives the labels of this result again, for the clipboard.")
        self.command.setToolTip("A line for a shell that gives the labels of this result again, for the clipboard.")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for button, verb in ((self.code, "as_code"), (self.command, "as_command")):
            row.addWidget(button)
            button.clicked.connect(lambda _, verb=verb: copy(layer(), verb, tell))


def copy_code(viewer: "napari.viewer.Viewer") -> None:
    """Copy how the result in the active layer is made again, as a Python script."""
    copy(viewer.layers.selection.active, "as_code", _notify)


def copy_command(viewer: "napari.viewer.Viewer") -> None:
    """Copy how the result in the active layer is made again, as a line for a shell."""
    copy(viewer.layers.selection.active, "as_command", _notify)


def copy(layer: Layer | None, verb: str, tell: Tell) -> None:
    """Put what "as_code" or "as_command" says of a layer into the clipboard; in a thread, since it looks into files."""
    # the thread gets no layer, which may change meanwhile
    known = None if layer is None else layer.metadata.get(KEY)
    edits = [] if layer is None else edits_of(layer)
    name = "No layer" if layer is None else layer.name
    start_job(partial(_said_steps, known, edits, name=name, verb=verb), on_end=partial(_on_said, tell))


def _said_steps(known: object, edits: list[object], *, name: str, verb: str) -> Generator[Event, None, str]:
    from napari_shiftseg import segmentation  # loads torch

    if not isinstance(known, dict) or not known.get("record"):
        raise ResultError(f"{name} is no result of ShiftSeg; select one of its layers.")
    text: str = getattr(segmentation, verb)(known["record"] | {"edits": edits}, known.get("store"))
    return text
    yield  # jobs are generators


def _on_said(tell: Tell, end: End) -> None:
    if end.state == "error":
        tell("fail", sentence(end.value))
    elif end.state == "done":
        QApplication.clipboard().setText(end.value)
        tell(*words_on_copy(end.value))


def words_on_copy(text: str) -> tuple[str, str]:
    """Level and text of what is said of a copy: its comments."""
    notes = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
    return "warn" if notes else "", " ".join(["Copied.", *notes])


def _notify(level: str, text: str) -> None:
    {"fail": show_error, "warn": show_warning}.get(level, show_info)(text)
