"""How the bundled models were trained: one command per model trains it again.

    python benchmarks/trainings.py cells-phase --data data [--runs runs] [--steps N]

It prints the `shiftseg train` command, which docs/models.md shows as well, and runs it. An interrupted training goes on from
RUNS/NAME.ckpt; the model is RUNS/NAME.safetensors. The volumes that `nuclei-3d` learns from beside real ones are drawn first,
where they are not there (`made_volumes.py`).
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

MADE = "made_nuclei_3d"
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
        options="--embedding-dim 2 --features 24 --window 132 --batch 4 --balance 0.5 --zoom 1.5 --degrade 0.05 --small 0.3",
        average=0,
    ),
    "cells-phase": Training(
        data=("usiigaci_t98g_phase",),
        kind="cells in phase contrast",
        steps=2400,
        options="--embedding-dim 2 --levels 4 --features 16 --window 196 --batch 2 --zoom 1.5 --degrade 0.05 --factor 1.1",
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
        data=("gonuclear_ovule_nuclei_3d", "qcanet_mouse_embryo_3d", MADE),
        split="train,extra",
        kind="fluorescent nuclei in volumes",
        steps=1500,
        # one convolution per level on the way down: half of the time of two, and windows of three times the volume
        options="--ndim 3 --embedding-dim 3 --levels 2 --convs 1 --decoder-convs 2 --features 16 --window 40 --batch 2"
        " --zoom 1.3 --degrade 0.1 --small 0.2 --learning-rate 0.002",
        average=0,
    ),
    "nuclei-codes": Training(
        data=("dsb2018_fluo", "bitdepth_dapi16"),
        kind="fluorescent nuclei",
        steps=3000,
        common=COMMON.removeprefix("--coordinates "),
        options="--embedding-dim 4 --features 24 --window 132 --batch 4 --balance 0.5 --zoom 1.5 --degrade 0.05 --small 0.4",
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=TRAININGS)
    parser.add_argument("--data", type=Path, default=Path("data"), help="where the folders of images are")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the checkpoint and the model")
    parser.add_argument("--steps", type=int, help="instead of those of the bundled model")
    parser.add_argument("--print", action="store_true", help="say the command, and do nothing")
    wishes = parser.parse_args()
    training = TRAININGS[wishes.name]
    words = training.words(wishes.name, wishes.data, wishes.runs, wishes.steps)
    print(shlex.join(words), flush=True)
    if wishes.print:
        return 0
    if MADE in training.data and not (wishes.data / MADE).exists():
        subprocess.run([sys.executable, Path(__file__).with_name("made_volumes.py"), wishes.data / MADE], check=True)
    wishes.runs.mkdir(parents=True, exist_ok=True)
    return subprocess.run([sys.executable, "-m", "napari_shiftseg.cli", *words[1:]], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
