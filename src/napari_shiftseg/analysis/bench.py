"""A network on the bench: a private copy, the sizes that it takes, and images to run it on."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from napari_shiftseg.analysis.constants import EQUAL, SHIFTS, SIZES
from napari_shiftseg.errors import ModelError, SettingsError
from napari_shiftseg.events import Event, Stage
from napari_shiftseg.geometry import UNetSpec
from napari_shiftseg.network.arithmetic import exact_convolutions
from napari_shiftseg.network.constants import MOST_SEED
from napari_shiftseg.network.device import memory_errors

Network = Callable[[Tensor], Tensor]
Edges = tuple[int, ...]
Steps = Generator[Event, None, Edges | None]
Passes = Callable[[Sequence[int]], Steps]


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """A network ready to be probed: along one axis a long input, along the others a short one.

    `least` is the smallest input that passed, `room` the longest output, pixels; `phases` how many neighbouring pixels may
    differ in what they reach.
    """

    network: Network
    dtype: torch.dtype
    channels: int
    least: tuple[int, ...]
    short: tuple[int, ...]
    long: tuple[int, ...]
    margin: tuple[int, ...]
    room: tuple[int, ...]
    phases: tuple[int, ...]
    seed: int

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.short)

    @property
    def equal(self) -> float:
        """Relative difference up to which two outputs are equal."""
        return EQUAL[self.dtype]

    def shape(self, axis: int) -> tuple[int, ...]:
        """Input shape that is long along an axis, pixels."""
        return _stretched(self.short, self.long, axis)

    def noise(self, shape: Sequence[int], salt: int) -> Tensor:
        """(1, C, *shape) uniform in [0, 1), the same for the same salt."""
        generator = torch.Generator().manual_seed(self.seed * 1000 + salt)
        return torch.rand((1, self.channels, *shape), generator=generator, dtype=torch.float64, device="cpu").to(self.dtype)

    def run(self, x: Tensor) -> Tensor:
        """(E, *out) of (1, C, *in)."""
        return run_network(self.network, x)


def check_seed(seed: int) -> None:
    """Refuse a seed that a generator does not take. SettingsError."""
    if not 0 <= seed < MOST_SEED // 1000:  # each of a probe's images has one of a thousand behind it
        raise SettingsError(f"the seed is {seed}; give an integer from 0 to {MOST_SEED // 1000 - 1}.")


def bench_steps(
    module: Network,
    ndim: int,
    channels: int,
    *,
    declared: UNetSpec | None,
    size: int | Sequence[int] | None,
    seed: int,
) -> Generator[Event, None, Bench]:
    """Find sizes that the network takes, and measure its margin; an event per pass of the network."""
    check_seed(seed)
    network, dtype = bench_network(module)
    yield Stage(done=0, total=0, text="looking for sizes that the network takes")

    def passes(shape: Sequence[int]) -> Steps:
        found = _output_shape(network, torch.zeros((1, channels, *shape), dtype=dtype, device="cpu"))
        yield Event(done=0, total=0)
        return found

    least, short, long = yield from _sizes(passes, ndim, declared, size=size)
    out = yield from passes(short)
    if out is None or len(out) != ndim:
        raise ModelError(f"the network does not take an image of shape {(channels, *short)}; give a size that it takes.")
    margin = tuple(a - b for a, b in zip(short, out, strict=True))
    for axis in range(ndim):
        if (yield from passes(_stretched(short, long, axis))) is None:
            raise ModelError(f"the network takes {short} px but not {long[axis]} px on axis {axis}; give a size.")
    room = tuple(edge - lost for edge, lost in zip(long, margin, strict=True))
    return Bench(
        network=network,
        dtype=dtype,
        channels=channels,
        least=least,
        short=short,
        long=long,
        margin=margin,
        room=room,
        phases=declared.period if declared is not None else (SHIFTS[-1],) * ndim,
        seed=seed,
    )


def _stretched(short: Sequence[int], long: Sequence[int], axis: int) -> tuple[int, ...]:
    return tuple(long[k] if k == axis else edge for k, edge in enumerate(short))


def bench_network(module: Network) -> tuple[Network, torch.dtype]:
    """A private copy in evaluation mode and the most precise number format that it takes."""
    if isinstance(module, nn.Module):
        with torch.no_grad():  # scripted weights are cloned as results of a computation
            return copy.deepcopy(module).cpu().eval().double(), torch.float64
    if not callable(module):
        raise ModelError(f"a {type(module).__name__} was given as the network; give a Model, a Module or a callable.")
    return module, torch.float32


def run_network(network: Network, x: Tensor) -> Tensor:
    """(E, *out) of (1, C, *in)."""
    with memory_errors("a pass of the network"), torch.inference_mode(), exact_convolutions():
        return network(x)[0]


def _output_shape(network: Network, x: Tensor) -> tuple[int, ...] | None:
    try:
        with memory_errors("a pass of the network"), torch.inference_mode(), exact_convolutions():
            y = network(x)
    except (RuntimeError, ValueError, AssertionError):  # how networks refuse a size
        return None
    if not isinstance(y, Tensor):
        raise ModelError(f"the network gives a {type(y).__name__}; give a function that returns the one tensor that is meant.")
    shape = tuple(y.shape[2:])
    return shape if shape and min(shape) > 0 and y.shape[0] == 1 else None


def _sizes(
    passes: Passes, ndim: int, declared: UNetSpec | None, *, size: int | Sequence[int] | None
) -> Generator[Event, None, tuple[Edges, Edges, Edges]]:
    """The least edges, short and long ones: as wished, else as declared if the network takes those, else found by trying."""
    if size is not None:
        edges = (size,) * ndim if isinstance(size, int) else tuple(size)
        if len(edges) != ndim:
            raise SettingsError(f"size has {len(edges)} edges for {ndim} axes; give 1 or {ndim}.")
        least = yield from _smallest(passes, ndim, min(edges))
        return (edges if least is None else (least[0],) * ndim), edges, edges
    if declared is not None:
        short, long = _declared_sizes(declared)
        for shape in (short, *(_stretched(short, long, k) for k in range(ndim))):
            if (yield from passes(shape)) is None:
                break
        else:
            return short, short, long
    return (yield from _search(passes, ndim))


def _declared_sizes(spec: UNetSpec) -> tuple[Edges, Edges]:
    if spec.padding == "zero":
        # both borders out of reach, and three periods between them
        edges = tuple(
            -(-(2 * reach) // period) * period + 4 * period for reach, period in zip(spec.reach, spec.period, strict=True)
        )
        return edges, edges
    short = spec.input_size((1,) * spec.ndim)
    # a valid network sees at most half its margin and one period far, so this shows the reach of every phase
    return short, tuple(spec.input_size(2 * period + 2, axis) for axis, period in enumerate(spec.period))


def _smallest(passes: Passes, ndim: int, most: int) -> Generator[Event, None, tuple[int, Edges] | None]:
    """The smallest edge that passes on all axes, up to the largest that is tried, and the output's edges; None if none does."""
    for edge in range(SIZES.start, most + 1):
        out = yield from passes((edge,) * ndim)
        if out is not None and max(out) <= edge:  # some fill up a size that their strides do not divide
            return edge, out
    return None


def _search(passes: Passes, ndim: int) -> Generator[Event, None, tuple[Edges, Edges, Edges]]:
    """The first edges that pass and leave room for shifts, the same on all axes."""
    found = yield from _smallest(passes, ndim, SIZES.stop - 1)
    if found is None:
        raise ModelError(f"the network takes no image of {SIZES.start} to {SIZES.stop - 1} px; give a size that it takes.")
    short, out = found
    margin = max(0, short - min(out))
    wanted = short + margin + 2 * SHIFTS[-1] if margin else 4 * SHIFTS[-1]
    for edge in range(wanted, wanted + 256):
        made = yield from passes((edge, *(short,) * (ndim - 1)))
        if made is not None and edge - made[0] == short - out[0]:
            edges = (edge,) * ndim
            # a padded network sees its borders on every axis, so all have to be long
            large = margin == 0 and (yield from passes(edges))
            return (short,) * ndim, (edges if large else (short,) * ndim), edges
    raise ModelError(f"the network takes {short} px but no size from {wanted} px on; give a size that it takes.")


def scale(values: Tensor) -> float:
    """Largest absolute value of an output; 1 for an output of zeros."""
    largest = float(values.abs().max())
    if not math.isfinite(largest):
        raise ModelError("the output of the network is not finite on a random image; check its weights.")
    return largest or 1.0
