"""An embedding as colours: pixels of one object look alike, and one scale holds for the whole image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from skimage.color import hsv2rgb

# pixels that decide axes and scale of the colours; a regular sample of them is the same in each run
_SAMPLE = 100_000

Shares: TypeAlias = npt.NDArray[np.floating | np.bool_]
Paint: TypeAlias = Callable[[npt.NDArray[np.floating]], npt.NDArray[np.float64]]


def embedding_colours(embedding: npt.NDArray[np.floating], foreground: Shares | None = None) -> npt.NDArray[np.uint8]:
    """Colours of an embedding.

    Two channels become hue (direction) and saturation (length); more are projected on their first three principal
    components, red the first.

    Parameters
    ----------
    embedding : ndarray
        (E, *shape) float.
    foreground : ndarray, optional
        (*shape) probability; dims the background, whose embedding means nothing.

    Returns
    -------
    ndarray
        (*shape, 3) uint8.
    """
    sample = _sample(embedding, foreground)
    centre = sample.mean(axis=0)
    paint = (_wheel if embedding.shape[0] == 2 else _components)(centre, sample)
    colours = np.empty((*embedding.shape[1:], 3), np.uint8)
    for row in range(embedding.shape[1]):  # one slab at a time: floats of the whole image would take twelve times as much
        painted = paint(np.moveaxis(embedding[:, row], 0, -1))
        if foreground is not None:
            painted = painted * np.asarray(foreground[row])[..., None]
        colours[row] = np.clip(np.rint(painted * 255), 0, 255)
    return colours


def value_range(embedding: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Lowest and highest value of a sample of the embedding, for contrast; never equal."""
    sample = _sample(embedding, None)
    low, high = float(sample.min()), float(sample.max())
    return low, high if high > low else low + 1.0


def _sample(embedding: npt.NDArray[np.floating], foreground: Shares | None) -> npt.NDArray[np.float64]:
    flat = embedding.reshape(embedding.shape[0], -1)
    step = max(1, flat.shape[1] // _SAMPLE)
    sample = flat[:, ::step].T.astype(np.float64)
    if foreground is not None:
        inside = foreground.reshape(-1)[::step] > 0.5
        if inside.sum() > embedding.shape[0]:
            sample = sample[inside]
    return np.asarray(sample)


def _wheel(centre: npt.NDArray[np.float64], sample: npt.NDArray[np.float64]) -> Paint:
    reach = max(float(np.percentile(np.linalg.norm(sample - centre, axis=1), 99)), 1e-9)

    def paint(pixels: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        y, x = np.moveaxis(pixels - centre, -1, 0)
        hue = (np.arctan2(y, x) / (2 * np.pi)) % 1.0
        saturation = np.clip(np.hypot(y, x) / reach, 0, 1)
        return np.asarray(hsv2rgb(np.stack([hue, saturation, np.ones_like(hue)], axis=-1)))

    return paint


def _components(centre: npt.NDArray[np.float64], sample: npt.NDArray[np.float64]) -> Paint:
    _, _, rows = np.linalg.svd(sample - centre, full_matrices=False)
    axes = rows[:3] * np.sign(rows[:3, np.abs(rows[:3]).argmax(axis=1)].diagonal())[:, None]  # svd leaves the sign open
    seen = (sample - centre) @ axes.T
    low, high = np.percentile(seen, (1, 99), axis=0)
    span = np.where(high > low, high - low, 1.0)

    def paint(pixels: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        found = ((pixels - centre) @ axes.T - low) / span
        if found.shape[-1] < 3:  # a single channel is shown in grey
            found = np.repeat(found[..., :1], 3, axis=-1)
        return np.asarray(np.clip(found, 0, 1))

    return paint
