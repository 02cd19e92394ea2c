"""Errors carry their remedy; events are drained to a result."""

import pickle

import pytest

from napari_shiftseg import errors
from napari_shiftseg.errors import ComplianceError, ShiftsegError, SizeError, TilingError
from napari_shiftseg.events import Event, Stage, TileDone, TrainStep, WindowDone, drain

KINDS = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_every_error_is_ours_and_none_is_a_runtime_error(kind):
    """A generator worker of napari swallows a RuntimeError without a signal."""
    assert issubclass(kind, ShiftsegError) and not issubclass(kind, RuntimeError)
    assert str(kind("a sentence.")) == "a sentence."


def test_all_errors_are_public():
    defined = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, Exception)}
    assert defined == set(errors.__all__)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        ("SettingsError", ValueError),
        ("SizeError", ValueError),
        ("TilingError", ValueError),
        ("ComplianceError", ValueError),
        ("DeviceError", ValueError),
        ("OutOfMemoryError", MemoryError),
        ("ImageError", ValueError),
        ("ModelError", ValueError),
        ("ResultError", ValueError),
    ],
)
def test_callers_may_catch_the_builtin(kind, builtin):
    assert issubclass(getattr(errors, kind), builtin)


def test_a_size_error_carries_legal_sizes():
    error = TilingError("use 8.", nearest=(8,))
    assert isinstance(error, SizeError) and error.nearest == (8,)
    assert SizeError("no size.").nearest == ()
    assert ComplianceError("a rule.", violations=("v",)).violations == ("v",)


def test_errors_cross_process_borders():
    """A worker process hands its errors over by pickle."""
    again = pickle.loads(pickle.dumps(TilingError("use 8.", nearest=(8,))))
    assert (str(again), again.nearest) == ("use 8.", (8,))


def steps(count, fail=None):
    for n in range(count):
        if n == fail:
            raise ShiftsegError("step failed.")
        yield Event(done=n + 1, total=count)
    return "result"


def test_drain_hands_on_every_event_and_returns_the_result():
    events = []
    assert drain(steps(3), events.append) == "result"
    assert events == [Event(done=n, total=3) for n in (1, 2, 3)]
    assert drain(steps(0)) == "result"


def test_drain_lets_errors_through():
    events = []
    with pytest.raises(ShiftsegError, match="step failed"):
        drain(steps(3, fail=2), events.append)
    assert len(events) == 2


def test_an_error_of_the_listener_stops_the_work():
    def stop(event):
        raise KeyboardInterrupt

    generator = steps(3)
    with pytest.raises(KeyboardInterrupt):
        drain(generator, stop)


@pytest.mark.parametrize(
    "event",
    [
        Stage(done=0, total=0, text="network"),
        TileDone(done=1, total=2, write=(slice(0, 8),)),
        WindowDone(done=1, total=2, window=(slice(0, 8),)),
        TrainStep(done=1, total=2, loss=1.0, pull=0.5, push=0.5, foreground=0.0),
    ],
    ids=lambda e: type(e).__name__,
)
def test_events_are_frozen_values_with_progress(event):
    assert isinstance(event, Event) and event.done <= max(event.total, event.done)
    with pytest.raises(AttributeError):
        event.done = 5
