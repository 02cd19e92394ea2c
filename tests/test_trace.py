"""One run plans, chooses and judges once, and a reader of what happens has few files to open."""

import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
# Of some 190; it was 86 when each step assembled its own decisions.
MOST_FILES = 47


@pytest.fixture(scope="module")
def trace():
    if not BENCHMARKS.is_dir():
        pytest.skip("the benchmarks are not part of an installed package")
    before = sys.getprofile()
    try:
        return runpy.run_path(str(BENCHMARKS / "trace_run.py"))["traced"](700)
    finally:
        sys.setprofile(before)


@pytest.mark.parametrize("name", ["decide", "plan_tiles", "choose_method", "choose_device"])
def test_a_command_decides_once(trace, name):
    assert trace.calls(name) == 1, trace.callers[name]


def test_rules_are_judged_once_and_not_again_by_those_who_show_them(trace):
    assert trace.calls("judge") == 1 and trace.calls("violations") == 0


def test_a_run_enters_few_files(trace):
    assert len(trace.files) <= MOST_FILES, sorted(trace.files)
