"""The steps of a page are those of a script that is run: what the page says, and what the script promises to use."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "docs" / "scripts"

if not SCRIPTS.is_dir():
    pytest.skip("the documentation is not part of a source distribution", allow_module_level=True)

TASKS = sorted(path.stem for path in (SCRIPTS / "tasks").glob("*.py") if not path.stem.startswith("_"))


@pytest.fixture
def steps(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("steps")


def test_pages_hold_the_steps_of_their_scripts(steps):
    """`python docs/scripts/steps.py --write` mends what this test finds."""
    assert steps.faults() == []


def test_each_page_of_a_task_has_a_picture_and_the_command(steps):
    """But for the page by symptoms, of which each points to the page of a task."""
    for name in TASKS:
        pages = [page for page in steps.pages() if f"<!-- steps: {name} -->" in page.read_text(encoding="utf-8")]
        text = pages[0].read_text(encoding="utf-8")
        pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
        assert "shiftseg " in text and all((ROOT / "docs" / picture).is_file() for picture in pictures), name
        assert pictures or pages[0].name == "symptoms.md", f"{pages[0].name} shows nothing"


def test_a_page_that_says_something_else_a_lost_page_and_one_too_many_are_found(steps, tmp_path):
    (tmp_path / "docs").mkdir()
    for page in steps.pages():
        (tmp_path / "docs" / page.name).write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    assert steps.faults(tmp_path) == []
    for name, change in {
        "a word": lambda text: text.replace("**Run**", "**Go**", 1),
        "a step too few": lambda text: "".join(line for line in text.splitlines(True) if not line.startswith("2. ")),
        "no steps": lambda text: text.replace("steps: segment", "given: segment"),
    }.items():
        page = tmp_path / "docs" / "segment.md"
        text = page.read_text(encoding="utf-8")
        page.write_text(change(text), encoding="utf-8")
        assert len(steps.faults(tmp_path)) == 1, name
        page.write_text(text, encoding="utf-8")
    twice = tmp_path / "docs" / "again.md"
    twice.write_text("<!-- steps: tune -->\n<!-- /steps -->\n", encoding="utf-8")
    assert any("2 pages show the task" in fault for fault in steps.faults(tmp_path))


@pytest.mark.parametrize("name", TASKS)
def test_tasks_say_what_is_done_and_what_is_seen_and_give_commands(steps, name):
    task = steps.load(name)
    assert task.name == name and task.steps and task.commands
    for step in task.steps:
        assert step.text.endswith(".") and step.sees.endswith("."), step.text
    assert all(line.startswith("shiftseg ") for one in task.commands for line in one.lines.replace("\\\n", "").splitlines())


def test_names_that_a_sentence_promises(steps):
    text = "*File > Open*, then **Run** and *Cancel*, or the key `J`; *Plugins* has **Save CSV\u2026**, too."
    assert steps.promised(text) == {"Run", "Save CSV\u2026", "File > Open"}


@pytest.mark.parametrize("name", TASKS)
def test_hands_use_no_verb_of_a_widget(name):
    """What a task does, it does by mouse and keys: it takes no widget of ours and presses nothing by a method."""
    tree = ast.parse((SCRIPTS / "tasks" / f"{name}.py").read_text(encoding="utf-8"))
    loaded = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [module for module in loaded if module.startswith("napari_shiftseg.plugin")]
    called = {node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)}
    assert not called & {
        "setValue",
        "setText",
        "setChecked",
        "setCurrentText",
        "setCurrentIndex",
        "click_button",
        "animateClick",
    }
