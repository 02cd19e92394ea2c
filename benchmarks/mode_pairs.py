"""Whether anything that a network says tells two objects from one where their votes run together, and what other rules find.

    python benchmarks/mode_pairs.py DATA [DATA ...] --model nuclei [--split train] [--every 6] [--out FILE]

DATA are folders with `images/`, `masks/` and `meta.csv` (columns id, split). Two modes of the density of votes are a pair if
they lie within two bandwidths; each has the pixels that are likeliest of it, six tenths of which are of one true object, or
the pair is left out. Of the pairs, by how deep the valley between the modes is (the least density on the way, over that of the
lower mode): how many are two objects. For those that the clustering takes for one, how well each of these ranks two objects
above one (area under the curve, 0.5 says nothing):

- `valley`: how deep it is; `gap`: distance of the modes in bandwidths; `mass`: area of the lesser in squared bandwidths;
- `seeds`: how much better two Gaussians explain the seeds of the pixels than one does, by mean squares;
- `seed_border`, `foreground_border`: how far these fall where the two touch, relative to their medians;
- `all`: all of them, by logistic regression on the other four fifths of the pairs.

Then AP with other rules than the clustering's on the same images: less of a valley, narrower kernels, votes by the square of
their seeds, and fainter modes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from accuracy import pixels_of
from accuracy_runs import pairs_of
from bench import data_parser, keep, origin
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_shiftseg import SegmentSettings, load_model, match_score, segment
from napari_shiftseg.evaluation import IOUS
from napari_shiftseg.instances import LabelSettings, label_instances, pool_scores, said_by
from napari_shiftseg.instances import seeds as rule
from napari_shiftseg.instances import votes as density
from napari_shiftseg.instances.constants import FAINT, LEAST_PEAK, LEAST_WIDTH, WAY

DEPTHS = (0.0, 0.2, 0.35, 0.5, 0.65, 0.8, 1.1)  # of valleys, over the lower mode
RUN_TOGETHER = 0.95  # valleys up to which two modes are told, since float noise makes two modes of one
FEWEST = 8  # pixels of a mode
OWN = 0.6  # share of a mode's pixels that are of one true object


def output_of(pair: Any, model: Any) -> dict[str, Any]:
    """What a model says of an image, and its truth."""
    result = segment(pixels_of(pair.image()), model, SegmentSettings(device="cpu", keep_embedding=True))
    return {
        "embedding": result.embedding,
        "foreground": result.foreground,
        **said_by(result.outputs),
        "truth": pair.truth(),
        "settings": LabelSettings(**result.record["clustering"]),
    }


# -- pairs of modes ---------------------------------------------------------------------------------------------------


def pairs_in(said: dict[str, Any]) -> Iterator[dict[str, float]]:
    """Each pair of near modes: whether it is two objects, and what is said of it."""
    truth, settings = said["truth"], said["settings"]
    inside = said["foreground"] >= settings.threshold
    places = said["embedding"].astype(float) + np.indices(truth.shape)
    own = np.maximum(said["bandwidths"].astype(float), LEAST_WIDTH)
    amounts, widths = np.where(said["seeds"] >= FAINT, said["seeds"], 0) / own**truth.ndim, own * settings.factor
    votes = density.Votes(places=places[:, inside], amounts=amounts[inside].astype(float), widths=widths[inside])
    if not (votes.amounts > 0).any():
        return
    field = density.density_of(votes.those(votes.amounts > 0), 1.0)
    modes, wide, heights = field.peaks()
    if len(modes) < 2:
        return
    mode = np.full(truth.shape, -1)
    mode[inside] = rule._nearest(votes, modes, wide)
    boxes = ndimage.find_objects(mode + 1, max_label=len(modes))
    for pair in cKDTree(modes).query_pairs(2 * float(wide.max())):
        low, high = sorted(pair, key=lambda one: heights[one])
        gap = float(np.linalg.norm(modes[low] - modes[high]))
        if gap >= 2 * max(wide[low], wide[high]) or boxes[low] is None or boxes[high] is None:
            continue
        window = tuple(
            slice(max(0, min(a.start, b.start) - 2), max(a.stop, b.stop) + 2)
            for a, b in zip(boxes[low], boxes[high], strict=True)
        )
        parts = [mode[window] == one for one in (low, high)]
        owners = [owner_of(truth[window][part]) for part in parts]
        if None in owners:
            continue
        way = modes[low] + WAY[:, None] * (modes[high] - modes[low])
        width = float(np.mean([widths[window][part].mean() for part in parts])) / settings.factor
        middles = [modes[low], modes[high]]
        yield {
            "two": float(owners[0] != owners[1]),
            "valley": float(field.at(way).min() / heights[low]),
            "gap": gap / width,
            "mass": min(int(part.sum()) for part in parts) / width**truth.ndim,
            **of_two(places[(slice(None), *window)], said["seeds"][window], parts, middles=middles, width=width),
            "seed_border": fall(said["seeds"][window], parts),
            "foreground_border": fall(said["foreground"][window], parts),
        }


def owner_of(truth: np.ndarray) -> int | None:
    """The true object of most pixels of a mode; None where they are too few or of several."""
    counts = np.bincount(truth.ravel(), minlength=1)
    owner = int(counts.argmax())
    return owner if owner and truth.size >= FEWEST and counts[owner] >= OWN * truth.size else None


def of_two(
    places: np.ndarray, seeds: np.ndarray, parts: Sequence[np.ndarray], *, middles: Sequence[np.ndarray], width: float
) -> dict[str, float]:
    """How much better two Gaussians explain the seeds than one does."""
    both = parts[0] | parts[1]
    one = np.average(places[:, both], axis=1, weights=seeds[both] + 1e-9)

    def profile(middle: np.ndarray) -> np.ndarray:
        gaps = places - middle.reshape(-1, *[1] * both.ndim)
        return np.asarray(np.exp(-0.5 * (gaps**2).sum(axis=0) / width**2))

    two = np.where(parts[0], profile(middles[0]), profile(middles[1]))
    misses = [((seeds - said)[both] ** 2).mean() for said in (profile(one), two)]
    return {"seeds": float(misses[0] - misses[1])}


def fall(values: np.ndarray, parts: Sequence[np.ndarray]) -> float:
    """How far values fall where two masks touch, 0 where they do not."""
    border = np.zeros(values.shape, bool)
    for own, other in (parts, parts[::-1]):
        border |= own & ndimage.binary_dilation(other)
    inner = (parts[0] | parts[1]) & ~border
    return 1 - float(values[border].mean() / np.median(values[inner])) if border.any() and inner.any() else 0.0


def area_under(ranks: np.ndarray, two: np.ndarray) -> float | None:
    """How often a pair that is two objects ranks above one that is not; equal ones count half."""
    if two.all() or not two.any():
        return None
    gaps = ranks[two][:, None] - ranks[~two][None]
    return float((gaps > 0).mean() + (gaps == 0).mean() / 2)


def by_all(values: np.ndarray, two: np.ndarray, *, folds: int = 5, turns: int = 5) -> float | None:
    """The same by logistic regression on pairs that are not ranked."""
    if min(two.sum(), (~two).sum()) < folds:
        return None
    values = np.column_stack([(values - values.mean(axis=0)) / (values.std(axis=0) + 1e-9), np.ones(len(values))])
    found = []
    for turn in range(turns):
        fold, ranks = np.random.default_rng(turn).integers(0, folds, len(two)), np.zeros(len(two))
        for number in range(folds):
            known, weights = values[fold != number], np.zeros(values.shape[1])
            for _ in range(30):
                chance = 1 / (1 + np.exp(-known @ weights))
                slope = known.T @ (two[fold != number] - chance) - weights
                weights += np.linalg.solve((known.T * (chance * (1 - chance))) @ known + np.eye(len(weights)), slope)
            ranks[fold == number] = values[fold == number] @ weights
        found.append(area_under(ranks, two))
    return float(np.mean(found))


# -- other rules ------------------------------------------------------------------------------------------------------


Changes = Sequence[tuple[Any, str, Any]]
"""Module, name and value of what a rule changes; None as the module for a setting of the clustering."""


def rules_of(known: LabelSettings) -> dict[str, Changes]:
    """What each rule changes, for a model of these settings."""

    def by_squares(votes: density.Votes, edge: float | None) -> Any:
        """The density in which a vote counts by the square of its seed."""
        seeds = votes.amounts * (votes.widths / known.factor) ** len(votes.places)
        return density.density_of(replace(votes, amounts=votes.amounts * seeds), edge)

    def fainter(votes: density.Votes, edge: float | None) -> Any:
        """The density in which a mode needs half of the votes."""
        return density.density_of(replace(votes, amounts=2 * votes.amounts), edge)

    return {
        "as it is": [],
        **{f"valley {depth:g}": [(None, "valley", depth)] for depth in (0.2, 0.35, 0.5, 0.65) if depth != known.valley},
        "kernel 0.2": [(density, "KERNEL", 0.2)],
        "squares of seeds": [(rule, "density_of", by_squares)],
        "squares of seeds, valley 0.45": [(rule, "density_of", by_squares), (None, "valley", 0.45)],
        "half of the votes": [(rule, "density_of", fainter), (rule, "LEAST_MASS", 0.5)],
        "peaks of half the height": [(density, "LEAST_PEAK", LEAST_PEAK / 2)],
    }


def scored(outputs: Sequence[dict[str, Any]], changes: Changes) -> dict[str, Any]:
    """AP of the images with a changed rule."""
    wishes = {name: value for module, name, value in changes if module is None}
    with ExitStack() as stack:
        for module, name, value in changes:
            if module is not None:
                stack.enter_context(patch.object(module, name, value))
        scores = [match_score(labels_of(said, **wishes), said["truth"], IOUS) for said in outputs]
    curve = [pool_scores(at) for at in zip(*scores, strict=True)]
    first, mean = curve[0], float(np.mean([score.ap for score in curve]))
    counts = {"missed": first.fn, "extra": first.fp, "splits": first.splits, "merges": first.merges}
    return {"ap50": round(first.ap, 4), "ap50_95": round(mean, 4), **counts}


def labels_of(said: dict[str, Any], **wishes: Any) -> np.ndarray:
    settings = replace(said["settings"], seeds=True, **wishes)
    return label_instances(
        said["embedding"], said["foreground"], settings=settings, seeds=said["seeds"], bandwidths=said["bandwidths"]
    )


def table(pairs: Sequence[dict[str, float]], least: float) -> dict[str, Any]:
    """Pairs by the depth of their valley, and what ranks those that run together: the clustering parts those below `least`."""
    valley, two = (np.array([pair[name] for pair in pairs]) for name in ("valley", "two"))
    rows = []
    for low, high in pairwise(DEPTHS):
        here = (valley >= low) & (valley < high)
        rows.append({"from": low, "to": high, "pairs": int(here.sum()), "two": int(two[here].sum())})
    asked = [pair for pair in pairs if least < pair["valley"] < RUN_TOGETHER]
    known = np.array([pair["two"] > 0 for pair in asked], bool)
    names = [name for name in (pairs[0] if pairs else {}) if name != "two"]
    values = np.array([[pair[name] for name in names] for pair in asked]).reshape(len(asked), len(names))
    values[:, [name == "valley" for name in names]] *= -1  # a deep one says two
    ranked: dict[str, float | None] = {name: area_under(column, known) for name, column in zip(names, values.T, strict=True)}
    ranked["all"] = by_all(values, known)
    told = {name: None if value is None else round(value, 3) for name, value in ranked.items()}
    return {"rows": rows, "run_together": {"pairs": len(asked), "two": int(known.sum()), "area_under_curve": told}}


def main(labelled: Callable[[Any, Any], dict[str, Any]] = output_of) -> None:
    wishes = data_parser(__doc__).parse_args()
    torch.set_num_threads(1)
    model = load_model(wishes.model)
    chosen = [pair for folder in wishes.data for pair in pairs_of([folder], wishes.split)[:: wishes.every]]
    outputs = [labelled(pair, model) for pair in chosen]
    known_settings = outputs[0]["settings"]
    found = table([pair for said in outputs for pair in pairs_in(said)], known_settings.valley)
    tried = rules_of(known_settings)
    rules = [{"rule": name, **scored(outputs, changes)} for name, changes in tried.items()]
    print(*found["rows"], found["run_together"], *rules, sep="\n")
    known = {"name": model.name, "sha256": model.hash, "valley": known_settings.valley}
    about = {**origin("scipy", "scikit-image"), "model": known, "split": wishes.split, "images": len(chosen)}
    keep(wishes.out, {**about, **found, "rules": rules})


if __name__ == "__main__":
    main()
