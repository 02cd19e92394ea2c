"""Points to their nearest mode, a cell at a time where all of a cell's points must have the same one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from napari_shiftseg.instances.density import Cells

__all__ = ["nearest_mode"]

# Points in a cell from which it pays to look at the cell.
_CROWDED = 4


def nearest_mode(
    points: npt.NDArray[np.floating], bandwidth: float, cells: Cells, modes: npt.NDArray[np.float64], radius: float
) -> npt.NDArray[np.int64]:
    """(N,) index of the nearest mode of each point, -1 where none is within `radius`.

    Parameters
    ----------
    points : ndarray
        (N, E).
    bandwidth : float
        Unit of the cells, modes (K, E) and radius.
    """
    if len(modes) == 0:
        return np.full(len(points), -1, np.int64)
    tree = cKDTree(modes)
    if len(points) < _CROWDED * len(cells.counts):
        return _asked(tree, points, bandwidth, radius)
    half = cells.edge / 2 * points.shape[1] ** 0.5
    crowded = np.flatnonzero(cells.counts >= _CROWDED)
    distance, nearest = tree.query(cells.corners[crowded] + cells.edge / 2, k=2, distance_upper_bound=radius + 3 * half)
    # no point of a cell is farther from its centre than half its diagonal
    clear = (distance[:, 1] > distance[:, 0] + 2 * half) & (distance[:, 0] + half < radius)
    none = distance[:, 0] - half > radius
    decided = np.full(len(cells.counts), -2, np.int64)
    decided[crowded[clear]] = nearest[clear, 0]
    decided[crowded[none]] = -1
    assignment = decided[cells.index]
    open_ = np.flatnonzero(assignment == -2)
    assignment[open_] = _asked(tree, points[open_], bandwidth, radius)
    return assignment


def _asked(tree: cKDTree, points: npt.NDArray[np.floating], bandwidth: float, radius: float) -> npt.NDArray[np.int64]:
    _, nearest = tree.query(points / bandwidth, distance_upper_bound=radius)
    return np.where(nearest < tree.n, nearest, -1)
