"""What networks cost at least, what plans cost over that, and what is reached on this device.

    python benchmarks/limits.py --out docs/measurements/limits.json

Operations and bytes follow from the description of a network (`geometry.network_cost`), and so do those of plans; both are
compared with PyTorch's counter over runs of small images. The rates of the device are measured, and so is one tile.
"""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from bench import flop_counter, keep, origin, parser, told

from napari_shiftseg import geometry
from napari_shiftseg.geometry import UNetSpec, network_cost, plan_cost, plan_tiles
from napari_shiftseg.network import UNet, measure_pass, measure_rates, predict

# ndim, levels, features
NETWORKS = ((2, 4, 64), (2, 4, 32), (2, 3, 32), (2, 3, 16), (3, 4, 32), (3, 3, 32), (3, 2, 32), (3, 3, 16))
# network, edge of the image, memory, and the most that the plan may cost over the ideal
PLANS = (
    ((2, 4, 64), 8192, 8 << 30, 1.02),
    ((2, 3, 32), 8192, 8 << 30, 1.02),
    ((3, 3, 32), 1024, 8 << 30, 1.25),
    ((3, 4, 32), 1024, 8 << 30, 1.6),
    ((3, 2, 32), 1024, 8 << 30, None),
)
# small images whose runs are counted: network, shape, edge of the tiles
COUNTED = (((2, 3, 4), (264, 200), 96), ((2, 4, 2), (320, 208), 112), ((3, 2, 2), (72, 48, 56), 32))
# tiles that are timed, px
TILES = {2: 512, 3: 96}


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--device", default="cpu")
    made.add_argument("--measured", nargs="*", default=["2,3,16", "2,3,32", "3,2,16"], metavar="NDIM,LEVELS,FEATURES")
    made.add_argument("--tile", nargs=2, type=int, default=[TILES[2], TILES[3]], metavar=("IN2D", "IN3D"))
    wishes = made.parse_args()
    rates = measure_rates(wishes.device)
    measured = [tuple(map(int, name.split(","))) for name in wishes.measured]
    found = {
        "rates": {"bandwidth": rates.bandwidth, "matrix": dict(rates.matrix)},
        "networks": [network_row(*key, rates) for key in NETWORKS],
        "plans": [row for key, edge, memory, goal in PLANS for row in plan_rows(spec_of(*key), edge, memory, goal)],
        "counted": [row for key, shape, tile in COUNTED for row in counted_rows(spec_of(*key), shape, tile)],
        "reached": [row for key in measured for row in reached_rows(spec_of(*key), wishes.tile[key[0] - 2], rates)],
    }
    document = {**origin(), **told(found)}
    document["machine"]["device"] = rates.device.describe()
    keep(wishes.out, document)


def spec_of(ndim: int, levels: int, features: int) -> UNetSpec:
    return UNetSpec(ndim=ndim, levels=levels, features=features, embedding_dim=8)


def named(spec: UNetSpec) -> dict[str, int]:
    return {"ndim": spec.ndim, "levels": spec.levels, "features": spec.features}


def network_row(ndim: int, levels: int, features: int, rates: object) -> dict:
    """Cost per output pixel of a large image, and the floor here."""
    spec = spec_of(ndim, levels, features)
    row = {**named(spec), "flops": spec.flops_per_pixel}
    for dtype, itemsize in (("float32", 4), ("bfloat16", 2)):
        copied, joined = (network_cost(spec, itemsize=itemsize, concatenated=wish) for wish in (True, False))
        rate = rates.matrix[dtype]
        row[dtype] = {
            "bytes": copied.bytes,
            "bytes_joined": joined.bytes,
            "floor": joined.floor(rate, rates.bandwidth),
            "bound": joined.bound(rate, rates.bandwidth),
        }
    return row


def plan_rows(spec: UNetSpec, edge: int, memory: int, goal: float | None) -> list[dict]:
    """Tiles and stream of one image within the same memory."""
    shape = (edge,) * spec.ndim
    base = {**named(spec), "edge": edge, "memory": memory, "goal": goal}
    return [
        {**base, "method": cost.method, "chosen": cost.chosen, "over_ideal": cost.redundancy, "plan": cost.text,
         "estimated_memory": cost.memory}
        for cost in geometry.describe_methods(spec, shape, memory)
        if cost.possible
    ]  # fmt: skip


def counted_rows(spec: UNetSpec, shape: tuple[int, ...], tile: int) -> list[dict]:
    """Operations of a run by PyTorch's counter against those of the plan by formula."""
    torch.manual_seed(0)
    net, image = UNet(spec).eval(), np.random.default_rng(0).random(shape, np.float32)
    plan = plan_tiles(spec, shape, tile)
    rows = []
    for method, flops in (("tiles", plan.flops), ("stream", geometry.plan_stream(plan).flops)):
        with flop_counter() as counter:
            predict(net, image, plan, "cpu", method=method)
        row = {**named(spec), "shape": shape, "tile": tile, "method": method, "counted": counter.get_total_flops()}
        rows.append({**row, "planned": flops, "over_ideal": flops / spec.flops_per_pixel / prod(shape)})
    return rows


def reached_rows(spec: UNetSpec, edge: int, rates: object) -> list[dict]:
    """Time of one tile against its floor."""
    torch.manual_seed(0)
    net, shape = UNet(spec).eval(), (edge,) * spec.ndim
    plan, rows = plan_tiles(spec, shape, shape), []
    for dtype, itemsize in (("float32", 4), ("bfloat16", 2)):
        cost = plan_cost(plan, itemsize=itemsize, concatenated=False)
        seconds = measure_pass(net, shape, str(rates.device.torch_device), dtype=dtype)
        floor = cost.floor(rates.matrix[dtype], rates.bandwidth)
        row = {**named(spec), "tile": edge, "dtype": dtype, "seconds": seconds, "flops": cost.flops}
        row |= {"share_of_matrix_rate": cost.flops / seconds / rates.matrix[dtype], "share_of_floor": floor / seconds}
        rows.append({**row, "bound": cost.bound(rates.matrix[dtype], rates.bandwidth)})
    return rows


if __name__ == "__main__":
    main()
