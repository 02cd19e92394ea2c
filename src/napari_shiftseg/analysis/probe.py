"""`probe_period`: what a network does when its input moves, found by moving it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch import Tensor, nn

from napari_shiftseg.errors import ModelError, SettingsError
from napari_shiftseg.geometry import UNetSpec
from napari_shiftseg.network import Model

__all__ = ["PeriodProbe", "probe_period"]

# Below this share of the largest output two outputs are equal; rounding is 1e-16 and 1e-7, real differences 1e-6 and more.
_EQUAL = {torch.float64: 1e-10, torch.float32: 2e-6}
_SHIFTS = (*range(1, 17), 18, 20, 24, 25, 27, 32)
_SIZES = range(8, 320)

Network = Callable[[Tensor], Tensor]


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
    precision: str
    text: str


def probe_period(
    module_or_model: Model | Network,
    *,
    ndim: int = 2,
    channels: int = 1,
    size: int | Sequence[int] | None = None,
    shifts: Sequence[int] | None = None,
    seed: int = 0,
    spec: UNetSpec | None = None,
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

    Returns
    -------
    PeriodProbe

    Raises
    ------
    ModelError
        If the network takes no size that was tried.
    SettingsError
        If `size` is too small or a shift is below 1.

    Source: Rumberger et al. 2021, Definitions 1 and 2, Lemma 1.
    """
    module: Any = module_or_model.module if isinstance(module_or_model, Model) else module_or_model
    declared = spec or getattr(module, "spec", None)
    if declared is not None:
        ndim, channels = declared.ndim, declared.in_channels
    if shifts is not None and (not shifts or min(shifts) < 1):
        raise SettingsError(f"shifts are {tuple(shifts)}; give whole pixels, 1 or more.")
    bench = _Bench.of(module, ndim, channels, declared, size, seed)
    return _probe(bench, declared, shifts)


def _probe(bench: _Bench, declared: UNetSpec | None, shifts: Sequence[int] | None) -> PeriodProbe:
    axes = range(bench.ndim)
    reach = tuple(_reach(bench, axis) for axis in axes)
    sensitivity: list[dict[int, float]] = []
    period: list[int | None] = []
    for axis in axes:
        found: dict[int, float] = {}
        for shift in _shifts(bench, axis, declared, shifts, found):
            found[shift] = _sensitivity(bench, axis, shift, reach)
        sensitivity.append(dict(sorted(found.items())))
        period.append(min((t for t, value in found.items() if value <= bench.equal), default=None))
    distinct, aware = _constant(bench, tuple(p or bench.room[k] for k, p in enumerate(period)), reach)
    agrees = None if declared is None else _agrees(declared, period, bench.margin, reach)
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
        precision=str(bench.dtype).removeprefix("torch."),
        text=_text(period, bench.margin, reach, distinct, aware, declared, agrees),
    )


# -- running the network ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class _Bench:
    """A network ready to be probed: along one axis a long input, along the others a short one.

    `room` is the longest shift plus the stretch on which outputs are compared, pixels.
    """

    network: Network
    dtype: torch.dtype
    channels: int
    short: tuple[int, ...]
    long: tuple[int, ...]
    margin: tuple[int, ...]
    room: tuple[int, ...]
    seed: int

    @property
    def ndim(self) -> int:
        return len(self.short)

    @property
    def equal(self) -> float:
        return _EQUAL[self.dtype]

    @classmethod
    def of(
        cls,
        module: Network,
        ndim: int,
        channels: int,
        declared: UNetSpec | None,
        size: int | Sequence[int] | None,
        seed: int,
    ) -> _Bench:
        network, dtype = _copy(module)

        def passes(shape: Sequence[int]) -> tuple[int, ...] | None:
            return _output_shape(network, torch.zeros((1, channels, *shape), dtype=dtype))

        if size is not None:
            edges = (size,) * ndim if isinstance(size, int) else tuple(size)
            short = long = edges
        elif declared is not None:
            short, long = _declared_sizes(declared)
        else:
            short, long = _search(passes, ndim)
        out = passes(short)
        if out is None or len(out) != ndim:
            raise ModelError(f"the network does not take an image of shape {(channels, *short)}; give a size that it takes.")
        margin = tuple(a - b for a, b in zip(short, out, strict=True))
        for axis in range(ndim):
            if passes(_stretched(short, long, axis)) is None:
                raise ModelError(f"the network takes {short} px but not {long[axis]} px on axis {axis}; give a size.")
        room = tuple(edge - lost for edge, lost in zip(long, margin, strict=True))
        return cls(
            network=network, dtype=dtype, channels=channels, short=short, long=long, margin=margin, room=room, seed=seed
        )

    def shape(self, axis: int) -> tuple[int, ...]:
        return _stretched(self.short, self.long, axis)

    def noise(self, shape: Sequence[int], salt: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1000 + salt)
        return torch.rand((1, self.channels, *shape), generator=generator, dtype=torch.float64).to(self.dtype)

    def run(self, x: Tensor) -> Tensor:
        """(E, *out) of (1, C, *in)."""
        with torch.inference_mode():
            return self.network(x)[0]


def _stretched(short: Sequence[int], long: Sequence[int], axis: int) -> tuple[int, ...]:
    return tuple(long[k] if k == axis else edge for k, edge in enumerate(short))


def _copy(module: Network) -> tuple[Network, torch.dtype]:
    """A private copy in evaluation mode and the most precise number format that it takes."""
    if isinstance(module, nn.Module):
        return copy.deepcopy(module).cpu().eval().requires_grad_(False).double(), torch.float64
    if not callable(module):
        raise ModelError(f"a {type(module).__name__} was given as the network; give a Model, a Module or a callable.")
    return module, torch.float32


def _output_shape(network: Network, x: Tensor) -> tuple[int, ...] | None:
    try:
        with torch.inference_mode():
            y = network(x)
    except (RuntimeError, ValueError, AssertionError):  # how networks refuse a size
        return None
    shape = tuple(y.shape[2:])
    return shape if shape and min(shape) > 0 and y.shape[0] == 1 else None


def _declared_sizes(spec: UNetSpec) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if spec.padding == "zero":
        # both borders out of reach, and three periods between them
        edges = tuple(
            -(-(2 * reach) // period) * period + 4 * period for reach, period in zip(spec.reach, spec.period, strict=True)
        )
        return edges, edges
    short = spec.input_size((1,) * spec.ndim)
    long = tuple(
        spec.input_size(spec.margin[axis] // 2 + 4 * period, axis) for axis, period in enumerate(spec.period)
    )  # half a margin more than the shifts need, so that the reach shows
    return short, long


def _search(passes: Callable[[Sequence[int]], tuple[int, ...] | None], ndim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The first edges that pass and leave room for shifts, the same on all axes."""
    short = next((edge for edge in _SIZES if passes((edge,) * ndim)), None)
    if short is None:
        raise ModelError(
            f"the network takes no image of {_SIZES.start} to {_SIZES.stop - 1} px; give a size that it takes."
        )
    out = passes((short,) * ndim)
    margin = max(0, short - min(out or (short,)))
    wanted = short + margin + 2 * _SHIFTS[-1] if margin else 4 * _SHIFTS[-1]
    for edge in range(wanted, wanted + 256):
        if passes((edge, *(short,) * (ndim - 1))):
            edges = (edge,) * ndim
            # a padded network sees its borders on every axis, so all have to be long
            return (edges if margin == 0 and passes(edges) else (short,) * ndim), edges
    raise ModelError(f"the network takes {short} px but no size from {wanted} px on; give a size that it takes.")


# -- experiments ------------------------------------------------------------------------------------------------------


def _reach(bench: _Bench, axis: int) -> int | None:
    """Change everything beyond a position, and see how far away the output changes."""
    shape = bench.shape(axis)
    edge, lost = shape[axis], bench.margin[axis]
    image, other = bench.noise(shape, 1), 8 * bench.noise(shape, 2)
    before = bench.run(image)
    tolerance = bench.equal * 1e-2 * _scale(before)
    farthest = 0
    for position in _positions(edge, lost):
        for side in (slice(position, None), slice(None, edge - position)):
            changed = image.clone()
            window = (slice(None),) * (2 + axis) + (side,)
            changed[window] = other[window]
            moved = (bench.run(changed) - before).abs().movedim(axis + 1, 0).flatten(1).amax(1)
            if side.start is None:
                moved = moved.flip(0)  # seen from the other end, the changed part begins at `position` too
            first = int(torch.nonzero(moved > tolerance)[0]) if bool((moved > tolerance).any()) else None
            if first == 0:
                return None  # the output changes up to its far end
            if first is not None:
                farthest = max(farthest, position - (first + lost // 2))
    return farthest


def _positions(edge: int, lost: int) -> range:
    """Positions of all phases, so near the end of the image that what they reach lies within the output."""
    last = edge - max(1, lost // 4) if lost else edge // 2 + 16
    return range(max(1, last - 32), last)


def _sensitivity(bench: _Bench, axis: int, shift: int, reach: tuple[int | None, ...]) -> float:
    """Largest |F(T_t I) - T_t F(I)| over the largest |F(I)|, on a random and on a constant image."""
    shape = list(bench.shape(axis))
    shape[axis] += shift
    worst = 0.0
    for image in (bench.noise(shape, 3), torch.ones((1, bench.channels, *shape), dtype=bench.dtype)):
        still = bench.run(image.narrow(axis + 2, 0, shape[axis] - shift))
        moved = bench.run(image.narrow(axis + 2, shift, shape[axis] - shift))
        length = still.shape[axis + 1] - shift
        a, b = still.narrow(axis + 1, shift, length), moved.narrow(axis + 1, 0, length)
        inside = _interior(bench, a.shape[1:], reach, axis, shift)
        worst = max(worst, float((a - b)[(slice(None), *inside)].abs().max()) / _scale(still))
    return worst


def _interior(bench: _Bench, shape: Sequence[int], reach: tuple[int | None, ...], axis: int, shift: int) -> tuple[slice, ...]:
    """Where the false zeros beyond a padded network's borders cannot be felt; everything for a valid network."""
    inside = []
    for k, size in enumerate(shape):
        border = 0 if bench.margin[k] else reach[k] or 0
        if k == axis:
            border = max(0, border - shift) if border else 0
            border = border + shift if border else 0
        inside.append(slice(border, size - border) if size > 2 * border else slice(size // 2, size // 2 + 1))
    return tuple(inside)


def _constant(bench: _Bench, period: tuple[int, ...], reach: tuple[int | None, ...]) -> tuple[int, bool]:
    """Distinct vectors within a period of a constant image's output, and whether its borders show."""
    # long on every axis only where the network pads; a valid one gives a period from the shortest input that does
    shape = tuple(
        bench.long[k] if not bench.margin[k] else _at_least(bench, k, period[k]) for k in range(bench.ndim)
    )
    out = bench.run(torch.ones((1, bench.channels, *shape), dtype=bench.dtype))
    scale = _scale(out)
    middle = tuple(
        slice((n - min(p, n)) // 2, (n - min(p, n)) // 2 + min(p, n)) for n, p in zip(out.shape[1:], period, strict=True)
    )
    vectors = out[(slice(None), *middle)].flatten(1).T.numpy() / scale
    aware = False
    for axis, p in enumerate(period):
        length = out.shape[axis + 1] - p
        if length > 0:
            step = (out.narrow(axis + 1, p, length) - out.narrow(axis + 1, 0, length)).abs().max()
            aware = aware or float(step) / scale > bench.equal
    return _count_distinct(vectors, bench.equal), aware


def _at_least(bench: _Bench, axis: int, output: int) -> int:
    """Short edge of an axis if its output is long enough, else the long one."""
    return bench.short[axis] if bench.short[axis] - bench.margin[axis] >= output else bench.long[axis]


def _count_distinct(vectors: npt.NDArray[Any], tolerance: float) -> int:
    """Vectors (N, E) that differ by more than rounding; chains of near ones count as one."""
    unique = np.unique(vectors, axis=0)
    pairs = cKDTree(unique).sparse_distance_matrix(cKDTree(unique), tolerance, output_type="coo_matrix")
    return int(connected_components(pairs, directed=False)[0])


def _scale(values: Tensor) -> float:
    largest = float(values.abs().max())
    if not math.isfinite(largest):
        raise ModelError("the output of the network is not finite on a random image; check its weights.")
    return largest or 1.0


def _shifts(
    bench: _Bench, axis: int, declared: UNetSpec | None, wanted: Sequence[int] | None, found: Mapping[int, float]
) -> Iterator[int]:
    """Shifts worth testing: those that hold form a group, so the smallest divides every other one."""
    if wanted is not None:
        yield from dict.fromkeys(wanted)
        return
    if declared is not None:
        period = declared.period[axis]
        yield from (t for t in range(1, period + 1) if period % t == 0)
        if found[period] <= bench.equal:
            return
    for shift in _SHIFTS:
        if shift not in found and shift < bench.room[axis]:
            yield shift
            if found[shift] <= bench.equal:
                return


def _agrees(spec: UNetSpec, period: Sequence[int | None], margin: Sequence[int], reach: Sequence[int | None]) -> bool:
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
        claim = f"period {listed(declared.period, '')}, margin {listed(declared.margin, '')}, reach {listed(declared.reach, '')} px"
        text += f"; this {'keeps' if agrees else 'breaks'} what is declared ({claim})"
    return text + "."
