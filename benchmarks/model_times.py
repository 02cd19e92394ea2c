"""Time from an image to its labels with each of several models, in turns.

    python benchmarks/model_times.py MODEL [MODEL ...] [--edge 2048] [--turns 3] [--out FILE]

The image is the sample of nuclei, repeated. The first model is what the others are compared with, in processor time of the same
turn (one thread), which other programs on the machine disturb less than the time that passes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import tifffile
import torch
from bench import keep, origin, parser, ratio, told

from napari_shiftseg import SegmentSettings, load_model, segment


def turns_of(models: Sequence[str], image: np.ndarray, turns: int) -> dict[str, list[dict[str, float]]]:
    """Processor seconds and instances of each run; every other turn goes backwards, and the first one warms up."""
    loaded, found = {name: load_model(name) for name in models}, {name: [] for name in models}
    for turn in range(turns + 1):
        for name in models if turn % 2 else reversed(models):
            busy = time.process_time()
            record = segment(image, loaded[name], SegmentSettings(device="cpu", keep_embedding=False)).record
            found[name].append({"cpu": time.process_time() - busy, "instances": sum(record["instances"])})
    return {name: runs[1:] for name, runs in found.items()}


def main() -> None:
    made = parser(__doc__)
    made.add_argument("models", nargs="+", help="bundled names or files")
    made.add_argument("--edge", type=int, default=2048, help="of the image, px")
    made.add_argument("--turns", type=int, default=3)
    wishes = made.parse_args()
    torch.set_num_threads(1)
    sample = tifffile.imread(str(files("napari_shiftseg") / "samples" / "nuclei.tif"))
    image = np.tile(sample, [-(-wishes.edge // size) for size in sample.shape])[: wishes.edge, : wishes.edge]
    found = turns_of(wishes.models, image, wishes.turns)
    first, rows = [run["cpu"] for run in found[wishes.models[0]]], []
    for name, runs in found.items():
        seconds = [run["cpu"] for run in runs]
        parameters = sum(weight.numel() for weight in load_model(name).unet.parameters())
        row = {"model": Path(name).stem, "edge": wishes.edge, "seconds": statistics.median(seconds), "parameters": parameters}
        rows.append(told(row | {"instances": runs[0]["instances"], "ratio": ratio(seconds, first)}))
    said = origin()
    said["command"] = f"python benchmarks/model_times.py {' '.join(Path(name).name for name in wishes.models)}"
    keep(wishes.out, said | {"turns": wishes.turns, "rows": rows})


if __name__ == "__main__":
    main()
