"""Segmentation out of core: from a lazy image to a store on disk, block by block, in bounded memory, and resumable.

Round 1 runs the network over each block and its surroundings, clusters it and keeps fragments of instances; fragments are
joined across blocks by union-find. Round 2 finds what no instance reaches, which is joined likewise; round 3 writes the labels.
Each block of each pass is finished or not there, so that a run that was killed at any moment goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import ImageError, ResultError
from napari_shiftseg.events import Estimate, Event, Stage
from napari_shiftseg.files import Stamp, stamp_of
from napari_shiftseg.geometry import TilePlan
from napari_shiftseg.instances import Numbers, whole_table
from napari_shiftseg.io import (
    BlockPyramid,
    ResultWriter,
    StoredResult,
    WorkFolder,
    described_outputs,
    open_result,
    run_of,
    save_model,
    to_plain,
    work_path,
)
from napari_shiftseg.segmentation.blockwise import BlockJob
from napari_shiftseg.segmentation.constants import LABELS, PARTS
from napari_shiftseg.segmentation.decision import pixel_digest
from napari_shiftseg.segmentation.engine import Engine, LocalEngine
from napari_shiftseg.segmentation.job import Job, kept_outputs, record_of, translation_of
from napari_shiftseg.segmentation.pace import duration, take_pace
from napari_shiftseg.segmentation.pipeline import counted, finished, spent
from napari_shiftseg.segmentation.resumption import (
    changed_block,
    descriptions,
    discard_damaged,
    forget_broken,
    gaps_found,
    same_files,
    sum_found,
)
from napari_shiftseg.views import in_memory


def large_steps(
    job: Job, seconds: dict[str, float], *, overwrite: bool = False
) -> Generator[Event, None, tuple[StoredResult, TilePlan]]:
    """Segment block by block into a store: yields events, returns the `StoredResult` and the tiles of a frame.

    ResultError if the place is taken or too small, another run is writing it, or an unfinished run with another image, model or
    settings lies there.

    Parameters
    ----------
    job : Job
        With a layout and a store to write. Beside that lies, until the run is finished, a hidden folder from which the same
        call goes on.
    seconds : dict
        When the run "started"; gets the time of each of its parts.
    overwrite : bool
        Replace an earlier result.
    """
    layout, settings, out = job.layout, job.settings, job.out
    assert layout is not None and out is not None and job.intensity is not None
    if settings.cluster is not None or settings.workers:
        from napari_shiftseg.segmentation.dask_engine import check_workers

        check_workers(job)
    stamp = job.opened.stamp or stamp_of(job.opened.image.data)
    with WorkFolder(out) as work:
        ours = _fingerprint(job)
        known = _unfinished(job, work, ours, stamp=stamp, overwrite=overwrite)
        if known is not None and _moved(job, known):  # killed after the last step but one
            work.remove()
            return open_result(out), layout.plan()
        known, blocks, writer = _open(job, work, known, ours={**ours, "stamp": stamp}, overwrite=overwrite)
        if job.opened.reader is not None:
            job.opened.reader.budget = layout.memory["chunks"]
        with writer:
            engine = _engine(blocks)
            with engine:
                if left := layout.tasks - len(blocks.done("find")):
                    said = _estimate(job, left)
                    job = replace(job, seconds=said.seconds)
                    yield said
                numbers = yield from pass_steps(blocks, engine, seconds)
            yield Stage(done=0, total=0, text="table and pyramid")
            _check_image(job, work, stamp=stamp, patches=known["image"]["pixels"])
            job = counted(job, gaps_found(work, layout))
            record = record_of(job, layout.plan()) | (work.read_json("smaller.json") or {})
            record["instances"] = [n.count for n in numbers]
            record["blocks"] = {"edge": list(layout.grid.edge), "halo": layout.grid.halo, "tasks": layout.tasks}
            record |= {"memory": layout.memory, "method": layout.method(), "run": known["run"]}
            record["image"] |= {"pixels": known["image"]["pixels"], "sum": sum_found(work, layout)}
            record = finished(job, record, blocks.labels.levels[0], outputs={}, seconds=seconds)
            writer.write_objects(table_of(blocks))
            writer.finish(record)
        work.remove()
    return open_result(out), layout.plan()


def _estimate(job: Job, left: int) -> Estimate:
    """What the blocks that are left will take, as one worker would take them."""
    layout, settings = job.layout, job.settings
    assert layout is not None
    seconds = take_pace(job).seconds(job, left)
    shared = settings.workers > 1 or settings.cluster is not None
    return Estimate(
        done=0,
        total=0,
        text=f"{layout.describe()}, about {duration(seconds)}{' of one worker' * shared}",
        seconds=seconds,
        memory=job.memory,
        disk=layout.disk,
    )


def pass_steps(blocks: BlockJob, engine: Engine, seconds: dict[str, float]) -> Generator[Event, None, list[Numbers]]:
    """All rounds over the blocks: yields events, returns the numbers of the instances of each frame."""
    frames = range(blocks.layout.frames)
    everything = [(frame, number) for frame in frames for number in range(len(blocks.layout.grid))]
    with spent(seconds, "network and clustering"):
        yield from engine.run("find", everything, blocks.done("find"))
    yield Stage(done=0, total=0, text="joining blocks")
    with spent(seconds, "joining"):
        for frame in frames:
            blocks.join(frame)
    with spent(seconds, "undecided pixels"):
        yield from engine.run("reach", everything, blocks.done("reach"))
    yield Stage(done=0, total=0, text="joining blocks")
    with spent(seconds, "joining"):
        numbers = [blocks.join_rest(frame) for frame in frames]
    with spent(seconds, "writing"):
        yield from engine.run("settle", everything, blocks.done("settle"))
    return numbers


# -- beginning and resuming -------------------------------------------------------------------------------------------


def _fingerprint(job: Job) -> dict[str, Any]:
    """What must be equal for a run to go on: all that decides the labels."""
    said, inputs, intensity = job.to_dict(), job.opened, job.intensity
    assert intensity is not None
    values = {
        "image": {
            **{name: said["image"][name] for name in ("axes", "shape", "dtype")},
            "pixels": pixel_digest(inputs.frames),
        },
        "channels": job.channels or (),
        "model": hashlib.sha256(
            b"".join(t.detach().cpu().numpy().tobytes() for _, t in sorted(inputs.model.unet.state_dict().items()))
        ).hexdigest(),
        "spec": to_plain(inputs.model.spec),
        "clustering": said["clustering"],
        "rule of labels": LABELS,
        "limits": [limits.to_dict() for limits in intensity.limits],
        "dtype": job.dtype,
        "deterministic": job.fixed,
        "embedding": bool(job.settings.keep_embedding),
        # of a model that does not say what its spec says
        **(
            {}
            if inputs.model.outputs == inputs.model.unet.spec.outputs
            else {"outputs": described_outputs(inputs.model.outputs)}
        ),
        # at another scale the network says something else
        **({} if job.plan.lattice.scaling is None else {"size of objects": job.plan.lattice.scale}),
        # and so does the mean of all turns
        **({"turns": True} if job.plan.lattice.turned else {}),
        # tiles that stand alone give another result than those of one pass
        **({"zeros": job.plan.zeros} if job.plan.zeros == "tile" else {}),
    }
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def _unfinished(
    job: Job, work: WorkFolder, ours: dict[str, Any], *, stamp: Stamp | None, overwrite: bool
) -> dict[str, Any] | None:
    """What an unfinished run says of itself that this one goes on with; None if it begins anew.

    ResultError if another run lies there, which is not to be overwritten.
    """
    known = work.read_json("run.json")
    # else no block of an earlier run is finished
    if known is None or not (work.names("faces") or Path(str(job.out)).exists()):
        return None
    refusal = _refusal(job, known, ours)
    if not refusal:
        assert job.layout is not None
        discard_damaged(work, job.layout)
        seen = known["stamp"] and Stamp(*known["stamp"])
        if stamp is None or stamp != seen:
            lost = _moved(job, known) and len(work.names("faces")) < known["tasks"]
            if lost or changed_block(job, work) is not None:
                refusal = _other(job, ["image"])
            else:
                known["stamp"] = stamp
                work.write_json("run.json", known)
    if refusal and not overwrite:
        raise ResultError(refusal)
    return None if refusal else known


def _refusal(job: Job, known: dict[str, Any], ours: dict[str, Any]) -> str:
    """Why a run cannot go on, since it would give other labels; "" if it can."""
    if known.get("parts") != PARTS:
        return (
            f"an unfinished run into {job.out} was begun by another version of napari-shiftseg, and what it has finished "
            f"cannot be checked; finish it with that version, or remove {work_path(str(job.out))} (--overwrite does) to begin "
            "anew."
        )
    differing = [name for name, value in ours.items() if known.get(name) != value]
    if not differing and known["write"] != list(_wished(job)) and not ours["deterministic"]:
        lattice = all(edge % p == 0 for edge, p in zip(_wished(job), job.plan.lattice.period, strict=True))
        differing = [] if lattice else ["tile size"]
    assert job.layout is not None
    if known["edge"] != list(job.layout.grid.edge):  # decided before that run began, or for another place
        differing.append("size of blocks")
    return _other(job, differing) if differing else ""


def _other(job: Job, differing: Sequence[str]) -> str:
    changed = ", of which pixels have changed since" if list(differing) == ["image"] else ""
    return (
        f"an unfinished run into {job.out} had another {', '.join(differing)}{changed}; finish it as it began, or remove "
        f"{work_path(str(job.out))} (--overwrite does) to begin anew."
    )


def _moved(job: Job, known: dict[str, Any]) -> bool:
    """Whether the result of that run is in its place already; what else is damaged there does not matter."""
    return bool(known["run"] == run_of(str(job.out)))


def _check_image(job: Job, work: WorkFolder, *, stamp: Stamp | None, patches: str) -> None:
    """Refuse to finish if blocks were made of other pixels than the image holds now. ImageError."""
    if same_files(job, stamp):
        return
    if stamp is not None or in_memory(job.opened.image.data):
        changed = changed_block(job, work) is not None
    else:  # computed values, which would be computed again
        changed = pixel_digest(job.opened.frames) != patches
    if changed:
        raise ImageError(
            f"{job.image.source} was changed while it was segmented, so that the result would be of two images; "
            "run again with --overwrite to begin anew."
        )


def _wished(job: Job) -> tuple[int, ...]:
    """Edges that the user wished for, or those of the plan."""
    wish = job.settings.write
    if wish is None:
        return job.plan.write
    return wish if isinstance(wish, tuple) else (wish,) * job.plan.lattice.ndim


def _open(
    job: Job, work: WorkFolder, known: dict[str, Any] | None, *, ours: dict[str, Any], overwrite: bool
) -> tuple[dict[str, Any], BlockJob, ResultWriter]:
    """The arrays of a run that goes on, or of one that begins; with what the run says of itself."""
    if known is not None:
        forget_broken(work.path, known["arrays"])
        blocks, writer = _arrays(job, work, overwrite=overwrite)
        if descriptions(work.path, known["arrays"]) == known["arrays"]:
            if not work.is_whole("model.safetensors", known["model file"]):
                save_model(work.path / "model.safetensors", job.opened.model)
            return known, blocks, writer
    layout = job.layout
    assert layout is not None
    work.check_room(layout.disk)
    work.clear()
    save_model(work.path / "model.safetensors", job.opened.model)
    blocks, writer = _arrays(job, work, overwrite=overwrite)
    known = {
        **ours,
        "parts": PARTS,
        "edge": list(layout.grid.edge),
        "write": list(layout.tiles.write),
        "stream": layout.stream,
        "tasks": layout.tasks,
        "run": uuid.uuid4().hex,
        "arrays": descriptions(work.path),
        "model file": work.seen("model.safetensors"),
    }
    work.sync()
    work.write_json("run.json", known)
    return known, blocks, writer


def _arrays(job: Job, work: WorkFolder, *, overwrite: bool) -> tuple[BlockJob, ResultWriter]:
    layout, model = job.layout, job.opened.model
    assert layout is not None and job.out is not None
    scale, units = job.spacing()
    shape = (*job.lengths, *layout.grid.shape)
    edges = dict(zip("zyx"[-model.lattice.ndim :], layout.grid.edge, strict=True))
    image = job.opened.image
    where: dict[str, Any] = {"scale": scale, "units": units, "translation": translation_of(image, job.axes)}
    writer = ResultWriter(job.out, shape=shape, axes=job.axes, name=image.name, overwrite=overwrite, folder=work.path, **where)
    with writer:
        labels = writer.create_blocks("labels", edges)
        kept = kept_outputs(job.settings, model.outputs, large=True)
        outputs = {name: writer.create_blocks(output, edges) for name, output in kept.items()}
        codes = BlockPyramid.create(work.path / "fragments", shape, job.axes, dtype=np.int32, edges=edges)
    return BlockJob(job=job, work=work, codes=codes, labels=labels, outputs=outputs), writer


def _engine(blocks: BlockJob) -> Engine:
    settings = blocks.job.settings
    if settings.cluster is None and not settings.workers:
        return LocalEngine(blocks)
    from napari_shiftseg.segmentation.dask_engine import DaskEngine

    return DaskEngine(blocks)


def table_of(blocks: BlockJob) -> dict[str, npt.NDArray[Any]]:
    """All instances of all frames, a column per entry; the place of the frame comes first."""
    columns: dict[str, list[npt.NDArray[Any]]] = {}
    for frame, seen in enumerate(blocks.job.opened.frames):
        numbers = range(len(blocks.layout.grid))
        table = whole_table([blocks.work.read_arrays(f"tables/{frame}-{number}.npz") for number in numbers])
        places = {axis: np.full(len(table["index"]), at) for axis, at in seen.index.items()}
        for name, column in {**places, **table}.items():
            columns.setdefault(name, []).append(column)
    return {name: np.concatenate(pieces) for name, pieces in columns.items()}


def kept_of(out: str | Path) -> str:
    """How much of an unfinished run is kept, as the first half of a sentence; "" if a run would begin anew.

    `out`: the store that the run will become.
    """
    work = WorkFolder(out)
    total = (work.read_json("run.json") or {}).get("tasks", 0)
    found, settled = len(work.names("faces")), len(work.names("tables"))
    if not total or not found:
        return ""
    if found < total:
        return f"{found} of {total} blocks {'is' if found == 1 else 'are'} kept"
    if total == 1:
        return "the network's work is kept" + ", and so are the labels" * settled
    return f"the network's work on all {total} blocks is kept, and the labels of {settled}"
