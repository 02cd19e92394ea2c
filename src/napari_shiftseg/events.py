"""What long verbs report while they run: they are generator functions that yield events and return a result.

The API drains them, the command line prints them, napari threads them; cancelling is not asking for the next event.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["BlockDone", "Estimate", "Event", "Stage", "TileDone", "TrainStep", "WindowDone", "drain"]

Result = TypeVar("Result")


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
    pull: float
    push: float
    foreground: float


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
