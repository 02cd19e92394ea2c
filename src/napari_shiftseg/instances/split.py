"""`split`: one object becomes several, by its own embedding from seeds that a user gives, or by a stroke across it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage as ndi
from skimage.draw import line_nd
from skimage.segmentation import watershed

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.instances.constants import COHERENT, CRUMB, LONGER, TOLD_APART
from napari_shiftseg.instances.edit import Edit, Found, find_objects, free_numbers
from napari_shiftseg.views import ArrayLike

Marks = npt.NDArray[np.int32]


def split(
    labels: ArrayLike,
    number: int,
    embedding: ArrayLike | None = None,
    *,
    seeds: Sequence[Sequence[float]] | None = None,
    stroke: Sequence[Sequence[float]] | None = None,
    plane: tuple[int, int] | None = None,
    offsets: bool = False,
    frame: Sequence[int] = (),
    spacing: Sequence[float] | None = None,
    first: int | None = None,
    window: Sequence[slice] | None = None,
) -> Edit:
    """One object becomes two or more, which cover it; the largest keeps the number, the others get new ones.

    With an embedding each pixel goes to the seed whose code is nearer, as far as it hangs together with that seed; what does
    not goes to the part that it touches. Where the codes of the seeds are not told apart, or there is no embedding, the object
    is cut along the stroke, or between the seeds where it is narrow (a watershed of the distance to its border). `Edit.how`
    says which it was: "embedding", "stroke" or "distance". The same input gives the same parts.

    Parameters
    ----------
    labels : array-like
        (*shape) int, 0 is the background; not changed.
    number : int
        Of the object.
    embedding : array-like, optional
        (E, *shape) codes of the pixels; read in the box of the object alone.
    seeds : sequence of points, optional
        One pixel per part, (z,) y, x in the frame, on the object.
    stroke : sequence of points, optional
        A line instead: one that leaves the object on both sides is a cut, and the middle of each side is a seed; of one that
        does not the two ends are the seeds. It may end a fifth of its length too early.
    plane : (int, int), optional
        In 3D the axes of the plane that the stroke was drawn in, by default the last two.
    offsets : bool
        Whether the first channels of the embedding, one per axis, say how far away the centre of the object lies, pixels.
    frame : sequence of int
        Positions on the leading axes, where a number means another object in each frame of a series.
    spacing : sequence of float, optional
        Step per axis of the frame, for distances.
    first : int, optional
        From which number on none is used; by default that is looked for.
    window : sequence of slice, optional
        Part of the frame in which the object lies wholly, where that is known.

    Returns
    -------
    Edit
        To be done by `Edit.apply`.

    Raises
    ------
    SettingsError
        If there is no such object, fewer than two different seeds lie on it, or the stroke does not say where.
    ImageError
        If the labels are no integers.

    >>> labels = np.array([[4, 4, 4, 4, 4, 4]])
    >>> edit = split(labels, 4, seeds=[(0, 1), (0, 4)])
    >>> edit.apply(labels)
    >>> labels.tolist(), edit.how
    ([[4, 4, 4, 5, 5, 5]], 'distance')
    """
    found = find_objects(labels, (int(number),), frame=frame, window=window)
    if (seeds is None) == (stroke is None):
        raise SettingsError("a split needs seeds or a stroke; give one of them.")
    corner = np.array([edge.start for edge in found.box])
    if stroke is not None:
        wish = _wish_of_stroke(found.inside, _points(stroke, found) - corner, plane, number=number)
    else:
        wish = Wish(seeds=_checked(np.rint(_points(seeds or (), found)).astype(int) - corner, found, number))
    codes = None
    if embedding is not None:
        codes = np.asarray(embedding[(slice(None), *found.frame, *found.box)], np.float64)[:, found.inside].T
        if offsets:
            codes = codes + np.pad(np.argwhere(found.inside), ((0, 0), (0, codes.shape[1] - found.inside.ndim)))
    parts, how = _parts(found.inside, wish, codes, spacing=spacing)
    return _edit(labels, found, parts, how=how, first=first)


@dataclass(frozen=True, kw_only=True, eq=False)
class Wish:
    """Where the parts lie, in the box of the object."""

    seeds: npt.NDArray[Any]  # (k, ndim) pixels
    sides: Marks | None = None  # of a cut: (*box) 1 to k on each side of it, 0 elsewhere


def _points(points: Sequence[Sequence[float]], found: Found) -> npt.NDArray[np.float64]:
    given = np.asarray(points, np.float64).reshape(len(points), -1)
    if len(given) < 2 or given.shape[1] != len(found.box) or not np.isfinite(given).all():
        raise SettingsError(
            f"points of shape {given.shape} do not say where to split an object of {len(found.box)} axes; give two or more, "
            "each with a position per axis."
        )
    return given


def _checked(seeds: npt.NDArray[Any], found: Found, number: int) -> npt.NDArray[Any]:
    """Seeds that lie on the object and apart."""
    shape = found.inside.shape
    if not all((at >= 0).all() and (at < shape).all() and found.inside[tuple(at)] for at in seeds):
        raise SettingsError(f"a seed lies beside object {number}; give pixels that belong to it.")
    if len(np.unique(seeds, axis=0)) < len(seeds):
        raise SettingsError(f"two seeds in object {number} are the same pixel; give one for each part.")
    return seeds


# -- strokes ----------------------------------------------------------------------------------------------------------


def _wish_of_stroke(
    inside: npt.NDArray[np.bool_], stroke: npt.NDArray[np.float64], plane: tuple[int, int] | None, *, number: int
) -> Wish:
    """The sides of a cut, or the ends of a line that stays within the object."""
    plane = plane or (inside.ndim - 2, inside.ndim - 1)
    for line in (stroke, _longer(stroke)):
        sides = _sides(inside, _pixels(line, inside.shape), plane)
        if sides is not None:
            return Wish(seeds=_middles(sides), sides=sides)
    pixels = _pixels(stroke, inside.shape)
    on = pixels[inside[tuple(pixels.T)]]
    if len(on) < 2 or (on[0] == on[-1]).all():
        raise SettingsError(
            f"the stroke does not cut object {number} in two; draw it across the object, or from one part to the other."
        )
    return Wish(seeds=on[[0, -1]])


def _pixels(line: npt.NDArray[np.float64], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The pixels of a line within a box, in order."""
    parts = [np.stack(line_nd(start, stop, endpoint=True), axis=1) for start, stop in pairwise(line)]
    pixels = np.concatenate(parts)
    return pixels[((pixels >= 0) & (pixels < shape)).all(axis=1)]


def _longer(line: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    by = (line[-1] - line[0]) * LONGER
    return np.concatenate([line[:1] - by, line, line[-1:] + by])


def _sides(inside: npt.NDArray[np.bool_], pixels: npt.NDArray[Any], plane: tuple[int, int]) -> Marks | None:
    """Both sides of a cut in the plane that it was drawn in, or more; None where it cuts nothing."""
    others = [axis for axis in range(inside.ndim) if axis not in plane]
    if not len(pixels) or any(np.ptp(pixels[:, axis]) for axis in others):
        return None
    index = tuple(int(pixels[0, axis]) if axis in others else slice(None) for axis in range(inside.ndim))
    drawn = pixels[:, sorted(plane)] if inside.ndim > 1 else pixels
    shown = inside[index]
    cut = np.zeros(shown.shape, bool)
    cut[tuple(drawn.T)] = True
    pieces, _ = ndi.label(shown)
    met = np.isin(pieces, np.unique(pieces[cut & shown])) & shown
    marks, count = ndi.label(met & ~cut)
    sizes = np.bincount(marks.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    kept = [at for rank, at in enumerate(order) if rank < 2 or sizes[at] >= CRUMB * met.sum()]
    if len(kept) < 2:
        return None
    new = np.zeros(count + 1, np.int32)
    new[[at + 1 for at in sorted(kept)]] = range(1, len(kept) + 1)
    sides = np.zeros(inside.shape, np.int32)
    sides[index] = new[marks]
    return sides


def _middles(sides: Marks) -> npt.NDArray[Any]:
    """The pixel of each side that lies deepest in it."""
    around = (slice(1, -1),) * sides.ndim
    depths = [ndi.distance_transform_edt(np.pad(sides == side, 1))[around] for side in range(1, sides.max() + 1)]
    return np.array([np.unravel_index(int(np.argmax(depth)), sides.shape) for depth in depths])


# -- parts ------------------------------------------------------------------------------------------------------------


def _parts(
    inside: npt.NDArray[np.bool_], wish: Wish, codes: npt.NDArray[np.float64] | None, *, spacing: Sequence[float] | None
) -> tuple[Marks, str]:
    """The part of each pixel, from 1, and what that went by."""
    if codes is not None and np.isfinite(codes).all():
        parts = _by_codes(inside, wish, codes)
        if parts is not None:
            return parts, "embedding"
    if wish.sides is not None:
        return _all_of(inside, watershed(np.zeros(inside.shape, np.uint8), wish.sides, mask=inside), spacing), "stroke"
    marks = np.zeros(inside.shape, np.int32)
    marks[tuple(wish.seeds.T)] = range(1, len(wish.seeds) + 1)
    around = (slice(1, -1),) * inside.ndim
    depth = ndi.distance_transform_edt(np.pad(inside, 1), sampling=spacing)[around]
    near = np.stack([_distance(inside.shape, seed, spacing) for seed in wish.seeds]).min(axis=0)
    # flooded from the deepest places on; where all is equally deep the nearer seed is first
    height = near / (near.max() + 1) * depth[inside].min() / 2 - depth
    return _all_of(inside, watershed(height, marks, mask=inside), spacing), "distance"


def _distance(shape: tuple[int, ...], seed: npt.NDArray[Any], spacing: Sequence[float] | None) -> npt.NDArray[np.float64]:
    steps = spacing or (1.0,) * len(shape)
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    squares = [((axis - at) * step) ** 2 for axis, at, step in zip(axes, seed, steps, strict=True)]
    return np.asarray(np.sqrt(sum(squares)))


def _by_codes(inside: npt.NDArray[np.bool_], wish: Wish, codes: npt.NDArray[np.float64]) -> Marks | None:
    """Each pixel to the nearest code of a seed; None where these do not tell the parts apart."""
    number = np.full(inside.shape, -1)
    number[inside] = range(len(codes))
    centres = np.stack([codes[_around(number, seed)].mean(axis=0) for seed in wish.seeds])
    distances = np.stack([np.linalg.norm(codes - centre, axis=1) for centre in centres], axis=1)
    nearest = distances.argmin(axis=1)
    gaps = [np.linalg.norm(a - b) for at, a in enumerate(centres) for b in centres[:at]]
    own = [np.median(distances[nearest == seed, seed]) if (nearest == seed).any() else np.inf for seed in range(len(centres))]
    if min(gaps) <= TOLD_APART * max(own):
        return None
    said = np.zeros(inside.shape, np.int32)
    said[inside] = nearest + 1
    if wish.sides is not None:
        drawn = wish.sides > 0
        if (said[drawn] == wish.sides[drawn]).mean() < COHERENT:
            return None
    said[tuple(wish.seeds.T)] = range(1, len(wish.seeds) + 1)
    kept = np.zeros(inside.shape, np.int32)
    for part, seed in enumerate(wish.seeds, 1):
        pieces, _ = ndi.label(said == part)
        kept[pieces == pieces[tuple(seed)]] = part
    reached, _ = ndi.label(inside)
    whole = np.isin(reached, [reached[tuple(seed)] for seed in wish.seeds])
    if (kept > 0).sum() < COHERENT * whole.sum():
        return None
    grown = watershed(np.zeros(inside.shape, np.uint8), kept, mask=inside)
    left, count = ndi.label(inside & (grown == 0))  # pieces of the object that hold no seed
    for piece in range(1, count + 1):
        grown[left == piece] = np.bincount(said[left == piece]).argmax()
    return np.asarray(grown, np.int32)


def _around(number: npt.NDArray[Any], seed: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Numbers of the pixels of the object around a seed, one step along each axis."""
    part = number[tuple(slice(max(0, at - 1), at + 2) for at in seed)]
    return part[part >= 0]


def _all_of(inside: npt.NDArray[np.bool_], parts: Any, spacing: Sequence[float] | None) -> Marks:
    """Pieces of the object that hold no seed go to the nearest part."""
    if (parts[inside] == 0).any():
        near = ndi.distance_transform_edt(parts == 0, sampling=spacing, return_distances=False, return_indices=True)
        parts = np.where(inside, parts[tuple(near)], 0)
    return np.asarray(parts, np.int32)


def _edit(labels: ArrayLike, found: Found, parts: Marks, *, how: str, first: int | None) -> Edit:
    sizes = np.bincount(parts[found.inside], minlength=int(parts.max()) + 1)[1:]
    largest = int(np.argmax(sizes))
    new = free_numbers(labels, len(sizes) - 1, first=first)
    made = (*new[:largest], found.ids[0], *new[largest:])
    numbers = np.array((0, *made), found.block.dtype)
    changed = found.inside & (parts != largest + 1)
    return found.edit("split", changed, numbers[parts], made=made, how=how)
