"""Points to their nearest mode, a cell at a time where all of a cell's points must have the same one."""

from __future__ import annotations

from typing import TypeAlias

import torch

from napari_shiftseg.instances.cells import Cells
from napari_shiftseg.instances.neighbours import nearest

__all__ = ["nearest_mode"]

Tensor: TypeAlias = torch.Tensor

# Points in a cell from which it pays to look at the cell.
_CROWDED = 4


def nearest_mode(points: Tensor, bandwidth: float, cells: Cells, modes: Tensor, radius: float) -> Tensor:
    """(N,) int64, index of the nearest mode of each point, -1 where none is within `radius`.

    Parameters
    ----------
    points : Tensor
        (N, E).
    bandwidth : float
        Unit of the cells, modes (K, E) and radius.
    """
    if len(modes) == 0:
        return torch.full((len(points),), -1, dtype=torch.int64, device=points.device)
    if len(points) < _CROWDED * len(cells.counts):
        return _asked(points, bandwidth, modes, radius)
    half = cells.edge / 2 * points.shape[1] ** 0.5
    crowded = torch.nonzero(cells.counts >= _CROWDED)[:, 0]
    distance, found = nearest(cells.corners[crowded] + cells.edge / 2, modes, 2, radius + 3 * half)
    # no point of a cell is farther from its centre than half its diagonal
    clear = (distance[:, 1] > distance[:, 0] + 2 * half) & (distance[:, 0] + half < radius)
    none = distance[:, 0] - half > radius
    decided = torch.full((len(cells.counts),), -2, dtype=torch.int64, device=points.device)
    decided[crowded[clear]] = found[clear, 0]
    decided[crowded[none]] = -1
    assignment = decided[cells.index]
    undecided = torch.nonzero(assignment == -2)[:, 0]
    assignment[undecided] = _asked(points[undecided], bandwidth, modes, radius)
    return assignment


def _asked(points: Tensor, bandwidth: float, modes: Tensor, radius: float) -> Tensor:
    _, found = nearest(points.double() / bandwidth, modes, 1, radius)
    return torch.where(found[:, 0] < len(modes), found[:, 0], -1)
