"""New layers in a viewer, in the place of those of an older run; what a user has touched stays as it is."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Labels, Layer
from napari.types import LayerDataTuple

from napari_shiftseg.plugin.signature import (
    ACCEPTED,
    KEY,
    PLACE,
    Digests,
    is_older,
    is_untouched,
    mark_older,
    set_place,
    sign,
    signature_of,
)

PREVIEW = "preview instances"
"""Role of the instances of what was in view."""

LIVE = ("tile seams", "period grid", "unfinished instances")
"""Roles of layers that those who made them look after."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Replaced:
    """What has become of some new layers."""

    layers: list[Layer]  # one for each of the new ones
    kept: list[Layer]  # that stood in their place and were changed by the user, or made from ours: nothing was written to them


def put_layers(viewer: Any, tuples: list[LayerDataTuple]) -> list[Layer]:
    """The layers that `replace_layers` gives for some new ones."""
    return replace_layers(viewer, tuples).layers


def replace_layers(
    viewer: Any, tuples: list[LayerDataTuple], *, whole: bool = False, digests: Digests | None = None
) -> Replaced:
    """Show layers in a viewer.

    One of ours of the same role and source that the user has not touched is updated in place if the shape is the same. Other
    layers are added. None is removed: with some graphics drivers napari 0.9 crashes after that.

    Parameters
    ----------
    tuples : list of LayerDataTuple
        Of one run.
    whole : bool
        Whether these are the layers of a new run. All that is left of earlier runs of the source is then marked as older, and
        hidden where the user has not touched it; else that happens to layers of the same roles alone.
    digests : Digests, optional
        Of the layers that are there, taken in a thread: a large one takes a fifth of a second.
    """
    news = [options["metadata"][KEY] for _, options, _ in tuples]
    source, run, roles = news[0]["source_id"], news[0].get("run"), {known["role"] for known in news}
    theirs = [layer for layer in of_source(viewer, source) if whole or layer.metadata[KEY].get("role") in roles]
    free, kept = _set_aside(theirs, run, roles, digests=digests)
    shown = []
    with keep_view(viewer):
        for data, options, kind in tuples:
            old = next((layer for layer in free if _fits(layer, data, options["metadata"][KEY], kind=kind)), None)
            if old is None:
                shown.append(_add(viewer, Layer.create(data, options, kind)))
            else:
                free.remove(old)
                _update(old, data, options)
                shown.append(old)
    for layer in free:
        if layer.metadata[KEY].get("run") != run:
            mark_older(layer, hide=True)
    return Replaced(layers=shown, kept=kept)


def put_in_place(viewer: Any, layer: Layer, made: LayerDataTuple, *, digest: str | None = None) -> Replaced:
    """Show a later state of a layer of ours: in it, or beside it, where it lies, if the user has touched it.

    `made`: without a place. `digest`: as in `is_untouched`.
    """
    data, options, kind = made
    options = dict(options)
    with keep_view(viewer):
        if is_untouched(layer, digest):
            _update(layer, data, options)
            return Replaced(layers=[layer], kept=[])
        if signature_of(layer) is not None:
            mark_older(layer, hide=False)
        options |= {attribute: getattr(layer, attribute) for attribute in PLACE}
        return Replaced(layers=[_add(viewer, Layer.create(data, options, kind))], kept=[layer])


def of_source(viewer: Any, source_id: Any) -> list[Layer]:
    """Layers that were made from a source, also by a user from ours, but for those that somebody looks after."""
    known = {layer: layer.metadata.get(KEY) for layer in tuple(viewer.layers)}
    return [
        layer
        for layer, value in known.items()
        if isinstance(value, dict)
        and value.get("source_id") == source_id
        and value.get("role") not in LIVE
        and ACCEPTED not in value
    ]


def leave_behind(viewer: Any, source_id: Any, run: str, *, roles: Collection[str], spare: Layer) -> list[Layer]:
    """Mark what is left of earlier runs of a source, but for the layer to spare; returns those of `roles` that were touched."""
    theirs = [layer for layer in of_source(viewer, source_id) if layer is not spare and layer.metadata[KEY].get("run") != run]
    free, kept = _set_aside(theirs, run, set(roles))
    for layer in free:
        mark_older(layer, hide=True)
    return kept


def words_on_kept(layers: Collection[Layer]) -> str:
    """A sentence about layers that were kept, "" for none."""
    names = ", ".join(layer.name for layer in layers)
    why = f"since you changed or made {'it' if len(layers) == 1 else 'them'}"
    return f" Kept, not overwritten, {why}: {names}; the new result has its own layer." if names else ""


@contextmanager
def keep_view(viewer: Any) -> Iterator[None]:
    """Leave the camera where it is while layers come: napari fits the view anew when a channel axis comes with them."""
    camera = viewer.scene.camera
    view = (camera.center, camera.zoom) if len(viewer.layers) else None
    yield
    if view is not None:
        camera.center, camera.zoom = view


def _set_aside(
    layers: list[Layer], run: str | None, roles: set[str], *, digests: Digests | None = None
) -> tuple[list[Layer], list[Layer]]:
    """Layers that may be written to, those of the present first, and what is kept of `roles`, marked as of an older run."""
    free, kept = [], []
    for layer in layers:
        if is_untouched(layer, None if digests is None else digests.of(layer)):
            free.append(layer)
            continue
        known, told = layer.metadata[KEY], is_older(layer)
        if signature_of(layer) is not None and known.get("run") != run:
            mark_older(layer, hide=False)
        if known.get("role") in roles and not told:
            kept.append(layer)
    return sorted(free, key=is_older), kept


def _fits(layer: Layer, data: Any, known: dict[str, Any], *, kind: str) -> bool:
    """Whether a layer can show other data in its place."""
    theirs = layer.metadata[KEY]
    same = all(theirs.get(key) == known[key] for key in ("role", "source_id", "axes")) and type(layer).__name__.lower() == kind
    if not same or getattr(layer, "multiscale", False):
        return False
    # each look at another part of an image has another size
    return np.ndim(layer.data) == np.ndim(data) if known["role"] == PREVIEW else np.shape(layer.data) == np.shape(data)


def _add(viewer: Any, layer: Layer) -> Layer:
    left = sign(layer, layer.metadata[KEY].get("digest"))  # before others hear of it
    put_below_accepted(viewer, layer)
    left.name = layer.name  # which napari makes unique
    return layer


def put_below_accepted(viewer: Any, layer: Layer) -> None:
    """Add a layer: on top, but below what the user has accepted of the same source, whose colours stay in sight.

    What is previewed is asked for to be looked at, and comes on top of that as well.
    """
    mine, at = layer.metadata[KEY], len(viewer.layers)
    for place, other in enumerate(viewer.layers):
        known = other.metadata.get(KEY)
        accepted = known.get(ACCEPTED, {}) if isinstance(known, dict) else {}
        if accepted.get("source_id", mine) == mine["source_id"] and mine["role"] != PREVIEW:
            at = min(at, place)
    viewer.layers.insert(at, layer)


def _update(layer: Layer, data: Any, options: dict[str, Any]) -> None:
    left = signature_of(layer)
    assert left is not None
    layer.data = data
    if isinstance(layer, Labels):
        forget_strokes(layer)
    layer.metadata = options["metadata"]
    if "features" in options:
        layer.features = options["features"]
    set_place(layer, options)
    limits = options.get("contrast_limits")
    if limits is not None and tuple(layer.contrast_limits) == left.limits:
        layer.contrast_limits_range = layer.contrast_limits = limits
    if left.hidden:
        layer.visible = True
    layer.name = options["name"]
    sign(layer, options["metadata"][KEY].get("digest"))


def forget_strokes(layer: Labels) -> None:
    """Empty the history, as napari does when editing ends: to redo an undone stroke would paint it into other labels."""
    mode = layer.mode
    layer.editable = False
    layer.editable = True
    layer.mode = mode
