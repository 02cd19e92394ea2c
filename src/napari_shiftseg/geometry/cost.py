"""What a network costs by its description alone: arithmetic and memory traffic, layer by layer, and the floor that follows.

Each layer reads and writes its maps once; activations, normalisation and biases are taken to be part of the convolution before
them, and weights, which a large map shares, are left out. Fusing layers, or maps small enough to stay in a cache, can go
below these bytes; nothing that computes each pixel once can go below the arithmetic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Literal

from napari_shiftseg.geometry.plan import TilePlan
from napari_shiftseg.geometry.spec import UNetSpec

__all__ = ["Cost", "LayerCost", "layer_costs", "network_cost", "plan_cost"]


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """One layer of one pass.

    Attributes
    ----------
    kind : {"convolution", "pooling", "upsampling", "concatenation", "head"}
    level : int
        0 is the finest.
    path : {"encoder", "decoder"}
    flops : float
        Floating-point operations; a multiply-add counts as two.
    reads, writes : float
        Values of feature maps.
    """

    kind: Literal["convolution", "pooling", "upsampling", "concatenation", "head"]
    level: int
    path: Literal["encoder", "decoder"]
    flops: float
    reads: float
    writes: float


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Arithmetic and memory traffic: of a pass, of a plan, or per output pixel.

    Attributes
    ----------
    flops : float
    bytes : float
    """

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


def layer_costs(spec: UNetSpec, read: Sequence[int] | None = None) -> Iterator[LayerCost]:
    """Layers of one pass in the order in which they run.

    Parameters
    ----------
    spec : UNetSpec
    read : sequence of int, optional
        Input shape, pixels per axis. Without it, costs are those per output pixel of an infinitely large image.

    Yields
    ------
    LayerCost
    """
    edge = 2**40 * prod(spec.period)
    shape = tuple(float(size) for size in (read or (edge,) * spec.ndim))
    per = 1.0 if read else float(edge) ** spec.ndim
    convolutions = spec.layers(tuple(int(size) for size in shape))

    def convolve(
        kind: Literal["convolution", "upsampling", "head"], level: int, path: Literal["encoder", "decoder"]
    ) -> LayerCost:
        nonlocal shape
        volume, source, target, out = next(convolutions)
        pixels = prod(out)
        cost = LayerCost(
            kind=kind,
            level=level,
            path=path,
            flops=2.0 * volume * source * target * pixels / per,
            reads=source * prod(shape) / per,
            writes=target * pixels / per,
        )
        shape = out
        return cost

    def move(kind: Literal["pooling", "upsampling", "concatenation"], level: int, channels: int, after: float) -> LayerCost:
        path: Literal["encoder", "decoder"] = "encoder" if kind == "pooling" else "decoder"
        reads, writes = channels * prod(shape) / per, channels * after / per
        return LayerCost(kind=kind, level=level, path=path, flops=0.0, reads=reads, writes=writes)

    for level in range(spec.levels + 1):
        for _ in range(spec.convs):
            yield convolve("convolution", level, "encoder")
        if level < spec.levels:
            pooled = tuple(size / f for size, f in zip(shape, spec.factors[level], strict=True))
            yield move("pooling", level, spec.channels[level], prod(pooled))
            shape = pooled
    for level in reversed(range(spec.levels)):
        deep, fine = spec.channels[level + 1], spec.channels[level]
        if spec.upsampling == "learnt":
            yield convolve("upsampling", level, "decoder")
        else:
            larger = tuple(size * f for size, f in zip(shape, spec.factors[level], strict=True))
            yield move("upsampling", level, deep, prod(larger))
            shape = larger
        yield move("concatenation", level, fine + (fine if spec.upsampling == "learnt" else deep), prod(shape))
        for _ in range(spec.decoder_convs or spec.convs):
            yield convolve("convolution", level, "decoder")
    yield convolve("head", 0, "decoder")


def network_cost(spec: UNetSpec, read: Sequence[int] | None = None, *, itemsize: int = 4, concatenated: bool = True) -> Cost:
    """Arithmetic and memory traffic of one pass, or per output pixel of an infinitely large image.

    Parameters
    ----------
    spec : UNetSpec
    read : sequence of int, optional
        Input shape, pixels per axis; None counts per output pixel of an infinitely large image.
    itemsize : int
        Bytes of a value: 4 in float32, 2 in bfloat16.
    concatenated : bool
        Whether skip and upsampled map are copied into one map before the decoder reads them.

    >>> cost = network_cost(UNetSpec(levels=4, features=64, embedding_dim=8), itemsize=2)
    >>> round(cost.flops), round(cost.bytes)
    (1468544, 3770)
    """
    layers = [layer for layer in layer_costs(spec, read) if concatenated or layer.kind != "concatenation"]
    values = sum(layer.reads + layer.writes for layer in layers)
    return Cost(flops=sum(layer.flops for layer in layers), bytes=itemsize * values)


def plan_cost(plan: TilePlan, *, itemsize: int = 4, concatenated: bool = True) -> Cost:
    """Arithmetic and memory traffic of all passes of a plan; parameters as in `network_cost`."""
    # counted per axis: a slide has millions of tiles, but a handful of edges
    edges = [Counter(read.stop - read.start for read, _, _ in axis) for axis in plan.axes]
    flops = moved = 0.0
    for read in product(*edges):
        times = prod(count[edge] for count, edge in zip(edges, read, strict=True))
        one = network_cost(plan.spec, read, itemsize=itemsize, concatenated=concatenated)
        flops, moved = flops + times * one.flops, moved + times * one.bytes
    return Cost(flops=flops, bytes=moved)
