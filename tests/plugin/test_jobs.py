"""A job ends with one `End`, whatever happens in it."""

import gc
import subprocess
import sys
import threading
import weakref

import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from no_memory import FORMS, OTHERS, in_turn

from napari_shiftseg.errors import ImageError
from napari_shiftseg.events import Stage
from napari_shiftseg.plugin.jobs import End, once, run_guarded, sentence, start_job


def steps(count, result="result", error=None):
    for number in range(count):
        yield Stage(done=number, total=count, text="counting")
    if error is not None:
        raise error
    return result


def ended(qtbot, make, **options):
    """The `End` of a job and the events before it."""
    ends, events = [], []
    start_job(make, on_end=ends.append, on_event=events.append, **options)
    qtbot.waitUntil(lambda: bool(ends), timeout=60_000)
    qtbot.wait(20)
    assert len(ends) == 1
    return ends[0], events


def test_a_finished_job_gives_its_result_and_all_events(qtbot):
    end, events = ended(qtbot, lambda: steps(3))
    assert (end.state, end.value) == ("done", "result")
    assert [event.done for event in events] == [0, 1, 2]


@pytest.mark.parametrize("end", ["done", "cancelled", "error"])
def test_what_waited_for_a_job_is_let_go_when_it_ends(make_napari_viewer, qtbot, end):
    """Each run took a mebibyte for good: napari's list of tasks keeps every worker."""

    class Held:
        """As an image that a widget waits for."""

    viewer, held, ended = make_napari_viewer(), Held(), []
    gone = weakref.ref(held)
    job = start_job(
        # what a job works on, an image, goes as well; of an error pytest keeps what was logged, and with it the frames
        lambda held=None if end == "error" else held: once(lambda text, _: int(text), "x" if end == "error" else "1", held),
        on_end=lambda found, held=held: ended.append(found.state),
        torch=False,
    )
    if end == "cancelled":
        job.cancel()
    del held
    qtbot.waitUntil(lambda: bool(ended), timeout=60_000)
    qtbot.waitUntil(lambda: gc.collect() >= 0 and gone() is None, timeout=60_000)
    assert ended in ([end], ["done"]) and viewer is not None


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error"), ValueError("no"), ImageError("the image is empty.")], ids=lambda e: type(e).__name__
)
def test_an_exception_is_delivered_not_swallowed(qtbot, error):
    """A generator worker of napari drops a RuntimeError without a signal."""
    end, events = ended(qtbot, lambda: steps(2, error=error))
    assert (end.state, end.value, len(events)) == ("error", error, 2)


def test_an_exception_before_the_first_step_is_delivered(qtbot):
    def broken():
        raise RuntimeError("no generator at all")

    end, _ = ended(qtbot, broken)
    assert end.state == "error"


def test_a_returned_exception_is_a_result(qtbot):
    value = ValueError("only a value")
    assert ended(qtbot, lambda: steps(1, result=value))[0].value is value


def test_cancelling_stops_before_the_next_step(qtbot):
    reached, go, ends = [], threading.Event(), []

    def slow():
        for number in range(5):
            reached.append(number)
            yield Stage(done=number, total=5, text="counting")
            go.wait(5)

    job = start_job(slow, on_end=ends.append)
    qtbot.waitUntil(lambda: reached == [0], timeout=60_000)
    job.cancel()
    go.set()
    qtbot.waitUntil(lambda: bool(ends), timeout=60_000)
    assert ends[0].state == "cancelled"
    assert reached[-1] <= 1


def test_cancelling_closes_the_generator():
    closed, flag = [], threading.Event()

    def careful():
        try:
            yield Stage(done=0, total=2, text="first")
            yield Stage(done=1, total=2, text="second")
        finally:
            closed.append(True)

    running = run_guarded(careful, flag)
    next(running)
    flag.set()
    with pytest.raises(StopIteration) as stop:
        next(running)
    assert isinstance(stop.value.value, End)
    assert stop.value.value.state == "cancelled"
    assert closed


def test_a_job_that_napari_stops_ends_as_cancelled(qtbot):
    """The task manager of napari quits all workers when the window closes; what their steps hold is let go."""
    go, began, ends, closed = threading.Event(), threading.Event(), [], []

    def endless():
        try:
            while True:
                yield Stage(done=0, total=0, text="on")
                began.set()
                go.wait(0.01)
        finally:
            closed.append(True)

    job = start_job(endless, on_end=ends.append)
    qtbot.waitUntil(began.is_set, timeout=60_000)
    job.worker.quit()
    qtbot.waitUntil(lambda: bool(ends), timeout=60_000)
    assert ends[0].state == "cancelled" and closed


# argv: seconds that the end waits, and what ends first
ENDING = """
import sys, time
import napari, numpy as np
from qtpy.compat import isalive
from qtpy.QtWidgets import QApplication
from napari_shiftseg.plugin import jobs
from napari_shiftseg.plugin.measure_widget import MeasureWidget
import napari_shiftseg.plugin.measure_widget as module

jobs.LAST_WAIT = float(sys.argv[1])
seen = []

def slowly(*given, original=module.measure_layer_steps):
    running = original(*given)
    try:
        for event in running:
            while True:
                yield event
                seen.append(event)
                time.sleep(0.3)
    finally:
        print("closed", "in time" if isalive(widget.jobs[0].worker.signals) else "late", flush=True)

module.measure_layer_steps = slowly
viewer = napari.Viewer(show=False)
viewer.add_labels(np.kron(np.arange(1, 401).reshape(20, 20), np.ones((8, 8), int)))
widget = MeasureWidget(viewer)
viewer.window.add_dock_widget(widget)
widget.measure()
until = time.monotonic() + 120
while not seen and time.monotonic() < until:
    QApplication.processEvents()
if sys.argv[2] == "loop":
    from qtpy.QtCore import QTimer
    QTimer.singleShot(0, QApplication.quit)
    napari.run(force=True)
print("leaving after", min(1, len(seen)), flush=True)
"""


@pytest.mark.gui
@pytest.mark.parametrize(
    ("wait", "what", "closed"), [("2", "process", "in time"), ("0", "process", "late"), ("2", "loop", "in time")]
)
def test_what_ends_while_a_job_runs_says_nothing_and_closes_its_steps(wait, what, closed):
    """superqt warned of signals that Qt had deleted, and left the steps where they were."""
    code = [sys.executable, "-c", ENDING, wait, what]
    done = subprocess.run(code, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0 and not {"deleted", "Traceback"} & set(done.stderr.replace(":", " ").split()), done.stderr
    assert sorted(done.stdout.splitlines()) == [f"closed {closed}", "leaving after 1"], done.stdout


def test_our_errors_are_sentences_and_others_name_their_class():
    assert sentence(ImageError("the image is empty.")) == "The image is empty."
    assert sentence(RuntimeError("first line\nsecond line")) == "RuntimeError: first line"


@pytest.mark.parametrize("form", **in_turn(FORMS))
def test_memory_that_ran_out_is_a_sentence_that_says_what_to_do(form):
    text = sentence(form())
    assert text.startswith("Memory ran out (") and "use smaller tiles" in text and "\n" not in text


@pytest.mark.parametrize("form", **in_turn(OTHERS))
def test_other_errors_do_not_say_so(form):
    assert "Memory ran out" not in sentence(form())
