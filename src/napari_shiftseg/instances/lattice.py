"""Density of points as a sum of kernels at the means of cells, which are found by their place; lengths are in bandwidths.

In up to three dimensions, where the occupied box is small enough to have a table of all its cells, no tree is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from napari_shiftseg.instances.cells import EDGE, Cells
from napari_shiftseg.instances.kernels import REACH
from napari_shiftseg.instances.neighbours import blocks

__all__ = ["Lattice", "lattice_of"]

FloatArray: TypeAlias = npt.NDArray[np.float64]
Tensor: TypeAlias = torch.Tensor

# Cells that the reach of a kernel goes at most beyond that of its centre.
_CELLS = ceil(REACH / EDGE)


@dataclass(frozen=True, kw_only=True, eq=False)
class Lattice:
    """All cells of a box.

    Attributes
    ----------
    table : Tensor
        Number of the cell at each place of the box and around it; that of the last row of `values` where there is none.
    shape : tuple of int
        Of the table.
    low : Tensor
        (E,) int64, place of its first cell, in edges.
    edge : float
    values : Tensor
        (C + 1, E + 1) float64: mean of each cell and a one; zeros in the last row.
    weights : Tensor
        (C + 1,) float64; 0 in the end.
    near : Tensor
        (O,) int64, steps in the table to all cells that may hold something within reach of a position.
    """

    table: Tensor
    shape: tuple[int, ...]
    low: Tensor
    edge: float
    values: Tensor
    weights: Tensor
    near: Tensor

    def sums(self, at: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Density at positions (S, E), and the kernel-weighted mean of their surroundings (S, E).

        Where the density is 0 the mean is the position itself.
        """
        here = torch.from_numpy(at).to(self.table.device)
        parts = [self._sums(here[rows]) for rows in blocks(len(here), len(self.near), here.device)]
        found = torch.cat(parts).cpu().numpy() if parts else np.empty((0, at.shape[1] + 1))
        density = found[:, -1]
        return density, np.where(density[:, None] > 0, found[:, :-1] / np.maximum(density, 1e-300)[:, None], at)

    def _sums(self, at: Tensor) -> Tensor:
        """(S, E + 1) sums over the kernels of weighted places and of weights."""
        place = torch.floor(at / self.edge).long() - self.low
        node = torch.zeros_like(place[:, 0])
        for axis, size in enumerate(self.shape):
            # a position far from all cells looks at the rim, where it finds none within its reach
            node = node * size + place[:, axis].clamp(_CELLS, size - 1 - _CELLS)
        number = self.table[node[:, None] + self.near]
        values = self.values[number]
        gaps = values[..., :-1] - at[:, None]
        square = (gaps * gaps).sum(dim=2)
        kernel = torch.exp(-0.5 * square) * self.weights[number] * (square <= REACH**2)
        return torch.bmm(kernel[:, None], values)[:, 0]


def lattice_of(cells: Cells) -> Lattice:
    """The cells as a lattice."""
    dim, device = cells.means.shape[1], cells.means.device
    places = torch.round(cells.corners / cells.edge).long()
    low = places.amin(dim=0) - 2 * _CELLS
    shape = tuple((places.amax(dim=0) - low + 1 + 2 * _CELLS).tolist())
    steps = [prod(shape[axis + 1 :]) for axis in range(dim)]
    table = torch.full((prod(shape),), len(places), dtype=torch.int64, device=device)
    node = ((places - low) * torch.tensor(steps, device=device)).sum(dim=1)
    table[node] = torch.arange(len(places), device=device)
    # the nearest point of a cell so many cells away
    distance = [max(0, abs(step) - 1) * cells.edge for step in range(-_CELLS, _CELLS + 1)]
    ways = product(enumerate(distance), repeat=dim)
    near = [
        sum((k - _CELLS) * step for (k, _), step in zip(way, steps, strict=True))
        for way in ways
        if sum(gap * gap for _, gap in way) < REACH**2
    ]
    nothing = cells.means.new_zeros(1, dim + 1)
    values = torch.cat([torch.cat([cells.means, torch.ones_like(cells.counts[:, None])], dim=1), nothing])
    return Lattice(
        table=table,
        shape=shape,
        low=low,
        edge=cells.edge,
        values=values,
        weights=torch.cat([cells.counts, nothing[0, :1]]),
        near=torch.tensor(near, device=device),
    )
