"""A training of a peer on disk, the processor time that it may take, and its labels; needs numpy and tifffile alone.

A run is a folder: `run.json` says what it was trained on and for how long, beside it lie the weights. `labels/SPLIT` holds the
labels of the images of a split, `usual/DATA/NAME.tif` in the way that the package runs by itself (the whole image, or its
tiles) and `other/DATA/NAME.tif` in the other way, and `labels.json` what they took.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile
from machine import processor

HELD = 0.15  # of the training images, which choose weights and thresholds, as in StarDist's example notebook
PARTS = (8, 4, 2, 1)  # weights are kept after these fractions of the time


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An image of a folder with `images/`, `masks/` and `meta.csv`, and its truth."""

    folder: Path
    name: str

    @property
    def data(self) -> str:
        return self.folder.resolve().name

    def image(self) -> np.ndarray:
        """(y, x), (y, x, channels) or (z, y, x)."""
        return tifffile.imread(self.folder / "images" / f"{self.name}.tif")

    def truth(self) -> np.ndarray:
        return tifffile.imread(self.folder / "masks" / f"{self.name}.tif").astype(np.int32)


def pairs_of(folders: Sequence[Path], split: str) -> list[Pair]:
    """The images of a split, or of several that commas part, in the order of the folders and of `meta.csv`."""
    found = []
    for folder in folders:
        with open(folder / "meta.csv", encoding="utf-8", newline="") as lines:
            found += [Pair(folder=folder, name=row["id"]) for row in csv.DictReader(lines) if row["split"] in split.split(",")]
    if not found:
        raise SystemExit(f"no image of {', '.join(map(str, folders))} is of the split {split!r}; name another.")
    return found


def held_apart(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Images to learn from, and a part of them that only chooses; the same for all peers."""
    order = np.random.default_rng(42).permutation(len(pairs))
    count = max(1, round(HELD * len(pairs)))
    return [pairs[k] for k in order[count:]], [pairs[k] for k in order[:count]]


def channels_of(image: np.ndarray) -> int:
    """Three or four at the end are channels, else there is one."""
    return image.shape[-1] if image.ndim == 3 and image.shape[-1] in (3, 4) else 1


# -- time and memory --------------------------------------------------------------------------------------------------


class Clock:
    """Processor time of all threads of this process, after what earlier ones spent."""

    def __init__(self, budget: float, spent: float = 0.0) -> None:
        self.budget, self._start = budget, time.process_time() - spent

    @property
    def spent(self) -> float:
        return time.process_time() - self._start

    @property
    def share(self) -> float:
        """Of the time, 0 to 1 and more."""
        return self.spent / self.budget


def status(name: str) -> int:
    """A size that Linux tells of this process, bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def versions(names: Sequence[str]) -> dict[str, str]:
    """Of packages that are installed."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


# -- a run on disk ----------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Run:
    """What is known of a training; `save` writes it, and all that its peer wrote before then belongs to it."""

    folder: Path
    peer: str
    data: list[str]
    images: int = 0
    budget: float = 0.0  # processor time that it may take, s
    seconds: float = 0.0  # that it took so far
    steps: int = 0
    parameters: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    losses: list[list[float]] = field(default_factory=list)  # seconds, loss, loss of the held images
    calibration: dict[str, Any] = field(default_factory=dict)  # chosen on the held images, and the seconds of it
    versions: dict[str, str] = field(default_factory=dict)
    machine: str = field(default_factory=processor)

    @classmethod
    def opened(cls, folder: Path, peer: str, data: Sequence[str]) -> Run:
        """The run that lies in a folder, or a new one."""
        found = folder / "run.json"
        if not found.exists():
            return cls(folder=folder, peer=peer, data=list(data))
        run = cls(folder=folder, **json.loads(found.read_text(encoding="utf-8")))
        if (run.peer, run.data) != (peer, list(data)):
            raise SystemExit(f"{folder} holds {run.peer} on {', '.join(run.data)}; name another folder for {peer} on {data}.")
        return run

    def save(self) -> None:
        rest = {name: value for name, value in vars(self).items() if name != "folder"}
        write_text(self.folder / "run.json", json.dumps(rest, indent=1) + "\n")

    def keep_weights(self, clock: Clock, write: Callable[[Path], object]) -> bool:
        """Let `write` fill a folder for each of the fractions of the time that have passed; whether there was one to fill."""
        folders = [self.folder / f"at_{round(self.budget / part):05d}" for part in PARTS if clock.spent >= self.budget / part]
        due = [folder for folder in folders if not folder.exists()]
        for folder in due:
            part = self.folder / "part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            write(part)
            os.replace(part, folder)
        return bool(due)


def write_text(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def written(path: Path, write: Callable[[Path], object]) -> None:
    """A file that `write` writes, whole or not at all; it keeps its suffix while it is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"part-{path.name}")
    write(part)
    os.replace(part, path)


# -- labels -----------------------------------------------------------------------------------------------------------


class Predictor(Protocol):
    """Labels of an image in two ways, of which the package takes the first by itself."""

    usual_way: str  # "whole" or "tiles"
    settings: dict[str, Any]

    def usual(self, image: np.ndarray) -> np.ndarray: ...

    def other(self, image: np.ndarray) -> np.ndarray: ...


def label(predictor: Predictor, pairs: Sequence[Pair], folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Write the labels of images and what they took.

    Times are processor times of all threads, of an image after one of equal shape, since some packages compile for each shape.
    Memory is the peak of the usual way over all images, above what the loaded model takes.
    """
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    images = list(_usual(predictor, pairs, folder))
    peak = status("VmHWM") - before
    for pair, row in zip(pairs, images, strict=True):
        started = time.process_time()
        save_labels(folder / "other" / pair.data / f"{pair.name}.tif", predictor.other(pair.image()))
        row["other_seconds"] = round(time.process_time() - started, 4)
    megapixels = sum(row["pixels"] for row in images) / 1e6
    said = {
        **about,
        "usual_way": predictor.usual_way,
        "label_settings": predictor.settings,
        "megapixels": megapixels,
        "seconds_per_megapixel": sum(row["seconds"] for row in images) / megapixels,
        "peak_memory": peak,
        "machine": processor(),
        "images": images,
    }
    write_text(folder / "labels.json", json.dumps(said, indent=1) + "\n")
    return said


def _usual(predictor: Predictor, pairs: Sequence[Pair], folder: Path) -> Iterator[dict[str, Any]]:
    seen = set()
    for pair in pairs:
        image = pair.image()
        if image.shape not in seen:
            predictor.usual(image)
            seen.add(image.shape)
        started = time.process_time()
        labels = predictor.usual(image)
        seconds = time.process_time() - started
        save_labels(folder / "usual" / pair.data / f"{pair.name}.tif", labels)
        print(f"{pair.data} {pair.name[:12]} {image.shape} {int(labels.max())} objects, {seconds:.2f} s", flush=True)
        yield {"data": pair.data, "name": pair.name, "pixels": labels.size, "seconds": round(seconds, 4)}


def save_labels(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, labels.astype(np.uint32), compression="zlib")
