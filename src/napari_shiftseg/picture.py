"""A picture of a segmentation: image, embedding and instances side by side, with the seams of the tiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from skimage.color import hsv2rgb
from skimage.segmentation import find_boundaries

if TYPE_CHECKING:
    from napari_shiftseg.segmentation import Segmentation

__all__ = ["draw_picture", "draw_segmentation", "embedding_colours", "encode_png", "instance_colours"]

Pixels = npt.NDArray[np.uint8]

_SMALLEST, _LARGEST = 400, 1200  # edges of a panel, px
_GAP = 8  # between panels, px
_GOLDEN = 0.61803398875  # steps of hue that never come close to each other


def draw_segmentation(result: Segmentation) -> Pixels:
    """Panels of the first frame of a segmentation; of a stack the middle plane.

    Returns
    -------
    ndarray
        (height, width, 3) uint8.
    """
    spec = result.plan.spec
    position = tuple(0 for axis in result.axes[: -spec.ndim])
    middle = tuple(size // 2 for size in result.labels.shape[len(position) : -2])
    channels = result.record["settings"]["channels"]
    view = result.image.frames(spec.ndim, None if channels is None else tuple(channels))[0].view
    raw = np.asarray(view[(0, *middle, slice(None), slice(None))])
    embedding = None
    if result.embedding is not None:
        embedding = result.embedding[(slice(None), *position, *middle)]
    return draw_picture(
        raw,
        result.labels[(*position, *middle)],
        embedding,
        seams=result.plan.seams()[-2:],
        offsets=(spec.ndim - 2, spec.ndim - 1) if spec.coordinates else None,
    )


def draw_picture(
    raw: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    embedding: npt.NDArray[np.float32] | None = None,
    *,
    seams: Sequence[Sequence[int]] = ((), ()),
    offsets: tuple[int, int] | None = None,
) -> Pixels:
    """Panels side by side: image, embedding where there is one, instances; seams are dashed lines.

    Parameters
    ----------
    raw, labels : ndarray
        (y, x).
    embedding : ndarray, optional
        (E, y, x).
    seams : sequence of sequence of int
        Positions per axis, pixels.
    offsets : (int, int), optional
        Channels of the embedding that are offsets to a centre along y and x, pixels.

    Returns
    -------
    ndarray
        (height, width, 3) uint8.
    """
    grey = np.repeat(_grey(raw)[..., None], 3, axis=2)
    panels = [grey]
    if embedding is not None:
        panels.append(_darken(embedding_colours(embedding, labels > 0, offsets=offsets), labels > 0))
    panels.append(_over(grey, labels))
    zoom, step = _magnification(labels.shape)
    sized = [np.kron(panel[::step, ::step], np.ones((zoom, zoom, 1))) for panel in panels]
    for panel in sized[1:]:
        _draw_seams(panel, [[p * zoom // step for p in axis] for axis in seams])
    gap = np.ones((sized[0].shape[0], _GAP, 3))
    joined = np.concatenate([part for panel in sized for part in (gap, panel)][1:], axis=1)
    return np.asarray(np.rint(joined * 255), np.uint8)


def embedding_colours(
    embedding: npt.NDArray[np.float32],
    mask: npt.NDArray[np.bool_] | None = None,
    *,
    offsets: tuple[int, int] | None = None,
) -> npt.NDArray[np.float64]:
    """Embedding as colours: the direction of offsets as hue, or else the three main components as red, green and blue.

    Parameters
    ----------
    embedding : ndarray
        (E, y, x).
    mask : ndarray, optional
        (y, x), the pixels that the colours are scaled for.
    offsets : (int, int), optional
        Channels that are offsets along y and x.

    Returns
    -------
    ndarray
        (y, x, 3), 0 to 1.
    """
    chosen = np.ones(embedding.shape[1:], bool) if mask is None or not mask.any() else mask
    if offsets is not None:
        dy, dx = embedding[list(offsets)].astype(np.float64)
        length = np.hypot(dy, dx)
        strength = np.clip(length / max(float(np.percentile(length[chosen], 95)), 1e-6), 0, 1)
        hue = np.arctan2(dy, dx) / (2 * np.pi) + 0.5
        return np.asarray(hsv2rgb(np.stack([hue, strength, np.ones_like(hue)], axis=-1)))
    flat = embedding.reshape(len(embedding), -1).T.astype(np.float64)
    points = flat[chosen.ravel()]
    _, axes = np.linalg.eigh(np.atleast_2d(np.cov(points, rowvar=False)))
    axes *= np.where(axes.sum(axis=0) < 0, -1, 1)  # an eigenvector has no sign of its own
    scores = (flat - points.mean(axis=0)) @ axes[:, ::-1][:, :3]
    low, high = np.percentile(scores[chosen.ravel()], (2, 98), axis=0)
    colours = np.full((len(flat), 3), 0.5)
    colours[:, : scores.shape[1]] = np.clip((scores - low) / np.maximum(high - low, 1e-9), 0, 1)
    return colours.reshape(*chosen.shape, 3)


def instance_colours(labels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """A colour per instance, equal numbers equal; the background is black. (..., 3), 0 to 1."""
    hue = np.mod(labels * _GOLDEN, 1.0)
    value = np.where(labels > 0, 0.75 + 0.25 * np.mod(labels * _GOLDEN**2, 1.0), 0.0)
    return np.asarray(hsv2rgb(np.stack([hue, np.full_like(hue, 0.8), value], axis=-1)))


def encode_png(picture: Pixels) -> bytes:
    """A picture as the bytes of a PNG file."""
    from imagecodecs import png_encode

    return bytes(png_encode(np.ascontiguousarray(picture)))


def _grey(raw: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    low, high = np.percentile(raw, (0.5, 99.8))
    scaled = (raw.astype(np.float64) - low) / max(float(high - low), 1e-9)
    return np.asarray(np.clip(scaled, 0, 1) ** 0.7)


def _darken(colours: npt.NDArray[np.float64], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    return np.asarray(colours * np.where(mask, 1.0, 0.25)[..., None])


def _over(grey: npt.NDArray[np.float64], labels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    colours = instance_colours(labels)
    mixed = np.where((labels > 0)[..., None], 0.45 * grey + 0.55 * colours, grey)
    return np.where(find_boundaries(labels, mode="inner")[..., None], colours, mixed)


def _magnification(shape: tuple[int, ...]) -> tuple[int, int]:
    longest = max(shape)
    return max(1, _SMALLEST // longest), max(1, -(-longest // _LARGEST))


def _draw_seams(panel: npt.NDArray[np.floating[Any]], seams: Sequence[Sequence[int]]) -> None:
    dashes = [np.arange(size) % 12 < 7 for size in panel.shape[:2]]
    for y in seams[0]:
        panel[y, dashes[1]] = 1.0
    for x in seams[1]:
        panel[dashes[0], x] = 1.0
