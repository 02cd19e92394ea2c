"""Does a run out of core survive? It is killed, or its workers are, and its labels are compared with those of a run left alone.

    python benchmarks/kills.py run --kills 30 --seed 2 --edge 3000 --out docs/measurements/sigkills.json
    python benchmarks/kills.py workers --kills 5 --out docs/measurements/worker_kills.json

`run`: the whole run gets SIGKILL at a random moment after its first event and is started again, until the given number of kills
has been reached; then it may finish. `workers`: of two workers, random ones are killed in the middle of whatever they do.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
from bench import keep, origin, parser, told

from napari_shiftseg import SegmentSettings, open_result, segment, synthetic
from napari_shiftseg.events import BlockDone
from napari_shiftseg.segmentation import segment_steps

DENSITY = 3.6e-4  # nuclei per pixel
SETTINGS = SegmentSettings(device="cpu", out_of_core=True, memory=1 << 30, deterministic=True)


def main() -> int:
    made = parser(__doc__)
    made.add_argument("who", choices=("run", "workers", "once"), help="who is killed; `once` runs and says when it began")
    made.add_argument("--kills", type=int, default=5)
    made.add_argument("--edge", type=int, default=2560)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--paths", nargs=2, help="for `once`: image and result")
    wishes = made.parse_args()
    import_module("napari_shiftseg.segmentation.layout").LARGEST = {2: 512, 3: 128}
    if wishes.who == "once":
        segment(wishes.paths[0], "nuclei", SETTINGS, wishes.paths[1], on_event=lambda event: print("event", flush=True))
        return 0
    with TemporaryDirectory() as place:
        folder = Path(place)
        count = int(DENSITY * wishes.edge**2)
        np.save(folder / "image.npy", synthetic.blobs((wishes.edge,) * 2, count, radius=(8, 14), seed=wishes.seed).image)
        started = time.perf_counter()
        alone = segment(folder / "image.npy", "nuclei", SETTINGS, folder / "alone.zarr").labels[:]
        seconds = time.perf_counter() - started
        kill = {"run": kill_runs, "workers": kill_workers}[wishes.who]
        killed = kill(folder / "image.npy", folder / "killed.zarr", wishes.kills, seconds, random.Random(wishes.seed))
        differing = int((open_result(folder / "killed.zarr").labels[:] != alone).sum())
        left = sorted(path.name for path in folder.iterdir())
    row = {"kills": killed, "pixels": alone.size, "instances": int(alone.max()), "different_pixels": differing, "left": left}
    keep(wishes.out, {**origin(), **told(row), "seconds_left_alone": round(seconds, 1), "workers_left": len(workers())})
    return 0 if differing == 0 and killed == wishes.kills else 1


def kill_runs(image: Path, out: Path, kills: int, alone: float, chance: random.Random) -> int:
    """Start, kill, and start again."""
    command = [sys.executable, __file__, "once", "--paths", str(image), str(out)]
    killed = 0
    while killed < kills and not out.exists():
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            run.stdout.readline()
            time.sleep(chance.uniform(0, 1.5 * alone / kills))
            run.send_signal(signal.SIGKILL)
            run.stdout.read()
        killed += run.returncode == -signal.SIGKILL
    if not out.exists():
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return killed


def kill_workers(image: Path, out: Path, kills: int, alone: float, chance: random.Random, *, model: str = "nuclei") -> int:
    """Run with two workers, and kill one of them now and then."""
    killed, following = 0, float("inf")
    for event in segment_steps(image, model, replace(SETTINGS, workers=2), out):
        now = time.perf_counter()
        if following == float("inf") and isinstance(event, BlockDone):
            following = now  # they work
        if killed < kills and now >= following and (alive := workers()):
            with suppress(psutil.Error):
                chance.choice(alive).kill()
                killed += 1
            following = now + alone / (kills + 1) * chance.uniform(0.2, 1.8)
    return killed


def workers() -> list[psutil.Process]:
    """Processes that work, without the nannies that start them again."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            found += [process] if any("spawn_main" in part for part in process.cmdline()) else []
    return found


if __name__ == "__main__":
    sys.exit(main())
