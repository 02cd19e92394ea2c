"""`outlines`: objects as polygons on the edges of their pixels, so that filling them gives the labels back exactly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from skimage.measure import label

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.instances.constants import AHEAD, BEYOND, CORNER
from napari_shiftseg.instances.parts import Part, whole_parts
from napari_shiftseg.views import ArrayLike

Ring: TypeAlias = npt.NDArray[np.int64]
"""(N, 2) corners x, y, each once; pixel (row, column) covers x from column to column + 1 and y from row to row + 1."""

Polygon: TypeAlias = tuple[Ring, ...]
"""Outer ring, with the pixels at its right where y points down; then the holes, the other way round."""


def outlines(labels: ArrayLike) -> Iterator[tuple[int, tuple[Polygon, ...]]]:
    """Outlines of all objects of a plane.

    Pixels that touch at a corner alone are pieces of their own, so that rings cross neither themselves nor each other: polygons
    are valid as simple features (ISO 19125), and as GeoJSON.

    Parameters
    ----------
    labels : array-like
        (y, x) int, 0 is the background; read in parts, so a zarr array will do.

    Yields
    ------
    label : int
        Number of an object; each once, in the order of the parts of the image.
    polygons : tuple of tuple of ndarray
        A polygon per piece: its outer ring, then its holes, each (N, 2) corners x, y in pixels; the first pixel begins at 0.

    Raises
    ------
    SettingsError
        If the labels are not a plane.
    ImageError
        If they are no integers, or negative.

    >>> [(number, polygons)] = outlines(np.array([[0, 0, 0], [0, 7, 7]]))
    >>> number, polygons[0][0].tolist()
    (7, [[3, 1], [3, 2], [1, 2], [1, 1]])
    """
    if len(labels.shape) != 2:
        raise SettingsError(f"labels have {len(labels.shape)} axes; give a plane (y, x), one at a time.")
    for part in whole_parts(labels):
        yield from _traced(part)


def _traced(part: Part) -> Iterator[tuple[int, tuple[Polygon, ...]]]:
    pieces = np.pad(np.asarray(label(part.places, background=0, connectivity=1)), 1)
    places = np.pad(part.places, 1)
    pixel, side, following = _sides(pieces)
    corners = np.stack([pixel % pieces.shape[1], pixel // pieces.shape[1]], axis=1) - 1 + np.array(CORNER)[side][:, ::-1]
    corners += part.first[::-1]
    outer: dict[int, Ring] = {}
    holes: defaultdict[int, list[Ring]] = defaultdict(list)
    owner: dict[int, int] = {}
    for ring in _rings(following, side):
        piece = int(pieces.flat[pixel[ring[0]]])
        owner[piece] = int(places.flat[pixel[ring[0]]])
        for simple in _simple(corners[ring]):
            if _area(simple) > 0:
                outer[piece] = simple
            else:
                holes[piece].append(simple)
    found: defaultdict[int, list[Polygon]] = defaultdict(list)
    for piece in sorted(outer):
        found[owner[piece]].append((outer[piece], *holes[piece]))
    for place in sorted(found):
        yield int(part.index[place - 1]), tuple(found[place])


def _sides(pieces: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Sides at which pieces end: flat pixel, which of the four, and the side that a ring takes after it.

    `pieces`: with a border of background.
    """
    flat, width = pieces.ravel().astype(np.int64), pieces.shape[1]
    ahead, beyond = ([row * width + column for row, column in steps] for steps in (AHEAD, BEYOND))
    inside = np.flatnonzero(flat)
    pixels = [inside[flat[inside + step] != flat[inside]] for step in beyond]
    names = np.concatenate([side * flat.size + there for side, there in enumerate(pixels)])
    after = []
    for side, there in enumerate(pixels):
        own, front = flat[there], there + ahead[side]
        corner = front + beyond[side]
        right = flat[front] != own  # where only corners touch, the ring stays with its pixel
        left = ~right & (flat[corner] == own)
        follower = np.where(right, there, np.where(left, corner, front))
        turned = (side + np.where(right, 1, np.where(left, 3, 0))) % 4
        after.append(turned * flat.size + follower)
    following = np.searchsorted(names, np.concatenate(after)) if len(names) else names
    return names % flat.size, names // flat.size, following


def _rings(following: npt.NDArray[np.int64], side: npt.NDArray[np.int64]) -> Iterator[list[int]]:
    """Rings as the sides at which they turn."""
    then, sides = following.tolist(), side.tolist()
    seen = bytearray(len(then))
    for start in range(len(then)):
        if seen[start]:
            continue
        ring, at = [], start
        while not seen[at]:
            seen[at] = 1
            after = then[at]
            if sides[after] != sides[at]:
                ring.append(after)
            at = after
        yield ring


def _simple(ring: Ring) -> list[Ring]:
    """A ring that meets itself at corners, as rings that do not."""
    corners = list(map(tuple, ring.tolist()))
    if len(set(corners)) == len(corners):
        return [ring]
    parts: list[Ring] = []
    way: list[tuple[int, ...]] = []
    place: dict[tuple[int, ...], int] = {}
    for corner in corners:
        if corner in place:
            begin = place[corner]
            parts.append(np.array(way[begin:], np.int64))
            for gone in way[begin + 1 :]:
                del place[gone]
            del way[begin + 1 :]
        else:
            place[corner] = len(way)
            way.append(corner)
    return [*parts, np.array(way, np.int64)]


def _area(ring: Ring) -> int:
    """Twice the area, negative for holes."""
    x, y = ring.T
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())
