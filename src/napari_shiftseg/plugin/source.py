"""A napari image layer as an `Image`: which axis is which, and where its pixels lie in the world."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from napari.layers import Image as ImageLayer

from napari_shiftseg.io import Image
from napari_shiftseg.io.axes import name_axes

__all__ = ["Placement", "guess_axes", "image_of", "placement_of"]

_LETTERS = {
    "t": "t", "time": "t", "frame": "t",
    "c": "c", "ch": "c", "channel": "c", "channels": "c",
    "z": "z", "depth": "z", "plane": "z", "slice": "z",
    "y": "y", "x": "x",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Placement:
    """Where the pixels of a layer lie, in the words of napari; one entry per axis.

    Attributes
    ----------
    scale, translate : ndarray
        (n,)
    rotate, shear : ndarray
        (n, n)
    affine : ndarray
        (n + 1, n + 1), homogeneous.
    units, axis_labels : tuple
    """

    scale: np.ndarray
    translate: np.ndarray
    rotate: np.ndarray
    shear: np.ndarray
    affine: np.ndarray
    units: tuple[Any, ...]
    axis_labels: tuple[str, ...]

    def behind_channel(self) -> "Placement":
        """The same place for data with a channel axis in front."""
        return Placement(
            scale=np.insert(self.scale, 0, 1.0),
            translate=np.insert(self.translate, 0, 0.0),
            rotate=_behind_one(self.rotate),
            shear=_behind_one(self.shear),
            affine=_behind_one(self.affine),
            units=("pixel", *self.units),
            axis_labels=("channel", *self.axis_labels),
        )

    def shifted(self, origin: tuple[int, ...]) -> "Placement":
        """The place of data whose first pixel is pixel `origin` of these."""
        step = self.rotate @ self.shear @ (self.scale * np.asarray(origin, float))
        return replace(self, translate=self.translate + step)


def guess_axes(layer: ImageLayer, channels: int = 1) -> tuple[str, str]:
    """Likely axes of a layer's data, and a sentence on what was guessed ("" where nothing was).

    Labels of axes and units of time are believed; the last two axes without a label are y and x.

    Parameters
    ----------
    layer : napari.layers.Image
    channels : int
        Channels that the model wants; an axis without a label of that size is taken for them if there are several.
    """
    shape = _level(layer).shape[: layer.ndim]
    found = [_letter(label, unit) for label, unit in zip(layer.axis_labels, layer.units, strict=True)]
    if layer.rgb:
        found = ["?" if letter == "c" else letter for letter in found]  # the samples are the channels
    if len({letter for letter in found if letter != "?"}) < sum(letter != "?" for letter in found):
        found = ["?"] * layer.ndim  # one letter twice: the labels mean something else
    for axis, letter in ((-1, "x"), (-2, "y")):
        if len(found) >= -axis and found[axis] == "?" and letter not in found:
            found[axis] = letter
    if channels > 1 and not layer.rgb and "c" not in found:
        fits = [axis for axis, letter in enumerate(found) if letter == "?" and shape[axis] == channels]
        if fits:
            found[fits[0]] = "c"
    raw = "".join(found) + ("c" if layer.rgb else "")
    # sizes of 1 would let an axis be dropped, and layers keep theirs
    letters, note = name_axes(raw, [max(size, 2) for size in _level(layer).shape])
    return "".join(letter or "" for letter in letters), note.replace("The file does", "The layer does")


def image_of(layer: ImageLayer, axes: str) -> Image:
    """The layer's data as an `Image`; nothing is read, and of a pyramid the finest level is taken.

    Raises
    ------
    ImageError
        If the axes do not fit the data.
    """
    samples = int(layer.rgb)
    image = Image.from_array(
        _level(layer),
        axes=axes,
        scale=(*np.abs(layer.scale), *(1.0,) * samples),  # a mirrored layer has the same pixels
        units=(*map(str, layer.units), *(None,) * samples),
        name=layer.name,
    )
    return replace(image, source=str(layer.source.path or "napari layer"))


def placement_of(layer: ImageLayer, axes: str, wanted: str) -> Placement:
    """Where the axes `wanted`, some of the layer's axes `axes`, lie in the world."""
    at = [axes.index(axis) for axis in wanted]
    both = np.ix_(at, at)
    with_translation = np.ix_([*at, layer.ndim], [*at, layer.ndim])
    return Placement(
        scale=np.asarray(layer.scale)[at],
        translate=np.asarray(layer.translate)[at],
        rotate=np.asarray(layer.rotate)[both],
        shear=_shear_matrix(layer)[both],
        affine=np.asarray(layer.affine.affine_matrix)[with_translation],
        units=tuple(layer.units[axis] for axis in at),
        axis_labels=tuple(layer.axis_labels[axis] for axis in at),
    )


def _level(layer: ImageLayer) -> Any:
    return layer.data[0] if layer.multiscale else layer.data


def _letter(label: str, unit: Any) -> str:
    if unit.is_compatible_with("second"):
        return "t"
    return _LETTERS.get(label.strip().lower(), "?")


def _shear_matrix(layer: ImageLayer) -> np.ndarray:
    shear = np.asarray(layer.shear)
    if shear.ndim == 2:
        return shear
    matrix = np.eye(layer.ndim)
    matrix[np.triu_indices(layer.ndim, 1)] = shear  # napari keeps the upper triangle only
    return matrix


def _behind_one(matrix: np.ndarray) -> np.ndarray:
    size = len(matrix) + 1
    larger = np.eye(size)
    larger[1:, 1:] = matrix
    return larger
