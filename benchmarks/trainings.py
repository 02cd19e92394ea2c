"""How the bundled models were trained: one command per model trains it again.

    python benchmarks/trainings.py cells-phase --data data [--runs runs] [--steps N] [--seed N]
    python benchmarks/trainings.py cells-phase --data data --cost [--out docs/measurements/training_cost.json]

It prints the `shiftseg train` command, which docs/models.md shows as well, and runs it. An interrupted training goes on from
RUNS/NAME.ckpt; the model is RUNS/NAME.safetensors. The volumes that `nuclei-3d` learns from beside real ones are drawn first,
where they are not there (`made_volumes.py`), and so is a folder that keeps one of its volumes apart. `--cost` trains for some
steps and for some more from the start, and tells the processor time of a step, all threads together.
"""

from __future__ import annotations

import argparse
import csv
import resource
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import keep, origin, told

MADE = "made_nuclei_3d"
# The volumes of the ovules with one of them to validate on, which nothing learns from; `image_signal.py` says why volume 1137,
# which is kept aside there, cannot be used.
OVULES, APART, SPLITS = "gonuclear_ovule_nuclei_3d", "gonuclear_1136_apart", {"1135": "train", "1136": "val"}
# steps of the two trainings whose difference in time is the cost; the first ones are slower
COST = (10, 50)
# What all of them have in common; each object has its own bandwidth.
COMMON = (
    "--coordinates --foreground --seeds --batch-norm --loss gaussian --offset-scale 8 --size-power 0.4 --dtype bfloat16 --half"
)


@dataclass(frozen=True, kw_only=True)
class Training:
    """Data, network and settings of a bundled model."""

    data: tuple[str, ...]  # folders
    kind: str  # what the images show
    steps: int
    options: str
    # decay of the mean of the weights; in a thousand steps 0.999 still holds a third of the random ones, so 0: the last weights
    average: float = 0.999
    split: str = "train"
    common: str = COMMON

    def words(self, name: str, data: Path, runs: Path, steps: int | None = None) -> list[str]:
        """The command."""
        folders = [str(data / folder) for folder in self.data]
        files = ["--checkpoint", str(runs / f"{name}.ckpt"), "--out", str(runs / f"{name}.safetensors")]
        return [
            *("shiftseg", "train", *folders, "--split", self.split, *self.common.split(), *self.options.split()),
            *("--average", f"{self.average:g}", "--steps", str(steps or self.steps), "--kind", self.kind, *files),
        ]


TRAININGS = {
    "nuclei": Training(
        data=("dsb2018_fluo", "bitdepth_dapi16"),
        kind="fluorescent nuclei",
        steps=25_000,
        options="--embedding-dim 2 --features 32 --window 132 --batch 4 --balance 0.5 --zoom 2 --degrade 0.1 --small 0.4",
    ),
    "nuclei-he": Training(
        data=("dsb2018_histology_rgb",),
        kind="nuclei in stained tissue (haematoxylin and eosin)",
        steps=1300,
        options="--embedding-dim 2 --features 24 --window 132 --batch 4 --balance 0.5 --zoom 1.5 --degrade 0.05 --small 0.3"
        # of the seeds 0, 1 and 2 the one with the highest AP on the validation images (ablations_nuclei_he.json)
        " --seed 1",
        average=0,
    ),
    "cells-phase": Training(
        data=("usiigaci_t98g_phase",),
        kind="cells in phase contrast",
        steps=2400,
        options="--embedding-dim 2 --levels 4 --features 16 --window 196 --batch 2 --zoom 1.5 --degrade 0.05 --factor 1.1 "
        "--valley 0.5",
    ),
    "axons-sem": Training(
        data=("axon_sem",),
        kind="myelinated axons in scanning electron microscopy",
        steps=1000,
        options="--embedding-dim 2 --features 24 --window 132 --batch 4 --balance 0.5 --zoom 1.5 --degrade 0.05 --small 0.2 "
        "--factor 1.2 --least-seed 0.6",
        average=0,
    ),
    "nuclei-3d": Training(
        data=(APART, "qcanet_mouse_embryo_3d", MADE),
        split="train,extra",
        kind="fluorescent nuclei in volumes",
        steps=3000,
        # one convolution per level: it sees 22 px far, as nuclei of tissue need it, at the cost of two levels with three
        options="--ndim 3 --embedding-dim 3 --levels 3 --pool 1,2,2:2,2,2:2,2,2 --convs 1 --decoder-convs 1 --features 16"
        " --window 36,42,42 --batch 2 --zoom 1.4 --degrade 0.1 --small 0.2 --learning-rate 0.002 --valley 0.5",
        average=0.998,
    ),
    "nuclei-codes": Training(
        data=("dsb2018_fluo", "bitdepth_dapi16"),
        kind="fluorescent nuclei",
        steps=7000,
        common=COMMON.removeprefix("--coordinates "),
        options="--embedding-dim 4 --features 24 --window 132 --batch 4 --balance 0.5 --zoom 1.5 --degrade 0.05 --small 0.4",
    ),
}


def set_apart(data: Path) -> None:
    """Write the folder APART, which has the images of OVULES by links and splits of its own."""
    (data / APART).mkdir()
    for kind in ("images", "masks"):
        (data / APART / kind).symlink_to(Path("..") / OVULES / kind)
    with open(data / OVULES / "meta.csv", encoding="utf-8", newline="") as lines:
        rows = [{**row, "split": SPLITS[row["id"]]} for row in csv.DictReader(lines) if row["id"] in SPLITS]
    with open(data / APART / "meta.csv", "w", encoding="utf-8", newline="") as lines:
        table = csv.DictWriter(lines, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def make_missing(training: Training, data: Path) -> None:
    """Data that are made from others or from nothing."""
    if MADE in training.data and not (data / MADE).exists():
        subprocess.run([sys.executable, Path(__file__).with_name("made_volumes.py"), data / MADE], check=True)
    if APART in training.data and not (data / APART).exists():
        set_apart(data)


def run(words: Sequence[str]) -> int:
    """The exit status of a `shiftseg` command."""
    return subprocess.run([sys.executable, "-m", "napari_shiftseg.cli", *words[1:]], check=False).returncode


def processor_seconds(name: str, data: Path, steps: int) -> float:
    """What a training of so many steps from the start takes."""
    with tempfile.TemporaryDirectory() as folder:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        if run([*TRAININGS[name].words(name, data, Path(folder), steps), "--quiet"]):
            raise SystemExit(f"the training of {name} did not end.")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime


def tell_cost(name: str, wishes: argparse.Namespace) -> None:
    """Processor time of a step, and of the training of the bundled model."""
    first, last = (processor_seconds(name, wishes.data, steps) for steps in COST)
    step, steps = (last - first) / (COST[1] - COST[0]), TRAININGS[name].steps
    whole = first + step * (steps - COST[0])
    row = told({"name": name, "seconds_per_step": round(step, 4), "steps": steps, "seconds": round(whole, 1)})
    keep(wishes.out, origin() | {"rows": [row]})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=TRAININGS)
    parser.add_argument("--data", type=Path, default=Path("data"), help="where the folders of images are")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the checkpoint and the model")
    parser.add_argument("--steps", type=int, help="instead of those of the bundled model")
    parser.add_argument("--seed", type=int, help="of the random numbers, in place of that of the bundled model")
    parser.add_argument("--print", action="store_true", help="say the command, and do nothing")
    parser.add_argument("--cost", action="store_true", help="measure the processor time of a step")
    parser.add_argument("--out", type=Path, help="with --cost: file of the numbers")
    wishes = parser.parse_args()
    training = TRAININGS[wishes.name]
    words = training.words(wishes.name, wishes.data, wishes.runs, wishes.steps)
    words += [] if wishes.seed is None else ["--seed", str(wishes.seed)]
    print(shlex.join(words), flush=True)
    if wishes.print:
        return 0
    make_missing(training, wishes.data)
    if wishes.cost:
        tell_cost(wishes.name, wishes)
        return 0
    wishes.runs.mkdir(parents=True, exist_ok=True)
    return run(words)


if __name__ == "__main__":
    sys.exit(main())
