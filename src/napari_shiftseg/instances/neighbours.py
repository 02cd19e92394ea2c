"""Points, the small cells that stand for them, densities on a grid, and the modes nearest to them; lengths are in bandwidths.

Neighbours are found by a tree in main memory, by all distances on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np
import torch
from scipy.spatial import cKDTree

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.instances.constants import (
    CPU_VALUES,
    CROWDED,
    EDGE,
    FARTHEST_CELL,
    FEW_MODES,
    GPU_VALUES,
    TREE_DIMENSIONS,
    WIDE_EDGE,
)

Tensor: TypeAlias = torch.Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """Occupied cells; all on the device of the points."""

    index: Tensor  # (N,) int64, cell of each point
    means: Tensor  # (C, E) float64, mean of the points of each cell
    counts: Tensor  # (C,) float64, number of points
    corners: Tensor  # (C, E) float64, smallest corner of each cell
    edge: float


def cells_of(points: Tensor, bandwidth: float) -> Cells:
    """Cells of points (N, E), with lengths in bandwidths."""
    count, dim = points.shape
    edge = EDGE if dim <= 3 else WIDE_EDGE
    ends = bounds_of(points)
    farthest = max(float(bound.abs().max()) for bound in ends)
    if not farthest / (bandwidth * edge) < FARTHEST_CELL:
        raise SettingsError(
            f"the bandwidth is {bandwidth:g} and values reach {farthest:.3g}, so many times as far that no number counts it; "
            "give a larger bandwidth."
        )
    lowest, highest = (torch.floor(bound / (bandwidth * edge)).long().tolist() for bound in ends)
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


def has_trees(values: Tensor) -> bool:
    """Whether trees can hold these positions, and are faster than all distances."""
    return values.device.type == "cpu"


def blocks(rows: int, columns: int, device: torch.device) -> list[slice]:
    """Rows of a table that are worked on at once."""
    step = max(1, (CPU_VALUES if device.type == "cpu" else GPU_VALUES) // max(1, columns))
    return [slice(start, start + step) for start in range(0, rows, step)]


def nearest(at: Tensor, others: Tensor, count: int, *, bound: float) -> tuple[Tensor, Tensor]:
    """Distances (S, count) from positions (S, E) to the nearest of others (K, E), and which these are (S, count).

    What is farther than `bound`, or not there, has distance infinity and number K.
    """
    if has_trees(at) and (at.shape[1] <= TREE_DIMENSIONS or len(others) > FEW_MODES):
        tree = cKDTree(others.numpy())
        distance, index = tree.query(at.numpy(), k=range(1, count + 1), distance_upper_bound=bound)
        return torch.from_numpy(distance), torch.from_numpy(index)
    distance, index = (_by_products if has_trees(at) else _by_differences)(at, others, count)
    beyond = distance > bound
    return distance.masked_fill_(beyond, torch.inf), index.masked_fill_(beyond, len(others))


def _by_differences(at: Tensor, others: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Within any distance; products of positions in float32 would lose the digits."""
    distance = at.new_full((len(at), count), torch.inf)
    index = torch.full((len(at), count), len(others), dtype=torch.int64, device=at.device)
    there = min(count, len(others))
    for rows in blocks(len(at), len(others), at.device):
        gaps = torch.cdist(at[rows], others, compute_mode="donot_use_mm_for_euclid_dist")
        distance[rows, :there], index[rows, :there] = gaps.topk(there, dim=1, largest=False)
    return distance, index


def _by_products(at: Tensor, others: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The same with matrix products in float64, in main memory; distances next to nothing keep half of their digits."""
    middle = others.mean(dim=0)
    there = others - middle
    factors = torch.cat([-2 * there, (there * there).sum(dim=1, keepdim=True)], dim=1).T.contiguous()
    here = torch.nn.functional.pad(at - middle, (0, 1), value=1.0)
    least, index = np.full((len(at), count), np.inf), np.full((len(at), count), len(others))
    parts = blocks(len(at), len(others), at.device)
    memory = at.new_empty((parts[0].stop if parts else 0, len(others)))
    for part in parts:
        rows = here[part]
        values, place = torch.mm(rows, factors, out=memory[: len(rows)]).numpy(), np.arange(len(rows))
        for rank in range(min(count, len(others))):
            found = values.argmin(axis=1)
            least[part, rank], index[part, rank] = values[place, found], found
            values[place, found] = np.inf
    square = torch.from_numpy(least) + (here[:, :-1] ** 2).sum(dim=1, keepdim=True)
    return square.clamp_min_(0).sqrt_(), torch.from_numpy(index)


def nearest_mode(points: Tensor, bandwidth: float, cells: Cells, *, modes: Tensor, radius: float) -> Tensor:
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
    if len(points) < CROWDED * len(cells.counts):
        return _asked(points, bandwidth, modes, radius=radius)
    half = cells.edge / 2 * points.shape[1] ** 0.5
    crowded = torch.nonzero(cells.counts >= CROWDED)[:, 0]
    distance, found = nearest(cells.corners[crowded] + cells.edge / 2, modes, 2, bound=radius + 3 * half)
    # no point of a cell is farther from its centre than half its diagonal
    clear = (distance[:, 1] > distance[:, 0] + 2 * half) & (distance[:, 0] + half < radius)
    none = distance[:, 0] - half > radius
    decided = torch.full((len(cells.counts),), -2, dtype=torch.int64, device=points.device)
    decided[crowded[clear]] = found[clear, 0]
    decided[crowded[none]] = -1
    assignment = decided[cells.index]
    undecided = torch.nonzero(assignment == -2)[:, 0]
    assignment[undecided] = _asked(points[undecided], bandwidth, modes, radius=radius)
    return assignment


def _asked(points: Tensor, bandwidth: float, modes: Tensor, *, radius: float) -> Tensor:
    _, found = nearest(points.double() / bandwidth, modes, 1, bound=radius)
    return torch.where(found[:, 0] < len(modes), found[:, 0], -1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """Density on a grid."""

    density: Tensor  # of each node, float32
    corner: Tensor  # (E,) float64, position of the first node
    edge: float  # distance of two nodes

    def peaks(self, least: float) -> Tensor:
        """(S, E) positions near nodes that no neighbour exceeds, diagonals included: tops of parabolas through them.

        `least`: density that a node exceeds.
        """
        top = self.density
        for axis in range(top.ndim):
            top = _highest(top, axis)
        nodes = torch.nonzero((self.density == top) & (self.density > least))
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


def smoothed(values: Tensor, axis: int, width: float, *, reach: int) -> Tensor:
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
