"""A hostile case: what a user may give to the command, which exit codes that may have, and what is known of the result."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

GOOD, BAD, EITHER = frozenset({0}), frozenset({2, 3, 4}), frozenset({0, 2, 3, 4})
# What every case may use, made once: a model of weights by hand, an image for it, and its labels.
MODEL, IMAGE, LABELS = "grey.safetensors", "base.npy", "labels.npy"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A command in a folder of its own.

    Attributes
    ----------
    kind, name : str
        Group, and what is hostile.
    make : callable
        Writes files below the folder that it gets, and gives the words after `shiftseg`; it may ask the generator of numbers
        for all that is random.
    codes : frozenset of int
        Exit codes that are right.
    new : tuple of str
        Names that may be there after success.
    check : callable or None
        Of a success: the folder and what was said, gives a complaint or "".
    lines : int
        Lines on stderr of a failure, one for each image that fails.
    kept : tuple of str
        Names that may be there after a failure, such as the results of the other images.
    """

    kind: str
    name: str
    make: Callable[[Path, random.Random], Sequence[str]]
    codes: frozenset[int] = BAD
    new: tuple[str, ...] = ()
    check: Callable[[Path, str], str] | None = None
    lines: int = 1
    kept: tuple[str, ...] = ()

    @property
    def seed(self) -> int:
        """Of its random numbers: its name alone, so that a case is the same whichever others run."""
        return zlib.crc32(f"{self.kind}/{self.name}".encode())


def segmenting(name: str, *more: str) -> list[str]:
    """Segment a file with the small model."""
    return ["segment", name, "--model", MODEL, "--device", "cpu", "--labels-tiff", "found.tif", *more]


def equal_labels(folder: Path, said: str) -> str:
    """The labels of the image as it is known."""
    import numpy as np
    import tifffile

    found, wanted = tifffile.imread(folder / "found.tif"), np.load(folder / LABELS)
    if found.squeeze().shape != wanted.shape:
        return f"labels have the shape {found.shape} and not {wanted.shape}"
    different = int((found.squeeze() != wanted).sum())
    return f"{different} pixels differ" if different else ""


def equal_or_said(*words: str) -> Callable[[Path, str], str]:
    """The labels of the image, or one of some words in what is said of it."""

    def check(folder: Path, said: str) -> str:
        if any(word in said.lower() for word in words):
            return ""
        wrong = equal_labels(folder, said)
        return f"{wrong}, and none of {words} is said" if wrong else ""

    return check


def says(*words: str) -> Callable[[Path, str], str]:
    """All words are said."""

    def check(folder: Path, said: str) -> str:
        missing = [word for word in words if word not in said]
        return f"{missing} are not said" if missing else ""

    return check


def named(kind: str, cases: Iterable[tuple[str, Case]]) -> list[Case]:
    """Cases by name, of which none has another's."""
    found = {}
    for name, case in cases:
        assert name not in found, f"{kind}/{name} is there twice"
        found[name] = case
    return list(found.values())
