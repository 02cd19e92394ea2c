"""Images in which every pixel is an object of its own: a constant, and the ramp of Lemma 1."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from napari_shiftseg.synthetic.degrade import add_noise, shade
from napari_shiftseg.synthetic.recipe import ConstantRecipe, RampRecipe


def draw_constant(recipe: ConstantRecipe) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Image and labels of a `ConstantRecipe`."""
    everywhere = tuple(np.arange(size) for size in recipe.shape)
    image = shade(np.full(recipe.shape, recipe.value, dtype=np.float32), recipe.light, everywhere, shape=recipe.shape)
    return add_noise(image, recipe.noise, np.random.default_rng(recipe.seed)), _own_labels(recipe.shape)


def draw_ramp(recipe: RampRecipe) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Image and labels of a `RampRecipe`: each pixel's rank (from 1) by sum of coordinates, ties in raster order."""
    total = sum(np.ogrid[tuple(slice(0, size) for size in recipe.shape)], np.zeros((), dtype=np.int64))
    rank = np.empty(total.size, dtype=np.float32)
    rank[np.argsort(total, axis=None, kind="stable")] = np.arange(1, total.size + 1, dtype=np.float32)
    return rank.reshape(recipe.shape), _own_labels(recipe.shape)


def _own_labels(shape: tuple[int, ...]) -> npt.NDArray[np.int32]:
    return np.arange(1, math.prod(shape) + 1, dtype=np.int32).reshape(shape)
