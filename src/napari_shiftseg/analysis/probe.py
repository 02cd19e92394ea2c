"""`probe_period`: what a network does when its input moves, found by moving it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch import Tensor

from napari_shiftseg.analysis.bench import Bench, Network, bench_steps, scale
from napari_shiftseg.analysis.constants import SHIFTS
from napari_shiftseg.arguments import told
from napari_shiftseg.errors import ModelError, SettingsError
from napari_shiftseg.events import Event, Stage, drain
from napari_shiftseg.geometry import Lattice, UNetSpec
from napari_shiftseg.network import Model


@dataclass(frozen=True, kw_only=True)
class PeriodProbe:
    """What moving the input of a network did to its output.

    Attributes
    ----------
    period : tuple of (int or None)
        Per axis the smallest tested shift t with F(T_t I) = T_t F(I), pixels; None if there is none.
    margin : tuple of int
        Input edge minus output edge, pixels.
    reach : tuple of (int or None)
        Largest distance at which an input pixel changed an output pixel, pixels; None if it exceeds what the probed size shows.
    sensitivity : tuple of mapping
        Per axis {shift: largest |F(T_t I) - T_t F(I)| over the largest |F(I)|}, on random and constant images.
    distinct : int
        Different output vectors on a constant image within one period, away from the borders (paper: at most f^(d*l)).
    location_aware : bool
        Whether the borders of a constant image change the output, as zero padding does.
    declared : UNetSpec or None
    agrees : bool or None
        Whether the network keeps what it declares: its period divides the declared one, its margin equals it, its reach does
        not exceed it. None without a declaration.
    size : tuple of int
        Input edges that were probed along each axis, pixels.
    smallest : tuple of int
        Smallest input edges that passed, pixels.
    channels : int
        Of the image.
    precision : str
        "float64" or "float32".
    text : str
        The finding in one sentence.
    """

    period: tuple[int | None, ...]
    margin: tuple[int, ...]
    reach: tuple[int | None, ...]
    sensitivity: tuple[Mapping[int, float], ...]
    distinct: int
    location_aware: bool
    declared: UNetSpec | None
    agrees: bool | None
    size: tuple[int, ...]
    smallest: tuple[int, ...]
    channels: int
    precision: str
    text: str

    @property
    def lattice(self) -> Lattice:
        """What a plan needs to know of the network, as it was found; what it declares, if it keeps that.

        A network that loses a margin on some axes and pads on others is taken to lose what sees the padding, too.

        Raises
        ------
        ModelError
            If no tested shift was a period, or the network sees farther than the probed size shows.
        """
        if self.agrees and self.declared is not None:
            return self.declared.lattice
        if None in self.reach:
            edges = " x ".join(map(str, self.size))
            raise ModelError(
                f"the network sees farther than an input of {edges} px shows; probe it with a larger size, or, where a layer "
                "depends on all pixels, take a network without it."
            )
        if None in self.period:
            raise ModelError(
                "no tested shift of the input merely shifts the output, so tiles of the network cannot equal one pass; take a "
                "network without layers that depend on all pixels, or whose margin leaves out all pixels that see padding."
            )
        period, reach = [p or 1 for p in self.period], [r or 0 for r in self.reach]
        mixed = any(self.margin)
        around = [2 * r if mixed and not lost else 0 for r, lost in zip(reach, self.margin, strict=True)]
        return Lattice(
            ndim=len(period),
            period=tuple(period),
            margin=tuple(lost + more for lost, more in zip(self.margin, around, strict=True)),
            reach=tuple(reach),
            padding="valid" if mixed else "zero",
            smallest=tuple(
                # of a padded network multiples of the period, which it takes
                size + -(-more // p) * p if lost else -(-(size + more) // p) * p
                for size, more, p, lost in zip(self.smallest, around, period, self.margin, strict=True)
            ),
            in_channels=self.channels,
        )


@told
def probe_period(
    module_or_model: Model | Network,
    *,
    ndim: int = 2,
    channels: int = 1,
    size: int | Sequence[int] | None = None,
    shifts: Sequence[int] | None = None,
    seed: int = 0,
    spec: UNetSpec | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> PeriodProbe:
    """Find the period, margin and reach of any network by experiment.

    Parameters
    ----------
    module_or_model : Model, Module or callable
        Maps (1, C, *in) to (1, E, *out); a copy of a Module runs in evaluation mode on the CPU, in float64 if it can.
    ndim, channels : int
        Axes and channels of the image; a network with a spec knows them itself.
    size : int or sequence of int, optional
        Input edges, pixels; None searches for one that passes.
    shifts : sequence of int, optional
        Shifts to test, pixels; None takes the divisors of a declared period and more where those fail.
    seed : int
        Of the random images.
    spec : UNetSpec, optional
        What is claimed of a network that is not a `UNet`.
    on_event : callable, optional
        Called with a `Stage` for each experiment, and with an `Event` for each pass of the network.

    Returns
    -------
    PeriodProbe

    Raises
    ------
    ModelError
        If the network takes no size that was tried.
    SettingsError
        If `size` has the wrong number of edges or a shift is below 1.
    OutOfMemoryError

    Source: Rumberger et al. 2021, Definitions 1 and 2, Lemma 1.

    >>> pooled = torch.nn.Sequential(torch.nn.MaxPool1d(2), torch.nn.Upsample(scale_factor=2))
    >>> found = probe_period(pooled, ndim=1)
    >>> found.period, found.margin, found.distinct
    ((2,), (0,), 1)
    """
    steps = probe_steps(module_or_model, ndim=ndim, channels=channels, size=size, shifts=shifts, seed=seed, spec=spec)
    return drain(steps, on_event)


def probe_steps(
    module_or_model: Model | Network,
    *,
    ndim: int = 2,
    channels: int = 1,
    size: int | Sequence[int] | None = None,
    shifts: Sequence[int] | None = None,
    seed: int = 0,
    spec: UNetSpec | None = None,
) -> Generator[Event, None, PeriodProbe]:
    """Generator form of `probe_period`: yields an event per pass of the network, returns the `PeriodProbe`."""
    module: Any = module_or_model.module if isinstance(module_or_model, Model) else module_or_model
    declared = spec or getattr(module, "spec", None)
    if declared is not None:
        ndim, channels = declared.ndim, declared.in_channels
    if shifts is not None and (not shifts or min(shifts) < 1):
        raise SettingsError(f"shifts are {tuple(shifts)}; give whole pixels, 1 or more.")
    bench = yield from bench_steps(module, ndim, channels, declared=declared, size=size, seed=seed)
    return (yield from _probed(bench, declared, shifts))


def _probed(bench: Bench, declared: UNetSpec | None, shifts: Sequence[int] | None) -> Generator[Event, None, PeriodProbe]:
    seen: list[int | None] = []
    for axis in range(bench.ndim):
        seen.append((yield from _reach_steps(bench, axis)))
    reach = tuple(seen)
    sensitivity: list[dict[int, float]] = []
    period: list[int | None] = []
    for axis in range(bench.ndim):
        found: dict[int, float] = {}
        for shift in _shifts(bench, axis, declared, wanted=shifts, found=found):
            found[shift] = yield from _sensitivity_steps(bench, axis, shift, reach=reach)
        sensitivity.append(dict(sorted(found.items())))
        period.append(min((t for t, value in found.items() if value <= bench.equal), default=None))
    yield Stage(done=0, total=0, text="looking at a constant image")
    distinct, aware = _constant(bench, tuple(p or bench.room[k] for k, p in enumerate(period)), reach)
    agrees = None if declared is None else _agrees(declared, period, bench.margin, reach=reach)
    return PeriodProbe(
        period=tuple(period),
        margin=bench.margin,
        reach=reach,
        sensitivity=tuple(sensitivity),
        distinct=distinct,
        location_aware=aware,
        declared=declared,
        agrees=agrees,
        size=bench.long,
        smallest=bench.least,
        channels=bench.channels,
        precision=str(bench.dtype).removeprefix("torch."),
        text=_text(period, bench.margin, reach, distinct=distinct, aware=aware, declared=declared, agrees=agrees),
    )


# -- experiments ------------------------------------------------------------------------------------------------------


def _reach_steps(bench: Bench, axis: int) -> Generator[Event, None, int | None]:
    """Change everything beyond a position, and see how far away the output changes."""
    shape = bench.shape(axis)
    edge, lost = shape[axis], bench.margin[axis]
    image = bench.noise(shape, 1)
    # strong, of either sign, so that it gets past ReLU and maximum
    others = [16 * bench.noise(shape, salt) - 8 for salt in (2, 4)]
    before = bench.run(image)
    tolerance = bench.equal * 1e-2 * scale(before)
    farthest = 0
    # positions of all phases, so near the end of the image that what they reach lies within the output
    positions = range(max(1, edge - 1 - bench.phases[axis]), edge - 1)
    done, total = 0, 2 * len(others) * len(positions)
    yield Stage(done=0, total=total, text=f"looking how far the network sees on axis {axis}")
    for position in positions:
        for side in (slice(position, None), slice(None, edge - position)):
            changes = []
            for other in others:
                changes.append(_change(bench, image, other, axis=axis, side=side, before=before))
                done += 1
                yield Event(done=done, total=total)
            moved = torch.stack(changes).amax(0)
            if side.start is None:
                moved = moved.flip(0)  # seen from the other end, the changed part begins at `position` too
            first = int(torch.nonzero(moved > tolerance)[0]) if bool((moved > tolerance).any()) else None
            if first == 0:
                return None  # the output changes up to its far end
            if first is not None:
                farthest = max(farthest, position - (first + lost // 2))
    return farthest


def _change(bench: Bench, image: Tensor, other: Tensor, *, axis: int, side: slice, before: Tensor) -> Tensor:
    """Largest change of the output along an axis if one side of the image is replaced."""
    changed = image.clone()
    window = (slice(None),) * (2 + axis) + (side,)
    changed[window] = other[window]
    return (bench.run(changed) - before).abs().movedim(axis + 1, 0).flatten(1).amax(1)


def _sensitivity_steps(bench: Bench, axis: int, shift: int, *, reach: tuple[int | None, ...]) -> Generator[Event, None, float]:
    """Largest |F(T_t I) - T_t F(I)| over the largest |F(I)|, on a random and on a constant image."""
    shape = list(bench.shape(axis))
    shape[axis] += shift
    ones = torch.ones((1, bench.channels, *shape), dtype=bench.dtype, device="cpu")
    images = (bench.noise(shape, 3), ones)
    worst, total = 0.0, 2 * len(images)  # each before and after the shift
    yield Stage(done=0, total=total, text=f"moving the input by {shift} px on axis {axis}")
    for number, image in enumerate(images):
        still = bench.run(image.narrow(axis + 2, 0, shape[axis] - shift))
        yield Event(done=2 * number + 1, total=total)
        moved = bench.run(image.narrow(axis + 2, shift, shape[axis] - shift))
        yield Event(done=2 * number + 2, total=total)
        length = still.shape[axis + 1] - shift
        a, b = still.narrow(axis + 1, shift, length), moved.narrow(axis + 1, 0, length)
        inside = _interior(bench, a.shape[1:], reach)
        worst = max(worst, float((a - b)[(slice(None), *inside)].abs().max()) / scale(still))
    return worst


def _interior(bench: Bench, shape: Sequence[int], reach: tuple[int | None, ...]) -> tuple[slice, ...]:
    """Where the false zeros beyond a padded network's borders cannot be felt; everything for a valid network."""
    borders = [0 if lost else seen or 0 for lost, seen in zip(bench.margin, reach, strict=True)]
    return tuple(
        slice(border, size - border) if size > 2 * border else slice(size // 2, size // 2 + 1)
        for border, size in zip(borders, shape, strict=True)
    )


def _constant(bench: Bench, period: tuple[int, ...], reach: tuple[int | None, ...]) -> tuple[int, bool]:
    """Distinct vectors within a period of a constant image's output, and whether its borders show."""
    # long on every axis only where the network pads; a valid one gives a period from the shortest input that does
    shape = tuple(bench.long[k] if not bench.margin[k] else _at_least(bench, k, period[k]) for k in range(bench.ndim))
    out = bench.run(torch.ones((1, bench.channels, *shape), dtype=bench.dtype, device="cpu"))
    largest = scale(out)
    middle = tuple(
        slice((n - min(p, n)) // 2, (n - min(p, n)) // 2 + min(p, n)) for n, p in zip(out.shape[1:], period, strict=True)
    )
    vectors = out[(slice(None), *middle)].flatten(1).T.numpy() / largest
    aware = False
    for axis, p in enumerate(period):
        length = out.shape[axis + 1] - p
        if length > 0:
            step = (out.narrow(axis + 1, p, length) - out.narrow(axis + 1, 0, length)).abs().max()
            aware = aware or float(step) / largest > bench.equal
    return count_codes(vectors, bench.equal), aware


def _at_least(bench: Bench, axis: int, output: int) -> int:
    """Short edge of an axis if its output is long enough, else the long one."""
    return bench.short[axis] if bench.short[axis] - bench.margin[axis] >= output else bench.long[axis]


def count_codes(points: npt.NDArray[Any], gap: float) -> int:
    """Number of groups of points (N, E) that chains of steps of at most `gap` connect."""
    unique = np.unique(points, axis=0)
    pairs = cKDTree(unique).sparse_distance_matrix(cKDTree(unique), gap, output_type="coo_matrix")
    return int(connected_components(pairs, directed=False)[0])


def _shifts(
    bench: Bench, axis: int, declared: UNetSpec | None, *, wanted: Sequence[int] | None, found: Mapping[int, float]
) -> Iterator[int]:
    """Shifts worth testing: those that hold form a group, so the smallest divides every other one."""
    if wanted is not None:
        if max(wanted) >= bench.room[axis]:
            raise SettingsError(
                f"shifts are {tuple(wanted)}; give such below {bench.room[axis]} px, which the probe's images hold."
            )
        yield from dict.fromkeys(wanted)
        return
    if declared is not None:
        period = declared.period[axis]
        yield from (t for t in range(1, period + 1) if period % t == 0)
        if found[period] <= bench.equal:
            return
    for shift in SHIFTS:
        if shift not in found and shift < bench.room[axis]:
            yield shift
            if found[shift] <= bench.equal:
                return


def _agrees(spec: UNetSpec, period: Sequence[int | None], margin: Sequence[int], *, reach: Sequence[int | None]) -> bool:
    return all(
        found is not None and wanted % found == 0 and lost == expected and seen is not None and seen <= most
        for found, wanted, lost, expected, seen, most in zip(
            period, spec.period, margin, spec.margin, reach, spec.reach, strict=True
        )
    )


def _text(
    period: Sequence[int | None],
    margin: Sequence[int],
    reach: Sequence[int | None],
    *,
    distinct: int,
    aware: bool,
    declared: UNetSpec | None,
    agrees: bool | None,
) -> str:
    def listed(values: Sequence[int | None], none: str) -> str:
        words = [none if v is None else f"{v}" for v in values]
        return words[0] if len(set(words)) == 1 else " x ".join(words)

    if None in period and all(p is None for p in period):
        text = "No tested shift of the input merely shifts the output"
    else:
        text = f"The output repeats with a period of {listed(period, 'none')} px"
    text += (
        f", the network loses {listed(margin, '')} px and sees {listed(reach, 'everything')} px far; "
        f"a constant image gives {distinct} different outputs within a period"
    )
    possible = prod(p or 0 for p in period)
    if possible:
        text += f" of at most {possible}"
    if aware:
        text += ", and others near its border"
    if agrees is not None and declared is not None:
        stated = (declared.period, declared.margin, declared.reach)
        claim = ", ".join(f"{name} {listed(v, '')}" for name, v in zip(("period", "margin", "reach"), stated, strict=True))
        text += f"; this {'keeps' if agrees else 'breaks'} what is declared ({claim} px)"
    return text + "."
