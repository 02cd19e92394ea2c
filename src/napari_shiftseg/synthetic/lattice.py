"""Disks and squares on a lattice, the whole image or a window of it."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.synthetic.degrade import add_noise, shade, warp
from napari_shiftseg.synthetic.recipe import DiskRecipe, LatticeRecipe

Lines = tuple[npt.NDArray[np.int64], ...]  # one 1D array per axis


def draw_lattice(recipe: LatticeRecipe) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Image and labels of a recipe: lattice with jitter, then light, then the elastic warp, then noise."""
    warp_rng, noise_rng, jitter_rng = np.random.default_rng(recipe.seed).spawn(3)
    labels = _jittered_labels(recipe, jitter_rng) if recipe.jitter else _lattice_labels(recipe)
    everywhere = tuple(np.arange(size) for size in recipe.shape)
    image = shade((labels > 0).astype(np.float32), recipe.light, everywhere, shape=recipe.shape)
    if recipe.elastic > 0:
        image, labels = warp(image, labels, recipe.elastic, rng=warp_rng)
    return add_noise(image, recipe.noise, noise_rng), consecutive(labels)


def draw_window(recipe: LatticeRecipe, window: tuple[slice, ...]) -> npt.NDArray[np.float32]:
    """A window of the image of a recipe that has no jitter, noise and elastic warp; the rest is never computed."""
    along = tuple(np.arange(size)[part] for size, part in zip(recipe.shape, window, strict=True))
    away = tuple(_nearest_site(line, axis, recipe)[1] for axis, line in enumerate(along))
    return shade(_inside(recipe, away).astype(np.float32), recipe.light, along, shape=recipe.shape)


def count_objects(recipe: LatticeRecipe) -> tuple[int, tuple[int, ...]]:
    """How many objects of the lattice have a pixel in the image, and how many there are along each axis."""
    ndim, along = len(recipe.shape), []
    distances, weight = [], np.ones((1,) * ndim, dtype=np.int64)
    for axis, size in enumerate(recipe.shape):
        site, away = _nearest_site(np.arange(size), axis, recipe)
        closest = np.full(int(site.max()) + 1, np.iinfo(np.int32).max, dtype=np.int64)
        np.minimum.at(closest, site, away)
        closest = closest[closest < recipe.radius]  # sites far before or behind the image have no pixel
        along.append(len(closest))
        line, counts = np.unique(closest, return_counts=True)  # few, since most sites lie within the image
        distances.append(line)
        weight = weight * _upright(counts, axis, ndim)
    return int((_inside(recipe, tuple(distances)) * weight).sum()), tuple(along)


def consecutive(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The same objects in the same order, numbered 1, 2, 3, ... without gaps."""
    present = np.zeros(int(labels.max(initial=0)) + 1, dtype=bool)
    present[labels] = True
    present[0] = False
    numbers = np.where(present, np.cumsum(present), 0).astype(np.int32)
    return numbers[labels]


def _lattice_labels(recipe: LatticeRecipe) -> npt.NDArray[np.int32]:
    # A pixel can only belong to its nearest lattice site, and the nearest site is separable per axis. So objects that
    # touch keep their identity; objects that do not get the numbers of connected components in raster order.
    ndim = len(recipe.shape)
    site, away = np.zeros((1,) * ndim, dtype=np.int32), []
    for axis, size in enumerate(recipe.shape):
        index, line = _nearest_site(np.arange(size), axis, recipe)
        away.append(line)
        site = site * np.int32(index.max() + 1) + _upright(index.astype(np.int32), axis, ndim)
    return consecutive(np.where(_inside(recipe, tuple(away)), site + 1, 0).astype(np.int32))


def _jittered_labels(recipe: LatticeRecipe, rng: np.random.Generator) -> npt.NDArray[np.int32]:
    # Whole pixels, so that the objects keep looking the same. Sites just outside of the image may move into it.
    reach = math.ceil(recipe.radius)
    firsts = [reach + offset for offset in recipe.offset]
    last = [size + recipe.jitter + reach for size in recipe.shape]
    sites = [range(first, max(end, first + 1), step) for first, end, step in zip(firsts, last, recipe.spacing, strict=True)]
    near = tuple(np.arange(-reach, reach + 1) for _ in recipe.shape)
    stamp, level = _inside(recipe, tuple(np.abs(line) for line in near)), _level(recipe, tuple(np.abs(n) for n in near))
    labels, closest = np.zeros(recipe.shape, np.int32), np.full(recipe.shape, np.iinfo(np.int32).max, np.int32)
    steps = rng.integers(-recipe.jitter, recipe.jitter, (*map(len, sites), len(sites)), endpoint=True)
    for number, index in enumerate(itertools.product(*map(range, map(len, sites))), 1):
        low = [int(s[i] + step) - reach for s, i, step in zip(sites, index, steps[index], strict=True)]
        there = tuple(slice(max(a, 0), max(a + 2 * reach + 1, 0)) for a in low)
        part = tuple(slice(max(-a, 0), max(n - a, 0)) for a, n in zip(low, recipe.shape, strict=True))
        mine = stamp[part] & (level[part] < closest[there])  # a pixel goes to the nearest centre
        labels[there][mine], closest[there][mine] = number, level[part][mine]
    return labels


def _inside(recipe: LatticeRecipe, away: Lines) -> npt.NDArray[np.bool_]:
    """Which pixels belong to an object, from their distance to its centre along each axis."""
    limit = recipe.radius**2 if isinstance(recipe, DiskRecipe) else recipe.radius
    return np.asarray(_level(recipe, away) < limit)


def _level(recipe: LatticeRecipe, away: Lines) -> npt.NDArray[np.int32]:
    """Squared distance to the centre for disks, largest distance along an axis for squares."""
    reach, ndim = math.ceil(recipe.radius), len(away)
    level = np.zeros((1,) * ndim, dtype=np.int32)
    for axis, line in enumerate(away):
        near = np.minimum(line, reach).astype(np.int32)  # farther is outside already, and the square fits 32 bits
        upright = _upright(near, axis, ndim)
        level = level + upright**2 if isinstance(recipe, DiskRecipe) else np.maximum(level, upright)
    return level


def _upright(line: npt.NDArray[Any], axis: int, ndim: int) -> npt.NDArray[Any]:
    return line.reshape(tuple(-1 if k == axis else 1 for k in range(ndim)))


def _nearest_site(
    positions: npt.NDArray[np.int64], axis: int, recipe: LatticeRecipe
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For pixels of an axis: number of, and distance to, the nearest of the sites first, first + spacing, ..."""
    spacing = recipe.spacing[axis]
    along = positions - (math.ceil(recipe.radius) + recipe.offset[axis])
    nearest = np.maximum((2 * along + spacing - 1) // (2 * spacing), 0)  # a pixel halfway goes to the lower site
    return nearest - nearest.min(initial=0), np.abs(along - nearest * spacing)
