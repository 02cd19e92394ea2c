"""Segmentation out of core: from a lazy image to a store on disk, block by block, in bounded memory, and resumable.

Pass 1 runs the network over each block and its surroundings, clusters it and keeps fragments of instances; fragments are
joined across blocks by union-find. Pass 2 finds what no instance reaches, which is joined likewise; pass 3 writes the labels.
Each block of each pass is finished or not there, so that a run that was killed at any moment goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Generator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import DeviceError, ResultError
from napari_shiftseg.events import Estimate, Event, Stage
from napari_shiftseg.geometry import TilePlan
from napari_shiftseg.instances import Numbers, whole_table
from napari_shiftseg.io import BlockPyramid, ResultWriter, StoredResult, WorkFolder, open_result, save_model, work_path
from napari_shiftseg.segmentation.blockwise import BlockJob
from napari_shiftseg.segmentation.engine import Engine, LocalEngine
from napari_shiftseg.segmentation.intensity import few_objects
from napari_shiftseg.segmentation.layout import Layout, known_stream, lay_out
from napari_shiftseg.segmentation.likeness import compare_result
from napari_shiftseg.segmentation.pace import duration, take_pace
from napari_shiftseg.segmentation.prepare import Task, loop_axes, pixel_digest, spacing, translation_of
from napari_shiftseg.segmentation.record import record_of
from napari_shiftseg.segmentation.settings import SegmentSettings

__all__ = ["large_steps", "layout_of", "memory_for"]

# Memory that a run takes when nothing is said: half of what is free, but no more than this.
_DEFAULT_MEMORY = 4 << 30
# Raised whenever the same embedding gets other labels, or blocks leave other files: no run goes on with half of each.
_LABELS = 2


def memory_for(task: Task, settings: SegmentSettings) -> int:
    """Bytes that the run, or each of its workers, may take."""
    if settings.memory is not None:
        return settings.memory
    free = task.device.free if task.device.kind == "cpu" else 0
    share = free // (2 * max(1, settings.workers)) if free else _DEFAULT_MEMORY
    return int(min(_DEFAULT_MEMORY, max(share, 1 << 30)))


def layout_of(task: Task, settings: SegmentSettings) -> Layout:
    """The blocks that a run with these settings takes.

    Raises
    ------
    DeviceError
        With OpenVINO, whose memory nobody can state before a run.
    """
    if task.device.compiled:
        raise DeviceError(
            "OpenVINO keeps memory for each kind of tile, so a run out of core cannot say what it takes; use --device cpu."
        )
    return lay_out(
        task,
        memory_for(task, settings),
        deterministic=settings.deterministic,
        embedding=bool(settings.keep_embedding),
        method=settings.method,
    )


def large_steps(
    task: Task, settings: SegmentSettings, out: str | Path, *, overwrite: bool = False
) -> Generator[Event, None, tuple[StoredResult, TilePlan]]:
    """Segment block by block into a store: yields events, returns the `StoredResult` and the tiles of a frame.

    Parameters
    ----------
    task : Task
        From `prepare`.
    settings : SegmentSettings
    out : path
        OME-Zarr store to write. Beside it lies, until the run is finished, a hidden folder from which the same call goes on.
    overwrite : bool
        Replace an earlier result.

    Raises
    ------
    ResultError
        If the place is taken or too small, another run is writing it, or an unfinished run with another image, model or
        settings lies there.
    """
    started = time.perf_counter()
    layout = layout_of(task, settings)
    if settings.cluster is not None or settings.workers:
        from napari_shiftseg.segmentation.dask_engine import check_workers

        check_workers(task, settings)
    with WorkFolder(out) as work:
        ours = _fingerprint(task, settings)
        known = work.read_json("run.json")
        if known is None or not (work.names("faces") or Path(out).exists()):  # no block of an earlier run is finished
            work.check_room(layout.disk)
            work.clear()
            save_model(work.path / "model.safetensors", task.model)
            known = {
                **ours,
                "edge": list(layout.grid.edge),
                "write": list(layout.tiles.write),
                "stream": layout.stream,
                "tasks": layout.tasks,
                "run": uuid.uuid4().hex,
            }
            work.write_json("run.json", known)
        layout = _resumed(layout, known, ours, out)
        if Path(out).exists() and open_result(out).record.get("run") == known["run"]:  # killed after the last step but one
            work.remove()
            return open_result(out), layout.plan()
        if task.reader is not None:
            task.reader.budget = layout.memory["chunks"]
        job, writer = _open(task, settings, layout, work, out, overwrite=overwrite)
        with writer:
            engine = _engine(job, settings)
            with engine:
                if left := layout.tasks - len(job.found()):
                    yield _estimate(task, settings, layout, left)
                seconds: dict[str, float] = {}
                numbers = yield from _passes(job, engine, seconds)
            yield Stage(done=0, total=0, text="table and pyramid")
            record = record_of(task, layout.plan(), settings)
            record["instances"] = [n.count for n in numbers]
            record["intensity"]["warnings"] += few_objects(record["instances"], layout.grid.shape[-2:])
            record["blocks"] = {"edge": list(layout.grid.edge), "halo": layout.grid.halo, "tasks": layout.tasks}
            record["memory"] = layout.memory
            record["method"] = layout.method()
            record["likeness"] = compare_result(task, job.labels.levels[0]).to_dict()
            seconds["all"] = time.perf_counter() - started
            record["seconds"] = {name: round(value, 3) for name, value in seconds.items()}
            record["run"] = known["run"]
            record["image"]["pixels"] = known["image"]["pixels"]
            writer.write_objects(_table(job))
            writer.finish(record)
        work.remove()
    return open_result(out), layout.plan()


def _estimate(task: Task, settings: SegmentSettings, layout: Layout, left: int) -> Estimate:
    """What the blocks that are left will take, as one worker would take them."""
    seconds = take_pace(task, layout, settings).seconds(layout, left)
    shared = settings.workers > 1 or settings.cluster is not None
    return Estimate(
        done=0,
        total=0,
        text=f"{layout.describe()}, about {duration(seconds)}{' of one worker' * shared}",
        seconds=seconds,
        memory=sum(layout.memory.values()),
        disk=layout.disk,
    )


def _passes(job: BlockJob, engine: Engine, seconds: dict[str, float]) -> Generator[Event, None, list[Numbers]]:
    frames, blocks = range(job.layout.frames), range(len(job.layout.grid))
    everything = [(frame, number) for frame in frames for number in blocks]
    before = time.perf_counter()
    yield from engine.run("find", everything, job.found())
    seconds["network and clustering"] = time.perf_counter() - before
    yield Stage(done=0, total=0, text="joining blocks")
    before = time.perf_counter()
    for frame in frames:
        job.join(frame)
    seconds["joining"] = time.perf_counter() - before
    before = time.perf_counter()
    yield from engine.run("reach", everything, job.reached())
    seconds["undecided pixels"] = time.perf_counter() - before
    yield Stage(done=0, total=0, text="joining blocks")
    before = time.perf_counter()
    numbers = [job.join_rest(frame) for frame in frames]
    seconds["joining"] += time.perf_counter() - before
    before = time.perf_counter()
    yield from engine.run("settle", everything, job.settled())
    seconds["writing"] = time.perf_counter() - before
    return numbers


# -- beginning and resuming -------------------------------------------------------------------------------------------


def _fingerprint(task: Task, settings: SegmentSettings) -> dict[str, Any]:
    """What must be equal for a run to go on: all that decides the labels."""
    image = task.image
    return {
        "image": {
            "axes": image.axes,
            "shape": list(image.data.shape),
            "dtype": str(image.data.dtype),
            "pixels": pixel_digest(task.frames),
        },
        "channels": list(task.channels or ()),
        "model": hashlib.sha256(
            b"".join(t.detach().cpu().numpy().tobytes() for _, t in sorted(task.model.unet.state_dict().items()))
        ).hexdigest(),
        "spec": _plain(task.model.spec.to_dict()),
        "clustering": _plain(asdict(task.clustering)),
        "rule of labels": _LABELS,
        "limits": _plain([limits.to_dict() for limits in task.intensity.limits]),
        "dtype": settings.dtype,
        "deterministic": settings.deterministic,
        "embedding": bool(settings.keep_embedding),
        # tiles that stand alone give another result than those of one pass
        **({"zeros": task.plan.zeros} if task.plan.zeros == "tile" else {}),
    }


def _plain(values: Any) -> Any:
    """The values as JSON gives them back."""
    return json.loads(json.dumps(values))


def _resumed(layout: Layout, known: dict[str, Any], ours: dict[str, Any], out: str | Path) -> Layout:
    """The layout of the run that began; refuse one that would give other labels."""
    differing = [name for name, value in ours.items() if known.get(name) != value]
    if not differing and known["write"] != list(layout.tiles.write) and not ours["deterministic"]:
        lattice = all(edge % p == 0 for edge, p in zip(layout.tiles.write, layout.tiles.lattice.period, strict=True))
        differing = [] if lattice else ["tile size"]
    if differing:
        raise ResultError(
            f"an unfinished run into {out} had another {', '.join(differing)}; finish it as it began, or remove "
            f"{work_path(out)} to begin anew."
        )
    # blocks and tiles may follow from the memory that was free then, and other tiles round otherwise
    grid = replace(layout.grid, edge=tuple(known["edge"]))
    tiles, stream = layout.tiles, known_stream(known["stream"])
    if known["write"] != list(tiles.write):
        tiles = tiles.resized(known["write"])
    return replace(layout, grid=grid, tiles=tiles, stream=stream)


def _open(
    task: Task, settings: SegmentSettings, layout: Layout, work: WorkFolder, out: str | Path, *, overwrite: bool
) -> tuple[BlockJob, ResultWriter]:
    axes, lengths = loop_axes(task.image, task.model.lattice.ndim)
    scale, units = spacing(task.image, axes)
    shape = (*lengths, *layout.grid.shape)
    edges = dict(zip("zyx"[-task.model.lattice.ndim :], layout.grid.edge, strict=True))
    where: dict[str, Any] = {"scale": scale, "units": units, "translation": translation_of(task.image, axes)}
    writer = ResultWriter(out, shape=shape, axes=axes, name=task.image.name, overwrite=overwrite, folder=work.path, **where)
    with writer:
        labels = writer.create_blocks("labels", edges)
        embedding = foreground = None
        if settings.keep_embedding:
            embedding = writer.create_blocks("embedding", edges, channels=task.model.embedding.count)
            foreground = writer.create_blocks("foreground", edges) if "foreground" in task.model.outputs else None
        codes = BlockPyramid.create(work.path / "fragments", shape, axes, dtype=np.int32, edges=edges)
    job = BlockJob(
        task=task,
        settings=settings,
        layout=layout,
        work=work,
        codes=codes,
        labels=labels,
        embedding=embedding,
        foreground=foreground,
    )
    return job, writer


def _engine(job: BlockJob, settings: SegmentSettings) -> Engine:
    if settings.cluster is None and not settings.workers:
        return LocalEngine(job)
    from napari_shiftseg.segmentation.dask_engine import DaskEngine

    return DaskEngine(job, settings)


def _table(job: BlockJob) -> dict[str, npt.NDArray[Any]]:
    """All instances of all frames, a column per entry; the place of the frame comes first."""
    columns: dict[str, list[npt.NDArray[Any]]] = {}
    for frame, seen in enumerate(job.task.frames):
        table = whole_table([job.work.read_arrays(f"tables/{frame}-{number}.npz") for number in range(len(job.layout.grid))])
        places = {axis: np.full(len(table["index"]), at) for axis, at in seen.index.items()}
        for name, column in {**places, **table}.items():
            columns.setdefault(name, []).append(column)
    return {name: np.concatenate(pieces) for name, pieces in columns.items()}
