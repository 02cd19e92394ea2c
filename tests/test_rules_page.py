"""Every row of docs/rules.md names a place in the paper, functions, tests and experiments that exist."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

from napari_shiftseg.geometry import UNetSpec, judge
from napari_shiftseg.paper import EXPERIMENTS

ROOT = Path(__file__).parents[1]
COLUMNS = ["statement", "place", "function", "test", "experiment"]
PLACE = re.compile(r"(Definition|Lemma|Corollary|Fig\.|section|appendix) [A\d]")


def rows(page):
    """Rows of the tables of statements, cell by cell."""
    found, inside = [], False
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else []
        cells = [cell.strip(" |") for cell in cells]
        if cells == COLUMNS:
            inside = True
        elif not cells:
            inside = False
        elif inside and not set(line) <= set("|-"):
            found.append(cells)
    return found


def missing(page):
    """What the rows of a page name and is not there."""
    tests = {}
    for row in rows(page):
        if len(row) != len(COLUMNS):
            yield f"a row of {len(row)} cells: {row[0]}"
            continue
        statement, place, function, test, experiment = row
        if not PLACE.match(place):
            yield f"{statement}: place {place!r}"
        named = re.findall(r"`([^`]+)`", function)
        if not named:
            yield f"{statement}: no function"
        for name in named:
            room, *parts = name.split(".")
            found = import_module(f"napari_shiftseg.{room}")
            for part in parts:
                # a field with a default of its own has no attribute of the class, or one that is None
                found = getattr(found, "__dataclass_fields__", {}).get(part) or getattr(found, part, None)
            if found is None:
                yield f"{statement}: function {name}"
        rules = {ruling.rule for ruling in judge(UNetSpec(), None).rulings} | {"write-multiple", "lattice", "crop", "context"}
        yield from (f"{statement}: rule {rule}" for rule in re.findall(r'"([a-z-]+)"', function) if rule not in rules)
        named = re.findall(r"`([^`]+)`", test)
        if not named:
            yield f"{statement}: no test"
        for name in named:
            file, _, wanted = name.partition("::")
            if file not in tests:
                path = ROOT / "tests" / file
                tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
                tests[file] = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            if wanted not in tests[file]:
                yield f"{statement}: test {name}"
        if experiment != "-":
            named = re.findall(r"`([^`]+)`", experiment)
            yield from (f"{statement}: experiment {name}" for name in named if name not in EXPERIMENTS)
            if not named:
                yield f"{statement}: experiment {experiment!r}"


@pytest.fixture(scope="module")
def page():
    return (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")


def test_every_row_names_things_that_exist(page):
    assert len(rows(page)) >= 30
    assert list(missing(page)) == []


def test_every_experiment_stands_beside_the_statement_that_it_tests(page):
    said = {name for row in rows(page) for name in re.findall(r"`([^`]+)`", row[4])}
    assert said == set(EXPERIMENTS)


PLACES = ("Definition 1", "Definition 2", "Lemma 1, part I;", "part II", "Corollary 2", "Corollary 3", "Corollary 4")
PLACES += ("Fig. 1", "Fig. 2", "Fig. 3", "Fig. 4", "Fig. 5", "Fig. 6", "Fig. 7", "A.1", "A.2", "section 2.1", "section 3.2")


@pytest.mark.parametrize("place", PLACES)
def test_every_definition_proof_figure_and_appendix_has_a_row(page, place):
    assert any(place in row[1] for row in rows(page))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("`analysis.probe_period`", "`analysis.probe_periods`"),
        ("`network.TrainSettings.keep`", "`network.TrainSettings.kept`"),
        ("::test_a_ramp_shows", "::test_a_ramp_hides"),
        ("test_across_tiles.py", "test_across_tile.py"),
        ("`fig3c-3d`", "`fig3c-4d`"),
        ('"write-multiple"', '"write-multiples"'),
        ("| Corollary 3 |", "| somewhere |"),
        ("| `fig2b` |", "| none yet |"),
    ],
)
def test_what_is_not_there_is_found(page, old, new):
    assert old in page and list(missing(page.replace(old, new)))
