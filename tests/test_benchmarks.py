"""Each measurement that the pages quote can be made again: its command names a script that starts with the code of today."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks"

if not FOLDER.is_dir():
    pytest.skip("the benchmarks are not part of a source distribution", allow_module_level=True)

SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))


def test_commands_name_scripts_that_are_there():
    """In pages, in the list of measurements, and in the list of scripts, which names them all."""
    index = json.loads((ROOT / "docs" / "measurements" / "measured.json").read_text(encoding="utf-8"))
    commands = {name: entry["command"] for name, entry in index.items()}
    pages = {path.name: path.read_text(encoding="utf-8") for path in [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]}
    # what a page says of a file is what the file was made by; that may have had another name
    pages = {name: re.sub(r"`[^`]*`; .*\(\[numbers\].*", "", text) for name, text in pages.items()}
    for name, text in {**commands, **pages}.items():
        assert set(re.findall(r"benchmarks/(\w+)\.py", text)) <= set(SCRIPTS), name
    listed = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert {name for name in re.findall(r"`(\w+)\.py", listed) if (FOLDER / f"{name}.py").exists()} == set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_start(script, monkeypatch):
    """All names that a script takes from the package are there; nothing is measured."""
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module(script)
    if hasattr(module, "main"):
        monkeypatch.setattr(sys, "argv", [f"{script}.py", "--help"])
        with pytest.raises(SystemExit) as end:
            module.main()
        assert end.value.code == 0
