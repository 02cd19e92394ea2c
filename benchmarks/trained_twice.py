"""A model that was trained again from its documented command, against the bundled one: weights bit by bit, and accuracy.

    python benchmarks/trainings.py axons-sem --data data --runs runs
    python benchmarks/trained_twice.py data/axon_sem --model axons-sem --again runs/axons-sem.safetensors --out FILE

DATA are folders with `images/`, `masks/` and `meta.csv` (columns id, split). Several files after `--again` are compared each.
AP is pooled over all objects of the split, at an IoU of 0.5 and as the mean over 0.5, 0.55, ..., 0.95.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accuracy import Ours
from accuracy_runs import Pair, pairs_of
from bench import keep, origin, parser, told

from napari_shiftseg import match_score
from napari_shiftseg.evaluation import IOUS
from napari_shiftseg.instances import pool_scores


def weights_of(model: Ours) -> dict[str, torch.Tensor]:
    """Weights and statistics by their names."""
    return {name: value for name, value in model.model.unet.state_dict().items() if value.is_floating_point()}


def difference(one: Ours, other: Ours) -> dict[str, Any]:
    """How many numbers of two models of one form differ, and by how much at most."""
    first, second = weights_of(one), weights_of(other)
    if first.keys() != second.keys():
        raise SystemExit(f"{one.model.name} and {other.model.name} are not of one form; name trainings of one network.")
    both = [(first[name], second[name]) for name in first]
    return {
        "weights": sum(a.numel() for a, _ in both),
        "weights_that_differ": sum(int((a != b).sum()) for a, b in both),
        "largest_difference": max(float((a - b).abs().max()) for a, b in both),
    }


def row_of(name: str, model: Ours, bundled: Ours, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Scores of a model, and how it differs from the bundled one."""
    scores = [match_score(model.usual(pair.image()), pair.truth(), IOUS) for pair in pairs]
    curve = [pool_scores(at).ap for at in zip(*scores, strict=True)]
    record = model.model.record
    made = {"steps": record.steps, "seed": record.seed} if record else {}
    return {"model": name, **made, "ap50": curve[0], "ap50_95": statistics.fmean(curve), **difference(model, bundled)}


def main() -> None:
    made = parser(__doc__)
    made.add_argument("data", nargs="+", type=Path)
    made.add_argument("--model", required=True, help="bundled name")
    made.add_argument("--again", required=True, nargs="+", help="files")
    made.add_argument("--split", default="val")
    wishes = made.parse_args()
    torch.set_num_threads(1)
    pairs, bundled = pairs_of(wishes.data, wishes.split), Ours(wishes.model)
    every = {wishes.model: bundled, **{f"runs/{Path(file).name}": Ours(file) for file in wishes.again}}
    rows = [told(row_of(name, model, bundled, pairs)) for name, model in every.items()]
    keep(wishes.out, {**origin("scipy", "scikit-image"), "rows": rows})


if __name__ == "__main__":
    main()
