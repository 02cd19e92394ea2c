"""Work in threads: calls side by side in order, items made ahead, and generators of events that run in the background."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import repeat
from threading import Event as Flag
from typing import Any, Generic, TypeVar, cast

__all__ = ["Background", "ahead", "side_by_side"]

Given = TypeVar("Given")
Result = TypeVar("Result")

_END = object()


def side_by_side(call: Callable[[Given], Result], items: Iterable[Given], threads: int) -> Generator[Result]:
    """Results of a call for each item, in the order of the items.

    Parameters
    ----------
    call : callable
    items : iterable
    threads : int
        Calls that are in work at once; with 1, each runs when it is asked for. At most as many results wait to be fetched.
    """
    if threads <= 1:
        yield from map(call, items)
    else:
        yield from _begun_early(call, items, threads, threads)


def ahead(items: Iterable[Result], most: int) -> Generator[Result]:
    """The same items in the same order; one thread makes them, at most `most` before they are asked for.

    An error of the thread is raised where its item would have come. Closing the generator ends the thread after the item that
    it is making, and waits for that.

    Parameters
    ----------
    items : iterable
    most : int
        1 or more.
    """
    source = iter(items)
    with closing(_begun_early(lambda _: next(source, _END), repeat(None), 1, most)) as made:
        for item in made:
            if item is _END:
                return
            yield cast(Result, item)


def _begun_early(call: Callable[[Given], Result], items: Iterable[Given], threads: int, most: int) -> Generator[Result]:
    """Results in the order of the items; at most `most` calls are begun before theirs are asked for."""
    begun: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="shiftseg")
    try:
        for item in items:
            begun.append(pool.submit(call, item))
            if len(begun) > most:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class Background(Generic[Result]):
    """A generator of events that runs to its end in a thread; nobody sees its events.

    Parameters
    ----------
    steps : generator
        Yields events, returns a result.
    pool : ThreadPoolExecutor
        Whose thread it takes: each new thread would keep memory of its own.
    """

    def __init__(self, steps: Generator[Any, None, Result], pool: ThreadPoolExecutor) -> None:
        self._steps = steps
        self._unwanted = Flag()
        self._future = pool.submit(self._run)

    def _run(self) -> Result | None:
        while not self._unwanted.is_set():
            try:
                next(self._steps)
            except StopIteration as stop:
                result: Result = stop.value
                return result
        self._steps.close()
        return None

    def ready(self, seconds: float) -> bool:
        """Whether it is at its end, after waiting for so long at most."""
        try:
            self._future.exception(seconds)
        except TimeoutError:
            return False
        return True

    def result(self) -> Result | None:
        """What the generator returned, waiting for it; its error is raised here. None if it was stopped."""
        return self._future.result()

    def stop(self) -> None:
        """End it at its next event, and wait for that."""
        self._unwanted.set()
        self._future.exception()
