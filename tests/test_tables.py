"""Tables of pages are what the measurement files hold: written by what stands before them, compared, and mended."""

import importlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "docs" / "scripts"

if not SCRIPTS.is_dir():
    pytest.skip("the documentation is not part of a source distribution", allow_module_level=True)

FIELDS = {
    "date": "2000-01-01",
    "machine": {"device": "an abacus", "load": [0.5, 1.25]},
    "versions": {"torch": "9", "gone": None},
    "rows": [{"name": "plane", "seconds": 1.5, "of": [1, 2]}, {"name": "volume", "seconds": 12.345, "of": [3]}],
}
INDEX = {"speed": {"command": "python benchmarks/speed.py", "commit": "0123456789abcdef", "files": [], "rooms": {}}}
TABLE = """\
# Speeds

<!-- written:
| all | {len(speed.rows)} |
for row in speed.rows if row.seconds > 1
for part in row.of
| {row.name} {part} | {row.seconds:.3g} |
| | {verdict(row.seconds < 10)} |
-->

| image | s |
|---|---|
| all | 2 |
| plane 1 | 1.5 |
| | met |
| plane 2 | 1.5 |
| | met |
| volume 3 | 12.3 |
| | **missed** |

Met twice: 2<!-- = count("| met |") --> of 3<!-- = count("| met |") + count("| **missed** |") -->.

<!-- written:
{source("speed")}
-->

`python benchmarks/speed.py`; 2000-01-01; device an abacus, load 0.5 to 1.25; commit 012345678; torch 9 \
([numbers](measurements/speed.json)).
"""


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("tables")


@pytest.fixture
def book(tables, tmp_path):
    """`book(text, **changed)`: figures.py, and a folder whose README has this text, with one measurement file."""
    (tmp_path / "docs" / "measurements").mkdir(parents=True)
    tables.names.cache_clear()

    def of(text, **changed):
        for name, content in {"speed": {**FIELDS, **changed}, "measured": INDEX}.items():
            (tmp_path / "docs" / "measurements" / f"{name}.json").write_text(json.dumps(content))
        (tmp_path / "README.md").write_text(text, encoding="utf-8")
        return importlib.import_module("figures"), tmp_path

    return of


def test_a_page_that_says_what_was_measured_has_no_fault(book):
    figures, root = book(TABLE)
    assert list(figures.faults(root)) == [] and list(figures.write(root)) == []


@pytest.mark.parametrize(
    ("true", "said"),
    [
        ("| plane 2 | 1.5 |", "| plane 2 | 1.4 |"),  # a number
        ("| all | 2 |\n", ""),  # a row that is left out
        ("| | **missed** |", "| | **missed** |\n| more | 3 |"),  # one that nobody measured
        ("| | **missed** |", "| | met |"),  # a verdict
        ("an abacus", "two abacuses"),  # a source
        ("twice: 2<!--", "twice: 3<!--"),  # a number in a sentence
    ],
)
def test_what_a_page_says_otherwise_is_a_fault_and_is_mended(book, true, said):
    assert TABLE.count(true) >= 1
    figures, root = book(TABLE.replace(true, said))
    (fault, *_) = figures.faults(root)
    assert re.match(r"README\.md:\d+: ", fault) and "figures.py --write" in fault
    assert list(figures.write(root)) == ["README.md"]
    assert (root / "README.md").read_text(encoding="utf-8") == TABLE


def test_pages_follow_the_measurement(book):
    figures, root = book(TABLE, rows=[{"name": "plane", "seconds": 30.0, "of": [1]}])
    assert list(figures.write(root)) == ["README.md"]
    text = (root / "README.md").read_text(encoding="utf-8")
    assert "| image | s |\n|---|---|\n| all | 1 |\n| plane 1 | 30 |\n| | **missed** |\n\nMet twice: 0<!--" in text


def test_blocks_that_follow_each_other_leave_each_other_and_headings_alone(book, tables):
    text = "<!-- written:\n{len(speed.rows)}\n-->\n\n<!-- written:\nfor row in []\nnone\n-->\n\n## After\n\nA line.\n"
    _, root = book(text)
    assert tables.written(text, root / "docs" / "measurements") == text.replace("-->\n\n<!--", "-->\n\n2\n<!--", 1)


@pytest.mark.parametrize("template", ["{row.second}", "{rows}", "{speed.rows[7]}", "{1 / 0}", "{"])
def test_a_template_that_cannot_be_written_says_which(book, template):
    figures, root = book(f"<!-- written:\nfor row in speed.rows\n{template}\n-->\n\nx\n")
    with pytest.raises(ValueError, match=re.escape(template)):
        list(figures.faults(root))


@pytest.mark.parametrize("page", ["performance", "results", "paper", "likeness"])
def test_every_number_of_the_tables_comes_from_the_measurements(tables, page):
    """The numbers of all blocks of a page may be lost: they are written again."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    bare = tables.handmade(text)
    lost = re.sub(r"(?m)^ +$", "x", bare)
    assert text.count("<!-- written:") >= 1 and tables.written(lost) == text
    tabular = [line for line in bare.split("\n") if line.startswith("|") and re.search(r"\d", line)]
    assert not [line for line in tabular if re.search(r"\| [\d.]+ \|", line) and "{" not in line], "no row is typed by hand"
