"""What large pages of memory save on a CPU: passes over an image with and without `THP_MEM_ALLOC_ENABLE`, in turns.

PyTorch reads that variable at its first allocation, so each pass is timed in a process of its own, after one that is not.

    python benchmarks/large_pages.py [--out docs/measurements/large_pages.json]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from machine import processor

WAYS = {"stream": ("stream", None), "tiles of 512 px": ("tiles", 512), "tiles of 1024 px": ("tiles", 1024)}
PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edge", type=int, default=2048)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    wishes = parser.parse_args()
    if wishes.one:
        print(json.dumps(one(wishes.one, wishes.edge, wishes.features)))
        return
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for turn in range(wishes.turns):
        for way in WAYS:
            for large in ("0", "1") if turn % 2 == 0 else ("1", "0"):
                found.setdefault((way, large), []).append(in_own_process(way, large, wishes))
    rows = []
    for way in WAYS:
        small, large = found[way, "0"], found[way, "1"]
        row = {"way": way, "edge": wishes.edge, "features": wishes.features}
        for name, runs in (("small", small), ("large", large)):
            row |= {f"{name}_{key}": statistics.median(run[key] for run in runs) for key in small[0]}
        row["ratio"] = statistics.median(b["seconds"] / a["seconds"] for a, b in zip(small, large, strict=True))
        rows.append(row)
        print(json.dumps(row), flush=True)
    if wishes.out:
        machine = {"processor": processor(), "cpus": os.cpu_count(), "large pages": PAGES.read_text().strip()}
        document = {
            "date": time.strftime("%Y-%m-%d"),
            "command": " ".join(["python", "benchmarks/large_pages.py", *sys.argv[1:]]),
            "machine": machine,
            "versions": {"torch": version("torch")},
            "turns": wishes.turns,
            "rows": rows,
        }
        wishes.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def in_own_process(way: str, large: str, wishes: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", __file__, "--one", way]
    command += ["--edge", str(wishes.edge), "--features", str(wishes.features)]
    run = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "THP_MEM_ALLOC_ENABLE": large}
    )
    found: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found


def one(way: str, edge: int, features: int) -> dict[str, float]:
    import numpy as np
    import torch

    from napari_shiftseg import UNet, UNetSpec, plan_tiles, predict

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
