"""`read_labels`: labels of a result, or any labels image, with what is known of their pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_shiftseg.arguments import told
from napari_shiftseg.errors import ImageError, ResultError
from napari_shiftseg.files import path_of
from napari_shiftseg.io.axes import ORDER, check_integers
from napari_shiftseg.io.image import Image, read_image
from napari_shiftseg.views import ArrayLike, View


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """Labels as they lie on disk.

    Attributes
    ----------
    data : array-like
        (*shape) int, 0 is the background; read when asked for.
    axes : str
        Letters of "tzyx", in this order.
    scale, units, translation : tuple
        Step, OME-NGFF unit and place of the first pixel per axis.
    ndim : int
        Axes of an object: 2 where each plane of a stack was segmented by itself.
    image : Image or None
        The image that lies in the result.
    record : mapping
        What happened, where the labels are a result of this package; else empty.
    note : str
        What was guessed, dropped or found missing on reading, as of `Image`: an object that lacks is no error by itself.
    """

    data: ArrayLike
    axes: str
    scale: tuple[float, ...]
    units: tuple[str | None, ...]
    translation: tuple[float, ...]
    ndim: int
    image: Image | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def intensities(self, image: Image) -> ArrayLike:
        """Pixels of an image of the same place, with the axes of the labels, and channels in front where it has some.

        ImageError if a size or an axis is another one.
        """
        sizes = dict(zip(self.axes, self.data.shape, strict=True))
        extra = [axis for axis, size in image.sizes.items() if axis not in sizes and axis != "c" and size > 1]
        if extra or any(image.sizes.get(axis, 1) != size for axis, size in sizes.items()):
            raise ImageError(
                f'{image.name} of shape {tuple(image.data.shape)} (axes "{image.axes}") does not belong to labels of shape '
                f'{tuple(self.data.shape)} (axes "{self.axes}"); give the image that was segmented, or name its axes.'
            )
        wanted = ("c" if "c" in image.axes else "") + self.axes
        return _picked(image, wanted)


@told
def read_labels(path: str | Path, *, scene: int | None = None, axes: str | None = None) -> Labels:
    """Open the labels of a result, or an image that holds labels.

    Parameters
    ----------
    path : str or Path
        A store that `save_result` wrote, or whatever `read_image` reads.
    scene : int, optional
        Which image of a file that holds several.
    axes : str, optional
        A letter of "tczyx" per axis, where the file does not say what they are, or is wrong.

    Raises
    ------
    ImageError, ResultError
        If it cannot be read, or holds no labels.

    >>> from importlib.resources import files
    >>> labels = read_labels(str(files("napari_shiftseg") / "samples" / "nuclei_truth.tif"))
    >>> labels.axes, labels.ndim, labels.data.shape
    ('yx', 2, (520, 696))
    """
    from napari_shiftseg.io.stored_result import our_attributes  # with zarr, which labels of a layer do without

    path = path_of(path, "labels", ResultError)
    if path.is_dir() and our_attributes(path) is not None:
        return _of_result(path)
    return labels_of(read_image(path, scene=scene, axes=axes))


def labels_of(image: Image) -> Labels:
    """Labels that an image holds; errors as of `read_labels`."""
    if image.sizes.get("c", 1) > 1:
        raise ImageError(
            f"{image.name} has {image.sizes['c']} channels (axes {image.axes}), and labels have none; give the labels, or "
            "name the axes."
        )
    letters = "".join(axis for axis in ORDER if axis in image.axes and axis != "c")
    order = [image.axes.index(axis) for axis in letters]
    place = image.translation or (0.0,) * len(image.axes)
    data = _picked(image, letters)
    check_integers(data)
    return Labels(
        data=data,
        axes=letters,
        scale=tuple(image.scale[at] for at in order),
        units=tuple(image.units[at] for at in order),
        translation=tuple(place[at] for at in order),
        ndim=_depth(letters, data),
        note=image.note,
    )


def _of_result(path: Path) -> Labels:
    from napari_shiftseg.io.stored_result import open_result

    result = open_result(path)
    plan = result.record.get("plan")
    known = len(plan["image_shape"]) if isinstance(plan, Mapping) and "image_shape" in plan else 0
    if any(step["through"] == "z" for step in linked_steps(result.record)):
        known = 3
    image = read_image(path) if result.image is not None else None
    return Labels(
        data=View.whole(result.labels, name=path.name),  # which says of a damaged chunk where it is
        axes=result.axes,
        scale=result.scale,
        units=result.units,
        translation=result.translation,
        ndim=known if known in (2, 3) else _depth(result.axes, result.labels),
        image=image,
        record=result.record,
    )


def linked_steps(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the record of a result says of links through planes ("z") and frames ("t"), in their order; empty without any.

    ResultError where it says what nobody has written: a lineage that is read by half would be a wrong one.
    """
    told = record.get("linked") or []
    if not isinstance(told, list) or not all(map(_is_link, told)):
        raise ResultError(
            'the record says of "linked" something else than links through "z" and "t" with pairs of numbers as parents; '
            "it is damaged."
        )
    return [dict(step) for step in told]


def _is_link(step: Any) -> bool:
    if not isinstance(step, Mapping) or step.get("through") not in ("z", "t"):
        return False
    parents = step.get("parents", [])
    return isinstance(parents, list) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 and all(type(number) is int and number > 0 for number in pair)
        for pair in parents
    )


def _depth(axes: str, data: ArrayLike) -> int:
    """Axes of an object: a stack of one plane is a plane."""
    return 3 if "z" in axes and data.shape[axes.index("z")] > 1 else 2


def _picked(image: Image, axes: str) -> ArrayLike:
    """Pixels with these axes, in this order; others have one position, and what is not there has one, too."""
    picks = [range(size) if axis in axes else 0 for axis, size in image.sizes.items()]
    order = [image.axes.index(axis) if axis in image.axes else None for axis in axes]
    if isinstance(image.data, np.ndarray) and all(isinstance(pick, range) for pick in picks) and order == [*range(len(picks))]:
        return image.data
    view = View(image.data, picks, order, name=image.name)
    return view[...] if isinstance(image.data, np.ndarray) and not isinstance(image.data, np.memmap) else view
