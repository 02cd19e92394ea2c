"""Volumes of drawn nuclei with their truth, which `nuclei-3d` learns from beside real ones.

    python benchmarks/made_volumes.py data/made_nuclei_3d

Writes a folder with `images/`, `masks/` and `meta.csv`, all of the split `train`: three volumes of 80 px of the blobs of
`synthetic`, of all sizes, touching or apart, with more and less noise. They are few, lest the real ones drown in them. Every
second one is drawn twice as high and every second plane is kept, as a confocal stack has it. Equal numbers come out each time.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import tifffile

from napari_shiftseg import synthetic

EDGE = 80
# smallest and largest radius, px, number of blobs in EDGE ** 3, and the share of them that touch another one
KINDS = (
    ((5.0, 12.0), 36, 0.8),
    ((8.0, 12.0), 14, 0.7),
    ((6.0, 9.0), 40, 0.5),
)
NOISE = (0.02, 0.1, 0.25)


def drawn(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Image, uint16, and labels of one volume."""
    radius, count, touching = KINDS[number % len(KINDS)]
    step = 1 + number % 2
    blobs = synthetic.blobs(
        (EDGE * step, EDGE, EDGE),
        count * step,
        radius=radius,
        touching=touching,
        noise=NOISE[number % len(NOISE)],
        seed=number,
    )
    image = np.rint(blobs.image[::step] * 4095).astype(np.uint16)
    return image, blobs.labels[::step].astype(np.uint16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=3)
    wishes = parser.parse_args()
    rows = []
    for number in range(wishes.count):
        name = f"made{number:02d}"
        for kind, pixels in zip(("images", "masks"), drawn(number), strict=True):
            path = wishes.folder / kind / f"{name}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, pixels, compression="zlib", metadata={"axes": "ZYX"})
        rows.append({"id": name, "split": "train", "axes": "ZYX", "n_instances": len(np.unique(pixels)) - 1})
    with open(wishes.folder / "meta.csv", "w", encoding="utf-8", newline="") as lines:
        table = csv.DictWriter(lines, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    print(f"{wishes.folder}: {len(rows)} volumes with {sum(row['n_instances'] for row in rows)} nuclei")


if __name__ == "__main__":
    main()
