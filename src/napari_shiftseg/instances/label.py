"""From embedding to labels, on a lattice of windows that is fixed in the image and knows nothing of the tiles.

Each window is clustered with a margin of its surroundings; pixels of one mode that touch are one instance, also across the
border of two windows if their modes agree. Equal embeddings far apart are different instances: same-looking objects share
their few codes (Rumberger et al. 2021, Corollaries 2 and 3).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from skimage.measure import label as connected

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.events import Event, WindowDone, drain
from napari_shiftseg.instances.mean_shift import mean_shift

__all__ = ["LabelSettings", "label_instances", "label_steps"]

# Core of a clustering window and the surroundings that it sees, pixels.
_WINDOW = {1: 4096, 2: 256, 3: 64}
_HALO = {1: 256, 2: 64, 3: 24}


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """A wish for labels.

    Attributes
    ----------
    bandwidth : float
        Standard deviation of the mean-shift kernel, embedding units (pixels for coordinates).
    threshold : float
        Foreground probability from which a pixel can belong to an instance.
    min_size : int
        Smaller instances are dissolved into their neighbours or the background, pixels.
    coordinates : bool
        Whether the first `ndim` channels are offsets to which the pixel's coordinates are to be added.
    radius : float
        A pixel farther than this many bandwidths from all modes is decided last, by its neighbours.
    dip : float
        See `mean_shift`.
    min_density : float
        See `mean_shift`; kernel-weighted pixels.
    window, halo : int, optional
        Core edge and margin of a clustering window, pixels.
    """

    bandwidth: float = 0.75
    threshold: float = 0.5
    min_size: int = 16
    coordinates: bool = False
    radius: float = 3.0
    dip: float = 0.95
    min_density: float = 4.0
    window: int | None = None
    halo: int | None = None

    def lattice(self, ndim: int) -> tuple[int, int]:
        """Core edge of the clustering windows, which start at multiples of it, and the margin that each sees, pixels."""
        return self.window or _WINDOW[ndim], _HALO[ndim] if self.halo is None else self.halo


def label_instances(
    embedding: Any,
    foreground: Any = None,
    bandwidth: float | None = None,
    *,
    settings: LabelSettings | None = None,
    on_event: Callable[[Event], None] | None = None,
    **wishes: Any,
) -> npt.NDArray[np.uint32]:
    """Instances of an embedding.

    Parameters
    ----------
    embedding : array-like
        (E, *shape) floating point; read window by window.
    foreground : array-like, optional
        (*shape) probabilities or a mask; without it all pixels can belong to an instance.
    bandwidth : float, optional
        Standard deviation of the mean-shift kernel, embedding units; None takes that of `settings`.
    settings : LabelSettings, optional
        All other settings; `bandwidth` and further keywords win over it.
    on_event : callable, optional
        Called with a `WindowDone` per clustering window.

    Returns
    -------
    ndarray
        (*shape) uint32; 0 is the background, instances are numbered 1, 2, ... in raster order of their first pixel.

    Raises
    ------
    SettingsError
        If shapes do not match or a value cannot work.

    Notes
    -----
    Windows lie at multiples of their edge from pixel 0 whatever the tile plan was, so labels depend on the embedding alone.
    """
    if bandwidth is not None:
        wishes["bandwidth"] = bandwidth
    try:
        chosen = replace(settings or LabelSettings(), **wishes)
    except TypeError as exc:
        raise SettingsError(f"label_instances knows no such setting ({exc}).") from exc
    return drain(label_steps(embedding, foreground, chosen), on_event)


def label_steps(
    embedding: Any, foreground: Any, settings: LabelSettings
) -> Generator[WindowDone, None, npt.NDArray[np.uint32]]:
    """Generator form of `label_instances`: yields a `WindowDone` per window, returns the labels."""
    shape = tuple(embedding.shape[1:])
    _check(shape, foreground, settings)
    ndim = len(shape)
    edge, halo = settings.lattice(ndim)
    corners = list(product(*(range(0, size, edge) for size in shape)))
    pieces = np.zeros(shape, np.int64)  # touching pixels of one mode of one window
    modes = [np.zeros((1, embedding.shape[0]))]  # the mode of each piece; piece 0 is the background
    known = 1
    for index, corner in enumerate(corners):
        core = tuple(slice(c, min(c + edge, n)) for c, n in zip(corner, shape, strict=True))
        found, centres = _cluster_window(embedding, foreground, core, halo, settings)
        local = connected(found, connectivity=ndim, background=0)
        ids, first = np.unique(local, return_index=True)
        owner = found.ravel()[first][ids > 0]
        pieces[core] = np.where(local > 0, local + known - 1, 0)
        modes.append(centres[owner - 1])
        known += len(owner)
        yield WindowDone(done=index + 1, total=len(corners), window=core)
    joined = _join(pieces, np.concatenate(modes), edge, settings.bandwidth)
    return _finish(joined, foreground, settings)


def _check(shape: Sequence[int], foreground: Any, settings: LabelSettings) -> None:
    if len(shape) not in _WINDOW:
        raise SettingsError(f"the embedding has {len(shape)} spatial axes; give (E, *shape) with 1 to 3.")
    if foreground is not None and tuple(foreground.shape) != tuple(shape):
        raise SettingsError(
            f"the foreground has shape {tuple(foreground.shape)}, the embedding {tuple(shape)}; give equal ones."
        )
    if not settings.bandwidth > 0 or not settings.radius > 0:
        raise SettingsError(f"bandwidth is {settings.bandwidth}, radius {settings.radius}; give positive numbers.")
    if (settings.window is not None and settings.window < 1) or (settings.halo is not None and settings.halo < 0):
        raise SettingsError(
            f"window is {settings.window}, halo {settings.halo}; give a window of 1 px and a halo of 0 px or more."
        )


def _cluster_window(
    embedding: Any, foreground: Any, core: tuple[slice, ...], halo: int, settings: LabelSettings
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Mode of each pixel of the core (0: none, counted from 1), found with the pixels around it."""
    shape = embedding.shape[1:]
    seen = tuple(slice(max(0, s.start - halo), min(n, s.stop + halo)) for s, n in zip(core, shape, strict=True))
    mask = _mask(foreground, seen, settings.threshold)
    if mask is None:
        mask = np.ones(tuple(s.stop - s.start for s in seen), bool)
    values = np.asarray(embedding[(slice(None), *seen)], np.float64)
    points = values[:, mask].T  # (N, E)
    if settings.coordinates:
        places = np.nonzero(mask)
        for axis, part in enumerate(seen):
            points[:, axis] += places[axis] + part.start
    found = mean_shift(
        points,
        settings.bandwidth,
        radius=settings.radius,
        min_density=settings.min_density,
        dip=settings.dip,
    )
    modes = np.zeros(mask.shape, np.int64)
    modes[mask] = found.assignment + 1
    inner = tuple(slice(c.start - s.start, c.stop - s.start) for c, s in zip(core, seen, strict=True))
    return modes[inner], found.modes


def _mask(foreground: Any, window: tuple[slice, ...], threshold: float) -> npt.NDArray[np.bool_] | None:
    if foreground is None:
        return None
    block = np.asarray(foreground[window])
    return block.astype(bool) if block.dtype == bool else block >= threshold


def _join(pieces: npt.NDArray[np.int64], modes: npt.NDArray[np.float64], edge: int, bandwidth: float) -> npt.NDArray[np.int64]:
    """Give pieces that touch across a border of two windows one number if their modes lie within a bandwidth."""
    links = [np.empty((0, 2), np.int64)]
    ndim = pieces.ndim
    for axis in range(ndim):
        for border in range(edge, pieces.shape[axis], edge):
            before, after = np.take(pieces, border - 1, axis), np.take(pieces, border, axis)
            # also diagonal neighbours, as inside a window
            for shift in product((-1, 0, 1), repeat=ndim - 1):
                a = before[tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(shift, before.shape, strict=True))]
                b = after[tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(shift, after.shape, strict=True))]
                both = (a > 0) & (b > 0)
                links.append(np.unique(np.stack([a[both], b[both]], axis=1), axis=0))
    pairs = np.unique(np.concatenate(links), axis=0)
    agree = np.linalg.norm(modes[pairs[:, 0]] - modes[pairs[:, 1]], axis=1) < bandwidth
    a, b = pairs[agree].T
    graph = coo_matrix((np.ones(len(a), bool), (a, b)), shape=(len(modes), len(modes)))
    _, group = connected_components(graph, directed=False)
    group = group.astype(np.int64) + 1
    group[0] = 0
    return np.asarray(group[pieces])


def _finish(labels: npt.NDArray[np.int64], foreground: Any, settings: LabelSettings) -> npt.NDArray[np.uint32]:
    """Dissolve what is too small, give undecided foreground to the nearest instance it touches, number the rest."""
    sizes = np.bincount(labels.ravel())
    small = sizes < settings.min_size
    small[0] = False
    kept = np.where(small[labels], 0, labels)
    mask = _mask(foreground, tuple(slice(0, n) for n in labels.shape), settings.threshold)
    undecided = (kept == 0) & (mask if mask is not None else labels > 0)
    if undecided.any() and kept.any():
        # boundary pixels mix two codes and are decided last
        distance, nearest = ndimage.distance_transform_edt(kept == 0, return_indices=True)
        reach = undecided & (distance <= 3.0)
        kept[reach] = kept[tuple(axis[reach] for axis in nearest)]
    return _number(kept)


def _number(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """Labels 1, 2, ... in raster order of their first pixel."""
    ids, first, index = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(np.where(ids == 0, -1, first), kind="stable")
    rank = np.empty(len(ids), np.uint32)
    rank[order] = np.arange(len(ids), dtype=np.uint32) + (0 if 0 in ids else 1)
    return np.asarray(rank[index.reshape(labels.shape)])
