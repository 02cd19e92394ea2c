"""Train the demonstration models: same-looking disks, as in the paper's Fig. 2b and 3.

    python benchmarks/demo_weights.py [--model NAME ...] [--out src/napari_shiftseg/weights] [--checkpoints FOLDER]

`disks-fig3` was shown windows of 20 px, more than its period of 16 px, `disks-fig3a`, the same network, the same windows, of
which the inner 16 px alone reached the loss, and `disks-fig2b`, of a period of 8 px, windows of 76 px of disks 15 px apart. The
images are those of the figures; half as many features as in the paper keep `disks-fig3` and `disks-fig3a` below a megabyte, and
a foreground output spares users an instance that is the background.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from napari_shiftseg import UNetSpec, save_model
from napari_shiftseg.network import Clustering, ModelRecord
from napari_shiftseg.paper import Setup, Training
from napari_shiftseg.synthetic import DiskRecipe

LATTICE = DiskRecipe(shape=(284, 284), spacing=(13, 13), radius=5, offset=(0, 0))
SPARSE = DiskRecipe(shape=(400, 400), spacing=(15, 15), radius=5, offset=(4, 4))
FIG3 = UNetSpec(levels=4, features=8, foreground=True)
MODELS = {
    "disks-fig3": (FIG3, Training(image=LATTICE, window=20, steps=20_000, learning_rate=5e-4)),
    "disks-fig3a": (FIG3, Training(image=LATTICE, window=20, keep=16, steps=20_000, learning_rate=5e-4)),
    "disks-fig2b": (
        UNetSpec(levels=3, features=16, foreground=True),
        Training(image=SPARSE, window=76, steps=14_000, learning_rate=1e-3),
    ),
}
NOTES = {
    "disks-fig3": "Demonstration: same-looking disks 13 px apart; window above the period, so tiles of n x 16 px agree.",
    "disks-fig3a": "Demonstration: as disks-fig3, but of its windows one period alone was trained: "
    "splits disks along its own grid.",
    "disks-fig2b": "Demonstration: same-looking disks 15 px apart get 64 codes, and no more.",
}


def train_one(name: str, checkpoints: Path | None):
    """The network, and how it was trained."""
    spec, training = MODELS[name]
    setup = Setup(spec=spec, test=training.image, weights=training)
    checkpoint = None if checkpoints is None else checkpoints / f"{name}.pt"
    steps = training.train_steps(spec, 0, setup.start(0), checkpoint=checkpoint)
    with tqdm(total=training.steps, desc=name, mininterval=30) as bar:
        while True:
            try:
                bar.update(next(steps).done - bar.n)
            except StopIteration as end:
                return end.value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "src/napari_shiftseg/weights")
    parser.add_argument("--checkpoints", type=Path, help="folder from which a training goes on")
    wishes = parser.parse_args()
    for name in wishes.model:
        model = train_one(name, wishes.checkpoints)
        assert isinstance(model.record, ModelRecord)
        # the codes of disks that never met in a window lie anywhere, and no disk touches another
        record = replace(model.record, note=NOTES[name], clustering=Clustering(bandwidth=1.0, dip=0.8, radius=10.0))
        path = save_model(wishes.out / name, model, record, half=True)
        print(path, f"{path.stat().st_size / 1e6:.2f} MB", model.record.losses)


if __name__ == "__main__":
    main()
