"""Labels at the seams: which instances meet one, and which end exactly there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.analysis.constants import CONTROLS, STRAIGHT_PIXELS, STRAIGHT_SHARE
from napari_shiftseg.analysis.lines import Lines, segment_sums, slabs
from napari_shiftseg.analysis.ratio import Ratio, ratio_of
from napari_shiftseg.views import ArrayLike

__all__ = ["CutCount", "Cuts", "count_cuts", "summarise_cuts"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CutCount:
    """Labels along one seam and along its controls."""

    touching: int
    crossing: int
    cut: int
    straight: int
    straight_control: float  # per control line
    segments: npt.NDArray[np.float64]  # (segments, 2): pairs of pixels with two labels at the seam, mean of the controls


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """Labels at all seams beside other lines.

    Attributes
    ----------
    touching, crossing : int
        Instances with a pixel beside a seam, and with pixels on both sides; an instance counts once per seam.
    cut : Ratio
        Pairs of pixels whose labels differ across the seam (at least one an instance), over those at nearby lines.
    straight, straight_control : float
        Instances that end on a seam with a straight edge, and how many would by chance.
    """

    touching: int
    crossing: int
    cut: Ratio
    straight: int
    straight_control: float

    def text(self, level: float) -> str:
        """The finding in words."""
        if math.isnan(self.cut.value):
            return "no instance ends near a seam"
        found = f"instances end at the seams {self.cut.value:.2f} times as often as at other lines"
        if not math.isnan(self.cut.interval[0]):
            found += f" ({level:.0%} interval {self.cut.interval[0]:.2f} to {self.cut.interval[1]:.2f})"
        return f"{found}, {self.straight} with a straight edge where {self.straight_control:.1f} would by chance"


def count_cuts(labels: ArrayLike, lines: Lines, axis: int, *, position: int, seed: int) -> CutCount:
    """Count along one seam; control lines are drawn from those nearby.

    Parameters
    ----------
    labels : array-like
        (*shape) int.
    """
    controls = np.asarray(lines.nearby(axis, position), dtype=int)
    if len(controls) > CONTROLS:
        rng = np.random.default_rng([seed, axis, position])
        controls = np.sort(rng.choice(controls, CONTROLS, replace=False))
    segments, faces = [], []
    for slab in slabs(labels, lines, axis, position=position):
        below, above = slab.pixels[:-1], slab.pixels[1:]
        differ = (below != above) & ((below > 0) | (above > 0))
        sums = segment_sums(differ, len(lines.shape))
        seam = position - slab.first
        if len(controls):
            segments.append(np.stack([sums[seam], sums[controls - slab.first].mean(axis=0)], axis=1))
        rows = [seam, *(controls - slab.first)]
        faces.append((below[rows].reshape(len(rows), -1), above[rows].reshape(len(rows), -1)))
    below, above = (np.concatenate(side, axis=1) for side in zip(*faces, strict=True))
    straight = [_straight(a, b) for a, b in zip(below, above, strict=True)]
    both = np.intersect1d(below[0][below[0] == above[0]], below[0])
    touching = np.union1d(below[0], above[0])
    return CutCount(
        touching=int((touching > 0).sum()),
        crossing=int((both > 0).sum()),
        cut=int(((below[0] != above[0]) & ((below[0] > 0) | (above[0] > 0))).sum()),
        straight=straight[0],
        straight_control=float(np.mean(straight[1:])) if len(straight) > 1 else math.nan,
        segments=np.concatenate(segments) if segments else np.zeros((0, 2)),
    )


def _straight(below: npt.NDArray[Any], above: npt.NDArray[Any]) -> int:
    """Instances whose pixels along the line mostly end at it."""
    found: set[int] = set()
    for side, other in ((below, above), (above, below)):
        numbers, index, length = np.unique(side, return_inverse=True, return_counts=True)
        ends = np.bincount(index.ravel(), (side != other).ravel(), len(numbers))
        straight = (numbers > 0) & (length >= STRAIGHT_PIXELS) & (ends >= STRAIGHT_SHARE * length)
        found.update(numbers[straight].tolist())
    return len(found)


def summarise_cuts(counts: Sequence[CutCount], rng: np.random.Generator, level: float) -> Cuts:
    """One summary over all seams."""
    return Cuts(
        touching=sum(count.touching for count in counts),
        crossing=sum(count.crossing for count in counts),
        cut=ratio_of([count.segments for count in counts], rng, level),
        straight=sum(count.straight for count in counts),
        straight_control=float(np.nansum([count.straight_control for count in counts])),
    )
