"""Do the labels of real images depend on the tile size? Ten images, five tile sizes, against one pass over the whole image.

    python benchmarks/tile_independence.py DATA [--model nuclei] [--images 10] [--out docs/measurements/tile_independence.json]

DATA is a folder with `images/`, `masks/` and `meta.csv` (columns id, split). For each image and tile size: largest
difference of the embedding, pixels whose label differs, difference of the number of instances, and of AP at IoU 0.5;
then the same with `deterministic=True`, which has to be 0 throughout.
"""

from __future__ import annotations

import numpy as np
from bench import keep, named, origin, read, split_parser, told

from napari_shiftseg import SegmentSettings, load_model, match_score, segment

TILES = (48, 64, 96, 128, 200)


def compare(image: np.ndarray, truth: np.ndarray, model: object, tile: int, deterministic: bool) -> dict[str, object]:
    """Differences between one tile size and the whole image in one pass."""
    period = model.spec.period[0]
    whole, tiled = (
        segment(image, model, SegmentSettings(write=write, deterministic=deterministic))
        for write in (1 << 20, tile // period * period)
    )
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
    wishes = split_parser(__doc__, images=10).parse_args()
    model, names = load_model(wishes.model), named(wishes.data, wishes.split)
    rows = []
    for name in names[:: max(1, len(names) // wishes.images)][: wishes.images]:
        image, truth = read(wishes.data, name)
        for tile in TILES:
            for deterministic in (False, True):
                row = compare(image, truth, model, tile, deterministic)
                rows.append(told({"image": name[:12], "shape": image.shape, **row}))
    plain, fixed = ([row for row in rows if row["deterministic"] == kind] for kind in (False, True))
    document = origin() | {
        "model": {"name": model.name, "sha256": model.hash},
        "pixels": int(sum(np.prod(row["shape"]) for row in plain)),
        "pixels_decided_otherwise": sum(row["pixels_decided_otherwise"] for row in plain),
        "pixels_decided_otherwise_deterministic": sum(row["pixels_decided_otherwise"] for row in fixed),
        "instance_counts_that_differ": sum(row["instances_whole"] != row["instances_tiled"] for row in rows),
        "largest_embedding_difference": max(row["embedding_difference"] for row in rows),
        "largest_ap_difference": max(abs(row["ap_difference"]) for row in rows),
        "rows": rows,
    }
    keep(wishes.out, document)


if __name__ == "__main__":
    main()
