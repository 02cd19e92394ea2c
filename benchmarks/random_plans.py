"""How far apart are tiles and one pass? Random networks, images and tile sizes on the lattice, in float32 and bfloat16.

    python benchmarks/random_plans.py [--networks 252] [--halves 24] [--out docs/measurements/random_plans.json]

Networks have 1 to 3 dimensions, 1 to 3 poolings by 2 or 1 to 2 by 3, valid and zero-padded convolutions, and random weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from bench import keep, origin, parser, told

from napari_shiftseg import UNet, UNetSpec, plan_tiles, verify_tiling
from napari_shiftseg.network import Model

EDGES = {1: (60, 400), 2: (30, 120), 3: (12, 30)}


def network(rng: np.random.Generator) -> UNetSpec:
    """A small network of random kind."""
    pool = int(rng.integers(2, 4))
    ndim = int(rng.integers(1, 4))
    levels = int(rng.integers(1, 4 if (pool, ndim) < (3, 1) else 3))
    return UNetSpec(
        ndim=ndim,
        levels=min(levels, 2) if ndim == 3 else levels,
        pool=pool,
        convs=int(rng.integers(1, 3)),
        features=int(rng.integers(1, 5)),
        padding=("valid", "zero")[rng.integers(2)],
        upsampling=("learnt", "fixed")[rng.integers(2)],
    )


def differences(count: int, dtype: str, seed: int) -> Iterator[float]:
    """Largest difference of a random plan from one pass, relative to the largest value."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        spec = network(rng)
        torch.manual_seed(index)
        model = Model(spec=spec, module=UNet(spec).eval(), record=None)
        shape = tuple(int(rng.integers(*EDGES[spec.ndim])) for _ in range(spec.ndim))
        write = tuple(period * int(rng.integers(1, 4)) for period in spec.period)
        plan = plan_tiles(spec, shape, write)
        image = rng.random((1, *shape), dtype=np.float32)
        yield verify_tiling(model, image, plan, device="cpu", dtype=dtype).max_difference


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--networks", type=int, default=252)
    made.add_argument("--halves", type=int, default=24)
    wishes = made.parse_args()
    document = origin()
    for seed, (dtype, count) in enumerate((("float32", wishes.networks), ("bfloat16", wishes.halves))):
        values = list(differences(count, dtype, seed))
        document[dtype] = told({"plans": len(values), "largest": max(values), "equal": values.count(0.0)})
    keep(wishes.out, document)


if __name__ == "__main__":
    main()
