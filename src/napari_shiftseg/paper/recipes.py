"""What figures share: the lattice of disks, and the setup in which only noise or deformation tells them apart."""

from __future__ import annotations

from typing import Any

from napari_shiftseg.geometry import UNetSpec
from napari_shiftseg.paper.experiment import Setup, Training
from napari_shiftseg.synthetic import DiskRecipe


def lattice(edge: int, spacing: int, radius: int, *, offset: int = 0, ndim: int = 2, **noise: Any) -> DiskRecipe:
    """Disks or balls, as far apart on all axes; `noise` and `elastic` as a recipe has them."""
    return DiskRecipe(shape=(edge,) * ndim, spacing=(spacing,) * ndim, radius=radius, offset=(offset,) * ndim, **noise)


def imperfect(window: int, write: int | None, *, full: bool = False, **noise: Any) -> Setup:
    """Disks a period apart (Fig. 6 and 7), whose noise or deformation is drawn anew at every step."""
    spec = UNetSpec(levels=4 if full else 3, features=16)
    image = lattice(300 if full else 172, 16, 5, **noise)
    steps, rate = (25_000, 5e-4) if full else (10_000, 1e-3)
    training = Training(image=image, window=window, steps=steps, fresh=True, learning_rate=rate)
    return Setup(spec=spec, test=image, weights=training, write=write)
