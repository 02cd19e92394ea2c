"""`likeness`: whether an image, and what was found in it, is like what a network was trained on, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_shiftseg.analysis.wording import TRAITS
from napari_shiftseg.network.known import Known, Polarity, Ranges

__all__ = ["Difference", "Likeness", "differences", "ground_of", "known_ranges", "polarity_of"]

# Tails of the training data that a known range leaves out.
_TAIL = 0.005
# Parts of the training data of which each is judged by the others, and the share of them that may be found unlike then.
_PARTS, _ALARMS = 10, 0.02
# Margins that are tried, in widths of the range between the tails.
_MARGINS = tuple(step / 20 for step in range(4, 21))
# Sentences of a line; the record holds all.
_SAID = 2


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One respect in which an image is not like what is known.

    Attributes
    ----------
    trait : str
        Name in `wording.TRAITS`, or "dimensions", "channels", "polarity", "objects".
    text : str
        In words, with the value and what is known.
    value, low, high : float
        Measured, and the known range.
    excess : float
        How far outside, in widths of the range.
    """

    trait: str
    text: str
    value: float = 0.0
    low: float = 0.0
    high: float = 0.0
    excess: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """Whether an image is like what a model knows.

    Attributes
    ----------
    model : str
        Name of the model.
    known : Known or None
        None where the model does not state it.
    differences : tuple of Difference
        The gravest first; none where the image is alike.
    remedy : str
        What to do about them.
    objects : bool
        Whether found objects were compared as well.
    """

    model: str
    known: Known | None
    differences: tuple[Difference, ...] = ()
    remedy: str = ""
    objects: bool = False

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
        said = "; ".join(difference.text for difference in self.differences[:_SAID])
        more = len(self.differences) - _SAID
        rest = f" (and {more} more)" if more > 0 else ""
        return f"Unlike what {self.model} knows{shown}, {kind}: {said}{rest}. {self.remedy}".strip()

    def to_dict(self) -> dict[str, Any]:
        """JSON values, for a record."""
        return {
            "verdict": self.verdict,
            "text": self.text,
            "objects": self.objects,
            "remedy": self.remedy,
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


def known_ranges(rows: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Ranges of the traits of training images, with a margin that their own spread decides.

    It is the smallest margin at which of training images that had no say in the ranges at most 2 % fall outside; a tenth is
    left out at a time.

    Parameters
    ----------
    rows : sequence of mapping
        Traits of each image.
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


def _span(table: Any, names: Sequence[str]) -> tuple[Any, Any, Any]:
    low, high = np.nanquantile(table, (_TAIL, 1 - _TAIL), axis=0)
    return low, high, np.maximum(high - low, [TRAITS[name].grain for name in names])


def _margins(table: Any, names: Sequence[str]) -> Any:
    """How far ranges are widened, in widths: the same for all traits, more for those that lie outside by more."""
    count = len(table)
    if count < 3:
        return np.full(len(names), _MARGINS[-1])
    part = np.random.default_rng(0).permutation(count) % min(_PARTS, count)
    beyond = np.zeros(table.shape)
    for number in range(part.max() + 1):
        low, high, width = _span(table[part != number], names)
        left = table[part == number]
        beyond[part == number] = np.maximum((low - left) / width, (left - high) / width)
    beyond = np.nan_to_num(beyond, nan=-1.0)  # a trait that an image does not have is not unlike
    own = np.quantile(beyond, 1 - _TAIL, axis=0)
    for margin in _MARGINS:
        margins = np.maximum(margin, own)
        if (beyond > margins).any(axis=1).mean() <= _ALARMS:
            break
    return np.minimum(margins, _MARGINS[-1])
