"""Random training windows with their context, augmented, from images with ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_shiftseg.errors import ImageError
from napari_shiftseg.network.constants import IGNORE
from napari_shiftseg.network.normalise import Normalisation


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainImage:
    """An image with ground truth, normalised as a whole."""

    pixels: Tensor  # (C, *shape) float32
    labels: Tensor  # (*shape) int32, 0 is the background
    centres: npt.NDArray[np.int64]  # (K, ndim) a pixel of each instance

    @classmethod
    def from_arrays(cls, image: npt.NDArray[Any], labels: npt.NDArray[Any], normalisation: Normalisation) -> TrainImage:
        """Normalise (C, *shape) or (*shape) intensities and find the instances of (*shape) labels.

        Labels below 0 and pixels without data count for nothing.
        """
        if image.ndim == labels.ndim:
            image = image[None]
        if image.shape[1:] != labels.shape:
            raise ImageError(f"an image of shape {image.shape} does not fit labels of shape {labels.shape}.")
        ids, first, index = np.unique(labels, return_index=True, return_inverse=True)
        numbers = np.where(ids > 0, np.cumsum(ids > 0), np.where(ids == 0, 0, IGNORE)).astype(np.int32)
        relabelled = numbers[index.reshape(labels.shape)]
        centres = np.stack(np.unravel_index(first[ids > 0], labels.shape), axis=1)
        limits = normalisation.limits(image)
        missing = limits.missing(image)
        if missing is not None:
            relabelled[missing] = IGNORE
        pixels = limits.apply(image)
        return cls(pixels=torch.from_numpy(pixels), labels=torch.from_numpy(relabelled), centres=centres)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes that leave the instances what they are."""

    scale: float = 1.4  # largest zoom factor; its inverse is the smallest
    rotate: bool = True  # any rotation in the plane of the last two axes, and flips
    intensity: float = 1.0  # strength of random gain, offset, gamma and noise; 0 for none


def sampling_weights(images: Sequence[TrainImage]) -> npt.NDArray[np.float64]:
    """Probability per image: the square root of its number of instances, so that neither kind of image drowns."""
    weights = np.sqrt([max(1, len(image.centres)) for image in images])
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
    centre = (
        _anywhere(shape, rng, matrix, read=read) if real_context else _random_centre(image, rng, matrix, write=np.array(write))
    )
    pixels = _resample(image.pixels, matrix, centre, shape=read, mode="bilinear", padding="reflection")
    # labels move up by one, so that the zeros beyond the image can be told from the background
    moved = _resample(image.labels[None] + 1, matrix, centre, shape=write, mode="nearest", padding="zeros")[0]
    labels = moved.round().long() - 1
    return _change_intensity(pixels, rng, augmentation.intensity), labels


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
    image: TrainImage, rng: np.random.Generator, matrix: npt.NDArray[np.float64], *, write: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    shape = np.array(image.labels.shape)
    if len(image.centres) and rng.random() < 0.8:
        centre = image.centres[rng.integers(len(image.centres))] + rng.uniform(-0.5, 0.5, len(shape)) * write * 0.5
    else:
        centre = rng.uniform(0, shape)
    half = np.abs(matrix) @ (write / 2)
    centre = np.where(2 * half < shape, np.clip(centre, half, shape - half), shape / 2)
    return np.rint(centre - half) + half if _on_pixels(matrix) else centre


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
