"""Disks on a lattice, and how many of them a periodic-t-shift-equivariant network can tell apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.synthetic.degrade import add_noise, warp
from napari_shiftseg.synthetic.recipe import DiskRecipe, per_axis


def capacity(spacing: int | Sequence[int], period: int | Sequence[int]) -> int:
    """How many same-looking objects on a lattice a network with this period can give different embeddings.

    Objects whose distance is a multiple of the period on every axis get the same embedding. Per axis a lattice of
    spacing p meets period / gcd(p, period) different phases.

    Parameters
    ----------
    spacing : int or sequence of int
        Lattice spacing, pixels, >= 1; one number, or one per axis.
    period : int or sequence of int
        Period of the network (paper: f^l), pixels, >= 1. One number means one axis; give a tuple for more.

    Raises
    ------
    SettingsError
        If a number is below 1 or not whole, or the lengths differ.

    Source: Rumberger et al. 2021, Corollary 2, per axis.

    >>> capacity(15, (8, 8)), capacity(16, (8, 8)), capacity(12, (8, 8))
    (64, 1, 4)
    """
    periods = per_axis(period, 1 if isinstance(period, int) else len(period), "period")
    spacings = per_axis(spacing, len(periods), "spacing")
    if min(spacings + periods, default=0) < 1:
        raise SettingsError(f"spacing {spacing} or period {period} is below 1 px; give whole pixels, 1 or more.")
    return math.prod(edge // math.gcd(step, edge) for step, edge in zip(spacings, periods, strict=True))


def draw_disks(recipe: DiskRecipe) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Image and labels of a `DiskRecipe`: the lattice, then the elastic warp, then the noise."""
    labels = _lattice_labels(recipe)
    image = (labels > 0).astype(np.float32)
    warp_rng, noise_rng = np.random.default_rng(recipe.seed).spawn(2)
    if recipe.elastic > 0:
        image, labels = warp(image, labels, recipe.elastic, warp_rng)
    return add_noise(image, recipe.noise, noise_rng), consecutive(labels)


def consecutive(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The same objects in the same order, numbered 1, 2, 3, ... without gaps."""
    present = np.zeros(int(labels.max(initial=0)) + 1, dtype=bool)
    present[labels] = True
    present[0] = False
    numbers = np.where(present, np.cumsum(present), 0).astype(np.int32)
    return numbers[labels]


def _lattice_labels(recipe: DiskRecipe) -> npt.NDArray[np.int32]:
    # A pixel can only belong to its nearest lattice site, and the nearest site is separable per axis. So disks that
    # touch keep their identity; disks that do not get the numbers of connected components in raster order.
    ndim = len(recipe.shape)
    distance = np.zeros((1,) * ndim, dtype=np.int32)
    site = np.zeros((1,) * ndim, dtype=np.int32)
    for axis, (size, spacing, offset) in enumerate(zip(recipe.shape, recipe.spacing, recipe.offset, strict=True)):
        index, away = _nearest_site(size, spacing, math.ceil(recipe.radius) + offset)
        along = tuple(-1 if k == axis else 1 for k in range(ndim))
        squared = np.minimum(away, math.ceil(recipe.radius)).astype(np.int32) ** 2
        distance = distance + squared.reshape(along)
        site = site * np.int32(index.max() + 1) + index.astype(np.int32).reshape(along)
    return consecutive(np.where(distance < recipe.radius**2, site + 1, 0).astype(np.int32))


def _nearest_site(size: int, spacing: int, first: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each pixel of an axis: number of, and distance to, the nearest of the sites first, first + spacing, ..."""
    along = np.arange(size, dtype=np.int64) - first
    nearest = np.maximum((2 * along + spacing - 1) // (2 * spacing), 0)  # a pixel halfway goes to the lower site
    return nearest - nearest.min(), np.abs(along - nearest * spacing)
