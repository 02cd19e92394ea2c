"""The widget for many images: selected layers, a folder or a plate are segmented one after the other."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image as ImageLayer
from napari.layers import Layer
from napari.utils.notifications import show_error
from qtpy.compat import isalive
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_shiftseg.errors import SettingsError, ShiftsegError
from napari_shiftseg.events import Event, Stage
from napari_shiftseg.plugin.dock import fill_dock
from napari_shiftseg.plugin.jobs import End, Job, cancel_all, sentence, start_job
from napari_shiftseg.plugin.kept import Keeper
from napari_shiftseg.plugin.large import LiveLabels
from napari_shiftseg.plugin.large import Written as WrittenLarge
from napari_shiftseg.plugin.layer_axes import axes_of_layer
from napari_shiftseg.plugin.layers import KEY
from napari_shiftseg.plugin.queue_form import FOLDER, INSIDE, QueueForm
from napari_shiftseg.plugin.queue_jobs import (
    Places,
    Ready,
    Wish,
    Written,
    disk_steps,
    find_steps,
    layer_steps,
    names_steps,
    outside,
    ready_steps,
    tables_steps,
)
from napari_shiftseg.plugin.replacement import words_on_kept
from napari_shiftseg.plugin.segment_widget import SegmentWidget
from napari_shiftseg.plugin.target import Target

if TYPE_CHECKING:
    import napari

    from napari_shiftseg.io import Source
    from napari_shiftseg.segmentation.queue import Outcome, TimeLeft

MODEL, SEGMENT, RESULT = "As the model suggests", "As the Segment widget says", "As of "
"""Where the settings come from; of a result, its name follows."""


class QueueWidget(QWidget):
    """Segment many images; verbs: `find`, `run`, `cancel`, `open_row`, `save_tables`."""

    leader = "Alt+Q"

    def __init__(self, viewer: "napari.viewer.Viewer", parent: QWidget | None = None):
        super().__init__(parent)
        self.viewer = viewer
        self.jobs: list[Job] = []  # what is computed, if anything is
        self.sources: list[Source] = []  # of the folder
        self.outcomes: dict[int, Outcome] = {}  # by the row
        self._layers: list[ImageLayer] = []
        self._targets: dict[int, Target] = {}
        self._shown: dict[int, Layer] = {}  # results in the viewer
        self._rows: list[int] = []  # that the present part of the work is about
        self._tables = Written()
        self._folder: Path | None = None  # of the present work
        self._left: TimeLeft | None = None
        self._stage = ""
        self._notes: list[str] = []
        self._said = ("", "")  # how it went
        self._unfinished = False
        self.form = QueueForm()
        fill_dock(self, self.form, self.form.foot)
        self.reset_choices()
        Keeper(self, "many images", self.form.kept())
        self._connect()
        self._on_choice()
        start_job(names_steps, on_end=self._on_names)

    running = property(lambda self: bool(self.jobs), doc="Whether something is computed.")
    _can_resume = property(lambda self: self._unfinished and bool(self.outcomes))

    @property
    def on_disk(self) -> bool:
        """Whether files are segmented, and not layers."""
        return self.form.what.currentText() == FOLDER

    @property
    def folder(self) -> Path | None:
        """The one folder for all results; None where each lies beside its image.

        SettingsError if none was chosen.
        """
        if self.form.place.currentText() != INSIDE:
            return None
        chosen = self.form.out.value
        if chosen is None or str(chosen) in ("", "."):
            raise SettingsError("no folder for the results was chosen; choose one under Into.")
        return Path(chosen)

    # -- which images -------------------------------------------------------------------------------------------------

    def _on_typed(self, line: Any) -> None:
        if line.isModified():
            line.setModified(False)
            self.find()

    def find(self) -> None:
        """Look for the images of the folder, in a thread, or list the selected layers."""
        if self.running:
            return
        self._forget()
        self.sources, self._layers = [], []
        if not self.on_disk:
            chosen = self.viewer.layers.selection
            images = [layer for layer in self.viewer.layers if isinstance(layer, ImageLayer) and layer in chosen]
            self._layers = [layer for layer in images if KEY not in layer.metadata]
            self._list([layer.name for layer in self._layers], "Select image layers in the layer list.")
            return
        place = self.form.folder.value
        if place is None or not str(place) or str(place) == ".":
            self._list([], "Choose a folder of images, or an OME-Zarr plate.")
            return
        self.form.fill([])  # of the images before, none can be run
        self.form.found.tell("", "Looking for images\u2026")
        work = partial(find_steps, Path(place), self.form.pattern.text(), self.form.recursive.isChecked())
        self._begin(work, self._on_found)

    def _on_found(self, sources: "list[Source]") -> None:
        self.sources = sources
        self._list([source.name for source in sources], "")

    def _list(self, names: list[str], hint: str) -> None:
        self.form.fill(names)
        count = len(names)
        self.form.found.tell("", f"{count} image{'s' * (count != 1)}." if names else hint)
        self._enable()

    # -- the queue ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Segment all images, or go on with those that are not done yet."""
        count = len(self.sources) if self.on_disk else len(self._layers)
        if self.running or not count:
            return
        kept = {"done", "there"} if self._unfinished else set()
        self.outcomes = {row: outcome for row, outcome in self.outcomes.items() if outcome.state in kept}
        self._rows = [row for row in range(count) if row not in self.outcomes]
        for row in self._rows:
            self.form.tell_row(row, "waits", "", "", "", "")
        self._notes = []
        try:
            wish, self._folder = self._wish(), self.folder if self.on_disk else None
        except ShiftsegError as exc:
            self.form.status.tell("fail", sentence(exc))
            return
        self._begin(partial(ready_steps, wish), self._on_ready)

    def cancel(self) -> None:
        """Stop after the tile that is being computed; what is done stays done."""
        for job in self.jobs:
            job.cancel()
            self.form.status.tell("", "Cancelling\u2026")
            self.form.cancel.setEnabled(False)

    def _on_ready(self, ready: Ready) -> None:
        from napari_shiftseg.plugin.source import image_of, placement_of

        self._unfinished = True
        if self.on_disk:
            places = Places(folder=self._folder, keep_embedding=self.form.embedding.isChecked())
            work = partial(disk_steps, [self.sources[row] for row in self._rows], ready, places)
        else:
            images, rows = [], []
            for row in self._rows:
                layer = self._layers[row]
                try:
                    axes = axes_of_layer(layer, ready.model.lattice.in_channels)
                    image = image_of(layer, axes.axes, axes.note if axes.by == "assumed" else "")
                except ShiftsegError as exc:
                    self.form.tell_row(row, "failed", "", "", "", sentence(exc))
                    continue
                wanted = "".join(axis for axis in "tzyx" if axis in image.axes)
                place = placement_of(layer, image.axes, wanted)
                self._targets[row] = Target(layer=layer, axes=image.axes, place=place, viewer=self.viewer)
                images.append(image)
                rows.append(row)
            self._rows = rows
            work = partial(layer_steps, images, ready)
        self._left = None
        self._begin(work, self._on_all, on_event=self._on_event)

    def _on_event(self, event: Event) -> None:
        from napari_shiftseg.segmentation.queue import ItemBegins, ItemDone, TimeLeft

        if not isalive(self) or not self.jobs:
            return
        if isinstance(event, ItemBegins):
            self._left = self._left or TimeLeft()
            self._left.follow(event)
            self._at, self._stage = event.done, "reading"
            self.form.tell_row(self._rows[event.done], "begins", "", "", "", "")
            self.form.table.scrollToItem(self.form.table.item(self._rows[event.done], 0))
        elif isinstance(event, ItemDone):
            self._left.follow(event)
            self._show(self._rows[event.done - 1], event.outcome)
        else:
            self._left.follow(event)
            if isinstance(event, Stage):
                self._stage = event.text
            share = f" {100 * event.done // event.total} %" if event.total else ""
            self.form.tell_row(self._rows[self._at], f"{self._stage}{share}", "", "", "", "")
        self._tell_progress(event)

    def _tell_progress(self, event: Event) -> None:
        """The bar counts images, and the part of the present one."""
        from napari_shiftseg.segmentation import duration
        from napari_shiftseg.segmentation.queue import ItemBegins, ItemDone

        whole = isinstance(event, ItemBegins | ItemDone)
        done = event.done if whole else self._at + (event.done / event.total if event.total else 0)
        self.form.progress.setValue(int(1000 * done / max(1, len(self._rows))))
        if self.jobs[0].cancelled.is_set():
            return
        over = event.done if whole else self._at
        seconds = self._left.seconds
        left = f", about {duration(seconds)} left" if seconds is not None and over < len(self._rows) else ""
        self.form.status.tell("", f"{over} of {len(self._rows)} images{left}.")

    def _show(self, row: int, outcome: "Outcome") -> None:
        """An image is over."""
        from dataclasses import replace

        if outcome.result is not None and row in self._targets:
            try:
                self._show_layers(row, outcome.result)
            except Exception as exc:  # noqa: BLE001  # one layer that cannot be shown does not stop the others
                outcome = replace(outcome, state="failed", problem=exc)
        self.outcomes[row] = replace(outcome, result=None)
        self._tell_outcome(row, outcome)

    def _tell_outcome(self, row: int, outcome: "Outcome") -> None:
        from napari_shiftseg.segmentation.queue import images_table

        known = {name: column[0] for name, column in images_table([outcome]).items()}
        verdict = " ".join(filter(None, [(known["verdict"] or "").capitalize() + "." * bool(known["note"]), known["note"]]))
        power = "\u00b2" if sum(name.startswith("spacing-") for name in outcome.features) == 2 else "\u00b3"
        unit = f" {known['unit']}{power}" if known["unit"] else ""
        area = "" if known["area"] is None else f"{known['area']:.6g}{unit}"
        objects = "" if known["objects"] is None else str(known["objects"])
        texts = (outcome.state, objects, area, f"{outcome.seconds:.1f}", known["error"] or verdict)
        self.form.tell_row(row, *texts)

    def _show_layers(self, row: int, made: Any) -> None:
        target = self._targets[row]
        if isinstance(made, WrittenLarge):
            live = LiveLabels(self.viewer, target.place_in, target.layer.name, source_id=target.layer.unique_id)
            kept = live.finish(made)
            self._shown[row] = live.layer
        else:
            put = target.show(made)
            kept, self._shown[row] = put.kept, put.layers[-1]
        self._notes.append(words_on_kept(kept))

    def _on_all(self, _: Any) -> None:
        self._unfinished = False
        self._sum_up("")

    def _sum_up(self, before: str) -> None:
        """Say how it went, and write the tables of what is done."""
        states = [outcome.state for outcome in self.outcomes.values()]
        words = [f"{states.count(state)} {text}" for state, text in _STATES.items() if states.count(state)]
        bad = states.count("failed")
        self._said = ("warn" if bad else "pass" if states and not before else "",
                      f"{before}{', '.join(words) or 'Nothing was done'}.{''.join(self._notes)}")  # fmt: skip
        self.form.status.tell(*self._said)
        if self.on_disk and self.outcomes:
            base = self._folder or outside(Path(self.form.folder.value))
            self._write_tables([base / "shiftseg_images.csv", base / "shiftseg_objects.csv"])

    # -- tables -------------------------------------------------------------------------------------------------------

    def save_tables(self, path: str | Path) -> None:
        """Write the table of all images to a file, and that of all objects beside it."""
        path = Path(path)
        self._write_tables([path, path.with_name(f"{path.stem}_objects{path.suffix}")])

    def _write_tables(self, places: Sequence[Path]) -> None:
        outcomes = [self.outcomes[row] for row in sorted(self.outcomes)]
        self._begin(partial(tables_steps, outcomes, places, self._tables), self._on_tables)

    def _on_tables(self, written: Written) -> None:
        self._tables = written
        level, text = self._said
        names = " and ".join(path.name for path in written.paths)
        self.form.status.tell(level, f"{text} Tables: {names} in {written.paths[0].parent}.")

    def _ask_for_tables(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the tables", "shiftseg_images.csv", "Tables (*.csv *.parquet)")
        if path:
            self.save_tables(path)

    def open_row(self, row: int) -> None:
        """Open the result of an image, or select it where it is a layer."""
        outcome, layer = self.outcomes.get(row), self._shown.get(row)
        if layer is not None and layer in self.viewer.layers:
            self.viewer.layers.selection.active = layer
        elif outcome is not None and outcome.item.out is not None and outcome.state != "failed":
            try:
                opened = self.viewer.open(str(outcome.item.out), plugin="napari-shiftseg")
                if opened:  # a second time it is selected; Qt tells of a double click in two ways
                    self._shown[row] = opened[-1]
            except (ShiftsegError, OSError, ValueError) as exc:
                self.form.status.tell("fail", sentence(exc))

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def _begin(self, work: Any, done: Any, *, on_event: Any = None) -> None:
        self.jobs.append(start_job(work, on_event=on_event or self._on_stage, on_end=partial(self._on_end, done)))
        self.form.set_running(True)
        self._enable()

    def _on_stage(self, event: Event) -> None:
        if isalive(self) and isinstance(event, Stage) and self.jobs and not self.jobs[0].cancelled.is_set():
            self.form.progress.setValue(0)
            self.form.status.tell("", f"{event.text[:1].upper()}{event.text[1:]}\u2026")

    def _on_end(self, done: Any, end: End) -> None:
        if not isalive(self):  # the window was closed
            return
        unwanted = any(job.cancelled.is_set() for job in self.jobs)  # maybe in its last step
        self.jobs.clear()
        self.form.set_running(False)
        if end.state == "done" and not (unwanted and done in (self._on_found, self._on_ready)):
            done(end.value)
        elif end.state == "error":
            where = self.form.found if done == self._on_found else self.form.status
            where.tell("fail", sentence(end.value))
            if done not in (self._on_found, self._on_tables):
                self._said = ("fail", sentence(end.value))
            if done != self._on_found:
                show_error(sentence(end.value))
        else:
            self._on_cancelled(done)
        self._enable()

    def _on_cancelled(self, done: Any) -> None:
        """Say what was stopped: the search, the tables, or the work on the images, which alone can go on."""
        if done == self._on_found:
            self._list([], "Looking for images was cancelled; press Enter in Pattern to look again.")
            self.form.status.tell("", "")
        elif done == self._on_tables:
            self.form.status.tell("warn", f"{self._said[1]} The tables were not written; Cancel was pressed.")
        else:
            for row in self._rows:
                if row not in self.outcomes:
                    self.form.tell_row(row, "waits", "", "", "", "")
            self._sum_up("Cancelled; Resume goes on. " if self._can_resume else "Cancelled. ")

    def _enable(self) -> None:
        form, count = self.form, len(self.sources) if self.on_disk else len(self._layers)
        form.run.setEnabled(not self.running and count > 0)
        form.run.setText("Resume" if self._can_resume else "Run")
        form.tables.setEnabled(not self.running and bool(self.outcomes))

    def _forget(self, *_: Any) -> None:
        """What was done was of other images, or with other settings."""
        if self.running:
            return
        self.outcomes, self._targets, self._shown, self._unfinished = {}, {}, {}, False
        self._tables = Written()
        self.form.status.tell("", "")
        for row in range(self.form.table.rowCount()):
            self.form.tell_row(row, "", "", "", "", "")
        self._enable()

    # -- settings -----------------------------------------------------------------------------------------------------

    def reset_choices(self, *_: Any) -> None:
        """Called by napari when layers come, go or are renamed; also once the dock is closed."""
        if not isalive(self) or self.running:
            return
        results = [layer for layer in self.viewer.layers if _is_made(layer)]
        texts = [MODEL, SEGMENT, *(RESULT + layer.name for layer in results)]
        box = self.form.wish
        if texts != [box.itemText(index) for index in range(box.count())]:
            chosen = box.currentText()
            box.blockSignals(True)
            box.clear()
            box.addItems(texts)
            box.setCurrentIndex(max(0, box.findText(chosen)))
            box.blockSignals(False)
            self.form.follow_choices()
        if not self.on_disk and any(layer not in self.viewer.layers for layer in self._layers):
            self.find()

    def _wish(self) -> Wish:
        chosen = self.form.wish.currentText()
        if chosen == MODEL:
            name = self.form.model.value()
            if name is None:
                raise SettingsError("no model file was chosen; choose one.")
            return Wish(model=name)
        if chosen == SEGMENT:
            widget = self._segment_widget()
            if widget is None or widget.equipment is None or widget.equipment.model is None:
                raise SettingsError("the Segment widget is not open, or has no model; open it, or choose other settings.")
            return Wish(model=widget.form.model.value() or "", settings=widget.settings())
        layer = next(layer for layer in self.viewer.layers if RESULT + layer.name == chosen)
        return Wish(record=layer.metadata[KEY]["record"])

    def _segment_widget(self) -> SegmentWidget | None:
        docks = getattr(getattr(self.viewer, "window", None), "dock_widgets", {})
        for name in docks:
            found = docks[name]
            widget = getattr(found, "native", found)
            if isinstance(widget, SegmentWidget):
                return widget
            inner = widget.findChildren(SegmentWidget) if isinstance(widget, QWidget) else ()
            if inner:
                return inner[0]
        return None

    def _on_names(self, end: End) -> None:
        if isalive(self) and end.state == "done":
            self.form.model.set_names(*end.value)

    def _on_choice(self, *_: Any) -> None:
        self.form.follow_choices()
        self.find()

    def _on_selection(self, *_: Any) -> None:
        if isalive(self) and not self.on_disk and not self.running and not self.outcomes:
            self.find()

    def _connect(self) -> None:
        form = self.form
        form.what.currentTextChanged.connect(self._on_choice)
        for box in (form.wish, form.place):
            box.currentTextChanged.connect(lambda _: form.follow_choices())
            box.currentTextChanged.connect(self._forget)
        form.model.changed.connect(self._forget)
        form.out.changed.connect(self._forget)
        form.embedding.toggled.connect(self._forget)
        line = form.folder.line_edit.native
        # a path that is being typed is none yet: looking for its images would take the keys away
        form.folder.changed.connect(lambda _: None if line.isModified() else self.find())
        line.editingFinished.connect(lambda: self._on_typed(line))
        form.pattern.editingFinished.connect(self.find)
        form.recursive.toggled.connect(lambda _: self.find())
        form.run.clicked.connect(lambda _: self.run())
        form.cancel.clicked.connect(lambda _: self.cancel())
        form.tables.clicked.connect(lambda _: self._ask_for_tables())
        form.table.cellDoubleClicked.connect(lambda row, _: self.open_row(row))
        form.table.itemActivated.connect(lambda item: self.open_row(item.row()))
        self.viewer.layers.selection.events.changed.connect(self._on_selection)
        self.destroyed.connect(partial(cancel_all, self.jobs))


_STATES = {"done": "done", "there": "there already", "failed": "failed"}


def _is_made(layer: Layer) -> bool:
    known = layer.metadata.get(KEY)
    return isinstance(known, dict) and known.get("role") == "instances" and "job" in (known.get("record") or {})
