"""Every figure that a page quotes: compute it, compare it, write it.

    python docs/scripts/figures.py                 # where pages and figures disagree, and numbers without a name
    python docs/scripts/figures.py --write         # writes figures and tables into the pages
    python docs/scripts/figures.py --list          # every figure there is, quoted or not
    python docs/scripts/figures.py --stale         # measurements whose code changed; exit code 1 if CHANGELOG.md leaves one out
    python docs/scripts/figures.py --measure NAME  # one of docs/measurements/measured.json, anew

What takes seconds is computed (fast_figures.py), all else is looked up in docs/measurements as a page says (tables.py,
which also writes tables); where those come from says measured_figures.py. How a page marks a figure stands in page_marks.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import cache, partial
from itertools import zip_longest
from pathlib import Path

import fast_figures
import measured_figures
import page_marks
import tables

ROOT = Path(__file__).resolve().parents[2]
GROUPS = fast_figures.GROUPS
# Pages of which every number is marked or given.
COVERED = (
    "README.md",
    *(
        f"docs/{name}.md"
        for name in ("tour", "models", "inspect", "analysis", "architecture", "performance", "results", "accuracy")
    ),
)


@cache
def group(name: str) -> dict[str, str]:
    """All figures of a group."""
    return GROUPS[name]()


def value_of(name: str, text: str = "", root: Path = ROOT) -> str:
    """A figure of a page by its whole name, or by what it is made of; KeyError if there is none."""
    if name.startswith("= "):
        return tables.evaluated(name[2:], text, root / "docs" / "measurements")
    first, _, rest = name.partition(".")
    if first not in GROUPS or rest not in group(first):
        raise KeyError(f"there is no figure {name}; `figures.py --list` prints those that there are.")
    return group(first)[rest]


def pages(root: Path = ROOT) -> list[Path]:
    """All pages."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def faults(root: Path = ROOT) -> Iterator[str]:
    """Where pages and figures disagree, and numbers that are neither marked nor given."""
    for page in pages(root):
        text, name = page.read_text(encoding="utf-8"), page.relative_to(root).as_posix()
        made = tables.written(text, root / "docs" / "measurements")
        for number, (said, wanted) in enumerate(zip_longest(text.split("\n"), made.split("\n")), 1):
            if said != wanted:
                yield f"{name}:{number}: the measurements give {wanted!r}, the page says {said!r}; run figures.py --write."
                break
        for quote in page_marks.quotes(text):
            try:
                value = value_of(quote.name, text, root)
            except KeyError as exc:
                yield f"{name}:{quote.line}: {exc.args[0]}"
                continue
            if quote.value != value:
                yield f"{name}:{quote.line}: {quote.name} is {value}, the page says {quote.value}; run figures.py --write."
        if name in COVERED:
            text = tables.handmade(text)
            for line, around in page_marks.uncovered(text):
                yield (
                    f'{name}:{line}: "{around}" has a number that is neither marked nor given. If it was measured, mark it: '
                    "7<!-- name.of.the.figure -->; else add its phrase to the comment <!-- given: ... --> at the end."
                )
            for phrase in page_marks.unused(text):
                yield f'{name}: the comment <!-- given: ... --> names "{phrase}", which the page does not say; take it out.'


def write(root: Path = ROOT) -> Iterator[str]:
    """Write all figures into the pages; gives the pages that changed."""
    for page in pages(root):
        text = page.read_text(encoding="utf-8")
        made = tables.written(text, root / "docs" / "measurements")
        new = page_marks.rewritten(made, partial(value_of, text=made, root=root))
        if new != text:
            page.write_text(new, encoding="utf-8")
            yield page.relative_to(root).as_posix()


def report_stale() -> int:
    """Print measurements whose rooms changed; 1 if the changes of the coming release do not name one."""
    known = measured_figures.explained((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    code = 0
    for one in measured_figures.stale(measured_figures.load("measured")):
        print(f"{one.name} (measured on {one.commit[:9]}): {', '.join(one.rooms)} changed in {len(one.commits)} commits")
        print(*(f"    {commit}" for commit in one.commits[:5]), sep="\n")
        if one.name not in known:
            print(f"    not explained: name `{one.name}` in CHANGELOG.md under Unreleased, or run --measure {one.name}")
            code = 1
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true")
    what.add_argument("--list", action="store_true")
    what.add_argument("--stale", action="store_true")
    what.add_argument("--measure", nargs="+", metavar="NAME")
    beside = ROOT.parent / "shared" / "data"
    parser.add_argument(
        "--data", type=Path, default=beside if beside.is_dir() else ROOT / "data", help="folder of the data sets"
    )
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="folder of the trainings of peers")
    wishes = parser.parse_args()
    if wishes.stale:
        return report_stale()
    if wishes.measure:
        for name in wishes.measure:
            measured_figures.measure(name, {"data": wishes.data.resolve(), "runs": wishes.runs.resolve()})
        return 0
    if wishes.list:
        for first in GROUPS:
            print(*(f"{first}.{name} {value}" for name, value in group(first).items()), sep="\n")
        return 0
    lines = list(write() if wishes.write else faults())
    print(*lines, sep="\n", end="\n" if lines else "")
    return 1 if lines and not wishes.write else 0


if __name__ == "__main__":
    sys.exit(main())
