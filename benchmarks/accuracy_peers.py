"""Train peers on the same images for the same processor time, and let them label the same images; each in its own environment.

    python benchmarks/accuracy_peers.py train stardist DATA [DATA ...] --seconds 5400 --run runs/stardist-nuclei
    python benchmarks/accuracy_peers.py label stardist DATA [DATA ...] --split val --run runs/stardist-nuclei

DATA are folders with `images/`, `masks/` and `meta.csv` (columns id, split). Nothing of this package is imported: `python` is
that of an environment which holds the peer, made so (with a CPU build of PyTorch first where one is needed):

    python -m venv peers/stardist && peers/stardist/bin/pip install stardist==0.9.2 tensorflow-cpu tifffile
    python -m venv peers/cellpose && peers/cellpose/bin/pip install "cellpose<4" tifffile

`train` stops when the process has taken so many seconds of processor time, all threads together (there is one). It may be
interrupted at any moment: the same command goes on from the last checkpoint, and ends at once where the time is over; with
more `--seconds` it goes on for longer. Weights are kept after an eighth, a quarter and a half of the time too. What a peer
chooses by images (weights, thresholds) it chooses by a part of the training images that it does not learn from.

`label` writes the labels in the way in which the peer runs by itself, and in the other one (whole image or tiles), with
seconds, memory and versions; `--at` takes the weights of an earlier time.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from accuracy_runs import Clock, Run, label, pairs_of, versions

# module and predictor of each peer; the package is imported when the peer is asked for
PEERS = {
    "stardist": ("stardist_peer", "StarDistPredictor"),
    "cellpose": ("cellpose_peer", "CellposePredictor"),
}
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def peer_of(name: str) -> tuple[Any, Any]:
    """The module of a peer, and its predictor."""
    module, predictor = PEERS[name]
    peer = import_module(f"trained_peers.{module}")
    return peer, getattr(peer, predictor)


def train(wishes: argparse.Namespace) -> None:
    """Train until the time is over, from where it stands."""
    run = Run.opened(wishes.run, wishes.peer, [folder.resolve().name for folder in wishes.data])
    if run.budget and run.seconds >= wishes.seconds and run.calibration:
        print(f"{wishes.run}: {run.seconds:.0f} s are over; nothing is left to do.")
        return
    peer, _ = peer_of(wishes.peer)
    run.budget, run.versions = wishes.seconds, versions(peer.PACKAGES)
    clock = Clock(wishes.seconds, run.seconds)
    peer.learn(pairs_of(wishes.data, wishes.split), run, clock)
    print(f"{wishes.run}: {run.steps} steps in {run.seconds:.0f} s of processor time.")


def label_split(wishes: argparse.Namespace) -> None:
    """Label a split with the last weights, or those of an earlier time."""
    run = Run.opened(wishes.run, wishes.peer, [folder.resolve().name for folder in wishes.data])
    kept = sorted(wishes.run.glob("at_*"))
    times = [int(folder.name.removeprefix("at_")) for folder in kept]
    if not kept or wishes.at not in (None, *times):
        raise SystemExit(f"{wishes.run} has weights of {times or 'no time yet'}; train first, or name one of them by --at.")
    folder = kept[-1] if wishes.at is None else kept[times.index(wishes.at)]
    peer, predictor = peer_of(wishes.peer)
    about = {
        "peer": wishes.peer,
        "trained_seconds": int(folder.name.removeprefix("at_")),
        "budget": run.budget,
        "steps": run.steps,
        "parameters": run.parameters,
        "settings": run.settings,
        "versions": versions(peer.PACKAGES),
    }
    split = wishes.split if wishes.at is None else f"{wishes.split}@{wishes.at}"
    said = label(predictor(folder, run), pairs_of(wishes.data, wishes.split), wishes.run / "labels" / split, about)
    print(f"{wishes.run}: {said['seconds_per_megapixel']:.2f} s per megapixel, {said['peak_memory'] / 1e6:.0f} MB.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, does in (("train", train), ("label", label_split)):
        verb = verbs.add_parser(name)
        verb.set_defaults(does=does)
        verb.add_argument("peer", choices=PEERS)
        verb.add_argument("data", nargs="+", type=Path)
        verb.add_argument("--run", type=Path, required=True, help="folder of the training")
        if name == "train":
            verb.add_argument("--seconds", type=float, required=True, help="of processor time, all threads together")
            verb.add_argument("--split", default="train", help="to learn from, such as train,extra")
        else:
            verb.add_argument("--split", default="val")
            verb.add_argument("--at", type=int, metavar="SECONDS", help="the weights of this time (default: the last)")
    wishes = parser.parse_args()
    wishes.does(wishes)


if __name__ == "__main__":
    if any(os.environ.get(name) != "1" for name in THREADS):  # one core, said before any package starts its threads
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **dict.fromkeys(THREADS, "1")})
    main()
