"""The Measure widget: features of the objects of a layer, colours by them, plots, and what is selected in these."""

from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import ComboBox
from napari.layers import Image as ImageLayer
from napari.layers import Labels
from qtpy.compat import isalive
from qtpy.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.events import Event
from napari_shiftseg.plugin.colour_controls import ColourControls
from napari_shiftseg.plugin.dock import fill_dock
from napari_shiftseg.plugin.inputs import choose_labels, keep_choice, labels_of_viewer
from napari_shiftseg.plugin.jobs import End, Job, cancel_all, sentence, start_job
from napari_shiftseg.plugin.kept import Keeper
from napari_shiftseg.plugin.layers import KEY
from napari_shiftseg.plugin.measure_form import COUNT, MeasureForm
from napari_shiftseg.plugin.measure_jobs import deletion_steps, layer_of_steps, measure_layer_steps, save_steps, undo_steps
from napari_shiftseg.plugin.measure_sources import pixels_under
from napari_shiftseg.plugin.measured import Measured, measured_of
from napari_shiftseg.plugin.object_colours import ObjectColours, colours_of
from napari_shiftseg.plugin.object_view import clicked_row, is_taken, show_object
from napari_shiftseg.plugin.selection import Selection
from napari_shiftseg.plugin.sheet import Sheet

if TYPE_CHECKING:
    import napari


class MeasureWidget(QWidget):
    """Measure labels; verbs: `measure`, `select`, `go_to`, `delete`, `keep`, `copy`, `save`, `undo`."""

    leader = "Alt+M"

    def __init__(self, viewer: "napari.viewer.Viewer", parent: QWidget | None = None):
        super().__init__(parent)
        self.viewer = viewer
        self.measured: Measured | None = None
        self.colours: ObjectColours | None = None
        self.selection: Selection | None = None
        self.jobs: list[Job] = []  # what is computed or written, if something is
        self._watched: Labels | None = None
        self._build()
        Keeper(self, "measure", self.form.kept())
        self._connect()
        self._on_tool(self.form.tool.currentText())
        choose_labels(self.viewer, self.form.layers)
        self._on_layer()

    @property
    def layer(self) -> Labels | None:
        """The chosen labels."""
        return self.form.layers.value

    @property
    def selected(self) -> np.ndarray:
        """Rows of the selected objects."""
        return np.zeros(0, np.intp) if self.selection is None else self.selection.rows

    # -- verbs --------------------------------------------------------------------------------------------------------

    def measure(self) -> None:
        """Measure all objects of the layer, and the intensities of the images that have a tick."""
        if self.measured is None or self.jobs:
            return
        ids = self.form.ticked()
        images = [layer for layer in self.viewer.layers if isinstance(layer, ImageLayer) and layer.unique_id in ids]
        planes = self.form.planes.isVisibleTo(self.form) and self.form.planes.isChecked()
        try:
            asked = self.measured.ask(images, planes=planes)
        except ShiftsegError as exc:
            self._tell("fail", sentence(exc))
            return
        self._start(partial(measure_layer_steps, asked), partial(self._on_measured, asked, images), "Measuring\u2026")

    def _on_measured(self, asked: Any, images: list[ImageLayer], end: End) -> None:
        if end.state == "cancelled":
            self._tell("", "Cancelled; nothing was measured.")
        if end.state != "done":
            return
        self.selection.clear()
        try:
            self.measured.put(end.value, asked, images)
        except ShiftsegError as exc:
            self._tell("warn", sentence(exc))
            return
        self._tell("pass", _words_on(end.value))

    def cancel(self) -> None:
        """Stop what is computed."""
        cancel_all(self.jobs)

    def select(self, rows: np.ndarray, more: bool = False) -> None:
        """Select objects; `more` adds them to those that are selected."""
        self.selection.choose(rows, more=more)
        self._show_selection()

    def go_to(self, row: int) -> None:
        """Move the sliders and the camera to an object."""
        if not show_object(self.viewer, self.measured, row):
            self._tell("", "No column says where the objects are; measure them first.")

    def delete(self) -> None:
        """Make the selected objects background."""
        self._delete(self.selected, "deleted")

    def keep(self) -> None:
        """Make all objects but the selected ones background."""
        if len(self.selected):
            self._delete(np.setdiff1d(np.arange(len(self.measured.rows)), self.selected), "deleted, all others kept")

    def undo(self) -> None:
        """Take the last edit of the layer back."""
        self._start(partial(undo_steps, self.layer), self._on_undone, "Undoing\u2026")

    def copy(self) -> None:
        """A new layer of the selected objects."""
        if len(self.selected):
            steps = partial(layer_of_steps, self.measured, self.selected)
            self._start(steps, self._on_copied, "Copying the selected objects\u2026")

    def save(self, path: str | Path, *, selected: bool = False) -> None:
        """Write the measurements, or those of the selected objects."""
        if self.measured is not None and self.measured.is_measured:
            table = self.measured.table(self.selected if selected else None)
            self._start(partial(save_steps, Path(path), table), self._on_saved, "Writing\u2026")

    def show_table(self) -> None:
        """Open napari's table of the features of the layer."""
        window = getattr(self.viewer, "window", None)
        if window is not None:
            self.viewer.layers.selection.active = self.layer
            window.add_plugin_dock_widget("napari", "Features table widget", tabify=True)

    # -- edits --------------------------------------------------------------------------------------------------------

    def _delete(self, rows: np.ndarray, words: str) -> None:
        if not len(rows) or self.measured is None:
            return
        steps = partial(deletion_steps, self.measured, self.selection.by_frame(rows))
        self._start(steps, partial(self._on_deleted, f"{len(rows)} object{'s' * (len(rows) != 1)} {words}."), "Deleting\u2026")

    def _on_deleted(self, words: str, end: End) -> None:
        if end.state == "done":
            correction, edits, written = end.value
            try:
                for edit in edits:
                    correction.after(edit) if written else correction.perform(edit)
            except ShiftsegError as exc:
                self._tell("fail", sentence(exc))
                return
            self._tell("", words)

    def _on_undone(self, end: End) -> None:
        if end.state == "done":
            correction, edit = end.value
            try:
                if edit is None:
                    edit = correction.undo()
                else:
                    correction.after(edit)
            except ShiftsegError as exc:
                self._tell("fail", sentence(exc))
                return
            self._tell("", f"Undone: {edit.describe()}.")

    def _on_copied(self, end: End) -> None:
        if end.state == "done":
            layer = self.viewer.add_layer(Labels(end.value["data"], **end.value["options"]))
            self._tell("", f"{len(self.selected)} objects are in {layer.name}.")

    def _on_saved(self, end: End) -> None:
        if end.state == "done":
            self._tell("pass", f"Written to {end.value}.")

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def _start(self, steps: Callable[[], Any], on_end: Callable[[End], None], text: str) -> None:
        if self.jobs or self.layer is None:
            return
        self._tell("", text)
        on_end = partial(self._on_end, self.jobs, self._watched, on_end)
        self.jobs.append(start_job(steps, on_end=on_end, on_event=self._on_event))
        self._enable()

    def _on_event(self, event: Event) -> None:
        if isalive(self) and self.jobs:
            self.form.progress.setRange(0, event.total)
            self.form.progress.setValue(event.done)

    def _on_end(self, jobs: list[Job], asked: Labels, then: Callable[[End], None], end: End) -> None:
        if not isalive(self) or asked is not self._watched:  # it was for labels that are no longer chosen
            return
        jobs.clear()
        if jobs is not self.jobs and end.state != "done":  # others were chosen meanwhile, and now these again
            return
        if end.state == "error":
            self._tell("fail", sentence(end.value))
        elif end.state == "cancelled":
            self._tell("", "Cancelled.")
        then(end)
        self._enable()

    # -- layer --------------------------------------------------------------------------------------------------------

    def reset_choices(self, *_: Any) -> None:
        """Called by napari when layers come, go or are renamed; also once the dock is closed."""
        if isalive(self):
            keep_choice(self.form.layers)
            if self.layer is not self._watched:
                self._on_layer()
            else:
                self._offer_images()

    def _on_layer(self, *_: Any) -> None:
        """Other labels were chosen."""
        cancel_all(self.jobs)
        self.jobs = []
        self._let_go()
        self._watched = self.layer
        self.form.images.clear()
        self._tell("", "" if self.layer is not None else "Segment an image, or open labels.")
        if self.layer is not None:
            self.measured, self.colours = measured_of(self.layer), colours_of(self.layer)
            self.selection = Selection(self.measured, self.colours)
            self.measured.changed.append(self._on_rows)
            self.layer.mouse_drag_callbacks.append(self._on_click)
        self._offer_images()
        self._on_rows()
        self.controls.look_at(self.colours)

    def _let_go(self) -> None:
        if self._watched is not None:
            for callbacks, callback in (
                (self.measured.changed, self._on_rows),
                (self._watched.mouse_drag_callbacks, self._on_click),
            ):
                if callback in callbacks:
                    callbacks.remove(callback)
        self.measured = self.colours = self.selection = None
        self.controls.look_at(None)

    def _offer_images(self) -> None:
        """Images on which the labels lie, with a tick at the one that was segmented."""
        layers, ticked = [], set(self.form.ticked())
        known, first = {}, not self.form.images.count()
        if self.layer is not None:
            known, sheet = self.layer.metadata.get(KEY) or {}, Sheet(self.layer)
            images = [layer for layer in self.viewer.layers if isinstance(layer, ImageLayer)]
            layers = [layer for layer in images if pixels_under(self.layer, sheet, layer) is not None]
            self.form.planes.setVisible(len(sheet.axes) - sheet.looped == 3)
        wanted = {layer for layer in layers if layer.unique_id in ticked}
        if first:
            of_run = {layer for layer in layers if layer.unique_id == known.get("source_id")}
            plain = [layer for layer in layers if KEY not in layer.metadata]
            wanted = of_run or set(plain[-1:])
        self.form.offer_images(layers, wanted)

    # -- what is shown ------------------------------------------------------------------------------------------------

    def _on_rows(self) -> None:
        """Objects are other ones, or what is known of them."""
        if not isalive(self):
            return
        rows = None if self.measured is None else self.measured.rows
        self.form.offer_columns([] if rows is None else rows.numeric)
        count = 0 if rows is None else len(rows)
        self.form.about.fill("" if self.measured is None else self.measured.note)
        if self.measured is not None and not self.measured.is_measured and count:
            self.form.about.fill(self.measured.note or f"{count:,} objects, not measured yet.")
        if self.selection is not None:
            before = self.colours.selected
            self.selection.refresh()
            if self.colours.selected != before:
                self.colours.apply()
        self._show_plot()
        self._enable()

    def _show_plot(self, *_: Any) -> None:
        names = [name for name in (self.form.across.currentText(), self.form.up.currentText()) if name and name != COUNT]
        rows = None if self.measured is None else self.measured.rows
        shown = tuple(name for name in names if rows is not None and name in rows.columns)
        titles = tuple(rows.title(name) for name in shown)
        self.form.plot.tell(shown, [rows.values(name) for name in shown], titles)
        self._show_selection(apply=False)

    def _show_selection(self, *, apply: bool = True) -> None:
        if self.selection is None:
            self.form.count.fill("")
            self.form.list.clear()
            return
        self.form.plot.select(self.selected, self.selection.marked)
        self.form.count.tell("", self.selection.words())
        self.selection.fill(self.form.list, self.form.plot.names)
        if apply:
            self.colours.apply()
        self._enable()

    def _enable(self) -> None:
        form, free = self.form, self.measured is not None and not self.jobs
        known = free and self.measured.is_measured
        chosen = len(self.selected)
        form.measure.setEnabled(free)
        form.save.setEnabled(known)
        form.table.setEnabled(free)
        for button in (form.delete, form.keep, form.copy, form.clear):
            button.setEnabled(free and bool(chosen))
        form.save_selected.setEnabled(known and bool(chosen))
        form.invert.setEnabled(free)
        form.undo.setEnabled(free)
        form.show_running(bool(self.jobs), indefinite=not form.progress.maximum())

    def _tell(self, level: str, text: str) -> None:
        self.form.status.tell(level, text)

    # -- hands --------------------------------------------------------------------------------------------------------

    def _on_click(self, layer: Labels, event: Any) -> Generator[None, None, None]:
        """A click on an object marks its point; napari's tools and those of Correct come first."""
        if event.button != 1 or layer.mode != "pan_zoom" or is_taken(layer) or not len(self.measured.rows):
            return
        row = yield from clicked_row(layer, self.measured, event)
        if row >= 0:
            self._on_pointed(row, "Shift" in event.modifiers, go=False)

    def _on_pointed(self, row: int, more: bool, *, go: bool = True) -> None:
        self.selection.mark(row, more=more)
        self._show_selection()
        if go:
            self.go_to(row)

    def _on_tool(self, tool: str) -> None:
        self.form.plot.tool = tool

    def _ask_path(self, *, selected: bool) -> None:
        name = f"{self.layer.name}.csv".replace("/", "-")
        path, kind = QFileDialog.getSaveFileName(self, "Save table", name, "CSV (*.csv);;Parquet (*.parquet)")
        if path:
            end = ".parquet" if "parquet" in kind else ".csv"
            self.save(path if Path(path).suffix else path + end, selected=selected)

    # -- form ---------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.form = MeasureForm(ComboBox(choices=lambda _: labels_of_viewer(self.viewer), nullable=False))
        self.controls = ColourControls(self.form, self._tell)
        content = QWidget()
        QVBoxLayout(content).addWidget(self.form)
        fill_dock(self, content, self.form.foot)

    def _connect(self) -> None:
        form = self.form
        form.layers.changed.connect(self._on_layer)
        for name in ("measure", "cancel", "delete", "keep", "copy", "undo"):
            getattr(form, name).clicked.connect(lambda _, name=name: getattr(self, name)())
        form.table.clicked.connect(lambda _: self.show_table())
        form.save.clicked.connect(lambda _: self._ask_path(selected=False))
        form.save_selected.clicked.connect(lambda _: self._ask_path(selected=True))
        form.across.currentTextChanged.connect(self._show_plot)
        form.up.currentTextChanged.connect(self._show_plot)
        form.tool.currentTextChanged.connect(self._on_tool)
        form.clear.clicked.connect(lambda _: self.select(np.zeros(0, np.intp)))
        form.invert.clicked.connect(lambda _: self.select(np.setdiff1d(np.arange(len(self.measured.rows)), self.selected)))
        form.plot.chosen.connect(self.select)
        form.plot.pointed.connect(self._on_pointed)
        form.plot.cleared.connect(lambda: self.select(np.zeros(0, np.intp)))
        form.picked.connect(self.go_to)
        self.destroyed.connect(partial(_closed, self.__dict__))


def _words_on(table: dict[str, np.ndarray]) -> str:
    count = len(table["label"])
    unit = "".join(f", in {name}" for name in table["unit"].tolist()[:1]) + "s" * ("pixel" in table["unit"][:1])
    return f"{count:,} object{'s' * (count != 1)}, {len(table)} columns{unit}."


def _closed(known: dict[str, Any], *_: Any) -> None:
    """The dock is closed; colours and measurements stay with the layer."""
    cancel_all(known["jobs"])
    layer = known["_watched"]
    if layer is None:
        return
    known["controls"].look_at(None)
    known["selection"].clear()
    known["colours"].apply()
    for callbacks in (known["measured"].changed, layer.mouse_drag_callbacks):
        mine = [callback for callback in callbacks if getattr(getattr(callback, "__self__", None), "__dict__", None) is known]
        for callback in mine:
            callbacks.remove(callback)
