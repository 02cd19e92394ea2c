"""Neighbours of positions: by a tree in main memory, by all distances on a GPU."""

from __future__ import annotations

from typing import TypeAlias

import torch
from scipy.spatial import cKDTree

__all__ = ["blocks", "has_trees", "nearest"]

Tensor: TypeAlias = torch.Tensor

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
    if has_trees(at):
        tree = cKDTree(others.numpy())
        distance, index = tree.query(at.numpy(), k=range(1, count + 1), distance_upper_bound=bound)
        return torch.from_numpy(distance), torch.from_numpy(index)
    distance = at.new_full((len(at), count), torch.inf)
    index = torch.full((len(at), count), len(others), dtype=torch.int64, device=at.device)
    there = min(count, len(others))
    for rows in blocks(len(at), len(others), at.device):
        # exact differences: products of far positions would lose the digits
        gaps = torch.cdist(at[rows], others, compute_mode="donot_use_mm_for_euclid_dist")
        distance[rows, :there], index[rows, :there] = gaps.topk(there, dim=1, largest=False)
    beyond = distance > bound
    return distance.masked_fill_(beyond, torch.inf), index.masked_fill_(beyond, len(others))
