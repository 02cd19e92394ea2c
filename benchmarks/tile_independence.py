"""Do the labels of real images depend on the tile size? Ten images, five tile sizes, against one pass over the whole image.

    python benchmarks/tile_independence.py DATA [--model nuclei] [--images 10] [--out docs/measurements/tile_independence.json]

DATA is a folder with `images/`, `masks/` and `meta.csv` (columns id, split). For each image and tile size: largest
difference of the embedding, pixels whose label differs, difference of the number of instances, and of AP at IoU 0.5;
then the same with `deterministic=True`, which has to be 0 throughout.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import platform
from pathlib import Path

import numpy as np
import torch

from napari_shiftseg import SegmentSettings, load_model, match_score, read_image, segment

TILES = (48, 64, 96, 128, 200)


def compare(image: np.ndarray, truth: np.ndarray, model: object, tile: int, deterministic: bool) -> dict[str, float]:
    """Differences between one tile size and the whole image in one pass."""
    period = model.spec.period[0]
    results = [
        segment(image, model, SegmentSettings(write=write, deterministic=deterministic))
        for write in (1 << 20, tile // period * period)
    ]
    whole, tiled = results
    return {
        "tile": tile,
        "deterministic": deterministic,
        "tiles": len(tiled.plan),
        "embedding_difference": float(np.abs(whole.embedding - tiled.embedding).max()),
        "pixels_decided_otherwise": int((whole.labels != tiled.labels).sum()),
        "instances_whole": int(whole.labels.max()),
        "instances_tiled": int(tiled.labels.max()),
        "ap_difference": float(match_score(tiled.labels, truth).ap - match_score(whole.labels, truth).ap),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model = load_model(options.model)
    with open(options.data / "meta.csv", encoding="utf-8") as lines:
        names = [row["id"] for row in csv.DictReader(lines) if row["split"] == options.split]
    chosen = names[:: max(1, len(names) // options.images)][: options.images]
    rows = []
    for name in chosen:
        image = np.asarray(read_image(options.data / "images" / f"{name}.tif").data)
        truth = np.asarray(read_image(options.data / "masks" / f"{name}.tif").data)
        for tile in TILES:
            for deterministic in (False, True):
                row = {"image": name[:12], "shape": image.shape, **compare(image, truth, model, tile, deterministic)}
                rows.append(row)
                print(row, flush=True)
    summary = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "model": {"name": model.name, "sha256": model.hash},
        "pixels": int(sum(np.prod(row["shape"]) for row in rows if not row["deterministic"])),
        "pixels_decided_otherwise": sum(row["pixels_decided_otherwise"] for row in rows if not row["deterministic"]),
        "pixels_decided_otherwise_deterministic": sum(row["pixels_decided_otherwise"] for row in rows if row["deterministic"]),
        "instance_counts_that_differ": sum(row["instances_whole"] != row["instances_tiled"] for row in rows),
        "largest_embedding_difference": max(row["embedding_difference"] for row in rows),
        "largest_ap_difference": max(abs(row["ap_difference"]) for row in rows),
        "rows": rows,
    }
    print({key: value for key, value in summary.items() if key != "rows"})
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
