"""A picture of a segmentation: image, embedding and instances side by side, with the seams of the tiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from skimage.color import hsv2rgb
from skimage.segmentation import find_boundaries

from napari_shiftseg.colours import embedding_colours

if TYPE_CHECKING:
    from napari_shiftseg.segmentation import Segmentation

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
    lattice = result.plan.lattice
    position = tuple(0 for axis in result.axes[: -lattice.ndim])
    middle = tuple(size // 2 for size in result.labels.shape[len(position) : -2])
    channels = result.record["settings"]["channels"]
    view = result.image.frames(lattice.ndim, None if channels is None else tuple(channels))[0].view
    raw = np.asarray(view[(0, *middle, slice(None), slice(None))])
    embedding = None
    if result.embedding is not None:
        embedding = result.embedding[(slice(None), *position, *middle)]
    return draw_picture(
        raw,
        result.labels[(*position, *middle)],
        embedding,
        seams=result.plan.seams()[-2:],
    )


def draw_picture(
    raw: npt.NDArray[np.generic],
    labels: npt.NDArray[np.integer],
    embedding: npt.NDArray[np.float32] | None = None,
    *,
    seams: Sequence[Sequence[int]] = ((), ()),
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

    Returns
    -------
    ndarray
        (height, width, 3) uint8.
    """
    grey = np.repeat(_grey(raw)[..., None], 3, axis=2)
    panels = [grey]
    if embedding is not None:
        dark = np.where(labels > 0, 1.0, 0.25)[..., None]
        panels.append(embedding_colours(embedding, labels > 0) / 255 * dark)
    panels.append(_over(grey, labels))
    zoom, step = _magnification(labels.shape)
    sized = [np.kron(panel[::step, ::step], np.ones((zoom, zoom, 1))) for panel in panels]
    for panel in sized[1:]:
        _draw_seams(panel, [[p * zoom // step for p in axis] for axis in seams])
    gap = np.ones((sized[0].shape[0], _GAP, 3))
    joined = np.concatenate([part for panel in sized for part in (gap, panel)][1:], axis=1)
    return np.asarray(np.rint(joined * 255), np.uint8)


def instance_colours(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
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


def _over(grey: npt.NDArray[np.float64], labels: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    colours = instance_colours(labels)
    mixed = np.where((labels > 0)[..., None], 0.45 * grey + 0.55 * colours, grey)
    return np.where(find_boundaries(labels, mode="inner")[..., None], colours, mixed)


def _magnification(shape: tuple[int, ...]) -> tuple[int, int]:
    longest = max(shape)
    return max(1, _SMALLEST // longest), max(1, -(-longest // _LARGEST))


def _draw_seams(panel: npt.NDArray[np.floating], seams: Sequence[Sequence[int]]) -> None:
    dashes = [np.arange(size) % 12 < 7 for size in panel.shape[:2]]
    for y in seams[0]:
        panel[y, dashes[1]] = 1.0
    for x in seams[1]:
        panel[dashes[0], x] = 1.0
