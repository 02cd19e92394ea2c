"""What `shiftseg info` says of speed: what a network and its tiles cost, what the device can do, what is reached."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_shiftseg.cli.constants import ITEMSIZES, PLANNED_EDGE, TIMED_EDGE
from napari_shiftseg.errors import SettingsError

if TYPE_CHECKING:
    from napari_shiftseg.cli.console import Console
    from napari_shiftseg.geometry import Cost, UNetSpec
    from napari_shiftseg.network import Device, ModelRecord, Rates, UNet


def network_limits(spec: UNetSpec, rates: Rates, console: Console) -> dict[str, object]:
    """Cost per output pixel of a large image, by level, and the shortest time in which this device can pay it."""
    from napari_shiftseg.geometry import layer_costs, network_cost

    half, joined = (network_cost(spec, itemsize=2, concatenated=wish) for wish in (True, False))
    console.field(
        "cost",
        f"{_scaled(half.flops)}FLOP per output pixel of a large image; each layer reading and writing its maps once, "
        f"{half.bytes:.0f} bytes in bfloat16 ({joined.bytes:.0f} without the copies that concatenate) and "
        f"{2 * half.bytes:.0f} ({2 * joined.bytes:.0f}) in float32",
    )
    layers = list(layer_costs(spec))
    for level in range(spec.levels + 1):
        here = [layer for layer in layers if layer.level == level]
        flops = sum(layer.flops for layer in here) / half.flops
        values = sum(layer.reads + layer.writes for layer in here) / (half.bytes / 2)
        console.field(f"level {level}", f"{100 * flops:.0f} % of the FLOP, {100 * values:.0f} % of the bytes")
    matrix = ", ".join(f"{dtype} {_scaled(rate)}FLOP/s" for dtype, rate in rates.matrix.items())
    console.field("rates", f"{rates.device.describe()}; measured: memory {_scaled(rates.bandwidth)}B/s, matrices {matrix}")
    floors = {}
    for dtype, rate in rates.matrix.items():
        cost = network_cost(spec, itemsize=ITEMSIZES[dtype], concatenated=False)
        seconds, bound = cost.floor(rate, rates.bandwidth), cost.bound(rate, rates.bandwidth)
        floors[dtype] = {"seconds_per_pixel": seconds, "bound": bound, "bytes_per_pixel": cost.bytes}
        console.field("floor", f"{dtype}: {_seconds(1e6 * seconds)} for 10^6 px, set by {bound}")
    return {
        "flops_per_pixel": half.flops,
        "values_per_pixel": {"concatenated": half.bytes / 2, "joined": joined.bytes / 2},
        "layers": layers,
        "rates": {"bandwidth": rates.bandwidth, "matrix": rates.matrix},
        "floor": floors,
    }


def plan_shape(args: argparse.Namespace, spec: UNetSpec) -> tuple[int, ...]:
    """Spatial shape to plan for: that of `--shape`, of `--image`, or a usual one."""
    if args.shape:
        if len(args.shape) != spec.ndim:
            raise SettingsError(f"--shape has {len(args.shape)} sizes, the network {spec.ndim} axes; give {spec.ndim}.")
        return tuple(args.shape)
    if args.image:
        from napari_shiftseg.cli.prepare import frame_shape
        from napari_shiftseg.io import read_image

        return frame_shape(read_image(args.image, scene=args.scene, axes=args.axes), spec.lattice, None)
    return (PLANNED_EDGE[spec.ndim],) * spec.ndim


def plan_limits(
    spec: UNetSpec,
    shape: Sequence[int],
    rates: Rates,
    *,
    console: Console,
    memory: int | None,
    write: int | tuple[int, ...] | None = None,
    trained: ModelRecord | None = None,
) -> dict[str, object]:
    """The arithmetic of tiles and of a stream against that of their pixels alone, and the shortest time for it."""
    from napari_shiftseg.geometry import describe_methods, plan_tiles
    from napari_shiftseg.network import stream_wish

    plan = plan_tiles(spec, shape, write, memory=memory, trained=trained)
    console.field("image", f"{' x '.join(map(str, shape))} px")
    methods = describe_methods(spec, shape, write=write, trained=trained, **stream_wish(rates.device, memory))
    floors = {}
    for one in methods:
        console.field(one.method, one.text + "; the cheaper, which runs" * one.chosen)
        if one.possible:
            floors[one.method] = {dtype: one.flops / rate for dtype, rate in rates.matrix.items()}
            times = ", ".join(f"{_seconds(seconds)} in {dtype}" for dtype, seconds in floors[one.method].items())
            console.field(
                "",
                f"{one.redundancy:.3f} times the operations of the same pixels in a large image, {_scaled(one.flops)}FLOP: "
                f"at least {times}; about {_scaled(one.memory)}B",
            )
    return {"shape": shape, "write": plan.write, "tiles": len(plan), "methods": methods, "floor_seconds": floors}


def measured_share(
    module: UNet, rates: Rates, console: Console, *, write: int | tuple[int, ...] | None = None
) -> dict[str, object]:
    """Time of a test tile, and the share of its floor that this is."""
    from napari_shiftseg.geometry import plan_cost, plan_tiles
    from napari_shiftseg.network import measure_pass

    spec = module.spec
    edges = _test_tile(spec, rates.device) if write is None else (write,) * spec.ndim if isinstance(write, int) else write
    plan = plan_tiles(spec, edges, edges)
    found = {}
    for dtype, rate in rates.matrix.items():
        cost = plan_cost(plan, itemsize=ITEMSIZES[dtype], concatenated=False)
        seconds = measure_pass(module, edges, str(rates.device.torch_device), dtype=dtype)
        share, size = cost.floor(rate, rates.bandwidth) / seconds, " x ".join(map(str, edges))
        console.field(
            "measured",
            f"{dtype}: a tile of {size} px in {_seconds(seconds)}, {_scaled(cost.flops / seconds)}FLOP/s, "
            f"{100 * cost.flops / seconds / rate:.0f} % of the matrix rate, {100 * share:.0f} % of the floor",
        )
        found[dtype] = _measured(cost, seconds, share)
    return {"write": edges, "redundancy": plan.redundancy, "by_dtype": found}


def _measured(cost: Cost, seconds: float, share: float) -> dict[str, float]:
    return {"seconds": seconds, "flops": cost.flops, "flops_per_second": cost.flops / seconds, "share_of_floor": share}


def _test_tile(spec: UNetSpec, device: Device) -> tuple[int, ...]:
    """An image of one tile that fits the memory."""
    from napari_shiftseg.geometry import plan_tiles

    memory = device.free // 4 if device.free else None
    edge = TIMED_EDGE[spec.ndim]
    return plan_tiles(spec, tuple(-(-edge // period) * period for period in spec.period), memory=memory).write


def _scaled(value: float) -> str:
    """Three digits and the prefix of the unit, as in "1.47 M"."""
    step = min(5, max(0, math.floor(math.log10(value) / 3))) if value >= 1 else 0
    return f"{value / 1000**step:.3g} {['', 'k', 'M', 'G', 'T', 'P'][step]}"


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms"
