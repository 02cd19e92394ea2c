"""`Known`: what the images were like that a network was trained on, as a model file states it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Known", "Polarity", "Ranges"]

Ranges = Mapping[str, tuple[float, float]]
"""Lowest and highest known value per trait."""

Polarity = Literal["bright", "dark", ""]
"""Whether objects are brighter or darker than what is around them; "" where neither holds."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """A statement about training data, made from images, labels and results on them.

    Attributes
    ----------
    kind : str
        In words, such as "fluorescent nuclei".
    ndim, channels : int
    polarity : {"bright", "dark", ""}
        Of the objects against what is around them.
    diameters : (float, float)
        Of 98 % of the objects, pixels: of circles (balls) of the same size.
    images, objects : int
        How many there were.
    demonstration : bool
        The model shows something and is not meant for images of users.
    traits : tuple of ranges
        Of the images as the network sees them, per channel (`analysis.image_traits`).
    found : ranges
        Of what the network found in them (`analysis.found_traits`).
    """

    kind: str = ""
    ndim: int
    channels: int
    polarity: Polarity = ""
    diameters: tuple[float, float] = (0.0, 0.0)
    images: int = 0
    objects: int = 0
    demonstration: bool = False
    traits: tuple[Ranges, ...] = ()
    found: Ranges = field(default_factory=dict)

    def describe(self) -> str:
        """The statement in a line."""
        what = self.kind or "objects"
        size = "" if self.diameters[1] == 0 else f" of {self.diameters[0]:.3g} to {self.diameters[1]:.3g} px"
        ground = {"bright": ", bright on dark", "dark": ", dark on bright", "": ""}[self.polarity]
        channels = f"{self.channels} channel" + "s" * (self.channels > 1)
        data = f"; from {self.images} images with {self.objects} objects" if self.images else ""
        return f"{what}{size}{ground}, {self.ndim}D, {channels}{data}"
