"""Images larger than memory: only the window that is asked for is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import EllipsisType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.synthetic.degrade import shade
from napari_shiftseg.synthetic.lattice import draw_window
from napari_shiftseg.synthetic.recipe import ConstantRecipe, LatticeRecipe, Recipe

Index: TypeAlias = int | slice | EllipsisType

_OF_THE_WHOLE = ("jitter", "elastic", "noise")  # drawn with one random stream over the whole image


@dataclass(frozen=True, kw_only=True)
class LazyImage:
    """The image of a recipe as an array-like: an index of integers and slices draws that part and nothing else."""

    recipe: LatticeRecipe | ConstantRecipe

    @property
    def shape(self) -> tuple[int, ...]:
        """Image edges, pixels."""
        return self.recipe.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.recipe.shape)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return math.prod(self.recipe.shape)

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Type of the pixels."""
        return np.dtype(np.float32)

    def __getitem__(self, index: Index | tuple[Index, ...]) -> npt.NDArray[np.float32]:
        parts = self._parts(index if isinstance(index, tuple) else (index,))
        window = tuple(part if isinstance(part, slice) else slice(part, part + 1) for part in parts)
        drawn = self._draw(window)
        return drawn[tuple(slice(None) if isinstance(part, slice) else 0 for part in parts)]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[np.float32]:
        return np.asarray(self[...], dtype=dtype)

    def _draw(self, window: tuple[slice, ...]) -> npt.NDArray[np.float32]:
        if isinstance(self.recipe, LatticeRecipe):
            return draw_window(self.recipe, window)
        along = tuple(np.arange(size)[part] for size, part in zip(self.shape, window, strict=True))
        image = np.full(tuple(map(len, along)), self.recipe.value, dtype=np.float32)
        return shade(image, self.recipe.light, along, self.shape)

    def _parts(self, index: tuple[Index, ...]) -> list[int | slice]:
        """One non-negative integer or slice per axis."""
        if index.count(Ellipsis) > 1 or len(index) - index.count(Ellipsis) > self.ndim:
            raise IndexError(f"index {index} has too many entries for {self.ndim} axes")
        gap = index.index(Ellipsis) if Ellipsis in index else len(index)
        before, after = index[:gap], index[gap + 1 :]
        full = (*before, *[slice(None)] * (self.ndim - len(before) - len(after)), *after)
        return [self._part(part, size) for part, size in zip(full, self.shape, strict=True)]

    def _part(self, part: Index, size: int) -> int | slice:
        if isinstance(part, slice):
            return part
        if not isinstance(part, int | np.integer):
            raise IndexError(f"index {part!r} is neither an integer nor a slice; a lazy image takes only these")
        if not -size <= part < size:
            raise IndexError(f"index {part} is out of range for an axis of {size} pixels")
        return int(part) % size


def lazy(recipe: Recipe) -> LazyImage:
    """The image of a recipe without drawing it; every slice equals that of the whole image.

    Parameters
    ----------
    recipe : DiskRecipe, SquareRecipe or ConstantRecipe
        Without jitter, noise and elastic deformation.

    Raises
    ------
    SettingsError
        If the recipe can only be drawn as a whole.

    >>> from napari_shiftseg.synthetic import SquareRecipe
    >>> lazy(SquareRecipe(shape=(40_000, 40_000), spacing=(15, 15), radius=5, offset=(0, 0)))[20_000, 20_000:20_006]
    array([1., 1., 1., 1., 1., 0.], dtype=float32)
    """
    if not isinstance(recipe, LatticeRecipe | ConstantRecipe):
        raise SettingsError(
            f"a recipe of kind {recipe.kind} is drawn as a whole only; give disks, squares or a constant, or use make."
        )
    if found := [name for name in _OF_THE_WHOLE if getattr(recipe, name, 0) > 0]:
        raise SettingsError(f"{found[0]} is drawn for a whole image only; set it to 0, or draw the image with make.")
    return LazyImage(recipe=recipe)
