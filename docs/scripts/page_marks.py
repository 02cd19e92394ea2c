"""Marks of figures in Markdown, and numbers that have none.

A quoted figure is followed by a comment with its name, which no reader of the page sees:

    of 484<!-- tour.disks --> disks 7<!-- tour.cured.split --> are split

The value is a number, a word, or a code span. Instead of a name, what the figure is made of may follow an equals sign (see
tables.py): 31<!-- = len(streaming.cases) -->. All other numbers of a page are given, not measured: settings, names of figures,
facts. They stand in one comment at its end, as phrases between bars, so that a number that is neither marked nor given is seen:

    <!-- given: Fig. 3 | 16 px | 99 % -->

Code, links and the numbers of list items need neither.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["Quote", "quotes", "rewritten", "uncovered", "unused"]

_VALUE = r"`[^`\n]+`|[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?|[A-Za-z]+"
_MARK = re.compile(rf"(?P<value>{_VALUE})<!-- (?P<name>[\w.-]+|= .+?) -->")
_LONE = re.compile(r"<!-- (?P<name>[\w-]+\.[\w.-]+|= .+?) -->")
_GIVEN = re.compile(r"<!-- given:(?P<phrases>.*?)-->", re.DOTALL)
_NUMBER = re.compile(r"(?<![A-Za-z0-9])(?![123]D\b)\d[\d.,]*")  # not float32, fig3, 2D
_FENCE = re.compile(r"^(?P<fence>```+).*?^(?P=fence)\s*?$", re.DOTALL | re.MULTILINE)
_NEITHER = (
    re.compile(r"<!--.*?-->", re.DOTALL),
    re.compile(r"`[^`\n]+`"),
    re.compile(r"\]\([^)]*\)(?:\{[^}]*\})?"),
    re.compile(r"^\s*\d+\. ", re.MULTILINE),
)


@dataclass(frozen=True, kw_only=True)
class Quote:
    """A marked figure: its name, the value that the page says, and the line."""

    name: str
    value: str
    line: int


def quotes(text: str) -> Iterator[Quote]:
    """All marked figures of a page; ValueError where a comment looks like a mark and follows no value."""
    found = [(match.start("name"), match) for match in _MARK.finditer(text)]
    starts = {start for start, _ in found}
    for lone in _LONE.finditer(text):
        if lone.start("name") not in starts:
            raise ValueError(f"line {_line(text, lone.start())}: {lone['name']} follows no number, word or code span.")
    for start, match in found:
        yield Quote(name=match["name"], value=match["value"], line=_line(text, start))


def rewritten(text: str, value_of: Callable[[str], str]) -> str:
    """The page with the value of each marked figure."""
    return _MARK.sub(lambda match: f"{value_of(match['name'])}<!-- {match['name']} -->", text)


def uncovered(text: str) -> Iterator[tuple[int, str]]:
    """Numbers that are neither marked nor given, each with its line and its surroundings."""
    rest = _blank(_MARK, text)
    for phrase in _phrases(text):
        rest = _blank(_as_words(phrase), rest, keep=_GIVEN)
    for pattern in (_FENCE, *_NEITHER):
        rest = _blank(pattern, rest)
    for match in _NUMBER.finditer(rest):
        around = text[max(0, match.start() - 30) : match.end() + 30].replace("\n", " ")
        yield _line(text, match.start()), around


def unused(text: str) -> Iterator[str]:
    """Phrases that are said to be given and do not occur."""
    bare = _blank(_GIVEN, _blank(_MARK, text))
    for phrase in _phrases(text):
        if not _as_words(phrase).search(bare):
            yield phrase


def _phrases(text: str) -> list[str]:
    phrases = [phrase for match in _GIVEN.finditer(text) for phrase in match["phrases"].split("|")]
    # the longest first, so that none is eaten by a part of it
    return sorted((" ".join(phrase.split()) for phrase in phrases if phrase.strip()), key=len, reverse=True)


def _as_words(phrase: str) -> re.Pattern[str]:
    """The phrase wherever lines break in it, and not within a longer number or word."""
    return re.compile(r"(?<![\w.,])" + r"\s+".join(map(re.escape, phrase.split())) + r"(?![\w]|[.,]\d)")


def _blank(pattern: re.Pattern[str], text: str, keep: re.Pattern[str] | None = None) -> str:
    """The text with spaces where the pattern was, so that places stay, but not within what matches `keep`."""
    kept = [] if keep is None else [match.span() for match in keep.finditer(text)]

    def spaces(match: re.Match[str]) -> str:
        inside = any(start <= match.start() < end for start, end in kept)
        return match[0] if inside else re.sub(r"\S", " ", match[0])

    return pattern.sub(spaces, text)


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1
