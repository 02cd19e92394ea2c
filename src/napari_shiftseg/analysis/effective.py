"""`effective_period`: how much a network's output changes when its pooling grid moves, and by which steps it hardly does."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from operator import mul
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_shiftseg.analysis.bench import Network, bench_network, check_seed, run_network
from napari_shiftseg.analysis.constants import COMPARED, EQUAL, SLIGHT
from napari_shiftseg.analysis.probe import probe_steps
from napari_shiftseg.errors import ModelError, SettingsError
from napari_shiftseg.events import Event, Stage, drain
from napari_shiftseg.geometry import Lattice
from napari_shiftseg.network import Limits, Model, Normalisation
from napari_shiftseg.network.windows import read_window
from napari_shiftseg.views import ArrayLike, as_array


@dataclass(frozen=True, kw_only=True)
class EffectivePeriod:
    """What moving the pooling grid of a network under an image that stays did to its output.

    Attributes
    ----------
    period : tuple of int
        Per axis the smallest step, pixels, all multiples of which change the output by `tolerance` at most.
    declared : tuple of int
        The network's period, pixels: moving the grid by it changes nothing.
    change : tuple of mapping
        Per axis {step: change of the output} for all steps below the period, pixels: root mean square over the spread, which
        is that of the output around its mean, with the grid at all places; 1.4 and more stand for outputs that have nothing in
        common. Of a network with several outputs, that of the output that changes most.
    shares : tuple of tuple of float
        Per axis and pooling, from the finest to the deepest: which part of the largest squared change goes once its grid stays
        as well as all finer ones; they add up to 1, or are all 0.
    tolerance : float
        Change that is taken for none, in the unit of `change`.
    size : tuple of int
        Edges of the window of the output that was compared, pixels.
    text : str
        The finding in one sentence.
    """

    period: tuple[int, ...]
    declared: tuple[int, ...]
    change: tuple[Mapping[int, float], ...]
    shares: tuple[tuple[float, ...], ...]
    tolerance: float
    size: tuple[int, ...]
    text: str

    def felt(self, edge: int, axis: int = 0) -> float:
        """Largest change among tiles of `edge` pixels that are stitched as they come: how much such a size will show.

        SettingsError if the edge is below 1.

        >>> half = EffectivePeriod(
        ...     period=(2,), declared=(4,), change=({1: 0.9, 2: 0.01, 3: 0.9},), shares=((1.0, 0.0),),
        ...     tolerance=0.05, size=(64,), text="",
        ... )
        >>> half.felt(64), half.felt(66), half.felt(67)
        (0.0, 0.01, 0.9)
        """
        if edge < 1:
            raise SettingsError(f"a tile of {edge} px was asked about; give 1 px or more.")
        return _largest(self.change[axis], edge, self.declared[axis])


def effective_period(
    model_or_net: Model | Network,
    image: ArrayLike | None = None,
    *,
    lattice: Lattice | None = None,
    tolerance: float = SLIGHT,
    limits: Limits | None = None,
    seed: int = 0,
    on_event: Callable[[Event], None] | None = None,
) -> EffectivePeriod:
    """Find how far from its period a network may be tiled before it shows.

    A network repeats its output functions with its period, and need not have learnt to tell them apart: where nothing in the
    training told one deep cell from the next, its functions repeat sooner, up to little. Tiles off that shorter period show.

    Parameters
    ----------
    model_or_net : Model, Module or callable
        Maps (1, C, *in) to (1, E, *out); a copy of a Module runs in evaluation mode on the CPU, in float64 if it can.
    image : array-like, optional
        (C, *shape), or (*shape) for one channel; a window in its middle is used, reflected where the image is smaller. None
        takes uniform noise, which says little of a network that was trained on something else.
    lattice : Lattice, optional
        Of a network that does not say its sizes; None takes it for one of 2D images and finds it by `probe_period`.
    tolerance : float
        Change, in the unit of `EffectivePeriod.change`, that is taken for none.
    limits : Limits, optional
        Intensity limits; None takes a model's own normalisation of the image.
    seed : int
        Of the noise.
    on_event : callable, optional
        Called with a `Stage` per axis and an `Event` per pass of the network.

    Returns
    -------
    EffectivePeriod

    Raises
    ------
    SettingsError
        If the tolerance is not above 0, or the image has other axes or channels than the network.
    ModelError
        If the output is not finite, or nothing says the sizes of the network and they cannot be found.
    OutOfMemoryError

    Notes
    -----
    A pass over I[s:] and one over I see the same pixels through grids that lie s apart. Steps that are multiples of f^k leave
    the grids of the first k poolings where they are, so what remains comes from the deeper ones.

    Source: Rumberger et al. 2021, Definition 2, section 3.2 and Fig. 7, whose tiles of 52 px are off the period 16 and on 4.

    >>> pooled = torch.nn.Sequential(torch.nn.MaxPool1d(4), torch.nn.Upsample(scale_factor=4))
    >>> found = effective_period(pooled, np.arange(200) % 7, lattice=Lattice(ndim=1, period=(4,), reach=(3,)))
    >>> found.period, sorted(found.change[0])
    ((4,), [1, 2, 3])
    """
    steps = effective_steps(model_or_net, image, lattice=lattice, tolerance=tolerance, limits=limits, seed=seed)
    return drain(steps, on_event)


def effective_steps(
    model_or_net: Model | Network,
    image: ArrayLike | None = None,
    *,
    lattice: Lattice | None = None,
    tolerance: float = SLIGHT,
    limits: Limits | None = None,
    seed: int = 0,
) -> Generator[Event, None, EffectivePeriod]:
    """Generator form of `effective_period`: yields an event per pass of the network, returns the `EffectivePeriod`."""
    check_seed(seed)
    if not tolerance > 0:
        raise SettingsError(f"tolerance is {tolerance}; give a share of the spread of the output above 0, such as {SLIGHT}.")
    model = model_or_net if isinstance(model_or_net, Model) else None
    module: Any = model.module if model is not None else model_or_net
    spec = getattr(module, "spec", None)
    lattice = lattice or (model.lattice if model is not None else spec.lattice if spec is not None else None)
    if lattice is None:
        shape: tuple[int, ...] = () if image is None else tuple(as_array(image, "the image").shape)
        channels = shape[0] if len(shape) == 3 else 1
        lattice = (yield from probe_steps(module, channels=channels, seed=seed)).lattice
    network, dtype = bench_network(module)
    outputs = model.outputs if model is not None else spec.outputs if spec is not None else {}
    parts = [output.channels for output in outputs.values()] or [slice(None)]
    pixels = _pixels(image, lattice, model, limits=limits, seed=seed)
    edges = _edges(lattice)
    reads = lattice.input_size(edges)
    change: list[dict[int, float]] = []
    for axis, period in enumerate(lattice.period):
        room = tuple(edge + (period - 1) * (k == axis) for k, edge in enumerate(reads))
        window = torch.from_numpy(_middle(pixels, room)).to(dtype)[None]
        yield Stage(done=0, total=period, text=f"moving the grid on axis {axis}")
        outs: list[Tensor] = []
        for step in range(period):
            outs.append(_inside(run_network(network, window.narrow(axis + 2, step, reads[axis])), lattice))
            yield Event(done=step + 1, total=period)
        by_part = [_changes([out[part] for out in outs], axis, equal=EQUAL[dtype]) for part in parts]
        change.append({step: max(felt[step] for felt in by_part) for step in range(1, period)})
    size = tuple(outs[0].shape[1:])
    found = EffectivePeriod(
        period=tuple(_period(felt, p, tolerance) for felt, p in zip(change, lattice.period, strict=True)),
        declared=lattice.period,
        change=tuple(change),
        shares=tuple(_shares(felt, _cells(lattice, axis)) for axis, felt in enumerate(change)),
        tolerance=float(tolerance),
        size=size,
        text="",
    )
    return replace(found, text=_text(found, noise=image is None))


# -- images -----------------------------------------------------------------------------------------------------------


def _pixels(image: ArrayLike | None, lattice: Lattice, model: Model | None, *, limits: Limits | None, seed: int) -> ArrayLike:
    """(C, *shape) as the network wants it."""
    if image is None:
        shape = tuple(edge + p for edge, p in zip(lattice.input_size(_edges(lattice)), lattice.period, strict=True))
        return np.random.default_rng(seed).random((lattice.in_channels, *shape), dtype=np.float32)
    image = as_array(image, "the image")
    shape = tuple(image.shape)
    if len(shape) == lattice.ndim and lattice.in_channels == 1:
        image, shape = np.asarray(image)[None], (1, *shape)
    if len(shape) != lattice.ndim + 1 or shape[0] != lattice.in_channels:
        raise SettingsError(
            f"the image has shape {shape}; the network wants {lattice.in_channels} channels and {lattice.ndim} axes."
        )
    if limits is None:
        record = model.record if model is not None else None
        limits = (record.normalisation if record else Normalisation(low=0, high=0)).limits(image)
    # what is compared lies in the middle, so no more than that is read
    room = tuple(edge + p for edge, p in zip(lattice.input_size(_edges(lattice)), lattice.period, strict=True))
    return limits.apply(_middle(image, room))


def _middle(image: ArrayLike, shape: Sequence[int]) -> Any:
    """Window of these edges in the middle of an image, which is reflected where it is smaller."""
    starts = [(have - want) // 2 for have, want in zip(image.shape[1:], shape, strict=True)]
    window = tuple(slice(start, start + want) for start, want in zip(starts, shape, strict=True))
    return np.ascontiguousarray(read_window(image, window, [(0, 0)] * len(window)))


def _edges(lattice: Lattice) -> tuple[int, ...]:
    """Output edges to compute: three periods or more, and for a padded network the borders that see zeros."""
    least = COMPARED[min(lattice.ndim, 3)]
    around = lattice.reach if lattice.padding == "zero" else (0,) * lattice.ndim
    return tuple(max(3 * p, least) + 2 * r for p, r in zip(lattice.period, around, strict=True))


def _inside(out: Tensor, lattice: Lattice) -> Tensor:
    """The output without what sees the zeros of a padded network."""
    if lattice.padding == "valid":
        return out
    return out[(slice(None), *(slice(r, n - r) for r, n in zip(lattice.reach, out.shape[1:], strict=True)))]


# -- what was found ---------------------------------------------------------------------------------------------------


def _changes(outs: Sequence[Tensor], axis: int, *, equal: float) -> dict[int, float]:
    """{step: root mean square distance of the output moved by it, over the spread of all of them}; 0 for mere rounding."""
    if not all(bool(out.isfinite().all()) for out in outs):
        raise ModelError("the output of the network is not finite on this image; check its weights and the intensities.")
    # one spread for all steps: with the grid in one place, disks of one spacing can all look the same
    vectors = torch.cat([out.flatten(1) for out in outs], 1)
    spread = float((vectors - vectors.mean(1, keepdim=True)).square().sum(0).mean().sqrt())
    rounding = equal * float(vectors.abs().max())
    found = {}
    for step, out in enumerate(outs[1:], start=1):
        length = out.shape[axis + 1] - step
        moved = out.narrow(axis + 1, 0, length) - outs[0].narrow(axis + 1, step, length)
        distance = float(moved.square().sum(0).mean().sqrt())
        found[step] = 0.0 if distance <= rounding else distance / spread
    return found


def _largest(change: Mapping[int, float], step: int, period: int) -> float:
    """Largest change over all multiples of a step."""
    steps = {count * step % period for count in range(period)} - {0}
    return max((change[s] for s in steps), default=0.0)


def _period(change: Mapping[int, float], period: int, tolerance: float) -> int:
    steps = (step for step in range(1, period) if period % step == 0)
    return next((step for step in steps if _largest(change, step, period) <= tolerance), period)


def _cells(lattice: Lattice, axis: int) -> tuple[int, ...]:
    """Edges of the cells of each pooling along an axis, pixels; without a spec the factors of the period stand for poolings."""
    if lattice.spec is not None and lattice.spec.period == lattice.period:
        return tuple(accumulate((factor[axis] for factor in lattice.spec.factors), mul))
    return tuple(accumulate(_factors(lattice.period[axis]), mul))


def _factors(number: int) -> tuple[int, ...]:
    least = next((k for k in range(2, number + 1) if number % k == 0), None)
    return () if least is None else (least, *_factors(number // least))


def _shares(change: Mapping[int, float], cells: Sequence[int]) -> tuple[float, ...]:
    """Which part of the largest squared change goes once the grid of one more pooling stays."""
    period = cells[-1] if cells else 1
    left = [_largest(change, step, period) ** 2 for step in (1, *cells)]
    return tuple((a - b) / left[0] if left[0] else 0.0 for a, b in pairwise(left))


def _text(found: EffectivePeriod, *, noise: bool) -> str:
    def listed(values: Sequence[int]) -> str:
        return " x ".join(map(str, values if len(set(values)) > 1 else values[:1]))

    where = "noise" if noise else "this image"
    worst = max((value for felt in found.change for value in felt.values()), default=0.0)
    text = (
        f"On {where} the output changes by up to {worst:.0%} of its spread when the pooling grid moves; the effective period "
        f"is {listed(found.period)} px"
    )
    if found.period == found.declared:
        return f"{text}, the period itself: tiles off it differ by more than {found.tolerance:.0%} of the spread."
    off = max(_largest(felt, step, p) for felt, step, p in zip(found.change, found.period, found.declared, strict=True))
    return (
        f"{text} of a period of {listed(found.declared)} px: tiles off the period, but at multiples of it, differ by {off:.2%} "
        f"of the spread at most (tolerance {found.tolerance:.0%})."
    )
