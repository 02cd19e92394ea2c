"""Random acts on the widgets: no exception, nothing of the user is overwritten, no thread is left, labels as of the library.

What was tried, and breaks a walk: a run takes labels that a user has painted for its own (no look at name and pixels);
Run stays on where no plan is possible; a setting of the form does not reach the job; Cancel takes a layer.
"""

import logging
import os
import threading

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels
from qtpy.QtCore import QThreadPool
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_shiftseg import SegmentSettings, decide, load_model, segment
from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.plugin import kept
from napari_shiftseg.plugin.correct_widget import CorrectWidget
from napari_shiftseg.plugin.inspect_widget import InspectWidget
from napari_shiftseg.plugin.measure_widget import MeasureWidget
from napari_shiftseg.plugin.segment_widget import SegmentWidget
from napari_shiftseg.plugin.subject import is_result

pytestmark = pytest.mark.gui

WALKS = int(os.environ.get("SHIFTSEG_WALKS", "10"))
PLACES = st.integers(0, 1 << 16)  # of all that there are, again and again


DAYS = {
    "run": lambda self, place: self.run_to_its_end(),
    "paint": lambda self, place: self.paint(place, (place % 20, place % 28)),
    "delete": lambda self, place: self.edit(place, "delete"),
    "wish": lambda self, place: self.wish(
        TILES[place % 5], place % 21 - 1, (0.0, 0.5, 2.0)[place % 3], bool(place & 4), bool(place & 8)
    ),
    "cancel": lambda self, place: self.run_and_cancel(place % 30),
    "tune": lambda self, place: self.tune(place % 40, (0.3, 0.75, 1.5)[place % 3]),
    "own": lambda self, place: self.add_own_labels(place),
    "image": lambda self, place: self.add_image(place % 4),
    "napari": lambda self, place: self.do_in_napari(place, ("rename", "remove", "select", "hide")[place % 4]),
    "undo": lambda self, place: self.edit(place, ("undo", "redo", "merge", "accept")[place % 4]),
    "layer": lambda self, place: self.choose_layer(place),
    "model": lambda self, place: self.choose_model(place % 2),
    "measure": lambda self, place: self.measure((MeasureWidget, InspectWidget)[place % 2]),
    "again": lambda self, place: self.close_and_open_again(KINDS[place % 4]),
    "preview": lambda self, place: self.preview(),
}
DAY = [*DAYS, *["run", "wish", "paint"] * 4, *["layer", "napari", "cancel"] * 2]
TILES = ("Automatic", "8", "16", "7", "x")
KINDS = (SegmentWidget, CorrectWidget, MeasureWidget, InspectWidget)


class Errors(logging.Handler):
    """What is logged as a mistake of the program."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.seen = []

    def emit(self, record):
        self.seen.append(f"{record.getMessage()} {record.exc_info}")


class Widgets(RuleBasedStateMachine):
    """A viewer with small images, the widgets, and what of the layers belongs to the user."""

    models = ()  # paths
    exceptions = []  # noqa: RUF012  # of Qt, as pytest-qt gathers them

    def __init__(self):
        super().__init__()
        self.errors = Errors()
        del self.exceptions[:]
        kept.place().unlink(missing_ok=True)
        logging.getLogger("napari_shiftseg").addHandler(self.errors)
        self.viewer, self.mine, self.count = ViewerModel(), {}, 0
        self.open = {}
        for made in KINDS:
            self._open(made)
        self.threads = None

    @initialize(acts=st.lists(st.tuples(st.sampled_from(DAY), PLACES), min_size=12, max_size=16))
    def begin(self, acts):
        """Each walk begins with a day's work: Hypothesis leaves most rules out of a walk, and seldom takes several of them."""
        self.add_image(0)
        self.choose_model(0)
        self.run_to_its_end()
        for name, place in acts:
            DAYS[name](self, place)
            self.nothing_has_failed()
            self.what_is_mine_is_as_it_was()
            self.run_is_on_where_a_plan_is_possible()

    def teardown(self):
        for made in list(self.open):
            self._close(made)
        self.viewer.layers.clear()
        logging.getLogger("napari_shiftseg").removeHandler(self.errors)

    segment = property(lambda self: self.open[SegmentWidget])
    correct = property(lambda self: self.open[CorrectWidget])

    def _open(self, made):
        widget = self.open[made] = made(self.viewer)
        layers = self.viewer.layers.events
        for event in (layers.inserted, layers.removed, layers.renamed):  # as a window does
            event.connect(widget.reset_choices)

    def _close(self, made):
        widget = self.open.pop(made)
        layers = self.viewer.layers.events
        for event in (layers.inserted, layers.removed, layers.renamed):
            event.disconnect(widget.reset_choices)
        widget.close()
        widget.deleteLater()
        QApplication.sendPostedEvents(widget, 0)
        QApplication.processEvents()

    def settle(self):
        """Until nothing moves any more."""
        for _ in range(3000):
            QApplication.processEvents()
            busy = [widget for widget in self.open.values() if getattr(widget, "jobs", ()) or getattr(widget, "running", False)]
            loading = self.segment._request is not None and self.segment.equipment is None
            if not (busy or loading or not self.segment.tune.settled or QThreadPool.globalInstance().activeThreadCount()):
                break
            QTest.qWait(10)
        else:
            raise AssertionError(f"something runs on without end: {busy}")
        QApplication.processEvents()

    def own(self, layer):
        """Keep what a user has made or changed, to find it again."""
        self.mine[layer] = np.array(layer.data)

    def shown(self):
        """The settings that the form shows, read by other eyes than the widget's own."""
        form = self.segment.form
        tile, size = form.tile.currentText(), form.min_size.value()
        return SegmentSettings(
            write=int(tile) if tile.isdecimal() else None,
            min_size=None if size < 0 else size,
            bandwidth=form.bandwidth.value() or None,
            allow_noncompliant=form.allow.isChecked(),
            device="cpu",
        )

    def results(self):
        return [layer for layer in self.viewer.layers if isinstance(layer, Labels) and is_result(layer)]

    # -- acts ----------------------------------------------------------------------------------------------------------

    @rule(seed=st.integers(0, 3))
    def add_image(self, seed):
        if len(self.viewer.layers) > 12:
            return
        pixels = np.random.default_rng(seed).integers(0, 255, (24 + 4 * seed, 32)).astype(np.uint8)
        self.own(self.viewer.add_layer(ImageLayer(pixels, name=f"image {self.count}")))
        self.count += 1

    @rule(place=PLACES)
    def add_own_labels(self, place):
        """They have the name that those of a run have."""
        if len(self.viewer.layers) > 12:
            return
        image = self.segment.layer
        name = "cells" if image is None else f"{image.name} instances"
        labels = np.zeros((24, 32), np.int32)
        labels[2:9, 3:11] = place % 7 + 1
        self.own(self.viewer.add_layer(Labels(labels, name=name)))

    @rule(place=PLACES)
    def choose_layer(self, place):
        choices = list(self.segment.form.layers.choices)
        if choices:
            self.segment.form.layers.value = choices[place % len(choices)]

    @rule(number=st.integers(0, 1))
    def choose_model(self, number):
        self.segment.form.model.choose_file(self.models[number])
        self.settle()

    @rule(
        tile=st.sampled_from(TILES),
        size=st.integers(-1, 20),
        width=st.sampled_from([0.0, 0.5, 2.0]),
        keep=st.booleans(),
        allow=st.booleans(),
    )
    def wish(self, tile, size, width, keep, allow):
        form = self.segment.form
        form.allow.setChecked(allow)
        form.tile.setCurrentText(tile)
        self.segment._on_tile()  # as Return does
        form.min_size.setValue(size)
        form.bandwidth.setValue(width)
        form.keep_embedding.setChecked(keep)

    @rule()
    def run_to_its_end(self):
        widget = self.segment
        widget._refresh()
        if not widget.run_button.isEnabled():
            widget.run()
            assert not widget.running, "a run began that cannot be"
            return
        model, wish, image = load_model(widget.form.model.value()), self.shown(), np.array(widget.layer.data)
        widget.run_button.click()
        assert widget.running and not widget.run_button.isEnabled()
        self.settle()
        expected = segment(image, model, wish)
        found = widget._instances
        assert found in self.viewer.layers and found not in self.mine
        np.testing.assert_array_equal(found.data, expected.labels)

    @rule(wait=st.integers(0, 30))
    def run_and_cancel(self, wait):
        widget, before = self.segment, list(self.viewer.layers)
        widget._refresh()
        widget.run()
        QTest.qWait(wait)
        if widget.running:
            widget.cancel()
            self.settle()
            if widget.status.text().startswith("Cancelled"):
                assert list(self.viewer.layers) == before, "a cancelled run left a layer"
        self.settle()

    @rule()
    def preview(self):
        self.segment._refresh()
        if self.segment.preview_button.isEnabled():
            self.segment.preview()
            self.settle()

    @rule(place=PLACES, where=st.tuples(st.integers(0, 20), st.integers(0, 28)))
    def paint(self, place, where):
        if not self.results():
            return
        layer = self.results()[place % len(self.results())]
        layer.paint(where, 5)
        self.own(layer)

    @rule(size=st.integers(0, 40), width=st.sampled_from([0.3, 0.75, 1.5]))
    def tune(self, size, width):
        panel = self.segment.tune
        panel.form.expand()
        self.settle()
        panel.form.min_size.setValue(size)
        panel.form.bandwidth.setValue(width)
        self.settle()

    @rule(place=PLACES, verb=st.sampled_from(["delete", "merge", "undo", "redo", "accept"]))
    def edit(self, place, verb):
        widget = self.correct
        choices = list(widget.form.layers.choices)
        if not choices:
            return
        widget.form.layers.value = choices[place % len(choices)]
        self.settle()
        layer, correction = widget.layer, widget.correction
        if correction is None:
            return
        ids = [int(number) for number in np.unique(layer.data) if number][:2]
        if verb in ("undo", "redo") and (correction.edits if verb == "undo" else correction.undone):
            try:
                getattr(widget, verb)()
            except ShiftsegError:  # pixels were painted since, or tuned
                return
        elif verb == "delete" and ids:
            widget.delete(ids[0], ())
            assert not (layer.data == ids[0]).any()
        elif verb == "merge" and len(ids) > 1:
            widget.merge(tuple(ids), ())
            assert not (layer.data == ids[1]).any()
        elif verb == "accept" and not correction.accepted:
            widget.accept()
        else:
            return
        self.settle()
        self.own(layer)

    @rule(which=st.sampled_from([MeasureWidget, InspectWidget]))
    def measure(self, which):
        self.open[which].measure()
        self.settle()

    @rule(place=PLACES, what=st.sampled_from(["rename", "remove", "select", "hide"]))
    def do_in_napari(self, place, what):
        if not self.viewer.layers:
            return
        layer = self.viewer.layers[place % len(self.viewer.layers)]
        if what == "rename":
            layer.name = f"mine {place % 3}"
        elif what == "remove":
            self.viewer.layers.remove(layer)
            self.mine.pop(layer, None)
        elif what == "select":
            self.viewer.layers.selection.active = layer
        else:
            layer.visible = not layer.visible
        self.settle()

    @rule(made=st.sampled_from(KINDS))
    def close_and_open_again(self, made):
        self._close(made)
        self._open(made)
        self.settle()

    # -- what always holds ---------------------------------------------------------------------------------------------

    @invariant()
    def nothing_has_failed(self):
        assert not self.errors.seen, self.errors.seen
        assert not self.exceptions, self.exceptions

    @invariant()
    def what_is_mine_is_as_it_was(self):
        for layer, data in self.mine.items():
            assert layer in self.viewer.layers, f"{layer.name} was removed"
            np.testing.assert_array_equal(layer.data, data, err_msg=layer.name)

    @invariant()
    def run_is_on_where_a_plan_is_possible(self):
        widget = self.segment
        self.settle()
        widget._refresh()
        possible = widget.equipment is not None and widget.equipment.model is not None and widget.layer is not None
        if possible:
            try:
                decide(widget.image(), widget.equipment.model, widget.settings())
            except ShiftsegError:
                possible = False
        assert widget.run_button.isEnabled() == possible, widget.form.verdict.text()

    @invariant()
    def no_thread_is_left(self):
        self.settle()
        if self.threads is None:
            self.threads = threading.active_count()
        assert threading.active_count() <= self.threads, threading.enumerate()


def walk(qtbot, monkeypatch, save_tiny, tmp_path, walks, steps):
    monkeypatch.setenv("HOME", str(tmp_path))
    first, second = save_tiny("one"), save_tiny("two", window=(4, 4), embedding_dim=3)
    with qtbot.capture_exceptions() as seen:
        machine = type("Machine", (Widgets,), {"models": (first, second), "exceptions": seen})
        wish = settings(
            max_examples=walks,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),
        )
        run_state_machine_as_test(machine, settings=wish)
    assert not seen


def test_no_order_of_acts_harms_what_the_user_has_made(qtbot, monkeypatch, save_tiny, tmp_path):
    walk(qtbot, monkeypatch, save_tiny, tmp_path, WALKS, 4)


@pytest.mark.slow
def test_no_long_order_of_acts_harms_what_the_user_has_made(qtbot, monkeypatch, save_tiny, tmp_path):
    walk(qtbot, monkeypatch, save_tiny, tmp_path, 10 * WALKS, 30)
