"""`StreamPlan`: a pass that goes down the first axis in strips and computes no row of any layer twice; and whether it pays.

All tiles of a `TilePlan` along the first axis become one read; along the other axes there are columns, whose halo is all that
is computed more than once::

    column   |---- read ----|          first strip   |=====|
                 |-- write --|         then          |========|  whole strips of n * period rows,
    next              |---- read ----|               |========|  so that every pooling comes out even
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod
from typing import Literal

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.geometry.constants import DEFAULT_MEMORY, NARROWER, STRIP_PERIODS, STRIP_PIXELS, STRIP_ROWS, TALL, THIN
from napari_shiftseg.geometry.plan import Axis, Pass, Tile, TilePlan, kinds_of
from napari_shiftseg.geometry.spec import Layer, UNetSpec

Method = Literal["auto", "tiles", "stream"]
METHODS: tuple[Method, ...] = ("auto", "tiles", "stream")


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Rows that go into the network together, and the rows that are finished then; both along the first axis, pixels."""

    read: slice  # counted from the first row of the column's input
    write: slice  # of the result; empty while the network waits for context


@dataclass(frozen=True, kw_only=True)
class StreamPlan:
    """Columns and strips of a streamed pass.

    Attributes
    ----------
    tiles : TilePlan
        Whose result, border and lattice it keeps to.
    strip : int
        Rows per strip, a multiple of the period, pixels.
    axes : tuple
        Per axis the windows (read, keep, write), as in `TilePlan`; a single one along the first.
    """

    tiles: TilePlan
    strip: int
    axes: tuple[Axis, ...]

    @property
    def columns(self) -> tuple[Tile, ...]:
        """The passes, each over all rows."""
        return tuple(
            Tile(read=read, keep=keep, write=write)
            for read, keep, write in (zip(*windows, strict=True) for windows in product(*self.axes))
        )

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of columns along each axis but the first."""
        return tuple(len(axis) for axis in self.axes[1:])

    @property
    def width(self) -> tuple[int, ...]:
        """Edges of the widest column's result, pixels, all axes but the first."""
        return tuple(max(write.stop - write.start for _, _, write in axis) for axis in self.axes[1:])

    @property
    def edges(self) -> tuple[int, ...]:
        """`width` in whole periods, as `plan_stream` takes it: an image may end within one."""
        return tuple(-(-edge // p) * p for edge, p in zip(self.width, self.tiles.lattice.period[1:], strict=True))

    @property
    def passes(self) -> TilePlan:
        """The columns as a tile plan: each is one pass over all rows, and they meet at its seams."""
        period = self.tiles.lattice.period[0]
        write = (-(-self.tiles.result_shape[0] // period) * period, *self.edges)
        return replace(self.tiles, axes=self.axes, write=write)

    def strips(self) -> Iterator[Strip]:
        """Strips of a column, from its first row to its last."""
        spec, (_, keep, write) = self.tiles.spec, self.axes[0][0]
        total = self._widest.read[0].stop
        # from a legal size on, poolings divide evenly
        start, stop = 0, self.strip - (self.strip - spec.input_size(1, 0)) % spec.period[0]
        done = 0
        while start < total:
            stop = min(stop, total)
            given = stop - spec.margin[0] - keep.start if stop < total else keep.stop - keep.start
            finished = min(max(given, done), keep.stop - keep.start)
            yield Strip(read=slice(start, stop), write=slice(write.start + done, write.start + finished))
            start, stop, done = stop, stop + self.strip, finished

    @property
    def steps(self) -> int:
        """Strips that finish rows, of all columns."""
        finishing = [strip for strip in self.strips() if strip.write.start < strip.write.stop]
        return len(finishing) * prod(self.counts)

    @property
    def flops(self) -> float:
        """Floating-point operations of all columns (a multiply-add counts as two)."""
        return _flops(self.tiles.spec, self.axes)

    @property
    def redundancy(self) -> float:
        """Arithmetic of this plan over the arithmetic of the same pixels in an infinitely large image."""
        return self.flops / (self.tiles.spec.flops_per_pixel * prod(self.tiles.result_shape))

    @cached_property
    def _widest(self) -> Pass:
        return _widest(self.tiles.spec, self.axes)

    @property
    def state_bytes(self) -> int:
        """What is kept from strip to strip in the widest column, in float32: rows of convolutions, and skips that wait."""
        return sum(_state(self._widest, self.strip))

    @property
    def peak_bytes(self) -> int:
        """Estimate of all that one column takes, in float32: its state and what a strip needs for the moment."""
        return _peak(self._widest, self.strip)

    def describe(self) -> str:
        """The plan in words.

        >>> from napari_shiftseg.geometry import plan_tiles
        >>> print(plan_stream(plan_tiles(UNetSpec(), (4000, 1000))).describe())
        strips of 136 rows = 17 periods of 8 px, 1 column of 1000 px, redundancy 1.04x, 21.2 MB kept between strips
        """
        period = self.tiles.spec.period[0]
        parts = [f"strips of {self.strip} rows = {self.strip // period} periods of {period} px"]
        if self.width:
            counts, edges = (" x ".join(map(str, values)) for values in (self.counts, self.width))
            parts.append(f"{counts} column{'s' * (prod(self.counts) > 1)} of {edges} px")
        parts.append(f"redundancy {self.redundancy:.2f}x")
        return ", ".join([*parts, f"{self.state_bytes / 1e6:.3g} MB kept between strips"])

    def to_dict(self) -> dict[str, object]:
        """Plain values for a record."""
        return {
            "strip": self.strip,
            "columns": list(self.counts),
            "width": list(self.width),
            "redundancy": round(self.redundancy, 4),
            "state_bytes": self.state_bytes,
        }


def stream_refusal(tiles: TilePlan) -> str | None:
    """Why a plan cannot be streamed, as the end of a sentence; None if it can.

    A padded network sees zeros at the border of each pass; tiles off the lattice compute different functions, which no single
    pass gives.
    """
    if tiles.lattice.scaling is not None:
        return "its network runs on a scaled image"
    if tiles.lattice.turning is not None:
        return "its network runs on an image flipped and turned in all ways"
    if tiles.lattice.padding != "valid":
        return "its network pads with zeros"
    if tiles.lattice.spec is None:
        return "the layers of its network are not known"
    if any(len(_phases(tiles, axis)) > 1 for axis in range(tiles.lattice.ndim)):
        return "its tiles do not lie on one lattice"
    return None


def plan_stream(
    tiles: TilePlan,
    *,
    memory: int | None = None,
    strip: int | None = None,
    width: int | Sequence[int] | None = None,
    tall: bool = False,
) -> StreamPlan:
    """Decide columns and strips for a plan.

    Parameters
    ----------
    tiles : TilePlan
    memory : int, optional
        Bytes that one column may take; None takes the default budget of tile plans.
    strip : int, optional
        Rows per strip, a multiple of the period.
    width : int or sequence of int, optional
        Edges of a column's result on all axes but the first, multiples of the period.
    tall : bool
        Strips as high as a GPU wants them, which computes a low one in less time than its calls take to start.

    Returns
    -------
    StreamPlan
        Of all strips and widths that fit the memory, the one that should be fastest (see `strip_cost`). If none fits, the
        smallest.

    Raises
    ------
    SettingsError
        If the plan cannot be streamed, or a given edge is not a multiple of the period.
    """
    if refusal := stream_refusal(tiles):
        raise SettingsError(f"the plan cannot be streamed, because {refusal}; take method 'tiles' or 'auto'.")
    spec, period = tiles.spec, tiles.spec.period
    wanted = None if width is None else (width,) * (spec.ndim - 1) if isinstance(width, int) else tuple(width)
    for axis, edge in enumerate((strip, *(wanted or ()))):
        if edge is not None and (edge < 1 or edge % period[axis]):
            raise SettingsError(f"an edge of {edge} px was given on axis {axis}; give a multiple of the period {period[axis]}.")
    budget = memory or DEFAULT_MEMORY
    found: list[tuple[float, StreamPlan]] = []
    for rows in (strip,) if strip is not None else _strips(tiles, TALL if tall else 1):
        plan = _fitted(tiles, rows, wanted, budget=budget)
        found.append((plan.flops * strip_cost(spec, rows), plan))
        if wanted is not None and plan.peak_bytes <= budget:
            break
    fitting = [pair for pair in found if pair[1].peak_bytes <= budget]
    if not fitting:
        return min(found, key=lambda pair: pair[1].peak_bytes)[1]
    return min(fitting, key=lambda pair: pair[0])[1]


def narrower_stream(stream: StreamPlan) -> StreamPlan | None:
    """A stream of the same tiles that takes about half the memory, by lower strips or narrower columns; None if there is none.

    >>> from napari_shiftseg.geometry import plan_tiles
    >>> stream = plan_stream(plan_tiles(UNetSpec(), (4096, 4096)))
    >>> narrower_stream(stream).peak_bytes < 0.75 * stream.peak_bytes
    True
    """
    found = plan_stream(stream.tiles, memory=stream.peak_bytes // 2)
    return found if found.peak_bytes <= NARROWER * stream.peak_bytes else None


def strip_cost(spec: UNetSpec, strip: int) -> float:
    """Time of a strip's pixel over that of a high strip's."""
    return 1.0 + THIN[spec.ndim] * spec.period[0] / strip


def _strips(tiles: TilePlan, times: int) -> Iterator[int]:
    """Heights to try, the wished one first, which is `times` as high as on a CPU."""
    spec, period = tiles.spec, tiles.spec.period[0]
    across = max(1, prod(tiles.result_shape[1:]))
    fewest, most = STRIP_ROWS[spec.ndim]
    rows = max(fewest, min(most * times, times * STRIP_PIXELS[spec.ndim] // across), STRIP_PERIODS[spec.ndim] * period)
    rows = min(rows, tiles.result_shape[0] + spec.margin[0])
    periods = -(-rows // period)
    while True:
        yield periods * period
        if periods == 1:
            return
        periods //= 2


def _fitted(tiles: TilePlan, strip: int, width: tuple[int, ...] | None, *, budget: int) -> StreamPlan:
    """The widest columns that fit, as equal as possible over the image."""
    spec, period = tiles.spec, tiles.spec.period
    shape = tiles.result_shape
    rows = (_window(tiles, 0, slice(0, shape[0]), phase=_phase(tiles, 0)),)
    edges = list(width or (-(-size // p) * p for size, p in zip(shape[1:], period[1:], strict=True)))
    while True:
        axes = (rows, *(_columns(tiles, axis, edge) for axis, edge in enumerate(edges, start=1)))
        if width or _peak(_widest(spec, axes), strip) <= budget:
            break
        smaller = [k for k, edge in enumerate(edges) if edge > period[k + 1]]
        if not smaller:
            break
        axis = max(smaller, key=lambda k: edges[k])
        edges[axis] = _next_edge(edges[axis], shape[axis + 1], period[axis + 1])
    return StreamPlan(tiles=tiles, strip=strip, axes=axes)


def _next_edge(edge: int, size: int, period: int) -> int:
    """A smaller edge: that of more columns, as equal as possible."""
    least = max(period, edge * 7 // 8 // period * period)
    count = -(-size // least)
    return min(-(-size // (count * period)) * period, edge - period)


def _columns(tiles: TilePlan, axis: int, edge: int) -> Axis:
    size, phase = tiles.result_shape[axis], _phase(tiles, axis)
    writes = (slice(start, min(start + edge, size)) for start in range(0, size, edge))
    return tuple(_window(tiles, axis, write, phase=phase) for write in writes)


def _window(tiles: TilePlan, axis: int, write: slice, *, phase: tuple[int, int]) -> tuple[slice, slice, slice]:
    """Windows of a pass that writes so, in the phase of the tiles."""
    spec, size = tiles.spec, write.stop - write.start
    first = write.start + phase[0]
    crop = (first - phase[1]) % spec.period[axis]
    length = spec.input_size(crop + size, axis)
    return slice(first - crop, first - crop + length), slice(crop, crop + size), write


def _phases(tiles: TilePlan, axis: int) -> set[tuple[int, int]]:
    """Per tile the output pixel of a pass from padded pixel 0 on that is result pixel 0, and the phase of the read."""
    period = tiles.spec.period[axis]
    return {(read.start + keep.start - write.start, read.start % period) for read, keep, write in tiles.axes[axis]}


def _phase(tiles: TilePlan, axis: int) -> tuple[int, int]:
    (phase,) = _phases(tiles, axis)
    return phase


# -- what it costs ----------------------------------------------------------------------------------------------------


def _flops(spec: UNetSpec, axes: Sequence[Axis]) -> float:
    return sum(Pass.of(spec, read, keep).flops * count for read, keep, count in kinds_of(axes))


def _widest(spec: UNetSpec, axes: Sequence[Axis]) -> Pass:
    read, keep, _ = zip(*(max(axis, key=lambda w: w[1].stop - w[1].start) for axis in axes), strict=True)
    return Pass.of(spec, [part.stop - part.start for part in read], keep)


def _state(one: Pass, strip: int) -> tuple[int, int]:
    """Bytes of the rows that convolutions hold, and of the skips that wait."""
    held = sum(layer.source * (kernel - 1) * before for layer, kernel, _, before in _inputs(one, strip))
    waiting = sum(
        layer.source * (crop[0] + strip // layer.scale[0]) * prod(part.stop - part.start for part in one.skips[layer.level][1:])
        for layer, crop in zip(one.spec.poolings, one.spec.skip_crops, strict=True)
    )
    return int(4 * held), int(4 * waiting)


def _inputs(one: Pass, strip: int) -> Iterator[tuple[Layer, int, int, float]]:
    """Convolutions with the rows of their kernel, and new rows and pixels per row of what goes into them."""
    for layer, before, _ in one.maps():
        if layer.convolves:
            yield layer, layer.kernel[0], strip // layer.scale[0], prod(before[1:])


def _peak(one: Pass, strip: int) -> int:
    work = max(layer.source * (kernel - 1 + rows) * before for layer, kernel, rows, before in _inputs(one, strip))
    made = max(layer.target * (strip // layer.scale[0]) * prod(after[1:]) for layer, _, after in one.maps() if layer.taps)
    # twice, because an allocator keeps what was freed (on a CPU 1.7 and 2.5 times were measured)
    return sum(_state(one, strip)) + int(2 * 4 * (work + 3 * made))


# -- tiles or a stream -------------------------------------------------------------------------------------------------


def choose_method(
    tiles: TilePlan,
    method: Method = "auto",
    *,
    memory: int | None = None,
    tall: bool = False,
    deterministic: bool = False,
    empty: float | Callable[[], float] = 0.0,
) -> StreamPlan | None:
    """The streamed plan that runs, or None where the tiles run.

    Parameters
    ----------
    tiles : TilePlan
    method : {"auto", "tiles", "stream"}
    memory : int, optional
        Bytes that one pass may take.
    tall : bool
        As in `plan_stream`: strips for a GPU.
    deterministic : bool
        Bits may depend on the network alone, which only fixed tiles grant.
    empty : float or callable
        Share of the tiles that need no computing, because they hold one value per channel; 0 to 1. A callable gives it, and is
        called where the share decides.

    Raises
    ------
    SettingsError
        If there is no such method, or a stream is wanted where there can be none.

    Notes
    -----
    A tile size that was wished for (`tiles.automatic` is false) is a wish for tiles. Else "auto" streams if that takes less
    time by this rule: time is proportional to the counted operations; of tiles, the share that is empty costs nothing; of a
    stream, a strip of n periods costs 1 + 0.2 / n of its operations (in 3D 1 + 0.05 / n), since thin strips leave the deep
    levels with few rows per call. So an image of a single tile is not streamed: that would save nothing. A stream that needs
    more memory than is allowed, and than the tiles take, is not taken either.
    """
    if method not in METHODS:
        raise SettingsError(f"method is {method!r}; give {', '.join(map(repr, METHODS[:-1]))} or {METHODS[-1]!r}.")
    if method == "tiles":
        return None
    refusal = stream_refusal(tiles)
    if deterministic:
        refusal = "equal bits for each tile size were asked for (deterministic)"
    if refusal is not None:
        if method == "stream":
            raise SettingsError(f"the plan cannot be streamed, because {refusal}; take method 'tiles' or 'auto'.")
        return None
    if method == "auto" and not tiles.automatic:
        return None
    stream = plan_stream(tiles, memory=memory, tall=tall)
    if method == "stream":
        return stream
    seconds = stream.flops * strip_cost(tiles.spec, stream.strip)
    if stream.peak_bytes > max(memory or DEFAULT_MEMORY, tile_bytes(tiles)) or seconds >= tiles.flops:
        return None
    share = empty() if callable(empty) else empty
    return stream if seconds < tiles.flops * (1.0 - share) else None


def tile_bytes(tiles: TilePlan) -> int:
    """Estimate of what a pass over the largest tile takes, in float32."""
    return int(tiles.lattice.peak_bytes(tiles.read))
