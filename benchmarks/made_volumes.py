"""Volumes of drawn nuclei with their truth, which `nuclei-3d` learns from beside real ones.

    python benchmarks/made_volumes.py data/made_nuclei_3d

Writes a folder with `images/`, `masks/` and `meta.csv`, all of the split `train`: three volumes of 80 px of the blobs of
`synthetic`, of all sizes, touching or apart, with more and less noise, and three of 100 px of nuclei in tissue: large, dim and
textured ones of few photons among haze and bright walls. They are few, lest the real ones drown in them. Every second one of
the first and all of tissue are drawn twice as high and every second plane is kept, as a confocal stack has it. Equal numbers
come out each time.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage as ndi

from napari_shiftseg import synthetic

EDGE = 80
# smallest and largest radius, px, number of blobs in EDGE ** 3, and the share of them that touch another one
KINDS = (
    ((5.0, 12.0), 36, 0.8),
    ((8.0, 12.0), 14, 0.7),
    ((6.0, 9.0), 40, 0.5),
)
NOISE = (0.02, 0.1, 0.25)
# Nuclei in tissue: smallest and largest radius, px, their number in TISSUE ** 3, and the share of them that touch another one.
TISSUE = 100
TISSUES = (
    ((9.0, 20.0), 24, 0.6),
    ((7.0, 15.0), 40, 0.7),
    ((13.0, 22.0), 14, 0.5),
)
# Grey values of 8 bits, as a confocal stack of plant tissue has them (ten per photon): nuclei, what lies between, walls.
NUCLEI, HAZE, WALLS, PHOTON = (34.0, 80.0), 25.0, (90.0, 250.0), 10.0


def in_tissue(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Image, uint8, and labels of one volume of nuclei in tissue."""
    radius, count, touching = TISSUES[number % len(TISSUES)]
    shape = (2 * TISSUE, TISSUE, TISSUE)
    labels = synthetic.blobs(shape, 2 * count, radius=radius, touching=touching, noise=0.0, seed=100 + number).labels[::2]
    rng = np.random.default_rng(100 + number)
    haze = smooth(rng, labels.shape, (4, 8, 8))
    grey = HAZE * np.exp(0.4 * haze)
    bright = rng.uniform(*NUCLEI, labels.max() + 1)[labels] * (1 + 0.12 * smooth(rng, labels.shape, (1, 2, 2)))
    inside = ndi.gaussian_filter((labels > 0).astype(np.float32), (0.7, 1.2, 1.2))
    grey = grey * (1 - inside) + np.where(labels > 0, bright, 0.8 * HAZE + 0.4 * grey) * inside
    for _ in range(3):
        grey += wall(rng, labels.shape)
    grey *= np.linspace(1, rng.uniform(0.6, 1), TISSUE)[:, None, None]  # light fades with depth
    image = np.clip(PHOTON * (rng.poisson(grey / PHOTON) + rng.uniform(-0.3, 0.3, grey.shape)), 0, 255)
    return np.rint(image).astype(np.uint8), labels.astype(np.uint16)


def smooth(rng: np.random.Generator, shape: tuple[int, ...], sigma: tuple[float, ...]) -> np.ndarray:
    """A smooth field of standard deviation 1."""
    field = ndi.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma)
    return np.asarray(field / field.std())


def wall(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A piece of a bright sheet, upright or nearly so, as wide as a cell."""
    normal = rng.normal(size=3) * (0.2, 1, 1)
    normal /= np.linalg.norm(normal)
    away = np.stack(np.broadcast_arrays(*np.ogrid[tuple(map(slice, shape))])) - rng.uniform(0, shape).reshape(3, 1, 1, 1)
    across = np.tensordot(normal, away, axes=1) + 2 * smooth(rng, shape, (8, 8, 8))
    along = (away**2).sum(axis=0) - across**2
    return np.asarray(rng.uniform(*WALLS) * np.exp(-(across**2) / 4 - along / (2 * rng.uniform(10, 25) ** 2)))


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
    parser.add_argument("--count", type=int, default=3, help="of each of the two kinds")
    wishes = parser.parse_args()
    rows = []
    kinds = {"made": drawn, "tissue": in_tissue}
    for name, draw, number in [
        (f"{kind}{number:02d}", kinds[kind], number) for kind in kinds for number in range(wishes.count)
    ]:
        for kind, pixels in zip(("images", "masks"), draw(number), strict=True):
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
