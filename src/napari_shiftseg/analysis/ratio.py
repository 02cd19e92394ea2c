"""A ratio of sums over paired segments, with an interval that respects how segments hang together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from napari_shiftseg.analysis.constants import FEWEST_LINES, FEWEST_SEGMENTS, RESAMPLES

__all__ = ["Ratio", "ratio_of"]


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Seams over controls.

    Attributes
    ----------
    value : float
        Ratio of the sums; nan without segments.
    interval : (float, float)
        Confidence interval; nan if there are too few segments.
    superiority : float
        Effect size: share of segments in which the seam exceeds its controls; 0.5 if seams are like other lines.
    lines, segments : int
        That were compared.
    """

    value: float
    interval: tuple[float, float]
    superiority: float
    lines: int
    segments: int

    @property
    def above_one(self) -> bool:
        """Whether the seams exceed the controls, and do so in most places and not only in a few."""
        return self.interval[0] > 1 and self.superiority > 0.5


def ratio_of(lines: Sequence[npt.NDArray[np.float64]], rng: np.random.Generator, level: float) -> Ratio:
    """Ratio of the mean at the seams to the mean at the controls, over all segments of all lines.

    Parameters
    ----------
    lines : sequence of ndarray
        (segments, 4) per line: sum at the seam, sum at its controls, and the numbers of values in these sums; or (segments, 2)
        of sums over equally many values.
    rng : numpy Generator
    level : float
        Confidence, 0 to 1.

    Notes
    -----
    Segments of one line are alike where an image is regular, and one line may lie on a border of the image's own making
    (the fields of a mosaic). So whole lines are resampled too, and the wider interval counts.
    """
    lines = [_with_counts(line) for line in lines if len(line)]
    segments = np.concatenate(lines) if lines else np.zeros((0, 4))
    totals = segments.sum(axis=0)
    if totals[1] <= 0 or totals[2] == 0:
        # flat everywhere but at the seams is the worst there is; flat everywhere says nothing
        flat, share = (math.inf, 1.0) if totals[0] > 0 and totals[3] > 0 else (math.nan, math.nan)
        return Ratio(value=flat, interval=(flat, flat), superiority=share, lines=len(lines), segments=len(segments))
    value = float(_quotient(totals))
    seam, control, seam_count, control_count = segments[segments[:, 2] > 0].T
    typical = np.full_like(control, totals[1] / totals[3])  # for segments whose own controls hold nothing
    beside = np.divide(control, control_count, out=typical, where=control_count > 0)
    greater = np.sign(seam / seam_count - beside)
    margin = max(
        _margin(segments, rng, level, fewest=FEWEST_SEGMENTS),
        _margin(np.stack([line.sum(axis=0) for line in lines]), rng, level, fewest=FEWEST_LINES),
    )
    interval = (math.nan, math.nan) if margin < 0 else (value * math.exp(-margin), value * math.exp(margin))
    return Ratio(
        value=value,
        interval=interval,
        superiority=float((greater.mean() + 1) / 2),
        lines=len(lines),
        segments=len(segments),
    )


def _margin(sums: npt.NDArray[np.float64], rng: np.random.Generator, level: float, *, fewest: int) -> float:
    """Half width of the interval of the logarithm; -1 if there are too few rows to resample."""
    count = len(sums)
    if count < fewest or sums[:, 0].sum() <= 0:
        return -1.0
    weights = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    drawn = weights @ sums
    drawn = drawn[(drawn > 0).all(axis=1)]
    if len(drawn) < RESAMPLES // 2:
        return -1.0
    spread = float(np.log(_quotient(drawn.T)).std(ddof=1)) * math.sqrt(count / (count - 1))
    return float(stats.t.ppf((1 + level) / 2, count - 1)) * spread


def _quotient(columns: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    seam, control, seam_count, control_count = columns
    return np.asarray(seam / seam_count / (control / control_count))


def _with_counts(line: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.concatenate([line, np.ones_like(line)], axis=1) if line.shape[1] == 2 else line
