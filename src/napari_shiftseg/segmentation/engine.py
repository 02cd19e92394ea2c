"""Who works on the blocks: this process, or the workers of a dask cluster."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias

from napari_shiftseg.events import BlockDone, Event, Stage
from napari_shiftseg.segmentation.blockwise import BlockJob, Region

__all__ = ["TITLES", "Engine", "LocalEngine", "Pass"]

Pass: TypeAlias = Literal["find", "settle"]

TITLES = {"find": "network and clustering", "settle": "labels"}


class Engine(Protocol):
    """Runs a pass over the blocks that are not done yet."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def run(self, which: Pass, tasks: Sequence[tuple[int, int]], done: set[tuple[int, int]]) -> Generator[Event, None, None]:
        """Yield events; a `BlockDone` for each block that gets finished.

        Parameters
        ----------
        which : {"find", "settle"}
        tasks : sequence of (int, int)
            Frame and block.
        done : set
            Those that an earlier run has finished.
        """


class LocalEngine:
    """One block after the other in this process; the next one is read while the network works."""

    def __init__(self, job: BlockJob) -> None:
        self._job = job
        self._reading = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._reading.shutdown(cancel_futures=True)

    def run(self, which: Pass, tasks: Sequence[tuple[int, int]], done: set[tuple[int, int]]) -> Generator[Event, None, None]:
        """As `Engine.run`, with the events of the tiles and windows in between."""
        job = self._job
        left = [task for task in tasks if task not in done]
        yield Stage(done=len(tasks) - len(left), total=len(tasks), text=TITLES[which])
        if which == "find":
            job.expect(left)
        numbers = {}
        following: Future[Region] | None = None
        for index, (frame, number) in enumerate(left):
            block = job.layout.grid[number]
            if which == "find":
                region = following.result() if following is not None else job.read(frame, block)
                following = None
                if index + 1 < len(left):
                    after, next_number = left[index + 1]
                    following = self._reading.submit(job.read, after, job.layout.grid[next_number])
                yield from job.find_steps(frame, block, region)
            else:
                if frame not in numbers:
                    numbers = {frame: job.join(frame)}
                job.settle(frame, block, numbers[frame])
            count = len(tasks) - len(left) + index + 1
            yield BlockDone(done=count, total=len(tasks), window=job.window(frame, block), final=which == "settle")
