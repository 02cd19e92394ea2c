"""What a network costs by its description alone: arithmetic and memory traffic, layer by layer, and the floor that follows.

Each layer reads and writes its maps once; activations, normalisation and biases are taken to be part of the convolution before
them, and weights, which a large map shares, are left out. Fusing layers, or maps small enough to stay in a cache, can go
below these bytes; nothing that computes each pixel once can go below the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from napari_shiftseg.geometry.coverage import Trained
from napari_shiftseg.geometry.plan import Pass, TilePlan, kinds_of, plan_tiles
from napari_shiftseg.geometry.spec import Kind, Path, UNetSpec
from napari_shiftseg.geometry.stream_plan import StreamPlan, choose_method, plan_stream, stream_refusal, tile_bytes


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """One layer of one pass."""

    kind: Kind
    level: int  # 0 is the finest
    path: Path
    flops: float  # floating-point operations; a multiply-add counts as two
    # reads, writes: values of feature maps
    reads: float
    writes: float


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Arithmetic and memory traffic: of a pass, of a plan, or per output pixel."""

    flops: float
    bytes: float

    def floor(self, rate: float, bandwidth: float) -> float:
        """Shortest time that a device can take, seconds.

        Parameters
        ----------
        rate : float
            Operations per second.
        bandwidth : float
            Bytes per second.
        """
        return max(self.flops / rate, self.bytes / bandwidth)

    def bound(self, rate: float, bandwidth: float) -> Literal["arithmetic", "memory"]:
        """Which of the two decides the floor."""
        return "arithmetic" if self.flops / rate >= self.bytes / bandwidth else "memory"


def layer_costs(spec: UNetSpec, of: Sequence[int] | Pass | None = None) -> Iterator[LayerCost]:
    """Layers of one pass in the order in which they run.

    `of`: input shape, pixels per axis, or the pass of a tile. Without it, costs are those per output pixel of an infinitely
    large image.

    Yields
    ------
    LayerCost
    """
    edge = 2**40 * prod(spec.period)
    per = float(edge) ** spec.ndim if of is None else 1.0
    for layer, before, after in of.maps() if isinstance(of, Pass) else spec.maps(of or (edge,) * spec.ndim):
        yield LayerCost(
            kind=layer.kind,
            level=layer.level,
            path=layer.path,
            flops=layer.flops(after) / per,
            reads=layer.source * prod(before) / per,
            writes=layer.target * prod(after) / per,
        )


def network_cost(
    spec: UNetSpec, of: Sequence[int] | Pass | None = None, *, itemsize: int = 4, concatenated: bool = True
) -> Cost:
    """Arithmetic and memory traffic of one pass, or per output pixel of an infinitely large image.

    Parameters
    ----------
    spec, of
        As in `layer_costs`.
    itemsize : int
        Bytes of a value: 4 in float32, 2 in bfloat16.
    concatenated : bool
        Whether skip and upsampled map are copied into one map before the decoder reads them.

    >>> cost = network_cost(UNetSpec(levels=4, features=64, embedding_dim=8), itemsize=2)
    >>> round(cost.flops), round(cost.bytes)
    (1468544, 3770)
    """
    layers = [layer for layer in layer_costs(spec, of) if concatenated or layer.kind != "concatenation"]
    values = sum(layer.reads + layer.writes for layer in layers)
    return Cost(flops=sum(layer.flops for layer in layers), bytes=itemsize * values)


def plan_cost(plan: TilePlan, *, itemsize: int = 4, concatenated: bool = True) -> Cost:
    """Arithmetic and memory traffic of all passes of a plan; parameters as in `network_cost`."""
    spec = plan.spec
    flops = moved = 0.0
    for read, keep, count in kinds_of(plan.axes):
        # of a valid network only what a tile keeps is computed
        of = Pass.of(spec, read, keep) if spec.padding == "valid" else read
        one = network_cost(spec, of, itemsize=itemsize, concatenated=concatenated)
        flops, moved = flops + count * one.flops, moved + count * one.bytes
    return Cost(flops=flops, bytes=moved)


@dataclass(frozen=True, kw_only=True)
class MethodCost:
    """What one way of running costs."""

    method: Literal["tiles", "stream"]
    possible: bool  # whether it can run at all; if not, the numbers are 0 and `text` says why
    chosen: bool  # whether "auto" takes it
    flops: float  # floating-point operations of the whole image (a multiply-add counts as two)
    redundancy: float  # these over those of the same pixels in an infinitely large image
    memory: int  # estimate of what it takes beside image and result, in float32, bytes
    text: str  # the plan in words


def describe_methods(
    spec: UNetSpec,
    shape: Sequence[int],
    memory: int | None = None,
    *,
    write: int | Sequence[int] | None = None,
    border: Literal["reflect", "valid"] = "reflect",
    trained: Trained | None = None,
    tall: bool = False,
) -> tuple[MethodCost, ...]:
    """What tiles and a stream cost for an image, from integers alone.

    Parameters
    ----------
    shape : sequence of int
        Spatial shape of the image, pixels.
    memory : int, optional
        Bytes that one pass may take.
    write, border, trained
        As in `plan_tiles`.
    tall
        As in `choose_method`.

    Returns
    -------
    tuple of MethodCost
        Of tiles, then of the stream.

    >>> for cost in describe_methods(UNetSpec(), (8192, 8192)):
    ...     print(cost.method, cost.chosen, round(cost.redundancy, 2))
    tiles False 1.13
    stream True 1.01
    """
    tiles = plan_tiles(spec, shape, write, border, memory=memory, trained=trained)
    chosen = choose_method(tiles, memory=memory, tall=tall)
    by_tiles = _cost_of("tiles", tiles, memory=tile_bytes(tiles), chosen=chosen is None)
    if refusal := stream_refusal(tiles):
        text = f"not possible, because {refusal}"
        none = MethodCost(method="stream", possible=False, chosen=False, flops=0.0, redundancy=0.0, memory=0, text=text)
        return by_tiles, none
    stream = chosen or plan_stream(tiles, memory=memory, tall=tall)
    return by_tiles, _cost_of("stream", stream, memory=stream.peak_bytes, chosen=chosen is not None)


def _cost_of(method: Literal["tiles", "stream"], plan: TilePlan | StreamPlan, *, memory: int, chosen: bool) -> MethodCost:
    return MethodCost(
        method=method,
        possible=True,
        chosen=chosen,
        flops=plan.flops,
        redundancy=plan.redundancy,
        memory=memory,
        text=plan.describe(),
    )
