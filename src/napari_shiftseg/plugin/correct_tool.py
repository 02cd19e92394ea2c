"""`CorrectTool`: clicks, strokes and keys on a labels layer that become corrections."""

from collections.abc import Callable, Generator
from itertools import pairwise
from typing import Any

import numpy as np
from napari.layers import Labels
from napari.utils.key_bindings import KeyBinding, KeyCode, KeyMod

from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.plugin.constants import CLICK
from napari_shiftseg.plugin.jobs import sentence
from napari_shiftseg.plugin.sheet import Sheet

KEYS = {"merge": "J", "split": "K", "delete": "D"}
"""Keys of the modes: join, knife and delete; napari's Labels layers and viewer have others."""

UNDO, REDO = KeyMod.CtrlCmd | KeyCode.KeyZ, KeyMod.CtrlCmd | KeyMod.Shift | KeyCode.KeyZ

SAID = {
    "": "",
    "merge": "Click two objects: the second one becomes a part of the first.",
    "split": "Draw a line across an object where it is to be cut, or from one part to the other.",
    "delete": "Click an object to delete it.",
}


class CorrectTool:
    """What the mouse does in a labels layer while one of the modes is on.

    Parameters
    ----------
    sheet : Sheet
        Of the layer.
    merge, delete : callable
        Called with the numbers, or the number, and the frame.
    split : callable
        Called with a number, a frame, and the stroke or the seeds.
    undo, redo : callable
        Called without anything.
    tell : callable
        Called with level and text of what there is to say.
    """

    def __init__(
        self,
        viewer: Any,
        sheet: Sheet,
        *,
        merge: Callable[..., Any],
        split: Callable[..., Any],
        delete: Callable[..., Any],
        undo: Callable[[], Any],
        redo: Callable[[], Any],
        tell: Callable[[str, str], None],
    ):
        self.viewer, self.sheet, self.layer = viewer, sheet, sheet.layer
        self.mode = ""
        self.changed: Callable[[str], None] | None = None  # called with the mode
        self._verbs = {"merge": merge, "split": split, "delete": delete, "undo": undo, "redo": redo}
        self._tell = tell
        self._first: tuple[tuple[int, ...], int] | None = None  # frame and number of the first object to merge
        self._keys = [
            *((key, lambda _, name=name: self.choose("" if self.mode == name else name)) for name, key in KEYS.items()),
            (KeyBinding.from_int(UNDO), lambda _: self._guarded("undo")),
            (KeyBinding.from_int(REDO), lambda _: self._guarded("redo")),
        ]
        for key, action in self._keys:
            self.layer.bind_key(key, action, overwrite=True)
        self.layer.mouse_drag_callbacks.append(self._on_drag)
        self.layer.events.mode.connect(self._on_napari_mode)

    def close(self) -> None:
        """Let go of the layer; napari's own keys are as before."""
        self.choose("")
        for key, _ in self._keys:
            self.layer.bind_key(key, None)
        if self._on_drag in self.layer.mouse_drag_callbacks:
            self.layer.mouse_drag_callbacks.remove(self._on_drag)
        self.layer.events.mode.disconnect(self._on_napari_mode)

    def choose(self, mode: str) -> None:
        """Begin a mode, or end it with ""; napari's own tools end it as well."""
        if mode:
            if self.layer in self.viewer.layers:
                self.viewer.layers.selection.active = self.layer  # clicks go to the active layer
            self.layer.mode = "pan_zoom"
        self.mode, self._first = mode, None
        if self.layer.mode == "pan_zoom":
            self.layer.mouse_pan = mode != "split"
        if self.changed is not None:
            self.changed(mode)
        self._tell("", SAID[mode])

    def _on_napari_mode(self, event: Any) -> None:
        if self.mode and str(event.mode) != "pan_zoom":
            self.choose("")

    # -- the mouse ----------------------------------------------------------------------------------------------------

    def _on_drag(self, layer: Labels, event: Any) -> Generator[None, None, None]:
        if not self.mode or event.button != 1:
            return
        mode, start = self.mode, np.asarray(event.pos, float)
        line, moved = [self._place(event)], 0.0
        yield
        while event.type == "mouse_move":
            moved = max(moved, float(np.abs(np.asarray(event.pos, float) - start).max()))
            line.append(self._place(event))
            yield
        line.append(self._place(event))  # where it was released; moves may be left out
        if self.mode == mode == "split":
            self._cut([place for place in line if place is not None], list(event.dims_displayed))
        elif self.mode == mode and moved < CLICK:
            self._click(line[0])

    def _place(self, event: Any) -> tuple[float, ...] | None:
        """Where the mouse is in the sheet; in a view of a volume, where it meets an object first, None if it meets none."""
        if len(event.dims_displayed) == 2:
            return self.sheet.from_layer(self.layer.world_to_data(event.position))
        ends = self.layer.get_ray_intersections(
            event.position, event.view_direction, list(event.dims_displayed), world=True
        )  # fmt: skip
        return None if ends[0] is None else self._first_met(*map(np.asarray, ends))

    def _first_met(self, start: np.ndarray, stop: np.ndarray) -> tuple[float, ...] | None:
        steps = int(np.abs(stop - start).max() * 2) + 2  # none of the pixels on the way is stepped over by more than a corner
        for at in np.linspace(start, stop, steps):
            pixel = self.sheet.pixel(at)
            if pixel is not None and self.sheet.number_at(pixel):
                return tuple(map(float, pixel))
        return None

    def _pixel(self, place: tuple[float, ...] | None) -> tuple[int, ...] | None:
        if place is None:
            return None
        found = tuple(int(np.rint(at)) for at in place)
        return found if all(0 <= at < n for at, n in zip(found, self.sheet.array.shape, strict=True)) else None

    def _click(self, place: tuple[float, ...] | None) -> None:
        pixel = self._pixel(place)
        number = 0 if pixel is None else self.sheet.number_at(pixel)
        if pixel is None or number <= 0:
            self._first = None
            self._tell("", "No object is there. " + SAID[self.mode])
            return
        frame = pixel[: self.sheet.looped]
        if self.mode == "delete":
            self._guarded("delete", number, frame)
        elif self._first is None or self._first[0] != frame:
            self._first = (frame, number)
            self._tell("", f"Object {number}: click the one that becomes a part of it.")
        elif self._first[1] == number:
            self._first = None
            self._tell("", f"Object {number} was clicked twice; nothing was changed. " + SAID["merge"])
        else:
            first, self._first = self._first[1], None
            self._guarded("merge", (first, number), frame)

    def _cut(self, line: list[tuple[float, ...]], displayed: list[int]) -> None:
        """Split the object that a line runs through for most of its way, in the frame in which it was drawn."""
        looped = self.sheet.looped
        met: dict[tuple[tuple[int, ...], int], int] = {}
        pixels = [pixel for place in _dense(line) if (pixel := self._pixel(place)) is not None]
        for pixel, number in zip(pixels, self.sheet.numbers_at(pixels), strict=True):
            if number > 0:
                key = (pixel[:looped], number)
                met[key] = met.get(key, 0) + 1
        if not met:
            self._tell("", "No object is there. " + SAID["split"])
            return
        frame, number = max(met, key=lambda key: met[key])
        points = [place[looped:] for place in line]
        if len(displayed) == 2:
            first = self.viewer.dims.ndim - self.layer.ndim  # axes that only other layers have come first
            wish = {"stroke": points, "plane": self.sheet.plane([axis - first for axis in displayed])}
        else:  # the ends of the line as it lies on what is seen
            on = [place for place in line if self._number(place) == number]
            wish = {"seeds": [on[0][looped:], on[-1][looped:]]} if on else {"stroke": points}
        self._guarded("split", number, frame, **wish)

    def _number(self, place: tuple[float, ...]) -> int:
        pixel = self._pixel(place)
        return 0 if pixel is None else self.sheet.number_at(pixel)

    def _guarded(self, verb: str, *given: Any, **more: Any) -> None:
        try:
            self._verbs[verb](*given, **more)
        except ShiftsegError as exc:
            self._tell("fail", sentence(exc))


def _dense(line: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """A line with a point for every pixel of it, so that a fast stroke misses no object."""
    found: list[tuple[float, ...]] = list(map(tuple, line[:1]))
    for start, stop in pairwise(line):
        count = int(np.abs(np.subtract(stop, start)).max()) + 1
        found += [tuple(at) for at in np.linspace(start, stop, count + 1)[1:]]
    return found
