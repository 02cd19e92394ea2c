"""`Violation`: a broken rule; `Ruling`: a rule that was judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Ruling", "Violation", "ruling", "times", "violation"]

_PAPER = "Rumberger et al. 2021"
_SOURCES = {
    "write-multiple": f"{_PAPER}, section 3.2 and Fig. 3b",
    "lattice": f"{_PAPER}, section 3.2",
    "crop": f"{_PAPER}, section 3.2",
    "context": f"{_PAPER}, section 2 (zero padding breaks equivariance)",
    "padding": f"{_PAPER}, section 3.2",
    "training-window": f"{_PAPER}, section 3.2 and Fig. 3a",
}


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One broken rule.

    Attributes
    ----------
    rule : str
        "write-multiple", "lattice", "crop", "context", "padding", "training-window".
    axis : int or None
        The axis that breaks it; None for the network as a whole.
    found : int or str
        The value that breaks it.
    nearest : tuple of int
        Legal values next to it, where there are some.
    message : str
        What was found, what is wanted, what to do.
    source : str
        Where the rule comes from.
    """

    rule: str
    axis: int | None
    found: int | str
    nearest: tuple[int, ...]
    message: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """One rule: what was found, what is wanted, and what to do where they differ.

    Attributes
    ----------
    verdict : {"pass", "FAIL", "not known"}
    broken : tuple of Violation
        Where it is broken.
    """

    rule: str
    verdict: Literal["pass", "FAIL", "not known"]
    found: str
    wanted: str
    fix: str
    source: str
    broken: tuple[Violation, ...] = ()


def violation(rule: str, axis: int | None, found: int | str, nearest: tuple[int, ...], message: str) -> Violation:
    """A violation with the source of its rule."""
    return Violation(rule=rule, axis=axis, found=found, nearest=nearest, message=message, source=_SOURCES[rule])


def ruling(rule: str, broken: Sequence[Violation], found: str, wanted: str) -> Ruling:
    """A rule that is kept unless something breaks it."""
    return Ruling(
        rule=rule,
        verdict="FAIL" if broken else "pass",
        found=found,
        wanted=wanted,
        # axes that break it in the same way need no second sentence
        fix=" ".join({(v.found, v.nearest): v.message for v in reversed(broken)}.values()),
        source=_SOURCES[rule],
        broken=tuple(broken),
    )


def times(values: Sequence[int]) -> str:
    """Edges in words."""
    return " x ".join(map(str, values))
