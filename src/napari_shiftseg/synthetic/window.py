"""Images larger than memory: only the window that is asked for is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.synthetic.degrade import shade
from napari_shiftseg.synthetic.lattice import draw_window
from napari_shiftseg.synthetic.recipe import ConstantRecipe, LatticeRecipe, Recipe
from napari_shiftseg.views import LazyArray

_OF_THE_WHOLE = ("jitter", "elastic", "noise")  # drawn with one random stream over the whole image


@dataclass(frozen=True, kw_only=True, repr=False)
class LazyImage(LazyArray):
    """The image of a recipe as an array-like: an index of integers and slices draws that part and nothing else."""

    recipe: LatticeRecipe | ConstantRecipe

    @property
    def shape(self) -> tuple[int, ...]:
        """Image edges, pixels."""
        return self.recipe.shape

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Type of the pixels."""
        return np.dtype(np.float32)

    def _read(self, ranges: Sequence[range]) -> npt.NDArray[np.float32]:
        if isinstance(self.recipe, LatticeRecipe):
            return draw_window(self.recipe, tuple(slice(part.start, part.stop, part.step) for part in ranges))
        along = tuple(np.asarray(part) for part in ranges)
        image = np.full(tuple(map(len, along)), self.recipe.value, dtype=np.float32)
        return shade(image, self.recipe.light, along, shape=self.shape)


def lazy(recipe: Recipe) -> LazyImage:
    """The image of a recipe without drawing it; every slice equals that of the whole image.

    SettingsError if the recipe can only be drawn as a whole. `recipe`: without jitter, noise and elastic deformation.

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
