"""The Inspect widget: whether a result is cut at the borders of its tiles."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import ComboBox
from napari.layers import Layer
from napari.utils.notifications import show_error
from qtpy.compat import isalive
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.events import Event, Stage
from napari_shiftseg.plugin.comparison import Beside, comparison_layers, is_compared
from napari_shiftseg.plugin.copying import CopyRow
from napari_shiftseg.plugin.dock import StatusLine, fill_dock
from napari_shiftseg.plugin.edited import words_on_edits
from napari_shiftseg.plugin.idle_axes import hide_idle_axes
from napari_shiftseg.plugin.inputs import Note, keep_choice
from napari_shiftseg.plugin.inspect_form import InspectForm
from napari_shiftseg.plugin.inspect_jobs import (
    KINDS,
    Findings,
    Highlights,
    compare_steps,
    highlight_steps,
    measure_steps,
    probe_steps,
    verify_steps,
)
from napari_shiftseg.plugin.jobs import End, Job, cancel_all, sentence, start_job
from napari_shiftseg.plugin.kept import Keeper
from napari_shiftseg.plugin.layers import KEY, highlight_layers
from napari_shiftseg.plugin.line_geometry import close_up
from napari_shiftseg.plugin.overlays import Overlays
from napari_shiftseg.plugin.replacement import replace_layers, words_on_kept
from napari_shiftseg.plugin.seam_table import save_csv
from napari_shiftseg.plugin.signature import is_older
from napari_shiftseg.plugin.subject import Subject, is_result, is_truth, layers_of_run, newest, subject_of

if TYPE_CHECKING:
    import napari

    from napari_shiftseg.analysis import EffectivePeriod, PeriodProbe, SeamRow, TilingCheck
    from napari_shiftseg.analysis.compare import Comparison


class InspectWidget(QWidget):
    """Show the lines of a result, measure its seams, and check the network that made it."""

    leader = "Alt+I"

    def __init__(self, viewer: "napari.viewer.Viewer", parent: QWidget | None = None):
        super().__init__(parent)
        self.viewer = viewer
        self.findings: Findings | None = None
        self.jobs: list[Job] = []  # the computation, if there is one
        self.overlays = Overlays(viewer, self._on_lines)
        self.beside = Beside(viewer)
        self._watched: Layer | None = None
        self._chose_older = False
        hide_idle_axes(self, viewer)
        self._build()
        Keeper(self, "inspect", {"Model file": self.form.model, "Naive": self.form.how})
        self._connect()
        self._choose_active_layer()
        self._on_layer()

    @property
    def layer(self) -> Layer | None:
        """The chosen result layer."""
        return self.form.layers.value

    @property
    def running(self) -> bool:
        """Whether something is computed."""
        return bool(self.jobs)

    def subject(self) -> Subject | None:
        """The chosen result, at the frame that the viewer shows."""
        return None if self.layer is None else subject_of(self.viewer, self.layer, self.form.truth.value)

    # -- verbs --------------------------------------------------------------------------------------------------------

    def measure(self) -> None:
        """Measure the seams of the frame that is shown."""
        self._start(measure_steps, self.show_findings)

    def highlight(self) -> None:
        """Outline the instances on seams, and with a truth what is split, missed and extra."""
        self._start(highlight_steps, self._show_highlight)

    def verify(self) -> None:
        """Compute by tiles and in one pass, and compare."""
        self._start(partial(verify_steps, model_file=self._model_file()), self._show_check)

    def compare(self) -> None:
        """Compute by naive tiles, and show both."""
        how = self.form.how.currentData()
        self._start(partial(compare_steps, model_file=self._model_file(), how=how), self._show_comparison)

    def probe(self) -> None:
        """Find the period of the network."""
        self._start(partial(probe_steps, model_file=self._model_file()), self._show_probe)

    def cancel(self) -> None:
        """Stop what is computed, at its next step."""
        for job in self.jobs:
            job.cancel()
            self.status.tell("", "Cancelling\u2026")
            self.cancel_button.setEnabled(False)

    def open_result(self, path: str | Path) -> None:
        """Open a saved result, and inspect it."""
        from napari_shiftseg.plugin.reader import get_reader

        reader = get_reader(str(path))
        if reader is None:
            show_error(f"{Path(path).name} is not a result of napari-shiftseg; choose a .zarr folder that it saved.")
            return
        tuples = [made for made in reader(str(path)) if made[0] is not None]
        if tuples:
            layers = [self.viewer.add_layer(Layer.create(*made)) for made in tuples]
            self.form.layers.value = next((layer for layer in layers[::-1] if is_result(layer)), self.layer)

    def go_to(self, row: "SeamRow") -> None:
        """Move the camera to a seam; the other axes stay as they are."""
        if self.layer is None or self.findings is None:
            return
        axes = self.layer.metadata[KEY]["axes"]
        axis = axes.index(self.findings.subject.spatial[row.axis])
        close_up(self.viewer, self.layer, axis, position=row.position, view=self.overlays.view)

    # -- results ------------------------------------------------------------------------------------------------------

    def show_findings(self, findings: Findings) -> None:
        """Show what was measured."""
        self.findings = findings
        report, axes = findings.report, findings.subject.spatial
        where = f" ({findings.subject.where})" if findings.subject.where else ""
        unmeasured = f" {findings.subject.remedy}" if report.seams and findings.subject.remedy else ""
        text = f"{report.verdict}{where} {report.meaning}{unmeasured} {words_on_edits(findings.subject.edits)}"
        self.form.finding.tell(report.finding, text.strip())
        self.form.plot.tell({kind: findings.jumps(kind) for kind in KINDS} if len(findings.lines) else {})
        self.form.table.tell(report.worst(len(report.table)), axes)
        self._enable()
        self.status.tell("", f"{report.seams} seams." if report.seams else "")

    def _show_highlight(self, found: Highlights) -> None:
        from napari_shiftseg.plugin.source import placement_of  # loads torch, which made the result

        layer, subject = self.layer, self.subject()
        known = layer.metadata[KEY]
        place = placement_of(layer, known["axes"], subject.axes)
        put = replace_layers(self.viewer, highlight_layers(subject, found, place, source_id=known["source_id"]))
        for outlines in put.layers:
            outlines.contour = 2
        self.viewer.layers.selection.active = layer
        self.status.tell("", found.text + words_on_kept(put.kept))

    def _show_check(self, check: "TilingCheck") -> None:
        self.form.answer.tell("pass" if check.ok else "fail", check.text)
        self.status.tell("", "")

    def _show_comparison(self, made: "tuple[Subject, Comparison, np.ndarray]") -> None:
        from napari_shiftseg.plugin.source import placement_of

        layer, (subject, comparison, colours) = self.layer, made
        known = layer.metadata[KEY]
        place = placement_of(layer, known["axes"], subject.axes)
        made = comparison_layers(subject, comparison, colours, place=place, source_id=known["source_id"])
        put = replace_layers(self.viewer, made)
        self.viewer.layers.selection.active = layer
        self.form.answer.tell("fail" if comparison.changed.any() else "", comparison.text)
        self.form.beside.setChecked(True)
        self._on_beside(True)
        self.status.tell("", words_on_kept(put.kept).strip())

    def _on_beside(self, on: bool) -> None:
        """Both results in two views, or only the compliant one."""
        if on and self.layer is not None and is_compared(layers := layers_of_run(self.viewer, self.layer)):
            self.beside.show(layers, self.layer)
        else:
            self.beside.end()
            self.form.beside.setChecked(False)

    def _show_probe(self, found: tuple["PeriodProbe", "EffectivePeriod"]) -> None:
        probe, effective = found
        self.form.answer.tell({True: "pass", False: "fail", None: ""}[probe.agrees], f"{probe.text} {effective.text}")
        self.status.tell("", "")

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def _start(self, steps: Callable[[Subject], Any], show: Callable[[Any], None]) -> None:
        subject = self.subject()
        if self.jobs or subject is None:
            return
        self._stage = "starting"
        on_end = partial(self._on_end, self.layer, subject.run, show)
        self.jobs.append(start_job(partial(steps, subject), on_event=self._on_event, on_end=on_end))
        self._enable()

    def _on_event(self, event: Event) -> None:
        if not isalive(self):
            return
        if isinstance(event, Stage):
            self._stage = event.text
        self.progress.setRange(0, event.total)
        self.progress.setValue(event.done)
        if self.jobs and not self.jobs[0].cancelled.is_set():
            self.status.tell("", f"{self._stage[:1].upper()}{self._stage[1:]}\u2026")

    def _on_end(self, asked: Layer, run: str, show: Callable[[Any], None], end: End) -> None:
        if not isalive(self):  # the window was closed
            return
        self.jobs.clear()
        self._enable()
        same = self.layer is asked and self.subject().run == run
        if end.state == "done" and same:
            show(end.value)
        elif end.state == "error":
            self.status.tell("fail", sentence(end.value))
            show_error(sentence(end.value))
        else:
            self.status.tell("", "Cancelled." if end.state == "cancelled" else "The result is not there any more; start again.")

    def _say(self, level: str, text: str) -> None:
        """Show a text that is less important than what is computed."""
        if isalive(self) and not self.jobs:
            self.status.tell(level, text)

    def _enable(self) -> None:
        form, busy, chosen = self.form, bool(self.jobs), self.layer is not None
        for button in (form.measure, form.highlight, form.verify, form.probe, form.compare):
            button.setEnabled(chosen and not busy)
        self.copies.setEnabled(chosen)
        form.layers.enabled = form.truth.enabled = not busy
        form.open_button.setEnabled(not busy)
        form.table_button.setEnabled(self.findings is not None and bool(self.findings.report.table))
        form.plot_button.setEnabled(self.findings is not None and len(self.findings.lines) > 0)
        form.plot.setVisible(self.findings is not None and len(self.findings.lines) > 0)
        form.table.setVisible(self.findings is not None and bool(self.findings.report.table))
        self.cancel_button.setEnabled(busy)
        self.cancel_button.setVisible(busy)
        self.progress.setVisible(busy)

    def _model_file(self) -> str:
        chosen = self.form.model.value
        return str(chosen) if chosen and chosen.name else ""

    # -- layers and lines ---------------------------------------------------------------------------------------------

    def reset_choices(self, *_: Any) -> None:
        """Called by napari when layers come, go or are renamed; also once the dock is closed."""
        if isalive(self):
            keep_choice(self.form.layers)
            keep_choice(self.form.truth)
            self._follow_run()
            if self.layer is not self._watched:
                self._on_layer()

    def _follow_run(self) -> None:
        """Where a later run left the chosen result behind, choose what came in its place; a user can choose it again."""
        if self.layer is not None and is_older(self.layer) and not self._chose_older:
            self.form.layers.value = newest(self.viewer, self.layer) or self.layer

    def _result_layers(self, _: Any) -> list[tuple[str, Layer]]:
        return [(layer.name, layer) for layer in self.viewer.layers if is_result(layer)]

    def _truth_layers(self, _: Any) -> list[tuple[str, Layer]]:
        if self.layer is None:
            return []
        return [(layer.name, layer) for layer in self.viewer.layers if is_truth(layer, self.layer)]

    def _choose_active_layer(self) -> None:
        results = [layer for _, layer in self._result_layers(None)]
        active = self.viewer.layers.selection.active
        if results:
            self.form.layers.value = active if active in results else results[-1]

    def _on_layer(self, *_: Any) -> None:
        """Another result was chosen, or the one there was computed anew."""
        if self._watched is not None:
            self._watched.events.metadata.disconnect(self._on_computed)
        self._watched = self.layer
        self._chose_older = self.layer is not None and is_older(self.layer)
        keep_choice(self.form.truth)
        if self._watched is not None:
            self._watched.events.metadata.connect(self._on_computed)
        wanted = self.form.seams.isChecked(), self.form.grid.isChecked()
        self.overlays.look_at(self.layer)
        for kind, on in zip(("seams", "grid"), wanted, strict=True):
            self.overlays.show(kind, on and self.layer is not None)
        self._forget()

    def _on_computed(self, _: Any) -> None:
        if isalive(self) and self.layer is not None and not is_result(self.layer):
            self.reset_choices()  # it was accepted, and is no result any more
        elif isalive(self):
            self._forget()
            self._on_lines()

    def _forget(self) -> None:
        """Nothing is known of this result yet."""
        self.findings = None
        if self.form.beside.isChecked() and not is_compared(layers_of_run(self.viewer, self.layer)):
            self._on_beside(False)
        self.form.plot.tell({})
        self.form.table.tell((), "")
        self.form.finding.tell("", "")
        self.form.answer.tell("", "")
        hint = "" if self.layer is not None else "Segment an image, or open a saved result."
        self.status.tell("", hint)
        self._enable()

    def _on_check(self, kind: str, on: bool) -> None:
        try:
            self.overlays.show(kind, on)
        except ShiftsegError as exc:
            self.status.tell("fail", sentence(exc))

    def _on_lines(self) -> None:
        """What is drawn has changed: by a box, in the layer list, or by zooming."""
        if not isalive(self):
            return
        for kind in ("seams", "grid"):
            box = getattr(self.form, kind)
            if self.layer is not None and self.overlays.target is self.layer:
                box.blockSignals(True)
                box.setChecked(self.overlays.shown(kind))
                box.blockSignals(False)
        if self.layer is None:
            self.form.explain_lines("", [])
            return
        period = self.subject().plan_values["period"]
        edges = str(period[0]) if len(set(period)) == 1 else " x ".join(map(str, period))
        self.form.explain_lines(f" of {edges} px", self.overlays.notes(self.subject()))

    # -- files --------------------------------------------------------------------------------------------------------

    def _ask_for_result(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "A result saved as .zarr")
        if path:
            self.open_result(path)

    def _ask_and_save(self, what: str, save: Callable[[str], None]) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save", f"seams.{what}", f"*.{what}")
        if not path:
            return
        try:
            save(path)
        except ShiftsegError as exc:
            show_error(sentence(exc))
        except OSError as exc:
            show_error(f"{path} cannot be written ({exc.strerror or exc}); choose another folder.")

    def save_table(self, path: str | Path) -> None:
        """Write the table as CSV."""
        save_csv(path, self.findings.report, self.findings.subject.spatial)

    def save_plot(self, path: str | Path) -> None:
        """Write the plot as PNG."""
        self.form.plot.save(str(path), f"{self.findings.subject.name}. {self.findings.report.verdict}")

    # -- form ---------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        layers = ComboBox(choices=self._result_layers, nullable=False)
        self.form = InspectForm(layers, ComboBox(nullable=True))
        self.form.truth.choices = self._truth_layers  # asks for the chosen result
        self.cancel_button, self.progress, self.status = QPushButton("Cancel"), QProgressBar(), Note()
        self.progress.setTextVisible(False)
        self.cancel_button.setToolTip("Stop what is computed, at its next step.")
        content, foot = QWidget(), QWidget()
        column = QVBoxLayout(content)
        column.addWidget(self.form)
        column.addStretch()
        below, row = QVBoxLayout(foot), QHBoxLayout()
        row.addWidget(self.progress, 2)
        row.addWidget(self.cancel_button, 1)
        below.addLayout(row)
        self.copies = CopyRow(lambda: self.layer, self._say)
        below.addWidget(self.copies)
        below.addWidget(StatusLine(self.status))
        fill_dock(self, content, foot)

    def _connect(self) -> None:
        form = self.form
        form.layers.changed.connect(self._on_layer)
        form.truth.changed.connect(lambda _: self._forget())
        form.open_button.clicked.connect(lambda _: self._ask_for_result())
        form.seams.toggled.connect(lambda on: self._on_check("seams", on))
        form.grid.toggled.connect(lambda on: self._on_check("grid", on))
        form.measure.clicked.connect(lambda _: self.measure())
        form.highlight.clicked.connect(lambda _: self.highlight())
        form.verify.clicked.connect(lambda _: self.verify())
        form.probe.clicked.connect(lambda _: self.probe())
        form.compare.clicked.connect(lambda _: self.compare())
        form.beside.clicked.connect(self._on_beside)
        form.table.picked.connect(self.go_to)
        form.table_button.clicked.connect(lambda _: self._ask_and_save("csv", self.save_table))
        form.plot_button.clicked.connect(lambda _: self._ask_and_save("png", self.save_plot))
        self.cancel_button.clicked.connect(lambda _: self.cancel())
        self.destroyed.connect(partial(_let_go, self.jobs, self.overlays, self.beside))


def _let_go(jobs: list[Job], overlays: Overlays, beside: Beside, *_: Any) -> None:
    """The dock is closed: nobody waits for the jobs or moves the lines any more."""
    cancel_all(jobs)
    overlays.close()
    beside.close()
