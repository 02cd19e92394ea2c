"""`TilePlan`: which windows of the image are read, kept and written, decided once for the whole image.

Along each axis::

    padded image  |---------------------- read ----------------------|
    output                 |------------- natural ------------|
    output                    |--------- keep ----------|             constant crop
    result                    |--------- write ---------|             n * period, on the lattice

Tiles that start at multiples of the period and lose a constant crop compute, at every pixel, the output function that a
single pass over the whole image computes there (Rumberger et al. 2021, section 3.2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod
from operator import index
from typing import Literal

from napari_shiftseg.errors import TilingError
from napari_shiftseg.geometry.axis import computed_size, context, halo, plan_axis
from napari_shiftseg.geometry.passes import Pass
from napari_shiftseg.geometry.spec import UNetSpec

__all__ = ["Tile", "TilePlan", "Window", "plan_part", "plan_tiles"]

Window = tuple[slice, ...]

# Larger tiles gain little (redundancy 1.13 at 512 px, levels=3) and make progress and cancelling coarse.
_LARGEST_DEFAULT = {1: 1 << 20, 2: 512, 3: 96}
DEFAULT_MEMORY = 2 << 30
# Blocks of deterministic runs: large enough for speed, small enough for any memory.
_CANONICAL = {1: 4096, 2: 192, 3: 48}


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One pass of the network: three windows of the same tile, one slice per axis, pixels.

    Attributes
    ----------
    read : tuple of slice
        In the padded image (pixel 0 lies `plan.pad[axis][0]` pixels before the image).
    keep : tuple of slice
        In the network's output.
    write : tuple of slice
        In the result; the same shape as `keep`.
    """

    read: Window
    keep: Window
    write: Window


@dataclass(frozen=True, kw_only=True)
class TilePlan:
    """Windows of all tiles; iterate over it to get them in raster order.

    Attributes
    ----------
    spec : UNetSpec
    image_shape, result_shape : tuple of int
        Spatial shapes, pixels.
    write : tuple of int
        Output edge pasted per tile, pixels per axis.
    origin : tuple of int
        Image pixel at which result pixel 0 lies.
    pad : tuple of (int, int)
        Pixels reflected before and after the image per axis.
    border : {"reflect", "valid"}
    automatic : bool
        Nobody wished for this tile size: it was chosen for the memory, and may become smaller where that was too little.
    """

    spec: UNetSpec
    image_shape: tuple[int, ...]
    result_shape: tuple[int, ...]
    write: tuple[int, ...]
    origin: tuple[int, ...]
    pad: tuple[tuple[int, int], ...]
    border: Literal["reflect", "valid"]
    axes: tuple[tuple[tuple[slice, slice, slice], ...], ...]
    automatic: bool = field(default=False, compare=False)

    def __len__(self) -> int:
        return prod(self.counts)

    def __iter__(self) -> Iterator[Tile]:
        for windows in product(*self.axes):
            read, keep, write = zip(*windows, strict=True)
            yield Tile(read=read, keep=keep, write=write)

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of tiles per axis."""
        return tuple(len(axis) for axis in self.axes)

    @property
    def read(self) -> tuple[int, ...]:
        """Largest input edge of a tile per axis, pixels."""
        return tuple(max(read.stop - read.start for read, _, _ in axis) for axis in self.axes)

    def seams(self) -> tuple[tuple[int, ...], ...]:
        """Positions per axis where two tiles meet, result pixels: `p` means between pixels `p - 1` and `p`."""
        return tuple(tuple(write.start for _, _, write in axis[1:]) for axis in self.axes)

    def grid_phase(self) -> tuple[int, ...]:
        """First boundary of a bottleneck cell per axis, result pixels in `[0, period)`."""
        phases = []
        for axis, (phase, period) in enumerate(zip(self.spec.grid_phase, self.spec.period, strict=True)):
            read, keep, write = self.axes[axis][0]
            start = read.start if self.spec.padding == "zero" else 0
            phases.append((phase + write.start - keep.start + start) % period)
        return tuple(phases)

    def grid(self) -> tuple[tuple[int, ...], ...]:
        """Boundaries of the period grid per axis, result pixels; a boundary is not a seam."""
        return tuple(
            tuple(range(phase, size + 1, period))
            for phase, size, period in zip(self.grid_phase(), self.result_shape, self.spec.period, strict=True)
        )

    @property
    def flops(self) -> float:
        """Floating-point operations of all passes; of a valid network only what a tile keeps is computed."""
        # counted per axis: a slide has millions of tiles, but a handful of kinds
        kinds = [Counter((read.stop - read.start, keep.start, keep.stop) for read, keep, _ in axis) for axis in self.axes]
        total = 0.0
        for tile in product(*kinds):
            read, keep = tuple(edge for edge, _, _ in tile), tuple(slice(start, stop) for _, start, stop in tile)
            valid = self.spec.padding == "valid"
            cost = Pass.of(self.spec, read, keep).flops if valid else self.spec.flops(read)
            total += cost * prod(count[kind] for count, kind in zip(kinds, tile, strict=True))
        return total

    @property
    def redundancy(self) -> float:
        """Arithmetic of this plan over the arithmetic of the same pixels in an infinitely large image."""
        return self.flops / self.spec.flops_per_pixel / prod(self.result_shape)

    def canonical(self) -> TilePlan:
        """The same image on a tile size that the network alone decides: equal bits whatever tile size was wished."""
        edge = _CANONICAL[self.spec.ndim]
        write = tuple(max(1, edge // period) * period for period in self.spec.period)
        return plan_tiles(self.spec, self.image_shape, write, self.border)

    def within(self, window: Sequence[slice]) -> TilePlan:
        """The tiles that write into a window, and no others; each reads, keeps and so computes what it does in the whole plan.

        Parameters
        ----------
        window : sequence of slice
            Result pixels per axis, not empty.

        Raises
        ------
        TilingError
            If no tile writes there.
        """
        axes, origin = [], []
        for tiles, part, first in zip(self.axes, window, self.origin, strict=True):
            met = [tile for tile in tiles if tile[2].start < part.stop and tile[2].stop > part.start]
            if not met or part.stop <= part.start:
                raise TilingError(f"the window {part.start} to {part.stop} px has no pixel of the result; give another one.")
            start = met[0][2].start
            axes.append(tuple((read, keep, slice(write.start - start, write.stop - start)) for read, keep, write in met))
            origin.append(first + start)
        shape = tuple(axis[-1][2].stop for axis in axes)
        return replace(self, axes=tuple(axes), result_shape=shape, origin=tuple(origin))

    def describe(self) -> str:
        """The plan in words.

        >>> print(plan_tiles(UNetSpec(), (1000, 700), 200).describe())
        5 x 4 tiles of 200 x 200 px = 25 x 25 periods of 8 px, halo 44 px, redundancy 1.4x
        """
        periods = [w / p for w, p in zip(self.write, self.spec.period, strict=True)]
        around = [context(self.spec, axis) for axis in range(self.spec.ndim)]
        period = self.spec.period
        return (
            f"{' x '.join(map(str, self.counts))} tile{'s' * (len(self) > 1)} of {' x '.join(map(str, self.write))} px = "
            f"{' x '.join(f'{n:g}' for n in periods)} periods of "
            f"{_per_axis(period)} px, halo {_per_axis(around)} px, redundancy {self.redundancy:.1f}x"
        )

    def to_dict(self) -> dict[str, object]:
        """Plain values for a record: from them `plan_tiles` makes the same plan again."""
        return {
            "image_shape": list(self.image_shape),
            "result_shape": list(self.result_shape),
            "write": list(self.write),
            "origin": list(self.origin),
            "border": self.border,
            "period": list(self.spec.period),
            "grid_phase": list(self.grid_phase()),
            "seams": [list(axis) for axis in self.seams()],
            "tiles": list(self.counts),
        }


def plan_tiles(
    spec: UNetSpec,
    image_shape: Sequence[int],
    write: int | Sequence[int] | None = None,
    border: Literal["reflect", "valid"] = "reflect",
    allow_noncompliant: bool = False,
    *,
    memory: int | None = None,
) -> TilePlan:
    """Decide the windows of all tiles for an image.

    Parameters
    ----------
    spec : UNetSpec
        The network.
    image_shape : sequence of int
        Spatial shape of the image, pixels.
    write : int or sequence of int, optional
        Output edge pasted per tile, a multiple of the period; larger than the image means one tile. None picks the largest
        legal edge that fits `memory`.
    border : {"reflect", "valid"}
        Reflect the image at its borders so that the result has its shape, or compute only pixels whose context is real.
        A zero-padded network brings its own border: it computes every pixel either way.
    allow_noncompliant : bool
        Accept an edge that is not a multiple of the period, to show what it does.
    memory : int, optional
        Bytes that one pass may take.

    Returns
    -------
    TilePlan

    Raises
    ------
    TilingError
        If `write` is not a multiple of the period (`nearest` holds legal edges), or the image is too small.

    Source: Rumberger et al. 2021, section 3.2.

    >>> plan = plan_tiles(UNetSpec(levels=4), (100, 100), 16)
    >>> len(plan), plan.seams()[0]
    (49, (16, 32, 48, 64, 80, 96))
    """
    shape = tuple(int(size) for size in image_shape)
    if len(shape) != spec.ndim or min(shape, default=0) < 1:
        raise TilingError(f"the image has shape {shape}; the network wants {spec.ndim} axes of 1 pixel or more.")
    if border not in ("reflect", "valid"):
        raise TilingError(f"border is {border!r}; give 'reflect' or 'valid'.")
    domain = tuple(computed_size(spec, axis, size, border) for axis, size in enumerate(shape))
    if write is None:
        edges = _largest_write(spec, domain, memory or DEFAULT_MEMORY)
    else:
        edges = _checked_write(spec, write, shape, domain, allow_noncompliant)
    planned = [plan_axis(spec, k, shape[k], domain[k], edges[k], border) for k in range(spec.ndim)]
    return TilePlan(
        spec=spec,
        image_shape=shape,
        result_shape=tuple(axis.size for axis in planned),
        write=edges,
        origin=tuple(axis.origin for axis in planned),
        pad=tuple(axis.pad for axis in planned),
        border=border,
        axes=tuple(axis.windows for axis in planned),
        automatic=write is None,
    )


def plan_part(plan: TilePlan, window: Sequence[slice]) -> TilePlan:
    """Tiles for a part of a result, on the lattice of its plan but of a size that fits the part.

    Parameters
    ----------
    plan : TilePlan
        Of the whole image; its tiles are multiples of the period.
    window : sequence of slice
        Result pixels per axis that are wanted, not empty; each starts at a multiple of the period.

    Returns
    -------
    TilePlan
        Its result is the window; the network gives there what it gives with `plan`. No tile is larger than those of `plan`,
        and the tiles along an axis depend on the window on that axis alone.

    Raises
    ------
    TilingError
        If the window does not start on the lattice, is empty or lies outside, or the tiles of `plan` are off the lattice.

    >>> whole = plan_tiles(UNetSpec(), (1000, 700), 200)
    >>> part = plan_part(whole, (slice(192, 700), slice(0, 320)))
    >>> part.origin, part.result_shape, part.write
    ((192, 0), (508, 320), (176, 160))
    """
    spec = plan.spec
    period = spec.period
    if any(edge % p for edge, p in zip(plan.write, period, strict=True)):
        raise TilingError(f"tiles of {plan.write} px are not multiples of the period {period} px; take plan.within(window).")
    for axis, (part, size) in enumerate(zip(window, plan.result_shape, strict=True)):
        if not 0 <= part.start < part.stop <= size or part.start % period[axis]:
            raise TilingError(
                f"a part from {part.start} to {part.stop} px was wanted on axis {axis} of {size} px; it must lie inside and "
                f"start at a multiple of the period {period[axis]} px."
            )
    edges = tuple(
        _even_split(-(-(part.stop - part.start) // p) * p, edge, p)
        for part, edge, p in zip(window, plan.write, period, strict=True)
    )
    sizes, border = plan.image_shape, plan.border
    planned = []
    for axis, (part, size) in enumerate(zip(window, sizes, strict=True)):
        ends = computed_size(spec, axis, size, border)
        planned.append(plan_axis(spec, axis, size, ends, edges[axis], border, part))
    return TilePlan(
        spec=spec,
        image_shape=plan.image_shape,
        result_shape=tuple(part.stop - part.start for part in window),
        write=edges,
        origin=tuple(first + part.start for first, part in zip(plan.origin, window, strict=True)),
        pad=tuple(axis.pad for axis in planned),
        border=border,
        axes=tuple(axis.windows for axis in planned),
        automatic=plan.automatic,
    )


def _even_split(size: int, edge: int, period: int) -> int:
    """The legal edge that splits `size` into as many tiles as `edge` does, as evenly as can be."""
    count = -(-size // min(edge, size))
    return -(-size // (count * period)) * period


def _checked_write(
    spec: UNetSpec, write: int | Sequence[int], shape: tuple[int, ...], domain: tuple[int, ...], allow_noncompliant: bool
) -> tuple[int, ...]:
    try:
        wanted = tuple(map(index, write)) if isinstance(write, Iterable) else (index(write),) * spec.ndim
    except TypeError as exc:
        raise TilingError(f"the tile edge is {write!r}; give whole pixels, one number or one per axis.") from exc
    if len(wanted) != spec.ndim:
        raise TilingError(f"{len(wanted)} tile edges were given for {spec.ndim} axes; give 1 or {spec.ndim}.")
    single = [edge >= min(sizes) for edge, *sizes in zip(wanted, shape, domain, strict=True)]  # one tile on this axis
    for axis, (edge, period) in enumerate(zip(wanted, spec.period, strict=True)):
        if single[axis]:
            continue
        if edge < 1:
            raise TilingError(f"write window {edge} px on axis {axis} is too small; use {period}.", nearest=(period,))
        if edge % period and not allow_noncompliant:
            lower, upper = edge // period * period, (edge // period + 1) * period
            nearest = (lower, upper) if lower else (upper,)
            raise TilingError(
                f"write window {edge} px on axis {axis} is not a multiple of the period {period} px; "
                f"use {' or '.join(map(str, nearest))}.",
                nearest=nearest,
            )
    return tuple(size if one else edge for edge, size, one in zip(wanted, domain, single, strict=True))


def _largest_write(spec: UNetSpec, domain: tuple[int, ...], memory: int) -> tuple[int, ...]:
    """Largest legal edges, as equal as possible over the image, whose pass fits in `memory` bytes."""
    periods = [
        max(1, min(size, _LARGEST_DEFAULT[spec.ndim]) // period) for size, period in zip(domain, spec.period, strict=True)
    ]
    while spec.peak_bytes(read_shape(spec, periods)) > memory and max(periods) > 1:
        axis = max(range(spec.ndim), key=lambda k: periods[k] * spec.period[k] * (periods[k] > 1))
        periods[axis] = max(1, periods[axis] * 3 // 4)
    edges = []
    for size, count, period in zip(domain, periods, spec.period, strict=True):
        tiles = -(-size // (count * period))
        edges.append(-(-size // (tiles * period)) * period)
    return tuple(edges)


def read_shape(spec: UNetSpec, periods: Sequence[int]) -> tuple[int, ...]:
    """Input edges of a tile inside an image that writes so many periods per axis, pixels."""
    write = tuple(n * p for n, p in zip(periods, spec.period, strict=True))
    if spec.padding == "zero":
        return tuple(w + 2 * halo(spec, k) for k, w in enumerate(write))
    return spec.input_size(write)


def _per_axis(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else " x ".join(map(str, values))
