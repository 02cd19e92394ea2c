"""The synthetic image with its truth, and the verbs that draw one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import OutOfMemoryError
from napari_shiftseg.machine import free_memory
from napari_shiftseg.synthetic.constants import PIXEL_BYTES
from napari_shiftseg.synthetic.degrade import add_noise, shade
from napari_shiftseg.synthetic.lattice import draw_lattice
from napari_shiftseg.synthetic.nuclei import draw_blobs
from napari_shiftseg.synthetic.recipe import (
    BlobRecipe,
    ConstantRecipe,
    LatticeRecipe,
    RampRecipe,
    Recipe,
    recipe_from,
    recipe_of,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Synthetic:
    """A synthetic image, its ground truth, and the recipe that gives both again.

    Attributes
    ----------
    image : (*shape) float32
        Grey values; within [0, 1] except for the ramp.
    labels : (*shape) int32
        Objects 1, 2, 3, ...; 0 is background.
    recipe : Recipe
        Frozen; `dataclasses.asdict` of it is ready for JSON, and `make` takes it back.
    """

    image: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    recipe: Recipe


def make(recipe: Recipe | Mapping[str, object]) -> Synthetic:
    """Draw a recipe; equal recipes give equal pixels.

    Parameters
    ----------
    recipe : Recipe or mapping
        A recipe, or what `dataclasses.asdict` made of one (also after JSON).

    Raises
    ------
    SettingsError
        If the recipe cannot be drawn.

    >>> make({"kind": "constant", "shape": (2, 3), "value": 0.5}).image.tolist()
    [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]
    """
    if isinstance(recipe, Mapping):
        recipe = recipe_from(recipe)
    needed = math.prod(recipe.shape) * PIXEL_BYTES
    if needed > (free := free_memory()):
        raise OutOfMemoryError(
            f"an image of {' x '.join(map(str, recipe.shape))} px takes {needed / 1e9:.3g} GB to draw and {free / 1e9:.3g} GB "
            "are free; give a smaller shape."
        )
    match recipe:
        case LatticeRecipe():
            image, labels = draw_lattice(recipe)
        case ConstantRecipe():
            image, labels = _draw_constant(recipe)
        case RampRecipe():
            image, labels = _draw_ramp(recipe)
        case BlobRecipe():
            image, labels = draw_blobs(recipe)
    return Synthetic(image=image, labels=labels, recipe=recipe)


def disks(
    shape: Sequence[int],
    spacing: int | Sequence[int],
    radius: float,
    *,
    offset: int | Sequence[int] = 0,
    jitter: int = 0,
    light: float = 0.0,
    noise: float = 0.0,
    elastic: float = 0.0,
    seed: int = 0,
) -> Synthetic:
    """Same-looking disks on a lattice: 1 inside, 0 outside.

    A pixel is set if its squared distance to a centre is below radius^2 (radius 5: 69 pixels in 2D). Centres lie at
    radius + offset, radius + offset + spacing, ... on every axis, and disks are clipped at the image border.

    Parameters
    ----------
    shape : sequence of int
        Image edges, pixels; 1 to 3 of them (line segments, disks, balls).
    spacing : int or sequence of int
        Distance of neighbouring centres, pixels, >= 1; one number, or one per axis.
    radius : float
        Disk radius, pixels, > 0. Disks that touch or overlap keep their own labels; a pixel goes to the nearest centre.
    offset : int or sequence of int
        Shift of the first centre, pixels; there is no disk before the first centre.
    jitter : int
        Each disk is moved by a random whole number of pixels from -jitter to jitter per axis.
    light : float
        Share of the brightness (0 to 1) that is lost linearly from the first corner of the image to the last.
    noise : float
        Standard deviation of Gaussian noise; the result is clipped to [0, 1]. The paper's is 0.1.
    elastic : float
        Standard deviation of the steps of the elastic deformation's control points (20 px apart), pixels. The paper's
        is 0.2. Labels follow by nearest pixel, so edge pixels that are more outside than inside stay background
        (the paper's truth takes every pixel above 0 and is up to one pixel wider).
    seed : int
        Seed of jitter, deformation and noise.

    Raises
    ------
    SettingsError
        If a value is out of range or a tuple has not one entry per axis.

    Source: Rumberger et al. 2021, Fig. 2, 3, 6 and 7.

    >>> int(disks((220, 220), 15, 5, offset=4).labels.max())
    225
    """
    amounts = {"jitter": jitter, "light": light, "noise": noise, "elastic": elastic, "seed": seed}
    return make(recipe_of("disks", shape, spacing=spacing, radius=radius, offset=offset, **amounts))


def squares(
    shape: Sequence[int],
    spacing: int | Sequence[int],
    radius: float,
    *,
    offset: int | Sequence[int] = 0,
    jitter: int = 0,
    light: float = 0.0,
    noise: float = 0.0,
    elastic: float = 0.0,
    seed: int = 0,
) -> Synthetic:
    """Same-looking squares (cubes) on a lattice, without texture: 1 inside, 0 outside.

    A pixel is set if its distance to a centre is below `radius` along every axis (radius 5: 9 pixels wide, as a disk of
    that radius). All parameters are those of `disks`.

    >>> int(squares((16, 16), 20, 5).image.sum())
    81
    """
    amounts = {"jitter": jitter, "light": light, "noise": noise, "elastic": elastic, "seed": seed}
    return make(recipe_of("squares", shape, spacing=spacing, radius=radius, offset=offset, **amounts))


def constant(shape: Sequence[int], *, value: float = 1.0, light: float = 0.0, noise: float = 0.0, seed: int = 0) -> Synthetic:
    """A constant image in which every pixel is its own object, numbered from 1 in raster order.

    Parameters
    ----------
    shape : sequence of int
        Image edges, pixels; 1 to 3 of them.
    value : float
        Grey value, 0 to 1.
    light : float
        Share of the brightness (0 to 1) that is lost linearly from the first corner of the image to the last.
    noise : float
        Standard deviation of Gaussian noise; the result is clipped to [0, 1].
    seed : int
        Seed of the noise.

    Raises
    ------
    SettingsError
        If a value is out of range.

    Source: Rumberger et al. 2021, Fig. 4 and 5.

    >>> constant((2, 3)).labels
    array([[1, 2, 3],
           [4, 5, 6]], dtype=int32)
    """
    return make(recipe_of("constant", shape, value=value, light=light, noise=noise, seed=seed))


def ramp(shape: Sequence[int]) -> Synthetic:
    """An image that grows strictly along every diagonal; every pixel is its own object.

    Values are the ranks 1, 2, 3, ... of the pixels by sum of coordinates, ties in raster order; exact in float32.

    Parameters
    ----------
    shape : sequence of int
        Image edges, pixels; 1 to 3 of them, at most 2^24 pixels in all.

    Raises
    ------
    SettingsError
        If the shape is not possible.

    Source: Rumberger et al. 2021, Lemma 1, part I.

    >>> ramp((2, 3)).image
    array([[1., 2., 4.],
           [3., 5., 6.]], dtype=float32)
    """
    return make(recipe_of("ramp", shape))


def blobs(
    shape: Sequence[int],
    count: int,
    *,
    radius: tuple[float, float] = (6.0, 10.0),
    touching: float = 0.3,
    noise: float = 0.02,
    seed: int = 0,
) -> Synthetic:
    """Nuclei-like blobs: textured ellipsoids of different size, brightness and direction, under uneven light.

    Parameters
    ----------
    shape : sequence of int
        Image edges, pixels; 1 to 3 of them.
    count : int
        Number of blobs, >= 0.
    radius : (float, float)
        Smallest and largest mean radius, pixels, >= 1, at most half of the shortest edge.
    touching : float
        Share of the blobs (0 to 1) that is set against another one; all others keep 2 px clear of each other.
    noise : float
        Standard deviation of Gaussian noise; the result is clipped to [0, 1].
    seed : int
        Seed of everything.

    Raises
    ------
    SettingsError
        If a value is out of range, or the blobs do not find room.

    >>> int(blobs((96, 96), 12, touching=0.5, seed=1).labels.max())
    12
    """
    return make(recipe_of("blobs", shape, count=count, radius=radius, touching=touching, noise=noise, seed=seed))


def _draw_constant(recipe: ConstantRecipe) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Image and labels of a `ConstantRecipe`."""
    everywhere = tuple(np.arange(size) for size in recipe.shape)
    image = shade(np.full(recipe.shape, recipe.value, dtype=np.float32), recipe.light, everywhere, shape=recipe.shape)
    return add_noise(image, recipe.noise, np.random.default_rng(recipe.seed)), _own_labels(recipe.shape)


def _draw_ramp(recipe: RampRecipe) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Image and labels of a `RampRecipe`: each pixel's rank (from 1) by sum of coordinates, ties in raster order."""
    total = sum(np.ogrid[tuple(slice(0, size) for size in recipe.shape)], np.zeros((), dtype=np.int64))
    rank = np.empty(total.size, dtype=np.float32)
    rank[np.argsort(total, axis=None, kind="stable")] = np.arange(1, total.size + 1, dtype=np.float32)
    return rank.reshape(recipe.shape), _own_labels(recipe.shape)


def _own_labels(shape: tuple[int, ...]) -> npt.NDArray[np.int32]:
    return np.arange(1, math.prod(shape) + 1, dtype=np.int32).reshape(shape)
