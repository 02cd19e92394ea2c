"""What large pages of memory save on a CPU: passes over an image with and without `THP_MEM_ALLOC_ENABLE`, in turns.

PyTorch reads that variable at its first allocation, so each pass is timed in a process of its own, after one that is not.

    python benchmarks/large_pages.py [--out docs/measurements/large_pages.json]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from bench import in_own_process, keep, origin, parser, ratio, told

from napari_shiftseg import UNet, UNetSpec, plan_tiles, predict

WAYS = {"stream": ("stream", None), "tiles of 512 px": ("tiles", 512), "tiles of 1024 px": ("tiles", 1024)}
PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--edge", type=int, default=2048)
    made.add_argument("--features", type=int, default=16)
    made.add_argument("--turns", type=int, default=3)
    made.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    wishes = made.parse_args()
    image = "--edge", wishes.edge, "--features", wishes.features
    if wishes.one:
        told(one(wishes.one, wishes.edge, wishes.features))
        return
    found: dict[tuple[str, str], list[dict[str, float]]] = {(way, large): [] for way in WAYS for large in "01"}
    for turn in range(wishes.turns):
        for way, large in found if turn % 2 == 0 else reversed(found):
            found[way, large].append(in_own_process("--one", way, *image, THP_MEM_ALLOC_ENABLE=large))
    rows = []
    for way in WAYS:
        row: dict[str, object] = {"way": way, "edge": wishes.edge, "features": wishes.features}
        for name, runs in (("small", found[way, "0"]), ("large", found[way, "1"])):
            row |= {f"{name}_{key}": statistics.median(run[key] for run in runs) for key in runs[0]}
        row["ratio"] = ratio(*([run["seconds"] for run in found[way, large]] for large in "10"))
        rows.append(told(row))
    document = {**origin(), "turns": wishes.turns, "rows": rows}
    document["machine"]["large pages"] = PAGES.read_text().strip()
    keep(wishes.out, document)


def one(way: str, edge: int, features: int) -> dict[str, float]:
    torch.manual_seed(0)
    net = UNet(UNetSpec(levels=3, features=features, embedding_dim=8)).eval()
    image = np.random.default_rng(0).random((1, edge, edge), np.float32)
    method, tile = WAYS[way]
    plan = plan_tiles(net.spec, image.shape[1:], tile)
    predict(net, image, plan, "cpu", method=method)
    seconds = []
    for _ in range(3):
        faults, started = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
        predict(net, image, plan, "cpu", method=method)
        seconds.append(time.perf_counter() - started)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"seconds": statistics.median(seconds), "faults": usage.ru_minflt - faults, "memory": 1024.0 * usage.ru_maxrss}


if __name__ == "__main__":
    main()
