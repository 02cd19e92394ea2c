"""Threads: results in order, errors as they are, and nothing that goes on after it was stopped."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from napari_shiftseg.events import Background, Event, ahead, side_by_side


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


def test_what_is_made_ahead_keeps_its_order_and_goes_no_further_than_it_may():
    made = []

    def items():
        for n in range(6):
            made.append(threading.current_thread())
            yield n

    steps = ahead(items(), 2)
    assert not made
    assert next(steps) == 0
    steps.close()
    assert len(made) <= 3 and len(set(made)) == 1
    assert made[0] is not threading.main_thread() and not made[0].is_alive()
    assert list(ahead(items(), 2)) == [0, 1, 2, 3, 4, 5]


def test_an_error_comes_where_its_item_would_have_come():
    def items():
        yield from (0, 1)
        raise OSError("the disk is gone")

    steps = ahead(items(), 4)
    assert [next(steps), next(steps)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        next(steps)


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
