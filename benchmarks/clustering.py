"""Clustering and merging against their peers: time, number of modes against the truth, and adjusted Rand index (ARI).

    python benchmarks/clustering.py --cellpose PATH/distributed_segmentation.py --out docs/measurements/clustering.json

It needs scikit-learn and hdbscan, and for the peer of the merging dask-image and cellpose's own file (`pip download cellpose
--no-deps`; `cellpose/contrib/distributed_segmentation.py` in it). All runs on one thread. Times are CPU seconds.

The embeddings are synthetic: the image is cut into Voronoi regions of random sites, 4 px apart or more; each has a code, codes
lie 3.0 or more apart, and noise of 0.35 is added. A pixel within 1.5 px (difference of its distances to the two nearest sites)
of a border mixes the two codes. All methods get the bandwidth 0.75; none is told the number of regions. Ours runs with one
setting throughout, that of `mean_shift` for free codes: dip 0.8, at least 50 pixels.

ARI is that of all pixels and of those that are no mixtures. Ours leaves a pixel without a mode where none is within 3
bandwidths; `ari` takes each such pixel for a cluster of its own, `ari_none_as_one` all of them for one cluster, `ari_nearest`
sends them to the nearest mode, and `ari_labels` is that of `label_instances`, whose undecided pixels are settled by neighbours.

What a network with seeds says is made, too (`seeds`): objects side by side around random sites, one pixel of background between
them; votes scatter around the middle of each by a tenth of its bandwidth, bandwidths by 5 %, a seed is its Gaussian.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from bench import adjusted_rand, in_turns, keep, origin, parser, told
from scipy.spatial import cKDTree

from napari_shiftseg import label_instances, mean_shift
from napari_shiftseg.geometry import BlockGrid
from napari_shiftseg.instances import LabelSettings

BANDWIDTH = 0.75
OURS = {"dip": 0.8, "min_density": 50.0}
PARTS = ("small", "large", "flatness", "merging", "back_ends", "seeds")


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    made.add_argument("--clusters", nargs="+", type=int, default=[100, 400, 1600, 5000], help="of the flatness")
    made.add_argument("--large-edge", type=int, default=2048, help="edge of the 8-dimensional image, px")
    made.add_argument("--cellpose", type=Path, metavar="FILE", help="cellpose's distributed_segmentation.py")
    made.add_argument("--apart", nargs="+", type=int, default=[12, 36], help="distances of the objects with seeds, px")
    made.add_argument("--turns", type=int, default=5, help="of the back ends")
    wishes = made.parse_args()
    with suppress(ImportError):  # it comes with scikit-learn
        from threadpoolctl import threadpool_limits

        threadpool_limits(1)
    torch.set_num_threads(1)
    runs: dict[str, Callable[[], Any]] = {
        "small": small,
        "large": lambda: large(wishes.large_edge),
        "flatness": lambda: flatness(wishes.clusters, wishes.large_edge),
        "merging": lambda: merging(wishes.cellpose),
        "seeds": lambda: [seeds(wishes.large_edge, apart) for apart in wishes.apart],
        "back_ends": lambda: [row for dim in (2, 3, 8) for row in back_ends(dim, wishes.turns)],
    }
    found = {"setting": {"bandwidth": BANDWIDTH, **OURS}, "load_at_start": os.getloadavg()}
    found |= {part: runs[part]() for part in wishes.only}
    keep(wishes.out, {**origin("scipy", "scikit-learn", "hdbscan", "dask-image"), **found})


# -- embeddings -------------------------------------------------------------------------------------------------------


class Made:
    """A synthetic embedding: points (N, E) float32, truth (N,), whether each pixel is pure (N,), and the edge of the image."""

    def __init__(self, edge: int, dim: int, count: int, seed: int = 0) -> None:

        rng = np.random.default_rng(seed)
        side = 3.0 * count ** (1 / dim) * (1.6 if dim <= 3 else 1.0) / 2 + 1.5
        codes, found = np.zeros((count, dim)), 1
        while found < count:
            code = rng.uniform(-side, side, dim)
            if ((codes[:found] - code) ** 2).sum(axis=1).min() > 9:
                codes[found], found = code, found + 1
        sites = rng.uniform(0, edge, (count, 2))
        while len(close := cKDTree(sites).query_pairs(4.0, output_type="ndarray")):
            again = np.unique(close[:, 1])
            sites[again] = rng.uniform(0, edge, (len(again), 2))
        pixels = np.stack(np.mgrid[:edge, :edge], -1).reshape(-1, 2)
        distance, owner = cKDTree(sites).query(pixels, k=2)
        self.edge, self.dim, self.count, self.truth = edge, dim, count, owner[:, 0]
        self.pure = distance[:, 1] - distance[:, 0] >= 1.5
        mixed = np.flatnonzero(~self.pure)
        part = rng.uniform(0, 0.5, len(mixed))[:, None]
        self.points = codes[self.truth].astype(np.float32)
        self.points += rng.normal(0, 0.35 / dim**0.5, self.points.shape).astype(np.float32)
        self.points[mixed] = (1 - part) * codes[owner[mixed, 0]] + part * codes[owner[mixed, 1]]
        self.points[mixed] += rng.normal(0, 0.2 / dim**0.5, (len(mixed), dim))

    def describe(self) -> dict[str, Any]:
        return {"pixels": len(self.points), "dimensions": self.dim, "truth": self.count, "mixed": 1 - float(self.pure.mean())}

    def scores(self, labels: Any, modes: int) -> dict[str, Any]:

        none = labels < 0
        alone = np.where(none, labels.max() + 1 + np.cumsum(none), labels)
        row = {"modes": modes, "ari": adjusted_rand(alone, self.truth)}
        row["ari_pure"] = adjusted_rand(alone[self.pure], self.truth[self.pure])
        if none.any():
            row |= {"none": float(none.mean()), "ari_none_as_one": adjusted_rand(labels, self.truth)}
        return row


def timed(call: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Least CPU seconds, and what the last call returned."""
    best, found = float("inf"), None
    for _ in range(repeats):
        started = time.process_time()
        found = call()
        best = min(best, time.process_time() - started)
    return best, found


# -- clustering -------------------------------------------------------------------------------------------------------


def ours(made: Made, repeats: int = 3, labels: bool = False) -> dict[str, Any]:
    """`mean_shift` with the one setting."""
    seconds, found = timed(lambda: mean_shift(made.points, BANDWIDTH, **OURS), repeats)
    row = {"method": "ours", **made.describe(), "seconds": seconds, **made.scores(found.assignment, len(found.modes))}
    nearest = mean_shift(made.points, BANDWIDTH, radius=np.inf, **OURS).assignment
    row["ari_nearest"] = adjusted_rand(nearest, made.truth)
    if labels:
        image = np.moveaxis(made.points.reshape(made.edge, made.edge, made.dim), -1, 0)
        everywhere, settings = np.ones(image.shape[1:], bool), LabelSettings(bandwidth=BANDWIDTH, **OURS)
        row["seconds_labels"], final = timed(lambda: label_instances(image, everywhere, settings=settings), repeats)
        row |= {"objects": int(final.max()), "ari_labels": adjusted_rand(final.ravel(), made.truth)}
    return told(row)


def hdbscan_of_sample(made: Made) -> tuple[Any, int]:
    """HDBSCAN on 20,000 pixels, then each pixel to the nearest mean."""
    import hdbscan

    sample = made.points[np.random.default_rng(1).integers(0, len(made.points), 20_000)].astype(np.float64)
    labels = hdbscan.HDBSCAN(min_cluster_size=15, core_dist_n_jobs=1).fit_predict(sample)
    means = np.stack([sample[labels == k].mean(axis=0) for k in range(labels.max() + 1)])
    return cKDTree(means).query(made.points)[1], len(means)


def tree_mean_shift_of_sample(made: Made) -> tuple[Any, int]:
    """Mean shift with a flat kernel by k-d tree on 20,000 pixels, 3,000 of them seeds, then each pixel to the nearest mode."""
    sample = made.points[np.random.default_rng(1).integers(0, len(made.points), 20_000)].astype(np.float64)
    tree, modes = cKDTree(sample), sample[:3000].copy()
    weights, moving = np.zeros(len(modes)), np.arange(len(modes))
    for _ in range(60):
        near = tree.query_ball_point(modes[moving], BANDWIDTH)
        weights[moving] = [len(some) for some in near]
        means = np.stack([sample[some].mean(axis=0) for some in near])
        moved = np.linalg.norm(means - modes[moving], axis=1)
        modes[moving] = means
        moving = moving[moved > 1e-3 * BANDWIDTH]
        if len(moving) == 0:
            break
    order = np.argsort(-weights, kind="stable")
    modes = modes[order[weights[order] >= 3]]
    kept = np.ones(len(modes), bool)
    for index, near in enumerate(cKDTree(modes).query_ball_point(modes, BANDWIDTH)):
        if kept[index]:
            kept[near] = False
            kept[index] = True
    return cKDTree(modes[kept]).query(made.points)[1], int(kept.sum())


def sklearn_mean_shift(points: Any, everything: Any) -> tuple[Any, int]:
    """scikit-learn's, with the fewer seeds of its binning."""
    from sklearn.cluster import MeanShift

    found = MeanShift(bandwidth=BANDWIDTH, bin_seeding=True).fit(points)
    labels = found.labels_ if points is everything else found.predict(everything)
    return labels, len(found.cluster_centers_)


def sklearn_extrapolated(made: Made, tried: int = 60) -> dict[str, Any]:
    """Seconds that scikit-learn's fit would take: binning and tree in full, some random seeds of all of them."""
    from sklearn.cluster import get_bin_seeds
    from sklearn.cluster._mean_shift import _mean_shift_single_seed
    from sklearn.neighbors import NearestNeighbors

    binning, seeds = timed(lambda: get_bin_seeds(made.points, BANDWIDTH))
    planting, tree = timed(lambda: NearestNeighbors(radius=BANDWIDTH, n_jobs=1).fit(made.points))
    chosen = np.random.default_rng(0).integers(0, len(seeds), tried)
    climbing, _ = timed(lambda: [_mean_shift_single_seed(seeds[k], made.points, tree, 300) for k in chosen])
    total = binning + planting + climbing / tried * len(seeds)
    what = f"binning and tree in full, {tried} of {len(seeds)} seeds; no assignment"
    return {"method": "scikit-learn MeanShift(bin_seeding=True), extrapolated", "seconds": total, "extrapolation": what}


def small() -> list[dict[str, Any]]:
    """512 x 512 x 3, 100 clusters, scikit-learn in full."""
    made = Made(512, 3, 100)
    rows = [ours(made, labels=True)]
    for name, call in (
        ("scikit-learn MeanShift(bin_seeding=True)", lambda: sklearn_mean_shift(made.points, made.points)),
        ("HDBSCAN on 20,000, nearest mean", lambda: hdbscan_of_sample(made)),
        ("k-d tree mean shift on 20,000, nearest mode", lambda: tree_mean_shift_of_sample(made)),
    ):
        rows.append(_peer(name, made, call, rows[0]))
    rows.append(told({**sklearn_extrapolated(made), **made.describe()}))
    return rows


def large(edge: int) -> list[dict[str, Any]]:
    """2048 x 2048 x 8, 400 clusters, scikit-learn extrapolated, and as it is on 1 % of the pixels."""
    made = Made(edge, 8, 400)
    rows = [ours(made)]
    row = {**sklearn_extrapolated(made), **made.describe()}
    rows.append(told(row | {"times_ours": row["seconds"] / rows[0]["seconds"]}))
    part = made.points[np.random.default_rng(1).random(len(made.points)) < 0.01]
    for name, call in (
        ("scikit-learn MeanShift(bin_seeding=True) on 1 %, predict", lambda: sklearn_mean_shift(part, made.points)),
        ("HDBSCAN on 20,000, nearest mean", lambda: hdbscan_of_sample(made)),
        ("k-d tree mean shift on 20,000, nearest mode", lambda: tree_mean_shift_of_sample(made)),
    ):
        rows.append(_peer(name, made, call, rows[0]))
    return rows


def _peer(name: str, made: Made, call: Callable[[], tuple[Any, int]], own: dict[str, Any]) -> dict[str, Any]:
    seconds, (labels, modes) = timed(call)
    row = {"method": name, **made.describe(), "seconds": seconds, **made.scores(labels, modes)}
    return told(row | {"times_ours": seconds / own["seconds"]})


def flatness(clusters: list[int], edge: int) -> list[dict[str, Any]]:
    """The same number of pixels, more and more clusters; with them grow the border and its mixtures."""
    rows = []
    for count in clusters:
        rows.append(ours(Made(edge, 8, count), repeats=2, labels=True))
        rows[-1]["times_first"] = rows[-1]["seconds"] / rows[0]["seconds"]
        rows[-1]["labels_times_first"] = rows[-1]["seconds_labels"] / rows[0]["seconds_labels"]
    return rows


# -- seeds ------------------------------------------------------------------------------------------------------------


def seeds(edge: int, apart: float) -> dict[str, Any]:
    """Labels of objects so far apart, by what a network with seeds says."""
    rng, count = np.random.default_rng(0), int(edge / apart)
    sites = (np.stack(np.mgrid[:count, :count], -1).reshape(-1, 2) + rng.uniform(0.1, 0.9, (count * count, 2))) * apart
    pixels = np.stack(np.mgrid[:edge, :edge], -1).reshape(-1, 2)
    distance, owner = cKDTree(sites).query(pixels, k=2)
    inside = (distance[:, 1] - distance[:, 0] >= 1) & (distance[:, 0] < apart)
    areas = np.bincount(owner[inside, 0], minlength=len(sites))
    middles = np.stack([np.bincount(owner[inside, 0], column[inside], len(sites)) for column in pixels.T], 1)
    width = np.maximum(1.0, 0.5 * (areas / np.pi) ** 0.5)[owner[:, 0]]
    error = rng.normal(0, 0.1 / 2**0.5, pixels.shape) * width[:, None]
    offsets = (middles / np.maximum(areas, 1)[:, None])[owner[:, 0]] + error - pixels
    said = {
        "seeds": np.exp(-0.5 * (error**2).sum(axis=1) / width**2),
        "bandwidths": width * np.exp(rng.normal(0, 0.05, len(width))),
    }
    said = {name: values.reshape(edge, edge).astype(np.float32) for name, values in said.items()}
    embedding = np.moveaxis(offsets.reshape(edge, edge, 2), -1, 0).astype(np.float32)
    mask, truth = inside.reshape(edge, edge), np.where(inside, owner[:, 0] + 1, 0)
    seconds, labels = timed(lambda: label_instances(embedding, mask, **said, coordinates=True, min_size=4), 3)
    row = {"method": "ours, with seeds", "pixels": edge * edge, "apart": apart, "foreground": float(inside.mean())}
    row |= {"truth": len(np.unique(truth)) - 1, "objects": int(labels.max()), "seconds_labels": seconds}
    return told({**row, "ari_labels": adjusted_rand(labels.ravel()[inside], truth[inside])})


# -- back ends --------------------------------------------------------------------------------------------------------


def back_ends(dim: int, turns: int) -> list[dict[str, Any]]:
    """Ways to find neighbours and sums, each made to serve alone: CPU seconds of `mean_shift` over those of all together."""
    shift = import_module("napari_shiftseg.instances.mean_shift")
    density, neighbours = (import_module(f"napari_shiftseg.instances.{name}") for name in ("density", "neighbours"))
    few, never, always = (density.Kernels, "_few"), 0, 1 << 60
    ways: dict[str, list[tuple[tuple[Any, str], Any]]] = {
        "all, as it runs": [],
        "without the grid": [((shift, "grid_of"), lambda cells: None)],
        "without trees": [
            (few, lambda self, at: False),
            *(((module, "TREE_DIMENSIONS"), never) for module in (density, neighbours)),
            ((density, "MANY_KERNELS"), always),
            ((neighbours, "FEW_MODES"), always),
        ],
        "without matrix products": [
            (few, lambda self, at: True),
            *(((module, "TREE_DIMENSIONS"), always) for module in (density, neighbours)),
        ],
    }
    made = Made(512, dim, 400)

    def run(way: str) -> Any:
        with ExitStack() as held:
            for (owner, name), value in ways[way]:
                held.enter_context(patch.object(owner, name, value))
            return mean_shift(made.points, BANDWIDTH, **OURS).assignment

    found = {way: run(way) for way in ways}  # warms up
    seconds = in_turns({way: partial(run, way) for way in ways}, turns, time.process_time)
    rows = []
    for way in ways:
        ratios = sorted(a / b for a, b in zip(seconds[way], seconds["all, as it runs"], strict=True))
        differing = int((found[way] != found["all, as it runs"]).sum())
        row = {"way": way, **made.describe(), "seconds": median(seconds[way]), "differing": differing}
        rows.append(told(row | {"median": median(ratios), "lowest": ratios[0], "highest": ratios[-1]}))
    return rows


# -- merging ----------------------------------------------------------------------------------------------------------


def merging(source: Path | None) -> list[dict[str, Any]]:
    """20,000 Voronoi cells of a volume in blocks, each block segmented perfectly: our join against cellpose's rule.

    The modes of a cell in two blocks are its code and noise of 0.01 each: what a consistent embedding gives.
    """
    shape, edge = (128, 512, 512), (32, 64, 64)
    rng = np.random.default_rng(0)
    sites = rng.uniform(0, 1, (20_000, 3)) * shape
    distance, owner = cKDTree(sites).query(np.stack(np.mgrid[tuple(map(slice, shape))], -1).reshape(-1, 3), k=2)
    truth = np.where(distance[:, 1] - distance[:, 0] < 2, 0, owner[:, 0] + 1).reshape(shape)
    codes = rng.uniform(-30, 30, (len(sites) + 1, 8))
    grid = BlockGrid(shape=shape, edge=edge, halo=0)
    there = {"cells": len(np.unique(truth)) - 1, "blocks": len(grid)}
    rows = [told({"method": "ours, join_blocks", **there, **_joined(truth, codes, grid, rng)})]
    if source is not None:
        row = {"method": "cellpose, its own functions", **there, **_cellpose(truth, grid, source)}
        rows.append(told(row | {"times_ours": row["seconds"] / rows[0]["seconds"]}))
    return rows


def _joined(truth: Any, codes: Any, grid: Any, rng: Any) -> dict[str, Any]:

    from napari_shiftseg.instances.join import faces_of, join_blocks
    from napari_shiftseg.instances.pieces import Pieces, fragments_of

    settings = LabelSettings(bandwidth=BANDWIDTH, min_size=1)
    faces, pieces = [], []
    for block in grid:
        ids, pixels = np.unique(truth[block.core], return_inverse=True)
        ids, pixels = (ids[1:], pixels) if ids[0] == 0 else (ids, pixels + 1)
        modes = np.concatenate([np.zeros((1, codes.shape[1])), codes[ids] + rng.normal(0, 0.01, (len(ids), codes.shape[1]))])
        found = Pieces(pixels=pixels.reshape(block.shape), modes=modes, fragment=np.arange(len(modes)) - 1)
        corner = [part.start for part in block.core]
        fragments = fragments_of(found, found.pixels > 0, settings, corner=corner, image_shape=grid.shape)
        pieces.append(found)
        faces.append(faces_of(found, fragments))
    seconds, numbers = timed(lambda: join_blocks(grid, faces.__getitem__, settings), 3)
    labels = np.zeros(grid.shape, np.int64)
    for block, found in zip(grid, pieces, strict=True):
        labels[block.core] = np.concatenate([[0], numbers.of(block)])[found.fragment[found.pixels] + 1]
    return {"seconds": seconds, **_counts(truth, labels)}


def _cellpose(truth: Any, grid: Any, source: Path) -> dict[str, Any]:
    import ast

    import dask_image.ndmeasure
    import dask_image.ndmeasure._utils._label
    import scipy.ndimage
    import scipy.sparse

    wanted = {"determine_merge_relabeling", "adjacent_faces", "block_face_adjacency_graph", "shrink_labels", "block_faces"}
    wanted |= {"merge_all_boxes", "merge_boxes", "global_segment_ids", "bounding_boxes_in_global_coordinates"}
    parsed = ast.parse(source.read_text(encoding="utf-8")).body
    tree = ast.Module([node for node in parsed if isinstance(node, ast.FunctionDef) and node.name in wanted], [])
    peer: dict[str, Any] = {"np": np, "scipy": scipy, "dask_image": dask_image}
    exec(compile(tree, str(source), "exec"), peer)
    labels = np.zeros(grid.shape, np.uint32)
    faces, boxes, used, places = [], [], [], []
    for block in grid:
        ids, local = np.unique(truth[block.core], return_inverse=True)
        local = (np.arange(len(ids)) + (ids[0] != 0))[local].reshape(block.shape).astype(np.uint32)
        boxes += peer["bounding_boxes_in_global_coordinates"](local, block.core)
        placed, remap = peer["global_segment_ids"](local, block.index, grid.counts)
        labels[block.core] = placed
        faces.append(peer["block_faces"](placed))
        used.append(np.asarray(remap)[np.asarray(remap) > 0])
        places.append(block.index)
    ids = np.concatenate(used).astype(int)

    def merge() -> Any:
        numbers = peer["determine_merge_relabeling"](places, faces, ids)
        peer["merge_all_boxes"](boxes, numbers[ids])
        return numbers

    seconds, numbers = timed(merge)
    return {"seconds": seconds, **_counts(truth, numbers[labels])}


def _counts(truth: Any, labels: Any) -> dict[str, Any]:

    inside = truth > 0
    return {"objects": len(np.unique(labels[inside])), "ari": adjusted_rand(labels[inside], truth[inside])}


if __name__ == "__main__":
    main()
