"""The examples in the documentation of the geometry are true."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize("module", ["spec", "lattice", "cost", "plan", "part", "coverage", "rules", "stream_plan"])
def test_examples(module):
    failed, tried = doctest.testmod(import_module(f"napari_shiftseg.geometry.{module}"))
    assert tried > 0 and failed == 0
