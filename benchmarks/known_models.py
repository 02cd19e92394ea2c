"""Let the bundled models state what their training images were like; the weights stay as they are, bit for bit.

    python benchmarks/known_models.py [--data ../shared/data] [--model NAME ...]

`nuclei` is stated from the training splits of both of its folders, and the demonstrations from the recipe of their disks.
`shiftseg train` does the same for the models that it makes. Ranges are of training images alone.
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from demo_weights import MODELS
from tqdm import tqdm

from napari_shiftseg.cli.pairs import find_pairs
from napari_shiftseg.cli.train import read_images
from napari_shiftseg.events import Stage
from napari_shiftseg.io import load_model, save_model
from napari_shiftseg.network import Known, Model, TrainImage
from napari_shiftseg.segmentation import learned_steps

WEIGHTS = Path(str(files("napari_shiftseg") / "weights"))
FOLDERS = ("dsb2018_fluo", "bitdepth_dapi16")
# Most training images that a model runs over again: all of them.
RUNS = 488
KINDS = {"nuclei": "fluorescent nuclei", **dict.fromkeys(MODELS, "same-looking disks only")}


def training_images(name: str, model: Model, data: Path) -> list[TrainImage]:
    """What a bundled model was trained on."""
    if name in MODELS:
        return [MODELS[name][1].draw(0)]
    pairs = find_pairs([data / folder for folder in FOLDERS], "train")
    settings = Namespace(spec=model.spec, normalisation=model.record.normalisation)
    return read_images(pairs, settings, None, notes={})


def known_of(name: str, model: Model, images: list[TrainImage]) -> Known:
    """The statement, from the pixels and labels of all images and from runs over some."""
    steps = learned_steps(images, model, KINDS[name], demonstration=name in MODELS, runs=RUNS)
    with tqdm(desc=name, mininterval=30) as bar:
        while True:
            try:
                event = next(steps)
            except StopIteration as end:
                return end.value
            if isinstance(event, Stage):
                bar.set_description(f"{name}: {event.text}")
            bar.update(1)


def weights_of(path: Path) -> bytes:
    """All bytes of a safetensors file behind its header."""
    data = path.read_bytes()
    return data[8 + int.from_bytes(data[:8], "little") :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared/data")
    parser.add_argument("--model", nargs="+", choices=KINDS, default=list(KINDS), metavar="NAME")
    wishes = parser.parse_args()
    for name in wishes.model:
        model, path = load_model(name), WEIGHTS / f"{name}.safetensors"
        known = known_of(name, model, training_images(name, model, wishes.data))
        before = weights_of(path)
        save_model(path, replace(model, record=replace(model.record, known=known)), half=True)
        if weights_of(path) != before:
            raise SystemExit(f"{path}: the weights changed; restore the file.")
        print(f"{name}: {known.describe()}; sha256 {load_model(name).hash}")


if __name__ == "__main__":
    main()
