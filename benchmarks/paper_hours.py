"""How long the paper's experiments train in full size: seconds of the processor per step, times their steps.

    python benchmarks/paper_hours.py [--steps 12] [--size full] [--out docs/measurements/paper_hours.json]

Each network is trained for a few steps in one thread. What is counted is time of the processor and not of the clock, so that
other work on the machine does not count. Experiments that share a network share its time; what is not trained is left out.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import torch
from bench import keep, origin

from napari_shiftseg.events import TrainStep
from napari_shiftseg.paper import EXPERIMENTS, Setup, Training

FIRST = 2  # steps that are not counted: memory is new to them


def seconds_per_step(setup: Setup, steps: int) -> float:
    """Median over so many steps; stops the training there."""
    assert isinstance(setup.weights, Training)
    training = setup.weights.train_steps(setup.spec, 0, setup.start(0), checkpoint=None)
    ends = []
    for event in training:
        if isinstance(event, TrainStep):
            ends.append(time.process_time())
        if len(ends) > FIRST + steps:
            break
    training.close()
    return median(b - a for a, b in zip(ends[FIRST:], ends[FIRST + 1 :], strict=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, metavar="N", help="steps that are timed")
    parser.add_argument("--size", choices=("quick", "full"), default="full")
    parser.add_argument("--out", type=Path)
    wishes = parser.parse_args()
    torch.set_num_threads(1)
    networks: dict[str, list[str]] = {}
    for name, one in EXPERIMENTS.items():
        if isinstance(one.setups[wishes.size].weights, Training):
            networks.setdefault(one.setups[wishes.size].key(), []).append(name)
    rows = []
    for names in networks.values():
        setup = EXPERIMENTS[names[0]].setups[wishes.size]
        each = seconds_per_step(setup, wishes.steps)
        rows.append({"names": names, "steps": setup.weights.steps, "per_step": round(each, 5)})
        rows[-1]["hours"] = round(each * setup.weights.steps / 3600, 3)
        print(rows[-1], flush=True)
    keep(wishes.out, {**origin(), "size": wishes.size, "rows": rows, "hours": round(sum(row["hours"] for row in rows), 2)})


if __name__ == "__main__":
    main()
