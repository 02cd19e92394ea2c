"""The examples in the documentation of this room are true."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize("module", ["axes", "image", "model", "pyramid", "stored_result"])
def test_examples(module):
    failed, tried = doctest.testmod(import_module(f"napari_shiftseg.io.{module}"))
    assert tried > 0 and failed == 0
