"""How large the objects of an image are beside those that a model knows, and so at which scale the network runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil, prod
from sys import float_info
from typing import Any, Literal

import numpy as np

from napari_shiftseg.errors import SettingsError
from napari_shiftseg.events import drain
from napari_shiftseg.geometry import Lattice, nearest_factor, scaled_lattice, turned_lattice
from napari_shiftseg.instances import LabelSettings
from napari_shiftseg.io import Image
from napari_shiftseg.network import Known, Model
from napari_shiftseg.segmentation.constants import ABOUT, MICROMETRES
from napari_shiftseg.segmentation.settings import SegmentSettings

How = Literal["given", "measured", "pixel size"]


@dataclass(frozen=True, kw_only=True)
class ObjectSize:
    """At which scale a network runs, and why."""

    how: How
    # per axis pixels of the network, and of the image, that are as long
    factors: tuple[tuple[int, int], ...]
    diameter: float | None = None  # of the objects, pixels of the image; None where the pixel sizes decided

    @property
    def scale(self) -> tuple[float, ...]:
        """Pixels of the network per pixel of the image, per axis."""
        return tuple(steps / per for steps, per in self.factors)

    def describe(self) -> str:
        """In words."""
        ratios = [f"{steps}/{per}" if per > 1 else f"{steps}" for steps, per in self.factors]
        scale = ratios[0] if len(set(ratios)) == 1 else " x ".join(ratios)
        objects = {"pixel size": "as the pixel sizes say", "measured": "no object was found to be measured"}.get(self.how, "")
        if self.diameter is not None:
            objects = f"objects of {self.diameter:.3g} px ({self.how})"
        same = all(steps == per for steps, per in self.factors)
        return f"{objects}; " + ("the network runs on the image as it is" if same else f"the network runs at scale {scale}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {**asdict(self), "scale": self.scale}


def check_diameter(wish: Any) -> None:
    """Refuse a size of objects that cannot be one; SettingsError."""
    if wish in ("auto", "pixel-size"):
        return
    if isinstance(wish, bool) or not isinstance(wish, int | float | np.integer | np.floating) or not 0 < wish <= float_info.max:
        raise SettingsError(f"the diameter of the objects is {wish!r}; give pixels above 0, 'auto' or 'pixel-size'.")


def size_of(image: Image, model: Model, settings: SegmentSettings) -> ObjectSize | None:
    """The scale for an image; None where nobody asked for one.

    SettingsError if the model or the image does not know what it takes.
    """
    wish = settings.diameter
    if wish is None:
        return None
    known = _known(model)
    if wish == "auto":
        from napari_shiftseg.segmentation.measuring import measure_steps

        return drain(measure_steps(image, model, settings))
    if wish == "pixel-size":
        return ObjectSize(how="pixel size", factors=_pixel_factors(image, model, known))
    return sized(float(wish), model, how="given")


def sized(diameter: float, model: Model, *, how: How) -> ObjectSize:
    """The scale, as near to 1 as may be, at which objects are about as large as those that a model knows.

    Errors as of `size_of`. `diameter`: of the objects, pixels of the image.
    """
    low, high = (share * typical_diameter(model) for share in ABOUT)
    factor = nearest_factor(min(max(diameter, low), high) / diameter)
    return ObjectSize(how=how, factors=(factor,) * model.lattice.ndim, diameter=diameter)


def typical_diameter(model: Model) -> float:
    """Diameter of the objects that a model knows best, pixels; SettingsError if it does not say so."""
    known = _known(model)
    if not known.typical:
        raise SettingsError(
            f"the model {model.name} does not say how large the objects are that it knows; leave the diameter out, or scale "
            "the image yourself."
        )
    return known.typical


def sized_lattice(model: Model, size: ObjectSize | None, *, augment: bool = False) -> Lattice:
    """The lattice of a model, at the scale that a size asks for, and with `augment` on all turns of the image."""
    lattice = turned_lattice(model.lattice) if augment else model.lattice
    return lattice if size is None else scaled_lattice(lattice, size.factors)


def scaled_clustering(clustering: LabelSettings, scale: Sequence[float]) -> LabelSettings:
    """Defaults of a clustering, which are in pixels of the network, in pixels of the image."""
    pixels = prod(scale)
    if pixels == 1:
        return clustering
    # codes are no lengths; offsets are
    length = pixels ** (1 / len(scale)) if clustering.coordinates else 1.0
    # longer offsets than the halo would be undecided; codes see as much
    halo = ceil(clustering.lattice(len(scale))[1] / length) if clustering.seeds and length < 1 else clustering.halo
    return replace(
        clustering,
        halo=halo,
        bandwidth=clustering.bandwidth / length,
        min_size=max(1, round(clustering.min_size / pixels)) if clustering.min_size else 0,
        min_density=clustering.min_density / pixels,
    )


def _known(model: Model) -> Known:
    if model.record is None or model.record.known is None:
        raise SettingsError(
            f"the model {model.name} does not say what it knows, so that a size of objects means nothing to it; leave the "
            "diameter out."
        )
    return model.record.known


def _pixel_factors(image: Image, model: Model, known: Known) -> tuple[tuple[int, int], ...]:
    axes = "zyx"[-model.lattice.ndim :]
    units = dict(zip(image.axes, zip(image.scale, image.units, strict=True), strict=True))
    steps = [units.get(axis, (1.0, None)) for axis in axes]
    lacking = [axis for axis, (_, unit) in zip(axes, steps, strict=True) if unit not in MICROMETRES]
    if not known.pixel:
        raise SettingsError(f"the model {model.name} does not know a pixel size; give the diameter of the objects in pixels.")
    if lacking:
        raise SettingsError(
            f"{image.name} does not say how large a pixel is on axis {lacking[0]}; give the diameter of the objects in pixels."
        )
    found = [step * MICROMETRES[str(unit)] for step, unit in steps]
    return tuple(nearest_factor(have / wanted) for have, wanted in zip(found, known.pixel, strict=True))
