"""Pieces of instances: what the clustering windows of a block find, joined as far as the block goes.

A piece is a set of touching pixels of one mode of one window; a fragment is what the pieces of one block become once those
that touch and whose modes agree are joined. The windows lie at multiples of their edge in the image, wherever a block begins.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from skimage.measure import label as connected

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.events import WindowDone, side_by_side
from napari_shiftseg.instances.constants import (
    HALO,
    LEAST_SEED,
    MOST_INSTANCES,
    NEW,
    UNDECIDED,
    VALLEY,
    WINDOW,
    WINDOW_BYTES,
    WINDOW_OF_PLACES,
)
from napari_shiftseg.instances.contacts import Window, agreeing, touching
from napari_shiftseg.instances.mean_shift import mean_shift
from napari_shiftseg.instances.seeds import seeded_modes
from napari_shiftseg.instances.undecided import first_pixels, placed, rest_of, settled, without_islands
from napari_shiftseg.network.device import memory_errors
from napari_shiftseg.views import ArrayLike


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """A wish for labels."""

    bandwidth: float = 0.75  # standard deviation of the mean-shift kernel, embedding units (pixels for coordinates)
    threshold: float = 0.5  # foreground probability from which a pixel can belong to an instance
    # smaller instances go to one that they touch; where they touch none, they are background. A connected piece of foreground
    # of so many pixels or more ends with a label, pixels.
    min_size: int = 16
    coordinates: bool = False  # whether the first `ndim` channels are offsets to which the pixel's coordinates are to be added
    radius: float = 3.0  # a pixel farther than this many bandwidths from all modes is decided last, by its neighbours
    # see `mean_shift`. Below 1, pixels that only pass by the mode of an instance elsewhere are undecided, too, if they are a
    # part of what they touch or mix the codes of two (with coordinates in any case).
    dip: float = 0.95
    min_density: float = 4.0  # see `mean_shift`; kernel-weighted pixels
    # Whether the network says a seed and a bandwidth for each pixel. Objects are then found by these: `bandwidth`, `radius`,
    # `dip` and `min_density` mean nothing, and foreground without the seeds of an object is background.
    seeds: bool = False
    factor: float = 1.0  # on the bandwidths that the network says; below 1 more objects are told apart
    # Mean seed of the pixels of an object, 0 to 1, from which it is one; a lower one lets doubtful objects in.
    least_seed: float = LEAST_SEED
    # Two centres are those of one object where the density of the votes between them stays above this share of the lower of
    # theirs, 0 to 1; a larger one tells more objects apart.
    valley: float = VALLEY
    # window, halo: core edge and margin of a clustering window, pixels
    window: int | None = None
    halo: int | None = None

    def lattice(self, ndim: int) -> tuple[int, int]:
        """Core edge of the clustering windows, which start at multiples of it, and the margin that each sees, pixels."""
        usual = WINDOW_OF_PLACES if self.coordinates else WINDOW
        return self.window or usual[ndim], HALO[ndim] if self.halo is None else self.halo

    def window_bytes(self, ndim: int, channels: int) -> int:
        """What the clustering of one window of an embedding takes, bytes."""
        window, halo = self.lattice(ndim)
        base, pixel, channel = WINDOW_BYTES
        return int(base + (window + 2 * halo) ** ndim * (pixel + channel * channels))

    @property
    def agreement(self) -> float | None:
        """Distance within which the modes of two windows are one; None where each mode has its own."""
        return None if self.seeds else self.bandwidth


def check_embedding(shape: Sequence[int], foreground: ArrayLike | None, settings: LabelSettings) -> None:
    """Refuse shapes and settings that cannot work."""
    if len(shape) not in WINDOW:
        raise SettingsError(f"the embedding has {len(shape)} spatial axes; give (E, *shape) with 1 to 3.")
    if foreground is not None and tuple(foreground.shape) != tuple(shape):
        raise SettingsError(
            f"the foreground has shape {tuple(foreground.shape)}, the embedding {tuple(shape)}; give equal ones."
        )
    if not 0 < settings.factor < float("inf"):
        raise SettingsError(f"factor is {settings.factor}; give a positive one, by which the bandwidths are multiplied.")
    if not 0 <= settings.least_seed <= 1:
        raise SettingsError(f"least_seed is {settings.least_seed}; give the mean seed of an object, 0 to 1.")
    if not 0 <= settings.valley <= 1:
        raise SettingsError(f"valley is {settings.valley}; give a share of the lower of two densities, 0 to 1.")
    numbers = (settings.bandwidth, settings.radius)
    if not all(isinstance(value, int | float) and 0 < value < float("inf") for value in numbers):
        raise SettingsError(f"bandwidth is {settings.bandwidth}, radius {settings.radius}; give positive numbers.")
    if (settings.window is not None and settings.window < 1) or (settings.halo is not None and settings.halo < 0):
        raise SettingsError(
            f"window is {settings.window}, halo {settings.halo}; give a window of 1 px and a halo of 0 px or more."
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Pieces:
    """What the windows of a block found."""

    pixels: npt.NDArray[np.int64]  # (*core) int64, number of the piece, 0 for none
    # (P + 1, E) float64, the mode of each piece, with its bandwidth as one component more where the network says it; of piece
    # 0 zeros
    modes: npt.NDArray[np.float64]
    fragment: npt.NDArray[np.int64]  # (P + 1,) int64, fragment of each piece counted from 0; -1 for piece 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Fragments:
    """Fragments of a block as pixels, and what is known of each."""

    codes: npt.NDArray[np.int32]  # (*core) int32: 0 background, 1 undecided, k + 2 fragment k
    sizes: npt.NDArray[np.int64]  # (F,) int64, pixels
    first: npt.NDArray[np.int64]  # (F,) int64, first pixel in raster order of the image


def piece_steps(
    embedding: ArrayLike,
    foreground: ArrayLike | None,
    settings: LabelSettings,
    *,
    seeds: ArrayLike | None = None,
    bandwidths: ArrayLike | None = None,
    inner: Window | None = None,
    origin: Sequence[int] | None = None,
    threads: int = 1,
    device: torch.device | str = "cpu",
) -> Generator[WindowDone, None, Pieces]:
    """Cluster the windows of a block: yields a `WindowDone` per window, returns the `Pieces`.

    Parameters
    ----------
    embedding, foreground : array-like
        (E, *seen) and (*seen) or None: what the block sees, its core and the halo of the windows as far as the image goes.
    seeds, bandwidths : array-like, optional
        (*seen), both where `settings.seeds`.
    inner : tuple of slice, optional
        The core in these arrays; all of it by default.
    origin : sequence of int, optional
        Image pixel of the arrays' first one. The core begins at a multiple of the window edge.
    threads : int
        Windows that are clustered side by side; the result does not depend on it.
    device : torch.device or str
        Where they are clustered: the processor or a CUDA device. With seeds it is the processor.
    """
    seen = tuple(embedding.shape[1:])
    _check_said(seen, settings, seeds=seeds, bandwidths=bandwidths)
    said = None if seeds is None or bandwidths is None else (seeds, bandwidths)
    ndim = len(seen)
    inner = tuple(slice(0, n) for n in seen) if inner is None else inner
    origin = (0,) * ndim if origin is None else tuple(origin)
    edge, halo = settings.lattice(ndim)
    shape = tuple(part.stop - part.start for part in inner)
    corners = list(product(*(range(0, size, edge) for size in shape)))
    pieces = np.zeros(shape, np.int64)
    modes = [np.zeros((1, embedding.shape[0] + settings.seeds))]
    known = 1
    cores = [tuple(slice(c, min(c + edge, n)) for c, n in zip(corner, shape, strict=True)) for corner in corners]

    def cluster(core: Window) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        place = tuple(slice(c.start + i.start, c.stop + i.start) for c, i in zip(core, inner, strict=True))
        return _cluster_window(
            embedding, foreground, place, said=said, halo=halo, settings=settings, origin=origin, device=device
        )

    for index, (core, (local, centres)) in enumerate(zip(cores, side_by_side(cluster, cores, threads), strict=True)):
        there = local > 0
        pieces[core][there] = local[there] + (known - 1)
        modes.append(centres)
        known += len(centres)
        yield WindowDone(done=index + 1, total=len(corners), window=core)
    together = np.concatenate(modes)
    return Pieces(pixels=pieces, modes=together, fragment=_joined(pieces, together, edge, bandwidth=settings.agreement))


def fragments_of(
    found: Pieces,
    foreground: ArrayLike | None,
    settings: LabelSettings,
    *,
    corner: Sequence[int] | None = None,
    image_shape: Sequence[int] | None = None,
) -> Fragments:
    """Fragments of a block.

    Parameters
    ----------
    foreground : array-like or None
        (*core), probabilities or a mask.
    corner, image_shape : sequence of int, optional
        Image pixel at which the core begins, and the shape of the image; a block that is the whole image by default.
    """
    shape = found.pixels.shape
    # piece 0 is the background
    codes = np.where(found.fragment < 0, 0, found.fragment + 2).astype(np.int32)[found.pixels]
    undecided = codes == 0
    if foreground is not None:
        undecided &= mask_of(foreground, tuple(slice(0, n) for n in shape), settings.threshold)
    codes[undecided] = UNDECIDED
    count = int(found.fragment.max()) + 1
    places = np.flatnonzero(found.pixels)
    owners = found.fragment[found.pixels.ravel()[places]]
    first = first_pixels(owners, places, count, shape=shape, corner=corner, image_shape=image_shape)
    return Fragments(codes=codes, sizes=np.bincount(owners, minlength=count), first=first)


def mask_of(foreground: ArrayLike, window: Window, threshold: float) -> npt.NDArray[np.bool_]:
    """Where the foreground says that there is something."""
    block = np.asarray(foreground[window])
    return block.astype(bool) if block.dtype == bool else block >= threshold


def said_by(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Seeds and bandwidths of a network's outputs by name, as `label_instances` takes them; nothing unless there are both."""
    names = {"seeds": "seed", "bandwidths": "bandwidth"}
    return {to: outputs[name] for to, name in names.items()} if {*names.values()} <= {*outputs} else {}


def _check_said(
    shape: tuple[int, ...], settings: LabelSettings, *, seeds: ArrayLike | None, bandwidths: ArrayLike | None
) -> None:
    """Refuse one without the other, and shapes that do not match."""
    said = [None if values is None else np.shape(values) for values in (seeds, bandwidths)]
    if said != [shape if settings.seeds else None] * 2:
        raise SettingsError(
            f"seeds and bandwidths have shapes {said[0]} and {said[1]}, the embedding {shape}; give both with its "
            "shape, or neither."
        )


def _joined(
    pieces: npt.NDArray[np.int64], modes: npt.NDArray[np.float64], edge: int, *, bandwidth: float | None
) -> npt.NDArray[np.int64]:
    """Fragment of each piece: those that touch across a border of two windows are one if their modes agree."""
    links = [np.empty((0, 2), np.int64)]
    for axis in range(pieces.ndim):
        for border in range(edge, pieces.shape[axis], edge):
            links.append(touching(np.take(pieces, border - 1, axis), np.take(pieces, border, axis)))
    pairs = np.concatenate(links)
    a, b = pairs[agreeing(modes[pairs[:, 0]], modes[pairs[:, 1]], bandwidth)].T
    graph = coo_matrix((np.ones(len(a), bool), (a, b)), shape=(len(modes), len(modes)))
    _, group = connected_components(graph, directed=False)
    # piece 0 is alone and comes first
    return np.asarray(group, np.int64) - 1


def _cluster_window(
    embedding: ArrayLike,
    foreground: ArrayLike | None,
    core: Window,
    *,
    said: tuple[ArrayLike, ArrayLike] | None,
    halo: int,
    settings: LabelSettings,
    origin: Sequence[int],
    device: torch.device | str = "cpu",
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Piece of each pixel of the core (0: none, counted from 1), found with the pixels around it, and the modes of these."""
    shape = embedding.shape[1:]
    seen = tuple(slice(max(0, s.start - halo), min(n, s.stop + halo)) for s, n in zip(core, shape, strict=True))
    inner = tuple(slice(c.start - s.start, c.stop - s.start) for c, s in zip(core, seen, strict=True))
    if foreground is None:
        mask = np.ones(tuple(s.stop - s.start for s in seen), bool)
    else:
        mask = mask_of(foreground, seen, settings.threshold)
    modes = np.zeros(mask.shape, np.int64)
    if not mask[inner].any():
        return modes[inner], np.empty((0, embedding.shape[0] + settings.seeds))
    values = np.asarray(embedding[(slice(None), *seen)])[:, mask].astype(np.float64, order="C", copy=False)
    if said is not None:
        weights, widths = (np.asarray(values_[seen])[mask].astype(np.float64, copy=False) for values_ in said)
        cut = [(s.start < halo, n - s.stop < halo) for s, n in zip(core, shape, strict=True)]
        first = [part.start + begin for part, begin in zip(seen, origin, strict=True)]
        modes, centres = seeded_modes(mask, values, weights, widths=widths, cut=cut, first=first, halo=halo, settings=settings)
    else:
        if settings.coordinates:
            for axis, (places, part) in enumerate(zip(np.nonzero(mask), seen, strict=True)):
                values[axis] += places + (part.start + origin[axis])
        with memory_errors("the instances of a window"):
            found = mean_shift(
                torch.from_numpy(values).to(device).T,  # (N, E)
                settings.bandwidth,
                radius=settings.radius,
                min_density=settings.min_density,
                dip=settings.dip,
            )
        modes[mask], centres = found.assignment + 1, found.modes
        if settings.dip < 1:
            modes = without_islands(modes, mask, values, centres=centres, settings=settings)
    local = connected(modes[inner], connectivity=mask.ndim, background=0)
    there = local > 0
    owner = np.zeros(int(local.max()) + 1, np.int64)
    owner[local[there]] = modes[inner][there]
    return local, centres[owner[1:] - 1]


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
