"""Relabelling out of core: the rounds of a run over its blocks, with what the store holds in the place of the network."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_shiftseg.errors import ResultError
from napari_shiftseg.events import Event, Stage
from napari_shiftseg.files import unchanged
from napari_shiftseg.geometry import Block
from napari_shiftseg.instances import LabelSettings
from napari_shiftseg.io import BlockPyramid, ResultWriter, WorkFolder, open_result
from napari_shiftseg.segmentation.blockwise import BlockJob, Region
from napari_shiftseg.segmentation.engine import LocalEngine
from napari_shiftseg.segmentation.job import translation_of
from napari_shiftseg.segmentation.large import pass_steps, table_of
from napari_shiftseg.segmentation.pipeline import Seen
from napari_shiftseg.segmentation.relabelling import record_again, segmentation_of
from napari_shiftseg.segmentation.run import Segmentation
from napari_shiftseg.segmentation.tunable import Tunable


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptBlocks(BlockJob):
    """Blocks of which a store knows what the network said."""

    left: Tunable

    def read(self, frame: int, block: Block) -> Region:
        """Nothing: the image is not needed."""
        view = self.job.opened.frames[frame].view
        return Region(np.empty((view.shape[0], *(0,) * len(block.core)), view.dtype), (0,) * len(block.core), view.shape)

    def expect(self, tasks: Iterable[tuple[int, int]]) -> None:
        """Nothing is read of the image."""

    def embed_steps(self, frame: int, block: Block, region: Region) -> Generator[Event, None, Seen]:
        """What the block sees, from the store."""
        yield from ()
        return self.left.seen(frame, block.seen)


def relabel_large_steps(
    left: Tunable,
    clustering: LabelSettings,
    out: str | Path,
    *,
    seconds: dict[str, float],
    overwrite: bool = False,
    compare: bool = True,
) -> Generator[Event, None, Segmentation]:
    """Label a stored result anew block by block into another store: yields events, returns the result.

    Nothing is left of it where it does not come to its end. ResultError if the place is taken or too small.
    """
    job = replace(left.job, clustering=clustering, out=str(out))
    assert job.layout is not None
    with WorkFolder(out) as work:
        if work.read_json("run.json") is not None:
            raise ResultError(f"an unfinished run lies beside {out}; finish it, or give another name.")
        work.clear()
        work.check_room(job.layout.disk)
        try:
            blocks, writer = _open(left, job, work, overwrite=overwrite)
            with writer:
                with unchanged("the result", *left.outputs.values()), LocalEngine(blocks) as engine:
                    numbers = yield from pass_steps(blocks, engine, seconds)
                yield Stage(done=0, total=0, text="table and pyramid")
                counts, labels = [n.count for n in numbers], blocks.labels.levels[0]
                record = record_again(left, clustering, counts, seconds=seconds, labels=labels, outputs={}, compare=compare)
                writer.write_objects(table_of(blocks))
                writer.finish(record)
        finally:
            work.remove()
    stored = open_result(out)
    return segmentation_of(left, stored.record, labels=stored.labels, stored=stored, path=Path(out))


def _open(left: Tunable, job: Any, work: WorkFolder, *, overwrite: bool) -> tuple[KeptBlocks, ResultWriter]:
    """The blocks, and the store that they write; all outputs are written as well."""
    assert job.layout is not None
    scale, units = job.spacing()
    shape = (*job.lengths, *job.layout.grid.shape)
    edges = dict(zip("zyx"[-job.plan.lattice.ndim :], job.layout.grid.edge, strict=True))
    image = job.opened.image
    where: dict[str, Any] = {"scale": scale, "units": units, "translation": translation_of(image, job.axes)}
    writer = ResultWriter(job.out, shape=shape, axes=job.axes, name=image.name, overwrite=overwrite, folder=work.path, **where)
    with writer:
        labels = writer.create_blocks("labels", edges)
        outputs = {name: writer.create_blocks(left.described[name], edges) for name in left.outputs}
        codes = BlockPyramid.create(work.path / "fragments", shape, job.axes, dtype=np.int32, edges=edges)
    return KeptBlocks(job=job, work=work, codes=codes, labels=labels, outputs=outputs, left=left), writer
