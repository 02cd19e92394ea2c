"""Random training windows with their context, augmented, from images with ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage as ndi
from torch import Tensor
from torch.nn import functional as F

from napari_shiftseg.errors import ImageError
from napari_shiftseg.network.constants import CLIP, IGNORE
from napari_shiftseg.network.normalise import Normalisation


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainImage:
    """An image with ground truth, normalised as a whole."""

    pixels: Tensor  # (C, *shape) float32
    labels: Tensor  # (*shape) int32, 0 is the background
    centres: npt.NDArray[np.int64]  # (K, ndim) a pixel of each instance
    sizes: npt.NDArray[np.int64] = field(default_factory=lambda: np.ones(0, np.int64))  # (K,) pixels of each

    @property
    def diameter(self) -> float:
        """Median over the instances of the diameter of a circle (ball) of the same size, pixels; 0 without any."""
        ball = {1: 1.0, 2: np.pi / 4, 3: np.pi / 6}[self.labels.ndim]  # of diameter 1
        return float(np.median(self.sizes) / ball) ** (1 / self.labels.ndim) if len(self.sizes) else 0.0

    @classmethod
    def from_arrays(cls, image: npt.NDArray[Any], labels: npt.NDArray[Any], normalisation: Normalisation) -> TrainImage:
        """Normalise (C, *shape) or (*shape) intensities and find the instances of (*shape) labels.

        Labels below 0 and pixels without data count for nothing.
        """
        if image.ndim == labels.ndim:
            image = image[None]
        if image.shape[1:] != labels.shape:
            raise ImageError(f"an image of shape {image.shape} does not fit labels of shape {labels.shape}.")
        ids, first, index, counts = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
        numbers = np.where(ids > 0, np.cumsum(ids > 0), np.where(ids == 0, 0, IGNORE)).astype(np.int32)
        relabelled = numbers[index.reshape(labels.shape)]
        centres = np.stack(np.unravel_index(first[ids > 0], labels.shape), axis=1)
        limits = normalisation.limits(image)
        missing = limits.missing(image)
        if missing is not None:
            relabelled[missing] = IGNORE
        pixels = limits.apply(image)
        return cls(pixels=torch.from_numpy(pixels), labels=torch.from_numpy(relabelled), centres=centres, sizes=counts[ids > 0])


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes that leave the instances what they are."""

    scale: float = 1.4  # largest zoom factor; its inverse is the smallest
    rotate: bool = True  # any rotation in the plane of the last two axes, and flips
    intensity: float = 1.0  # strength of random gain, offset, gamma and noise; 0 for none
    # chance of each of: blur, coarse noise, an uneven background, debris and hot pixels; a third of it of inverted intensities
    degrade: float = 0.0
    small: float = 0.0  # an instance is drawn with a chance of size ** -small: at 0 all alike


def sampling_weights(images: Sequence[TrainImage], balance: float = 0.0) -> npt.NDArray[np.float64]:
    """Probability per image: the square root of its number of instances, so that neither kind of image drowns.

    balance : 0 leaves it at that; with 1 all magnifications, in halves of an octave of the diameter, are drawn alike.
    """
    weights = np.sqrt([max(1, len(image.centres)) for image in images])
    _, octave = np.unique([np.rint(2 * np.log2(max(1.0, image.diameter))) for image in images], return_inverse=True)
    weights /= np.bincount(octave, weights)[octave] ** balance
    return np.asarray(weights / weights.sum())


def draw_crop(
    image: TrainImage,
    rng: np.random.Generator,
    *,
    read: Sequence[int],
    write: Sequence[int],
    augmentation: Augmentation,
    real_context: bool = False,
) -> tuple[Tensor, Tensor]:
    """One random window: the pixels that the network reads and the labels of those it predicts.

    Parameters
    ----------
    read, write : sequence of int
        Input and output edges, pixels; the output lies in the centre of the input.
    real_context : bool
        Anywhere with equal chance, as long as the image holds all that is read; else mostly around instances, and what lies
        beyond the image is its reflection.

    Returns
    -------
    pixels : Tensor
        (C, *read) float32; reflected beyond the image.
    labels : Tensor
        (*write) int64; `IGNORE` beyond the image.
    """
    shape = np.array(image.labels.shape)
    matrix = _random_matrix(len(shape), rng, augmentation)
    if real_context:
        centre = _anywhere(shape, rng, matrix, read=read)
    else:
        centre = _random_centre(image, rng, matrix, write=np.array(write), small=augmentation.small)
    pixels = _resample(image.pixels, matrix, centre, shape=read, mode="bilinear", padding="reflection")
    # labels move up by one, so that the zeros beyond the image can be told from the background
    moved = _resample(image.labels[None] + 1, matrix, centre, shape=write, mode="nearest", padding="zeros")[0]
    labels = moved.round().long() - 1
    pixels = _change_intensity(pixels, rng, augmentation.intensity)
    return degraded(pixels, rng, augmentation.degrade), labels


def _random_matrix(ndim: int, rng: np.random.Generator, augmentation: Augmentation) -> npt.NDArray[np.float64]:
    """Linear map from window to image coordinates."""
    matrix = np.eye(ndim)
    if augmentation.rotate:
        if ndim >= 2:
            turn = rng.uniform(0, 2 * np.pi) if rng.random() < 0.5 else rng.integers(4) * np.pi / 2
            cos, sin = np.cos(turn), np.sin(turn)
            matrix[-2:, -2:] = [[cos, -sin], [sin, cos]]
        matrix = matrix @ np.diag(rng.choice([-1.0, 1.0], ndim))
    return np.asarray(matrix / augmentation.scale ** rng.uniform(-1, 1))


def _random_centre(
    image: TrainImage, rng: np.random.Generator, matrix: npt.NDArray[np.float64], *, write: npt.NDArray[np.int64], small: float
) -> npt.NDArray[np.float64]:
    shape = np.array(image.labels.shape)
    if len(image.centres) and rng.random() < 0.8:
        centre = image.centres[_instance(image, rng, small)] + rng.uniform(-0.5, 0.5, len(shape)) * write * 0.5
    else:
        centre = rng.uniform(0, shape)
    half = np.abs(matrix) @ (write / 2)
    centre = np.where(2 * half < shape, np.clip(centre, half, shape - half), shape / 2)
    return np.rint(centre - half) + half if _on_pixels(matrix) else centre


def _instance(image: TrainImage, rng: np.random.Generator, small: float) -> int:
    if small == 0:
        return int(rng.integers(len(image.centres)))
    chances = image.sizes.astype(np.float64) ** -small
    return int(rng.choice(len(chances), p=chances / chances.sum()))


def _anywhere(
    shape: npt.NDArray[np.int64], rng: np.random.Generator, matrix: npt.NDArray[np.float64], *, read: Sequence[int]
) -> npt.NDArray[np.float64]:
    """Centre of a window that lies in the image whole, or in its middle where it is too large for that."""
    half = np.abs(matrix) @ (np.array(read) / 2)
    room = np.maximum(shape - 2 * half, 0)
    if _on_pixels(matrix):
        return np.asarray(rng.integers(0, room, endpoint=True) + np.where(room > 0, half, shape / 2))
    return np.asarray(rng.uniform(0, 1, len(shape)) * room + np.where(room > 0, half, shape / 2))


def _on_pixels(matrix: npt.NDArray[np.float64]) -> bool:
    """Without zoom and free rotation a window falls on whole pixels, and nothing is interpolated."""
    return np.allclose(matrix, np.rint(matrix), rtol=0, atol=1e-9)


def _resample(
    source: Tensor,
    matrix: npt.NDArray[np.float64],
    centre: npt.NDArray[np.float64],
    *,
    shape: Sequence[int],
    mode: str,
    padding: str,
) -> Tensor:
    """Sample (C, *in) at `centre + matrix @ (position - middle)` for each position of `shape`."""
    ndim, size = len(shape), np.array(source.shape[1:])
    theta = np.zeros((ndim, ndim + 1))
    # affine_grid works in coordinates from -1 to 1 with the last axis first
    theta[:, :ndim] = (matrix * np.array(shape)[None, :] / size[:, None])[::-1, ::-1]
    theta[:, ndim] = ((2 * centre - size) / size)[::-1]
    batch = source[None].float()
    if ndim == 1:
        raise ImageError("training works on 2D and 3D images.")
    grid = F.affine_grid(
        torch.from_numpy(theta[None].astype(np.float32)), [1, source.shape[0], *map(int, shape)], align_corners=False
    )
    return F.grid_sample(batch, grid, mode=mode, padding_mode=padding, align_corners=False)[0]


def _change_intensity(pixels: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    if strength == 0:
        return pixels
    gamma = 2.0 ** (rng.uniform(-0.6, 0.6) * strength)
    pixels = pixels.sign() * pixels.abs() ** gamma
    pixels = pixels * 2.0 ** (rng.uniform(-0.5, 0.5) * strength) + rng.uniform(-0.1, 0.1) * strength
    if rng.random() < 0.3:
        noise = torch.from_numpy(rng.standard_normal(pixels.shape, dtype=np.float32))
        pixels = pixels + noise * float(rng.uniform(0, 0.08) * strength)
    return pixels


def degraded(pixels: Tensor, rng: np.random.Generator, chance: float) -> Tensor:
    """What optics, cameras and specimens do to an image that is normalised: each of it with the same chance.

    Blur; noise of a grain of two pixels; a background that rises to one side; debris brighter than any object; hot pixels; and
    with a third of the chance inverted intensities.

    Parameters
    ----------
    pixels : Tensor
        (C, *shape) float32.
    """
    if chance == 0:
        return pixels
    values, shape = pixels.numpy().copy(), pixels.shape[1:]
    happens = rng.random(6) < chance
    if happens[0]:
        values = ndi.gaussian_filter(values, (0, *[rng.uniform(0.4, 1.6)] * len(shape)))
    if happens[1]:
        grain = ndi.gaussian_filter(rng.standard_normal(values.shape, np.float32), (0, *[rng.uniform(0.5, 1.0)] * len(shape)))
        values = values + grain * np.float32(rng.uniform(0, 0.06) / grain.std())
    if happens[2]:
        rise = _summed([np.linspace(0, rng.uniform(-1, 1), edge) for edge in shape])
        values = values + (rise - rise.min()) * np.float32(rng.uniform(0, 0.3))
    if happens[3]:
        for _ in range(rng.integers(1, 4)):
            radius = rng.uniform(1, 12)
            square = _summed([((np.arange(edge) - rng.uniform(0, edge)) / radius) ** 2 for edge in shape])
            values = values + np.exp(-square) * np.float32(rng.uniform(0.3, 3))
    if happens[4]:
        hot = rng.random(shape, np.float32) < rng.uniform(0, 0.002)
        values = np.where(hot, np.float32(rng.uniform(1, 4)), values)
    if rng.random() < chance / 3:
        values = np.float32(1) - values
    return torch.from_numpy(np.ascontiguousarray(np.clip(values, *CLIP), dtype=np.float32))


def _summed(profiles: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """An array whose values are the sum of a profile along each axis."""
    total = profiles[0]
    for profile in profiles[1:]:
        total = total[..., None] + profile
    return total.astype(np.float32)
