"""Who works on the blocks: this process, or the workers of a dask cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from types import TracebackType
from typing import Protocol, Self

from napari_shiftseg.events import Background, BlockDone, Event, Stage, side_by_side
from napari_shiftseg.geometry import Block
from napari_shiftseg.instances import Numbers
from napari_shiftseg.machine import cores, give_back_memory
from napari_shiftseg.segmentation.blockwise import BlockJob, Region, Round
from napari_shiftseg.segmentation.constants import MOST_THREADS, PATIENCE, WRITERS

TITLES = {"find": "network and clustering", "reach": "undecided pixels", "settle": "labels"}


class Engine(Protocol):
    """Runs a pass over the blocks that are not done yet."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def run(self, which: Round, tasks: Sequence[tuple[int, int]], done: set[tuple[int, int]]) -> Generator[Event, None, None]:
        """Yield events; for each block that gets finished that of `block_event`.

        Parameters
        ----------
        tasks : sequence of (int, int)
            Frame and block.
        done : set
            Those that an earlier run has finished.
        """


def block_event(blocks: BlockJob, which: Round, block: tuple[int, int], *, done: int, total: int) -> Event:
    """That a pass has finished a block: a `BlockDone` where it can be seen, a bare event where the rest was looked for."""
    if which == "reach":
        return Event(done=done, total=total)
    frame, number = block
    return BlockDone(done=done, total=total, window=blocks.window(frame, blocks.layout.grid[number]), final=which == "settle")


class LocalEngine:
    """One block after the other in this process, in a pipeline: one is read, one is in the network, one is clustered."""

    def __init__(self, blocks: BlockJob) -> None:
        self._blocks = blocks
        self._reading, self._clustering = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._behind: deque[tuple[tuple[int, int], Background[None]]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._reading.shutdown(cancel_futures=True)
        for _, clustering in self._behind:
            clustering.stop()
        self._clustering.shutdown()

    def run(self, which: Round, tasks: Sequence[tuple[int, int]], done: set[tuple[int, int]]) -> Generator[Event, None, None]:
        """As `Engine.run`, with the events of the tiles in between."""
        left = [task for task in tasks if task not in done]
        count = len(tasks) - len(left)
        yield Stage(done=count, total=len(tasks), text=TITLES[which])
        blocks = self._found(left, count, len(tasks)) if which == "find" else self._later(which, left)
        for block in blocks:
            if isinstance(block, Event):
                yield block
                continue
            count += 1
            give_back_memory()
            yield block_event(self._blocks, which, block, done=count, total=len(tasks))

    def _found(self, left: Sequence[tuple[int, int]], before: int, total: int) -> Iterator[Event | tuple[int, int]]:
        """Events of pass 1, and each block when it is finished."""
        job = self._blocks
        job.expect(left)
        following: Future[Region] | None = None
        finished = before
        for index, (frame, number) in enumerate(left):
            block = job.layout.grid[number]
            region = following.result() if following is not None else job.read(frame, block)
            following = None
            if index + 1 < len(left):
                after, next_number = left[index + 1]
                following = self._reading.submit(job.read, after, job.layout.grid[next_number])
            seen = yield from job.embed_steps(frame, block, region)
            while self._behind:
                yield from self._waited(finished, total)
                finished += 1
            clustering = job.cluster_steps(frame, block, seen, threads=min(MOST_THREADS, job.job.device.spare_cores))
            self._behind.append(((frame, number), Background(clustering, self._clustering)))
            # the thread alone holds what the block sees
            del region, seen, clustering
        while self._behind:
            yield from self._waited(finished, total)
            finished += 1

    def _waited(self, finished: int, total: int) -> Iterator[Event | tuple[int, int]]:
        """The block whose clustering ends; a bare event now and then, so that cancelling does not wait."""
        task, clustering = self._behind[0]
        while not clustering.ready(PATIENCE):
            yield Event(done=finished, total=total)
        self._behind.popleft()
        clustering.result()
        yield task

    def _later(self, which: Round, left: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Each block that one of the passes after the first has finished."""
        job = self._blocks
        for frame, blocks in groupby(left, key=lambda task: task[0]):
            numbers, finish = (job.join(frame), job.reach) if which == "reach" else (job.join_rest(frame), job.settle)

            def finished(
                task: tuple[int, int],
                numbers: Numbers = numbers,
                finish: Callable[[int, Block, Numbers], None] = finish,
            ) -> tuple[int, int]:
                finish(task[0], job.layout.grid[task[1]], numbers)
                return task

            yield from side_by_side(finished, list(blocks), min(WRITERS, cores()))
