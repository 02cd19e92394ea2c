"""How much of the objects is in the intensities of images: what any method can find, before one is trained.

    python benchmarks/image_signal.py DATA [DATA ...] [--splits val,extra] --out FILE

DATA are folders with `images/`, `masks/` and `meta.csv` (columns id, split). Of each image:

- *correlation* of the intensities of neighbouring pixels along the last axis: optics give neighbours much in common, and white
  noise, or the lower byte of a number of two, has none;
- *contrast*: mean of the objects less that of the background, over the spread of all pixels, as it is and after a Gaussian
  blur of 2 px;
- *grey values*: the share of the commonest tenth of them. It is a tenth where all are equally frequent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from accuracy_runs import Pair, pairs_of
from bench import keep, origin, parser, told
from scipy import ndimage as ndi

BLUR = 2.0  # px; a tenth of the diameter of the nuclei here


def contrast(values: np.ndarray, inside: np.ndarray) -> float:
    """Of what lies inside against what lies outside, in standard deviations of all."""
    return float((values[inside].mean() - values[~inside].mean()) / values.std())


def row_of(pair: Pair) -> dict[str, Any]:
    """What is in an image."""
    image, inside = pair.image().astype(np.float64), pair.truth() > 0
    pairs = image[..., :-1].ravel(), image[..., 1:].ravel()
    _, counts = np.unique(pair.image(), return_counts=True)
    common = np.sort(counts)[::-1][: max(1, len(counts) // 10)]
    return {
        "data": pair.data,
        "image": pair.name,
        "objects": len(np.unique(pair.truth())) - 1,
        "correlation": float(np.corrcoef(*pairs)[0, 1]),
        "contrast": contrast(image, inside),
        "contrast_blurred": contrast(ndi.gaussian_filter(image, BLUR), inside),
        "commonest_tenth": float(common.sum() / image.size),
    }


def main() -> None:
    made = parser(__doc__)
    made.add_argument("data", nargs="+", type=Path)
    made.add_argument("--splits", default="train,val,extra")
    wishes = made.parse_args()
    rows = [told(row_of(pair)) for pair in pairs_of(wishes.data, wishes.splits)]
    keep(wishes.out, {**origin("scipy"), "rows": rows})


if __name__ == "__main__":
    main()
