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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod
from operator import index
from typing import Any, Literal

from napari_shiftseg.arguments import told
from napari_shiftseg.errors import SettingsError, TilingError
from napari_shiftseg.geometry.constants import CANONICAL_EDGE, DEFAULT_MEMORY, LARGEST_EDGE, LARGEST_IMAGE
from napari_shiftseg.geometry.coverage import Trained, Zeros, zeros_as_trained
from napari_shiftseg.geometry.lattice import ImageAxis, Lattice
from napari_shiftseg.geometry.spec import Layer, Map, UNetSpec, as_lattice, lattice_around

Window = tuple[slice, ...]
Axis = tuple[tuple[slice, slice, slice], ...]
"""Windows of the tiles along an axis: what each reads, keeps and writes."""


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
class Pass:
    """Windows of one pass of a valid network, each in the map as it is computed, one slice per axis, pixels.

    The network computes more than a tile keeps: a constant crop, and whole periods where a tile was moved back at the border
    of an image. Going backwards from the kept pixels gives the window of each map that they depend on::

        encoder map of a level  |------------- natural --------------|
        computed                     |------ hull of both -----|
        to the next level            |---- pooled --------|
        to the decoder                    |----- skip ---------|

    Cropping early changes no value, since no valid layer depends on the extent of its input.
    """

    spec: UNetSpec
    read: Window  # part of the input that is used
    # skips, pooled: of each encoder map, finest first: what the decoder gets, and what is pooled
    skips: tuple[Window, ...]
    pooled: tuple[Window, ...]
    raised: tuple[Window, ...]  # of each upsampled map, finest first: what the decoder gets

    @classmethod
    def of(cls, spec: UNetSpec, read: Sequence[int], keep: Window) -> Pass:
        """The pass over an input of shape `read` that gives the window `keep` of its output and nothing else.

        SizeError if the input does not pass through the network.
        """
        spec.output_size(tuple(read))
        used, *levels = zip(*(_windows(spec, axis, keep[axis]) for axis in range(spec.ndim)), strict=True)
        skips, pooled, raised = (tuple(zip(*axes, strict=True)) for axes in levels)
        return cls(spec=spec, read=used, skips=skips, pooled=pooled, raised=raised)

    def maps(self) -> Iterator[Map]:
        """Layers with the maps that they read and write."""
        return self.spec.maps([part.stop - part.start for part in self.read], self)

    def edges(self, layer: Layer) -> tuple[int, ...]:
        """Edges of what a pooling or a concatenation gets of the map before it, pixels."""
        window = (self.pooled if layer.kind == "pooling" else self.raised)[layer.level]
        return tuple(part.stop - part.start for part in window)

    @property
    def flops(self) -> float:
        """Floating-point operations (a multiply-add counts as two)."""
        return sum(layer.flops(after) for layer, _, after in self.maps())


@dataclass(frozen=True, kw_only=True)
class TilePlan:
    """Windows of all tiles; iterate over it to get them in raster order.

    Attributes
    ----------
    lattice : Lattice
        Of the network.
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
    zeros : {"nowhere", "image", "tile"}
        Where a zero-padded network meets zeros: nowhere, since all that a pixel sees is image or its reflection; at the
        border of the image; or at the border of each tile, which then stands alone as it did in training.

    >>> plan = plan_tiles(UNetSpec(), (100, 90), 48)
    >>> len(plan), plan.seams(), next(iter(plan)).write
    (6, ((48, 96), (48,)), (slice(0, 48, None), slice(0, 48, None)))
    """

    lattice: Lattice
    image_shape: tuple[int, ...]
    result_shape: tuple[int, ...]
    write: tuple[int, ...]
    origin: tuple[int, ...]
    pad: tuple[tuple[int, int], ...]
    border: Literal["reflect", "valid"]
    axes: tuple[Axis, ...]
    automatic: bool = field(default=False, compare=False)
    zeros: Zeros = "nowhere"

    @property
    def spec(self) -> UNetSpec:
        """The network, where the plan is for a U-Net of ours.

        Raises
        ------
        SettingsError
            If it is for another one, of which only the lattice is known.
        """
        if self.lattice.spec is None:
            raise SettingsError("the plan is for a network whose layers are not known, and this needs them; give a UNet.")
        return self.lattice.spec

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
        for axis, (phase, period) in enumerate(zip(self.lattice.grid_phase, self.lattice.period, strict=True)):
            read, keep, write = self.axes[axis][0]
            start = read.start if self.lattice.padding == "zero" else 0
            phases.append((phase + write.start - keep.start + start) % period)
        return tuple(phases)

    def grid(self) -> tuple[tuple[int, ...], ...]:
        """Boundaries of the period grid per axis, result pixels; a boundary is not a seam."""
        return tuple(
            tuple(range(phase, size + 1, period))
            for phase, size, period in zip(self.grid_phase(), self.result_shape, self.lattice.period, strict=True)
        )

    @property
    def flops(self) -> float:
        """Floating-point operations of all passes; of a valid U-Net only what a tile keeps is computed."""
        total, cropped = 0.0, self.lattice.spec is not None and self.lattice.padding == "valid"
        for read, keep, count in kinds_of(self.axes):
            total += (Pass.of(self.spec, read, keep).flops if cropped else self.lattice.flops(read)) * count
        return total

    @property
    def on_lattice(self) -> bool:
        """Whether tiles are whole periods large."""
        return all(edge % period == 0 for edge, period in zip(self.write, self.lattice.period, strict=True))

    @property
    def redundancy(self) -> float:
        """Arithmetic of this plan over the arithmetic of the same pixels in an infinitely large image."""
        return self.flops / self.lattice.flops_per_pixel / prod(self.result_shape)

    def canonical(self) -> TilePlan:
        """The same image on a tile size that the network alone decides: equal bits whatever tile size was wished."""
        if self.zeros == "tile":
            return self  # its tiles have one size only
        edge = CANONICAL_EDGE[self.lattice.ndim]  # of the network's own pixels
        edges = zip(self.lattice.scale, self.lattice.period, strict=True)
        return self.resized(tuple(max(1, int(edge / scale) // period) * period for scale, period in edges))

    def resized(self, write: Sequence[int]) -> TilePlan:
        """The same image by tiles of other edges, pixels; tiles that stand alone keep theirs."""
        if self.zeros == "tile" and tuple(write) != self.write:
            raise TilingError(
                f"tiles of {write} px were wanted where each stands alone, which they do at {self.write} px; take those.",
                nearest=self.write,
            )
        return plan_again(self.lattice, {**self.to_dict(), "write": write})

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
        periods = [w / p for w, p in zip(self.write, self.lattice.period, strict=True)]
        padded = self.lattice.padding == "zero"
        around = self.lattice.halo if padded else [margin // 2 for margin in self.lattice.margin]
        period = self.lattice.period
        alone = self.zeros == "tile"
        return (
            f"{' x '.join(map(str, self.counts))} tile{'s' * (len(self) > 1)} of {' x '.join(map(str, self.write))} px = "
            f"{' x '.join(f'{n:g}' for n in periods)} periods of {_per_axis(period)} px, "
            f"{'each alone as in training' if alone else f'halo {_per_axis(around)} px'}, redundancy {self.redundancy:.1f}x"
        )

    def to_dict(self) -> dict[str, object]:
        """Plain values for a record: from them `plan_again` makes the same plan."""
        return {
            "image_shape": list(self.image_shape),
            "result_shape": list(self.result_shape),
            "write": list(self.write),
            "origin": list(self.origin),
            "border": self.border,
            "lattice": self.lattice.to_dict(),
            "period": list(self.lattice.period),
            "grid_phase": list(self.grid_phase()),
            "seams": [list(axis) for axis in self.seams()],
            "tiles": list(self.counts),
            "zeros": self.zeros,
        }


def kinds_of(axes: Sequence[Axis]) -> Iterator[tuple[tuple[int, ...], Window, int]]:
    """Input edges and kept window of each kind of tile, and how many there are: of millions of tiles a handful of kinds."""
    counters = [Counter((read.stop - read.start, keep.start, keep.stop) for read, keep, _ in axis) for axis in axes]
    for kind in product(*counters):
        count = prod(counter[edge] for counter, edge in zip(counters, kind, strict=True))
        yield tuple(edge for edge, _, _ in kind), tuple(slice(start, stop) for _, start, stop in kind), count


@told
def plan_tiles(
    spec: Lattice | UNetSpec,
    image_shape: Sequence[int],
    write: int | Sequence[int] | None = None,
    border: Literal["reflect", "valid"] = "reflect",
    allow_noncompliant: bool = False,
    *,
    memory: int | None = None,
    trained: Trained | None = None,
) -> TilePlan:
    """Decide the windows of all tiles for an image.

    Parameters
    ----------
    spec : Lattice or UNetSpec
        The network.
    image_shape : sequence of int
        Spatial shape of the image, pixels.
    write : int or sequence of int, optional
        Output edge pasted per tile, a multiple of the period; larger than the image means one tile. None picks the largest
        legal edge that fits `memory`.
    border : {"reflect", "valid"}
        Reflect the image at its borders so that the result has its shape, or compute only pixels whose context is real.
        A zero-padded network brings its own border: it computes every pixel either way, or, where its tiles stand alone,
        those of whole tiles.
    allow_noncompliant : bool
        Accept an edge that is not a multiple of the period, to show what it does.
    memory : int, optional
        Bytes that one pass may take.
    trained : ModelRecord or other object with `window` and `neighbours`, optional
        How the network was trained, which matters if it pads with zeros. Trained on directly neighbouring tiles, it runs on
        tiles of its training window that stand alone: read, keep and write are that window, zeros surround it, and the last
        tile along an axis is filled up by reflection of the image. Trained with a loss on the inner part of its window
        alone, it meets no zeros: the image is reflected as far as a pixel sees.

    Returns
    -------
    TilePlan

    Raises
    ------
    TilingError
        If `write` is not a multiple of the period, or not the window of a training on tiles that stand alone (`nearest` holds
        legal edges), or the image is too small.

    Source: Rumberger et al. 2021, section 3.2.

    >>> plan = plan_tiles(UNetSpec(levels=4), (100, 100), 16)
    >>> len(plan), plan.seams()[0]
    (49, (16, 32, 48, 64, 80, 96))
    """
    lattice = as_lattice(spec)
    zeros = zeros_as_trained(lattice, trained)
    if zeros == "tile" and trained is not None:
        axes = image_axes(lattice, image_shape, border=border, zeros=zeros)
        if edges := _edges_as_trained(axes, write, trained.window, allow_noncompliant=allow_noncompliant):
            return planned(axes, edges)
        zeros = "image"  # allowed, and no longer what was trained
    axes = image_axes(lattice, image_shape, border=border, zeros=zeros)
    if write is None:
        return replace(planned(axes, _largest_edges(axes, memory or DEFAULT_MEMORY)), automatic=True)
    return planned(axes, _checked_edges(axes, write, allow_noncompliant=allow_noncompliant))


def plan_again(spec: Lattice | UNetSpec | None, values: Mapping[str, Any]) -> TilePlan:
    """The plan that `TilePlan.to_dict` wrote down; TilingError, SettingsError, KeyError if they make no plan.

    Parameters
    ----------
    spec : Lattice, UNetSpec or None
        None takes the lattice that was written down.
    values : mapping
        At least "image_shape", "write" and "border".

    >>> plan = plan_tiles(UNetSpec(), (100, 90), 16)
    >>> plan_again(plan.spec, plan.to_dict()) == plan == plan_again(None, plan.to_dict())
    True
    """
    border, lattice = values["border"], as_lattice(values["lattice"] if spec is None else spec)
    if lattice.network is lattice:
        lattice = lattice_around(lattice, values.get("lattice") or {})
    # files of older versions do not say it; their padded networks met zeros at the image's border
    zeros = values.get("zeros", "nowhere" if lattice.padding == "valid" else "image")
    if zeros not in ("nowhere", "image", "tile"):
        raise TilingError(f"the zeros of a plan are {zeros!r}; give 'nowhere', 'image' or 'tile'.")
    axes, write = image_axes(lattice, values["image_shape"], border=border, zeros=zeros), tuple(values["write"])
    return planned(axes, write if zeros == "tile" else _checked_edges(axes, write, allow_noncompliant=True))


def image_axes(
    lattice: Lattice, image_shape: Sequence[int], *, border: Literal["reflect", "valid"], zeros: Zeros
) -> tuple[ImageAxis, ...]:
    """The axes of an image that a network runs along; TilingError if the image or the border is none."""
    try:
        shape = tuple(index(size) for size in image_shape)
    except TypeError:
        raise TilingError(f"the image has shape {image_shape!r}; give a tuple of {lattice.ndim} integers, pixels.") from None
    if len(shape) != lattice.ndim or min(shape, default=0) < 1:
        raise TilingError(f"the image has shape {shape}; the network wants {lattice.ndim} axes of 1 pixel or more.")
    if max(shape) > LARGEST_IMAGE:
        raise TilingError(
            f"the image has shape {shape}, which is beyond any image ({LARGEST_IMAGE} px along an axis); give a part."
        )
    if border not in ("reflect", "valid"):
        raise TilingError(f"border is {border!r}; give 'reflect' or 'valid'.")
    return tuple(
        ImageAxis(lattice=lattice, axis=axis, size=size, border=border, zeros=zeros) for axis, size in enumerate(shape)
    )


def planned(axes: Sequence[ImageAxis], edges: tuple[int, ...], window: Sequence[slice] | None = None) -> TilePlan:
    """The plan of edges that are known to be right, of all of a result or of a window that starts on the lattice."""
    parts = window or (None,) * len(axes)
    found = [axis.planned(edge, part) for axis, edge, part in zip(axes, edges, parts, strict=True)]
    return TilePlan(
        lattice=axes[0].lattice,
        image_shape=tuple(axis.size for axis in axes),
        result_shape=tuple(axis.size for axis in found),
        write=edges,
        origin=tuple(axis.origin for axis in found),
        pad=tuple(axis.pad for axis in found),
        border=axes[0].border,
        axes=tuple(axis.windows for axis in found),
        zeros=axes[0].zeros,
    )


# -- windows of a pass -------------------------------------------------------------------------------------------------


def _windows(spec: UNetSpec, axis: int, keep: slice) -> tuple[slice, list[slice], list[slice], list[slice]]:
    """Input, skips, pooled and raised windows along one axis, finest first."""
    start, stop = keep.start, keep.stop
    skips, pooled, raised = ([slice(0)] * spec.levels for _ in range(3))
    for layer in reversed(spec.walk):
        level, factor = layer.level, layer.factor[axis]
        if layer.kind == "concatenation":
            crop = spec.skip_crops[level][axis]
            skips[level] = slice(start + crop, stop + crop)
        elif layer.kind == "upsampling":
            deep = start // factor, -(-stop // factor)
            raised[level] = slice(start - deep[0] * factor, stop - deep[0] * factor)
            start, stop = deep
        elif layer.kind == "pooling":
            skip, wanted = skips[level], slice(start * factor, stop * factor)
            start, stop = min(wanted.start, skip.start), max(wanted.stop, skip.stop)
            skips[level], pooled[level] = (slice(part.start - start, part.stop - start) for part in (skip, wanted))
        stop += 2 * layer.lost[axis]
    return slice(start, stop), skips, pooled, raised


# -- edges that tiles may have -----------------------------------------------------------------------------------------


def _checked_edges(axes: Sequence[ImageAxis], write: int | Sequence[int], *, allow_noncompliant: bool) -> tuple[int, ...]:
    """The wished edges, one per axis; an edge of the image's size or more means one tile there.

    TilingError if an edge is no multiple of the period, and that is not allowed.
    """
    edges, domain = [], [axis.computed for axis in axes]
    for axis, edge in enumerate(_each_axis(write, len(axes))):
        period = axes[axis].period
        if edge >= min(axes[axis].size, domain[axis]):
            edges.append(domain[axis])
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
        edges.append(edge)
    return tuple(edges)


def _largest_edges(axes: Sequence[ImageAxis], memory: int) -> tuple[int, ...]:
    """Largest legal edges, as equal as possible over the image, whose pass fits in `memory` bytes."""
    most = [int(LARGEST_EDGE[len(axes)] / scale) for scale in axes[0].lattice.scale]
    wanted = [max(1, min(axis.computed, edge) // axis.period) for axis, edge in zip(axes, most, strict=True)]
    periods = axes[0].lattice.fewer_periods(wanted, memory)
    edges = []
    for axis, count in zip(axes, periods, strict=True):
        tiles = -(-axis.computed // (count * axis.period))
        edges.append(-(-axis.computed // (tiles * axis.period)) * axis.period)
    return tuple(edges)


def _edges_as_trained(
    axes: Sequence[ImageAxis], write: int | Sequence[int] | None, window: Sequence[int], *, allow_noncompliant: bool
) -> tuple[int, ...] | None:
    """The window of a training on padded tiles that stand alone; None where other tiles are wished and allowed.

    TilingError if other tiles are wished and not allowed; `nearest` holds the window.
    """
    edges = tuple(window)
    if len(edges) != len(axes) or any(edge < 1 or edge % axis.period for edge, axis in zip(edges, axes, strict=True)):
        return None  # no window that this network can have been trained on
    wanted = edges if write is None else _each_axis(write, len(axes))
    # who wishes for one tile on an axis gets it where one window holds the image
    if all(have == edge or min(have, edge) >= axis.size for have, edge, axis in zip(wanted, edges, axes, strict=True)):
        return edges
    if allow_noncompliant:
        return None
    raise TilingError(
        f"tiles of {' x '.join(map(str, wanted))} px were wanted of a zero-padded network that was trained on tiles of "
        f"{' x '.join(map(str, edges))} px that stood alone; use {' x '.join(map(str, edges))} px.",
        nearest=edges,
    )


def _each_axis(write: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    try:
        wanted = tuple(map(index, write)) if isinstance(write, Iterable) else (index(write),) * ndim
    except TypeError as exc:
        raise TilingError(f"the tile edge is {write!r}; give whole pixels, one number or one per axis.") from exc
    if len(wanted) != ndim:
        raise TilingError(f"{len(wanted)} tile edges were given for {ndim} axes; give 1 or {ndim}.")
    return wanted


def _per_axis(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else " x ".join(map(str, values))
