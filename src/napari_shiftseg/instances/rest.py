"""The rest: undecided pixels that no instance reaches, in connected parts, each of which joins an instance or becomes one.

All that is needed of a block is small: its parts, what they touch, and where they touch the parts of the next block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_shiftseg.instances.contacts import PART, Window, borders

__all__ = ["NEW", "NONE", "Rest", "placed", "rest_of"]

# Numbers that `placed` gives to what becomes an instance, and to what stays without a label.
NEW, NONE = -1, 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Rest:
    """Parts of the rest of a block, or of an image.

    Attributes
    ----------
    pixels : ndarray
        (*core) int32, number of the part from 1, 0 for none.
    sizes, first : ndarray
        (P,) int64, pixels of each part, and the first one in raster order of the image.
    border : ndarray
        (P,) int64, pairs of neighbours of which one is in the part and the other is not in the rest.
    contacts : ndarray
        (N, 3) int64: a part counted from 0, a label that it touches, and the pairs of neighbours that do.
    """

    pixels: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    border: npt.NDArray[np.int64]
    contacts: npt.NDArray[np.int64]


def rest_of(
    labels: npt.NDArray[np.uint32],
    codes: npt.NDArray[np.int32],
    inner: Window | None = None,
    corner: Sequence[int] | None = None,
    image_shape: Sequence[int] | None = None,
) -> Rest:
    """What is left over in a block.

    Parameters
    ----------
    labels, codes : ndarray
        Of the core and the pixels next to it, as far as the image goes; as `settled` takes and gives them.
    inner : tuple of slice, optional
        The core in these arrays; all by default.
    corner, image_shape : sequence of int, optional
        Image pixel at which the core begins, and the shape of the image; a block that is the whole image by default.
    """
    inner = tuple(slice(0, n) for n in labels.shape) if inner is None else inner
    undecided = (labels == 0) & (codes > 0)
    shape = tuple(part.stop - part.start for part in inner)
    wide, count = np.zeros(labels.shape, np.int32), 0
    if undecided[inner].any():
        count = ndimage.label(undecided[inner], np.ones((3,) * labels.ndim), output=wide[inner])
    parts = wide[inner]
    places = np.flatnonzero(parts)
    owners = parts.ravel()[places].astype(np.int64) - 1
    first = np.zeros(count, np.int64)
    first[owners[::-1]] = places[::-1]  # the last value written is the first place
    corners = np.unravel_index(first, shape)
    moved = [p + c for p, c in zip(corners, corner or (0,) * len(shape), strict=True)]
    touched, pairs, border = borders(wide, labels, undecided) if count else _NOTHING
    return Rest(
        pixels=parts,
        sizes=np.bincount(owners, minlength=count),
        first=np.ravel_multi_index(moved, tuple(image_shape or shape)),
        border=border[1:],
        contacts=np.column_stack([touched[:, 0] - 1, touched[:, 1], pairs]),
    )


_NOTHING = np.empty((0, 2), np.int64), np.empty(0, np.int64), np.zeros(1, np.int64)


def placed(
    sizes: npt.NDArray[np.int64], border: npt.NDArray[np.int64], contacts: npt.NDArray[np.int64], min_size: int
) -> npt.NDArray[np.int64]:
    """Label of the instance that each part joins, `NEW` for those that become one, `NONE` for what is small and alone.

    Parameters
    ----------
    sizes, border : ndarray
        (P,) as in `Rest`, of whole parts.
    contacts : ndarray
        (N, 3) as in `Rest`; a pair of part and label can come several times.
    min_size : int
        Pixels of an instance.
    """
    joins, most = np.zeros(len(sizes), np.int64), np.zeros(len(sizes), np.int64)
    if len(contacts):
        pairs, back = np.unique(contacts[:, :2], axis=0, return_inverse=True)
        counts = np.zeros(len(pairs), np.int64)
        np.add.at(counts, back.ravel(), contacts[:, 2])
        order = np.lexsort((pairs[:, 1], -counts, pairs[:, 0]))  # of equal ones the first label
        best = order[np.diff(pairs[order, 0], prepend=-1) > 0]
        joins[pairs[best, 0]], most[pairs[best, 0]] = pairs[best, 1], counts[best]
    new = (sizes >= max(1, min_size)) & ((joins == 0) | (most < PART * border))
    return np.where(new, NEW, joins)
