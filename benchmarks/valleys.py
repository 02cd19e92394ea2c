"""How accurate a model is with each valley at which its clustering parts two objects, and how sure that is.

    python benchmarks/valleys.py DATA [DATA ...] --model nuclei [--split train] [--every 4] [--valleys 0.35 0.5] [--out FILE]

DATA are folders with `images/`, `masks/` and `meta.csv` (columns id, split). All other settings are those of the model. Per
valley, by default those that `shiftseg evaluate --calibrate` tries: AP over all objects at an IoU of 0.5 and its mean over 0.5,
0.55, ..., 0.95, missed, extra, merged and split objects; what it gains over the usual valley, and the standard error of that
gain, by leaving out each image in turn (jackknife). A bundled model has the best valley on its training images where that gains
no less than its standard error, and 0.001 or more; else the usual one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accuracy_runs import pairs_of
from bench import data_parser, keep, origin
from mode_pairs import labels_of, output_of

from napari_shiftseg import load_model, match_score
from napari_shiftseg.evaluation import IOUS, VALLEYS
from napari_shiftseg.instances import MatchScore, pool_scores
from napari_shiftseg.instances.constants import VALLEY

Scores = tuple[MatchScore, ...]
"""Of an image, per IoU."""


def scores_of(said: dict[str, Any], valleys: Sequence[float] = VALLEYS) -> dict[float, Scores]:
    """Of an image, per valley."""
    found = {}
    for valley in sorted({VALLEY, *valleys}):
        found[valley] = match_score(labels_of(said, valley=valley), said["truth"], IOUS)
    return found


def rows_of(images: Sequence[dict[float, Scores]]) -> list[dict[str, Any]]:
    """A row per valley."""
    rows = []
    for valley in images[0]:
        curve = [pool_scores(at) for at in zip(*(scores[valley] for scores in images), strict=True)]
        first = curve[0]
        rows.append(
            {
                "valley": valley,
                "ap50": round(first.ap, 4),
                "ap50_95": round(float(np.mean([score.ap for score in curve])), 4),
                "gain": round(gain(images, valley), 4),
                "error": error_of_gain(images, valley),
                **{"missed": first.fn, "extra": first.fp, "merges": first.merges, "splits": first.splits},
            }
        )
    return rows


def gain(images: Sequence[dict[float, Scores]], valley: float) -> float:
    """AP at an IoU of 0.5 with a valley, less that with the usual one."""
    now, usual = (pool_scores(scores[at][0] for scores in images).ap for at in (valley, VALLEY))
    return float(now - usual)


def error_of_gain(images: Sequence[dict[float, Scores]], valley: float) -> float | None:
    """Standard error of the gain, as the jackknife over images estimates it; None for one image."""
    count = len(images)
    if count < 2:
        return None
    without = [gain([*images[:at], *images[at + 1 :]], valley) for at in range(count)]
    return round(float(((count - 1) * np.var(without)) ** 0.5), 4)


def main() -> None:
    made = data_parser(__doc__)
    made.add_argument("--valleys", nargs="+", type=float, default=VALLEYS, help="beside the usual one")
    wishes = made.parse_args()
    torch.set_num_threads(1)
    model = load_model(wishes.model)
    chosen = [pair for folder in wishes.data for pair in pairs_of([folder], wishes.split)[:: wishes.every]]
    rows = rows_of([scores_of(output_of(pair, model), wishes.valleys) for pair in chosen])
    print(*rows, sep="\n")
    known = {"name": model.name, "sha256": model.hash, "valley": model.record.clustering.valley}
    about = {**origin("scipy", "scikit-image"), "model": known, "split": wishes.split, "images": len(chosen)}
    keep(wishes.out, {**about, "rows": rows})


if __name__ == "__main__":
    main()
