"""A run out of core that is killed again and again, and what it ends with against a run that was left alone.

The image has 6 x 6 blocks of blobs on disk; the run is started, gets SIGKILL at a random moment after its first event, and is
started again, until the given number of kills has been reached; then it may finish.

python benchmarks/sigkills.py --kills 30 --out docs/measurements/sigkills.json
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr

RUN = """
import sys
from napari_shiftseg import SegmentSettings, segment
from napari_shiftseg.segmentation import layout
layout._LARGEST = {2: 512}
settings = SegmentSettings(device="cpu", out_of_core=True, memory=1 << 30, deterministic=True)
segment(*sys.argv[1:3], settings, sys.argv[3], on_event=lambda event: print("event", flush=True))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    wishes = parser.parse_args()
    chance = random.Random(wishes.seed)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        command = prepared(folder)
        began = time.perf_counter()
        subprocess.run([*command, str(folder / "left_alone.zarr")], check=True, stdout=subprocess.DEVNULL)
        alone = time.perf_counter() - began
        kills = done = 0
        while kills < wishes.kills and not (folder / "killed.zarr").exists():
            kills += killed_once(command, folder / "killed.zarr", chance.uniform(0, 1.5 * alone / wishes.kills))
            work = folder / ".killed.zarr.unfinished"
            done = sum(1 for _ in work.glob("*/*.npz")) if work.exists() else done
        if not (folder / "killed.zarr").exists():
            subprocess.run([*command, str(folder / "killed.zarr")], check=True, stdout=subprocess.DEVNULL)
        ours, theirs = (zarr.open_array(folder / name / "labels/instances/0")[:] for name in ("killed.zarr", "left_alone.zarr"))
        row = {
            "date": time.strftime("%Y-%m-%d"),
            "command": "python benchmarks/sigkills.py " + " ".join(sys.argv[1:]),
            "kills": kills,
            "parts_done_before_the_last_start": done,
            "pixels": ours.size,
            "instances": int(theirs.max()),
            "different_pixels": int((ours != theirs).sum()),
            "seconds_left_alone": round(alone, 1),
        }
    print(json.dumps(row))
    if wishes.out:
        wishes.out.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")


def prepared(folder: Path) -> list[str]:
    """Image and model on disk, and the command but for its result."""
    sys.path.insert(0, str(Path(__file__).parent))
    from large_images import Made, train_small

    train_small(2, folder)
    image = zarr.create_array(str(folder / "image.zarr"), shape=(3000, 3000), chunks=(1024, 1024), dtype=np.uint16)
    source = Made(2, 3072)
    for y in range(0, 3000, 1024):
        for x in range(0, 3000, 1024):
            window = (slice(y, min(y + 1024, 3000)), slice(x, min(x + 1024, 3000)))
            image[window] = source[window]
    return [sys.executable, "-c", RUN, str(folder / "image.zarr"), str(folder / "small2.safetensors")]


def killed_once(command: list[str], out: Path, after: float) -> int:
    """Start the run and kill it that many seconds after its first event; 1 if it was still running."""
    with subprocess.Popen([*command, str(out)], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        run.stdout.readline()
        time.sleep(after)
        run.send_signal(signal.SIGKILL)
        run.stdout.read()
    return int(run.returncode == -signal.SIGKILL)


if __name__ == "__main__":
    main()
