"""What long verbs report while they run; and work in threads: side by side, made ahead, in the background.

Long verbs are generator functions that yield events and return a result. The API drains them, the command line prints them,
napari threads them; cancelling is not asking for the next event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import repeat
from threading import Event as Flag
from typing import Any, Generic, TypeVar, cast

Given = TypeVar("Given")
Result = TypeVar("Result")

_END = object()


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events; `done` of `total` steps of the present stage are finished."""

    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Stage(Event):
    """A new stage begins; `total` counts its steps (0: not known), `text` says what it does."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Estimate(Stage):
    """What a run will take, said before it begins: `seconds` of time, and bytes of `memory` and `disk` at most."""

    seconds: float
    memory: int
    disk: int


@dataclass(frozen=True, kw_only=True)
class TileDone(Event):
    """One tile was predicted and pasted; `write` is its window in the result (slices, pixels)."""

    write: tuple[slice, ...]


@dataclass(frozen=True, kw_only=True)
class WindowDone(Event):
    """One window of the labelling lattice was clustered; `window` in result pixels."""

    window: tuple[slice, ...]


@dataclass(frozen=True, kw_only=True)
class BlockDone(Event):
    """One block of an image larger than memory is finished.

    `window` is its place in the result (one slice per axis, pixels); `final` says whether it holds its labels, or as yet only
    fragments of instances.
    """

    window: tuple[slice, ...]
    final: bool


@dataclass(frozen=True, kw_only=True)
class TrainStep(Event):
    """One optimiser step; losses are means over the batch."""

    loss: float
    # pull, push: of the discriminative loss; overlap, seed: of the Gaussian one
    pull: float = 0.0
    push: float = 0.0
    foreground: float
    overlap: float = 0.0
    seed: float = 0.0


def drain(steps: Generator[Event, None, Result], on_event: Callable[[Event], None] | None = None) -> Result:
    """Run a generator of events to its end and return its result.

    Parameters
    ----------
    steps : generator
        Yields events, returns a result.
    on_event : callable, optional
        Called with each event.
    """
    while True:
        try:
            event = next(steps)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        if on_event is not None:
            on_event(event)


def side_by_side(call: Callable[[Given], Result], items: Iterable[Given], threads: int) -> Generator[Result]:
    """Results of a call for each item, in the order of the items.

    `threads`: calls that are in work at once; with 1, each runs when it is asked for. At most as many results wait to be
    fetched.
    """
    if threads <= 1:
        yield from map(call, items)
    else:
        yield from _begun_early(call, items, threads, most=threads)


def ahead(items: Iterable[Result], most: int) -> Generator[Result]:
    """The same items in the same order; one thread makes them, at most `most` before they are asked for.

    An error of the thread is raised where its item would have come. Closing the generator ends the thread after the item that
    it is making, and waits for that. `most`: 1 or more.
    """
    source = iter(items)
    with closing(_begun_early(lambda _: next(source, _END), repeat(None), 1, most=most)) as made:
        for item in made:
            if item is _END:
                return
            yield cast(Result, item)


def _begun_early(call: Callable[[Given], Result], items: Iterable[Given], threads: int, *, most: int) -> Generator[Result]:
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
