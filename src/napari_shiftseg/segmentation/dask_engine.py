"""`DaskEngine`: the blocks of a run shared by the workers of a dask cluster, on this machine or on many."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from math import ceil, prod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from napari_shiftseg.errors import OutOfMemoryError, ResultError, SettingsError, ShiftsegError, memory_ran_out
from napari_shiftseg.events import Event, Stage
from napari_shiftseg.io import Image
from napari_shiftseg.machine import free_memory
from napari_shiftseg.segmentation.block_worker import describe_job, finish_blocks, open_blocks, order_of
from napari_shiftseg.segmentation.blockwise import BlockJob, Round
from napari_shiftseg.segmentation.constants import AHEAD, CONNECT, LEAST_PIXELS, SCHEDULER_PATIENCE, TRIES, WORKER_BYTES
from napari_shiftseg.segmentation.engine import TITLES, block_event
from napari_shiftseg.segmentation.job import Job
from napari_shiftseg.segmentation.layout import Layout
from napari_shiftseg.segmentation.local_workers import LocalWorkers, visible_devices

_LOG = "workers.log"
_ON = "the same call goes on where the run stopped"


def check_workers(job: Job) -> None:
    """Refuse in time what workers cannot do.

    SettingsError if dask is missing, the image is not a file, both a cluster and workers are wanted, or no scheduler answers.
    """
    settings = job.settings
    if settings.cluster is not None and settings.workers:
        raise SettingsError(
            f"{settings.workers} workers on this machine and the cluster {settings.cluster} were asked for; give one of them."
        )
    if settings.workers < 0:
        raise SettingsError(f"{settings.workers} workers were asked for; give 1 or more, or 0 for none.")
    if (needed := settings.workers * WORKER_BYTES) > (free := free_memory()):
        raise OutOfMemoryError(
            f"{settings.workers} workers take {needed / 1e9:.3g} GB or more, and {free / 1e9:.3g} GB are free; give fewer."
        )
    try:
        import distributed  # noqa: F401
    except ImportError as exc:
        raise SettingsError(
            'workers need dask, which is not installed; install it with pip install "napari-shiftseg[distributed]".'
        ) from exc
    _check_file(job.opened.image)
    if settings.cluster is not None:
        _check_scheduler(settings.cluster)


def _check_file(image: Image) -> None:
    if image.source == "memory" or not Path(image.source).exists():
        raise SettingsError(
            f"workers read the image from its file, and {image.name} is in memory only; save it as OME-Zarr or TIFF and give "
            "the path, or run without workers."
        )


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """Blocks that a worker takes through a pass, one after the other."""

    number: int
    blocks: Sequence[tuple[int, int]]
    tries: int = 0


class DaskEngine:
    """Hands out names of blocks, and hears which are finished.

    `blocks`: of this process; each worker makes its own from the files of the run. Of its settings, `cluster` is the address of
    a scheduler; else `workers` processes are started here, which share the GPUs if the run is on CUDA.
    """

    def __init__(self, blocks: BlockJob) -> None:
        check_workers(blocks.job)
        self._blocks, self._settings = blocks, blocks.job.settings
        self._run = uuid.uuid4().hex
        self._target = str(blocks.work.target)
        self._client: Any = None
        self._local: LocalWorkers | None = None
        self._counted, self._count = 0.0, 0

    def __enter__(self) -> Self:
        settings, work = self._settings, self._blocks.work
        with ExitStack() as opening:
            opening.enter_context(_silence())
            address = settings.cluster
            if address is None:
                spread = self._blocks.job.device.kind == "cuda" and settings.device in ("auto", "cuda")
                self._local = LocalWorkers(
                    settings.workers,
                    work.path / _LOG,
                    failures=TRIES["killed"],
                    devices=visible_devices() if spread else (),
                )
                address = opening.enter_context(self._local).address
            self._client = opening.enter_context(_client(address))
            told = describe_job(self._blocks, threads=_threads(settings.workers) if self._local is not None else None)
            _same_layout(open_blocks(work, told).layout, self._blocks.layout)
            work.write_json(order_of(self._run), told)
            # first of all: workers stop, instead of being waited for
            opening.callback((work.path / order_of(self._run)).unlink, missing_ok=True)
            self._open = opening.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def run(self, which: Round, tasks: Sequence[tuple[int, int]], done: set[tuple[int, int]]) -> Generator[Event, None, None]:
        """As `Engine.run`; where nothing is finished for a while, a bare `Event` repeats how far the run is."""
        left = [task for task in tasks if task not in done]
        finished, total = len(tasks) - len(left), len(tasks)
        waiting, running = self._batches(left), dict[Any, _Batch]()
        text = TITLES[which]
        yield Stage(done=finished, total=total, text=text)
        try:
            while waiting or running:
                while waiting and len(running) < AHEAD * max(1, self._workers(), self._settings.workers):
                    batch = waiting.popleft()
                    running[self._submit(which, batch)] = batch
                ready = self._ready(running)
                if text != (text := TITLES[which] if self._workers() else "waiting for workers"):
                    yield Stage(done=finished, total=total, text=text)
                if not ready:
                    yield Event(done=finished, total=total)
                for future in ready:
                    batch = running.pop(future)
                    if self._failed(future, batch):
                        waiting.append(replace(batch, tries=batch.tries + 1))  # later: a disk may be back by then
                        continue
                    for block in batch.blocks:
                        finished += 1
                        yield block_event(self._blocks, which, block, done=finished, total=total)
        finally:
            with suppress(Exception):  # of a connection that is lost
                self._client.cancel(list(running), force=True)

    def _batches(self, left: Sequence[tuple[int, int]]) -> deque[_Batch]:
        grid = self._blocks.layout.grid
        pixels = prod(min(edge, size) for edge, size in zip(grid.edge, grid.shape, strict=True))
        # few blocks are spread over all workers
        workers = max(1, self._workers(), self._settings.workers)
        size = max(1, min(ceil(LEAST_PIXELS / pixels), len(left) // (AHEAD * workers)))
        return deque(_Batch(number=at // size, blocks=tuple(left[at : at + size])) for at in range(0, len(left), size))

    def _submit(self, which: Round, batch: _Batch) -> Any:
        key = f"{which}-{self._run}-{batch.number}-{batch.tries}"
        return self._client.submit(
            finish_blocks, self._target, self._run, which, batch.blocks, key=key, priority=-batch.number, pure=False
        )

    def _workers(self) -> int:
        """How many workers there are, asked every few seconds."""
        if self._client.status != "running":
            raise self._lost()
        if self._local is not None and self._local.ended:
            raise ResultError(f"a worker process could not be started; {self._blocks.work.path / _LOG} says why.")
        if not self._count or time.monotonic() - self._counted > 2:
            try:
                self._count = len(self._client.nthreads())
            except OSError as exc:
                raise self._lost() from exc
            self._counted = time.monotonic()
        return self._count

    def _ready(self, running: dict[Any, _Batch]) -> list[Any]:
        """Those that ended, waiting for a moment."""
        from concurrent.futures import CancelledError

        from distributed import wait

        try:
            with self._client.as_current():
                return list(wait(list(running), timeout=SCHEDULER_PATIENCE, return_when="FIRST_COMPLETED").done)
        except TimeoutError:
            return []
        except (CancelledError, OSError) as exc:
            raise self._lost() from exc

    def _failed(self, future: Any, batch: _Batch) -> bool:
        """Whether the task has to be begun again; raises what the user has to know."""
        from distributed import KilledWorker

        error = None if future.status == "finished" else future.exception()
        if error is None:
            return False
        if isinstance(error, ShiftsegError):
            raise error
        if memory_ran_out(error):
            raise OutOfMemoryError(f"memory ran out in a worker ({error}); use smaller tiles or fewer workers.") from error
        killed = isinstance(error, KilledWorker)
        if batch.tries + 1 < TRIES["killed" if killed else "failed"]:
            return True
        frame, number = batch.blocks[0]
        which = f"block {number} of frame {frame}" if self._blocks.layout.frames > 1 else f"block {number}"
        why = "its workers were killed, perhaps for want of memory" if killed else f"{type(error).__name__}: {error}"
        raise ResultError(f"{which} failed {batch.tries + 1} times ({' '.join(why.split())}); {_ON}.") from error

    def _lost(self) -> ResultError:
        where = self._settings.cluster or "on this machine"
        return ResultError(f"the scheduler {where} does not answer any more; start it again: {_ON}.")


@contextmanager
def _silence() -> Iterator[None]:
    """Keep dask from telling, while this engine closes or workers die, what the events and errors of the run tell."""
    import distributed  # noqa: F401  # which adds its handlers

    handlers = [handler for name in ("distributed", "distributed.client") for handler in logging.getLogger(name).handlers]
    before = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for handler, level in zip(handlers, before, strict=True):
            handler.setLevel(level)


def _check_scheduler(address: str) -> None:
    """Refuse in time what is no scheduler: a client waits for the answer of a web server for ever."""
    with _silence(), ThreadPoolExecutor(1) as aside:  # a notebook has a loop in this thread
        try:
            kind = aside.submit(asyncio.run, _kind(address)).result()
        except Exception as exc:  # whatever a stranger's bytes raise when they are read as a message of dask
            raise _no_scheduler(address) from exc
    if kind != "Scheduler":
        raise _no_scheduler(address)


async def _kind(address: str) -> str:
    """What answers there, by its own words."""
    from distributed.comm.core import connect
    from distributed.security import Security

    async with asyncio.timeout(CONNECT):
        # nothing is unpickled of who is not known yet
        comm = await connect(address, timeout=CONNECT, deserialize=False, **Security().get_connection_args("client"))
        try:
            await comm.write({"op": "identity", "reply": True})
            return str((await comm.read())["type"])
        finally:
            comm.abort()


def _no_scheduler(address: str) -> SettingsError:
    return SettingsError(
        f"no dask scheduler answers at {address}; start one (dask scheduler), or check the address, such as tcp://host:8786."
    )


def _client(address: str) -> Any:
    from distributed import Client

    try:
        return Client(address, timeout=CONNECT, set_as_default=False, name="napari-shiftseg")
    except (OSError, ValueError) as exc:
        raise _no_scheduler(address) from exc


def _threads(workers: int) -> int:
    """Threads of each of the workers of this machine."""
    from dask.system import CPU_COUNT

    return max(1, int(CPU_COUNT) // workers)


def _same_layout(theirs: Layout, ours: Layout) -> None:
    """A worker has to compute with the tiles of this run, or its labels are others."""
    if theirs != ours:
        raise SettingsError("workers cannot make the tiles of this run; run without workers.")
