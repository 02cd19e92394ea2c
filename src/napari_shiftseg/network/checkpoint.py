"""Checkpoints of a training: all that it takes to go on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from napari_shiftseg.errors import ModelError, ResultError
from napari_shiftseg.files import check_file, replacing
from napari_shiftseg.geometry import UNetSpec
from napari_shiftseg.network.device import memory_errors

__all__ = ["resume", "save_checkpoint"]


def save_checkpoint(path: str | Path, spec: UNetSpec, state: dict[str, Any], step: int) -> None:
    """Write the state of each part of a training after so many steps, completely or not at all."""
    saved = {"step": step, "spec": spec.to_dict(), **{k: v.state_dict() for k, v in state.items()}}
    try:
        # opened here, since PyTorch's own errors do not tell a full disk from a fault of its own
        with replacing(path) as partial, partial.open("wb") as file:
            torch.save(saved, file)
    except OSError as exc:
        raise ResultError(f"{path} cannot be written ({exc.strerror}); choose another place or make room.") from exc


def resume(path: str | Path | None, spec: UNetSpec, state: dict[str, Any]) -> int:
    """Give each part of a training the state that it had; returns the step at which to go on, 0 without a checkpoint.

    Raises
    ------
    ModelError
        If the file is no checkpoint, or one of another network.
    ResultError
        If something else than a file is there.
    """
    if path is None:
        return 0
    check_file(path)
    if not Path(path).exists():
        return 0
    try:
        with memory_errors("what a checkpoint holds"):
            saved = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as exc:  # torch raises many kinds for a file that is not a checkpoint
        raise ModelError(f"{path} is not a checkpoint of a training; remove it or name another.") from exc
    if UNetSpec.from_dict(saved["spec"]) != spec:
        raise ModelError(f"{path} belongs to another network; remove it or name another file.")
    for name, part in state.items():
        part.load_state_dict(saved[name])
    return int(saved["step"])
