"""`likeness`: whether an image, and what was found in it, is like what a network was trained on, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_shiftseg.analysis.constants import ALARMS, LEVELS, MARGINS, PARTS, SAID, TAIL
from napari_shiftseg.analysis.traits import Floats
from napari_shiftseg.network.record import Known, Polarity, Ranges


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
    """A number that an image or a result has."""

    # low, high: what it means when the number is below or above what is known
    low: str
    high: str
    show: Callable[[float], str] = _plain  # the number as text
    # known ranges are no narrower than this: what no eye would tell apart. It decides only where few images are known.
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


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One respect in which an image is not like what is known."""

    trait: str  # name in `TRAITS`, or "dimensions", "channels", "polarity", "objects"
    text: str  # in words, with the value and what is known
    # value, low, high: measured, and the known range
    value: float = 0.0
    low: float = 0.0
    high: float = 0.0
    excess: float = 0.0  # how far outside, in widths of the range


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """Whether an image is like what a model knows."""

    model: str  # name of the model
    known: Known | None  # None where the model does not state it
    differences: tuple[Difference, ...] = ()  # the gravest first; none where the image is alike
    remedy: str = ""  # what to do about them
    suggested: tuple[str, ...] = ()  # bundled models that know such images, where this one does not
    objects: bool = False  # whether found objects were compared as well

    @property
    def level(self) -> Literal["pass", "warn"]:
        """Of the dot: "warn" where the image is unlike, or where nothing is known of the model."""
        return "pass" if self.known is not None and not self.differences else "warn"

    @property
    def verdict(self) -> Literal["like", "unlike", "unknown"]:
        """In a word."""
        if self.known is None:
            return "unknown"
        return "unlike" if self.differences else "like"

    @property
    def text(self) -> str:
        """In a line.

        >>> Likeness(model="m", known=Known(ndim=2, channels=1, kind="disks", demonstration=True)).text
        'Like what m knows (a demonstration): disks.'
        """
        if self.known is None:
            return f"{self.model} does not state what it was trained on, so whether it knows such images cannot be said."
        kind = self.known.kind or "its training images"
        shown = " (a demonstration)" if self.known.demonstration else ""
        subject = " Its objects are, too." if self.objects else ""
        if not self.differences:
            return f"Like what {self.model} knows{shown}: {kind}.{subject}"
        said = "; ".join(difference.text for difference in self.differences[:SAID])
        more = len(self.differences) - SAID
        rest = f" (and {more} more)" if more > 0 else ""
        return f"Unlike what {self.model} knows{shown}, {kind}: {said}{rest}. {self.remedy}".strip()

    def to_dict(self) -> dict[str, Any]:
        """JSON values, for a record."""
        return {
            "verdict": self.verdict,
            "text": self.text,
            "objects": self.objects,
            "remedy": self.remedy,
            "suggested": list(self.suggested),
            "differences": [asdict(difference) for difference in self.differences],
        }


def differences(traits: Mapping[str, float], ranges: Ranges, where: str = "") -> tuple[Difference, ...]:
    """Traits outside their known ranges, the farthest first; one of a name that is not known is passed over.

    >>> differences({"direction": 0.9}, {"direction": (0.0, 0.5)})[0].text
    'it is striped: 90 % of its edges run one way (known: up to 50 %)'
    """
    found = []
    for name, value in traits.items():
        if name not in ranges or name not in TRAITS:
            continue
        low, high = ranges[name]
        if low <= value <= high:
            continue
        trait = TRAITS[name]
        excess = max(low - value, value - high) / max(high - low, trait.grain)
        known = f"{trait.show(low)} or more" if value < low else f"up to {trait.show(high)}"
        text = f"{where}{(trait.low if value < low else trait.high).format(trait.show(value))} (known: {known})"
        found.append(Difference(trait=name, text=text, value=value, low=low, high=high, excess=excess))
    return tuple(sorted(found, key=lambda difference: -difference.excess))


def evidence(traits: Sequence[Mapping[str, float]], known: Sequence[Ranges]) -> float:
    """How often images of a kind have such traits: the mean of the logarithms of their densities.

    Each trait counts as normal, with its known range as four standard deviations, so that a model whose ranges are wide because
    it saw few images does not claim all. Only models that the image is like are worth comparing.

    >>> narrow, wide = {"lean": (0.0, 0.2)}, {"lean": (-1.0, 1.0)}
    >>> evidence([{"lean": 0.1}], [narrow]) > evidence([{"lean": 0.1}], [wide])
    True
    """
    found = []
    for own, ranges in zip(traits, known, strict=False):
        for name in sorted(own.keys() & ranges.keys()):
            low, high = ranges[name]
            spread = max(high - low, TRAITS[name].grain if name in TRAITS else 0.0) / 4
            found.append(-(((own[name] - (low + high) / 2) / spread) ** 2) / 2 - np.log(spread))
    return float(np.mean(found)) if found else -np.inf


def known_ranges(rows: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Ranges of the traits of training images, with a margin that their own spread decides.

    It is the smallest margin at which of training images that had no say in the ranges at most 2 % fall outside; a tenth is
    left out at a time. `rows`: traits of each image.
    """
    names = [name for name in TRAITS if sum(name in row for row in rows) * 2 > len(rows)]
    if not rows or not names:
        return {}
    table = np.array([[row.get(name, np.nan) for name in names] for row in rows])
    low, high, width = _span(table, names)
    reach = _margins(table, names) * width
    return {
        name: (round(float(start), 4), round(float(stop), 4))
        for name, start, stop in zip(names, low - reach, high + reach, strict=True)
    }


def polarity_of(contrasts: npt.ArrayLike) -> Polarity:
    """Whether objects of these contrasts are bright or dark; "" where a fifth of them is otherwise."""
    brighter = np.asarray(contrasts) > 0
    if not brighter.size:
        return ""
    bright = float(brighter.mean())
    return "bright" if bright > 0.8 else "dark" if bright < 0.2 else ""


def ground_of(traits: Mapping[str, float]) -> Polarity:
    """Which way an image is: "bright" objects on a dark background, or "dark" ones; "" where its traits do not agree."""
    middle = traits.get("background", 0.5)
    sign = traits.get("sign3", 0.0) + traits.get("sign4", 0.0)
    if middle < 0.5 and sign > 0:
        return "bright"
    return "dark" if middle > 0.5 and sign < 0 else ""


def _span(table: Floats, names: Sequence[str]) -> tuple[Floats, Floats, Floats]:
    low, high = np.nanquantile(table, (TAIL, 1 - TAIL), axis=0)
    return low, high, np.maximum(high - low, [TRAITS[name].grain for name in names])


def _margins(table: Floats, names: Sequence[str]) -> Floats:
    """How far ranges are widened, in widths: the same for all traits, more for those that lie outside by more."""
    count = len(table)
    if count < 3:
        return np.full(len(names), MARGINS[-1])
    part = np.random.default_rng(0).permutation(count) % min(PARTS, count)
    beyond = np.zeros(table.shape)
    for number in range(part.max() + 1):
        low, high, width = _span(table[part != number], names)
        left = table[part == number]
        beyond[part == number] = np.maximum((low - left) / width, (left - high) / width)
    beyond = np.nan_to_num(beyond, nan=-1.0)  # a trait that an image does not have is not unlike
    own = np.quantile(beyond, 1 - TAIL, axis=0)
    for margin in MARGINS:
        margins = np.maximum(margin, own)
        if (beyond > margins).any(axis=1).mean() <= ALARMS:
            break
    return np.minimum(margins, MARGINS[-1])
