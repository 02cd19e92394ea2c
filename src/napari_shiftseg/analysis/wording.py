"""What each trait of an image or of found objects means, in words that end in its value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from napari_shiftseg.analysis.traits import LEVELS

__all__ = ["TRAITS", "Trait"]


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %" if abs(value) >= 0.1 else f"{100 * value:.2g} %"


def _power(value: float) -> str:
    return _percent(10**value)


def _pixels(value: float) -> str:
    return f"{2**value:.3g} px"


def _plain(value: float) -> str:
    return f"{value:.2g}"


@dataclass(frozen=True, kw_only=True)
class Trait:
    """A number that an image or a result has.

    Attributes
    ----------
    low, high : str
        What it means when the number is below or above what is known.
    show : callable
        The number as text.
    grain : float
        Known ranges are no narrower than this: what no eye would tell apart. It decides only where few images are known.
    """

    low: str
    high: str
    show: Callable[[float], str] = _plain
    grain: float = 0.1


_DETAIL = {
    f"detail{level}": Trait(
        low=f"it lacks detail of {2 << level} px, which has {{}} of all contrast",
        high=f"it has much detail of {2 << level} px, {{}} of all contrast",
        show=_power,
        grain=0.3,
    )
    for level in range(LEVELS)
}
_SIGN = {
    f"sign{level}": Trait(
        low=f"its detail of {2 << level} px is more dark than bright (skew {{}})",
        high=f"single bright spots of {2 << level} px outshine the rest (skew {{}})",
        grain=0.5,
    )
    for level in range(LEVELS)
}
TRAITS: dict[str, Trait] = {
    # of an image
    "background": Trait(
        low="its background is dark, at {} of the range",
        high="it has no dark background: half of it is brighter than {} of the range",
        show=_percent,
    ),
    "lean": Trait(
        low="dark parts stand out more than bright ones (lean {})", high="bright parts stand out alone (lean {})", grain=0.3
    ),
    "separation": Trait(
        low="bright and dark hardly part (separation {})", high="bright and dark part as in a drawing (separation {})"
    ),
    "bright": Trait(low="only {} of it is bright", high="{} of it is bright", show=_percent),
    **_DETAIL,
    **_SIGN,
    "noise": Trait(
        low="it is free of noise ({} of all contrast)", high="its noise is {} of all contrast", show=_power,
        grain=0.3,
    ),
    "thickness": Trait(low="its bright parts are {} thin", high="its bright parts are {} thick", show=_pixels, grain=0.5),
    "rims": Trait(
        low="its bright parts enclose {} of their area", high="its bright parts are rims: they enclose {} of their area",
        show=_power, grain=0.3,
    ),
    "roundness": Trait(
        low="its bright parts are nets, threads or clumps (roundness {})", high="its bright parts are round (roundness {})"
    ),
    "extent": Trait(
        low="its bright parts extend over {} only", high="its bright parts hang together over {}", show=_pixels, grain=0.5
    ),
    "roughness": Trait(
        low="its background is clean ({} of the contrast)", high="its background is rough: {} of the contrast", show=_power,
        grain=0.3,
    ),
    "unevenness": Trait(
        low="its background is even ({} of the contrast)", high="its background is uneven: {} of the contrast", show=_power,
        grain=0.3,
    ),
    "direction": Trait(low="it has no direction ({})", high="it is striped: {} of its edges run one way", show=_percent),
    "coherence": Trait(
        low="it has no edges, but noise ({} of neighbouring edges agree)",
        high="it is made of lines: {} of neighbouring edges agree", show=_percent,
    ),
    # of what was found
    "coverage": Trait(low="objects cover {} of it", high="objects cover {} of it", show=_percent),
    "count": Trait(
        low="there are few objects, {} in 100 x 100 px", high="there are many objects, {} in 100 x 100 px",
        show=lambda value: f"{10**value:.2g}", grain=0.3,
    ),
    "small": Trait(low="a tenth of the objects is below {}", high="nearly all objects are above {}", show=_pixels, grain=0.5),
    "diameter": Trait(low="objects are small, {}", high="objects are large, {}", show=_pixels, grain=0.5),
    "large": Trait(low="nearly all objects are below {}", high="a tenth of the objects is above {}", show=_pixels, grain=0.5),
    "contrast": Trait(
        low="objects hardly differ from what is around them (contrast {})", high="objects stand out more (contrast {})"
    ),
    "brighter": Trait(
        low="only {} of the objects are brighter than what is around them", high="{} of the objects are brighter than what is "
        "around them", show=_percent,
    ),
    "fullness": Trait(low="objects are ragged (fullness {})", high="objects are full (fullness {})"),
    "length": Trait(low="objects are round (length over width {})", high="objects are long (length over width {})", grain=0.5),
    "scatter": Trait(
        low="codes agree (scatter {} bandwidths)", high="codes of an object are scattered over {} bandwidths"
    ),
    "agreement": Trait(
        low="only {} of what is bright or an object is both", high="{} of what is bright or an object is both", show=_percent
    ),
    "doubt": Trait(
        low="few pixels are undecided, {} of the foreground", high="many pixels are undecided, {} of the foreground",
        show=_percent,
    ),
}  # fmt: skip
"""By name; of bands, the number counts octaves."""
