"""How a network may run over an image, tile by tile or as a stream, and which of the two costs less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.geometry.coverage import Trained
from napari_shiftseg.geometry.edges import DEFAULT_MEMORY
from napari_shiftseg.geometry.plan import TilePlan, plan_tiles
from napari_shiftseg.geometry.spec import UNetSpec
from napari_shiftseg.geometry.stream_plan import StreamPlan, plan_stream, stream_refusal, strip_cost

__all__ = ["METHODS", "Method", "MethodCost", "choose_method", "describe_methods"]

Method = Literal["auto", "tiles", "stream"]
METHODS: tuple[Method, ...] = ("auto", "tiles", "stream")
# Why a compiled pass is no stream.
_WHOLE_TILES = "OpenVINO runs whole tiles"


@dataclass(frozen=True, kw_only=True)
class MethodCost:
    """What one way of running costs.

    Attributes
    ----------
    method : {"tiles", "stream"}
    possible : bool
        Whether it can run at all; if not, the numbers are 0 and `text` says why.
    chosen : bool
        Whether "auto" takes it.
    flops : float
        Floating-point operations of the whole image (a multiply-add counts as two).
    redundancy : float
        These over those of the same pixels in an infinitely large image.
    memory : int
        Estimate of what it takes beside image and result, in float32, bytes.
    text : str
        The plan in words.
    """

    method: Literal["tiles", "stream"]
    possible: bool
    chosen: bool
    flops: float
    redundancy: float
    memory: int
    text: str


def choose_method(
    tiles: TilePlan,
    method: Method = "auto",
    *,
    memory: int | None = None,
    tall: bool = False,
    compiled: bool = False,
    deterministic: bool = False,
    empty: float = 0.0,
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
    compiled : bool
        Passes are compiled as a whole, which only tiles can be.
    deterministic : bool
        Bits may depend on the network alone, which only fixed tiles grant.
    empty : float
        Share of the tiles that need no computing, because they hold one value per channel; 0 to 1.

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
    elif compiled:
        refusal = _WHOLE_TILES
    if refusal is not None:
        if method == "stream":
            raise SettingsError(f"the plan cannot be streamed, because {refusal}; take method 'tiles' or 'auto'.")
        return None
    if method == "auto" and not tiles.automatic:
        return None
    stream = plan_stream(tiles, memory=memory, tall=tall)
    if method == "stream":
        return stream
    seconds_tiles = tiles.flops * (1.0 - empty)
    seconds_stream = stream.flops * strip_cost(tiles.spec, stream.strip)
    fits = stream.peak_bytes <= max(memory or DEFAULT_MEMORY, _tile_bytes(tiles))
    return stream if fits and seconds_stream < seconds_tiles else None


def describe_methods(
    spec: UNetSpec,
    shape: Sequence[int],
    memory: int | None = None,
    *,
    write: int | Sequence[int] | None = None,
    border: Literal["reflect", "valid"] = "reflect",
    trained: Trained | None = None,
    tall: bool = False,
    compiled: bool = False,
) -> tuple[MethodCost, ...]:
    """What tiles and a stream cost for an image, from integers alone.

    Parameters
    ----------
    spec : UNetSpec
    shape : sequence of int
        Spatial shape of the image, pixels.
    memory : int, optional
        Bytes that one pass may take.
    write, border, trained
        As in `plan_tiles`.
    tall, compiled
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
    chosen = choose_method(tiles, memory=memory, tall=tall, compiled=compiled)
    by_tiles = MethodCost(
        method="tiles",
        possible=True,
        chosen=chosen is None,
        flops=tiles.flops,
        redundancy=tiles.redundancy,
        memory=_tile_bytes(tiles),
        text=tiles.describe(),
    )
    if refusal := stream_refusal(tiles) or (_WHOLE_TILES if compiled else None):
        text = f"not possible, because {refusal}"
        none = MethodCost(method="stream", possible=False, chosen=False, flops=0.0, redundancy=0.0, memory=0, text=text)
        return by_tiles, none
    stream = chosen or plan_stream(tiles, memory=memory, tall=tall)
    by_stream = MethodCost(
        method="stream",
        possible=True,
        chosen=chosen is not None,
        flops=stream.flops,
        redundancy=stream.redundancy,
        memory=stream.peak_bytes,
        text=stream.describe(),
    )
    return by_tiles, by_stream


def _tile_bytes(tiles: TilePlan) -> int:
    return int(tiles.lattice.peak_bytes(tiles.read))
