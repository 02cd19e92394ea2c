"""What breaks the sameness of objects: uneven light, noise and elastic deformation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_shiftseg.synthetic.constants import CONTROL_SPACING


def shade(
    image: npt.NDArray[np.float32], light: float, along: tuple[npt.NDArray[np.int64], ...], *, shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """`image` under light that falls linearly from 1 at the first corner of `shape` to 1 - `light` at the last one.

    `along` holds the positions of the pixels of `image` in `shape`, one array per axis.
    """
    if light == 0:
        return image
    factor = np.ones((1,) * len(shape), dtype=np.float64)
    for axis, (positions, size) in enumerate(zip(along, shape, strict=True)):
        fall = positions * (light / len(shape) / max(size - 1, 1))
        factor = factor - fall.reshape(tuple(-1 if k == axis else 1 for k in range(len(shape))))
    return np.asarray(image * factor, dtype=np.float32)


def add_noise(image: npt.NDArray[np.float32], sigma: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """`image` plus Gaussian noise, clipped to [0, 1]; the paper's images have sigma 0.1 (variance 0.01)."""
    if sigma == 0:
        return image
    noisy = rng.standard_normal(image.shape, dtype=np.float32)
    noisy *= np.float32(sigma)
    noisy += image
    return np.clip(noisy, 0, 1, out=noisy)


def warp(
    image: npt.NDArray[np.float32], labels: npt.NDArray[np.int32], sigma: float, *, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Image and labels, both seen through one smooth random deformation.

    Control points lie about 20 px apart; each is moved by a Gaussian step of `sigma` px per axis, and cubic splines
    fill in between. The image is sampled linearly, the labels by nearest pixel, so that touching objects stay apart.
    """
    identity = np.ogrid[tuple(slice(0, size) for size in image.shape)]
    coordinates = np.stack([line + _displacement(image.shape, sigma, rng) for line in identity])
    moved = ndimage.map_coordinates(image, coordinates, order=1, mode="constant", cval=0.0)
    names = ndimage.map_coordinates(labels, coordinates, order=0, mode="constant", cval=0)
    return moved.astype(np.float32, copy=False), names.astype(np.int32, copy=False)


def _displacement(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    points = tuple(max(2, round(size / CONTROL_SPACING)) for size in shape)
    steps = rng.normal(0.0, sigma, points).astype(np.float32)
    factors = [size / count for size, count in zip(shape, points, strict=True)]
    field: npt.NDArray[np.float32] = ndimage.zoom(steps, factors, order=3)
    return field
