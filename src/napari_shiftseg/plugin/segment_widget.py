"""The Segment widget: an image layer and a model become an embedding and instances."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import ComboBox
from napari.layers import Image as ImageLayer
from napari.utils.notifications import show_error
from qtpy.compat import isalive
from qtpy.QtWidgets import QApplication, QVBoxLayout, QWidget

from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.events import Event
from napari_shiftseg.plugin.copying import words_on_copy
from napari_shiftseg.plugin.dock import fill_dock
from napari_shiftseg.plugin.embedding_view import EmbeddingButton
from napari_shiftseg.plugin.equipment import Equipment, equip_steps
from napari_shiftseg.plugin.forecast import keep_pace, words_on_time, words_on_waste
from napari_shiftseg.plugin.idle_axes import hide_idle_axes
from napari_shiftseg.plugin.inputs import keep_choice, offer
from napari_shiftseg.plugin.jobs import End, Job, cancel_all, once, sentence, start_job
from napari_shiftseg.plugin.kept import Keeper
from napari_shiftseg.plugin.keys import give_keys
from napari_shiftseg.plugin.large import LiveLabels, Written, segment_large, words_on_unfinished
from napari_shiftseg.plugin.layers import KEY, Drawn, segment_and_draw
from napari_shiftseg.plugin.preview import preview_layer, view_steps, window_in_view, words_on_view
from napari_shiftseg.plugin.replacement import replace_layers, words_on_kept
from napari_shiftseg.plugin.run_bar import RunBar, summary
from napari_shiftseg.plugin.segment_form import SegmentForm
from napari_shiftseg.plugin.size_row import measure_job
from napari_shiftseg.plugin.target import Target
from napari_shiftseg.plugin.tune_panel import TunePanel

if TYPE_CHECKING:
    import napari

    from napari_shiftseg.io import Image
    from napari_shiftseg.plugin.verdict import Verdict
    from napari_shiftseg.segmentation import Preview, SegmentSettings


class SegmentWidget(QWidget):
    """Segment an image layer; three verbs: `settings`, `run`, `show_result`.

    Torch is loaded in a thread when the widget opens; until then, and while a model is being loaded, Run is off.
    """

    def __init__(self, viewer: "napari.viewer.Viewer", parent: QWidget | None = None):
        super().__init__(parent)
        self.viewer = viewer
        self._request: tuple[str, str] | None = None
        self.equipment: Equipment | None = None
        self._verdict: Verdict | None = None
        self._target: Target | None = None
        self._live: LiveLabels | None = None  # the layer of a run out of core
        self._watched: ImageLayer | None = None
        self.jobs: list[Job] = []  # the run, if there is one
        hide_idle_axes(self, viewer)
        self._build()
        self._keeper = Keeper(self, "segment", {**self.form.kept(), "Tune": self.tune.form})
        self.form.tell_kept(self._keeper.differing)
        self._connect()
        self._choose_active_layer()
        self._on_layer()
        self._equip()

    leader = "Alt+G"
    running = property(lambda self: bool(self.jobs), doc="Whether a segmentation runs.")

    # -- what the user wants ------------------------------------------------------------------------------------------

    @property
    def layer(self) -> ImageLayer | None:
        """The chosen image layer."""
        return self.form.layers.value

    def settings(self) -> "SegmentSettings":
        """The wish that the form holds; SettingsError if the tile size is no number."""
        from napari_shiftseg.segmentation import SegmentSettings

        return SegmentSettings(
            write=self._tile_wish(),
            method=self.form.choice("method"),
            device=self.form.device.currentText(),
            dtype=self.form.choice("dtype"),
            memory=self.form.large.bytes,
            out_of_core=self.form.large.out_of_core,
            channels=self.form.channels.value(),
            **self.form.intensity.wish(),
            diameter=self.form.size_row.value(),
            augment=self.form.augment.isChecked(),
            bandwidth=self.form.bandwidth.value() or None,
            threshold=self.form.threshold.value() or None,
            min_size=self.form.min_size.value() if self.form.min_size.value() >= 0 else None,
            deterministic=self.form.deterministic.isChecked(),
            keep_embedding=None if self.form.keep_embedding.isChecked() else False,
            allow_noncompliant=self.form.allow.isChecked(),
        )

    def image(self) -> "Image | None":
        """The chosen layer with the axes that the form names."""
        from napari_shiftseg.plugin.source import image_of

        return None if self.layer is None else image_of(self.layer, self.form.axes.text().strip(), self.form.axes.assumed)

    def _tile_wish(self, *, snap: bool = False):
        from napari_shiftseg.plugin.verdict import lattice_for, tile_wish

        lattice = lattice_for(self.equipment.model, self.form.size_row.value())
        return tile_wish(self.form.tile.currentText(), lattice, snap=snap or not self.form.allow.isChecked())

    # -- run ----------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Start the segmentation in a thread; nothing happens while one runs or where the verdict is "fail"."""
        self._look_again()
        verdict = self._verdict
        if verdict is None or not verdict.large:
            self._start(segment_and_draw, self._show_and_sum_up)
        else:
            self._start(segment_large, self._show_large, out=verdict.out)

    def preview(self) -> None:
        """Start the segmentation of what is in view, in a thread."""
        if self.layer is None:
            return
        self._look_again()
        window = window_in_view(self.viewer, self.layer, self.form.axes.text().strip())
        self._start(partial(view_steps, window=window), self.show_preview)

    def measure(self) -> None:
        """Measure the objects of the layer, in a thread, and take their diameter."""
        self._look_again()
        self._start(measure_job, lambda size: self.status.tell(*self.form.size_row.take(size)))

    def _start(self, steps: Callable[..., Any], show: Callable[[Any], None], *, out: Path | None = None) -> None:
        if self.jobs or self._verdict is None or not self._verdict.can_run:
            return
        from napari_shiftseg.plugin.source import placement_of

        image, layer = self.image(), self.layer
        wanted = "".join(axis for axis in "tzyx" if axis in image.axes)
        place = placement_of(layer, image.axes, wanted)
        target = self._target = Target(layer=layer, axes=image.axes, place=place, viewer=self.viewer)
        self._live = LiveLabels(self.viewer, target.place_in, layer.name, source_id=layer.unique_id)
        self._set_running(True, blocks=out is not None)
        # what runs is the job that is shown, even if the free memory has changed since
        work = partial(target.steps, partial(steps, self._verdict.job))
        self.jobs.append(start_job(work, on_event=self._on_event, on_end=partial(self._on_end, show, out)))

    def copy(self, verb: str) -> None:
        """Put what Run would do into the clipboard, as the method of `Job` of this name says it, "to_code" or "to_command"."""
        self._look_again()
        if self._verdict is not None and self._verdict.job is not None:
            # in a thread, since it compares the layer with its file
            start_job(partial(once, getattr(self._verdict.job, verb)), on_end=self._on_copied)

    def _on_copied(self, end: End) -> None:
        if end.state == "done":
            QApplication.clipboard().setText(end.value)
            self._say(*words_on_copy(end.value))
        elif end.state == "error":
            self._say("fail", sentence(end.value))

    def cancel(self) -> None:
        """Stop the run after the tile that is being computed."""
        for job in self.jobs:
            job.cancel()
            self.status.tell("", "Cancelling\u2026")
            self.cancel_button.setEnabled(False)

    def show_result(self, drawn: Drawn) -> str:
        """Show a result beside the layer that it was made from; returns a sentence on layers that it did not replace."""
        self.tune.rest(True)  # which hears of a layer before it is noted what its run left
        try:
            put = self._target.show(drawn)
        finally:
            self.tune.rest(False)
        self._instances = put.layers[-1]
        return words_on_kept(put.kept)

    def show_preview(self, preview: "Preview") -> None:
        """Show the instances of what was in view."""
        target = self._target
        place = target.place_of_result(preview.axes)
        put = replace_layers(self.viewer, [preview_layer(preview, place, target.layer.name, source_id=target.layer.unique_id)])
        self.viewer.layers.selection.active = target.layer if target.layer in self.viewer.layers else None
        found = np.count_nonzero(np.unique(preview.labels))
        text = f"Preview of {words_on_view(preview)}: {found} instances. Run segments the whole image."
        self.bar.tell("", text + words_on_kept(put.kept), preview.record)

    def _show_and_sum_up(self, drawn: Drawn) -> None:
        self._sum_up(drawn.result.record, self.show_result(drawn))
        self.bar.watch(self._instances)

    def _show_large(self, written: Written) -> None:
        self._sum_up(written.result.record, words_on_kept(self._live.finish(written)))
        self.bar.watch(self._live.layer)

    def _sum_up(self, record: dict[str, Any], kept: str) -> None:
        if not self._verdict.resumes:
            keep_pace(self._verdict.job, record)
        self.bar.tell(*summary(record, self._verdict.out, kept), record)
        self.form.likeness.show_record(record)
        self.form.large.forget_place()

    def _say(self, level: str, text: str) -> None:
        """Show a text that is less important than what a run says."""
        if isalive(self) and not self.running:
            self.status.tell(level, text)

    def _on_event(self, event: Event) -> None:
        if isalive(self) and self.jobs:
            self.bar.follow(event, quiet=self.jobs[0].cancelled.is_set())
            self._live.follow(event)

    def _on_end(self, show: Callable[[Any], None], out: Path | None, end: End) -> None:
        if end.state != "done" and self._live is not None:
            with suppress(RuntimeError):  # of Qt, where the window has gone
                self._live.remove()
        if not isalive(self):  # the window was closed
            return
        self.jobs.clear()
        self._set_running(False)
        if end.state == "done":
            show(end.value)
        elif end.state == "cancelled":
            self.status.tell("", "Cancelled; no layer was changed." + words_on_unfinished(out))
        else:
            text = sentence(end.value)
            self.status.tell("fail", text)
            show_error(text)
        self._target = self._live = None
        self.tune.look()
        self._refresh()  # a store may be there now

    def _on_tuned(self, level: str, text: str, record: dict[str, Any]) -> bool:
        """The labels are no longer what was said of the run; whether they are of the chosen image, and it was said."""
        if self.layer is None or self.tune.layer.metadata[KEY].get("source_id") != self.layer.unique_id:
            return False
        self.bar.tell(level, text, record)
        self.form.likeness.forget()  # it spoke of the objects of the run
        self._explain(self._verdict, None if self._verdict is None else self._verdict.job)
        return True

    def _set_running(self, running: bool, *, blocks: bool = False) -> None:
        self.form.setEnabled(not running)
        self.tune.rest(running)
        self.bar.begin(running, blocks=blocks)

    # -- model and device ---------------------------------------------------------------------------------------------

    def _equip(self) -> None:
        """Load the chosen model in a thread; a late answer to an earlier choice is not taken."""
        self.equipment = None
        model, device = self.form.model.value(), self.form.device.currentText()
        self._request = None if model is None else (model, device)
        if self._request is not None:
            start_job(partial(equip_steps, *self._request), on_end=self._on_equipped)
        self._refresh()

    def _on_equipped(self, end: End) -> None:
        if not isalive(self) or end.state == "cancelled":
            return
        if end.state == "error":  # not even an answer: torch cannot be imported, or the like
            self.equipment = Equipment(request=self._request or ("", ""), models=(), devices=(), error=sentence(end.value))
        elif end.value.request == self._request:
            self.equipment = end.value
            self.form.model.set_names(end.value.models, end.value.demonstrations)
            device = self.form.device.currentText()
            offer(self.form.device, end.value.devices)
            if self._keeper.bring_back() and self.form.device.currentText() != device:  # it is known only now that it is there
                self._equip()
                return
        else:
            return
        self._guess_axes()
        self._refresh()

    # -- layer --------------------------------------------------------------------------------------------------------

    def reset_choices(self, *_: Any) -> None:
        """Called by napari when layers come, go or are renamed; also once the dock is closed."""
        if isalive(self):
            keep_choice(self.form.layers)
            self.embedding_button.look()
            self.tune.look()
            if self.layer is not self._watched:  # the last one has gone: no signal comes
                self._on_layer()

    def _image_layers(self, _: Any) -> list[tuple[str, ImageLayer]]:
        """Image layers, without the embeddings that this plugin made."""
        images = [layer for layer in self.viewer.layers if isinstance(layer, ImageLayer)]
        return [(layer.name, layer) for layer in images if KEY not in layer.metadata]

    def _choose_active_layer(self) -> None:
        for _, layer in self._image_layers(None):
            if layer == self.viewer.layers.selection.active:
                self.form.layers.value = layer

    def _on_layer(self, *_: Any) -> None:
        if self.layer is self._watched and self.layer is not None:
            return
        if self._watched is not None:
            self._watched.events.data.disconnect(self._on_layer_data)
        self._watched = self.layer
        if self._watched is not None:
            self._watched.events.data.connect(self._on_layer_data)
        self.bar.forget()
        self._guess_axes()
        self._refresh()

    def _on_layer_data(self, *_: Any) -> None:
        if isalive(self):
            self.bar.forget()
            self.form.rules.forget()
            self._guess_axes()
            self._refresh()

    def _guess_axes(self) -> None:
        """Show the axes of the layer."""
        if self.equipment is not None and self.equipment.model is not None:
            self.form.axes.look_at(self.layer, self.equipment.model.spec.in_channels)

    # -- what would run -----------------------------------------------------------------------------------------------

    def _look_again(self) -> None:
        """Take what the form says now; what was shown for that stays, even if the free memory has changed."""
        self._refresh(shown=None if self._verdict is None else self._verdict.job)

    def _refresh(self, *_: Any, shown: Any = None) -> None:
        """Say what Run would do."""
        if self.jobs:  # what runs is what was said
            return
        self._verdict = verdict = None
        level, text = "", ""
        self.form.about_image.fill("")
        equipment = self.equipment
        if equipment is None:
            text = "Choose a model file." if self._request is None else "Loading PyTorch and the model\u2026"
        elif equipment.error:
            level, text = "fail", equipment.error
        elif self.layer is None:
            text = "Open an image, or take one from File > Open Sample > ShiftSeg."
        else:
            self._verdict = verdict = self._look(shown)
            level, text = verdict.level, verdict.text
        self.form.verdict.tell(level, text)
        self._explain(verdict, None if verdict is None else verdict.job)
        for button in (self.run_button, self.preview_button):
            button.setEnabled(not self.jobs and verdict is not None and verdict.can_run)
        for button in (self.bar.code, self.bar.command):
            button.setEnabled(verdict is not None and verdict.job is not None)

    def _explain(self, verdict: "Verdict | None", job: Any) -> None:
        """Say in the lines beside the inputs what they come to."""
        form, equipment, device, about = self.form, self.equipment, "", ""
        if equipment is not None and equipment.device is not None:
            device = equipment.device.describe()
        if equipment is not None and equipment.model is not None:
            from napari_shiftseg.plugin.verdict import describe_model

            about = describe_model(equipment.model)
        form.about_model.fill(about)
        form.about_device.fill(device if job is None else job.describe_device())
        form.about_size.fill("" if job is None or job.size is None else f"{job.size.describe()}.")
        self._tell_plan(verdict, job)
        form.writing.fill("" if verdict is None else verdict.writing)
        image = None
        with suppress(ShiftsegError):  # the verdict says what is wrong with the axes
            image = None if verdict is None else self.image()
        form.likeness.follow(verdict, None if self.layer is None else self.layer.data, image)
        form.rules.explain(job, self.layer)

    def _tell_plan(self, verdict: "Verdict | None", job: Any) -> None:
        """Say what runs, how long it takes, and whether most of that is waste."""
        waste = "" if job is None else words_on_waste(job)
        self.form.plan.fill("" if job is None else job.describe_plan())
        if waste:
            self.form.plan.tell("warn", f"{job.describe_plan()}. {waste}")
        self.bar.time.fill(words_on_time(job) if verdict is not None and verdict.can_run else "")

    def _look(self, shown: Any) -> "Verdict":
        from napari_shiftseg.plugin.verdict import Verdict, judge, tile_sizes

        model = self.equipment.model
        try:
            image = self.image()
            said = {"seed", "bandwidth"} <= {*model.outputs}
            self.form.offer_bandwidth((model.record.clustering.factor if model.record else 1.0) if said else None)
            self.form.offer_channels(image.sizes.get("c", 1), model.spec.in_channels, image.channels)
            self.form.about_image.fill(image.note.removesuffix(image.assumed).strip())
            where = {"device": self.equipment.device, "named": self.form.large.place}
            verdict = judge(image, model, self.settings(), **where, shown=shown)
        except ShiftsegError as exc:
            return Verdict(level="fail", text=sentence(exc))
        if verdict.plan is not None:
            alone = verdict.plan.zeros == "tile"  # one size, which is what Automatic means
            self.form.tile.offer(() if alone else tile_sizes(verdict.plan.lattice, verdict.plan.image_shape))
        return verdict

    def reset(self) -> None:
        """Set all as a new widget has it, but for the image and its axes."""
        self._keeper.reset()
        self.form.tell_kept({})
        self._equip()

    def fix_tiles(self) -> None:
        """Set the tile size to the nearest one that obeys the rules."""
        self.form.tile.show_wish(self._tile_wish(snap=True))
        self._refresh()

    def _on_tile(self) -> None:
        if self.equipment is not None and self.equipment.model is not None:
            with suppress(ShiftsegError):  # the verdict says it
                self.form.tile.show_wish(self._tile_wish())
        self._refresh()

    # -- form ---------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.form = SegmentForm(ComboBox(choices=self._image_layers, nullable=False))
        self.bar = bar = RunBar()
        self.run_button, self.preview_button, self.cancel_button = bar.run, bar.preview, bar.cancel
        self.progress, self.status = bar.progress, bar.status
        self.embedding_button = EmbeddingButton(self.viewer, lambda: self.layer, self.form.device.currentText, tell=self._say)
        content = QWidget()
        column = QVBoxLayout(content)
        self.tune = TunePanel(self.viewer, lambda: self.layer, self.form.device.currentText, tuned=self._on_tuned)
        for widget in (self.form, bar.more, self.tune, self.embedding_button):
            column.addWidget(widget)
        column.addStretch()
        fill_dock(self, content, bar)
        self._set_running(False)

    def _connect(self) -> None:
        form = self.form
        form.layers.changed.connect(self._on_layer)
        form.axes.chosen.connect(self._refresh)
        form.channels.made.connect(lambda: give_keys(self))
        form.model.changed.connect(self._equip)
        form.likeness.wished.connect(form.model.choose)
        form.size_row.changed.connect(self._on_tile)
        form.size_row.measure.clicked.connect(lambda _: self.measure())
        form.device.activated.connect(lambda _: self._equip())
        form.tile.changed.connect(self._on_tile)
        form.allow.toggled.connect(lambda _: self._on_tile())
        form.defaults.clicked.connect(lambda _: self.reset())
        form.rules.fix.clicked.connect(lambda _: self.fix_tiles())
        for box in (form.dtype, form.method):
            box.currentTextChanged.connect(self._refresh)
        for part in (form.channels, form.intensity, form.large):
            part.changed.connect(self._refresh)
        for switch in (form.rules, form.deterministic, form.augment, form.keep_embedding):
            switch.toggled.connect(self._refresh)
        self.run_button.clicked.connect(lambda _: self.run())
        self.preview_button.clicked.connect(lambda _: self.preview())
        self.cancel_button.clicked.connect(lambda _: self.cancel())
        self.bar.code.clicked.connect(lambda _: self.copy("to_code"))
        self.bar.command.clicked.connect(lambda _: self.copy("to_command"))
        self.destroyed.connect(partial(cancel_all, self.jobs))
