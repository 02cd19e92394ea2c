"""Does a run survive the death of its workers? Random workers are killed at random times, and the labels compared.

    python benchmarks/worker_kills.py [--kills 5] [--image-edge 2560] [--out docs/measurements/worker_kills.json]

First an undisturbed run in one process, then one with two workers, both deterministic, on the same file, in blocks of 512 px.
Workers are killed with SIGKILL, in the middle of whatever they do; `differing` counts the pixels whose labels are not those of
the undisturbed run.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
import time
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import torch

from napari_shiftseg import SegmentSettings, open_result, segment, synthetic
from napari_shiftseg.events import BlockDone
from napari_shiftseg.segmentation import segment_steps

import_module("napari_shiftseg.segmentation.layout")._LARGEST = {2: 512, 3: 128}
DENSITY = 3.6e-4  # nuclei per pixel


def workers() -> list[psutil.Process]:
    """Processes that work, without the nannies that start them again."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            found += [process] if any("spawn_main" in part for part in process.cmdline()) else []
    return found


def disturbed(image: Path, settings: SegmentSettings, out: Path, kills: int, pause: float, seed: int) -> list[float]:
    """Run with workers and kill them; seconds after the start at which one was killed."""
    chance, started, times = random.Random(seed), time.perf_counter(), []
    following = None
    for event in segment_steps(image, "nuclei", settings, out):
        now = time.perf_counter() - started
        if following is None and isinstance(event, BlockDone):
            following = now  # they work
        if following is not None and len(times) < kills and now >= following and (alive := workers()):
            with suppress(psutil.Error):
                chance.choice(alive).kill()
                times.append(round(now, 1))
            following = now + pause * chance.uniform(0.2, 1.8)
    return times


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--image-edge", type=int, default=2560)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    wishes = parser.parse_args()
    edge = wishes.image_edge
    settings = SegmentSettings(device="cpu", out_of_core=True, memory=1 << 30, deterministic=True)
    with TemporaryDirectory() as folder:
        image, whole, parts = Path(folder, "image.npy"), Path(folder, "one.zarr"), Path(folder, "many.zarr")
        np.save(image, synthetic.blobs((edge, edge), int(DENSITY * edge**2), radius=(8, 14), seed=wishes.seed).image)
        started = time.perf_counter()
        undisturbed = segment(image, "nuclei", settings, whole)
        alone = time.perf_counter() - started
        pause = alone / (wishes.kills + 1)
        started = time.perf_counter()
        times = disturbed(image, replace(settings, workers=2), parts, wishes.kills, pause, wishes.seed)
        together = time.perf_counter() - started
        labels, reference = open_result(parts).labels[:], undisturbed.labels[:]
        left = sorted(path.name for path in Path(folder).iterdir())
    found = {
        "command": sys.argv,
        "platform": platform.platform(),
        "torch": torch.__version__,
        "shape": list(reference.shape),
        "blocks": undisturbed.record["blocks"],
        "instances": int(reference.max()),
        "killed": len(times),
        "killed_at": times,
        "seconds": {"one process": round(alone, 1), "two workers, killed": round(together, 1)},
        "differing": int((labels != reference).sum()),
        "left": left,
        "workers_left": len(workers()),
    }
    print(json.dumps(found))
    if wishes.out:
        wishes.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0 if found["differing"] == 0 and len(times) == wishes.kills else 1


if __name__ == "__main__":
    sys.exit(main())
