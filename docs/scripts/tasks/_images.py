"""The images that the tasks work on: parts of the samples that come with the package, so that a run takes seconds."""

from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from tifffile import imread, imwrite


def sample(name: str) -> np.ndarray:
    """The pixels of a sample image."""
    with as_file(files("napari_shiftseg.samples") / f"{name}.tif") as path:
        return np.asarray(imread(path))


def save(path: Path, pixels: np.ndarray, pixel_size: float | None = 0.65) -> None:
    """Write a TIFF as ImageJ does, with its pixel size in micrometres."""
    if pixel_size is None:
        imwrite(path, pixels)
        return
    axes = {2: "YX", 3: "TYX"}[pixels.ndim]
    more = {"unit": "um", "axes": axes}
    imwrite(path, pixels, imagej=True, resolution=(1 / pixel_size, 1 / pixel_size), metadata=more)


def save_stack(path: Path, planes: np.ndarray) -> None:
    """Write planes as ImageJ does, which says that they are a stack."""
    more = {"unit": "um", "axes": "ZYX", "spacing": 0.65}
    imwrite(path, planes, imagej=True, resolution=(1 / 0.65, 1 / 0.65), metadata=more)


def nuclei(folder: Path) -> None:
    """`nuclei.tif`: some twenty nuclei, 0.65 micrometres per pixel."""
    save(folder / "nuclei.tif", sample("nuclei")[120:312, 200:456])


def open_file(hand, path: Path) -> None:
    """Open a file by napari's menu."""
    hand.answer_files(path)
    hand.menu("File", "Open File(s)")


def segmented(hand, folder: Path, name: str = "nuclei") -> None:
    """Open an image and run the model that is offered: where the steps of other pages begin."""
    open_file(hand, folder / f"{name}.tif")
    hand.sees_layer(name)
    hand.menu("Layers", "Segment", "Segment (ShiftSeg)")
    hand.press("Run")
    hand.sees_layer(f"{name} instances")
    hand.sees("instances, compliant")


def count(layer) -> int:
    """Objects of a labels layer."""
    return int(np.count_nonzero(np.unique(np.asarray(layer.data))))
