"""What this plugin wrote into a layer, and whether a user has touched it since.

Metadata cannot tell: a duplicate copies them. So what was written is kept beside the layer object, as long as that lives.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
from napari.layers import Layer

KEY = "napari-shiftseg"
"""Key of this plugin in the metadata of a layer.

The value has role, source_id, source, run, axes, plan, status, record, model, digest, image_digest. The axes are those of the
layer's data, with "_" for one that only the image has (see `source.Placement`).
"""

FILE = f"{KEY}-file"
"""Key in the metadata of a layer that was read from a file: its axes, names of channels, and which image of the file it is."""

ACCEPTED = "accepted"
"""In such a value, what a layer was made from that the user has accepted; it has no role then, so that no run finds it."""

PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
"""Attributes of a layer that say where it lies."""

OLDER = " (older run)"
"""End of the name of a layer that a later run of the same image has left behind."""


@dataclass(kw_only=True, eq=False)
class Signature:
    """A layer as it was left by this plugin."""

    name: str
    metadata: dict[str, Any]
    place: dict[str, Any]
    features: Any
    data: Any  # what `layer.data` was, where it is no array in memory; it is compared by identity
    digest: str | None  # `digest_of` an array in memory
    limits: tuple[float, ...] | None  # contrast limits; others are a choice of the user, which a new result does not undo
    older: bool = False  # whether a later run has left it behind
    hidden: bool = False  # whether it was hidden for that


_SIGNED: WeakKeyDictionary[Layer, Signature] = WeakKeyDictionary()
_PAINTED: WeakSet[Layer] = WeakSet()
"""Layers that were painted in since they were signed, or since a thread began to take the hash of their pixels."""


def digest_of(data: Any) -> str | None:
    """Hash of an array in memory, with its type and shape; None for anything else, which may be too large to read.

    It takes about as long as reading the array a few times, so large ones are hashed in the thread that makes them.
    """
    if not isinstance(data, np.ndarray):
        return None
    digest = hashlib.sha256(f"{data.dtype.str} {data.shape}".encode())
    for part in (data,) if data.flags.c_contiguous or not data.ndim else data:
        digest.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8))
    return digest.hexdigest()


class Digests:
    """Hashes of the pixels of layers, taken in a thread, that hold as long as nobody writes to these."""

    def __init__(self) -> None:
        self._taken: WeakKeyDictionary[Layer, tuple[Any, str | None]] = WeakKeyDictionary()

    def take(self, layers: Iterable[Layer]) -> None:
        """Take the hashes of those of our layers that lie in memory."""
        for layer in layers:
            left, data = _SIGNED.get(layer), _finest(layer)
            if left is not None and left.digest is not None:
                _PAINTED.discard(layer)  # who paints from now on is seen
                self._taken[layer] = data, digest_of(data)

    def of(self, layer: Layer) -> str | None:
        """The hash of the pixels that a layer has now; None where it is not known."""
        data, digest = self._taken.get(layer, (None, None))
        return digest if data is _finest(layer) else None


def sign(layer: Layer, digest: str | None = None) -> Signature:
    """Remember a layer as it is now, and return that.

    `digest`: that of its data, where it is known already.
    """
    data, features = _finest(layer), getattr(layer, "features", None)
    in_memory = isinstance(data, np.ndarray)
    if layer not in _SIGNED and hasattr(layer.events, "paint"):
        layer.events.paint.connect(_on_paint)
    _PAINTED.discard(layer)
    _SIGNED[layer] = Signature(
        name=layer.name,
        metadata=dict(layer.metadata),
        place=_place_of(layer),
        features=None if features is None else features.copy(),
        data=None if in_memory else data,
        digest=digest if digest and in_memory else digest_of(data),
        limits=_limits_of(layer),
    )
    return _SIGNED[layer]


def signature_of(layer: Layer) -> Signature | None:
    """What this plugin left; None for a layer that it did not make, such as a duplicate of its own."""
    return _SIGNED.get(layer)


def is_untouched(layer: Layer, digest: str | None = None) -> bool:
    """Whether a layer is as this plugin left it: its pixels, name, place, features and metadata; how it looks may differ.

    `digest`: of its data, where somebody has just taken it, in a thread.
    """
    left = _SIGNED.get(layer)
    if left is None or layer.name != left.name or getattr(layer, "locked", False):
        return False
    same_metadata = layer.metadata.keys() == left.metadata.keys() and all(
        layer.metadata[key] is value for key, value in left.metadata.items()
    )
    return same_metadata and _same_place(layer, left) and _same_features(layer, left) and _same_pixels(layer, left, digest)


def put_features(layer: Layer, features: Any) -> None:
    """Give a layer other features; one that the user has not touched counts as untouched afterwards, too."""
    left = _SIGNED.get(layer)
    ours = left is not None and _same_features(layer, left)
    layer.features = features
    if left is not None and ours:
        left.features = layer.features.copy()


def is_moved(layer: Layer) -> bool:
    """Whether a layer of this plugin lies elsewhere than it was put."""
    return not _same_place(layer, _SIGNED[layer])


def is_older(layer: Layer) -> bool:
    """Whether a later run has left a layer behind."""
    left = _SIGNED.get(layer)
    return left is not None and left.older


def mark_older(layer: Layer, *, hide: bool) -> None:
    """Say in the name of a layer of this plugin that it is of an older run; a name that a user gave stays."""
    left = _SIGNED[layer]
    if layer.name == left.name and not left.older:
        layer.name += OLDER
        left.name = layer.name
    left.older = True
    if hide and layer.visible:
        layer.visible = False
        left.hidden = True


def _on_paint(event: Any) -> None:
    _PAINTED.add(event.source)


def _same_pixels(layer: Layer, left: Signature, digest: str | None) -> bool:
    if left.digest is None:
        return _finest(layer) is left.data and layer not in _PAINTED
    if digest is not None and layer not in _PAINTED:
        return digest == left.digest
    return digest_of(_finest(layer)) == left.digest


def _same_features(layer: Layer, left: Signature) -> bool:
    features = getattr(layer, "features", None)
    return left.features is None if features is None else features.equals(left.features)


def _same_place(layer: Layer, left: Signature) -> bool:
    return all(np.array_equal(left.place[name], value) for name, value in _place_of(layer).items())


def _place_of(layer: Layer) -> dict[str, Any]:
    place = {name: np.array(getattr(layer, name)) for name in PLACE[:4]}
    place["affine"] = np.array(layer.affine.affine_matrix)
    return place | {name: tuple(map(str, getattr(layer, name))) for name in PLACE[5:]}


def set_place(layer: Layer, options: Mapping[str, Any]) -> None:
    """Put a layer where options say, as far as it lies elsewhere: each attribute has napari draw all of it anew."""
    there = _place_of(layer)
    for name in PLACE:
        if name in options:
            value = options[name]
            if name == "shear" and np.ndim(value) == 2 and np.array_equal(value, np.triu(value, 1) + np.eye(len(value))):
                value = np.asarray(value)[np.triu_indices(len(value), 1)]  # as napari says it itself
            same = tuple(map(str, value)) == there[name] if name in PLACE[5:] else np.array_equal(there[name], value)
            if not same:
                setattr(layer, name, value)


def _limits_of(layer: Layer) -> tuple[float, ...] | None:
    limits = getattr(layer, "contrast_limits", None)
    return None if limits is None else tuple(limits)


def _finest(layer: Layer) -> Any:
    return layer.data[0] if getattr(layer, "multiscale", False) else layer.data
