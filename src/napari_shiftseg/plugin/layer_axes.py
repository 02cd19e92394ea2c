"""Which axis of a napari layer is which: what the user chose, the layer says, its file says, or else is assumed."""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari.layers import Image as ImageLayer

from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.io.axes import axis_letter, name_axes
from napari_shiftseg.plugin.file_reader import described, scene_of

if TYPE_CHECKING:
    from napari_shiftseg.io import Image

_WORDS = {"z": "planes of depth", "t": "time points", "c": "channels"}

# Both live as long as their layer.
_chosen: weakref.WeakKeyDictionary[ImageLayer, tuple[str, int]] = weakref.WeakKeyDictionary()
_files: weakref.WeakKeyDictionary[ImageLayer, tuple[Any, "Image | None"]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class LayerAxes:
    """The axes of a layer's data, and who says so."""

    axes: str  # a letter per axis, colour samples included
    by: Literal["user", "layer", "file", "assumed"]
    note: str = ""  # a sentence on it; "" where there is nothing to say


def axes_of_layer(layer: ImageLayer, channels: int = 1) -> LayerAxes:
    """What the axes of a layer are.

    Believed in this order: the choice of the user; labels and units of the layer's axes, the last two being y and x; the file
    that the layer was read from, where the data have its shape. What is left is assumed. ImageError if the layer has more axes
    than five. `channels`: channels that the model wants; an axis of that size that nothing names is assumed to be them if there
    are several.
    """
    shape = finest(layer).shape
    if layer in _chosen and _chosen[layer][1] == len(shape):
        return LayerAxes(axes=_chosen[layer][0], by="user")
    said = _said(layer)
    if "?" not in said:
        return LayerAxes(axes=said + "c" * layer.rgb, by="layer")
    found, certain = _in_file(layer, said)
    if found and certain:
        return LayerAxes(axes=found, by="file", note=f"Axes as in the file {_path(layer).name}.")
    if found:
        return LayerAxes(
            axes=found,
            by="assumed",
            note=_doubt(found, said, shape, who="The data are a part of their file, which leaves open what their axes are"),
        )
    guess = _guess(said, shape, channels, rgb=layer.rgb)
    return LayerAxes(
        axes=guess, by="assumed", note=_doubt(guess, said, shape, who="Neither the layer nor a file names all axes")
    )


def choose_axes(layer: ImageLayer, axes: str) -> None:
    """Remember what the user says of a layer, until the number of its axes changes."""
    _chosen[layer] = (axes, len(finest(layer).shape))


def readings(layer: ImageLayer) -> dict[str, str]:
    """All that the axes of a layer can be where it does not name them: in words, by axes; {} where it does."""
    shape, said = finest(layer).shape, _said(layer)
    unknown = [axis for axis, letter in enumerate(said) if letter == "?"]
    free = [letter for letter in "ztc" if letter not in said and not (layer.rgb and letter == "c")]
    made = {}
    for letters in permutations(free, len(unknown)) if unknown else ():
        named = list(said)
        for axis, letter in zip(unknown, letters, strict=True):
            named[axis] = letter
        words = ", ".join(f"{shape[axis]} {_WORDS[letter]}" for axis, letter in zip(unknown, letters, strict=True))
        axes = "".join(named) + "c" * layer.rgb
        made[axes] = f"{axes}: {words}"
    return made


def file_of(layer: ImageLayer) -> "Image | None":
    """The image that a layer was read from, as its file describes it, not decoded; None where nothing is read."""
    path = _path(layer)
    if path is None:
        return None
    try:
        state = (path, path.stat().st_mtime_ns)
    except OSError:
        return None
    if layer not in _files or _files[layer][0] != state:
        _files[layer] = (state, _described(path, scene_of(layer)))
    return _files[layer][1]


def finest(layer: ImageLayer) -> Any:
    """The layer's data; of a pyramid the first level."""
    return layer.data[0] if layer.multiscale else layer.data


def _path(layer: ImageLayer) -> Path | None:
    """The file of a layer, or of the one that it is a duplicate of."""
    parent = layer.source.parent() if layer.source.parent is not None else None
    path = layer.source.path or (parent.source.path if parent is not None else None)
    return Path(path) if path else None


def _described(path: Path, scene: int | None) -> "Image | None":
    try:
        return described(path, scene)
    except ShiftsegError:
        return None


def _said(layer: ImageLayer) -> str:
    """A letter per axis of the layer, colour samples left out; "?" where neither label nor unit says it."""
    found = [axis_letter(label, unit=unit) for label, unit in zip(layer.axis_labels, layer.units, strict=True)]
    if layer.rgb:
        found = ["?" if letter == "c" else letter for letter in found]  # the samples are the channels
    if len({letter for letter in found if letter != "?"}) < sum(letter != "?" for letter in found):
        found = ["?"] * layer.ndim  # one letter twice: the labels mean something else
    for axis, letter in ((-1, "x"), (-2, "y")):
        if len(found) >= -axis and found[axis] == "?" and letter not in found:
            found[axis] = letter
    lengths = [axis for axis, unit in enumerate(layer.units) if found[axis] == "?" and unit.is_compatible_with("meter")]
    if len(lengths) == 1 and "z" not in found:
        found[lengths[0]] = "z"  # y and x are named
    return "".join(found)


def _in_file(layer: ImageLayer, said: str) -> tuple[str, bool]:
    """Axes of the data as the file has them, "" where it does not fit, and whether no other reading of the shape fits."""
    image = file_of(layer)
    if image is None or image.assumed:
        return "", False
    shape = tuple(finest(layer).shape)
    axes, sizes = image.axes, image.sizes
    if layer.rgb and axes.endswith("c"):
        sizes["c"] = shape[-1]  # an alpha channel is left out of an image, and is there in a layer
    whole = tuple(sizes[axis] for axis in axes) == shape
    # viewers split channels into layers and drop axes of one pixel; other axes are gone only from a part of the image
    found: dict[str, bool] = {}
    for count in range(len(axes) - 1):
        for kept in combinations(axes, len(axes) - count):
            gone = set(axes) - set(kept)
            if {"y", "x"} <= set(kept) and tuple(sizes[axis] for axis in kept) == shape:
                usual = all(axis == "c" or sizes[axis] == 1 for axis in gone)
                found["".join(kept)] = found.get("".join(kept), False) or usual
    fits = {axes: True} if whole else found
    fits = {kept: usual for kept, usual in fits.items() if all(a in ("?", b) for a, b in zip(said, kept, strict=False))}
    best = max(fits, key=lambda kept: fits[kept], default="")
    return best, bool(best) and len(fits) == 1 and fits[best]


def _guess(said: str, shape: Sequence[int], channels: int, *, rgb: bool) -> str:
    found = list(said)
    if channels > 1 and not rgb and "c" not in found:
        fits = [axis for axis, letter in enumerate(found) if letter == "?" and shape[axis] == channels]
        if fits:
            found[fits[0]] = "c"
    # sizes of 1 would let an axis be dropped, and layers keep theirs
    letters, _ = name_axes("".join(found) + "c" * rgb, [max(size, 2) for size in shape])
    return "".join(letter or "" for letter in letters)


def _doubt(axes: str, said: str, shape: Sequence[int], *, who: str) -> str:
    words = " and ".join(
        f"{shape[axis]} {_WORDS[axes[axis]]}" for axis, letter in enumerate(said) if letter == "?" and axes[axis] in _WORDS
    )
    return f"{who}: {words} {'is' if words.startswith('1 ') else 'are'} assumed."
