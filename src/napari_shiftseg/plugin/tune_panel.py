"""`TunePanel`: other settings of the clustering change the labels that are shown, without the network."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Layer
from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_shiftseg.events import Event
from napari_shiftseg.plugin.constants import TUNE_PAUSE, VIEW_REST
from napari_shiftseg.plugin.jobs import End, Job, cancel_all, sentence, start_job
from napari_shiftseg.plugin.large import LiveLabels, Written, features_of, layer_levels
from napari_shiftseg.plugin.layers import layer_name
from napari_shiftseg.plugin.preview import preview_layer, window_in_view
from napari_shiftseg.plugin.replacement import put_in_place, replace_layers, words_on_kept
from napari_shiftseg.plugin.signature import KEY, is_older, signature_of
from napari_shiftseg.plugin.subject import is_result, layers_of_run, subject_of
from napari_shiftseg.plugin.tune_form import TuneForm
from napari_shiftseg.plugin.tune_jobs import Ready, Shown, ViewTuned, apply_steps, free_store, pass_on, ready_steps, tune_steps
from napari_shiftseg.plugin.tune_words import words_on_tuned

if TYPE_CHECKING:
    from napari_shiftseg.segmentation import Preview, Segmentation


class TunePanel(QWidget):
    """Looks after one result at a time: that which is selected, else that of the image, else the last.

    Parameters
    ----------
    image : callable
        Gives the image layer whose result is meant.
    device : callable
        Gives the name of the device that computes.
    tuned : callable
        Called with level, text and record of labels that were tuned; returns whether it has said so.
    """

    def __init__(
        self,
        viewer: Any,
        image: Callable[[], Layer | None],
        device: Callable[[], str],
        *,
        tuned: Callable[[str, str, Mapping[str, Any]], bool],
        parent: QWidget | None = None,
    ):
        super().__init__(parent)
        self.viewer, self.form = viewer, TuneForm()
        self.layer: Layer | None = None
        self.ready: Ready | None = None
        self.jobs: list[Job] = []  # the one that runs, if one does
        self._image, self._device, self._tuned = image, device, tuned
        self._run: Any = None  # of the layer
        self._again = self._touched = self._putting = self._resting = False
        self._before: Shown | None = None  # what was shown before the view, as long as the rest is not there
        self._sizes_from = 0  # smallest size with which the sizes in the plot were found
        self._views: dict[Any, Any] = {}
        self._pause, self._rest = QTimer(self), QTimer(self)
        for timer, call in ((self._pause, self._go), (self._rest, self._on_view_rest)):
            timer.setSingleShot(True)
            timer.timeout.connect(call)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.form)
        self._connect()
        self.look()

    running = property(lambda self: bool(self.jobs), doc="Whether something is computed.")

    @property
    def settled(self) -> bool:
        """Whether what is set is what is shown."""
        return not (self.jobs or self._pause.isActive())

    # -- which result -------------------------------------------------------------------------------------------------

    def look(self, *_: Any) -> None:
        """See which result is meant, once the group is open; that of before stays if nothing has changed."""
        if not isalive(self) or self._putting or self._resting or (not self.form.is_open and self.layer is None):
            return
        layer = self._find()
        run = None if layer is None else layer.metadata[KEY].get("run")
        if layer is self.layer and run == self._run and not (layer is None and not self.form.about.text()):
            return
        self.cancel()
        self._watch(layer)
        self._run, self.ready, self._before = run, None, None
        self._views = {}
        self.form.offer(clustered=False, sizes=False)
        self.form.apply.setVisible(False)
        self.form.plot.tell((), 0)
        self.form.status.tell("", "")
        if layer is None:
            self.form.about.tell("", "Segment an image, or open a saved result; then its labels can be tuned.")
            return
        self.form.about.tell("", "Looking at the result\u2026")
        steps = partial(ready_steps, subject_of(self.viewer, layer), layer, self._device())
        start_job(steps, on_end=partial(self._on_ready, layer, run))

    def _find(self) -> Layer | None:
        made = [layer for layer in self.viewer.layers if _is_tunable(layer)]
        active, image = self.viewer.layers.selection.active, self._image()
        if active in made:
            return active
        if self.layer in made:
            return self.layer
        of_image = [layer for layer in made if image is not None and layer.metadata[KEY]["source_id"] == image.unique_id]
        return next(reversed(of_image or made), None)

    def _on_ready(self, layer: Layer, run: str, end: End) -> None:
        if not isalive(self) or layer is not self.layer or run != self._run:
            return
        if end.state != "done":
            self.form.about.tell("warn", "" if end.value is None else sentence(end.value))
            return
        self.ready = ready = end.value
        self._show_settings()
        self.form.plot.tell(ready.sizes, self.form.min_size.value())
        self._sizes_from = self.form.min_size.value()
        self._enable()

    def _show_settings(self) -> None:
        """Those of the labels that are shown."""
        from napari_shiftseg.instances import LabelSettings

        record = self.layer.metadata[KEY]["record"] if self._before is None else self._before.record
        self.form.show_settings(LabelSettings(**record["clustering"]), self.ready.left.base)

    def _enable(self) -> None:
        ready, form = self.ready, self.form
        if ready is None:
            return
        form.offer(clustered=ready.clustered, sizes=True, seeds=ready.left.job.clustering.seeds)
        form.apply.setVisible(not ready.whole)
        form.apply.setEnabled(not ready.whole and not self.jobs)
        text = f"{self.layer.name}: changes show at once; the network does not run again."
        if not ready.whole and ready.job is None:
            text = f"{self.layer.name}: changes show in the view; Apply writes the rest as a new result."
        elif not ready.whole:
            text = (
                f"{self.layer.name}: its embedding was not kept, so that of the view is computed, once. Apply runs the network "
                "over the whole image again, and writes a new result."
            )
        elif not ready.clustered:
            text = (
                f"{self.layer.name}: its embedding was not kept, so the smallest size alone can be tuned. Run again with "
                "Embedding layers on (Advanced) to tune the rest."
            )
        form.about.tell("", text)

    # -- tuning -------------------------------------------------------------------------------------------------------

    def ask(self, *_: Any) -> None:
        """The user has changed a setting: label anew once nothing moves any more."""
        if self.ready is not None:
            self._pause.start(TUNE_PAUSE)

    def reset(self) -> None:
        """Back to the settings of the run."""
        if self.ready is not None:
            base = self.ready.left.base
            self.form.show_settings(base, base)
            self.ask()

    def rest(self, resting: bool) -> None:
        """Do nothing while a run works, whose labels will be others."""
        if resting:
            self.cancel()
        self._resting = resting
        self.setEnabled(not resting)

    def cancel(self) -> None:
        """Stop, and show the labels of before."""
        self._pause.stop()
        self._again = False
        for job in self.jobs:
            job.cancel()

    def _go(self) -> None:
        if self.ready is None or self.layer not in self.viewer.layers:
            return
        if self.jobs:  # it ends within a window, and what is wished for then is begun
            self._again = True
            self.jobs[0].cancel()
            return
        window = window_in_view(self.viewer, self.layer, self.layer.metadata[KEY]["axes"])
        window = {axis: part for axis, part in window.items() if axis != "_"}
        now = self.layer.data if self._before is None else self._before.data
        steps = partial(tune_steps, self.ready, self.form.wish(), self.layer, window=window, now=now, views=self._views)
        self._begin(steps, self._on_tuned)

    def _begin(self, steps: Callable[[], Any], show: Callable[[Any], None]) -> None:
        self._touched = False
        self.form.show_running(True)
        self.form.apply.setEnabled(False)
        self.form.status.tell("", "Labelling the view\u2026")
        self.jobs.append(start_job(steps, on_event=self._on_event, on_end=partial(self._on_end, self._run, show)))

    def _on_event(self, event: Event) -> None:
        if not isalive(self) or not self.jobs or self.jobs[0].cancelled.is_set():
            return
        if isinstance(event, ViewTuned):
            self._on_view(event.shown)
            return
        self.form.progress.setRange(0, event.total)
        self.form.progress.setValue(event.done)

    def _on_end(self, run: Any, show: Callable[[Any], None], end: End) -> None:
        if not isalive(self):
            return
        self.jobs.clear()
        self.form.show_running(False)
        if (
            self.ready is None or run != self._run or self.layer not in self.viewer.layers
        ):  # another result was chosen meanwhile
            return
        if self._again:
            self._again = False
            self._go()
            return
        self._enable()
        if end.state == "done":
            show(end.value)
        elif end.state == "cancelled":
            self._go_back("", "Cancelled; the labels are as they were.")
        else:
            self._go_back("fail", sentence(end.value))

    def _go_back(self, level: str, text: str) -> None:
        """Show the labels of before, and their settings."""
        if self._before is not None:
            before, self._before = self._before, None
            text += self._put(before)
        self._show_settings()
        self.form.status.tell(level, text)

    # -- show ---------------------------------------------------------------------------------------------------------

    def _on_view(self, shown: "Shown | Preview") -> None:
        """The view is there: the rest follows, or is written on Apply."""
        if isinstance(shown, Shown):
            known, left = self.layer.metadata[KEY], signature_of(self.layer)
            if self._before is None and left is not None:
                before = {"data": self.layer.data, "digest": left.digest, "record": known["record"]}
                self._before = replace(shown, **before, features=self.layer.features)
            kept = self._put(shown)
            if self._before is not None:
                self._before = replace(self._before, before=shown.digest)
            self.form.status.tell("", f"{shown.count} objects in view, tuned; the rest follows\u2026" + kept)
            return
        from napari_shiftseg.plugin.source import placement_of

        known = self.layer.metadata[KEY]
        place = placement_of(self.layer, known["axes"], shown.axes)
        made = preview_layer(shown, place, known["source"], source_id=known["source_id"])
        active = self.viewer.layers.selection.active
        put = replace_layers(self.viewer, [made])
        self.viewer.layers.selection.active = active
        put.layers[-1].visible = True
        name, kept = put.layers[-1].name, words_on_kept(put.kept)
        text = f"{int(shown.labels.max())} objects in view (layer {name}); Apply writes the whole result.{kept}"
        self.form.status.tell("", text)

    def _on_tuned(self, shown: Shown | None) -> None:
        if shown is None or self.layer not in self.viewer.layers:
            return
        self._before = None
        kept, result = self._put(shown), shown.result
        least = result.record["clustering"]["min_size"]
        if least <= self._sizes_from or set(result.record["relabelled"]["changed"]) - {"min_size"}:
            self.form.plot.tell(shown.sizes, self.form.min_size.value())
            self._sizes_from = least
        self._say(*words_on_tuned(result.record, self.ready.left.base), kept, record=result.record)

    def _say(self, level: str, text: str, more: str, *, record: Mapping[str, Any]) -> None:
        """Say what came of it once: where a run is told of, if that was of the same image, else here."""
        told = self._tuned(level, text + more, record)
        self.form.status.tell("" if told else level, "" if told else text + more)

    def _put(self, shown: Shown) -> str:
        """Show labels in their layer, or beside it where the user has changed that; a sentence on that."""
        layer = self.layer
        known = {**layer.metadata[KEY], "record": shown.record, "digest": shown.digest}
        options = {"name": layer_name(known["source"], "instances", known), "metadata": {KEY: known}}
        options["features"] = dict(shown.features)
        # who paints emits an event; what a script writes into the array shows in the digest that the thread took
        digest, self._putting = None if self._touched else shown.before, True
        try:
            put = put_in_place(self.viewer, layer, (shown.data, options, "labels"), digest=digest)
        finally:
            self._putting = False
        pass_on(layer, put.layers[0])
        self._watch(put.layers[0])
        for other in layers_of_run(self.viewer, self.layer):
            if other is not self.layer:  # what was measured of them with the labels of before is told no more
                other.metadata = dict(other.metadata)
        return words_on_kept(put.kept)

    def _watch(self, layer: Layer | None) -> None:
        """Hear of strokes in a layer."""
        self._touched = False
        if layer is self.layer:
            return
        for old, connect in ((self.layer, False), (layer, True)):
            for name in ("paint", "labels_update", "data") if old is not None else ():
                emitter = getattr(old.events, name)
                (emitter.connect if connect else emitter.disconnect)(self._on_touch)
        self.layer = layer

    def _on_touch(self, _: Any) -> None:
        self._touched = True

    def _on_view_rest(self) -> None:
        """The view of a result on a disk stands still elsewhere."""
        if self.ready is not None and not self.ready.whole and self._views and not self.jobs:
            self._go()

    # -- apply --------------------------------------------------------------------------------------------------------

    def apply(self) -> None:
        """Write a result on a disk with these settings, beside the one that is there."""
        if self.ready is None or self.ready.whole or self.jobs:
            return
        self._pause.stop()
        out = free_store(Path(self.layer.metadata[KEY]["store"]))
        self._begin(partial(apply_steps, self.ready, self.form.wish(), out), self._on_applied)
        self.form.status.tell("", f"Writing {out}\u2026")

    def _on_applied(self, result: "Segmentation") -> None:
        from napari_shiftseg.plugin.source import placement_of

        known, labels, base = self.layer.metadata[KEY], self.layer, self.ready.left.base
        live = LiveLabels(
            self.viewer,
            lambda axes: placement_of(labels, known["axes"], axes),
            known["source"],
            source_id=known["source_id"],
        )
        features = features_of(result.stored, result.plan.lattice.ndim)
        kept = live.finish(Written(result=result, levels=layer_levels(result.stored.levels("labels")), features=features))
        self.viewer.layers.selection.active = live.layer
        level, text = words_on_tuned(result.record, base)
        self.look()
        self._say(level, text, f" Written to {result.path}.{words_on_kept(kept)}", record=result.record)

    # -- connect ------------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        form, viewer = self.form, self.viewer
        form.changed.connect(self.ask)
        form.toggled.connect(self.look)
        form.reset.clicked.connect(lambda _: self.reset())
        form.apply.clicked.connect(lambda _: self.apply())
        form.cancel.clicked.connect(lambda _: self.cancel())
        moved = lambda _=None: self._rest.start(VIEW_REST) if isalive(self) else None  # noqa: E731
        viewer.layers.selection.events.active.connect(self.look)
        sources = [getattr(viewer.scene.camera.events, name) for name in ("center", "zoom")]
        sources += [getattr(viewer.dims.events, name) for name in ("point", "order", "ndisplay")]
        for source in sources:
            source.connect(moved)
        self.destroyed.connect(partial(_let_go, self.jobs, [(source, moved) for source in sources]))


def _is_tunable(layer: Layer) -> bool:
    return is_result(layer) and layer.metadata[KEY]["role"] == "instances" and not is_older(layer)


def _let_go(jobs: list[Job], connected: list[tuple[Any, Any]], *_: Any) -> None:
    """The dock is closed."""
    cancel_all(jobs)
    for source, call in connected:
        source.disconnect(call)
