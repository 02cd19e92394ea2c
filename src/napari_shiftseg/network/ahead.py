"""`ahead`: the next items are made in a thread while the present one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

__all__ = ["ahead"]

Item = TypeVar("Item")

_END = object()


def ahead(items: Iterable[Item], most: int) -> Generator[Item]:
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
    with ThreadPoolExecutor(1, thread_name_prefix="shiftseg-reader") as thread:
        waiting = deque(thread.submit(next, source, _END) for _ in range(most))
        try:
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(thread.submit(next, source, _END))
                yield cast(Item, item)
        finally:
            for future in waiting:
                future.cancel()
