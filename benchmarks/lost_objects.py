"""Objects that end without any label, for every preset and sample and every bundled model, in one pass and by small tiles.

    python benchmarks/lost_objects.py --out after.json
    python benchmarks/lost_objects.py --against before.json

Of each run: objects of the truth and those found, how many of the truth have no labelled pixel (*lost*) and of these how many
the foreground shows with `min_size` connected pixels or more (*vanished*, which must be none), and AP at an IoU of 0.5. Presets
of constant images have no objects and are left out. Tiles of 20 px are off the lattice, so that objects may break.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from tifffile import imread

from napari_shiftseg import SegmentSettings, load_model, match_score, segment, synthetic
from napari_shiftseg.io import bundled_models

TILES = (20, 32, 10_000)
# Truths of images that are constant or ramps: each pixel is an object of its own.
_MOST = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=bundled_models())
    parser.add_argument("--images", nargs="+", help="names; all by default")
    parser.add_argument("--tiles", nargs="+", type=int, default=TILES, help="edges, px")
    parser.add_argument("--against", type=Path, help="rows of another run, shown beside")
    parser.add_argument("--out", type=Path)
    wishes = parser.parse_args()
    before = {key(row): row for row in json.loads(wishes.against.read_text())} if wishes.against else {}
    rows = []
    for name, image, truth in images():
        if wishes.images and name not in wishes.images:
            continue
        for model in wishes.models:
            for tile in wishes.tiles:
                row = {"image": name, "model": model, "tile": tile, **measured(image, truth, model, tile)}
                rows.append(row)
                print(told(row), "| before:", told(before[key(row)]) if key(row) in before else "-", flush=True)
    for name, counted in (("before", [before[key(row)] for row in rows if key(row) in before]), ("now", rows)):
        lost, vanished = (sum(row[part] for row in counted) for part in ("lost", "vanished"))
        print(f"{name}: {lost} lost, {vanished} vanished in {len(counted)} runs")
    if wishes.out:
        wishes.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def images() -> Iterator[tuple[str, npt.NDArray, npt.NDArray]]:
    """Name, pixels and truth of each preset and sample that has objects."""
    drawn = {name: synthetic.make(preset.recipe) for name, preset in synthetic.presets().items()}
    drawn["disks 15 px apart"] = synthetic.disks((256, 256), 15, 5)
    drawn["disks 16 px apart"] = synthetic.disks((256, 256), 16, 5)
    drawn["touching blobs"] = synthetic.blobs((256, 256), 60, seed=0)
    drawn["touching blobs 3D"] = synthetic.blobs((48, 128, 128), 40, seed=0)
    for name, one in drawn.items():
        if 0 < int(one.labels.max()) < _MOST:
            yield name, one.image, one.labels
    samples = files("napari_shiftseg") / "samples"
    yield "nuclei", imread(str(samples / "nuclei.tif")), imread(str(samples / "nuclei_truth.tif"))


def measured(image: npt.NDArray, truth: npt.NDArray, name: str, tile: int) -> dict:
    """One run."""
    model = load_model(name)
    result = segment(image, model, SegmentSettings(write=tile, device="cpu", allow_noncompliant=True))
    labels, wish = result.labels.reshape(truth.shape), model.record.clustering
    labelled = np.bincount(truth[labels > 0], minlength=int(truth.max()) + 1)
    lost = np.flatnonzero((labelled == 0) & (np.bincount(truth.ravel()) > 0))
    lost = lost[lost > 0]
    # the foreground of a network of two axes has no neighbours along the third
    every = np.ones((3,) * truth.ndim)
    if model.spec.ndim < truth.ndim:
        every[[0, 2]] = 0
    pieces = ndimage.label(result.foreground.reshape(truth.shape) >= wish.threshold, every)[0]
    large = np.bincount(pieces.ravel()) >= wish.min_size
    large[0] = False
    score = match_score(labels, truth)
    return {
        "objects": len(np.unique(truth[truth > 0])),
        "found": int(labels.max()) if truth.ndim == model.spec.ndim else None,
        "lost": len(lost),
        "vanished": len(np.intersect1d(lost, truth[large[pieces]])),
        "ap": score.ap,
    }


def key(row: dict) -> tuple:
    """What was run."""
    return row["image"], row["model"], row["tile"]


def told(row: dict) -> str:
    """A row in words."""
    counts = f"{row['found']} of {row['objects']} objects, {row['lost']} lost, {row['vanished']} vanished"
    return f"{row['image']}, {row['model']}, {row['tile']} px: {counts}, AP {row['ap']:.3f}"


if __name__ == "__main__":
    main()
