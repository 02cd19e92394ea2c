"""A napari image layer as an `Image`, and where its pixels lie in the world."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Layer

from napari_shiftseg.io import Image
from napari_shiftseg.plugin.file_reader import scene_of
from napari_shiftseg.plugin.layer_axes import axes_of_layer, file_of, finest


@dataclass(frozen=True, kw_only=True, eq=False)
class Placement:
    """Where pixels lie, in the words of napari; one entry per axis of a layer.

    napari matches the axes of layers from the last one on. So a result has its axes in the order of its image, and where the
    image has an axis between them that the result has not, one pixel that is as long as that axis: `layout` says which.
    """

    # scale, translate: (n,)
    scale: np.ndarray
    translate: np.ndarray
    # rotate, shear: (n, n)
    rotate: np.ndarray
    shear: np.ndarray
    affine: np.ndarray  # (n + 1, n + 1), homogeneous
    units: tuple[Any, ...]
    axis_labels: tuple[str, ...]
    layout: str  # a letter per axis; "_" for an axis that the image has and the result has not

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
            layout=f"c{self.layout}",
        )

    def shifted(self, origin: tuple[int, ...]) -> "Placement":
        """The place of data whose first pixel is pixel `origin` of these, given in the order "tzyx"."""
        letters = [letter for letter in "tzyx" if letter in self.layout]
        first = dict(zip(letters, origin, strict=True))
        return self._moved(np.array([first.get(letter, 0) for letter in self.layout], float))

    def of(self, axes: str) -> "Placement":
        """The place of a part of the axes, in the order in which they are here."""
        at = [self.layout.index(axis) for axis in axes]
        both, homogeneous = np.ix_(at, at), np.ix_([*at, -1], [*at, -1])
        return Placement(
            scale=self.scale[at],
            translate=self.translate[at],
            rotate=self.rotate[both],
            shear=self.shear[both],
            affine=self.affine[homogeneous],
            units=tuple(self.units[axis] for axis in at),
            axis_labels=tuple(self.axis_labels[axis] for axis in at),
            layout=axes,
        )

    def spread(self, axes: Mapping[str, int]) -> "Placement":
        """With one pixel instead of all on some axes, as long as they are; given with their sizes, pixels."""
        lengths = np.array([axes.get(letter, 1) for letter in self.layout], float)
        moved = self._moved((lengths - 1) / 2)
        layout = "".join("_" if letter in axes else letter for letter in self.layout)
        return replace(moved, scale=self.scale * lengths, layout=layout)

    def named(self) -> "Placement":
        """With the letter of an axis as its label, where it has none but napari's number."""
        pairs = zip(self.layout, self.axis_labels, strict=True)
        labels = (("channel" if axis == "c" else axis) if label.lstrip("-").isdecimal() else label for axis, label in pairs)
        return replace(self, axis_labels=tuple(labels))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays = {name: value.tolist() for name, value in values.items() if isinstance(value, np.ndarray)}
        return {**values, **arrays, "units": [str(unit) for unit in self.units], "axis_labels": list(self.axis_labels)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Placement":
        """The inverse of `to_dict`; ValueError, KeyError or TypeError if it is none."""
        count = len(values["layout"])
        shapes = {
            "scale": (count,),
            "translate": (count,),
            "rotate": (count,) * 2,
            "shear": (count,) * 2,
            "affine": (count + 1,) * 2,
        }
        arrays = {name: np.asarray(values[name], float).reshape(shape) for name, shape in shapes.items()}
        texts = {name: tuple(map(str, values[name])) for name in ("units", "axis_labels")}
        return cls(**arrays, **texts, layout=str(values["layout"]))

    def _moved(self, pixels: np.ndarray) -> "Placement":
        return replace(self, translate=self.translate + self.rotate @ self.shear @ (self.scale * pixels))


def guess_axes(layer: ImageLayer, channels: int = 1) -> tuple[str, str]:
    """Likely axes of a layer's data, and a sentence on it ("" where there is nothing to say); see `axes_of_layer`."""
    found = axes_of_layer(layer, channels)
    return found.axes, found.note


def image_of(layer: ImageLayer, axes: str, assumed: str = "") -> Image:
    """The layer's data as an `Image`; nothing is read, and of a pyramid the finest level is taken.

    What the file of the layer says of the same axes is added: notes, names of the channels, and step and unit where the layer
    has none of its own. ImageError if the axes do not fit the data.

    Parameters
    ----------
    axes : str
        Of the data, colour samples included.
    assumed : str
        What was assumed of them, which the record keeps.
    """
    samples = int(layer.rgb)
    image = Image.from_array(
        finest(layer),
        axes=axes,
        scale=(*np.abs(layer.scale), *(1.0,) * samples),  # a mirrored layer has the same pixels
        units=(*map(str, layer.units), *(None,) * samples),
        name=layer.name,
    )
    start = (*map(float, layer.data_to_world((0.0,) * layer.ndim)), *(0.0,) * samples)
    place = replace(place_of_layer(layer), layout=image.axes[: layer.ndim]).named().to_dict()
    made = replace(
        image,
        scene=scene_of(layer),
        source=str(layer.source.path or "napari layer"),
        translation=start if any(start) else (),
        place=place,
    )
    file = file_of(layer)
    if file is not None and file.data.shape == made.data.shape:
        file = file.called(made.axes)  # the user may have named them
    if file is not None and set(made.axes) <= set(file.axes):
        made = _with_file(made, file, bare=_is_bare(layer))
    return replace(made, assumed=assumed, note=" ".join(part for part in (made.note, assumed) if part))


def place_of_layer(layer: Layer) -> Placement:
    """Where the whole layer lies; its layout has no letters yet."""
    return Placement(
        scale=np.asarray(layer.scale, float),
        translate=np.asarray(layer.translate, float),
        rotate=np.asarray(layer.rotate, float),
        shear=_shear_matrix(layer),
        affine=np.asarray(layer.affine.affine_matrix, float),
        units=tuple(layer.units),
        axis_labels=tuple(layer.axis_labels),
        layout="?" * layer.ndim,
    )


def placement_of(layer: Layer, axes: str, wanted: str) -> Placement:
    """Where a result with the axes `wanted` lies, some of the layer's axes `axes`.

    The axes keep the order that they have in the layer. Those before the first wanted one are left out, since napari shows a
    layer without them at each of their positions; for others in between the result has one pixel.
    """
    axes = axes[: layer.ndim]
    return part_of(replace(place_of_layer(layer), layout=axes), dict(zip(axes, finest(layer).shape, strict=False)), wanted)


def part_of(place: Placement, sizes: Mapping[str, int], wanted: str) -> Placement:
    """As `placement_of`, from the place of the whole layer and its sizes, pixels per axis."""
    axes = place.layout[min(place.layout.index(axis) for axis in wanted) :]
    return place.of(axes).spread({axis: sizes[axis] for axis in axes if axis not in wanted})


def _with_file(image: Image, file: Image, *, bare: bool) -> Image:
    """The image with what its file knows beyond the layer; also step and place, where the layer is bare of them."""
    sizes = file.sizes
    if any(sizes[axis] != size for axis, size in image.sizes.items() if axis != "c"):
        return image
    channels = file.channels if len(file.channels) == image.sizes.get("c") else ()
    note = " ".join(file.note.replace(file.assumed, "").split()) if file.assumed else file.note
    image = replace(image, channels=channels, note=" ".join(part for part in (image.note, note) if part))
    if not bare:
        return image
    at = [file.axes.index(axis) for axis in image.axes]
    return replace(
        image,
        scale=tuple(file.scale[axis] for axis in at),
        units=tuple(file.units[axis] for axis in at),
        translation=tuple(file.translation[axis] for axis in at) if file.translation else (),
    )


def _is_bare(layer: Layer) -> bool:
    """Whether nobody has said where the layer lies and how large its pixels are."""
    inner = place_of_layer(layer)
    ones, count = np.eye(layer.ndim), layer.ndim
    unmoved = (inner.scale == 1).all() and not inner.translate.any() and (inner.affine == np.eye(count + 1)).all()
    unturned = (inner.rotate == ones).all() and (inner.shear == ones).all()
    return bool(unmoved and unturned) and all(str(unit) == "pixel" for unit in layer.units)


def _shear_matrix(layer: Layer) -> np.ndarray:
    shear = np.asarray(layer.shear, float)
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
