"""What could run code that a file brings is called nowhere."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for folder in ("src", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.py"))
MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib", "jsonpickle"}
CALLS = {"eval", "exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "pandas.read_pickle", "os.system", "__import__"}


def name_of(node: ast.expr) -> str:
    """Dotted name of what is called."""
    return f"{name_of(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def unsafe(source: str) -> list[str]:
    """What a source does that could run code of a file, with its lines."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "").split(".")[0]]
        found += [f"{node.lineno}: import {name}" for name in names if name in MODULES]
        if not isinstance(node, ast.Call):
            continue
        name = name_of(node.func)
        given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
        if name in CALLS:
            found.append(f"{node.lineno}: {name}")
        if name == "torch.load" and given.get("weights_only") is not True:
            found.append(f"{node.lineno}: {name} without weights_only=True")
        if name.rpartition(".")[2] in ("load", "save") and given.get("allow_pickle") not in (None, False):
            found.append(f"{node.lineno}: {name} with allow_pickle")
        if given.get("shell") not in (None, False):
            found.append(f"{node.lineno}: {name} in a shell")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_runs_what_a_file_brings(path):
    found = unsafe(path.read_text(encoding="utf-8"))
    if "src" not in path.relative_to(ROOT).parts:  # scripts of measurements run lines that they hold themselves
        found = [one for one in found if not one.endswith((": eval", ": exec"))]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import torch; torch.load('x')",
        "import torch; torch.load('x', weights_only=False)",
        "import pickle",
        "from pickle import loads",
        "import cloudpickle as c",
        "eval('1')",
        "exec('1')",
        "import yaml; yaml.load('x')",
        "import numpy as np; np.load('x', allow_pickle=True)",
        "import subprocess; subprocess.run('x', shell=True)",
    ],
)
def test_the_rule_sees_what_it_forbids(source):
    assert len(unsafe(source)) == 1


def test_the_rule_lets_the_safe_ones_pass():
    assert unsafe("import torch; torch.load('x', weights_only=True); net.eval(); yaml.safe_load('x'); np.load('x')") == []
