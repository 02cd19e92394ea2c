"""Density of votes, each under a kernel of its own width: on a grid in few dimensions, in cells in many.

A vote is the embedding of a pixel; its weight is its seed, and its width the bandwidth that it says of its object.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import ceil, log, pi, prod
from operator import mul

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from napari_shiftseg.instances.constants import (
    CLASS_STEP,
    CLIMBED,
    KERNEL,
    KERNEL_REACH,
    LEAST_MASS,
    LEAST_PEAK,
    MOST_KERNELS,
    MOST_NODES,
    NARROW,
    TREE_DIMENSIONS,
    VOTE_STEPS,
)
from napari_shiftseg.instances.neighbours import Grid, blocks, cells_of, smoothed

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Votes:
    """What pixels say of their objects."""

    places: FloatArray  # (E, N), embedding
    amounts: FloatArray  # (N,), what a vote counts
    widths: FloatArray  # (N,), bandwidth of the object, > 0

    def those(self, chosen: npt.NDArray[np.bool_]) -> Votes:
        """Some of the votes; where all are chosen, nothing is copied."""
        if chosen.all():
            return self
        return Votes(places=self.places[:, chosen], amounts=self.amounts[chosen], widths=self.widths[chosen])

    @cached_property
    def narrow(self) -> float:
        """A bandwidth that few objects are below."""
        return float(np.quantile(self.widths, NARROW)) if len(self.widths) else 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class VoteGrid:
    """Density on a grid, and its parts by classes of widths."""

    grid: Grid
    classes: list[npt.NDArray[np.float32]]  # of each class of widths
    logs: FloatArray  # (J,) logarithm of its width

    def peaks(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Positions (K, E) of the maxima, widths (K,) and densities (K,) there."""
        places = self.grid.peaks(LEAST_PEAK).numpy()
        nodes = np.rint((places - self.grid.corner.numpy()) / self.grid.edge).astype(np.int64)
        nodes = tuple(np.clip(at, 0, n - 1) for at, n in zip(nodes.T, self.grid.density.shape, strict=True))
        parts = np.stack([part[nodes] for part in self.classes]).astype(np.float64)
        density = parts.sum(axis=0)
        # shares that are linear in the logarithm give it back
        return places, np.exp(self.logs @ parts / density), density

    def at(self, places: FloatArray) -> FloatArray:
        """(S,) density at positions (S, E)."""
        nodes = (places - self.grid.corner.numpy()) / self.grid.edge
        return np.asarray(ndimage.map_coordinates(self.grid.density.numpy(), nodes.T, order=1, output=np.float64))


def vote_grid(votes: Votes, edge: float) -> VoteGrid:
    """Density of votes, at most 3 dimensions; `edge`: distance of two nodes, wider where they would be too many."""
    dim = len(votes.places)
    steps = np.log(votes.widths) / log(CLASS_STEP)
    first = np.floor(steps).astype(np.int64)
    low, high = votes.places.min(axis=1), votes.places.max(axis=1)
    while True:
        margin = max(2, ceil(KERNEL_REACH * KERNEL * float(votes.widths.max()) / edge))
        corner = np.floor(low / edge).astype(np.int64) - margin
        shape = [int(n) for n in np.floor(high / edge).astype(np.int64) - corner + margin + 2]
        if prod(shape) <= MOST_NODES:
            break
        edge *= 1.25
    lowest = int(first.min())
    ends = np.cumsum(np.bincount(first - lowest))
    # those of a class side by side, in their own order
    order = np.argsort((first - lowest).astype(np.uint16), kind="stable") if len(ends) > 1 else slice(None)
    steps, amounts = steps[order], votes.amounts[order]
    nodes = votes.places[:, order] / edge - corner[:, None]
    base = np.floor(nodes).astype(np.int64)
    part = nodes - base
    strides = [prod(shape[axis + 1 :]) for axis in range(dim)]
    corners = sum(column * stride for column, stride in zip(base, strides, strict=True))
    classes, logs = [], []
    total = torch.zeros(shape)
    for number in range(lowest, lowest + len(ends) + 1):
        at = number - lowest
        there = slice(ends[at - 2] if at > 1 else 0, ends[min(at, len(ends) - 1)])  # votes of this class and the one below
        if there.start == there.stop:
            continue
        share, inside = (1 - np.abs(steps[there] - number)) * amounts[there], part[:, there]
        places, given = [], []
        for step in product((0, 1), repeat=dim):
            amount = share
            for on, inner in zip(step, inside, strict=True):
                amount = amount * (inner if on else 1 - inner)
            places.append(corners[there] + sum(map(mul, step, strides)))
            given.append(amount)
        counts = np.bincount(np.concatenate(places), np.concatenate(given), prod(shape))
        width = KERNEL * CLASS_STEP**number / edge
        values = torch.from_numpy(counts.reshape(shape)).float()
        for axis in range(dim):
            # linear shares widen the kernel by 1/6 of a node squared, which is taken off before
            spread = max(width * width - 1 / 6, 0.1) ** 0.5
            values = smoothed(values, axis, spread, reach=ceil(KERNEL_REACH * spread))
        values *= ((2 * pi) ** 0.5 * width) ** dim
        total += values
        classes.append(values.numpy())
        logs.append(number * log(CLASS_STEP))
    grid = Grid(density=total, corner=torch.from_numpy(corner).double() * edge, edge=edge)
    return VoteGrid(grid=grid, classes=classes, logs=np.array(logs))


@dataclass(frozen=True, kw_only=True, eq=False)
class VoteKernels:
    """Density by the heaviest cells, in any number of dimensions."""

    means: FloatArray  # (M, E)
    amounts: FloatArray  # (M,)
    logs: FloatArray  # (M,) mean logarithm of the widths

    def peaks(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Positions (K, E) of the maxima, widths (K,) and densities (K,) there."""
        density, _, _ = self._sums(self.means)
        starts = self.means[density > CLIMBED * LEAST_MASS]
        for _ in range(VOTE_STEPS):
            _, starts, _ = self._sums(starts)
        density, starts, logs = self._sums(starts)
        return starts, np.exp(logs), density

    def at(self, places: FloatArray) -> FloatArray:
        """(S,) density at positions (S, E)."""
        return self._sums(places)[0]

    def _sums(self, places: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Density (S,), and means of what is around: position (S, E) and logarithm of the width (S,)."""
        scale = 1 / (KERNEL * np.exp(self.logs)) ** 2
        square = (self.means**2).sum(axis=1)
        far = np.stack([self.amounts, self.amounts * self.logs], axis=1)
        pulls = np.concatenate([self.means, np.ones((len(self.means), 1))], axis=1) * (self.amounts * scale)[:, None]
        density, means, logs = np.empty(len(places)), places.copy(), np.zeros(len(places))
        for rows in blocks(len(places), len(self.means), torch.device("cpu")):
            here = places[rows]
            gaps = square - 2 * here @ self.means.T + (here * here).sum(axis=1)[:, None]
            exponent = -0.5 * scale * gaps
            kernel = np.where(exponent >= -0.5 * KERNEL_REACH**2, np.exp(np.minimum(exponent, 0)), 0)
            sums, pull = kernel @ far, kernel @ pulls
            some = sums[:, 0] > 0
            density[rows] = sums[:, 0]
            logs[rows][some] = sums[some, 1] / sums[some, 0]
            means[rows][some] = pull[some, :-1] / pull[some, -1:]
        return density, means, logs


def vote_kernels(votes: Votes) -> VoteKernels:
    """Density of votes in many dimensions."""
    cells = cells_of(torch.from_numpy(votes.places).T, KERNEL * votes.narrow)
    index, count = cells.index.numpy(), len(cells.counts)
    amounts = np.bincount(index, votes.amounts, count).astype(np.float64)
    kept = np.sort(np.argsort(-amounts, kind="stable")[:MOST_KERNELS])
    kept = kept[amounts[kept] > 0]
    weights = np.maximum(amounts, 1e-300)
    means = [np.bincount(index, channel * votes.amounts, count) / weights for channel in votes.places]
    logs = np.bincount(index, np.log(votes.widths) * votes.amounts, count) / weights
    return VoteKernels(means=np.stack(means, axis=1)[kept], amounts=amounts[kept], logs=logs[kept])


def density_of(votes: Votes, edge: float | None) -> VoteGrid | VoteKernels:
    """The density of some votes; `edge`: least distance of two nodes of a grid, by default what the kernels need."""
    if len(votes.places) > TREE_DIMENSIONS:
        return vote_kernels(votes)
    return vote_grid(votes, KERNEL * votes.narrow if edge is None else edge)
