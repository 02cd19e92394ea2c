"""`Overlays`: seams of tiles and the period grid of the network, as two Vectors layers over a result.

Vectors have their width in data units and cost time per line. So only lines in and around the visible window are in the
layers, and they are made anew when the view leaves it.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from napari.layers import Layer, Vectors

from napari_shiftseg.plugin.constants import LINE_OPACITY, LINE_WIDTH, LINES_AROUND
from napari_shiftseg.plugin.layers import KEY, PLACE, placed
from napari_shiftseg.plugin.line_geometry import LineSet, Viewport, grid_of, seams_of
from napari_shiftseg.plugin.signature import is_untouched, sign
from napari_shiftseg.plugin.subject import Subject

if TYPE_CHECKING:
    import napari

    from napari_shiftseg.plugin.source import Placement

Kind = Literal["seams", "grid"]

COLOURS: dict[str, str] = {"seams": "#ff8c1a", "grid": "#35c7f0"}
"""Orange and blue, which colour-blind people can tell apart as well."""

_NAMES = {"seams": "tile seams", "grid": "period grid"}
_MADE = {"seams": seams_of, "grid": grid_of}


def spatial_axes(axes: str) -> str:
    """Those of a layer's axes that lines can run along, in the order "zyx"."""
    return "".join(axis for axis in "zyx" if axis in axes)


class Overlays:
    """Lines over one result layer of a viewer.

    `changed`: called without arguments when what is drawn has changed, also by the user in the layer list.
    """

    def __init__(self, viewer: "napari.viewer.Viewer", changed: Callable[[], None] | None = None):
        self.viewer = viewer
        self.target: Layer | None = None
        self.layers: dict[str, Vectors] = {}
        self.every: dict[str, int] = {}
        self._changed = changed or (lambda: None)
        self._lines: dict[str, LineSet] = {}
        self._drawn: dict[str, tuple[Viewport, float]] = {}
        self._busy = False
        camera, dims = viewer.scene.camera, viewer.dims
        self._sources = [
            *(getattr(camera.events, name) for name in ("center", "zoom")),
            *(getattr(dims.events, name) for name in ("point", "order", "ndisplay", "ndim")),
            viewer.canvas.events.size,
        ]
        for source in self._sources:
            source.connect(self._on_view)
        viewer.layers.events.removed.connect(self._on_removed)

    def close(self) -> None:
        """Take the lines away, which nobody would draw anew when the view moves, and let go of the viewer."""
        self._changed = lambda: None
        for source in self._sources:
            source.disconnect(self._on_view)
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        self._take_away(None)

    # -- what is shown ------------------------------------------------------------------------------------------------

    def look_at(self, layer: Layer | None) -> None:
        """Draw over another result layer from now on, made by this plugin; lines of the one before go away."""
        if layer is self.target:
            return
        self._take_away(layer)
        self._changed()

    def shown(self, kind: Kind) -> bool:
        """Whether lines of a kind are on the screen."""
        return kind in self.layers and self.layers[kind].visible

    def show(self, kind: Kind, on: bool) -> None:
        """Draw lines of a kind, or take them away."""
        layer = self.layers.get(kind)
        if on and layer is None and self.target is not None:
            self._add(kind)
        elif on and layer is not None:
            layer.visible = True
            self._draw(kind)
        elif layer is not None:
            layer.visible = False
        self._changed()

    def _take_away(self, following: Layer | None) -> None:
        """Remove the lines, but for those that the user has made his own; the target is another layer from now on."""
        layers = [self._let_go(kind) for kind in tuple(self.layers)]
        self._follow(following)  # first, since others answer when a layer goes
        for layer in layers:
            if layer in self.viewer.layers and is_untouched(layer):
                self.viewer.layers.remove(layer)

    def _let_go(self, kind: Kind) -> Vectors:
        """Look after some lines no more."""
        layer = self.layers.pop(kind)
        layer.events.visible.disconnect(self._on_visible)
        self._drawn.pop(kind, None)
        return layer

    def has(self, kind: Kind) -> bool:
        """Whether the result has lines of a kind: one tile has no seams."""
        return self.target is not None and any(len(axis) for axis in self._set(kind).positions)

    def notes(self, subject: Subject) -> list[str]:
        """What has to be said about the lines of a result, in sentences."""
        notes = []
        if subject.streamed:
            notes.append("The network ran in strips along the first axis, whose rows meet without seams.")
        if not self.has("seams"):
            notes.append(f"This result has one {'column' if subject.streamed else 'tile'}, so no seams.")
        elif _own_grids(subject.plan_values):
            notes.append(
                "These tiles are no multiples of the period, so each has a grid of its own; that of the first is drawn."
            )
        for kind, name in (("seams", "seam"), ("grid", "line of the period grid")):
            every = self.every.get(kind, 1)
            if every > 1 and self.shown(kind):
                notes.append(f"At this zoom one {name} in {every} is drawn.")
        if len(self.viewer.dims.displayed) == 3 and self.shown("grid"):
            notes.append("The period grid is drawn in 2D views only.")
        return notes

    # -- layers -------------------------------------------------------------------------------------------------------

    def _set(self, kind: Kind) -> LineSet:
        if kind not in self._lines:
            known = self.target.metadata[KEY]
            axes = spatial_axes(known["axes"])
            shape = np.shape(self.target.data[0] if self.target.multiscale else self.target.data)
            sizes = dict(zip(known["axes"], shape, strict=False))
            lines = _MADE[kind](known["plan"], [sizes[axis] for axis in axes])
            self._lines[kind] = lines.arranged([axes.find(axis) for axis in self._placement().layout])
        return self._lines[kind]

    def _placement(self) -> "Placement":
        from napari_shiftseg.plugin.source import placement_of  # loads torch, which made the result

        axes = self.target.metadata[KEY]["axes"]
        return placement_of(self.target, axes, spatial_axes(axes))

    def _place(self) -> dict[str, Any]:
        return placed(self._placement())

    def _even_place(self) -> tuple[dict[str, Any], np.ndarray]:
        """The same place with one scale for all axes, and what a pixel is in it, so that lines are equally wide everywhere.

        It is the largest scale: napari takes the steps of its sliders from the smallest one.
        """
        place = self._place()
        largest = np.abs(place["scale"]).max()
        return {**place, "scale": np.full_like(place["scale"], largest)}, place["scale"] / largest

    def _add(self, kind: Kind) -> None:
        active = self.viewer.layers.selection.active
        known = self.target.metadata[KEY]
        place, _ = self._even_place()
        layer = Vectors(
            None,
            ndim=len(place["scale"]),
            vector_style="line",
            edge_color=COLOURS[kind],
            edge_width=1.0,
            opacity=LINE_OPACITY[kind],
            blending="translucent_no_depth",  # lines inside a volume stay visible
            name=f"{known['source']} {_NAMES[kind]}",
            metadata={KEY: {"role": _NAMES[kind], "source_id": known["source_id"], "source": known["source"]}},
            **place,
        )
        self.layers[kind] = layer
        self._drawn.pop(kind, None)
        self._draw(kind)
        camera = self.viewer.scene.camera
        before = (camera.center, camera.zoom)
        seams = self.layers.get("seams")
        below = self.viewer.layers.index(seams) if seams in self.viewer.layers else len(self.viewer.layers)
        self.viewer.layers.insert(below, layer)  # where both lie on one line, the seam is what counts
        camera.center, camera.zoom = before
        sign(layer)  # with the name that it got
        layer.events.visible.connect(self._on_visible)
        if active is not None:
            self.viewer.layers.selection.active = active

    def _follow(self, layer: Layer | None) -> None:
        """Connect to the layer that is drawn over, and let go of the one before."""
        if self.target is not None:
            for name in (*PLACE[:5], "metadata"):
                getattr(self.target.events, name).disconnect(self._on_moved)
        self.target = layer
        self.layers, self._lines, self._drawn, self.every = {}, {}, {}, {}
        if layer is not None:
            for name in (*PLACE[:5], "metadata"):
                getattr(layer.events, name).connect(self._on_moved)

    def _on_moved(self, event: Any = None) -> None:
        """The layer lies elsewhere, or was computed anew with another plan."""
        if self.target is None or (event is not None and event.source is not self.target):
            return  # others answered first, and chose another layer
        if event is not None and event.type == "metadata":
            self._lines.clear()
        place, _ = self._even_place()
        for kind in tuple(self.layers):
            if self._renew(kind):
                continue
            layer = self.layers[kind]
            for name, value in place.items():
                setattr(layer, name, value)
            sign(layer)
            self._drawn.pop(kind, None)
            self._draw(kind)

    def _on_removed(self, event: Any) -> None:
        gone = event.value
        for kind in [kind for kind, layer in self.layers.items() if layer is gone]:
            del self.layers[kind]
            self._changed()
        if gone is self.target:
            self._take_away(None)
            self._changed()

    def _on_visible(self, _: Any) -> None:
        for kind in tuple(self.layers):
            self._draw(kind)
        self._changed()

    # -- drawing ------------------------------------------------------------------------------------------------------

    def view(self) -> Viewport | None:
        """What the window shows of the result; None where an axis is displayed along which no line runs."""
        lines = self._set("seams")
        dims, camera = self.viewer.dims, self.viewer.scene.camera
        count, ndim = len(lines.shape), dims.ndim
        displayed = tuple(axis - (ndim - count) for axis in dims.displayed)
        if min(displayed) < 0 or ndim < count:
            return None
        to_data = _inverse(self._place(), count)
        centre = np.asarray(dims.point, float)[-count:]
        at = _apply(to_data, centre)
        steps = np.linalg.norm(np.linalg.inv(to_data[:-1, :-1])[list(displayed)], axis=0)
        pixel = tuple(steps * camera.zoom)
        if len(displayed) == 3:
            return Viewport(displayed=displayed, at=tuple(at), low=(0.0,) * count, high=lines.shape, pixel=pixel)
        centre[list(displayed)] = camera.center[-2:]
        half = np.asarray(self.viewer.canvas.size, float) / (2 * camera.zoom)
        corners = np.repeat(centre[None], 4, axis=0)
        corners[:, displayed[0]] += half[0] * np.array([-1, -1, 1, 1])
        corners[:, displayed[1]] += half[1] * np.array([-1, 1, -1, 1])
        seen = np.array([_apply(to_data, corner) for corner in corners])
        return Viewport(
            displayed=displayed, at=tuple(at), low=tuple(seen.min(axis=0)), high=tuple(seen.max(axis=0)), pixel=pixel
        )

    def _on_view(self, _: Any = None) -> None:
        if self.target is None or self._busy:
            return
        self._busy = True  # new data may make napari set the position anew
        try:
            for kind in tuple(self.layers):
                self._draw(kind)
        finally:
            self._busy = False

    def _renew(self, kind: Kind) -> bool:
        """Whether the user had made the lines his own, so that others were added."""
        layer = self.layers[kind]
        if is_untouched(layer):
            return False
        self._let_go(kind)
        if layer.visible:
            self._add(kind)
        return True

    def _draw(self, kind: Kind) -> None:
        layer = self.layers[kind]
        if not layer.visible:
            return
        view = self.view()
        if view is not None and kind in self._drawn and view.within(self._drawn[kind]):
            return
        if layer in self.viewer.layers and self._renew(kind):
            return
        if view is None:
            self._drawn.pop(kind, None)
            layer.data = np.zeros((0, 2, layer.ndim))
            sign(layer)
            return
        wide = view.around(LINES_AROUND[kind])
        self._drawn[kind] = wide
        lines = self._set(kind)
        _, unit = self._even_place()
        layer.data = lines.vectors(wide) * unit
        width = LINE_WIDTH[kind] / min(view.pixel[axis] / abs(unit[axis]) for axis in view.displayed)
        if not 0.9 < layer.edge_width / width < 1.1:  # each change makes all meshes anew
            layer.edge_width = width
        sign(layer)
        every = lines.every(view)
        if self.every.get(kind) != every:
            self.every[kind] = every
            self._changed()


def _own_grids(plan: Mapping[str, Any]) -> bool:
    """Whether the tiles of a plan do not share one period grid."""
    seams = zip(plan["seams"], plan["period"], strict=True)
    return any(position % period for axis, period in seams for position in axis)


def _inverse(place: dict[str, Any], count: int) -> np.ndarray:
    """(n + 1, n + 1) from world to data."""
    inner = np.eye(count + 1)
    inner[:-1, :-1] = place["rotate"] @ place["shear"] @ np.diag(place["scale"])
    inner[:-1, -1] = place["translate"]
    return np.linalg.inv(place["affine"] @ inner)


def _apply(matrix: np.ndarray, point: np.ndarray) -> np.ndarray:
    return matrix[:-1, :-1] @ point + matrix[:-1, -1]
