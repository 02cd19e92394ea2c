"""A foreground threshold for each object, from its own profile, against one for all.

    python benchmarks/foreground_thresholds.py DATA [DATA ...] [--model nuclei] [--out FILE]

DATA are folders with `images/`, `masks/` and `meta.csv`; the validation split counts. Each image is labelled with the threshold
of the model and with a low one. Of the latter's objects each then keeps the pixels above a threshold of its own:

- *half of its own*: half of its 95th percentile, so that dim objects are drawn from lower values than bright ones;
- *steepest edge*: that of THRESHOLDS at whose contour the foreground falls most, on the mean.

What is left below the least size of the clustering is no object. `low for all` is the low threshold alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy import pixels_of
from accuracy_runs import pairs_of
from bench import keep, origin, parser, told
from scipy import ndimage as ndi

from napari_shiftseg import SegmentSettings, load_model, match_score, segment
from napari_shiftseg.evaluation import IOUS
from napari_shiftseg.instances import pool_scores

LOW = 0.25
THRESHOLDS = (0.25, 0.375, 0.5, 0.625, 0.75)
Rule = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


def half_of_its_own(values: np.ndarray, fall: np.ndarray, mask: np.ndarray) -> float:
    """Half of the object's 95th percentile."""
    return float(np.percentile(values[mask], 95)) / 2


def steepest_edge(values: np.ndarray, fall: np.ndarray, mask: np.ndarray) -> float:
    """The threshold at whose contour the foreground falls most."""
    means = []
    for threshold in THRESHOLDS:
        inside = mask & (values >= threshold)
        edge = inside & ~ndi.binary_erosion(inside, border_value=1)
        means.append(fall[edge].mean() if edge.any() else 0.0)
    return THRESHOLDS[int(np.argmax(means))]


def redrawn(labels: np.ndarray, foreground: np.ndarray, least: int, rule: Rule) -> np.ndarray:
    """Labels of which each keeps what lies above a threshold of its own."""
    fall = ndi.gaussian_gradient_magnitude(foreground, 0.7)
    kept = np.zeros_like(labels)
    for number, box in enumerate(ndi.find_objects(labels), 1):
        if box is not None:
            around = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)  # so that a contour is closed
            mask, values = labels[around] == number, foreground[around]
            mask &= values >= rule(values, fall[around], mask)
            if mask.sum() >= least:
                kept[around][mask] = number
    return kept


def ways(image: np.ndarray, model: Any) -> dict[str, np.ndarray]:
    """Labels of an image by each rule."""
    usual, low = (segment(image, model, SegmentSettings(device="cpu", threshold=value)) for value in (None, LOW))
    labels, least = np.asarray(low.labels), usual.record["clustering"]["min_size"]
    rules = {"half of its own": half_of_its_own, "steepest edge": steepest_edge}
    own = {name: redrawn(labels, low.foreground, least, rule) for name, rule in rules.items()}
    return {"of the model": np.asarray(usual.labels), "low for all": labels, **own}


def main() -> None:
    made = parser(__doc__)
    made.add_argument("data", nargs="+", type=Path)
    made.add_argument("--model", default="nuclei")
    wishes = made.parse_args()
    torch.set_num_threads(1)
    model, rows = load_model(wishes.model), []
    for folder in wishes.data:
        found: dict[str, list[Any]] = {}
        for pair in pairs_of([folder], "val"):
            for way, labels in ways(pixels_of(pair.image()), model).items():
                found.setdefault(way, []).append(match_score(labels, pair.truth(), IOUS))
        for way, scores in found.items():
            curve = [pool_scores(at) for at in zip(*scores, strict=True)]
            counts = {"images": len(scores), "missed": curve[0].fn, "extra": curve[0].fp}
            aps = {"ap50": curve[0].ap, "ap50_95": float(np.mean([score.ap for score in curve]))}
            rows.append(told({"data": folder.resolve().name, "threshold": way, **counts, **aps}))
    said = origin("scipy")
    said["command"] = " ".join(
        ["python", "benchmarks/foreground_thresholds.py", *(f"data/{folder.resolve().name}" for folder in wishes.data)]
    )
    keep(wishes.out, said | {"model": {"name": model.name, "sha256": model.hash}, "low": LOW, "rows": rows})


if __name__ == "__main__":
    main()
