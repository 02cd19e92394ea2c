"""Every figure that a page quotes: compute it, compare it, write it.

    python docs/scripts/figures.py                 # where pages and figures disagree, and numbers without a name
    python docs/scripts/figures.py --write         # writes the figures into the pages, and the pages that are all figures
    python docs/scripts/figures.py --list          # every figure there is, quoted or not
    python docs/scripts/figures.py --stale         # measurements whose code changed; exit code 1 if CHANGELOG.md leaves one out
    python docs/scripts/figures.py --measure NAME  # one of docs/measurements/measured.json, anew

What takes seconds is computed (fast_figures.py), all else is looked up in docs/measurements (measured_figures.py). How a page
marks a figure stands in page_marks.py. docs/results.md, docs/paper.md and docs/performance.md are written whole by their
generators in benchmarks/.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import fast_figures
import measured_figures
import page_marks

ROOT = Path(__file__).resolve().parents[2]
GROUPS = {**fast_figures.GROUPS, **measured_figures.GROUPS}
GENERATED = {"results.md": "results_page", "paper.md": "paper_page", "performance.md": "performance_page"}
# Pages of which every number is marked or given.
COVERED = ("README.md", "docs/tour.md", "docs/models.md", "docs/inspect.md", "docs/analysis.md", "docs/architecture.md")


@cache
def group(name: str) -> dict[str, str]:
    """All figures of a group."""
    return GROUPS[name]()


def value_of(name: str) -> str:
    """A figure by its whole name; KeyError if there is none."""
    first, _, rest = name.partition(".")
    if first not in GROUPS or rest not in group(first):
        raise KeyError(f"there is no figure {name}; `figures.py --list` prints those that there are.")
    return group(first)[rest]


def pages(root: Path = ROOT) -> list[Path]:
    """All pages but those that a generator writes."""
    return [root / "README.md", *(page for page in sorted((root / "docs").glob("*.md")) if page.name not in GENERATED)]


def generated(name: str, root: Path = ROOT) -> str:
    """A page as its generator in benchmarks/ writes it."""
    sys.path.insert(0, str(root / "benchmarks"))
    try:
        text: str = import_module(GENERATED[name]).page(root / "docs" / "measurements")
    finally:
        sys.path.pop(0)
    return text


def faults(root: Path = ROOT) -> Iterator[str]:
    """Where pages and figures disagree, and numbers that are neither marked nor given."""
    for page in pages(root):
        text, name = page.read_text(encoding="utf-8"), page.relative_to(root).as_posix()
        for quote in page_marks.quotes(text):
            try:
                value = value_of(quote.name)
            except KeyError as exc:
                yield f"{name}:{quote.line}: {exc.args[0]}"
                continue
            if quote.value != value:
                yield f"{name}:{quote.line}: {quote.name} is {value}, the page says {quote.value}; run figures.py --write."
        if name in COVERED:
            for line, around in page_marks.uncovered(text):
                yield (
                    f'{name}:{line}: "{around}" has a number that is neither marked nor given. If it was measured, mark it: '
                    "7<!-- name.of.the.figure -->; else add its phrase to the comment <!-- given: ... --> at the end."
                )
            for phrase in page_marks.unused(text):
                yield f'{name}: the comment <!-- given: ... --> names "{phrase}", which the page does not say; take it out.'
    for name in GENERATED:
        if (root / "docs" / name).read_text(encoding="utf-8") != generated(name, root):
            yield f"docs/{name} is not what benchmarks/{GENERATED[name]}.py writes; run figures.py --write."


def write(root: Path = ROOT) -> Iterator[str]:
    """Write all figures into the pages; gives the pages that changed."""
    for page in pages(root):
        text = page.read_text(encoding="utf-8")
        new = page_marks.rewritten(text, value_of)
        if new != text:
            page.write_text(new, encoding="utf-8")
            yield page.relative_to(root).as_posix()
    for name in GENERATED:
        page, new = root / "docs" / name, generated(name, root)
        if page.read_text(encoding="utf-8") != new:
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
    wishes = parser.parse_args()
    if wishes.stale:
        return report_stale()
    if wishes.measure:
        for name in wishes.measure:
            measured_figures.measure(name, wishes.data.resolve())
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
