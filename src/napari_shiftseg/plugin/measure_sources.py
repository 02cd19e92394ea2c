"""What is measured: the pixels of a labels layer, and those of image layers that lie on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels

from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.plugin.layer_axes import axes_of_layer, finest
from napari_shiftseg.plugin.sheet import Sheet
from napari_shiftseg.plugin.signature import KEY
from napari_shiftseg.views import LazyArray, View


class Stacked(LazyArray):
    """Images as the channels of one, (C, *shape), read where it is indexed."""

    def __init__(self, images: Sequence[Any], ndim: int):
        self._images = [image if len(image.shape) > ndim else View.whole(image, (None, *range(ndim))) for image in images]
        self._pairs = [(image, channel) for image in self._images for channel in range(image.shape[0])]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return (len(self._pairs), *self._images[0].shape[1:])

    @property
    def dtype(self) -> Any:
        """A type that holds the values of all images."""
        return np.result_type(*(image.dtype for image in self._images))

    def _read(self, ranges: Sequence[range]) -> np.ndarray:
        key = tuple(slice(taken.start, taken.stop, taken.step) for taken in ranges[1:])
        parts = [np.asarray(image[(channel, *key)]) for image, channel in (self._pairs[at] for at in ranges[0])]
        return np.stack(parts).astype(self.dtype, copy=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurable:
    """What `measure` needs of layers; nothing is read yet.

    Attributes
    ----------
    sheet : Sheet
        Of the labels.
    image : array-like or None
        Intensities, channels in front.
    channels : tuple of str
        What stands behind the names of columns of the intensities, for each channel, where it is no number.
    ndim : int
        Axes of an object.
    """

    sheet: Sheet
    image: Any
    channels: tuple[str, ...]
    ndim: int

    @property
    def labels(self) -> Any:
        """The labels, frames in front."""
        return self.sheet.array

    def options(self) -> dict[str, Any]:
        """Axes, steps and units, as File > Save takes them from the layer; called in a thread, since it loads zarr."""
        from napari_shiftseg.plugin.writers import labels_of_layer

        data, meta, _ = self.sheet.layer.as_layer_data_tuple()
        known = labels_of_layer(data, meta)
        return {"axes": self.sheet.axes, "ndim": self.ndim, "spacing": known.scale, "units": known.units}

    def named(self, table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A table whose intensities have the names of their images."""
        made = {}
        for name, values in table.items():
            kind, _, number = name.rpartition("-")
            named = self.channels and kind.endswith("_intensity") and number.isdecimal()
            made[f"{kind}-{self.channels[int(number)]}" if named else name] = values
        return made


def measurable(layer: Labels, images: Sequence[ImageLayer], *, planes: bool = False) -> Measurable:
    """Labels beside images; `planes`: each plane of a stack has objects of its own.

    An image alone has the names of columns that `measure` gives it; several have those of their layers.
    """
    sheet = Sheet(layer)
    if planes and len(sheet.axes) - sheet.looped == 3:
        sheet.looped += 1
    pixels = [(image, pixels_under(layer, sheet, image)) for image in images]
    found = [(image, array) for image, array in pixels if array is not None]
    ndim = len(sheet.axes)
    if len(found) < 2:
        image, channels = (found[0][1] if found else None), ()
    else:
        counts = [array.shape[0] if len(array.shape) > ndim else 0 for _, array in found]
        channels = tuple(
            image.name + f"-{channel}" * bool(count)
            for (image, _), count in zip(found, counts, strict=True)
            for channel in range(max(1, count))
        )
        image = Stacked([array for _, array in found], ndim)
    return Measurable(sheet=sheet, image=image, channels=channels, ndim=len(sheet.axes) - sheet.looped)


def pixels_under(layer: Labels, sheet: Sheet, image: ImageLayer) -> Any:
    """Pixels of an image where labels lie, with the axes of their sheet, channels in front; None where it does not fit.

    A result may be a part of its image, such as that of a network without padding.
    """
    data, sizes = finest(image), dict(zip(sheet.axes, sheet.array.shape, strict=True))
    letters = _letters(layer, sheet, image)
    if len(letters) != len(data.shape) or len(set(letters.replace("_", ""))) < len(letters.replace("_", "")):
        return None
    picks: list[Any] = []
    for axis, (letter, size) in enumerate(zip(letters, data.shape, strict=True)):
        wanted = size if letter == "c" else sizes.get(letter, 1)
        first = _first(layer, image, (axis, letter, size == wanted), sheet=sheet) if letter in sizes else 0
        if letter not in sizes and letter != "c":
            picks.append(0 if size == 1 else None)
        else:
            picks.append(range(first, first + wanted) if 0 <= first <= size - wanted else None)
    if any(pick is None for pick in picks) or any(axis not in letters and size > 1 for axis, size in sizes.items()):
        return None
    order = [letters.index("c")] if "c" in letters else []
    return View(
        data, picks, [*order, *(letters.index(axis) if axis in letters else None for axis in sheet.axes)], name=image.name
    )


def _letters(layer: Labels, sheet: Sheet, image: ImageLayer) -> str:
    """A letter per axis of the image: those of its run, of labels of the same shape, or its own."""
    shape, known = tuple(finest(image).shape), layer.metadata.get(KEY) or {}
    record = (known.get("record") or {}).get("image") or {}
    if known.get("source_id") == image.unique_id and len(record.get("axes", "")) == len(shape):
        return str(record["axes"])
    labels = layer.data[0] if layer.multiscale else layer.data
    if shape[: image.ndim] == tuple(labels.shape):
        return sheet.layout + "c" * (len(shape) - image.ndim)
    try:
        return axes_of_layer(image).axes
    except ShiftsegError:
        return ""


def _first(layer: Labels, image: ImageLayer, axis: tuple[int, str, bool], *, sheet: Sheet) -> int:
    """The pixel of an image at which labels begin along an axis of it, -1 where pixels do not lie on pixels.

    `axis`: its number and letter, and whether both have as many pixels; they are taken for the same then if the steps differ,
    since labels often come without.
    """
    number, letter, alike = axis
    if number >= image.ndim:
        return 0
    one = np.zeros(layer.ndim)
    one[sheet.layout.index(letter)] = 1.0
    start, after = (_in_image(layer, image, place)[number] for place in (np.zeros(layer.ndim), one))
    if abs(after - start - 1) > 0.01:
        return 0 if alike else -1
    return round(start) if abs(start - round(start)) < 0.01 else -1


def _in_image(layer: Labels, image: ImageLayer, place: np.ndarray) -> np.ndarray:
    """Where a place of labels lies in an image; napari matches axes from the last one on."""
    world = np.asarray(layer.data_to_world(place), float)[-image.ndim :]
    return np.asarray(image.world_to_data((*(0.0,) * (image.ndim - len(world)), *world)), float)
