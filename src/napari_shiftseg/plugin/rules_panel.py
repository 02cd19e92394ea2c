"""A panel that lists every rule, whether it is kept, why, and what can be told apart."""

from collections.abc import Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtWidgets import QPushButton, QWidget

from napari_shiftseg.plugin.group import Group
from napari_shiftseg.plugin.inputs import DOTS, Note
from napari_shiftseg.plugin.jobs import End, once, start_job

if TYPE_CHECKING:
    from napari_shiftseg.geometry import Ruling, UNetSpec
    from napari_shiftseg.segmentation import Job

_BY = "Sections and figures are those of Rumberger et al. 2021."
_LEVELS = {"pass": "pass", "not known": "warn", "FAIL": "fail"}


class RulesPanel(Group):
    """A table of rules, a button that repairs the tile size, and a line on same-looking objects; closed at first."""

    def __init__(self, parent: QWidget | None = None):
        super().__init__("Rules", parent)
        self._spacing: tuple[Any, tuple[int, ...] | None] | None = None  # what was looked at, and the lattice seen there
        self.fix = QPushButton("Use the nearest legal tile size")
        self.fix.setToolTip("Set the tile size to the nearest one that keeps all rules.")
        self.table, self.capacity = Note(), Note()
        for widget in (self.fix, self.table, self.capacity):
            self.addWidget(widget)
        self.tell(())

    def explain(self, job: "Job | None", source: object) -> None:
        """Show what every rule says of a job, if the panel is open, and see what the model can tell apart in the image.

        `source`: what the image was taken from, by which it is known again.
        """
        if not self.is_open or job is None or job.judged is None:
            self.tell(())
            return
        from napari_shiftseg.plugin.verdict import capacity_text, spacing_of

        model = job.opened.model
        self.tell(job.judged.rulings)
        seen = (source, job.image.axes, job.channels, model.hash)
        if self._spacing is None or self._spacing[0] != seen:  # the image decides, so each is looked at once
            self._spacing = (seen, None)
            start_job(partial(once, spacing_of, job), on_end=partial(self._on_spacing, seen, model.spec))
        self.tell_capacity(*capacity_text(model.spec, self._spacing[1]))

    def forget(self) -> None:
        """The image has changed: its lattice is looked at anew."""
        self._spacing = None

    def _on_spacing(self, seen: Any, spec: "UNetSpec", end: End) -> None:
        if not isalive(self) or end.state != "done" or self._spacing is None or self._spacing[0] != seen:
            return
        from napari_shiftseg.plugin.verdict import capacity_text

        self._spacing = (seen, end.value)
        if self.table.text():  # else there is nothing to explain now
            self.tell_capacity(*capacity_text(spec, end.value))

    def tell(self, rulings: "Sequence[Ruling]") -> None:
        """Show these rulings; nothing is said of the capacity until `tell_capacity`."""
        self.table.setText(f"<table cellspacing=0 cellpadding=2>{''.join(map(_row, rulings))}</table>{_BY}" if rulings else "")
        self.fix.setVisible(any(r.rule == "write-multiple" and r.verdict == "FAIL" for r in rulings))
        self.capacity.tell("", "")

    def tell_capacity(self, level: str, text: str) -> None:
        """Say how many same-looking objects can be told apart."""
        self.capacity.tell(level, text)


def _row(ruling: "Ruling") -> str:
    dot = f'<span style="color: {DOTS[_LEVELS[ruling.verdict]]}">\u25cf</span>'
    wanted = "" if ruling.verdict == "pass" else f"; wanted: {ruling.wanted}"
    why = escape(f"{ruling.found}{wanted} ({ruling.source.removeprefix('Rumberger et al. 2021, ')}).")
    return f"<tr><td>{dot}</td><td><b>{escape(ruling.rule)}</b>: {why}</td></tr>"
