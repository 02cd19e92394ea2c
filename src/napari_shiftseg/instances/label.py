"""From embedding to labels, on a lattice of windows that is fixed in the image and knows nothing of the tiles.

Each window is clustered with a margin of its surroundings; pixels of one mode that touch are one instance, also across the
border of two windows if their modes agree. Equal embeddings far apart are different instances: same-looking objects share
their few codes (Rumberger et al. 2021, Corollaries 2 and 3). What is undecided then joins an instance or becomes one, so that
each connected piece of foreground of `min_size` pixels or more is labelled to its last pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_shiftseg.errors import DeviceError, SettingsError
from napari_shiftseg.events import Event, WindowDone, drain
from napari_shiftseg.instances.constants import MOST_INSTANCES, MOST_THREADS, NEW, WINDOW
from napari_shiftseg.instances.pieces import Fragments, LabelSettings, fragments_of, piece_steps
from napari_shiftseg.instances.undecided import placed, rest_of, settled
from napari_shiftseg.machine import cores
from napari_shiftseg.network.device import choose_device
from napari_shiftseg.views import ArrayLike, as_array


def label_instances(
    embedding: ArrayLike,
    foreground: ArrayLike | None = None,
    bandwidth: float | None = None,
    *,
    seeds: ArrayLike | None = None,
    bandwidths: ArrayLike | None = None,
    settings: LabelSettings | None = None,
    on_event: Callable[[Event], None] | None = None,
    device: str = "cpu",
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
        Standard deviation of the mean-shift kernel, embedding units; None takes that of `settings`. With `bandwidths` it means
        nothing.
    seeds, bandwidths : array-like, optional
        (*shape) what a network says besides, both or neither: how near a pixel's embedding is to the centre of its object, from
        0 to 1, and the standard deviation of the object's own Gaussian, embedding units.
    settings : LabelSettings, optional
        All other settings; `bandwidth` and further keywords win over it.
    on_event : callable, optional
        Called with a `WindowDone` per clustering window.
    device : str
        Where windows are clustered: "cpu", or a CUDA device, where the last digits of sums vary.

    Returns
    -------
    ndarray
        (*shape) uint32; 0 is the background, instances are numbered 1, 2, ... in raster order of their first pixel that was
        not decided by its neighbours.

    Raises
    ------
    SettingsError
        If shapes do not match or a value cannot work.
    DeviceError
        If the device is not there or has no double precision.

    Notes
    -----
    Windows lie at multiples of their edge from pixel 0 whatever the tile plan was, so labels depend on the embedding alone.

    >>> embedding = np.repeat([0.0, 3.0, 0.0], 5)[None, None] * np.ones((1, 4, 1))  # equal codes apart are two instances
    >>> label_instances(embedding, bandwidth=0.5)[0].tolist()
    [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3]
    """
    embedding = as_array(embedding, "the embedding", error=SettingsError)
    foreground = None if foreground is None else as_array(foreground, "the foreground", error=SettingsError)
    if embedding.shape[:1] == (0,):
        raise SettingsError(f"the embedding has shape {tuple(embedding.shape)} and no channel; give (E, *shape).")
    if bandwidth is not None:
        wishes["bandwidth"] = bandwidth
    wishes["seeds"] = seeds is not None or bandwidths is not None
    try:
        chosen = replace(settings or LabelSettings(), **wishes)
    except TypeError as exc:
        raise SettingsError(f"label_instances knows no such setting ({exc}).") from exc
    found = choose_device(device)
    if found.kind == "mps":
        raise DeviceError("clustering needs double precision, which Apple's GPUs lack; give device='cpu'.")
    return drain(
        label_steps(embedding, foreground, chosen, seeds=seeds, bandwidths=bandwidths, device=found.torch_device), on_event
    )


def label_steps(
    embedding: ArrayLike,
    foreground: ArrayLike | None,
    settings: LabelSettings,
    *,
    seeds: ArrayLike | None = None,
    bandwidths: ArrayLike | None = None,
    device: str | torch.device = "cpu",
) -> Generator[WindowDone, None, npt.NDArray[np.uint32]]:
    """Generator form of `label_instances`: yields a `WindowDone` per window, returns the labels."""
    shape = tuple(embedding.shape[1:])
    check_embedding(shape, foreground, settings)
    found = yield from piece_steps(
        embedding,
        foreground,
        settings,
        seeds=seeds,
        bandwidths=bandwidths,
        threads=min(MOST_THREADS, cores()),
        device=device,
    )
    fragments = fragments_of(found, foreground, settings)
    del found  # as large as the rest will be
    return labels_of(fragments, settings)


def labels_of(fragments: Fragments, settings: LabelSettings) -> npt.NDArray[np.uint32]:
    """Labels of a whole image from its fragments."""
    codes = fragments.codes
    numbers = numbered(fragments.sizes, fragments.first, settings.min_size)
    table = np.concatenate([np.zeros(2, np.uint32), numbers])
    labels = settled(codes, table, settings.lattice(codes.ndim)[0])
    rest = rest_of(labels, codes)
    if len(rest.sizes):
        joins = placed(rest.sizes, rest.border, rest.contacts, min_size=settings.min_size, seeds=settings.seeds)
        again, parts = numbered_again(np.sort(fragments.first[numbers > 0]), joins, rest.first)
        labels, there = again[labels], rest.pixels > 0
        labels[there] = parts[rest.pixels[there] - 1]
    return labels


def numbered(sizes: npt.NDArray[np.int64], first: npt.NDArray[np.int64], min_size: int) -> npt.NDArray[np.uint32]:
    """Label of each instance: 1, 2, ... in raster order of the first pixel, 0 for those that are too small.

    SettingsError if 32 bits cannot count them.

    Parameters
    ----------
    sizes, first : ndarray
        (K,) pixels, and raster index of the first one.
    min_size : int
        Pixels.
    """
    kept = np.flatnonzero(sizes >= max(1, min_size))
    if len(kept) > MOST_INSTANCES:
        raise SettingsError(
            f"the image has {len(kept)} instances, and 32-bit labels hold {MOST_INSTANCES}; segment it in parts, or raise "
            f"min_size (now {min_size} px)."
        )
    numbers = np.zeros(len(sizes), np.uint32)
    numbers[kept[np.argsort(first[kept], kind="stable")]] = np.arange(1, len(kept) + 1)
    return numbers


def numbered_again(
    first: npt.NDArray[np.int64], joins: npt.NDArray[np.int64], starts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Labels of all instances once the rest is placed, again in raster order of their first pixel.

    Parameters
    ----------
    first : ndarray
        (K,) raster index of the first pixel of the instances 1, 2, ... so far.
    joins : ndarray
        (P,) what `placed` says of each part of the rest.
    starts : ndarray
        (P,) raster index of its first pixel.

    Returns
    -------
    again : ndarray
        (K + 1,) uint32, label now of each label so far, 0 of 0.
    parts : ndarray
        (P,) uint32, label of each part.
    """
    new = joins == NEW
    every = np.concatenate([first, starts[new]])
    numbers = numbered(np.ones(len(every), np.int64), every, 1)
    again = np.append(np.uint32(0), numbers[: len(first)])
    parts = again[np.where(new, 0, joins)]
    parts[new] = numbers[len(first) :]
    return again, parts


def check_embedding(shape: Sequence[int], foreground: ArrayLike | None, settings: LabelSettings) -> None:
    """Refuse shapes and settings that cannot work."""
    if len(shape) not in WINDOW:
        raise SettingsError(f"the embedding has {len(shape)} spatial axes; give (E, *shape) with 1 to 3.")
    if foreground is not None and tuple(foreground.shape) != tuple(shape):
        raise SettingsError(
            f"the foreground has shape {tuple(foreground.shape)}, the embedding {tuple(shape)}; give equal ones."
        )
    if not settings.factor > 0:
        raise SettingsError(f"factor is {settings.factor}; give a positive one, by which the bandwidths are multiplied.")
    numbers = (settings.bandwidth, settings.radius)
    if not all(isinstance(value, int | float) and 0 < value < float("inf") for value in numbers):
        raise SettingsError(f"bandwidth is {settings.bandwidth}, radius {settings.radius}; give positive numbers.")
    if (settings.window is not None and settings.window < 1) or (settings.halo is not None and settings.halo < 0):
        raise SettingsError(
            f"window is {settings.window}, halo {settings.halo}; give a window of 1 px and a halo of 0 px or more."
        )
