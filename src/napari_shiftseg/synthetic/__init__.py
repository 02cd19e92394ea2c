"""Images of same-looking objects with ground truth, each drawn from a frozen recipe; 1D, 2D and 3D by one code path."""

from __future__ import annotations

from napari_shiftseg.synthetic.lattice import capacity
from napari_shiftseg.synthetic.recipe import BlobRecipe, ConstantRecipe, DiskRecipe, RampRecipe, Recipe
from napari_shiftseg.synthetic.sample import Synthetic, blobs, constant, disks, make, ramp

__all__ = [
    "BlobRecipe",
    "ConstantRecipe",
    "DiskRecipe",
    "RampRecipe",
    "Recipe",
    "Synthetic",
    "blobs",
    "capacity",
    "constant",
    "disks",
    "make",
    "ramp",
]
