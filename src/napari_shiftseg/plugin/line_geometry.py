"""Where the lines of a result run: seams of its tiles and the period grid of its network, as segments in a view."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

import numpy as np
from napari.layers import Layer

from napari_shiftseg.plugin.constants import CLOSE, MOST_BOX_LINES


@dataclass(frozen=True, kw_only=True)
class Viewport:
    """What of a result a window shows."""

    displayed: tuple[int, ...]  # axes on the screen, 2 or 3
    at: tuple[float, ...]  # slice position per axis, pixels; of no meaning on displayed axes
    # low, high: smallest box of pixels per axis that holds all that is on the screen
    low: tuple[float, ...]
    high: tuple[float, ...]
    pixel: tuple[float, ...]  # screen pixels per pixel of the result, per axis

    def around(self, share: float = 0.5) -> "Viewport":
        """The same with a share of its extent more on each side, so that small moves stay within it."""
        more = [(high - low) * share for low, high in zip(self.low, self.high, strict=True)]
        return replace(
            self,
            low=tuple(low - m for low, m in zip(self.low, more, strict=True)),
            high=tuple(high + m for high, m in zip(self.high, more, strict=True)),
        )

    def within(self, other: "Viewport") -> bool:
        """Whether lines made for `other` can be shown here: no further out, not much larger or smaller, the same slice."""
        hidden = [axis for axis in range(len(self.at)) if axis not in self.displayed]
        return (
            self.displayed == other.displayed
            and all(self.at[axis] == other.at[axis] for axis in hidden)
            and all(self.low[axis] >= other.low[axis] and self.high[axis] <= other.high[axis] for axis in self.displayed)
            and all(0.8 < self.pixel[axis] / other.pixel[axis] < 1.25 for axis in self.displayed)
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LineSet:
    """Lines between pixels."""

    shape: tuple[int, ...]  # of the result along its spatial axes, pixels
    positions: tuple[np.ndarray, ...]  # per axis the lines inside the result, ascending; empty where there are none
    spacing: tuple[float, ...]  # smallest distance of two lines per axis, pixels
    least: float  # screen pixels that two drawn lines are apart at least
    boxes: bool  # whether the lines are drawn in a 3D view

    def every(self, view: Viewport) -> int:
        """Every how many lines one is drawn: a power of two, 1 where they are far enough apart on the screen."""
        if len(view.displayed) == 3:
            return 1
        closest = min(
            (self.spacing[axis] * view.pixel[axis] for axis in view.displayed if len(self.positions[axis])), default=np.inf
        )
        return 1 if closest >= self.least else 1 << int(np.ceil(np.log2(self.least / max(closest, 1e-9))))

    def arranged(self, order: Sequence[int]) -> "LineSet":
        """The same lines with the axes in another order; -1 stands for an axis of one pixel without lines."""
        return replace(
            self,
            shape=tuple(1 if axis < 0 else self.shape[axis] for axis in order),
            positions=tuple(np.zeros(0) if axis < 0 else self.positions[axis] for axis in order),
            spacing=tuple(np.inf if axis < 0 else self.spacing[axis] for axis in order),
        )

    def vectors(self, view: Viewport) -> np.ndarray:
        """(N, 2, n) start and direction of the lines in a view."""
        if len(view.displayed) == 3:
            return self._boxes(view) if self.boxes else np.zeros((0, 2, len(self.shape)))
        every, parts = self.every(view), []
        for across, along in (view.displayed, view.displayed[::-1]):
            inside = self.positions[across][::every] - 0.5
            inside = inside[(inside >= view.low[across]) & (inside <= view.high[across])]
            # ends at pixel centres: the range of napari's sliders does not grow by half a pixel
            first, last = max(0.0, view.low[along]), min(self.shape[along] - 1.0, view.high[along])
            if last < first:
                continue
            part = np.zeros((len(inside), 2, len(self.shape)))
            part[:, 0] = np.clip(view.at, 0, np.asarray(self.shape) - 1)
            part[:, 0, across] = inside
            part[:, 0, along] = first
            part[:, 1, along] = last - first
            parts.append(part)
        return np.concatenate(parts) if parts else np.zeros((0, 2, len(self.shape)))

    def _boxes(self, view: Viewport) -> np.ndarray:
        """Edges of the tiles as boxes; where these are too many, their traces on the faces of the volume."""
        ends = [np.array([0.0, size - 1.0]) for size in self.shape]
        inside = [positions - 0.5 for positions in self.positions]
        edges = [np.sort(np.concatenate(pair)) for pair in zip(ends, inside, strict=True)]
        total = sum(len(edges[a]) * len(edges[b]) for a, b in combinations(view.displayed, 2))
        starts = []
        for along in view.displayed:
            a, b = (axis for axis in view.displayed if axis != along)
            places = set(product(edges[a], edges[b]))
            if total > MOST_BOX_LINES:
                places -= set(product(inside[a], inside[b]))
            part = np.zeros((len(places), 2, len(self.shape)))
            part[:, 0] = np.clip(view.at, 0, np.asarray(self.shape) - 1)
            part[:, 0, [a, b]] = sorted(places)
            part[:, 0, along] = 0.0
            part[:, 1, along] = self.shape[along] - 1.0
            starts.append(part)
        return np.concatenate(starts)


def seams_of(plan: Any, shape: Sequence[int]) -> LineSet:
    """Where two tiles meet.

    Parameters
    ----------
    plan : TilePlan or mapping
        Or `TilePlan.to_dict()`, as a record holds it.
    shape : sequence of int
        Of the result along its spatial axes; axes before those of the plan (planes of a 2D plan) have no lines.
    """
    values = _values(plan)
    return _line_set(values["seams"], shape, least=4.0, boxes=True)


def grid_of(plan: Any, shape: Sequence[int]) -> LineSet:
    """Boundaries of the period grid; parameters as in `seams_of`."""
    values = _values(plan)
    lines = [
        range(phase, size, period)
        for phase, size, period in zip(values["grid_phase"], values["result_shape"], values["period"], strict=True)
    ]
    return _line_set(lines, shape, least=6.0, boxes=False)


def _values(plan: Any) -> Mapping[str, Any]:
    return plan if isinstance(plan, Mapping) else plan.to_dict()


def _line_set(lines: Sequence[Sequence[int]], shape: Sequence[int], *, least: float, boxes: bool) -> LineSet:
    shape = tuple(int(size) for size in shape)
    lines = [()] * (len(shape) - len(lines)) + list(lines)
    positions = [np.asarray([p for p in axis if 0 < p < size], float) for axis, size in zip(lines, shape, strict=True)]
    return LineSet(
        shape=shape,
        positions=tuple(positions),
        spacing=tuple(float(np.diff(axis).min()) if len(axis) > 1 else np.inf for axis in positions),
        least=least,
        boxes=boxes,
    )


def close_up(viewer: Any, layer: Layer, axis: int, *, position: int, view: Callable[[], Viewport | None]) -> None:
    """Move the camera to a seam; the other axes stay as they are.

    Parameters
    ----------
    layer : Layer
        The result.
    axis : int
        Of the layer, across which the seam lies.
    position : int
        Of the seam, pixels: between pixels `position - 1` and `position`.
    view : callable
        Gives what the window shows of the result.
    """
    dims, camera = viewer.dims, viewer.scene.camera
    first = dims.ndim - layer.ndim
    world = np.asarray(dims.point, float)
    centre = np.asarray(camera.center, float)[-len(dims.displayed) :]
    world[list(dims.displayed)] = centre
    shape = np.shape(layer.data[0] if layer.multiscale else layer.data)
    at = np.clip(layer.world_to_data(world[first:]), 0, np.asarray(shape) - 1)
    displayed = first + axis in dims.displayed
    at[axis] = position - 0.5 if displayed else position  # a slice is a pixel, never a border
    world[first:] = layer.data_to_world(at)
    if not displayed:
        dims.set_point(first + axis, world[first + axis])
    camera.center = (*np.asarray(camera.center)[: 3 - len(dims.displayed)], *world[list(dims.displayed)])
    seen = view()
    if len(dims.displayed) == 2 and seen is not None:
        camera.zoom *= max(1.0, CLOSE / min(seen.pixel[k] for k in seen.displayed))
