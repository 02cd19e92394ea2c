"""Nuclei-like blobs: textured ellipsoids of different sizes, some touching, under uneven light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.synthetic.constants import BACKGROUND, BLUR, GAP, OVERLAP, TRIES
from napari_shiftseg.synthetic.degrade import add_noise
from napari_shiftseg.synthetic.recipe import BlobRecipe


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ellipsoid:
    centre: npt.NDArray[np.float64]  # (ndim,)
    to_ball: npt.NDArray[np.float64]  # (ndim, ndim), maps the ellipsoid onto the unit ball
    reach: int  # pixels from the centre to its farthest point, rounded up

    def at(self, centre: npt.NDArray[np.float64]) -> _Ellipsoid:
        return _Ellipsoid(centre=centre, to_ball=self.to_ball, reach=self.reach)

    def window(self, shape: tuple[int, ...], extra: int = 0) -> tuple[slice, ...]:
        middle = np.rint(self.centre).astype(int)
        reach = self.reach + 1 + extra
        return tuple(slice(max(0, int(m) - reach), min(n, int(m) + reach + 1)) for m, n in zip(middle, shape, strict=True))

    def level(self, window: tuple[slice, ...]) -> npt.NDArray[np.float64]:
        """Squared radius on the unit ball for every pixel of the window: below 1 inside."""
        grid = np.stack(np.broadcast_arrays(*np.ogrid[window]))  # (ndim, *window)
        away = grid - self.centre.reshape((-1,) + (1,) * len(window))
        level: npt.NDArray[np.float64] = (np.tensordot(self.to_ball, away, axes=1) ** 2).sum(axis=0)
        return level


def draw_blobs(recipe: BlobRecipe) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Image and labels of a `BlobRecipe`."""
    place_rng, paint_rng, noise_rng = np.random.default_rng(recipe.seed).spawn(3)
    blobs, labels = _place(recipe, place_rng)
    image = _paint(recipe, blobs, labels, rng=paint_rng)
    return add_noise(image, recipe.noise, noise_rng), labels


def _place(recipe: BlobRecipe, rng: np.random.Generator) -> tuple[list[_Ellipsoid], npt.NDArray[np.int32]]:
    labels = np.zeros(recipe.shape, dtype=np.int32)
    attached = min(round(recipe.touching * recipe.count), max(recipe.count - 1, 0))
    blobs: list[_Ellipsoid] = []
    for index in range(recipe.count):
        shape = _random_ellipsoid(recipe, rng)
        alone = index < recipe.count - attached
        blob = _place_alone(shape, labels, rng) if alone else _place_beside(shape, blobs, labels, rng=rng)
        if blob is None:
            raise SettingsError(
                f"only {index} of {recipe.count} blobs of radius {recipe.radius} px found room in shape "
                f"{recipe.shape}; give a smaller count, smaller radii or a larger shape."
            )
        window = blob.window(recipe.shape)
        labels[window][(blob.level(window) < 1) & (labels[window] == 0)] = index + 1
        blobs.append(blob)
    return blobs, labels


def _random_ellipsoid(recipe: BlobRecipe, rng: np.random.Generator) -> _Ellipsoid:
    ndim = len(recipe.shape)
    stretch = rng.uniform(0.8, 1.25, ndim)
    axes = rng.uniform(*recipe.radius) * stretch / stretch.prod() ** (1 / ndim)
    rotation, _ = np.linalg.qr(rng.standard_normal((ndim, ndim)))
    return _Ellipsoid(centre=np.zeros(ndim), to_ball=rotation.T / axes[:, None], reach=int(np.ceil(axes.max())))


def _place_alone(shape: _Ellipsoid, labels: npt.NDArray[np.int32], rng: np.random.Generator) -> _Ellipsoid | None:
    edge = shape.reach / 2  # at most about a quarter of a blob is cut by the image border
    for _ in range(TRIES):
        blob = shape.at(np.array([rng.uniform(min(edge, n / 2), max(n - 1 - edge, n / 2)) for n in labels.shape]))
        window = blob.window(labels.shape, extra=GAP)
        inside = blob.level(window) < 1
        if inside.any() and not (_grown(inside, GAP) & (labels[window] > 0)).any():
            return blob
    return None


def _place_beside(
    shape: _Ellipsoid, blobs: list[_Ellipsoid], labels: npt.NDArray[np.int32], *, rng: np.random.Generator
) -> _Ellipsoid | None:
    for _ in range(TRIES):
        neighbour = blobs[rng.integers(len(blobs))]
        direction = rng.standard_normal(labels.ndim)
        direction /= np.linalg.norm(direction)
        for distance in range(1, neighbour.reach + shape.reach + 2):
            blob = shape.at(neighbour.centre + distance * direction)
            if (blob.centre < 0).any() or (blob.centre > np.array(labels.shape) - 1).any():
                break
            window = blob.window(labels.shape, extra=1)
            inside = blob.level(window) < 1
            taken = labels[window] > 0
            if (inside & taken).sum() > OVERLAP * inside.sum():
                continue
            left = inside & ~taken
            if (_grown(left, 1) & taken).any() and ndimage.label(left, np.ones((3,) * labels.ndim))[1] == 1:
                return blob
            break
    return None


def _grown(mask: npt.NDArray[np.bool_], steps: int) -> npt.NDArray[np.bool_]:
    grown: npt.NDArray[np.bool_] = ndimage.binary_dilation(mask, np.ones((3,) * mask.ndim), iterations=steps)
    return grown


def _paint(
    recipe: BlobRecipe, blobs: list[_Ellipsoid], labels: npt.NDArray[np.int32], *, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    image = np.full(recipe.shape, BACKGROUND, dtype=np.float32)
    grain = rng.standard_normal(recipe.shape, dtype=np.float32)
    texture = ndimage.gaussian_filter(grain, max(recipe.radius[0] / 5, 0.7))
    texture *= 0.15 / max(float(texture.std()), 1e-6)
    for number, blob in enumerate(blobs, start=1):
        window = blob.window(recipe.shape)
        own = labels[window] == number
        dome = np.sqrt(1 - blob.level(window)[own])  # thicker in the middle, so neighbours meet in a darker line
        image[window][own] = rng.uniform(0.45, 0.95) * (0.5 + 0.5 * dome) * (1 + texture[window][own])
    blurred: npt.NDArray[np.float32] = ndimage.gaussian_filter(image, BLUR)
    blurred *= _light(recipe.shape, rng)
    return np.clip(blurred, 0, 1, out=blurred)


def _light(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Uneven illumination: 1 at a random bright spot, down to 0.6 at the far corner."""
    squared = np.zeros((1,) * len(shape), dtype=np.float32)
    for line, size in zip(np.ogrid[tuple(slice(0, n) for n in shape)], shape, strict=True):
        squared = squared + ((line / size - rng.uniform(0.2, 0.8)) ** 2).astype(np.float32)
    return (1 - 0.4 * squared / max(float(squared.max()), 1e-6)).astype(np.float32)
