"""How long a run will take, by what the last one of its model took on this machine, and plans that waste most of their work."""

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite, prod
from typing import TYPE_CHECKING, Any

from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.plugin.constants import MOST_PACES, WASTE
from napari_shiftseg.plugin.kept import read_kept, write_kept

if TYPE_CHECKING:
    from napari_shiftseg.segmentation import Job

_PART = "paces"


def words_on_time(job: "Job") -> str:
    """A sentence on the time of a run; where none has run yet, that nobody knows."""
    from napari_shiftseg.segmentation import duration

    pace = read_kept(_PART).get(_key(job))
    if not _is_pace(pace):
        return "How long it takes is known after the first run with this model on this machine."
    work, pixels = _work(job)
    seconds = work * pace[0] + pixels * pace[1]
    return f"About {duration(max(seconds, 0.1))}, at the pace of the last run with this model here."


def keep_pace(job: "Job", record: Mapping[str, Any]) -> None:
    """Keep what a run that has ended took for each operation of the network, and for each pixel beside that, seconds."""
    spent = record["seconds"]
    network = spent.get("network", spent.get("network and clustering"))
    work, pixels = _work(job)
    if network is None or "resumed" in record or not work:
        return
    paces = {key: pace for key, pace in read_kept(_PART).items() if key != _key(job) and _is_pace(pace)}
    latest = dict(list(paces.items())[-MOST_PACES + 1 :])  # of models that were trained again, the old ones go
    write_kept(_PART, {**latest, _key(job): (network / work, max(0.0, spent["all"] - network) / pixels)})


def words_on_waste(job: "Job") -> str:
    """A sentence on a plan that computes each pixel many times, and what to do instead; "" for any other."""
    plan = job.stream or job.plan
    times = plan.redundancy
    if times < WASTE or len(job.plan) == 1:  # of a single tile, all that is wasted is around the image
        return ""
    count = "" if job.stream is not None else f" in {len(job.plan):,} tiles"
    return (
        f"Wasteful: it computes as much as {times:.0f} passes over the image{count}, most of it twice and more. {_instead(job)}"
    )


def _instead(job: "Job") -> str:
    settings, plan = job.settings, job.plan
    if plan.zeros == "tile":
        return "The tiles of this network stand alone and have the size of its training; a model of larger windows wastes less."
    if settings.write is not None:
        return f"Set Tile size to Automatic{_automatic(job)}."
    if settings.memory is not None:
        return "Allow more Memory under Large images: larger tiles waste less."
    if settings.method == "tiles":
        return "Set Method to Automatic under Advanced, which takes what costs less."
    return "The memory that is free allows no larger tiles; close what else takes memory, or crop the image."


def _automatic(job: "Job") -> str:
    """What that would be, in brackets with a space in front; "" where it is not known or no better."""
    from napari_shiftseg.segmentation.decision import plan_image

    wish = replace(job.settings, write=None)
    try:
        other = plan_image(job.plan.lattice, job.plan.image_shape, wish, device=job.device, trained=job.opened.model.record)
    except ShiftsegError:
        return ""
    tiles = f"{len(other):,} tile{'s' * (len(other) > 1)}"
    return f" ({tiles}, {other.redundancy:.1f} passes)" if other.redundancy < job.plan.redundancy else ""


def _work(job: "Job") -> tuple[float, int]:
    """Operations of the network, and pixels of the result."""
    share = 1.0 if job.layout is None else job.layout.redundancy / job.plan.redundancy
    return (job.stream or job.plan).flops * job.frames * share, prod(job.plan.result_shape) * job.frames


def _key(job: "Job") -> str:
    """Runs of one pace: of one model, device and number format, in memory or from disk to disk."""
    turns = 1 if job.plan.lattice.turned is None else len(job.plan.lattice.turned.turns)
    parts = (job.model.sha256[:16], job.device.name, job.dtype, f"{turns} turns", "disk" if job.large else "memory")
    return ", ".join(parts)


def _is_pace(pace: Any) -> bool:
    numbers = isinstance(pace, list | tuple) and len(pace) == 2 and all(isinstance(n, int | float) for n in pace)
    return numbers and all(isfinite(n) and n >= 0 for n in pace)
