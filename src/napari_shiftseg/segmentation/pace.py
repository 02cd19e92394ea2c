"""How long a run out of core will take, from the pace of a few tiles of the image, taken before it begins."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import prod

import numpy as np

from napari_shiftseg.events import drain
from napari_shiftseg.geometry import TilePlan
from napari_shiftseg.machine import cores
from napari_shiftseg.segmentation.constants import LONGEST, MOST_THREADS, PLACES
from napari_shiftseg.segmentation.job import Job
from napari_shiftseg.segmentation.likeness import look
from napari_shiftseg.segmentation.pipeline import cluster_steps, embed_steps, settle


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds of work per pixel of a block and its surroundings."""

    # network, clustering, writing: the last of the pixels of a block alone
    network: float
    clustering: float
    writing: float
    overlap: bool  # whether network and clustering have processors of their own
    threads: int  # windows that are clustered side by side

    def seconds(self, job: Job, tasks: int | None = None) -> float:
        """Time of a run in this process.

        `tasks`: blocks that are left; all by default.
        """
        layout = job.layout
        share = 1.0 if tasks is None or layout is None else tasks / layout.tasks
        pixels = job.frames * prod(job.plan.result_shape) * share
        seen = pixels * (1.0 if layout is None else layout.redundancy)
        network, clustering = self.network * seen, self.clustering * seen
        if self.overlap:
            both = max(network, clustering / self.threads)
        else:  # the network takes all cores, so that clustering takes its turn
            both = max(network + clustering / cores(), clustering / self.threads)
        return both + self.writing * pixels / min(2, cores())


def take_pace(job: Job) -> Pace:
    """Run network and clustering over a few tiles in the middle of the image, on the device and in the format of the run."""
    job = look(job, likeness=False)
    number = job.frames // 2
    spent, pixels = np.zeros(3), 0
    for place in PLACES:
        plan = _tile_at(job.plan, place)
        before = time.perf_counter()
        seen = drain(embed_steps(job, number, plan))
        spent[0] += time.perf_counter() - before
        before = time.perf_counter()
        _, fragments = drain(cluster_steps(job, seen, threads=1))
        spent[1] += time.perf_counter() - before
        before = time.perf_counter()
        settle(job, fragments)
        settle(job, fragments)  # out of core they are made twice, the first time for the rest
        spent[2] += time.perf_counter() - before
        pixels += prod(plan.result_shape)
        if spent.sum() > LONGEST:
            break
    window, halo = job.clustering.lattice(job.plan.lattice.ndim)
    # a window in the middle of a block sees its margin on all sides, those of a tile see it only within the tile
    margin = prod(_seen_share(n, window, halo) for n in plan.result_shape)
    network, clustering, writing = spent / pixels
    return Pace(
        network=float(network),
        clustering=float(clustering * (1 + 2 * halo / window) ** job.plan.lattice.ndim / margin),
        writing=float(writing),
        overlap=job.device.kind != "cpu",
        threads=min(MOST_THREADS, job.device.spare_cores),
    )


def duration(seconds: float) -> str:
    """A time in words, with two digits.

    >>> duration(8.24), duration(95), duration(5400), duration(260_000)
    ('8.2 s', '95 s', '90 min', '72 h')
    """
    for unit, size, most in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 96)):
        if seconds / size < most:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds / 86400:.3g} days"


def _tile_at(plan: TilePlan, share: float) -> TilePlan:
    """The tile at a share of the way through the image, as a plan of its own."""
    return plan.within([axis[min(len(axis) - 1, int(share * len(axis)))][2] for axis in plan.axes])


def _seen_share(size: int, window: int, halo: int) -> float:
    """Pixels that the windows along an axis see over the pixels there are."""
    starts = range(0, size, window)
    return sum(min(size, start + window + halo) - max(0, start - halo) for start in starts) / size
