"""Points in small cells, whose counts and exact means stand for them; lengths are in bandwidths."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np
import torch

__all__ = ["EDGE", "Cells", "bounds_of", "cells_of"]

Tensor: TypeAlias = torch.Tensor

# Edge of a cell: small against the kernel, so that cells do not show; wider where many dimensions spread the points thin.
EDGE = 0.5
WIDE_EDGE = 0.9


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """Occupied cells; all on the device of the points.

    Attributes
    ----------
    index : Tensor
        (N,) int64, cell of each point.
    means : Tensor
        (C, E) float64, mean of the points of each cell.
    counts : Tensor
        (C,) float64, number of points.
    corners : Tensor
        (C, E) float64, smallest corner of each cell.
    edge : float
    """

    index: Tensor
    means: Tensor
    counts: Tensor
    corners: Tensor
    edge: float


def cells_of(points: Tensor, bandwidth: float) -> Cells:
    """Cells of points (N, E), with lengths in bandwidths."""
    count, dim = points.shape
    edge = EDGE if dim <= 3 else WIDE_EDGE
    lowest, highest = (torch.floor(bound / (bandwidth * edge)).long().tolist() for bound in bounds_of(points))
    span = [high - low + 1 for low, high in zip(lowest, highest, strict=True)]
    dense = prod(span) <= 8 * count
    steps = [prod(span[axis + 1 :]) for axis in range(dim)] if dense else _odd_numbers(dim)
    keys = torch.zeros(count, dtype=torch.int64, device=points.device)
    for column, low, step in zip(points.T, lowest, steps, strict=True):
        keys += (torch.floor(column / (bandwidth * edge)).long() - low) * step
    if dense:
        filled = torch.bincount(keys) > 0
        index = (torch.cumsum(filled, 0) - 1)[keys]
        size = int(filled.sum())
    else:
        found, index = torch.unique(keys, return_inverse=True)
        size = len(found)
    counts = torch.bincount(index, minlength=size).double()
    sums = [torch.bincount(index, column.double(), size) for column in points.T]
    # rounding may put the mean of points on a wall beyond it, so the corner is that of a member
    member = torch.empty(size, dtype=torch.int64, device=points.device)
    member[index] = torch.arange(count, device=points.device)
    corners = torch.floor(points[member].double() / (bandwidth * edge)) * edge
    return Cells(
        index=index, means=torch.stack(sums, dim=1) / (counts[:, None] * bandwidth), counts=counts, corners=corners, edge=edge
    )


def bounds_of(points: Tensor) -> tuple[Tensor, Tensor]:
    """(E,) least and greatest value of each component of points (N, E); not finite where one of them is not."""
    found = [torch.aminmax(column) for column in points.T]  # both axes at once are slow
    return torch.stack([bounds.min for bounds in found]), torch.stack([bounds.max for bounds in found])


def _odd_numbers(count: int) -> list[int]:
    """Multipliers that make one key of several integers; two cells of an image share one with a chance of 1e-8 or so."""
    return [int(number) | 1 for number in np.random.default_rng(7).integers(1 << 60, 1 << 63, count)]
