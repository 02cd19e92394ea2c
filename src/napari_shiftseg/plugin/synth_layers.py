"""From a recipe to napari layers and to the small picture in the widget; nothing here needs torch."""

from collections.abc import Generator
from dataclasses import asdict, replace
from math import ceil
from typing import Any

import numpy as np
from napari.types import LayerDataTuple

from napari_shiftseg import synthetic
from napari_shiftseg.events import Event, Stage

_CROP = {1: (256,), 2: (256, 256), 3: (12, 96, 96)}  # edges of the picture, px: drawn in a tenth of a second or less
_STRIPE = 24  # height of the picture of a line, px


def preset_layers(name: str) -> list[LayerDataTuple]:
    """Layers of a preset, as in the samples menu."""
    return synthetic_layers(synthetic.make(synthetic.preset(name).recipe), name)


def synthetic_layers(drawn: synthetic.Synthetic, name: str) -> list[LayerDataTuple]:
    """Image and truth; both hold the recipe in their metadata."""
    common: dict[str, Any] = {"axis_labels": ("z", "y", "x")[-drawn.image.ndim :], "metadata": {"recipe": asdict(drawn.recipe)}}
    if drawn.image.ndim == 1:
        del common["axis_labels"]
        image, labels = drawn.image[None], drawn.labels[None]  # napari has no layers of one axis
    else:
        image, labels = drawn.image, drawn.labels
    limits = (0.0, max(1.0, float(image.max())))
    return [
        (image, {"name": name, "contrast_limits": limits, **common}, "image"),
        (labels, {"name": f"{name} truth", "visible": False, **common}, "labels"),
    ]


def draw_steps(recipe: synthetic.Recipe) -> Generator[Event, None, synthetic.Synthetic]:
    """Draw a recipe in a thread."""
    yield Stage(done=0, total=0, text="drawing")
    return synthetic.make(recipe)


def preview(recipe: synthetic.Recipe) -> np.ndarray:
    """First corner of an image as (y, x) uint8; of a stack its middle plane. A random image is another one there."""
    image = synthetic.make(cropped(recipe)).image
    if image.ndim == 3:
        image = image[len(image) // 2]
    if image.ndim == 1:
        image = np.repeat(image[None], _STRIPE, axis=0)
    return np.ascontiguousarray(np.rint(image * (255 / max(1.0, float(image.max())))), np.uint8)


def cropped(recipe: synthetic.Recipe) -> synthetic.Recipe:
    """The recipe of the first corner; small images stay as they are."""
    blobs = isinstance(recipe, synthetic.BlobRecipe)
    least = ceil(2 * recipe.radius[1]) if blobs else 1  # blobs have to fit in
    shape = tuple(min(size, max(crop, least)) for size, crop in zip(recipe.shape, _CROP[len(recipe.shape)], strict=True))
    if shape == recipe.shape:
        return recipe
    changes: dict[str, Any] = {"shape": shape}
    if blobs:
        changes["count"] = round(recipe.count * np.prod(shape) / np.prod(recipe.shape, dtype=float))
    if getattr(recipe, "light", 0) > 0:  # the part of the fall that the corner sees
        parts = [(small - 1) / max(whole - 1, 1) for small, whole in zip(shape, recipe.shape, strict=True)]
        changes["light"] = recipe.light * sum(parts) / len(parts)
    return replace(recipe, **changes)
