"""Neighbours of positions: by a tree in main memory, by all distances on a GPU."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
from scipy.spatial import cKDTree

__all__ = ["TREE_DIMENSIONS", "blocks", "has_trees", "nearest"]

Tensor: TypeAlias = torch.Tensor

TREE_DIMENSIONS = 3
"""Dimensions up to which a tree finds the few neighbours of a position faster than products with all others."""

# So few others are looked at all in more dimensions.
_FEW = 512
# Values that are looked at at once on a GPU, and beside a processor's cache.
_VALUES = {"cpu": 1 << 18}
_MOST_VALUES = 1 << 24


def has_trees(values: Tensor) -> bool:
    """Whether trees can hold these positions, and are faster than all distances."""
    return values.device.type == "cpu"


def blocks(rows: int, columns: int, device: torch.device) -> list[slice]:
    """Rows of a table that are worked on at once."""
    step = max(1, _VALUES.get(device.type, _MOST_VALUES) // max(1, columns))
    return [slice(start, start + step) for start in range(0, rows, step)]


def nearest(at: Tensor, others: Tensor, count: int, bound: float) -> tuple[Tensor, Tensor]:
    """Distances (S, count) from positions (S, E) to the nearest of others (K, E), and which these are (S, count).

    What is farther than `bound`, or not there, has distance infinity and number K.
    """
    if has_trees(at) and (at.shape[1] <= TREE_DIMENSIONS or len(others) > _FEW):
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
