"""`judge`: before anything runs, which tiles it would run on and whether that obeys the rules, in words."""

import math
import re
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_shiftseg.analysis.spacing import lattice_spacing, middle
from napari_shiftseg.errors import SettingsError, ShiftsegError
from napari_shiftseg.events import Event
from napari_shiftseg.geometry import StreamPlan, TilePlan, UNetSpec, choose_method, counted, tile_exact, violations
from napari_shiftseg.io import Image
from napari_shiftseg.network import Device, Model, stream_wish
from napari_shiftseg.network.device import choose_dtype
from napari_shiftseg.segmentation import SegmentSettings, plan_image, status
from napari_shiftseg.synthetic import capacity

__all__ = ["Verdict", "capacity_text", "describe_model", "judge", "spacing_steps", "tile_sizes", "tile_wish"]

# more tiles than this are slow to plan, and nobody wants them
_MOST_TILES = 20_000


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What can be promised of a run.

    Attributes
    ----------
    level : {"pass", "warn", "fail"}
        "warn": it runs, and promises less; "fail": it does not run.
    text : str
        Why, and what to do.
    plan : TilePlan or None
        None where no plan can be made.
    stream : StreamPlan or None
        The columns and strips of a run that streams.
    large : bool
        Whether the run goes out of core.
    out : Path or None
        The store that it writes.
    writing : str
        Where the result goes and in which blocks, "" where it stays in memory.
    """

    level: Literal["pass", "warn", "fail"]
    text: str
    plan: TilePlan | None = None
    stream: StreamPlan | None = None
    large: bool = False
    out: Path | None = None
    writing: str = ""

    @property
    def can_run(self) -> bool:
        """Whether Run would start."""
        return self.level != "fail"

    def describe(self) -> str:
        """The plan in words, "" where there is none."""
        chosen = self.stream or self.plan
        return "" if chosen is None else chosen.describe()

    def pinned(self, settings: SegmentSettings) -> SegmentSettings:
        """A wish for the very plan that was judged, even if the free memory has changed since."""
        assert self.plan is not None
        return replace(settings, write=self.plan.write, method="tiles" if self.stream is None else "stream")


def judge(image: Image, model: Model, settings: SegmentSettings, device: Device) -> Verdict:
    """The verdict on a run of `segment` with these values; integers only, no pixel is read."""
    spec = model.spec
    try:
        choose_dtype(settings.dtype, device)
        view = image.frames(spec.ndim, image.channels_for(spec.in_channels, settings.channels))[0].view
        plan = plan_image(spec, view.shape[1:], settings, device, model.record)
        wish = stream_wish(device, settings.memory)
        stream = choose_method(plan, settings.method, deterministic=settings.deterministic, **wish)
    except ShiftsegError as exc:
        text = str(exc)
        return Verdict(level="fail", text=text[:1].upper() + text[1:])
    found: Any = {"plan": plan, "stream": stream}
    broken = violations(plan, model.record)
    if broken:
        first = {v.rule: v.message for v in reversed(broken)}  # one sentence per rule, not one per axis
        reasons = " ".join(f"{message[:1].upper()}{message[1:]}" for message in reversed(first.values()))
        if settings.allow_noncompliant:
            word = "Tile-exact only" if status(broken, model.record) == "tile-exact" else "Non-compliant, allowed"
            return Verdict(level="warn", text=f"{word}. {reasons}", **found)
        return Verdict(level="fail", text=f"Not compliant. {reasons}", **found)
    if status(broken, model.record) == "tile-exact":
        text = "Tile-exact: the result equals that of a single tile. How the network was trained is not recorded."
        return Verdict(level="warn", text=text, **found)
    count = counted(plan, model.record)
    assert model.record is not None and count is not None
    trained = f"windows of {_edges(model.record.window)} px ({count.describe()})"
    if tile_exact(plan):
        text = f"Compliant: tiles meet on the network's {_edges(spec.period)} px lattice, and it was trained on {trained}."
    else:
        text = (
            f"Compliant as trained: the network pads with zeros, and its tiles stand alone as in training, on {trained}. "
            "Not tile-exact: one pass over the image gives another result."
        )
    return Verdict(level="pass", text=text, **found)


def describe_model(model: Model) -> str:
    """A model in a line: axes, channels, period, margin."""
    spec = model.spec
    channels = f"{spec.in_channels} channel" + "s" * (spec.in_channels > 1)
    known = None if model.record is None else model.record.known
    knows = "" if known is None else f"{'Demonstration. ' * known.demonstration}Knows {known.describe()}. "
    kind = "offsets to object centres" if spec.coordinates else f"free embedding of {spec.embedding_dim} channels"
    return f"{knows}{spec.ndim}D, {channels}, period {_edges(spec.period)} px, {kind}"


def capacity_text(spec: UNetSpec, spacing: tuple[int, ...] | None) -> tuple[Literal["pass", "warn"], str]:
    """How many same-looking objects the network can tell apart; "warn" if the spacing of the image makes them fewer.

    Parameters
    ----------
    spec : UNetSpec
    spacing : tuple of int or None
        Of a lattice that the image shows, pixels per axis.

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


def spacing_steps(
    image: Image, spec: UNetSpec, channels: tuple[int, ...] | None
) -> Generator[Event, None, tuple[int, ...] | None]:
    """Spacing of a lattice in the first frame and channel of an image; ShiftsegError if it has no such frame."""
    view = image.frames(spec.ndim, channels)[0].view
    pixels = np.asarray(view[(slice(0, 1), *middle(view.shape[1:]))])[0]
    return lattice_spacing(pixels)
    yield  # a generator without steps: jobs are generators


def tile_sizes(spec: UNetSpec, image_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Legal tile edges to offer for an image: the period times powers of two, up to the whole image."""
    step = math.lcm(*spec.period)
    sizes, size = [], step
    while True:
        if math.prod(-(-edge // size) for edge in image_shape) <= _MOST_TILES:
            sizes.append(size)
        if size >= max(image_shape):
            return tuple(sizes)
        size *= 2


def tile_wish(text: str, spec: UNetSpec, *, snap: bool) -> int | tuple[int, ...] | None:
    """What a typed tile size means: None for automatic, one edge, or one edge per axis ("64 x 128").

    Parameters
    ----------
    text : str
    spec : UNetSpec
        Whose period is the step of legal edges.
    snap : bool
        Take the nearest legal edge.

    Raises
    ------
    SettingsError
        If the text is neither.
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
