"""Peak memory of `shiftseg segment --memory` for images of five shapes, against what was allowed.

    python benchmarks/peak_memory.py
    python benchmarks/peak_memory.py --only volume --memory 1.5GB
    python benchmarks/peak_memory.py --divide 8 --out /dev/null     # a trial with small images

Each image holds bright disks or balls on a noisy background and lies in a temporary folder, as does the result. Its network is
small and has made weights: random ones, but for the last layer, which is fitted to tell objects from background. Peak memory is
the largest resident set of the process or of one of its children (what `/usr/bin/time -v` says). This process imports nothing
large, since a child begins with the peak of its parent. Exit code 1 if a run fails or takes more than it may.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from math import ceil, prod
from pathlib import Path
from typing import Any

from machine import processor

from napari_shiftseg.cli.options import byte_count

# Measured peak over what was allowed that still counts as kept: what a process takes is known to so much.
TOLERANCE = 1.15
OUT = Path(__file__).parents[1] / "docs" / "measurements" / "peak_memory.json"
SMALL = {"levels": 2, "features": 4, "embedding_dim": 2}
# Axes, shape and file of the image, and its network.
SHAPES: dict[str, dict[str, Any]] = {
    "plane": {"axes": "yx", "shape": (12_288, 12_288), "file": "image.zarr", "network": SMALL},
    "long": {"axes": "yx", "shape": (256, 400_000), "file": "image.tif", "network": SMALL},
    "series": {"axes": "tyx", "shape": (200, 1024, 1024), "file": "image.tif", "network": SMALL},
    "channels": {"axes": "cyx", "shape": (24, 2048, 2048), "file": "image.tif", "network": {**SMALL, "in_channels": 24}},
    "volume": {"axes": "zyx", "shape": (512, 512, 512), "file": "image.tif",
               "network": {"ndim": 3, "levels": 2, "convs": 1, "features": 2, "embedding_dim": 3}},
}  # fmt: skip
# Edge of the square or cube with one object, and radii, px.
CELL, RADII = {2: 64, 3: 32}, {2: (8, 14), 3: (6, 9)}
# Random networks of which the best one is taken: of some, all features are dead.
TRIES = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--memory", default="1GB", help="of each run (default: %(default)s)")
    parser.add_argument("--divide", type=int, default=1, metavar="N", help="edges of all images by N")
    parser.add_argument("--out", type=Path, default=OUT, help="JSON; rows of other shapes are kept (default: %(default)s)")
    parser.add_argument("--make", help=argparse.SUPPRESS)
    wishes, words = parser.parse_known_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the run and clears the folder as an interruption does
    shapes = {
        name: {
            **shape,
            "shape": tuple(
                ceil(n / wishes.divide) if axis in "zyx" else n for axis, n in zip(shape["axes"], shape["shape"], strict=True)
            ),
        }
        for name, shape in SHAPES.items()
    }
    if wishes.make:
        make(shapes[wishes.make], Path.cwd())
        return 0
    rows = [measured(name, shapes[name], wishes.memory, sys.argv[1:], words) for name in wishes.only]
    if wishes.out.is_file():
        rows = [*(row for row in json.loads(wishes.out.read_text())["rows"] if row["name"] not in wishes.only), *rows]
    found = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "tolerance": TOLERANCE,
        "rows": rows,
    }
    wishes.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(not all(row["kept"] for row in rows))


def measured(name: str, shape: dict[str, Any], memory: str, given: list[str], words: list[str]) -> dict[str, Any]:
    """One run in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="peak-") as place:
        folder = Path(place)
        subprocess.run([sys.executable, Path(__file__).absolute(), *given, "--make", name], check=True, cwd=folder)
        command = [
            "segment",
            shape["file"],
            "--axes",
            shape["axes"],
            "--model",
            "model.safetensors",
            "--out",
            "result.ome.zarr",
        ]
        command += ["--memory", memory, "--limits", "0,255", "--bandwidth", "4", "--min-size", "16", "--json", *words]
        begun = time.perf_counter()
        with open(folder / "told", "w") as told, open(folder / "errors", "w") as errors:
            child = subprocess.Popen(
                [sys.executable, "-m", "napari_shiftseg.cli", *command], cwd=folder, stdout=told, stderr=errors
            )
            try:
                _, state, used = os.wait4(child.pid, 0)
                child.returncode = os.waitstatus_to_exitcode(state)
            finally:
                if child.returncode is None:  # interrupted
                    child.kill()
        row: dict[str, Any] = {"name": name, "axes": shape["axes"], "shape": shape["shape"], "memory": memory}
        row |= {"seconds": round(time.perf_counter() - begun, 1), "peak": used.ru_maxrss * 1024}
        if child.returncode:
            row |= {"kept": False, "error": (folder / "errors").read_text().strip().splitlines()[-1:]}
        else:
            record = json.loads((folder / "told").read_text())
            row |= {"kept": row["peak"] <= TOLERANCE * byte_count(memory), "instances": sum(record["instances"])}
            row |= {key: record.get(key) for key in ("method", "blocks")}
    size, found = " x ".join(map(str, shape["shape"])), row.get("error") or f"{row['instances']} instances"
    took = f"{row['peak'] / 1e9:6.2f} GB of {memory} in {row['seconds']:4.0f} s"
    print(f"{name:9} {size:18} {took}, {'kept' if row['kept'] else 'NOT KEPT'}: {found}", flush=True)
    return row


# -- what is only imported in a process of its own --------------------------------------------------------------------


def make(shape: dict[str, Any], folder: Path) -> None:
    """Image and model, written slab by slab."""
    import numpy as np
    import tifffile
    import zarr

    sizes, ndim = shape["shape"], shape["network"].get("ndim", 2)
    fitted_model(shape["network"], folder)
    rng, looped = np.random.default_rng(0), prod(sizes[:-ndim])
    if shape["file"].endswith("zarr"):
        chunks = tuple(min(n, 1024) for n in sizes)
        whole = zarr.create_array(str(folder / shape["file"]), shape=sizes, chunks=chunks, dtype="uint8")
    else:
        whole = tifffile.memmap(folder / shape["file"], shape=sizes, dtype="uint8", metadata={"axes": shape["axes"].upper()})
    for index in range(looped):
        at = np.unravel_index(index, sizes[:-ndim]) if sizes[:-ndim] else ()
        for start in range(0, sizes[-ndim], 8 * CELL[ndim]):
            window = slice(start, min(start + 8 * CELL[ndim], sizes[-ndim]))
            whole[(*at, window)] = objects((window.stop - start, *sizes[len(sizes) - ndim + 1 :]), rng)[0]
        if hasattr(whole, "flush"):
            whole.flush()


def objects(shape: tuple[int, ...], rng: Any) -> tuple[Any, Any]:
    """Pixels and mask of bright disks or balls on noise, one per cell."""
    import numpy as np

    cell, (low, high) = CELL[len(shape)], RADII[len(shape)]
    counts = [ceil(n / cell) for n in shape]
    radii = rng.uniform(low, high, counts) ** 2
    far = 0
    for axis, n in enumerate(shape):
        centres = rng.integers(high + 1, cell - high, counts)
        along = [1] * len(shape)
        along[axis] = n
        at = (np.arange(n, dtype=np.int16) % cell).reshape(along)
        far = far + (at - spread(centres, cell, shape).astype(np.int16)) ** 2
    mask = far <= spread(radii, cell, shape)
    return np.where(mask, 180, 20).astype(np.uint8) + rng.integers(0, 24, shape, np.uint8), mask


def spread(values: Any, cell: int, shape: tuple[int, ...]) -> Any:
    """Each cell's value at all of its pixels."""
    for axis, n in enumerate(shape):
        values = values.repeat(cell, axis).take(range(n), axis)
    return values


def fitted_model(network: dict[str, Any], folder: Path) -> None:
    """A model file: coordinates without offsets, and a foreground fitted by least squares, the best of some random networks."""
    import numpy as np
    import torch

    from napari_shiftseg import UNet, UNetSpec, save_model

    spec = UNetSpec(**network, foreground=True, coordinates=True)
    edge = spec.input_size((3 * CELL[spec.ndim],) * spec.ndim)
    image, mask = objects(edge, np.random.default_rng(1))
    x = torch.from_numpy(image.astype(np.float32) / 255).expand(1, spec.in_channels, *image.shape)
    found = []
    for seed in range(TRIES):
        torch.manual_seed(seed)
        net, given = UNet(spec).eval(), []
        net.head.register_forward_hook(lambda _, inputs, __, given=given: given.append(inputs[0]))
        with torch.inference_mode():
            net(x)
        cut = tuple(slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(image.shape, given[0].shape[2:], strict=True))
        wanted = torch.from_numpy(np.where(mask[cut], 4.0, -4.0)).reshape(-1, 1)
        seen = torch.cat([given[0][0].flatten(1).T.double(), torch.ones(len(wanted), 1)], 1)
        solved = torch.linalg.lstsq(seen, wanted, driver="gelsd").solution
        weight, bias = torch.zeros_like(net.head.weight), torch.zeros_like(net.head.bias)
        weight[-1].view(-1)[:], bias[-1] = solved[:-1, 0], solved[-1, 0]
        net.head.load_state_dict({"weight": weight, "bias": bias})
        found.append((float(((seen @ solved - wanted) ** 2).mean()), seed, net))
    save_model(folder / "model", min(found)[-1])


if __name__ == "__main__":
    sys.exit(main())
