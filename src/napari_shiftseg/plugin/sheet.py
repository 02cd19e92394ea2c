"""`Sheet`: the pixels of a labels layer with frames in front and the axes of an object behind them."""

from typing import Any

import numpy as np
from napari.layers import Labels

from napari_shiftseg.plugin.layers import KEY, in_order


class Sheet:
    """Which axes of a labels layer are frames, and how its pixels are found in that order.

    Attributes
    ----------
    layout : str
        Axes of the layer, "_" for those of one pixel that only its image has.
    axes : str
        Letters of "tzyx", in this order.
    looped : int
        How many of them are frames.
    """

    def __init__(self, layer: Labels):
        known = layer.metadata.get(KEY) or {}
        self.layer = layer
        self.layout = known.get("axes", "")
        if len(self.layout) != layer.ndim:
            from napari_shiftseg.plugin.writers import axes_of  # loads zarr

            self.layout = axes_of(layer)
        self.axes = "".join(axis for axis in "tzyx" if axis in self.layout)
        plan, depth = known.get("plan"), 3 if "z" in self.axes and self._size("z") > 1 else 2
        if plan is not None:
            depth = len(plan["result_shape"] if isinstance(plan, dict) else plan.result_shape)
        self.looped = len(self.axes) - min(depth, len(self.axes))

    @property
    def array(self) -> Any:
        """The pixels in that order: a view of the layer's where they are in memory."""
        data = self.layer.data[0] if self.layer.multiscale else self.layer.data
        if not isinstance(data, np.ndarray):
            return in_order(data, self.layout)[0]
        whole = data[tuple(0 if axis == "_" else slice(None) for axis in self.layout)]
        letters = self.layout.replace("_", "")
        return whole.transpose([letters.index(axis) for axis in self.axes])

    @property
    def in_memory(self) -> bool:
        """Whether the pixels are an array that can be written to."""
        return isinstance(self.layer.data, np.ndarray)

    def in_layer(self, indices: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Indices of pixels, one array per axis, in the order of the layer."""
        return tuple(
            np.zeros_like(indices[0]) if axis == "_" else indices[self.axes.index(axis)] for axis in self.layout
        )  # fmt: skip

    def from_layer(self, indices: Any) -> tuple[Any, ...]:
        """The inverse: values per axis of the layer, such as a position, in the order of `axes`."""
        return tuple(indices[self.layout.index(axis)] for axis in self.axes)

    def pixel(self, position: Any) -> tuple[int, ...] | None:
        """The pixel at a position in the layer, None beside its image."""
        place = tuple(int(at) for at in np.rint(np.asarray(self.from_layer(position), float)))
        return place if all(0 <= at < n for at, n in zip(place, self.array.shape, strict=True)) else None

    def number_at(self, pixel: tuple[int, ...]) -> int:
        """The object at a pixel."""
        return self.numbers_at([pixel])[0]

    def numbers_at(self, pixels: list[tuple[int, ...]]) -> list[int]:
        """The objects at some pixels; what lies on a disk is read once, in the box of them all."""
        if not len(pixels):
            return []
        array, places = self.array, np.array(pixels, int).reshape(len(pixels), -1)
        if isinstance(array, np.ndarray):
            return [int(number) for number in array[tuple(places.T)]]
        first = places.min(axis=0)
        box = tuple(slice(int(a), int(b) + 1) for a, b in zip(first, places.max(axis=0), strict=True))
        return [int(number) for number in np.asarray(array[box])[tuple((places - first).T)]]

    def steps(self) -> tuple[float, ...]:
        """Scale per axis of an object."""
        return tuple(abs(float(step)) for step in self.from_layer(self.layer.scale)[self.looped :])

    def plane(self, displayed: Any) -> tuple[int, int]:
        """The displayed axes of the layer as axes of an object."""
        letters = [self.layout[axis] for axis in displayed]
        numbers = [self.axes.index(letter) - self.looped for letter in letters if letter in self.axes]
        found = tuple(sorted(number for number in numbers if number >= 0))
        depth = len(self.axes) - self.looped
        return found if len(found) == 2 else (depth - 2, depth - 1)

    def _size(self, axis: str) -> int:
        data = self.layer.data[0] if self.layer.multiscale else self.layer.data
        return int(data.shape[self.layout.index(axis)])
