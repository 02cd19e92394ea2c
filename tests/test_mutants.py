"""The mutants of benchmarks/mutants.py are changes of the code as it is, one or more for each sentence of docs/rules.md."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

if not (ROOT / "benchmarks").is_dir():
    pytest.skip("the benchmarks are not part of a source distribution", allow_module_level=True)


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("mutants")


def test_each_changes_one_line_of_its_function_and_is_a_program_still(script):
    for mutant in script.MUTANTS:
        path, text = script.mutated(mutant, ROOT / "src" / script.PACKAGE)
        ast.parse(text)
        before, after = path.read_text(encoding="utf-8").splitlines(), text.splitlines()
        assert len(before) == len(after) and sum(a != b for a, b in zip(before, after, strict=True)) == 1, mutant


def test_each_names_one_sentence_and_each_sentence_has_one_or_more(script):
    named = [[row for row in script.rows() if row.startswith(mutant.sentence)] for mutant in script.MUTANTS]
    assert all(len(sentences) == 1 for sentences in named)
    assert {sentences[0] for sentences in named} == set(script.rows())
    assert len(script.MUTANTS) >= 30


@pytest.mark.parametrize(
    "change",
    [{"old": "nowhere to be found"}, {"old": "return"}, {"where": "geometry/spec.py::UNetSpec.periods"}, {"new": "a\nb"}],
    ids=["absent", "twice", "no function", "two lines"],
)
def test_what_is_no_change_of_one_line_is_refused(script, change):
    good = {"sentence": "", "where": "geometry/coverage.py::_periodic", "old": "window - 1", "new": "window", **change}
    if change.get("old") == "return":
        good["where"] = "geometry/coverage.py::least_window"
        good["old"] = "edge"
    with pytest.raises(ValueError, match=r"line|there is no"):
        script.mutated(script.Mutant(**good), ROOT / "src" / script.PACKAGE)
