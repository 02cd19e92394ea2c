"""What do tiles off the lattice do to real nuclei? The validation images of a data set at several tile edges, legal and not.

    python benchmarks/tile_size_curve.py DATA [--images N] [--out docs/measurements/tile_size_curve.json]

DATA is a folder with `images/`, `masks/` and `meta.csv` (columns id, split). Each image is segmented in one pass and then by
tiles of each edge; `--images N` takes the first N names. Per edge, over all images:

- against the one pass: pixels labelled otherwise (the numbers of instances do not matter), also those within 4 px of a seam;
  instances and images with such pixels; instances that are split, also those across a seam; instances that are merged;
  largest difference of the embedding;
- against the truth: nuclei that lie across a seam, how many of them are split, and how many of the very same ones the one
  pass splits too; all splits; nuclei that are split although the one pass leaves them whole, and the reverse; AP at an IoU of
  0.5 and its mean over 0.5, 0.55, ..., 0.95, over the objects of all images.

A split is that of `MatchScore.splits`.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
from bench import keep, named, origin, read, split_parser

from napari_shiftseg import SegmentSettings, load_model, match_score, segment
from napari_shiftseg.analysis.compare import changed_pixels
from napari_shiftseg.evaluation import IOUS
from napari_shiftseg.instances import mistaken_objects, pool_scores

TILES = (32, 36, 40, 44, 48, 52, 56, 60, 61, 64, 126, 128)
NEAR = 4  # px, half a period


def compare(tiled, whole, truth):
    """Counts of one image at one tile edge, and its scores."""
    seams = tiled.plan.seams()
    changed, near = changed_pixels(whole.labels, tiled.labels), near_seams(tiled.labels.shape, seams)
    objects = (whole.labels > 0) | (tiled.labels > 0)
    against_whole = match_score(tiled.labels, whole.labels, seams=seams)
    scores = match_score(tiled.labels, truth, IOUS, seams=seams)
    one_pass = match_score(whole.labels, truth, seams=seams)
    split, split_anyway = (set(mistaken_objects(result.labels, truth).split.tolist()) for result in (tiled, whole))
    counts = {
        "tiles": len(tiled.plan),
        "changed_pixels": int(changed.sum()),
        "object_pixels": int(objects.sum()),
        "object_pixels_near_seams": int((objects & near).sum()),
        "changed_near_seams": int((changed & near).sum()),
        "changed_instances": int(np.count_nonzero(np.unique(whole.labels[changed]))),
        "changed_images": int(changed.any()),
        "split_instances": against_whole.splits,
        "split_instances_at_seams": against_whole.at_seams.splits,
        "merged_instances": against_whole.merges,
        "crossing": scores[0].at_seams.tp + scores[0].at_seams.fn,
        "split_at_seams": scores[0].at_seams.splits,
        "split_at_seams_in_one_pass": one_pass.at_seams.splits,
        "splits": scores[0].splits,
        "splits_added": len(split - split_anyway),
        "splits_removed": len(split_anyway - split),
        "merges": scores[0].merges,
    }
    return counts, scores, float(np.abs(whole.embedding - tiled.embedding).max())


def near_seams(shape, seams):
    """Pixels within NEAR px of a seam."""
    near = np.zeros(shape, bool)
    for axis, positions in enumerate(seams):
        for position in positions:
            near[(slice(None),) * axis + (slice(max(0, position - NEAR), position + NEAR),)] = True
    return near


def accuracy(scores):
    """AP over the objects of all images, from a tuple of scores per image."""
    aps = [pool_scores(at).ap for at in zip(*scores, strict=True)]
    return {"ap50": aps[0], "ap50_95": statistics.fmean(aps)}


def summary(edge, period, results):
    """One row: the counts of all images added up."""
    counts, scores, differences = zip(*results, strict=True)
    added = {name: sum(count[name] for count in counts) for name in counts[0]}
    there = {"edge": edge, "legal": edge % period == 0, **added, "largest_embedding_difference": max(differences)}
    return {**there, **accuracy(scores)}


def measure(data, names, model, edges):
    """Rows per edge, and the one passes."""
    results, whole_scores = {edge: [] for edge in edges}, []
    pixels = instances = nuclei = 0
    for number, name in enumerate(names, 1):
        started = time.perf_counter()
        image, truth = read(data, name)
        whole = segment(image, model, SegmentSettings(write=max(image.shape), device="cpu"))
        assert len(whole.plan) == 1
        whole_scores.append(match_score(whole.labels, truth, IOUS))
        pixels += truth.size
        instances += int(whole.labels.max())
        nuclei += whole_scores[-1][0].tp + whole_scores[-1][0].fn
        for edge in edges:
            tiled = segment(image, model, SegmentSettings(write=edge, device="cpu", allow_noncompliant=True))
            results[edge].append(compare(tiled, whole, truth))
        changed = {edge: results[edge][-1][0]["changed_pixels"] for edge in edges}
        print(f"{number}/{len(names)} {name[:8]} {image.shape} {time.perf_counter() - started:.0f} s {changed}", flush=True)
    one_pass = {name: sum(getattr(scores[0], name) for scores in whole_scores) for name in ("splits", "merges")}
    rows = [summary(edge, model.spec.period[0], results[edge]) for edge in edges]
    found = {"pixels": pixels, "instances": instances, "nuclei": nuclei, "one_pass": {**one_pass, **accuracy(whole_scores)}}
    return {**found, "rows": rows}


def main() -> None:
    wishes = split_parser(__doc__, images=None).parse_args()
    model, names = load_model(wishes.model), sorted(named(wishes.data, wishes.split))[: wishes.images]
    known = {"name": model.name, "sha256": model.hash, "period": model.spec.period[0]}
    data = {"name": wishes.data.resolve().name, "split": wishes.split, "images": len(names)}
    found = {**origin("scipy"), "model": known, "data": data, **measure(wishes.data, names, model, TILES)}
    keep(wishes.out, found)


if __name__ == "__main__":
    main()
