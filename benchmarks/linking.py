"""How well objects are linked through the planes of a stack and the frames of a series, beside a plain overlap rule.

Planes: a 2D model segments each plane of a made stack, and of real ones with truth; the planes are joined by the overlap rule
(the pairs with the highest intersection over union from 0.25 on, as peers stitch), by ours without and with the codes, and
scored in 3D. Frames: the true objects of a real series lose their numbers and are linked again; of the true links those that
are found are counted. Last the time that 10,000 objects per frame take.

    python benchmarks/linking.py --data ../shared/data [--out docs/measurements/linking.json]
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from bench import keep, origin, parser, told

from napari_shiftseg import link, match_score, read_image, segment, synthetic
from napari_shiftseg.instances import Codes, LabelSettings, Renumbered, join_planes
from napari_shiftseg.io import Image, from_plain
from napari_shiftseg.io.labels import labels_of

# blobs are round and some touch, so one lies above the other here and there
MADE = {"shape": (32, 192, 192), "count": 55, "radius": (7, 12), "touching": 0.5, "seed": 1}
STACKS = {
    "mouse embryo, 16 cells": "qcanet_mouse_embryo_3d/{}/16_cell_stage.tif",
    "ovule": "gonuclear_ovule_nuclei_3d/{}/1136.tif",
}
SERIES = "laptrack_timelapse/masks/example.tif"
LEAST_IOU = 0.25  # of the plain rule, as by default in cellpose.utils.stitch3D


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, required=True)
    made.add_argument("--objects", type=int, default=10_000, help="per frame, of what is timed")
    wishes = made.parse_args()
    stacks = [row for name, image, truth in all_stacks(wishes.data) for row in planes(name, image, truth)]
    masks = np.asarray(read_image(wishes.data / SERIES, axes="tyx").data[...])
    document = {**origin(), "stacks": stacks, "series": list(frames(masks)), "times": [timed(wishes.objects)]}
    keep(wishes.out, document)


def all_stacks(data: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    sample = synthetic.blobs(**MADE)
    yield "made", sample.image, sample.labels
    for name, path in STACKS.items():
        parts = [np.asarray(read_image(data / path.format(part), axes="zyx").data[...]) for part in ("images", "masks")]
        yield name, parts[0], parts[1].astype(np.int32)


def planes(name: str, image: np.ndarray, truth: np.ndarray) -> Iterator[dict[str, Any]]:
    result = segment(Image.from_array(image, axes="zyx"), "nuclei")
    labels = np.asarray(result.labels)
    scores = [match_score(found, real) for found, real in zip(labels, truth, strict=True) if real.any()]
    base = {"stack": name, "objects": len(np.unique(truth)) - 1, "ap_planes": float(np.mean([score.ap for score in scores]))}
    clustering = from_plain(LabelSettings, result.record["clustering"])
    codes = Codes(
        embedding=result.outputs["embedding"],
        bandwidth=result.outputs["bandwidth"],
        factor=clustering.factor,
        coordinates=clustering.coordinates,
    )
    ways = {
        "overlap alone, as peers": lambda: plain(labels),
        "ours, overlap alone": lambda: np.asarray(Renumbered(labels, join_planes(labels))),
        "ours, overlap and codes": lambda: np.asarray(Renumbered(labels, join_planes(labels, codes))),
    }
    for way, make in ways.items():
        started = time.perf_counter()
        found = make().astype(np.int32)
        seconds = time.perf_counter() - started
        score = match_score(found, truth)
        row = {"way": way, "found": len(np.unique(found)) - 1, "ap50": score.ap, "f1": score.f1}
        yield told({**base, **row, "splits": score.splits, "merges": score.merges, "seconds": seconds})


def plain(labels: np.ndarray) -> np.ndarray:
    """Objects of the next plane take the number of that which they overlap most, if both say so of each other."""
    made, count = np.zeros(labels.shape, np.int64), 0
    for z, plane in enumerate(labels):
        numbers = np.zeros(int(plane.max()) + 1, np.int64)
        if z:
            for a, b in pairs(made[z - 1], plane):
                numbers[b] = a
        new = [number for number in np.unique(plane) if number and not numbers[number]]
        numbers[new] = np.arange(count + 1, count + 1 + len(new))
        count += len(new)
        made[z] = numbers[plane]
    return made


def pairs(before: np.ndarray, after: np.ndarray) -> Iterator[tuple[int, int]]:
    """Numbers of objects that overlap most of all, and enough."""
    a, rows = np.unique(before, return_inverse=True)
    b, columns = np.unique(after, return_inverse=True)
    shared = np.zeros((len(a), len(b)))
    np.add.at(shared, (rows.ravel(), columns.ravel()), 1)
    iou = shared / (shared.sum(1, keepdims=True) + shared.sum(0) - shared)
    iou[a == 0], iou[:, b == 0] = 0, 0
    for row, column in enumerate(iou.argmax(1)):
        if iou[row, column] >= LEAST_IOU and iou[:, column].argmax() == row:
            yield int(a[row]), int(b[column])


def frames(masks: np.ndarray) -> Iterator[dict[str, Any]]:
    """The frames get numbers of their own, and are linked by the overlap rule and by laptrack."""
    rng = np.random.default_rng(0)
    own = np.zeros_like(masks)
    for t, frame in enumerate(masks):
        numbers = np.unique(frame[frame > 0])
        own[t] = np.append(0, rng.permutation(len(numbers)) + 1)[np.searchsorted(np.append(0, numbers), frame)]
    real = links(masks, own)
    ways = {"overlap alone, as peers": lambda: plain(own)}
    for distance in (0.75, 1.0, 1.25, 1.5):
        ways[f"laptrack, {distance:g} diameters"] = lambda distance=distance: linked(own, distance)
    for way, make in ways.items():
        started = time.perf_counter()
        found = links(make(), own)
        row = {"way": way, "true": len(real), "right": len(real & found), "wrong": len(found - real)}
        row |= {"accuracy": len(real & found) / len(real | found), "seconds": time.perf_counter() - started}
        yield told(row)


def linked(own: np.ndarray, distance: float) -> np.ndarray:
    labels = labels_of(Image.from_array(own, axes="tyx"))
    return np.asarray(link(labels, "t", distance=distance, splits=False).labels.data)


def links(numbers: np.ndarray, own: np.ndarray) -> set[tuple[int, int, int]]:
    """Frame, and an object and its successor by the numbers of their frames, of all that are there in two frames in turn."""
    known = []
    for frame, mine in zip(numbers, own, strict=True):
        there = mine > 0
        known.append(dict(zip(frame[there].tolist(), mine[there].tolist(), strict=True)))
    return {(t, here[n], after[n]) for t, (here, after) in enumerate(pairwise(known)) for n in here.keys() & after.keys()}


def timed(count: int, frames: int = 3) -> dict[str, Any]:
    """Frames of squares of 8 pixels, 12 apart, that move by up to 2 pixels."""
    side = int(np.ceil(count**0.5))
    rng = np.random.default_rng(0)
    labels = np.zeros((frames, side * 12, side * 12), np.int32)
    corner = np.array([(12 * (k // side) + 2, 12 * (k % side) + 2) for k in range(count)])
    for t in range(frames):
        for number, (y, x) in enumerate(corner + rng.integers(-2, 3, corner.shape), 1):
            labels[t, y : y + 8, x : x + 8] = number
    row: dict[str, Any] = {"objects": count, "frames": frames}
    for axes, through in (("zyx", "z"), ("tyx", "t")):
        started = time.perf_counter()
        link(labels_of(Image.from_array(labels, axes=axes)), through)
        row[f"seconds_{through}"] = time.perf_counter() - started
    return told(row | {"memory": 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss})


if __name__ == "__main__":
    main()
