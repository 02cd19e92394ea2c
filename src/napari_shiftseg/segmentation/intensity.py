"""`Intensity`: which intensities become 0 and 1 in each frame of a run, what was left out for that, and what to beware of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.geometry import Window
from napari_shiftseg.io import Frame, from_plain
from napari_shiftseg.network import Limits, ModelRecord, Normalisation, Scaling
from napari_shiftseg.segmentation.constants import ABOVE, BELOW, FAINT, NARROW, SLAB, SPARSE
from napari_shiftseg.segmentation.settings import SegmentSettings

_NUMBER = (int, float, np.number)


@dataclass(frozen=True, kw_only=True)
class Intensity:
    """How the intensities of a run are scaled."""

    limits: tuple[Limits, ...]  # one for all frames, or one per frame
    # notes, warnings: what was left out, and what to beware of, a sentence each
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    # what of them says how many pixels hold no data: a share as far as it was seen, and whether there are infinite values
    missing: float = 0.0
    infinite: bool = False

    def counted(self, counts: npt.NDArray[np.int64], pixels: int, *, infinite: bool) -> Intensity:
        """The same where all pixels were looked at, of which `counts` (frames, channels) hold no data, of so many per frame."""
        shares = counts / pixels if len(self.limits) > 1 else counts.mean(axis=0, keepdims=True) / pixels
        missing = float(shares.max(axis=1).mean())
        notes = [note for note in self.notes if note not in _gap_notes(self.missing)]
        warnings = [text for text in self.warnings if text not in _infinite(self.infinite)]
        return replace(
            self,
            notes=(*_gap_notes(missing), *notes),
            warnings=(*_infinite(infinite), *warnings),
            missing=missing,
            infinite=infinite,
        )

    def of(self, frame: int) -> Limits:
        """The limits of a frame."""
        return self.limits[frame if len(self.limits) > 1 else 0]

    def describe(self) -> str:
        """The limits in words."""
        first = self.limits[0]
        if first.clip is None:
            return "as they are"
        low, high = [" / ".join(f"{value:.6g}" for value in values) for values in (first.low, first.high)]
        ends = "1 and 0" if first.invert else "0 and 1"
        if len(self.limits) > 1:
            return f"each frame has its own limits; {low} and {high} become {ends} in the first"
        return f"{low} and {high} become {ends}"


@dataclass(kw_only=True, eq=False)
class Gaps:
    """Values without data in a part of a frame, counted on the way through."""

    part: Window  # pixels of the image
    counts: npt.NDArray[np.int64]  # (C,)
    infinite: bool = False

    def add(self, values: npt.NDArray[Any], lacking: npt.NDArray[np.bool_], corner: Sequence[int]) -> None:
        """Count those of a block (C, *shape) that lie in the part."""
        spans = zip(self.part, corner, lacking.shape[1:], strict=True)
        inside = tuple(slice(max(0, span.start - at), max(0, min(size, span.stop - at))) for span, at, size in spans)
        found = lacking[(slice(None), *inside)]
        self.counts += found.reshape(len(found), -1).sum(axis=1)
        if values.dtype.kind == "f" and not self.infinite:
            self.infinite = bool(np.isinf(values[(slice(None), *inside)]).any())


def check_intensity(settings: SegmentSettings) -> None:
    """Refuse wishes for limits that cannot work.

    Raises
    ------
    SettingsError
    """
    if settings.limits is not None and settings.percentiles is not None:
        raise SettingsError("limits and percentiles were given; give one of them.")
    if settings.limits_per not in ("image", "frame"):
        raise SettingsError(f"limits_per is {settings.limits_per!r}; give 'image' or 'frame'.")
    if settings.limits is not None and settings.limits_per == "frame":
        raise SettingsError("limits for all frames and limits per frame were given; give percentiles, or one of the two.")
    for low, high in _pairs(settings.limits) or ():
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise SettingsError(f"limits are {low:g} and {high:g}; give two numbers, the lower one first.")
    if settings.percentiles is not None:
        given: Any = settings.percentiles
        if np.size(given) != 2 or not all(isinstance(value, _NUMBER) for value in given):
            raise SettingsError(f"percentiles are {given!r}; give two from 0 to 100, the lower one first.")
        low, high = given
        if not 0 <= low < high <= 100:
            raise SettingsError(f"percentiles are {low:g} and {high:g}; give two from 0 to 100, the lower one first.")
    if settings.no_data is not None and not isinstance(settings.no_data, _NUMBER):
        raise SettingsError(f"no_data is {settings.no_data!r}; give a number, such as 0.")


def scale_frames(record: ModelRecord | None, frames: Sequence[Frame], settings: SegmentSettings) -> Intensity:
    """The scaling of all frames of an image: one for all of them, or one for each, and never one per tile.

    SettingsError if a wish cannot work. ImageError if a channel holds no data. `record`: whose normalisation holds where
    nothing else is wished.
    """
    check_intensity(settings)
    rule = record.normalisation if record else Normalisation(low=0, high=0)
    if settings.percentiles is not None:
        rule = Normalisation(low=settings.percentiles[0], high=settings.percentiles[1], robust=False)
    pairs = _pairs(settings.limits)
    channels = frames[0].view.shape[0]
    wish: Any = {
        "given": pairs * channels if pairs is not None and len(pairs) == 1 else pairs,
        "invert": settings.invert,
        "no_data": settings.no_data,
    }
    views = [frame.view for frame in frames]
    each = settings.limits_per == "frame" and len(frames) > 1
    if each:
        whole = rule.scaling(views, **wish)  # frames without data take part in nothing
        scalings = [_frame_scaling(rule, view, wish, whole=whole) for view in views]
    else:
        scalings = [rule.scaling(views, **wish)]
    return Intensity(
        limits=tuple(one.limits for one in scalings),
        missing=sum(one.missing for one in scalings) / len(scalings),
        infinite=any(one.infinite for one in scalings),
        notes=_notes(scalings),
        warnings=(*_warnings(scalings), *(() if each else _faint_frames(scalings[0], frames))),
    )


def recorded_limits(record: Mapping[str, Any]) -> Intensity:
    """The limits that the record of a run holds."""
    found = record.get("frame_limits") or [record["limits"]]
    return Intensity(limits=from_plain(tuple[Limits, ...], found, what="the record of the run"))


def with_data(
    foreground: npt.NDArray[np.float32] | None,
    image: Any,
    limits: Limits,
    *,
    corner: Sequence[int],
    shape: Sequence[int],
    gaps: Gaps | None = None,
) -> npt.NDArray[np.float32] | None:
    """The foreground of a window without the pixels that hold no data; in place, or a new one where there was none.

    Parameters
    ----------
    foreground : ndarray or None
        (*shape) probability; None where all pixels can belong to an instance.
    image : array-like
        (C, *frame), read only where it can have such pixels.
    corner, shape : sequence of int
        Of the window, pixels of the image.
    gaps : Gaps, optional
        Gets what holds no data in its part.
    """
    if np.dtype(image.dtype).kind != "f" and limits.no_data is None:
        return foreground
    rows = max(1, SLAB // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], rows):
        stop = min(shape[0], start + rows)
        spans = ((start, stop), *((0, size) for size in shape[1:]))
        window = tuple(slice(first + a, first + b) for first, (a, b) in zip(corner, spans, strict=True))
        values = np.asarray(image[(slice(0, image.shape[0]), *window)])
        lacking = limits.gaps(values)
        if lacking is None:
            continue
        if gaps is not None:
            gaps.add(values, lacking, [span.start for span in window])
        missing = lacking.all(axis=0)
        if missing.any():
            if foreground is None:
                foreground = np.ones(tuple(shape), np.float32)
            foreground[start:stop][missing] = 0
    return foreground


def few_objects(counts: Sequence[int], plane: Sequence[int]) -> tuple[str, ...]:
    """A warning where a run found nothing or next to nothing, or nothing in some frames.

    Parameters
    ----------
    counts : sequence of int
        Instances per frame.
    plane : sequence of int
        Edges of a frame along y and x, pixels.
    """
    total, area = sum(counts), math.prod(plane) * len(counts) / 1e6
    if total == 0:
        return ("No object was found; look at the intensity limits, the model and the size of the objects.",)
    if total < SPARSE * area:
        return (f"Only {total} object{'s' * (total > 1)} in {area:.3g} million pixels; look at the intensity limits.",)
    empty = [number for number, count in enumerate(counts) if count == 0]
    if empty and total >= 5 * (len(counts) - len(empty)):
        return (f"No object was found in {_numbered(empty, len(counts))}.",)
    return ()


def _pairs(limits: Any) -> tuple[tuple[float, float], ...] | None:
    """Given limits as one pair per channel, or one pair for all."""
    if limits is None:
        return None
    try:
        several = tuple(limits)
        if several and all(isinstance(value, _NUMBER) for value in several):
            several = (several,)
        pairs = tuple((low, high) for low, high in several)
    except (TypeError, ValueError):
        pairs = ()
    if not pairs:
        raise SettingsError(f"limits are {limits!r}; give (low, high), or such a pair for each channel.")
    return pairs


def _frame_scaling(rule: Normalisation, view: Any, wish: Any, *, whole: Scaling) -> Scaling:
    from napari_shiftseg.errors import ImageError

    try:
        return rule.scaling([view], **wish)
    except ImageError:  # nothing in this frame to scale
        return replace(whole, bounds=(), below=0.0, above=0.0, reach=1.0, missing=1.0, frames=())


# -- sentences --------------------------------------------------------------------------------------------------------


def _notes(scalings: Sequence[Scaling]) -> tuple[str, ...]:
    found = [bound for one in scalings for bound in one.bounds]
    notes = [*_gap_notes(sum(one.missing for one in scalings) / len(scalings))]
    if lacking := max((bound.lacking for bound in found), default=0.0):
        notes.append(
            f"{_percent(lacking)} of the image is a constant area without data, which was left out of the intensity limits."
        )
    if odd := max((bound.odd for bound in found), default=0.0):
        notes.append(
            f"{_percent(odd)} of the pixels are like none of their neighbours (hot or dead ones, lines) and were left out of "
            "the intensity limits."
        )
    return tuple(notes)


def _gap_notes(share: float) -> tuple[str, ...]:
    if not share:
        return ()
    return (f"{_percent(share)} of the pixels hold no data; they count as background, and no object lies there.",)


def _infinite(found: bool) -> tuple[str, ...]:
    return ("The image holds infinite values; they count as no data.",) * found


def _warnings(scalings: Sequence[Scaling]) -> tuple[str, ...]:
    found = [*_infinite(any(one.infinite for one in scalings))]
    bright = max((bound.bright for one in scalings for bound in one.bounds), default=0.0)
    if bright:
        found.append(
            f"Things on {_percent(bright)} of the image are far brighter than many objects, and were left out of the intensity "
            "limits; if they are the objects, set limits or percentiles."
        )
    tests = (
        ([one.below for one in scalings], BELOW, "of the pixels are below the lower limit", max),
        ([one.above for one in scalings], ABOVE, "of the pixels are above the upper limit", max),
    )
    for shares, most, text, worst in tests:
        frames = [number for number, share in enumerate(shares) if share > most]
        if frames:
            where = f" in {_numbered(frames, len(shares))}" if len(shares) > 1 else ""
            found.append(f"{_percent(worst(shares))} {text}{where}; set other limits.")
    narrow = [number for number, one in enumerate(scalings) if one.limits.clip is not None and 0 < one.reach < NARROW]
    if narrow:
        where = f" in {_numbered(narrow, len(scalings))}" if len(scalings) > 1 else ""
        reach = min(scalings[number].reach for number in narrow)
        found.append(f"The intensities take {_percent(reach)} of the scale only{where}; set closer limits.")
    return tuple(found)


def _faint_frames(scaling: Scaling, frames: Sequence[Frame]) -> tuple[str, ...]:
    """A warning where time points are so faint on the scale of the series that their objects cannot be found."""
    reached: dict[int, float] = {}
    for number, reach in scaling.frames:
        time = frames[number].index.get("t")
        if time is not None:
            reached[time] = max(reach, reached.get(time, -math.inf))
    faint = [time for time, reach in sorted(reached.items()) if reach < FAINT]
    if not faint or len(reached) < 2:
        return ()
    most = _percent(max(0.0, min(reached.values())))
    return (
        f"In {_numbered(faint, len(reached), 'time point')} nothing is brighter than {most} "
        'of the scale that all share; if the series bleaches, take "Limits per frame" (--limits-per frame).',
    )


def _numbered(numbers: Sequence[int], count: int, what: str = "frame") -> str:
    """Which of several, in few words, from 0."""
    shown = ", ".join(map(str, numbers[:5])) + ", \u2026" * (len(numbers) > 5)
    return f"{len(numbers)} of {count} {what}s ({shown})"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"
