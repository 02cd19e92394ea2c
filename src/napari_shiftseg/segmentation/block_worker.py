"""The side of a worker: it makes the job of a run from the files of the run, and finishes blocks of it.

Between the processes travel names of blocks; pixels, weights and results travel through the disk that all of them share.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from napari_shiftseg import __version__
from napari_shiftseg.errors import ImageError, ResultError, SettingsError
from napari_shiftseg.events import Event
from napari_shiftseg.geometry import BlockGrid, UNetSpec, plan_again
from napari_shiftseg.instances import LabelSettings, Numbers
from napari_shiftseg.io import BlockPyramid, ChunkReader, Image, WorkFolder, chunks_of, load_model, read_image
from napari_shiftseg.machine import give_back_memory
from napari_shiftseg.network import Limits, choose_device
from napari_shiftseg.segmentation.blockwise import BlockJob, Pass
from napari_shiftseg.segmentation.intensity import Intensity
from napari_shiftseg.segmentation.layout import Layout, known_stream
from napari_shiftseg.segmentation.prepare import Task, pixel_digest
from napari_shiftseg.segmentation.settings import SegmentSettings

__all__ = ["describe_job", "finish_blocks", "open_job", "order_of"]

# A worker asks the disk this often whether its work is still wanted, seconds.
_ASK_EVERY = 1.0

# Memory is planned for one block per process, and the network takes all threads of the process.
_TURN = Lock()


def order_of(run: str) -> str:
    """File in the work folder that says what a run wants of its workers; once it is gone they stop."""
    return f"workers/{run}.json"


def describe_job(job: BlockJob, *, threads: int | None) -> dict[str, Any]:
    """All that a worker needs for making the job again, as JSON values.

    Parameters
    ----------
    job : BlockJob
    threads : int or None
        Of a worker's network; None takes those that the worker was given.
    """
    task, layout, settings = job.task, job.layout, job.settings
    image, tiles = task.image, layout.tiles
    parts = {"codes": job.codes, "labels": job.labels, "embedding": job.embedding, "foreground": job.foreground}
    return {
        "version": __version__,
        "threads": threads,
        "image": {
            "source": str(Path(image.source).absolute()),
            "scene": image.scene,
            "axes": image.axes,
            "shape": list(image.data.shape),
            "dtype": str(image.data.dtype),
            "pixels": pixel_digest(task.frames),
        },
        "channels": None if task.channels is None else list(task.channels),
        "clustering": asdict(task.clustering),
        "limits": [limits.to_dict() for limits in task.intensity.limits],
        "settings": {"device": settings.device, "dtype": settings.dtype, "deterministic": settings.deterministic},
        "tiles": {key: tiles.to_dict()[key] for key in ("image_shape", "write", "border", "zeros")},
        "grid": asdict(layout.grid),
        "layout": {each.name: getattr(layout, each.name) for each in fields(layout) if each.name not in ("grid", "tiles")},
        "arrays": {name: _place(pyramid, job.work) for name, pyramid in parts.items() if pyramid is not None},
    }


def open_job(work: WorkFolder, told: dict[str, Any]) -> BlockJob:
    """The job that was described.

    Raises
    ------
    ShiftsegError
        If the image is another one here, or this is another version of the package.
    """
    if told["version"] != __version__:
        raise SettingsError(
            f"{platform.node()} has napari-shiftseg {__version__} and the run began with {told['version']}; "
            "install the same version everywhere."
        )
    model = load_model(work.path / "model.safetensors")
    image = _open_image(told["image"])
    reader = ChunkReader(image.data, told["layout"]["memory"]["chunks"]) if chunks_of(image.data) is not None else None
    source = image if reader is None else replace(image, data=reader)
    channels = None if told["channels"] is None else tuple(told["channels"])
    frames = source.frames(model.lattice.ndim, channels)
    if pixel_digest(frames) != told["image"]["pixels"]:
        raise _other_image(told["image"], "other pixels")
    settings = SegmentSettings(**told["settings"])
    layout = _layout(model.spec, told)
    task = Task(
        model=model,
        image=image,
        frames=frames,
        channels=channels,
        reader=reader,
        device=choose_device(settings.device),
        plan=layout.tiles,
        broken=(),
        clustering=LabelSettings(**told["clustering"]),
        intensity=Intensity(limits=tuple(Limits.from_dict(limits) for limits in told["limits"])),
    )
    arrays: dict[str, Any] = {
        name: BlockPyramid.open(work.path / place["folder"], place["axes"], place["levels"])
        for name, place in told["arrays"].items()
    }
    return BlockJob(task=task, settings=settings, layout=layout, work=work, **arrays)


def finish_blocks(target: str, run: str, which: Pass, blocks: Sequence[tuple[int, int]]) -> None:
    """Take blocks through a pass; those that are finished already are left as they are.

    Parameters
    ----------
    target : str
        Result of the run; beside it lies the work folder.
    run : str
        Identity of the run.
    which : {"find", "reach", "settle"}
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
                job.reach(frame, block, _numbers(target, run, which, frame))
            elif which == "settle":
                job.settle(frame, block, _numbers(target, run, which, frame))
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
        if time.monotonic() - self._asked < _ASK_EVERY:
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
    return open_job(work, told)


@lru_cache(maxsize=1)
def _numbers(target: str, run: str, which: Pass, frame: int) -> Numbers:
    """Those that a pass needs."""
    job = _job_of(target, run)
    return job.join(frame) if which == "reach" else job.join_rest(frame)


def _threads_here() -> int:
    from distributed import get_worker

    return int(get_worker().state.nthreads)


def _open_image(told: dict[str, Any]) -> Image:
    try:
        image = read_image(told["source"], scene=told["scene"])
    except ImageError as exc:
        raise ImageError(f"on {platform.node()}: {exc}") from exc
    found = (list(image.data.shape), str(image.data.dtype))
    if found != (told["shape"], told["dtype"]):
        raise _other_image(told, f"shape {tuple(image.data.shape)} and type {image.data.dtype}")
    # the axes may have been set by the user, and step and unit do not matter for a block
    ones, none = (1.0,) * len(told["axes"]), (None,) * len(told["axes"])
    return replace(image, axes=told["axes"], scale=ones, units=none)


def _other_image(told: dict[str, Any], found: str) -> SettingsError:
    return SettingsError(
        f"workers read the image from {told['source']}, and on {platform.node()} that file has {found}, where the image of the "
        f"run has shape {tuple(told['shape'])} and type {told['dtype']}; save the image, and give the path of the file."
    )


def _layout(spec: UNetSpec, told: dict[str, Any]) -> Layout:
    tiles, grid, rest = told["tiles"], told["grid"], dict(told["layout"])
    return Layout(
        grid=BlockGrid(shape=tuple(grid["shape"]), edge=tuple(grid["edge"]), halo=grid["halo"]),
        tiles=plan_again(spec, tiles),
        stream=known_stream(rest.pop("stream")),
        **rest,
    )


def _place(pyramid: BlockPyramid, work: WorkFolder) -> dict[str, Any]:
    array: Any = pyramid.levels[0]
    folder = Path(array.store.root, array.path).parent
    return {"folder": str(folder.relative_to(work.path)), "axes": pyramid.axes, "levels": len(pyramid.levels)}
