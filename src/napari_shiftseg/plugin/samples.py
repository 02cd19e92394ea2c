"""Sample images of the File > Open Sample menu; none of them needs torch."""

from functools import partial
from importlib.resources import as_file, files

import numpy as np
from napari.types import LayerDataTuple
from tifffile import imread

from napari_shiftseg import synthetic
from napari_shiftseg.plugin.synth_layers import preset_layers

__all__ = [
    "constant",
    "disks_off_period",
    "disks_on_period",
    "fig1",
    "fig2a",
    "fig2b",
    "fig2c",
    "fig3",
    "fig4",
    "fig5a",
    "fig5b",
    "fig6_elastic",
    "fig6_noise",
    "fig7a",
    "fig7b",
    "nuclei",
    "touching_blobs",
    "touching_blobs_3d",
]

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


def nuclei() -> list[LayerDataTuple]:
    """Real nuclei in fluorescence, (520, 696) uint8, with the outlines that experts drew."""
    image, truth = _bundled("nuclei.tif"), _bundled("nuclei_truth.tif")
    return _pair(image, truth.astype(np.int32), "nuclei")


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
    axes = {"axis_labels": ("z", "y", "x")[-image.ndim :]}
    return [
        (image, {"name": name, **axes}, "image"),
        (truth, {"name": f"{name} truth", "visible": False, **axes}, "labels"),
    ]
