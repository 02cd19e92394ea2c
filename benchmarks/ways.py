"""Ways to segment an image, in turns: image to labels by tiles and as a stream in float32, and by fixed blocks in bfloat16.

    python benchmarks/ways.py [--edges 1024 2048] [--turns 3] [--out docs/measurements/ways.json]

The image is the sample of nuclei, repeated; the model is `nuclei`. Ratios are to float32 tiles of the same turn: of the time
that passes, and of the time that processors work, which other programs on the machine disturb less. `labels` is the time of the
clustering over that of the network.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import numpy as np
import tifffile
from bench import keep, origin, parser, ratio, told

from napari_shiftseg import SegmentSettings, load_model, segment
from napari_shiftseg.network import choose_device, choose_precision

WAYS = {
    "float32, tiles": {"dtype": "float32", "method": "tiles"},
    "float32, stream": {"dtype": "float32", "method": "stream"},
    "bfloat16, fixed blocks": {"dtype": "bfloat16", "deterministic": True},
}


def compared(edge: int, turns: int) -> Iterator[dict[str, Any]]:
    """A row for each way; every other turn goes backwards."""
    sample = tifffile.imread(str(files("napari_shiftseg") / "samples" / "nuclei.tif"))
    image = np.tile(sample, [-(-edge // size) for size in sample.shape])[:edge, :edge]
    model, found = load_model("nuclei"), {way: [] for way in WAYS}
    for turn in range(turns + 1):  # the first one warms up
        for way in WAYS if turn % 2 else reversed(WAYS):
            settings = SegmentSettings(device="cpu", out_of_core=False, memory=2_500_000_000, **WAYS[way])
            wall, busy = time.perf_counter(), time.process_time()
            record = segment(image, model, settings).record
            spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - busy}
            spent |= {name: record["seconds"][name] for name in ("network", "labels")}
            found[way].append(spent | {"instances": sum(record["instances"])})
    for way, runs in found.items():
        columns = {name: [run[name] for run in runs[1:]] for name in runs[0]}
        first = {name: [run[name] for run in found["float32, tiles"][1:]] for name in runs[0]}
        cpu = sorted(a / b for a, b in zip(columns["cpu"], first["cpu"], strict=True))
        yield {
            "edge": edge, "way": way, "instances": columns["instances"][0],
            "seconds": {name: statistics.median(columns[name]) for name in ("wall", "cpu", "network", "labels")},
            "wall_ratio": ratio(columns["wall"], first["wall"]),
            "cpu_ratio": {"median": statistics.median(cpu), "lowest": cpu[0], "highest": cpu[-1]},
            "labels": ratio(columns["labels"], columns["network"]),
        }  # fmt: skip


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--edges", nargs="+", type=int, default=[1024, 2048], help="of the images, px")
    made.add_argument("--turns", type=int, default=3)
    wishes = made.parse_args()
    precision = choose_precision("auto", choose_device("cpu"), 2)
    document = origin() | {"turns": wishes.turns, "auto": f"{precision.name}: {precision.why}"}
    keep(wishes.out, document | {"rows": [told(row) for edge in wishes.edges for row in compared(edge, wishes.turns)]})


if __name__ == "__main__":
    main()
