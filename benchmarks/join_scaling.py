"""Joining instances across blocks: time and memory against the number of instances, with the exact count as a check.

The image is a lattice of square instances 20 px apart in blocks of 4096 px, which no multiple of 20 meets, so that each face
cuts a row of them and each corner one. Faces are made when they are asked for; their making is timed apart. Every size runs in
a process of its own.

python benchmarks/join_scaling.py --blocks 2 5 16 --out docs/measurements/join_scaling.json    # 16 x 16: 10^7 instances
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from bench import in_own_process, keep, origin, parser, peak_of, told

from napari_shiftseg.geometry import BlockGrid
from napari_shiftseg.instances import BlockFaces, LabelSettings, join_blocks

PITCH, EDGE = 20, 4096


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--blocks", nargs="+", type=int, default=[2, 5, 16], help="blocks along each edge of the image")
    made.add_argument("--one", type=int, help=argparse.SUPPRESS)
    wishes = made.parse_args()
    if wishes.one:
        told(measure(wishes.one))
        return
    keep(wishes.out, {**origin(), "rows": [told(in_own_process("--one", count)) for count in wishes.blocks]})


def measure(count: int) -> dict:
    """Join an image of `count` x `count` blocks."""
    edge = count * EDGE - EDGE // 3  # the last blocks are smaller
    grid = BlockGrid(shape=(edge, edge), edge=(EDGE, EDGE), halo=64)
    made = Lattice(grid)
    found = []
    started = time.perf_counter()
    memory = peak_of(lambda: found.append(join_blocks(grid, made, LabelSettings(bandwidth=1.0, min_size=1))))
    seconds, (numbers,) = time.perf_counter() - started, found
    return {
        "edge": edge,
        "blocks": len(grid),
        "fragments": len(numbers.labels),
        "instances": numbers.count,
        "true": (-(-edge // PITCH)) ** 2,
        "seconds": round(seconds - made.seconds, 3),
        "seconds_for_making_faces": round(made.seconds, 3),
        "memory": memory,
    }


class Lattice:
    """The faces of each block of the image."""

    def __init__(self, grid: BlockGrid) -> None:
        self.grid, self.seconds = grid, 0.0

    def __call__(self, number: int) -> BlockFaces:
        started = time.perf_counter()
        block = self.grid[number]
        cells = [np.arange(part.start, part.stop) // PITCH for part in block.core]
        first = [int(c[0]) for c in cells]
        counts = [int(c[-1]) - f + 1 for c, f in zip(cells, first, strict=True)]
        rows, columns = (c - f for c, f in zip(cells, first, strict=True))
        local = np.arange(counts[0] * counts[1]).reshape(counts)
        lines = {
            (0, 0): local[0, columns],
            (0, 1): local[-1, columns],
            (1, 0): local[rows, 0],
            (1, 1): local[rows, -1],
        }
        there = np.unique(np.concatenate(list(lines.values())))
        heights, widths = (np.bincount(c - f) for c, f in zip(cells, first, strict=True))
        tops = np.maximum((np.arange(counts[0]) + first[0]) * PITCH, block.core[0].start)
        lefts = np.maximum((np.arange(counts[1]) + first[1]) * PITCH, block.core[1].start)
        # neighbours that touch on the lattice have far modes, as the loss makes them
        wide = np.stack([there // counts[1] + first[0], there % counts[1] + first[1]], axis=1)
        modes = np.concatenate([np.zeros((1, 2)), 10.0 * (wide % 7) + wide // 7 % 3])
        faces = BlockFaces(
            sizes=np.outer(heights, widths).ravel(),
            first=(tops[:, None] * self.grid.shape[1] + lefts).ravel(),
            modes=modes,
            fragment=np.concatenate([[-1], there]),
            faces={place: (np.searchsorted(there, line) + 1).astype(np.int32) for place, line in lines.items()},
            rims={},
        )
        self.seconds += time.perf_counter() - started
        return faces


if __name__ == "__main__":
    main()
