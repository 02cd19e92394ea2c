"""Images of same-looking objects with ground truth, each drawn from a frozen recipe; 1D, 2D and 3D by one code path."""

from __future__ import annotations

from napari_shiftseg.synthetic.counting import capacity, capacity_line
from napari_shiftseg.synthetic.figures import Preset, preset, presets
from napari_shiftseg.synthetic.recipe import (
    KINDS,
    BlobRecipe,
    ConstantRecipe,
    DiskRecipe,
    RampRecipe,
    Recipe,
    SquareRecipe,
    recipe_of,
)
from napari_shiftseg.synthetic.sample import Synthetic, blobs, constant, disks, make, ramp, squares
from napari_shiftseg.synthetic.window import lazy

__all__ = [
    "KINDS",
    "BlobRecipe",
    "ConstantRecipe",
    "DiskRecipe",
    "Preset",
    "RampRecipe",
    "Recipe",
    "SquareRecipe",
    "Synthetic",
    "blobs",
    "capacity",
    "capacity_line",
    "constant",
    "disks",
    "lazy",
    "make",
    "preset",
    "presets",
    "ramp",
    "recipe_of",
    "squares",
]
