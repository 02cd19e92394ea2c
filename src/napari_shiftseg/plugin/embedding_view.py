"""`EmbeddingButton` and `EmbeddingView`: the embedding of a result that has none, computed where the viewer looks."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Layer
from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QPushButton, QWidget

from napari_shiftseg.events import Event, Stage
from napari_shiftseg.plugin.constants import MOST_VIEWED, UNKNOWN_RANGE, VIEW_EVERY, VIEW_REST
from napari_shiftseg.plugin.jobs import End, sentence, start_job
from napari_shiftseg.plugin.layers import KEY, laid_out, layer_name, placed
from napari_shiftseg.plugin.preview import window_in_view
from napari_shiftseg.plugin.refresher import Refresher
from napari_shiftseg.plugin.replacement import keep_view
from napari_shiftseg.plugin.signature import sign
from napari_shiftseg.plugin.subject import VIEWED, Subject, find_model, subject_of, without_embedding

if TYPE_CHECKING:
    from napari_shiftseg.segmentation import Job
    from napari_shiftseg.segmentation.lazy import LazyEmbedding


class EmbeddingView:
    """Adds the layer and looks after it until it is removed.

    Parameters
    ----------
    labels : Layer
        Instances that the embedding belongs to.
    tell : callable
        Called with level and text of what there is to say.
    """

    def __init__(self, viewer: Any, lazy: "LazyEmbedding", labels: Layer, *, tell: Callable[[str, str], None]):
        self.viewer, self.lazy = viewer, lazy
        self._tell, self._job, self._ranged = tell, None, False
        self.layer = self._add(labels)
        self._refresher = Refresher(self.layer, VIEW_EVERY)
        self._rest = QTimer()
        self._rest.setSingleShot(True)
        self._rest.timeout.connect(self.look)
        # plain functions, which the viewer holds: this object lives as long as its layer
        self._on_view = lambda _=None: self._rest.start(VIEW_REST)
        self._on_removed = lambda event: self.close() if event.value is self.layer else None
        camera, dims = viewer.scene.camera, viewer.dims
        self._sources = [
            *(getattr(camera.events, name) for name in ("center", "zoom")),
            *(getattr(dims.events, name) for name in ("point", "order", "ndisplay")),
            viewer.canvas.events.size,
            self.layer.events.visible,
        ]
        for source in self._sources:
            source.connect(self._on_view)
        viewer.layers.events.removed.connect(self._on_removed)
        self._rest.start(VIEW_REST)

    @property
    def running(self) -> bool:
        """Whether tiles are being computed."""
        return self._job is not None

    def close(self) -> None:
        """Compute no more, and let go of the viewer; the layer keeps what is known."""
        self._rest.stop()
        self._refresher.stop()
        if self._job is not None:
            self._job.cancel()
        for source in self._sources:
            source.disconnect(self._on_view)
        self._sources = []
        self.viewer.layers.events.removed.disconnect(self._on_removed)

    def look(self) -> None:
        """Compute what is in view and not known yet."""
        if not self._sources or not self.layer.visible:
            return
        if self._job is not None:  # it ends after its tile, and then looks again
            self._job.cancel()
            return
        seen = self._window()
        count, most = self.lazy.count(seen), min(MOST_VIEWED, self.lazy.at_once)
        if count > most:
            self._tell("warn", f"Embedding: {count} tiles are in view; zoom in until there are {most} or fewer.")
            return
        places = [place for place in self.lazy.tiles(seen) if not self.lazy.known(place)]
        middle = [(part.start + part.stop) / 2 for part in seen]
        places.sort(key=lambda place: _distance(self.lazy.window(place), middle))
        if places:
            steps = partial(_tile_steps, self.lazy, places)
            self._job = start_job(steps, on_event=self._on_event, on_end=partial(self._on_end, count))
        else:
            self._say(count)

    def _window(self) -> list[slice]:
        """What is in view, per axis of the embedding."""
        view = window_in_view(self.viewer, self.layer, self.layer.metadata[KEY]["axes"])
        sizes = zip(self.lazy.axes, self.lazy.shape[1:], strict=True)
        return [view.get(axis, slice(0, size)) for axis, size in sizes]

    def _add(self, labels: Layer) -> ImageLayer:
        from napari_shiftseg.plugin.source import placement_of  # loads torch, which made the result

        known = labels.metadata[KEY]
        place = placement_of(labels, known["axes"], self.lazy.axes).behind_channel()
        levels = [laid_out(level, "c" + self.lazy.axes, place.layout) for level in self.lazy.levels()]
        several = len(levels) > 1
        layer = ImageLayer(
            levels if several else levels[0],
            multiscale=several,
            name=layer_name(known["source"], "embedding", known),
            metadata={KEY: {**known, "role": VIEWED, "axes": place.layout}},
            contrast_limits=UNKNOWN_RANGE,
            rgb=False,
            cache=False,
            **placed(place),
        )
        with keep_view(self.viewer):
            self.viewer.layers.insert(self.viewer.layers.index(labels), layer)
        sign(layer)
        return layer

    def _on_event(self, event: Event) -> None:
        if self._sources:
            self._tell("", f"Embedding of the view: tile {event.done} of {event.total}\u2026")
            self._refresher.ask()

    def _on_end(self, count: int, end: End) -> None:
        self._job = None
        if not self._sources:
            return
        self._refresher.ask()
        if end.state == "done":
            if not self._ranged:
                self._ranged = True
                if tuple(self.layer.contrast_limits) == UNKNOWN_RANGE:
                    self.layer.contrast_limits_range = self.layer.contrast_limits = end.value
            self._say(count)
        elif end.state == "error":
            self._tell("fail", sentence(end.value))
        else:
            self._rest.start(VIEW_REST)

    def _say(self, count: int) -> None:
        self._tell("", f"Embedding of the view: {count} tile{'s' * (count > 1)} computed; move or zoom for more.")


def lazy_steps(subject: Subject, device: str) -> Generator[Event, None, "LazyEmbedding"]:
    """The embedding of a result, to be computed on demand: by its model, tiles and limits from its image."""
    yield Stage(done=0, total=0, text="loading the model")
    from napari_shiftseg.geometry import plan_again
    from napari_shiftseg.segmentation import SegmentSettings
    from napari_shiftseg.segmentation.intensity import recorded_limits
    from napari_shiftseg.segmentation.lazy import LazyEmbedding, lazy_embedding

    record = subject.record
    if "job" in record:
        return LazyEmbedding(opened_job(subject, device))
    image, model = subject.whole_image(), find_model(subject, "")
    wish: Mapping[str, Any] = record["settings"]  # the record of an older version
    settings = SegmentSettings(
        write=tuple(record["plan"]["write"]),
        device=device,
        dtype=subject.dtype,
        deterministic=bool(wish.get("deterministic")),
        channels=tuple(wish["channels"]) if wish.get("channels") else None,
        allow_noncompliant=True,
    )
    # where padded tiles meet zeros is a matter of that run, and no longer of the settings
    plan = plan_again(model.spec, record["plan"]) if model.spec.padding == "zero" else None
    return lazy_embedding(image, model, settings, limits=recorded_limits(record), plan=plan)


def opened_job(subject: Subject, device: str) -> "Job":
    """The job of a run, with its model and image, on a device."""
    from napari_shiftseg.network import choose_device
    from napari_shiftseg.segmentation import Job, open_job

    job, image = Job.from_dict(subject.record["job"]), subject.whole_image()
    # a store holds its image with the axes in another order
    image = image.reordered(job.image.axes) if sorted(image.axes) == sorted(job.image.axes) else image
    return replace(open_job(job, image, find_model(subject, "")), device=choose_device(device))


def _tile_steps(lazy: "LazyEmbedding", places: list[Any]) -> Generator[Event, None, tuple[float, float]]:
    """Compute tiles; returns the range of the values of the first one."""
    from napari_shiftseg.colours import value_range

    yield from lazy.steps(places)
    return value_range(lazy[(slice(None), *lazy.window(places[0]))])


def _distance(window: tuple[slice, ...], middle: list[float]) -> float:
    return float(np.hypot.reduce([(part.start + part.stop) / 2 - at for part, at in zip(window, middle, strict=True)]))


class EmbeddingButton(QPushButton):
    """Visible while the viewer holds a result without an embedding.

    Parameters
    ----------
    image : callable
        Gives the image layer whose result is meant, if there are several.
    device : callable
        Gives the name of the device that computes.
    tell : callable
        Called with level and text of what there is to say.
    """

    def __init__(
        self,
        viewer: Any,
        image: Callable[[], Layer | None],
        device: Callable[[], str],
        *,
        tell: Callable[[str, str], None],
        parent: QWidget | None = None,
    ):
        super().__init__("Show embedding", parent)
        self.viewer = viewer
        self._image, self._device, self._tell = image, device, tell
        self.setToolTip("A layer with the embedding of what is in view, computed anew when the view changes.")
        self.clicked.connect(lambda _: self.show_embedding())
        self.look()

    def look(self) -> None:
        """See whether there is something to show."""
        self.setVisible(without_embedding(self.viewer, self._image()) is not None)

    def show_embedding(self) -> None:
        """Load the model in a thread, then add the layer."""
        labels = without_embedding(self.viewer, self._image())
        if labels is not None and self.isEnabled():
            self.setEnabled(False)
            subject = subject_of(self.viewer, labels)
            start_job(partial(lazy_steps, subject, self._device()), on_end=partial(self._on_end, labels, subject.run))

    def _on_end(self, labels: Layer, run: str, end: End) -> None:

        if not isalive(self):
            return
        self.setEnabled(True)
        if end.state == "error":
            self._tell("fail", sentence(end.value))
        elif end.state == "done" and labels in self.viewer.layers and subject_of(self.viewer, labels).run == run:
            EmbeddingView(self.viewer, end.value, labels, tell=self._tell)
