"""What the experiments measure: how many codes a network gives, and what its tiles do at their seams."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from math import lcm, prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from napari_shiftseg.analysis import effective_period, seam_report, verify_tiling
from napari_shiftseg.analysis.compare import changed_pixels
from napari_shiftseg.analysis.probe import count_codes
from napari_shiftseg.geometry import TilePlan, UNetSpec, naive_plan, plan_tiles
from napari_shiftseg.instances import label_instances, match_score, mean_shift
from napari_shiftseg.io import load_model, read_image
from napari_shiftseg.network import Model, UNet, predict, training_of
from napari_shiftseg.paper.constants import BANDWIDTH, EQUAL, GAP, MARGIN, SIZES, UNTRAINED_STARTS
from napari_shiftseg.paper.experiment import Measured, Setup, Training
from napari_shiftseg.segmentation import SegmentSettings, segment
from napari_shiftseg.synthetic import DiskRecipe, Synthetic, capacity, make

Array = npt.NDArray[Any]


def ramp_codes(network: UNet, setup: Setup, seed: int) -> Measured:
    """Distinct outputs at one place of the image while the image moves under the network (Lemma 1)."""
    period = setup.spec.period
    image, net = make(setup.test_recipe(seed)).image, _double(network)
    size = tuple(edge - p + 1 for edge, p in zip(image.shape, period, strict=True))
    values = []
    for shift in np.ndindex(*period):
        window = tuple(slice(s, s + n) for s, n in zip(shift, size, strict=True))
        place = tuple(p - 1 - s for p, s in zip(period, shift, strict=True))
        values.append(_one_pass(net, image[window])[(slice(None), *place)])
    return {"codes": _exact_codes(np.array(values)), "wanted": prod(period), "shifts": len(values)}


def constant_codes(network: UNet, setup: Setup, seed: int) -> Measured:
    """Distinct outputs on a constant image, of the trained network by their gap, else exactly."""
    out = _one_pass(_double(network), make(setup.test_recipe(seed)).image)
    points = out.reshape(len(out), -1).T
    gap = GAP if not isinstance(setup.weights, str) else None
    found: Measured = {
        "codes": _exact_codes(points) if gap is None else count_codes(points, gap),
        "exact": _exact_codes(points),
        "pixels": len(points),
        "wanted": prod(setup.spec.period),
    }
    period = setup.spec.period
    repeats = [out - np.roll(out, p, axis) for axis, p in enumerate(period, start=1)]
    inner = (slice(None), *(slice(p, None) for p in period))
    found["period_error"] = float(max(np.abs(r[inner]).max() for r in repeats) / _scale(out))
    return found


def padded_codes(network: UNet, setup: Setup, seed: int) -> Measured:
    """Distinct outputs of a zero-padded network on a constant image; the best of several random starts."""
    image = make(setup.test_recipe(seed)).image
    counts = []
    for start in range(UNTRAINED_STARTS):
        torch.manual_seed(UNTRAINED_STARTS * seed + start)
        out = _one_pass(_double(UNet(network.spec)), image)
        counts.append(_exact_codes(out.reshape(len(out), -1).T))
    reach = min(network.spec.reach)
    return {"codes": max(counts), "counts": counts, "pixels": image.size, "edge": image.shape[0], "reach": reach}


def places(network: UNet, setup: Setup, seed: int) -> Measured:
    """Codes of a trained zero-padded network on constant images, from the largest all of whose pixels see a border on.

    Along an axis each place that sees a border is one of its own, and all others are one more, or one per output function
    where the upsampling is learnt. The images are a period apart.
    """
    spec, period = setup.spec, setup.spec.period[0]
    inside = 1 if spec.upsampling == "fixed" else period
    seeing = {edge: _see_a_border(spec, edge) for edge in range(period, 3 * spec.reach[0], period)}
    last = max(edge for edge, count in seeing.items() if count == edge)
    edges = [last + period * step for step in (-1, 0, 1, 2)]
    outs = [_one_pass(_double(network), np.ones((edge,) * spec.ndim, np.float32)) for edge in edges]
    points = [out.reshape(len(out), -1).T for out in outs]
    return {
        "edges": edges,
        "wanted": [(seeing[edge] + min(inside, edge - seeing[edge])) ** spec.ndim for edge in edges],
        "codes": [count_codes(part, GAP) for part in points],
        "clusters": [len(mean_shift(part, BANDWIDTH, seeds=part).modes) for part in points],
    }


def disk_codes(network: UNet, setup: Setup, seed: int) -> Measured:
    """Codes of the disks that lie inside the output of one pass."""
    drawn = make(setup.test_recipe(seed))
    out, labels = _one_pass(_double(network), drawn.image), _inner_labels(drawn, setup)
    means, spread = _means(out, labels)
    assert isinstance(drawn.recipe, DiskRecipe)
    return {
        "codes": count_codes(means, GAP),
        "disks": len(means),
        "capacity": capacity(drawn.recipe.spacing, setup.spec.period),
        "spread": round(float(spread.mean()), 3),
        **clusters(out, labels),
    }


def noisy_disk_codes(network: UNet, setup: Setup, seed: int) -> Measured:
    """As `disk_codes`, on the image with its noise or deformation and on the perfect lattice.

    `apart` is the share of disks whose code no other disk within a training window has.
    """
    out = disk_codes(network, setup, seed)
    drawn = make(setup.test_recipe(seed))
    assert isinstance(drawn.recipe, DiskRecipe)
    labels = _inner_labels(drawn, setup)
    means, _ = _means(_one_pass(_double(network), drawn.image), labels)
    # instances are pushed apart if they meet in a training window; those farther away may share a code
    assert isinstance(setup.weights, Training)
    centres = np.array(ndimage.center_of_mass(labels > 0, labels, np.unique(labels[labels > 0])))
    met = np.abs(centres[:, None] - centres[None]).max(axis=-1) < setup.weights.window
    same = np.linalg.norm(means[:, None] - means[None], axis=-1) <= GAP
    out["apart"] = round(float(((same & met).sum(axis=1) == 1).mean()), 3)
    perfect = make(replace(drawn.recipe, noise=0.0, elastic=0.0))
    means, _ = _means(_one_pass(_double(network), perfect.image), _inner_labels(perfect, setup))
    out["perfect_codes"] = count_codes(means, GAP)
    return out


def sliding_codes(network: UNet, setup: Setup, seed: int) -> Measured:
    """Codes of disks by tiles of one pixel, all by one output function, and of the same disks in one pass."""
    drawn = make(setup.test_recipe(seed))
    plan = plan_tiles(setup.spec, drawn.image.shape, setup.write, "valid", allow_noncompliant=True)
    slid, _ = _means(predict(network, drawn.image, plan, device="cpu"), _whole_objects(drawn, plan.origin, plan.result_shape))
    whole, _ = _means(_one_pass(_double(network), drawn.image), _inner_labels(drawn, setup))
    return {"codes": count_codes(slid, GAP), "whole": count_codes(whole, GAP), "disks": len(slid), "tiles": len(plan)}


def stitching(network: UNet, setup: Setup, seed: int) -> Measured:
    """Largest difference between tiles and one pass, relative to the largest output, off and on the lattice."""
    image = make(setup.test_recipe(seed)).image
    off, on = (verify_tiling(network, image, plan, device="cpu") for plan in _plans(setup, image.shape))
    return {
        "off_lattice": off.max_difference,
        "on_lattice": on.max_difference,
        "tolerance": on.tolerance,
        "differing": off.differing,
        "tiles": off.compared,
    }


def tile_sizes(network: UNet, setup: Setup, seed: int) -> Measured:
    """Splits, AP and changed pixels of the nuclei sample, by tiles on and off the lattice; the seed changes nothing."""
    image, truth = _sample("nuclei.tif"), _sample("nuclei_truth.tif").astype(np.int32)
    model, period = load_model("nuclei"), setup.spec.period[0]
    whole = _labels_by_tiles(model, image, max(image.shape))
    sizes = range(7 * period, 9 * period + 1, 2)
    rows = []
    for size in sizes:
        labels = _labels_by_tiles(model, image, size)
        score = match_score(labels, truth)
        changed = int(np.count_nonzero(changed_pixels(whole, labels)))
        rows.append({"size": size, "changed": changed, "splits": score.splits, "ap": round(score.ap, 4)})
    return {
        "period": period,
        "changed_on": [row["changed"] for row in rows if row["size"] % period == 0],
        "changed_off": [row["changed"] for row in rows if row["size"] % period],
        "curve": rows,
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Stitched:
    """What a network makes of the image of a setup, and the parts of image and truth that belong to it."""

    image: Array
    truth: Array
    embedding: npt.NDArray[np.float32]
    plan: TilePlan


def stitch(network: UNet, setup: Setup, seed: int) -> Stitched:
    """The image of a setup by tiles of `setup.write` pixels, or in one pass where it is None."""
    drawn = make(setup.test_recipe(seed))
    write = max(drawn.image.shape) if setup.write is None else setup.write
    trained = training_of(setup.weights.settings(setup.spec, seed, None)) if isinstance(setup.weights, Training) else None
    plan = plan_tiles(setup.spec, drawn.image.shape, write, "valid", allow_noncompliant=True, trained=trained)
    if setup.spec.padding == "zero" and setup.write is not None and plan.zeros != "tile":
        plan = naive_plan(plan)  # the seams of such tiles as it was trained on, which no rule allows
    window = tuple(slice(o, o + n) for o, n in zip(plan.origin, plan.result_shape, strict=True))
    embedding = predict(network, drawn.image, plan, device="cpu")
    return Stitched(image=drawn.image[window], truth=drawn.labels[window], embedding=embedding, plan=plan)


def seam_jumps(network: UNet, setup: Setup, seed: int) -> Measured:
    """What the seams of tiles of `setup.write` pixels do to embeddings and to the disks that they cross."""
    made = stitch(network, setup, seed)
    report = seam_report(made.embedding, made.plan, truth=made.truth)
    crossing, split = _halves(made.embedding, made.truth, made.plan.seams())
    return {
        "ratio": round(report.ratio, 3),
        "margin": round(jumps_inside(made.embedding, made.truth, made.plan.seams())[0] / MARGIN, 4),
        "interval": [round(value, 3) for value in report.interval],
        "exposed": report.exposed,
        "crossing": crossing,
        "split": split,
        "share": round(split / max(1, crossing), 3),
        **instances(made.embedding, made.truth, made.plan.seams()),
    }


def seam_sizes(network: UNet, setup: Setup, seed: int) -> Measured:
    """`seam_jumps` of tiles of several edges, beside what the effective period says of each of them."""
    felt = effective_period(network, make(setup.test_recipe(seed)).image)
    found = [seam_jumps(network, replace(setup, write=size), seed) for size in SIZES]
    return {
        "effective": lcm(*felt.period),  # a tile has one edge for all axes
        "sizes": list(SIZES),
        "felt": [round(max(felt.felt(size, axis) for axis in range(setup.spec.ndim)), 4) for size in SIZES],
        **{name: [row[name] for row in found] for name in ("ratio", "margin", "share", "exposed", "crossing", "cut", "missed")},
    }


def grid_jumps(network: UNet, setup: Setup, seed: int) -> Measured:
    """Jumps inside the disks of one pass: across boundaries of bottleneck cells over those across all other lines."""
    made = stitch(network, setup, seed)
    plan, embedding, truth = made.plan, made.embedding, made.truth
    crossing, split = _halves(embedding, truth, plan.grid())
    other = tuple(tuple(p + period // 2 for p in grid) for grid, period in zip(plan.grid(), setup.spec.period, strict=True))
    crossing_other, split_other = _halves(embedding, truth, other)
    at, elsewhere = jumps_inside(embedding, truth, plan.grid())
    return {
        "ratio": round(at / elsewhere, 3) if elsewhere else 0.0,
        "at_grid": round(at, 4),
        "elsewhere": round(elsewhere, 4),
        "share": round(split / max(1, crossing), 3),
        "share_elsewhere": round(split_other / max(1, crossing_other), 3),
        **instances(embedding, truth, plan.grid()),
    }


def jumps_inside(embedding: Array, truth: Array, lines: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Mean distance of neighbouring pixels within objects, across `lines` and across all other lines; embedding units."""
    sums = {True: [0.0, 0], False: [0.0, 0]}
    for axis, positions in enumerate(lines):
        inside = np.diff(truth, axis=axis) == 0
        inside &= np.take(truth, range(truth.shape[axis] - 1), axis) > 0
        jump = np.linalg.norm(np.diff(embedding, axis=axis + 1), axis=0)
        for line in range(truth.shape[axis] - 1):
            part = np.take(jump, line, axis)[np.take(inside, line, axis)]
            total = sums[line + 1 in positions]
            total[0] += float(part.sum())
            total[1] += len(part)
    at, elsewhere = (sums[key][0] / max(1, sums[key][1]) for key in (True, False))
    return at, elsewhere


def instances(embedding: Array, truth: Array, lines: Sequence[Sequence[int]]) -> Measured:
    """Objects that mean shift finds, the background as one of them, against the true ones that no border cuts.

    `missed`: true objects that nothing matches; `merged`: found ones that hold more than half of two true ones or more; `cut`:
    true ones on `lines` that fall into two found ones or more, of `across` that lie on them.
    """
    found = label_instances(embedding.astype(np.float32), None, BANDWIDTH, dip=1.0, min_size=4)
    found[found == np.bincount(found[truth == 0], minlength=1).argmax()] = 0  # that which holds most of the background
    at_border = np.unique(
        np.concatenate([np.take(truth, edge, axis).ravel() for axis in range(truth.ndim) for edge in (0, -1)])
    )
    whole = np.where(np.isin(truth, at_border), 0, truth)
    found = np.where(np.isin(truth, at_border[at_border > 0]), 0, found)
    seams = [[line for line in axis if 0 < line < size] for axis, size in zip(lines, truth.shape, strict=True)]
    score = match_score(found, whole, seams=seams)
    assert score.at_seams is not None
    return {
        "objects": score.tp + score.fn,
        "missed": score.fn,
        "merged": score.merges,
        "across": score.at_seams.tp + score.at_seams.fn,
        "cut": score.at_seams.splits,
    }


def clusters(embedding: Array, labels: Array) -> Measured:
    """Modes of mean shift that hold most pixels of an object of (*shape) `labels`, and objects of which none does."""
    inside = labels > 0
    assignment = mean_shift(embedding[:, inside].T, BANDWIDTH, seeds=1000).assignment
    held = [np.unique(assignment[labels[inside] == name], return_counts=True) for name in np.unique(labels[inside])]
    most = [
        values[counts.argmax()] for values, counts in held if values[counts.argmax()] >= 0 and 2 * counts.max() > counts.sum()
    ]
    return {"clusters": len(set(most)), "loose": len(held) - len(most)}


# -- parts ------------------------------------------------------------------------------------------------------------


def _plans(setup: Setup, shape: tuple[int, ...]) -> tuple[TilePlan, TilePlan]:
    """Tiles of the wished edge, and of the largest multiple of the period below it."""
    assert setup.write is not None
    on = tuple(setup.write // period * period for period in setup.spec.period)
    return (
        plan_tiles(setup.spec, shape, setup.write, "valid", allow_noncompliant=True),
        plan_tiles(setup.spec, shape, on, "valid"),
    )


def _double(network: UNet) -> UNet:
    return copy.deepcopy(network).double().eval()


def _one_pass(network: UNet, image: Array) -> Array:
    """(E, *out) float64 of an image of a size that the network takes."""
    with torch.inference_mode():
        out: Array = network(torch.from_numpy(image.astype(np.float64))[None, None])[0].numpy()
    return out


def _see_a_border(spec: UNetSpec, edge: int) -> int:
    return sum(lo < 0 or hi >= edge for lo, hi in (spec.sees(0, place) for place in range(edge)))


def _scale(values: Array) -> float:
    return float(np.abs(values).max()) or 1.0


def _exact_codes(points: Array) -> int:
    """Distinct rows beyond rounding."""
    return count_codes(points / _scale(points), EQUAL)


def _inner_labels(drawn: Synthetic, setup: Setup) -> Array:
    """Labels of the output of one pass, without the disks that its border cuts."""
    out = setup.spec.output_size(drawn.image.shape)
    return _whole_objects(drawn, [(have - want) // 2 for have, want in zip(drawn.image.shape, out, strict=True)], out)


def _whole_objects(drawn: Synthetic, starts: Sequence[int], shape: Sequence[int]) -> Array:
    """Labels of a window, without the disks that its border cuts."""
    inner = drawn.labels[tuple(slice(s, s + n) for s, n in zip(starts, shape, strict=True))]
    cut = np.bincount(inner.ravel(), minlength=drawn.labels.max() + 1) != np.bincount(drawn.labels.ravel())
    return np.where(cut[inner], 0, inner)


def _means(embedding: Array, labels: Array) -> tuple[Array, Array]:
    """Mean embedding (K, E) of each object and the mean distance of its pixels from it (K,)."""
    ids = np.unique(labels[labels > 0])
    means = np.stack([ndimage.mean(channel, labels, ids) for channel in embedding], axis=1)
    lookup = np.zeros((int(ids.max()) + 1, len(embedding)))
    lookup[ids] = means
    away = np.linalg.norm(embedding - np.moveaxis(lookup[labels], -1, 0), axis=0)
    return means, np.asarray(ndimage.mean(away, labels, ids))


def _halves(embedding: Array, truth: Array, lines: tuple[tuple[int, ...], ...]) -> tuple[int, int]:
    """Disks with two rows or more on both sides of a line, and those whose halves get different codes."""
    crossing = split = 0
    for axis, positions in enumerate(lines):
        for line in positions:
            sides = [np.take(truth, range(*edges), axis) for edges in ((max(0, line - 4), line), (line, line + 4))
                     if edges[1] <= truth.shape[axis] and edges[1] - edges[0] == 4]  # fmt: skip
            if len(sides) < 2:
                continue
            below = np.take(embedding, range(line - 4, line), axis + 1)
            above = np.take(embedding, range(line, line + 4), axis + 1)
            rows = [{i for i in np.unique(side) if i > 0 and np.ptp(np.nonzero(side == i)[axis]) >= 1} for side in sides]
            for name in rows[0] & rows[1]:
                halves = [part[:, side == name].mean(axis=1) for part, side in ((below, sides[0]), (above, sides[1]))]
                crossing += 1
                split += int(np.linalg.norm(halves[0] - halves[1]) > 3 * GAP)
    return crossing, split


def _labels_by_tiles(model: Model, image: npt.NDArray[np.uint8], write: int) -> npt.NDArray[np.uint32]:
    settings = SegmentSettings(write=write, device="cpu", allow_noncompliant=True)
    return np.asarray(segment(image, model, settings=settings).labels)


def _sample(name: str) -> npt.NDArray[np.uint8]:
    with as_file(files("napari_shiftseg") / "samples" / name) as path:
        return np.asarray(read_image(path).data[...])
