"""What a widget needs before it can plan: the model and the device that were chosen, and what there is to choose from.

Loaded in a thread, because the first import of torch takes seconds.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.events import Event

if TYPE_CHECKING:
    from napari_shiftseg.network import Device, Model


@dataclass(frozen=True, kw_only=True, eq=False)
class Equipment:
    """Model and device, or the sentence that says why there are none."""

    request: tuple[str, str]  # model and device that were asked for, by which a late answer is known; "" for the default model
    # models, devices: what there is to choose from
    models: tuple[str, ...]
    devices: tuple[str, ...]
    demonstrations: tuple[str, ...] = ()  # those of the models that only show something
    model: "Model | None" = None
    device: "Device | None" = None
    error: str = ""


def equip_steps(model: str, device: str) -> Generator[Event, None, Equipment]:
    """Load a model by name or path, "" for the first bundled one, and find a device."""
    from napari_shiftseg.io import bundled_models, demonstrations, load_model
    from napari_shiftseg.network import choose_device

    known = {"request": (model, device), "models": bundled_models(), "devices": _devices(), "demonstrations": demonstrations()}
    try:
        known["device"] = choose_device(device)
        name = model or next(iter(known["models"]), "")
        if not name:
            return Equipment(**known, error="No model comes with this installation; choose a model file.")
        return Equipment(**known, model=load_model(name))
    except ShiftsegError as exc:
        return Equipment(**known, error=str(exc))
    yield  # a generator without steps: jobs are generators


def _devices() -> tuple[str, ...]:
    import torch

    cuda = tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
    return ("auto", "cpu", *cuda, *(("mps",) if torch.backends.mps.is_available() else ()))
