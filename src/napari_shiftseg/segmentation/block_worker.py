"""The side of a worker: it makes the job of a run from the files of the run, and finishes blocks of it.

Between the processes travel names of blocks; pixels, weights and results travel through the disk that all of them share.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from napari_shiftseg import __version__
from napari_shiftseg.errors import ImageError, ResultError, SettingsError
from napari_shiftseg.events import Event
from napari_shiftseg.instances import Numbers
from napari_shiftseg.io import BlockPyramid, Image, WorkFolder, load_model, read_image
from napari_shiftseg.machine import give_back_memory
from napari_shiftseg.network import choose_device
from napari_shiftseg.segmentation.blockwise import BlockJob, Round
from napari_shiftseg.segmentation.constants import ASK_EVERY
from napari_shiftseg.segmentation.decision import pixel_digest
from napari_shiftseg.segmentation.job import Job, open_job

# Memory is planned for one block per process, and the network takes all threads of the process.
_TURN = Lock()


def order_of(run: str) -> str:
    """File in the work folder that says what a run wants of its workers; once it is gone they stop."""
    return f"workers/{run}.json"


def describe_job(blocks: BlockJob, *, threads: int | None) -> dict[str, Any]:
    """All that a worker needs for making the job again, as JSON values.

    `threads`: of a worker's network; None takes those that the worker was given.
    """
    told = blocks.job.to_dict()
    told["image"]["source"] = str(Path(told["image"]["source"]).absolute())
    return {
        "version": __version__,
        "threads": threads,
        "pixels": pixel_digest(blocks.job.opened.frames),
        "job": told,
        "codes": _place(blocks.codes, blocks.work),
        "labels": _place(blocks.labels, blocks.work),
        "outputs": {name: _place(pyramid, blocks.work) for name, pyramid in blocks.outputs.items()},
    }


def open_blocks(work: WorkFolder, told: dict[str, Any]) -> BlockJob:
    """The job that was described; ShiftsegError if the image is another one here, or this is another version of the package."""
    if told["version"] != __version__:
        raise SettingsError(
            f"{platform.node()} has napari-shiftseg {__version__} and the run began with {told['version']}; "
            "install the same version everywhere."
        )
    job = Job.from_dict(told["job"])
    job = open_job(job, _open_image(job), load_model(work.path / "model.safetensors"))
    if job.opened.reader is not None and job.layout is not None:
        job.opened.reader.budget = job.layout.memory["chunks"]
    if pixel_digest(job.opened.frames) != told["pixels"]:
        raise _other_image(job, "other pixels")
    job = replace(job, device=choose_device(job.settings.device))

    def there(place: dict[str, Any]) -> BlockPyramid:
        return BlockPyramid.open(work.path / place["folder"], place["axes"], place["levels"])

    outputs = {name: there(place) for name, place in told["outputs"].items()}
    return BlockJob(job=job, work=work, codes=there(told["codes"]), labels=there(told["labels"]), outputs=outputs)


def finish_blocks(target: str, run: str, which: Round, blocks: Sequence[tuple[int, int]]) -> None:
    """Take blocks through a pass; those that are finished already are left as they are.

    Parameters
    ----------
    target : str
        Result of the run; beside it lies the work folder.
    run : str
        Identity of the run.
    blocks : sequence of (int, int)
        Frame and block.
    """
    with _TURN:
        job = _job_of(target, run)
        wanted = _Wanted(job.work, run)
        for frame, number in blocks:
            block = job.layout.grid[number]
            if job.is_done(which, frame, number):
                continue
            if which == "reach":
                job.reach(frame, block, _numbers(target, run, which, frame=frame))
            elif which == "settle":
                job.settle(frame, block, _numbers(target, run, which, frame=frame))
            elif not _drained(job.find_steps(frame, block), wanted):
                return
            give_back_memory()
            if not wanted():
                return


def _drained(steps: Any, wanted: _Wanted) -> bool:
    """Run a block to its end, or to where nobody wants it any more; whether it was the end."""
    event: Event
    for event in steps:
        if event.done < event.total and not wanted():
            steps.close()
            return False
    return True


class _Wanted:
    """Whether the run still wants its blocks: it was not cancelled, and its process lives on."""

    def __init__(self, work: WorkFolder, run: str) -> None:
        self._work, self._name, self._asked = work, order_of(run), time.monotonic()

    def __call__(self) -> bool:
        if time.monotonic() - self._asked < ASK_EVERY:
            return True
        self._asked = time.monotonic()
        return self._work.has(self._name)


@lru_cache(maxsize=1)
def _job_of(target: str, run: str) -> BlockJob:
    """The job of a run, made once per process."""
    work = WorkFolder(target)
    told = work.read_json(order_of(run))
    if told is None:
        raise ResultError(
            f"the worker on {platform.node()} does not find {work.path}; result and image have to lie on a disk that all "
            "workers see under the same path."
        )
    torch.set_num_threads(told["threads"] or _threads_here())
    return open_blocks(work, told)


@lru_cache(maxsize=1)
def _numbers(target: str, run: str, which: Round, *, frame: int) -> Numbers:
    """Those that a pass needs."""
    job = _job_of(target, run)
    return job.join(frame) if which == "reach" else job.join_rest(frame)


def _threads_here() -> int:
    from distributed import get_worker

    return int(get_worker().state.nthreads)


def _open_image(job: Job) -> Image:
    facts = job.image
    try:
        image = read_image(facts.source, scene=facts.scene)
    except ImageError as exc:
        raise ImageError(f"on {platform.node()}: {exc}") from exc
    found = (tuple(image.data.shape), str(image.data.dtype))
    if found != (facts.shape, facts.dtype):
        raise _other_image(job, f"shape {found[0]} and type {found[1]}")
    return image


def _other_image(job: Job, found: str) -> SettingsError:
    facts = job.image
    return SettingsError(
        f"workers read the image from {facts.source}, and on {platform.node()} that file has {found}, where the image of the "
        f"run has shape {facts.shape} and type {facts.dtype}; save the image, and give the path of the file."
    )


def _place(pyramid: BlockPyramid, work: WorkFolder) -> dict[str, Any]:
    array: Any = pyramid.levels[0]
    folder = Path(array.store.root, array.path).parent
    return {"folder": str(folder.relative_to(work.path)), "axes": pyramid.axes, "levels": len(pyramid.levels)}
