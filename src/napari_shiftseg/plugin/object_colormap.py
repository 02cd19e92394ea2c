"""`ObjectColormap`: a colour for each object of a labels layer, whatever its number, that can change without drawing anew.

napari's own `DirectLabelColormap` checks each colour in Python, and has none for numbers above 65,536 without numba. This one
keeps colours in an array. To the graphics card goes the place of each object in that array, so that other colours are a small
texture and not the labels again.
"""

from typing import Any, Self

import numpy as np
from napari.utils.colormaps import DirectLabelColormap
from pydantic import PrivateAttr

from napari_shiftseg.plugin.constants import BACKGROUND, FIRST, LOOKED_UP, OTHERS, PIXELS_AT_ONCE


class ObjectColormap(DirectLabelColormap):
    """Colours of objects.

    Attributes
    ----------
    color_dict : dict
        What napari shows of it; of colours that this one has it knows that of other objects.
    """

    _numbers: np.ndarray = PrivateAttr(default_factory=lambda: np.zeros(0, np.int64))  # sorted
    _places: np.ndarray = PrivateAttr(default_factory=lambda: np.zeros(0, np.int64))  # of these
    _table: np.ndarray | None = PrivateAttr(default=None)  # place by number, where numbers are small enough
    _colours: np.ndarray = PrivateAttr(default_factory=lambda: np.zeros((FIRST, 4), np.float32))
    _ready: Any = PrivateAttr(default=None)  # pixels and their places, made in a thread

    @classmethod
    def of(cls, numbers: np.ndarray, others: Any = (0.5, 0.5, 0.5, 1.0)) -> Self:
        """A colormap in which objects with these numbers can have colours; `others` is that of those that have none."""
        made = cls(color_dict={None: np.asarray(others, np.float32), 0: np.zeros(4, np.float32)})
        made._colours[OTHERS] = others
        made.add(numbers)
        return made

    @property
    def numbers(self) -> np.ndarray:
        """Numbers of the objects, in the order of their places."""
        return self._numbers[np.argsort(self._places, kind="stable")]

    def add(self, numbers: np.ndarray) -> bool:
        """Give objects a place; whether all pixels have to be looked up anew, since there was no room for them."""
        new = np.setdiff1d(np.asarray(numbers, np.int64), self._numbers)
        new = new[new > 0]
        if not len(new):
            return False
        kind, count = self._kind, len(self._numbers)
        self._numbers = np.concatenate([self._numbers, new])
        self._places = np.concatenate([self._places, FIRST + count + np.arange(len(new))])
        order = np.argsort(self._numbers, kind="stable")
        self._numbers, self._places = self._numbers[order], self._places[order]
        room = FIRST + len(self._numbers)
        if room > len(self._colours):
            larger = np.empty((room + room // 4 + 64, 4), np.float32)  # numbers that edits make find room
            larger[:] = self._colours[OTHERS]
            larger[: len(self._colours)] = self._colours
            self._colours = larger
        self._ready = None
        self._forget()
        if int(self._numbers[-1]) <= LOOKED_UP:
            self._table = np.full(int(self._numbers[-1]) + 2, OTHERS, self._kind)
            self._table[0] = BACKGROUND
            self._table[self._numbers] = self._places
        else:
            self._table = None
        return kind != self._kind

    def paint(self, numbers: np.ndarray, colours: np.ndarray, others: Any) -> None:
        """Give objects with these numbers these colours, (n, 4), and all others another one; then send the layer's event."""
        self._colours[OTHERS:] = others
        self._colours[self._place(np.asarray(numbers, np.int64))] = colours
        self._colours[BACKGROUND] = 0
        self._colours[OTHERS] = others
        self._forget()

    def prepare(self, pixels: np.ndarray) -> None:
        """Look up the places of pixels that napari will ask for; to be called in a thread."""
        places = self._looked_up(pixels)
        self._ready = (_identity(pixels), places)

    # -- what napari asks ---------------------------------------------------------------------------------------------

    @property
    def _kind(self) -> np.dtype:
        """Type of a place in the texture, as napari has it by the number of colours."""
        count = len(self._colours)
        return np.dtype(np.uint8 if count <= 255 else np.uint16 if count <= 65_535 else np.float32)

    @property
    def _num_unique_colors(self) -> int:
        return len(self._colours) - 2

    def _data_to_texture(self, values: Any) -> Any:
        values = values.view(f"u{values.dtype.itemsize}") if values.dtype.kind in "i" and values.dtype.itemsize <= 2 else values
        if values.dtype.itemsize <= 2:
            return values
        if self.use_selection:
            return (values == self.selection).astype(np.uint8)
        if isinstance(values, np.ndarray) and self._ready is not None:
            identity, places = self._ready
            self._ready = None  # only what was asked for at once is sure to be of these pixels
            if identity == _identity(values):
                return places
        return self._looked_up(np.asarray(values))

    def _values_mapping_to_minimum_values_set(
        self, apply_selection: bool = True
    ) -> tuple[dict[int | None, int], dict[int, Any]]:
        if self.use_selection and apply_selection:
            return {self.selection: 1, None: 0}, {0: np.zeros(4), 1: self.map(self.selection)}
        return {None: OTHERS}, dict(enumerate(self._colours))

    def _map_without_cache(self, values: np.ndarray) -> np.ndarray:
        return self._colours[self._place(values)]

    def _get_mapping_from_cache(self, data_dtype: np.dtype) -> np.ndarray | None:
        """The colours of all numbers of one or two bytes, which go to the graphics card as they are."""
        if data_dtype.itemsize > 2:
            return None
        return self._colours[self._place(np.arange(1 << 8 * data_dtype.itemsize))].astype(np.float32)

    def map(self, values: Any) -> np.ndarray:
        """Colours of some numbers, as of napari's colormaps."""
        found = self._colours[self._place(np.asarray(values))].astype(np.float32)
        if self.use_selection:
            found = np.where(np.asarray(values)[..., None] == self.selection, found, np.float32(0))
        return found

    def _selection_as_minimum_dtype(self, dtype: np.dtype) -> int:
        return int(self.selection) if dtype.itemsize <= 2 else 1

    # -- places -------------------------------------------------------------------------------------------------------

    def _place(self, values: np.ndarray) -> np.ndarray:
        return self._looked_up(values).astype(np.intp)

    def _looked_up(self, values: np.ndarray) -> np.ndarray:
        """The place of each value; some at a time, since indices take eight bytes each."""
        made = np.empty(np.shape(values), self._kind)
        flat, out = np.reshape(values, -1), made.reshape(-1)
        for start in range(0, len(flat), PIXELS_AT_ONCE):
            out[start : start + PIXELS_AT_ONCE] = self._places_of(flat[start : start + PIXELS_AT_ONCE])
        return made

    def _places_of(self, values: np.ndarray) -> np.ndarray:
        if self._table is not None:  # whose last place stands for all numbers beyond it, and below 0
            return self._table[np.clip(values, 0 if values.dtype.kind in "ub" else -1, len(self._table) - 1)]
        if not len(self._numbers):
            return np.where(values == 0, BACKGROUND, OTHERS)
        whole = values.astype(np.int64)
        at = np.minimum(np.searchsorted(self._numbers, whole), len(self._numbers) - 1)
        places = np.where(self._numbers[at] == whole, self._places[at], OTHERS)
        return np.where(whole == 0, BACKGROUND, places)

    def _forget(self) -> None:
        """Colours are other ones."""
        clear = getattr(self, "_clear_cache", None)
        if clear is not None:
            clear()


def _identity(pixels: np.ndarray) -> tuple[Any, ...]:
    """Which pixels of the memory an array shows, and how."""
    return pixels.__array_interface__["data"][0], pixels.shape, pixels.strides, pixels.dtype
