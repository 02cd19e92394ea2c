"""`start_job`: the one way in which this plugin runs something in a thread.

No exception escapes the worker: superqt drops a RuntimeError of a generator (which is what torch raises) without a signal,
and treats a returned exception as a raised one. So every job ends with exactly one `End`.
"""

import atexit
import logging
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from threading import Event as Flag
from threading import Lock
from typing import Any, Literal

from napari.qt.threading import GeneratorWorker, create_worker
from qtpy.compat import isalive

from napari_shiftseg.errors import ShiftsegError, memory_ran_out
from napari_shiftseg.events import Event
from napari_shiftseg.plugin.constants import LAST_WAIT

Steps = Generator[Event, None, Any]

# Two threads that import PyTorch at once, by way of different modules, can see it half made: "operator ... does not exist".
_LOADING = Lock()


@dataclass(frozen=True, kw_only=True, eq=False)
class End:
    """How a job ended."""

    state: Literal["done", "cancelled", "error"]
    value: Any = None  # the result of a job that is done, the exception of one that failed, else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """A job in a thread; `cancel` stops it before its next step."""

    worker: GeneratorWorker
    cancelled: Flag = field(default_factory=Flag)

    def cancel(self) -> None:
        """Ask the job to stop; it ends with the state "cancelled"."""
        self.cancelled.set()


def start_job(
    steps: Callable[[], Steps],
    *,
    on_end: Callable[[End], None],
    on_event: Callable[[Event], None] | None = None,
    torch: bool = True,
) -> Job:
    """Run the generator that `steps` makes in a thread.

    Parameters
    ----------
    steps : callable
        Makes a generator of events; called in the thread as well, so that it may import and read files.
    on_end : callable
        Called once in the main thread with an `End`; also when napari stopped the job because its window closes, so a
        widget has to ask first whether it is still there (`qtpy.compat.isalive`).
    on_event : callable, optional
        Called in the main thread with every event.
    torch : bool
        Whether the steps need PyTorch, which takes seconds to load the first time.

    Returns
    -------
    Job
    """
    cancelled = Flag()
    # napari's task manager knows the worker: it asks before it closes a window in which something runs
    worker = create_worker(run_guarded, steps, cancelled, torch=torch, _ignore_errors=True, _worker_class=_Worker)
    worker.returned.connect(on_end)
    if on_event is not None:
        worker.yielded.connect(on_event)
    worker.finished.connect(partial(_let_go, worker))
    worker.start()
    return Job(worker=worker, cancelled=cancelled)


class _Worker(GeneratorWorker):
    """What runs a job: whoever stops it, and also where Qt is gone since the process ends, its steps are closed.

    superqt would leave them where they are, with all that they hold, and warn of signals that were deleted.
    """

    def __init__(self, run: Callable[..., Steps], steps: Callable[[], Steps], cancelled: Flag, *, torch: bool):
        super().__init__(_no_steps)  # for superqt would keep those that it is given, and all that they work on, for good
        self._guarded, self._cancelled = run(steps, cancelled, torch=torch), cancelled

    def quit(self) -> None:
        """As napari asks when its window closes."""
        self._cancelled.set()

    def run(self) -> None:
        """As Qt asks, in a thread."""
        _RUNNING.add(self)
        try:
            super().run()
        except RuntimeError:  # of a signal: nobody is left to hear how it ended
            if isalive(self.signals):
                raise
        finally:
            _RUNNING.discard(self)

    def work(self) -> End:
        """The steps, to their end."""
        while True:
            try:
                event = next(self._guarded)
            except StopIteration as stop:
                return stop.value
            try:
                self.yielded.emit(event)
            except RuntimeError:  # Qt is gone
                self.quit()


def _no_steps() -> Steps:
    yield from ()


_RUNNING: set[_Worker] = set()


@atexit.register  # before that of Qt, which was imported earlier: it deletes the signals of workers that send
def _stop_all() -> None:
    """As the process ends, stop all jobs, and wait a little for them to close what they hold."""
    until = time.monotonic() + LAST_WAIT
    for worker in tuple(_RUNNING):
        worker.quit()
    while _RUNNING and time.monotonic() < until:
        time.sleep(0.01)


def _let_go(worker: GeneratorWorker) -> None:
    """The list of tasks of napari keeps workers for good, and with them what is connected: images and results."""
    for signal in (worker.returned, worker.yielded):
        with suppress(TypeError, RuntimeError):  # nothing is connected
            signal.disconnect()


def once(function: Callable[..., Any], *given: Any) -> Steps:
    """The steps of a job that is one call."""
    return function(*given)
    yield  # jobs are generators


def cancel_all(jobs: Iterable[Job], *_: Any) -> None:
    """Cancel jobs whose widget is gone; takes what a signal sends."""
    for job in jobs:
        job.cancel()


def run_guarded(steps: Callable[[], Steps], cancelled: Flag, *, torch: bool = True) -> Generator[Event, None, End]:
    """The body of every worker: pass events on, look for cancelling before each step, turn exceptions into an `End`."""
    try:
        with _LOADING:
            if torch and not cancelled.is_set():
                for name in ("napari_shiftseg.segmentation", "pandas"):  # which napari would load in the thread of the window
                    import_module(name)
        with closing(steps()) as running:
            while not cancelled.is_set():
                try:
                    event = next(running)
                except StopIteration as stop:
                    return End(state="done", value=stop.value)
                yield event
    except Exception as exc:  # whatever it is, the window has to hear of it
        if not isinstance(exc, ShiftsegError):
            logging.getLogger(__name__).error("a job of napari-shiftseg failed", exc_info=exc)
        return End(state="error", value=exc)
    return End(state="cancelled")


def sentence(exc: Exception) -> str:
    """An exception as one sentence; ours are sentences already."""
    text = str(exc) if isinstance(exc, ShiftsegError) else f"{type(exc).__name__}: {exc}".splitlines()[0]
    if memory_ran_out(exc) and not isinstance(exc, ShiftsegError):
        text = f"memory ran out ({text}); use smaller tiles, or close what else takes memory."
    return text[:1].upper() + text[1:]
