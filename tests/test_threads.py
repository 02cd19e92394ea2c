"""Threads: results in order, errors as they are, and nothing that goes on after it was stopped."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from napari_shiftseg.events import Event
from napari_shiftseg.threads import Background, side_by_side


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_order(threads):
    def slow(number):
        time.sleep(0.02 * (number % 3 == 0))
        return number**2

    assert list(side_by_side(slow, list(range(8)), threads)) == [n**2 for n in range(8)]


def test_no_more_is_begun_than_asked_for():
    begun = []
    results = side_by_side(begun.append, list(range(100)), 2)
    next(results)
    results.close()
    assert len(begun) <= 6


def test_an_error_arrives_as_what_it_is():
    def fail(number):
        raise KeyError(number)

    with pytest.raises(KeyError):
        list(side_by_side(fail, [1, 2], 2))

    def steps():
        yield Event(done=0, total=1)
        raise KeyError(1)

    background = Background(steps(), ThreadPoolExecutor(1))
    while not background.ready(0.1):
        pass
    with pytest.raises(KeyError):
        background.result()


def test_a_generator_in_the_background_ends_at_its_next_event_when_it_is_stopped():
    closed = []

    def steps():
        try:
            while True:
                time.sleep(0.01)
                yield Event(done=0, total=0)
        finally:
            closed.append(threading.current_thread() is not threading.main_thread())

    background = Background(steps(), ThreadPoolExecutor(1))
    assert not background.ready(0.05)
    background.stop()
    assert closed == [True] and background.result() is None
