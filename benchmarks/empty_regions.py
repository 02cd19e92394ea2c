"""How much faster is an image that is mostly empty? The same image with the reuse of empty tiles and without, in turns.

    python benchmarks/empty_regions.py [--edge 2048] [--out docs/measurements/empty_regions.json]

A tenth of the area, a block of rows, holds noise; the rest has one value, as a slide has around its tissue. `difference` is the
largest one between the two results.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from napari_shiftseg import load_model, plan_tiles, predict

LOOP = import_module("napari_shiftseg.network.tiles")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edge", type=int, default=2048)
    parser.add_argument("--tile", type=int, default=128)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path)
    wishes = parser.parse_args()
    model = load_model("nuclei").module
    image = np.zeros((wishes.edge,) * 2, np.float32)
    image[: wishes.edge // 10] = np.random.default_rng(0).random((wishes.edge // 10, wishes.edge))
    plan = plan_tiles(model.spec, image.shape, wishes.tile)
    key, seconds, results = LOOP.ConstantTiles.key, {"reused": [], "computed": []}, {}
    for _ in range(wishes.turns):
        for kind in seconds:
            LOOP.ConstantTiles.key = key if kind == "reused" else (lambda self, pixels, keep: None)
            started = time.perf_counter()
            results[kind] = predict(model, image, plan, device="cpu")
            seconds[kind].append(round(time.perf_counter() - started, 2))
    ratio = statistics.median(seconds["computed"]) / statistics.median(seconds["reused"])
    found = {
        "command": sys.argv,
        "platform": platform.platform(),
        "torch": torch.__version__,
        "tiles": len(plan),
        "seconds": seconds,
        "ratio": round(ratio, 2),
        "difference": float(np.abs(results["computed"] - results["reused"]).max()),
    }
    print(json.dumps(found, indent=1))
    if wishes.out:
        wishes.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
