"""`Checkpoint`: the file from which an interrupted training goes on."""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from napari_shiftseg.errors import ModelError, ResultError
from napari_shiftseg.files import check_file, check_same, found_at, replacing
from napari_shiftseg.geometry import UNetSpec
from napari_shiftseg.network.crops import TrainImage
from napari_shiftseg.network.device import memory_errors

Look = list[float]
"""Edges of a training image, a sum of its labels, and the mean of its pixels."""


class Checkpoint:
    """The state of a training on disk, and what tells whether a training is the one that wrote it.

    Parameters
    ----------
    path : str or Path
    spec : UNetSpec
        The network's.
    settings : mapping
        What all steps of the training have in common, in words by name.
    images : sequence of TrainImage
        What it trains on; where none is given, those of the file are not compared.
    """

    def __init__(self, path: str | Path, *, spec: UNetSpec, settings: Mapping[str, str], images: Sequence[TrainImage]):
        self.path, self.spec, self.settings = Path(path), spec, settings
        self._found = found_at(path)
        self._looks = _looks(images)

    def save(self, state: Mapping[str, Any], *, step: int) -> None:
        """Write the state of each part of a training after so many steps, completely or not at all.

        Raises
        ------
        ResultError
            If the place cannot be written, or another training wrote there meanwhile.
        """
        check_same(self.path, self._found)
        told = {"step": step, "spec": self.spec.to_dict(), "settings": dict(self.settings), "images": self._looks}
        saved = told | {name: part.state_dict() for name, part in state.items()}
        try:
            # written here, since PyTorch's own errors do not tell a full disk from a fault of its own
            with replacing(self.path) as partial:
                partial.write_bytes(_in_bytes(saved))
        except OSError as exc:
            raise ResultError(f"{self.path} cannot be written ({exc.strerror}); choose another place or make room.") from exc
        self._found = found_at(self.path)

    def resume(self, state: Mapping[str, Any]) -> tuple[int, str]:
        """Give each part of a training the state that it had.

        Returns the step at which to go on, 0 where there is no file yet, and what is not known of it.

        Raises
        ------
        ModelError
            If the file is no checkpoint, or one of another network, other settings or other images.
        ResultError
            If something else than a file is there.
        """
        check_file(self.path)
        if not self.path.exists():
            return 0, ""
        try:
            with memory_errors("what a checkpoint holds"):
                saved = torch.load(self.path, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception as exc:  # torch raises many kinds for a file that is not a checkpoint
            raise ModelError(f"{self.path} is not a checkpoint of a training; remove it or name another.") from exc
        try:
            self._check(saved)
            for name, part in state.items():
                part.load_state_dict(saved[name])
            earlier = "of an earlier version, does not say its images; those that were given are taken for the same."
            return int(saved["step"]), "" if saved.get("images") else f"{self.path}, {earlier}"
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as exc:
            if isinstance(exc, ModelError):
                raise
            what = " ".join(f"{type(exc).__name__}: {exc}".split())[:200]
            raise ModelError(f"{self.path} is not a checkpoint of this training ({what}); remove it or name another.") from exc

    def _check(self, saved: Any) -> None:
        """Refuse what another training saved."""
        if not isinstance(saved, dict):
            raise TypeError(f"it holds a {type(saved).__name__}")
        if UNetSpec.from_dict(saved["spec"]) != self.spec:
            raise ModelError(f"{self.path} belongs to another network; remove it or name another file.")
        known = saved.get("settings", {})  # which earlier versions did not write
        if differing := [name for name, value in self.settings.items() if name in known and known[name] != value]:
            name = differing[0]
            raise ModelError(
                f"{self.path} belongs to a training with {name} {known[name]}, and {self.settings[name]} was given; give what "
                "it began with, or name another file."
            )
        if self._looks and saved.get("images") and (other := _other_images(saved["images"], self._looks)):
            raise ModelError(f"{self.path} belongs to a training on {other}; give what it began with, or name another file.")


def _in_bytes(saved: dict[str, Any]) -> memoryview:
    memory = io.BytesIO()
    torch.save(saved, memory)
    return memory.getbuffer()


def _looks(images: Sequence[TrainImage]) -> list[Look]:
    sums = [zlib.crc32(image.labels.contiguous().numpy().data) for image in images]
    means = [float(image.pixels.mean(dtype=torch.float64)) for image in images]
    return [[*image.pixels.shape, at, mean] for image, at, mean in zip(images, sums, means, strict=True)]


def _other_images(known: Sequence[Look], now: Sequence[Look]) -> str:
    """How the images of a checkpoint differ from those of now; "" where they look alike."""
    if len(known) != len(now):
        return f"{len(known)} images, and {len(now)} were given"
    for number, (one, other) in enumerate(zip(known, now, strict=True)):
        # another version of numpy may round the pixels in another way
        if one[:-1] != other[:-1] or not math.isclose(one[-1], other[-1], rel_tol=1e-6, abs_tol=1e-6):
            return f"other images: number {number + 1} of {len(now)} is not what it was"
    return ""
