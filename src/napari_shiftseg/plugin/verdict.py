"""`judge`: before anything runs, which tiles it would run on and whether that obeys the rules, in words."""

import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_shiftseg.analysis.traits import lattice_spacing, middle
from napari_shiftseg.errors import SettingsError, ShiftsegError
from napari_shiftseg.geometry import Lattice, TilePlan, UNetSpec
from napari_shiftseg.io import Image, work_path
from napari_shiftseg.network import Device, Model
from napari_shiftseg.plugin.constants import MOST_TILES
from napari_shiftseg.segmentation import Job, SegmentSettings, decide
from napari_shiftseg.segmentation.sizing import sized, sized_lattice
from napari_shiftseg.synthetic import capacity

# Fields of a job that depend on the free memory.
_BY_MEMORY = (
    "plan", "stream", "layout", "broken", "status", "promises", "needs", "free", "disk", "reason", "judged",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What can be promised of a run."""

    level: Literal["pass", "warn", "fail"]  # "warn": it runs, and promises less; "fail": it does not run
    text: str  # why, and what to do
    job: Job | None = None  # what would run; None where nothing can
    resumes: bool = False  # whether it goes on with an unfinished one
    writing: str = ""  # where the result goes and in which blocks, "" where it stays in memory

    @property
    def can_run(self) -> bool:
        """Whether Run would start."""
        return self.level != "fail"

    @property
    def plan(self) -> TilePlan | None:
        """Tiles of a frame; None where no plan can be made."""
        return None if self.job is None else self.job.plan

    @property
    def out(self) -> Path | None:
        """The store that the run writes."""
        return None if self.job is None or self.job.out is None else Path(self.job.out)

    @property
    def large(self) -> bool:
        """Whether the run goes out of core."""
        return self.job is not None and self.job.large


def judge(
    image: Image,
    model: Model,
    settings: SegmentSettings,
    *,
    device: Device,
    named: Path | None = None,
    shown: Job | None = None,
) -> Verdict:
    """The verdict on a run of `segment` with these values; integers only, unless the pixels are in memory.

    Parameters
    ----------
    image, model, settings, device
        As in `decide`.
    named : Path or None
        The store that the user named.
    shown : Job or None
        What was shown last: where the same is wished for, its plan stays, also if the free memory has changed.
    """
    out = named or free_place(image)
    unfinished = out is not None and work_path(out).is_dir()
    try:
        job = decide(image, model, settings, out, device, refuse=False)
    except ShiftsegError as exc:
        return Verdict(level="fail", text=_sentence(str(exc)))
    if shown is not None and _wish(shown) == _wish(job):
        job = replace(job, **{name: getattr(shown, name) for name in _BY_MEMORY})
    if not job.large:
        job = replace(job, out=None if named is None else str(named))
    verdict = replace(_promise(job, model), job=job)
    if not verdict.can_run:
        return verdict
    if named is not None and named.exists():
        return replace(verdict, level="fail", text=f"{named} is there already; name another store under Result.")
    if job.large and job.out is None:
        why = job.reason or "the run goes out of core"
        return replace(verdict, level="fail", text=f"{_sentence(why)}; name a store to write under Result.")
    return replace(verdict, writing=_writing(job, unfinished=unfinished), resumes=job.large and unfinished)


def _wish(job: Job) -> tuple[Any, ...]:
    """What a job was made from, but the free memory."""
    return job.image.axes, job.image.shape, job.image.dtype, job.model, job.settings, job.channels, job.device


def _promise(job: Job, model: Model) -> Verdict:
    """What can be promised of the labels."""
    if job.broken:
        first = {v.rule: v.message for v in reversed(job.broken)}  # one sentence per rule, not one per axis
        reasons = " ".join(_sentence(message) for message in reversed(first.values()))
        if job.settings.allow_noncompliant:
            word = "Tile-exact only" if job.status == "tile-exact" else "Non-compliant, allowed"
            return Verdict(level="warn", text=f"{word}. {reasons}")
        return Verdict(level="fail", text=f"Not compliant. {reasons}")
    if job.status == "tile-exact":
        text = "Tile-exact: the result equals that of a single tile. How the network was trained is not recorded."
        return Verdict(level="warn", text=text)
    assert model.record is not None
    (functions, of_functions), (pairs, of_pairs) = job.promises["functions"], job.promises["pairs"]
    count = f"{functions} of {of_functions} functions, {pairs} of {of_pairs} pairs"
    trained = f"windows of {_edges(model.record.window)} px ({count})"
    if job.promises["tile_exact"]:
        period = _edges(job.plan.lattice.period)
        text = f"Compliant: tiles meet on the network's {period} px lattice, and it was trained on {trained}."
    else:
        text = (
            f"Compliant as trained: the network pads with zeros, and its tiles stand alone as in training, on {trained}. "
            "Not tile-exact: one pass over the image gives another result."
        )
    return Verdict(level="pass", text=text)


def _writing(job: Job, *, unfinished: bool) -> str:
    if job.layout is None:
        return "" if job.out is None else f"The result is also written to {job.out}."
    blocks = f"{job.layout.describe()}."
    if unfinished:
        return f"Out of core: Run goes on with the unfinished result {job.out}. {_sentence(blocks)}"
    why = f"{_sentence(job.reason)}. " if job.reason else ""
    return f"Out of core: {why}Run writes the result to {job.out}, {blocks}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def describe_model(model: Model) -> str:
    """A model in a line: axes, channels, period, margin."""
    lattice, code = model.lattice, model.embedding
    channels = f"{lattice.in_channels} channel" + "s" * (lattice.in_channels > 1)
    known = None if model.record is None else model.record.known
    knows = "" if known is None else f"{'Demonstration. ' * known.demonstration}Knows {known.describe()}. "
    kind = "offsets to object centres" if code.meaning == "offset" else f"free embedding of {code.count} channels"
    shape = f"{lattice.ndim}D, {channels}, period" if known is None else "Period"  # what it knows says the others
    return f"{knows}{shape} {_edges(lattice.period)} px, {kind}"


def capacity_text(spec: UNetSpec, spacing: tuple[int, ...] | None) -> tuple[Literal["pass", "warn"], str]:
    """How many same-looking objects the network can tell apart; "warn" if the spacing of the image makes them fewer.

    `spacing`: of a lattice that the image shows, pixels per axis.

    Source: Rumberger et al. 2021, Corollary 2.
    """
    if spec.coordinates:
        return "pass", "The embedding holds each pixel's position, so same-looking objects differ wherever they lie."
    most = math.prod(spec.period)
    text = (
        f"The embeddings of at most {most} same-looking objects differ (period {_edges(spec.period)} px; "
        "Rumberger et al. 2021, Corollary 2)."
    )
    if spacing is None:
        return "pass", text
    count = capacity(spacing, spec.period)
    text += f" The image repeats every {_edges(spacing)} px: of objects on that lattice {count} differ."
    return ("warn" if count < most else "pass"), text


def spacing_of(job: Job) -> tuple[int, ...] | None:
    """Spacing of a lattice in the first frame and channel of the image of a job."""
    view = job.opened.frames[0].view
    return lattice_spacing(np.asarray(view[(slice(0, 1), *middle(view.shape[1:]))])[0])


def lattice_for(model: Model, diameter: float | None) -> Lattice:
    """The lattice of a model that runs at the scale for objects of a diameter, pixels."""
    return sized_lattice(model, None if diameter is None else sized(diameter, model, how="given"))


def tile_sizes(spec: Lattice | UNetSpec, image_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Legal tile edges to offer for an image: the period times powers of two, up to the whole image."""
    step = math.lcm(*spec.period)
    sizes, size = [], step
    while True:
        if math.prod(-(-edge // size) for edge in image_shape) <= MOST_TILES:
            sizes.append(size)
        if size >= max(image_shape):
            return tuple(sizes)
        size *= 2


def tile_wish(text: str, spec: Lattice | UNetSpec, *, snap: bool) -> int | tuple[int, ...] | None:
    """What a typed tile size means: None for automatic, one edge, or one edge per axis ("64 x 128").

    SettingsError if the text is neither.

    Parameters
    ----------
    spec : Lattice or UNetSpec
        Whose period is the step of legal edges.
    snap : bool
        Take the nearest legal edge.
    """
    text = text.strip()
    if text.lower() in {"", "automatic"}:
        return None
    parts = re.split(r"\s*[x×,]\s*|\s+", text.removesuffix("px").strip())
    if not all(part.isdecimal() for part in parts) or len(parts) not in {1, spec.ndim}:
        raise SettingsError(f'tile size "{text}" is not a number of pixels; give one edge, {spec.ndim} edges, or Automatic.')
    edges = [int(part) for part in parts]
    if len(edges) == 1:
        step = math.lcm(*spec.period)
        return _nearest(edges[0], step) if snap else edges[0]
    return tuple(_nearest(edge, step) if snap else edge for edge, step in zip(edges, spec.period, strict=True))


def _nearest(edge: int, step: int) -> int:
    return max(1, round(edge / step)) * step


def _edges(values: tuple[int, ...]) -> str:
    return str(values[0]) if len(set(values)) == 1 else " x ".join(map(str, values))


_SUFFIX = "_shiftseg"


def free_place(image: Image) -> Path | None:
    """A store beside the image's file, else in the home folder, under a name that is not taken.

    A name under which an unfinished run lies is not taken: the run can go on. `image`: its source is a path, or words where
    there is none.

    Returns
    -------
    Path or None
        None where no folder can be written to.
    """
    source = Path(image.source)
    stem = _stem(source) if source.exists() else re.sub(r"[^\w.-]+", "_", image.name).strip("_.") or "image"
    folders = [source.absolute().parent] if source.exists() else []
    folder = next((f for f in [*folders, Path.home()] if f.is_dir() and os.access(f, os.W_OK)), None)
    if folder is None:
        return None
    names = (f"{stem}{_SUFFIX}{f'_{number}' if number > 1 else ''}.ome.zarr" for number in range(1, 10_000))
    return next((folder / name for name in names if not (folder / name).exists()), None)


def _stem(path: Path) -> str:
    """Name without the suffixes of images: `a.ome.tif` gives `a`."""
    return path.stem.removesuffix(".ome") or path.stem
