"""Sample images of the File > Open Sample menu; none of them needs torch."""

from collections.abc import Generator
from dataclasses import asdict, replace
from functools import partial
from importlib.resources import as_file, files
from math import ceil
from typing import Any

import numpy as np
from napari.types import LayerDataTuple
from tifffile import imread

from napari_shiftseg import synthetic
from napari_shiftseg.events import Event, Stage
from napari_shiftseg.plugin.constants import PREVIEW_CROP, STRIPE


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
        image = np.repeat(image[None], STRIPE, axis=0)
    return np.ascontiguousarray(np.rint(image * (255 / max(1.0, float(image.max())))), np.uint8)


def cropped(recipe: synthetic.Recipe) -> synthetic.Recipe:
    """The recipe of the first corner; small images stay as they are."""
    blobs = isinstance(recipe, synthetic.BlobRecipe)
    least = ceil(2 * recipe.radius[1]) if blobs else 1  # blobs have to fit in
    shape = tuple(min(size, max(crop, least)) for size, crop in zip(recipe.shape, PREVIEW_CROP[len(recipe.shape)], strict=True))
    if shape == recipe.shape:
        return recipe
    changes: dict[str, Any] = {"shape": shape}
    if blobs:
        changes["count"] = round(recipe.count * np.prod(shape) / np.prod(recipe.shape, dtype=float))
    if getattr(recipe, "light", 0) > 0:  # the part of the fall that the corner sees
        parts = [(small - 1) / max(whole - 1, 1) for small, whole in zip(shape, recipe.shape, strict=True)]
        changes["light"] = recipe.light * sum(parts) / len(parts)
    return replace(recipe, **changes)


# the images of the paper's figures; the manifest names them one by one
fig1 = partial(preset_layers, "fig1")
fig2a = partial(preset_layers, "fig2a")
fig2b = partial(preset_layers, "fig2b")
fig2c = partial(preset_layers, "fig2c")
fig3 = partial(preset_layers, "fig3")
fig4 = partial(preset_layers, "fig4")
fig5a = partial(preset_layers, "fig5a")
fig5b = partial(preset_layers, "fig5b")
fig6_noise = partial(preset_layers, "fig6_noise")
fig6_elastic = partial(preset_layers, "fig6_elastic")
fig7a = partial(preset_layers, "fig7a")
fig7b = partial(preset_layers, "fig7b")


def real_layers(name: str) -> list[LayerDataTuple]:
    """An image of the package that a bundled model knows, with the truth that experts drew."""
    image, truth = _bundled(f"{name}.tif"), _bundled(f"{name}_truth.tif").astype(np.int32)
    layers = _pair(image, truth, name)
    if image.ndim > truth.ndim:  # colours
        layers[0] = (image, {"name": name, "rgb": True, "axis_labels": ("y", "x")}, "image")
    return layers


# In turn: fluorescence, (520, 696) uint8; phase contrast, (400, 400) uint16; stained tissue, (256, 320, 3) uint8;
# electron microscopy, (400, 400) uint8; a volume of tissue, (48, 96, 96) uint8.
nuclei = partial(real_layers, "nuclei")
cells_phase = partial(real_layers, "cells-phase")
nuclei_he = partial(real_layers, "nuclei-he")
axons_sem = partial(real_layers, "axons-sem")
nuclei_3d = partial(real_layers, "nuclei-3d")


def disks_on_period(spacing: int = 16) -> list[LayerDataTuple]:
    """Equal disks at a distance that is a multiple of the period of the usual networks: all get the same embedding."""
    drawn = synthetic.disks((256, 256), spacing, 5)
    return _pair(drawn.image, drawn.labels, f"disks {spacing} px apart")


def disks_off_period() -> list[LayerDataTuple]:
    """Equal disks at a distance that shares no factor with the period: neighbours get different embeddings."""
    return disks_on_period(spacing=15)


def touching_blobs(seed: int = 0) -> list[LayerDataTuple]:
    """Nuclei-like blobs of which a third touch another one, (256, 256) float32."""
    drawn = synthetic.blobs((256, 256), 60, seed=seed)
    return _pair(drawn.image, drawn.labels, "touching blobs")


def touching_blobs_3d(seed: int = 0) -> list[LayerDataTuple]:
    """Nuclei-like blobs in a stack, (48, 128, 128) float32."""
    drawn = synthetic.blobs((48, 128, 128), 40, seed=seed)
    return _pair(drawn.image, drawn.labels, "touching blobs 3D")


def constant() -> list[LayerDataTuple]:
    """An image without any structure: what its embedding shows comes from the network alone."""
    drawn = synthetic.constant((128, 128), value=0.5)
    return [(drawn.image, {"name": "constant", "contrast_limits": (0, 1)}, "image")]


def _bundled(name: str) -> np.ndarray:
    with as_file(files("napari_shiftseg") / "samples" / name) as path:
        return imread(path)


def _pair(image: np.ndarray, truth: np.ndarray, name: str) -> list[LayerDataTuple]:
    axes = {"axis_labels": ("z", "y", "x")[-truth.ndim :]}
    return [
        (image, {"name": name, **axes}, "image"),
        (truth, {"name": f"{name} truth", "visible": False, **axes}, "labels"),
    ]
