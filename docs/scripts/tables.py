"""Tables and lines of Markdown that are made of docs/measurements: what to write stands in a comment before them.

    <!-- written:
    for row in streaming.cases if row.strip
    | {row.case} | **{row.strip}** | {row.seconds:.3g} |
    -->

    | | strip, rows | s |
    |---|---|---|
    | plane | **32** | 0.892 |

Each line but those of `for` is a template in the words of an f-string, written in each round of the loop before it; `for` lines
that follow each other are one loop, and a template before all loops is written once. The names are those of the
measurement files and of the functions below. What is written ends at an empty line, so that a new block of text needs a line to
be replaced; the first two lines of a table stay.

A number in a sentence is marked with what it is: `31<!-- = len(streaming.cases) --> cases`.

What stands in these comments is evaluated as Python. They are as much a part of this repository as its scripts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

__all__ = ["evaluated", "handmade", "written"]

FOLDER = Path(__file__).resolve().parents[1] / "measurements"
# What the expectation of an experiment of the paper says already, or is no number for people.
UNSAID = ("wanted", "pixels", "capacity", "tolerance", "shifts", "edge", "reach", "counts", "exact", "curve", "period")
_BLOCK = re.compile(
    r"(?P<comment><!-- written:\n(?P<lines>[\s\S]*?)\n-->\n\n)(?P<head>\|.*\|\n\|[-|]+\|\n)?(?P<body>(?:(?!<!--|#).+(?:\n|$))*)"
)


class Record(dict[str, Any]):
    """An object of a JSON file, whose values are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no value is called {name}; there are {', '.join(self)}") from None


@cache
def names(folder: Path = FOLDER) -> dict[str, Any]:
    """What templates may say: each measurement file by its name, and the functions of this module."""
    files = {
        path.stem: json.loads(path.read_text(encoding="utf-8"), object_hook=Record) for path in sorted(folder.glob("*.json"))
    }
    functions = (one, word, verdict, spread, share, plain, told, code, picture, experiments, once)
    said = {function.__name__: function for function in functions}
    of_files = {
        "source": lambda name: source(name, files),
        "named": lambda start: [file for name, file in files.items() if name.startswith(start)],
    }
    return {**files, **said, **of_files, "UNSAID": UNSAID}


def evaluated(expression: str, text: str, folder: Path = FOLDER) -> str:
    """The value of a mark in a page; `count(words)` says how often a reader of the page sees them."""
    return str(_eval(expression, {**names(folder), "count": re.sub(r"<!--[\s\S]*?-->", "", text).count}))


def written(text: str, folder: Path = FOLDER) -> str:
    """The page with all its blocks written anew."""
    return _BLOCK.sub(lambda block: block["comment"] + (block["head"] or "") + "".join(_lines(block["lines"], folder)), text)


def handmade(text: str) -> str:
    """The page with spaces where a block is written, so that places stay."""
    return _BLOCK.sub(lambda block: block["comment"] + (block["head"] or "") + re.sub(r"\S", " ", block["body"]), text)


def _lines(declaration: str, folder: Path) -> Iterator[str]:
    """What a comment declares: loops, each with the templates of its rounds."""
    kinds = groupby(declaration.splitlines(), lambda line: line.startswith("for "))
    loop = ""
    for is_loop, lines in kinds:
        if is_loop:
            loop = " ".join(lines)
            continue
        templates = "".join(f"f'''{line}'''," for line in lines)
        yield from (f"{line}\n" for line in _eval(f"[line_ {loop} for line_ in ({templates})]", names(folder)))


def _eval(expression: str, known: dict[str, Any]) -> Any:
    try:
        return eval(expression, dict(known))
    except Exception as exc:
        raise ValueError(f"{expression}: {exc}") from exc


# -- what templates may call ------------------------------------------------------------------------------------------


def one(rows: Iterable[Record], **wanted: Any) -> Any:
    """The first of the rows that has these values, None if there is none."""
    return next((row for row in rows if all(row.get(name) == value for name, value in wanted.items())), None)


def word(members: Collection[Any]) -> str:
    """How many there are, as people write it."""
    return ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")[len(members)]


def verdict(met: bool) -> str:
    """Whether a goal was reached."""
    return "met" if met else "**missed**"


def spread(row: Record | None, otherwise: str = "-") -> str:
    """Median, and lowest to highest."""
    return f"**{row.median:.2f}** ({row.lowest:.2f} to {row.highest:.2f})" if row else otherwise


def share(count: int | None, of: int) -> str:
    """A part of runs."""
    return "not run" if count is None else f"{count} of {of} ({100 * count / of:.0f} %)"


def plain(value: Any, digits: int = 4) -> str:
    """A value for people."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "undecided"}[value]
    if isinstance(value, list):
        between = ", " if len(value) != 2 else " to " if isinstance(value[0], float) else " and "
        return between.join(plain(part, digits) for part in value)
    if isinstance(value, float) and value.is_integer() and abs(value) >= 100:
        value = int(value)
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


def told(values: dict[str, Any], *left_out: str, digits: int = 4) -> str:
    """Names and values of a record, without some of them."""
    shown = {name.replace("_", " "): plain(value, digits) for name, value in values.items() if name not in left_out}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def code(value: Any) -> str:
    """A value as a code span, for marks: a backtick within a comment would begin one."""
    return f"`{value}`"


def picture(path: str) -> str:
    """A link to a picture of docs, if there is one."""
    return f"[picture]({path})" if (FOLDER.parent / path).exists() else ""


def experiments() -> Any:
    """The experiments of `shiftseg paper`, by name."""
    from napari_shiftseg.paper import EXPERIMENTS

    return EXPERIMENTS


def once(rows: Iterable[Any]) -> list[Any]:
    """Runs of experiments, those that have nothing random in them once and not once per seed."""
    found, seen = [], set()
    for row in sorted(rows, key=lambda row: row.seed):
        if row.name in seen and not experiments()[row.name].setups[row.size].random:
            continue
        seen.add(row.name)
        found.append(row)
    return found


def source(name: str, files: dict[str, Any]) -> str:
    """Where a file comes from: command, date, machine, commit, versions."""
    document, entry = files[name], files["measured"][name]
    machine, versions = document.get("machine", ""), document.get("versions", {})
    parts = [f"`{document.get('command', entry.command)}`", document.get("date")]
    parts += [machine if isinstance(machine, str) else told(machine), f"commit {entry.commit[:9]}"]
    parts += [told({key: value for key, value in versions.items() if value is not None})]
    return f"{'; '.join(part for part in parts if part)} ([numbers](measurements/{name}.json))."
