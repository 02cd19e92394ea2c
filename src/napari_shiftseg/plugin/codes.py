"""The embedding of the labels that are corrected: in a layer beside them, or computed where it is asked for."""

from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from napari_shiftseg.events import Event
from napari_shiftseg.instances.edit import find_objects
from napari_shiftseg.plugin.embedding_view import lazy_steps
from napari_shiftseg.plugin.layers import KEY, in_order
from napari_shiftseg.plugin.sheet import Sheet
from napari_shiftseg.plugin.signature import ACCEPTED
from napari_shiftseg.plugin.subject import Subject


def embedding_beside(viewer: Any, sheet: Sheet) -> Any:
    """The embedding of the same run with the axes of the sheet behind its channels, not read; None where no layer holds it."""
    run = run_of(sheet.layer)
    for layer in viewer.layers:
        known = layer.metadata.get(KEY) or {}
        if run and known.get("role") == "embedding" and known.get("run") == run:
            data = layer.data[0] if layer.multiscale else layer.data
            found = in_order(data, known["axes"])[0]
            if tuple(found.shape[1:]) == tuple(sheet.array.shape):
                return found
    return None


def run_of(layer: Any) -> str:
    """The run that labels came from, also once they were accepted."""
    known = layer.metadata.get(KEY) or {}
    return str(known.get("run") or known.get(ACCEPTED, {}).get("run") or "")


class Block:
    """The codes of one window, which is all that a split asks for."""

    def __init__(self, window: tuple[slice, ...], values: np.ndarray):
        self._window, self._values = window, values
        self.shape, self.dtype = values.shape, values.dtype

    def __getitem__(self, key: Any) -> np.ndarray:
        asked = tuple(slice(at, at + 1) if isinstance(at, int) else at for at in key[1:])
        if asked != self._window:
            raise IndexError(f"{asked} was asked for and {self._window} is known")
        return self._values[(slice(None), *(0 if isinstance(at, int) else slice(None) for at in key[1:]))]


def window_of(correction: Any, number: int, frame: tuple[int, ...]) -> tuple[slice, ...]:
    """The smallest window of an object in the labels."""
    if correction.in_background:
        return tuple(correction.stored.window(number, frame))
    box = find_objects(correction.sheet.array, (number,), frame=frame).box
    return (*(slice(at, at + 1) for at in frame), *box)


def block_steps(subject: Subject, device: str, window_of: Callable[[], tuple[slice, ...]]) -> Generator[Event, None, Block]:
    """Compute the embedding in a window of the labels, by the tiles of their run; yields events, returns a `Block`."""
    window = window_of()
    lazy = yield from lazy_steps(subject, device)
    yield from lazy.steps(lazy.tiles(window))
    return Block(window, np.asarray(lazy[(slice(None), *window)]))
