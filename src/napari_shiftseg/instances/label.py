"""From embedding to labels, on a lattice of windows that is fixed in the image and knows nothing of the tiles.

Each window is clustered with a margin of its surroundings; pixels of one mode that touch are one instance, also across the
border of two windows if their modes agree. Equal embeddings far apart are different instances: same-looking objects share
their few codes (Rumberger et al. 2021, Corollaries 2 and 3). What is undecided then joins an instance or becomes one, so that
each connected piece of foreground of `min_size` pixels or more is labelled to its last pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_shiftseg.arguments import told
from napari_shiftseg.errors import DeviceError, OutOfMemoryError, SettingsError
from napari_shiftseg.events import Event, WindowDone, drain
from napari_shiftseg.instances.constants import MOST_THREADS
from napari_shiftseg.instances.pieces import LabelSettings, check_embedding, fragments_of, labels_of, piece_steps
from napari_shiftseg.machine import byte_text, cores, free_memory
from napari_shiftseg.network.device import choose_device
from napari_shiftseg.views import ArrayLike, as_array


@told
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
    OutOfMemoryError
        If there is no room for the labels.

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
    needed, free = 4 * prod(embedding.shape[1:]), free_memory()
    if 0 < free < needed:
        raise OutOfMemoryError(
            f"labels of {tuple(embedding.shape[1:])} px take {byte_text(needed)}, and {byte_text(free)} are free; "
            "label parts of it, or segment the image out of core."
        )
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
