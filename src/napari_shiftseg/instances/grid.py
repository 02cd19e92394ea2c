"""Density of points on a grid under a Gaussian kernel; lengths are in bandwidths.

In up to three dimensions, where the occupied box is small enough, one blur gives the density everywhere, to find its peaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil, pi, prod
from typing import TypeAlias

import torch

from napari_shiftseg.instances.cells import Cells
from napari_shiftseg.instances.kernels import REACH

__all__ = ["Grid", "grid_of"]

Tensor: TypeAlias = torch.Tensor

# Nodes of a grid.
_MOST_NODES = 4_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """Density on a grid.

    Attributes
    ----------
    density : Tensor
        Of each node, float32.
    corner : Tensor
        (E,) float64, position of the first node.
    edge : float
        Distance of two nodes.
    """

    density: Tensor
    corner: Tensor
    edge: float

    def peaks(self) -> Tensor:
        """(S, E) positions near nodes that no neighbour exceeds, diagonals included: tops of parabolas through them."""
        top = self.density
        for axis in range(top.ndim):
            top = _highest(top, axis)
        # a mode of points has at least the density of one of them
        nodes = torch.nonzero((self.density == top) & (self.density > 0.5))
        return (nodes + self._offsets(nodes)) * self.edge + self.corner

    def _offsets(self, nodes: Tensor) -> Tensor:
        """(S, E) float64, where along each axis a parabola through the logarithms of three nodes is highest, in nodes."""
        last = nodes.new_tensor(self.density.shape) - 1
        offsets = torch.zeros_like(nodes, dtype=torch.float64)
        for axis in range(nodes.shape[1]):
            step = torch.zeros_like(nodes)
            step[:, axis] = 1
            before, here, after = (
                # nodes of few points would bend the parabola without end
                self.density[tuple(at.T)].double().clamp_min(1e-3).log()
                for at in ((nodes - step).clamp_min(0), nodes, torch.minimum(nodes + step, last))
            )
            offsets[:, axis] = ((before - after) / 2 / (before - 2 * here + after).clamp_max(-1e-9)).clamp(-0.5, 0.5)
        return offsets


def grid_of(cells: Cells) -> Grid | None:
    """The density of all cells, or None if its grid would have too many dimensions or nodes."""
    means, edge, dim = cells.means, cells.edge, cells.means.shape[1]
    margin = ceil(REACH / edge)
    low = torch.floor(means.amin(dim=0) / edge).long() - margin
    shape = (torch.floor(means.amax(dim=0) / edge).long() - low + margin + 2).tolist()
    if dim > 3 or prod(shape) > max(_MOST_NODES, 8 * len(cells.index)):
        return None
    places = means / edge - low
    first = torch.floor(places).long()
    part = places - first
    shares, nodes = [], []
    for step in product((0, 1), repeat=dim):
        share, node = cells.counts, torch.zeros_like(first[:, 0])
        for axis, on in enumerate(step):
            share = share * (part[:, axis] if on else 1 - part[:, axis])
            node = node * shape[axis] + first[:, axis] + on
        shares.append(share)
        nodes.append(node)
    density = torch.bincount(torch.cat(nodes), torch.cat(shares), prod(shape))
    # linear shares widen the kernel by 1/6 of a node squared, which is taken off before
    width = (1 / edge**2 - 1 / 6) ** 0.5
    blurred = density.reshape(shape).float()
    for axis in range(dim):
        blurred = _blurred(blurred, axis, width, margin)
    blurred *= ((2 * pi) ** 0.5 / edge) ** dim
    return Grid(density=blurred, corner=low.double() * edge, edge=edge)


def _blurred(values: Tensor, axis: int, width: float, reach: int) -> Tensor:
    """Values under a Gaussian along an axis, 0 around them."""
    weights = torch.exp(-0.5 * (torch.arange(reach + 1) / width) ** 2)
    weights /= weights[0] + 2 * weights[1:].sum()
    size = values.shape[axis]
    out = values * weights[0].item()
    # sums of slices give the same bits on any number of threads
    for by in range(1, min(reach, size - 1) + 1):
        weight = weights[by].item()
        out.narrow(axis, by, size - by).add_(values.narrow(axis, 0, size - by), alpha=weight)
        out.narrow(axis, 0, size - by).add_(values.narrow(axis, by, size - by), alpha=weight)
    return out


def _highest(values: Tensor, axis: int) -> Tensor:
    """The greatest of each value and its two neighbours along an axis."""
    size = values.shape[axis] - 1
    before, after = values.narrow(axis, 0, size), values.narrow(axis, 1, size)
    out = values.clone()
    for part, other in ((out.narrow(axis, 1, size), before), (out.narrow(axis, 0, size), after)):
        torch.maximum(part, other, out=part)
    return out
