"""`RunBar`: the buttons that start and stop a segmentation, how far it is, and the line that says what is happening."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qtpy.compat import isalive
from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_shiftseg.events import BlockDone, Event, Stage, TileDone
from napari_shiftseg.plugin.dock import StatusLine
from napari_shiftseg.plugin.edited import edits_of, words_on_edits
from napari_shiftseg.plugin.inputs import Note
from napari_shiftseg.plugin.intensity_form import IntensityNote

_TIPS = {
    "run": "Segment the whole image.",
    "cancel": "Stop after the tile that is being computed; all layers stay as they were.",
    "preview": "Segment only what is in view, with the tiles of the whole image.",
    "code": "A Python script that does what Run would, for the clipboard.",
    "command": "A line for a shell that does what Run would, for the clipboard.",
}


class RunBar(QWidget):
    """How long a run will take, buttons, a bar and a line on the run, which stay in view.

    Attributes
    ----------
    more : QWidget
        What else there is to say and to do: how intensities were scaled, and copies for other places.
    """

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self.run, self.preview, self.cancel = QPushButton("Run"), QPushButton("Preview view"), QPushButton("Cancel")
        self.code, self.command = QPushButton("Copy as code"), QPushButton("Copy as command")
        for name, tip in _TIPS.items():
            getattr(self, name).setToolTip(tip)
        self.progress, self.status, self.intensity = QProgressBar(), Note(), IntensityNote()
        self.progress.setTextVisible(False)
        buttons = QHBoxLayout()
        buttons.addWidget(self.run, 2)
        buttons.addWidget(self.preview, 1)
        buttons.addWidget(self.cancel, 1)
        self.time = Note()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.time)
        column.addLayout(buttons)
        column.addWidget(self.progress)
        column.addWidget(StatusLine(self.status))
        self.more = QWidget()
        rows = QVBoxLayout(self.more)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.addWidget(self.intensity)
        copies = QHBoxLayout()
        copies.addWidget(self.code)
        copies.addWidget(self.command)
        rows.addLayout(copies)
        self._gave_way = ""  # what the run did where memory ran out
        self._proof: tuple[Any, str, str, str] | None = (
            None  # a layer, and what was said of it: level, text, and how it is shown
        )
        self._told = "", ""
        self.begin(False)

    def begin(self, running: bool, *, blocks: bool = False) -> None:
        """Get ready for a run, or for what comes after one; `blocks` counts blocks and not the tiles in each."""
        self.run.setEnabled(not running)
        self.preview.setEnabled(not running)
        self.cancel.setEnabled(running)
        self.progress.setVisible(running)
        self.intensity.show_record(None)
        self._running, self._blocks, self._stage, self._done, self._total = running, blocks, "starting", 0, 0
        if running:
            self._gave_way = ""

    def forget(self) -> None:
        """Say nothing more of a run that has ended: another image is looked at."""
        if not self._running:
            self.status.tell("", "")
            self.intensity.show_record(None)

    def follow(self, event: Event, *, quiet: bool = False) -> None:
        """Show how far a run is; a quiet one says nothing."""
        if isinstance(event, Stage):
            self._stage = event.text
            if event.text.startswith("memory ran out"):
                self._gave_way = f" {event.text[:1].upper()}{event.text[1:]}."
        inner = self._blocks and self._total > 0 and not isinstance(event, Stage | BlockDone)
        if not inner:
            self._done, self._total = event.done, event.total
            self.progress.setRange(0, event.total)
            self.progress.setValue(event.done)
        if quiet:
            return
        steps = f" ({self._done} of {self._total}{' blocks' * self._blocks})" if self._total else ""
        part = "tile" if isinstance(event, TileDone) else "part"
        within = f", {part} {event.done} of {event.total} of the next" if inner and event.total else ""
        self.status.tell("", f"{self._stage[:1].upper()}{self._stage[1:]}{steps}{within}\u2026")

    def tell(self, level: str, text: str, record: Mapping[str, Any]) -> None:
        """Say how a run ended, also where it gave way, and how its intensities were scaled."""
        self.watch(None)
        self.status.tell(level, text + self._gave_way)
        self.intensity.show_record(record)
        self._told = level, text + self._gave_way

    def watch(self, labels: Any) -> None:
        """Say beside what was told of a run that its labels were edited, as soon as they are; None watches nothing more."""
        if self._proof is not None:
            self._proof[0].events.metadata.disconnect(self._on_edit)
        self._proof = None
        if labels is not None:
            self._proof = (labels, *self._told, self.status.text())
            labels.events.metadata.connect(self._on_edit)

    def _on_edit(self, _: Any) -> None:
        if self._proof is None or not isalive(self):
            return
        labels, level, text, shown = self._proof
        if self.status.text() == shown:  # else it speaks of something else by now
            words = words_on_edits(len(edits_of(labels)))
            self.status.tell("" if words else level, f"{text} {words}".strip())
            self._proof = labels, level, text, self.status.text()


def summary(record: Mapping[str, Any], out: Path | None = None, kept: str = "") -> tuple[str, str]:
    """Level and text of the line under a finished run; `out` is where it was written, `kept` what it did not overwrite."""
    counts, seconds = record["instances"], record["seconds"]["all"]
    found = f"{counts[0]} instances" if len(counts) == 1 else f"{sum(counts)} instances in {len(counts)} frames"
    level = "pass" if record["status"] == "compliant" else "warn"
    status = record["status"]
    if status == "compliant" and not record.get("promises", {}).get("tile_exact", True):
        status = "compliant as trained, not tile-exact"
    text = f"{found}, {status}, {seconds:.1f} s on {record['device']['kind'].upper()}."
    return level, text + ("" if out is None else f" Written to {out}.") + kept
