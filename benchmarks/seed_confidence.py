"""Whether the seeds that a network says are a confidence: how many of the objects with such a mean seed are objects.

    python benchmarks/seed_confidence.py DATA [DATA ...] --model nuclei [--split train] [--every 6] [--out FILE]

DATA are folders with `images/`, `masks/` and `meta.csv` (columns id, split). Images are segmented with a least mean seed of
0, so that all that has a mode is there; an object is right if its IoU with a true one is 0.5 at least.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from accuracy import pixels_of
from accuracy_runs import pairs_of
from bench import data_parser, keep, origin
from scipy import ndimage

from napari_shiftseg import SegmentSettings, load_model, segment
from napari_shiftseg.instances import mistaken_objects

EDGES = (0.0, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 1.0)  # of mean seeds


def objects_of(pair: Any, model: Any) -> tuple[np.ndarray, np.ndarray]:
    """(K,) mean seed of each object, and whether it is right."""
    result = segment(pixels_of(pair.image()), model, SegmentSettings(device="cpu", keep_embedding=True))
    labels = np.asarray(result.labels)
    ids = np.unique(labels)[1:]
    if not len(ids):
        return np.empty(0), np.empty(0, bool)
    extra = mistaken_objects(labels, pair.truth()).extra
    return np.asarray(ndimage.mean(result.outputs["seed"], labels, ids)), ~np.isin(ids, extra)


def main() -> None:
    wishes = data_parser(__doc__).parse_args()
    torch.set_num_threads(1)
    model = load_model(wishes.model)
    if model.record is None:
        raise SystemExit(f"{wishes.model} has no record; give a model that says seeds.")
    clustering = replace(model.record.clustering, least_seed=0.0)
    open_model = replace(model, record=replace(model.record, clustering=clustering))
    found = [objects_of(pair, open_model) for pair in pairs_of(wishes.data, wishes.split)[:: wishes.every]]
    seeds, right = (np.concatenate(part) for part in zip(*found, strict=True))
    rows = []
    for low, high in pairwise(EDGES):
        here = (seeds >= low) & (seeds < high if high < 1 else seeds <= high)
        count = int(here.sum())
        share = round(float(right[here].mean()), 3) if count else None
        rows.append({"from": low, "to": high, "objects": count, "right": int(right[here].sum()), "share": share})
    print(*rows, sep="\n")
    known = {"name": model.name, "sha256": model.hash}
    keep(wishes.out, {**origin("scipy", "scikit-image"), "model": known, "split": wishes.split, "rows": rows})


if __name__ == "__main__":
    main()
