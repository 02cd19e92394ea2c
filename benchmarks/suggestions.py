"""Which bundled model is suggested for real images: those of the kinds that the models know, and others.

    python benchmarks/suggestions.py [--data ../shared/data] [--out docs/measurements/suggestions.json]

Of folders that a model learnt from, the validation images; of others, all, at most thirty. A model is right for the first, and
nothing is wrong for the others: what is said there is counted.
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

from accuracy import VALIDATED
from bench import keep, origin, parser

from napari_shiftseg import suggest_models
from napari_shiftseg.io import bundled_models

MOST = 30
OTHERS = (
    "colicoords_ecoli_2ch", "fibsem_neurons_3d", "laptrack_timelapse", "mdck_zo1_epithelium", "omnipose_bacteria",
    "plantseg_nuclei_3d_u16", "qcanet_mouse_embryo_3d",
)  # fmt: skip


def images(folder: Path, split: str | None) -> list[Path]:
    """Of a split, or all."""
    with open(folder / "meta.csv", encoding="utf-8", newline="") as lines:
        names = [row["id"] for row in csv.DictReader(lines) if split in (None, row["split"])]
    return [folder / "images" / f"{name}.tif" for name in names[:MOST]]


def row_of(folder: Path, right: str) -> dict[str, Any]:
    """How often each model is suggested first."""
    first = Counter((suggest_models(path) or ("none",))[0] for path in images(folder, "val" if right else None))
    return {"data": folder.name, "right": right or "-", "images": first.total(), "suggested": dict(first.most_common())}


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared/data")
    wishes = made.parse_args()
    kinds = {folder: name for name, folders in VALIDATED.items() if name != "nuclei-codes" for folder in folders}
    rows = []
    for folder in (*kinds, *OTHERS):
        right = kinds.get(folder, "")
        rows.append(row_of(wishes.data / folder, right if right in bundled_models() else ""))
        print(rows[-1], flush=True)
    keep(wishes.out, {**origin(), "models": [n for n in bundled_models() if not n.startswith("disks-")], "rows": rows})


if __name__ == "__main__":
    main()
