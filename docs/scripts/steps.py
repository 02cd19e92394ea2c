"""The numbered steps of the pages: what they say is what a script does in napari, by mouse and keys, and it is tried.

    python docs/scripts/steps.py --list            # every task, and its page
    python docs/scripts/steps.py                   # where pages and scripts disagree
    python docs/scripts/steps.py --write           # writes the steps into the pages
    xvfb-run -a -s "-screen 0 1600x1000x24" python docs/scripts/steps.py --run segment --out pictures

The picture of docs/synthetic.md is the third of `--run synthetic`; the other pages have scripts for theirs.

Each module of docs/scripts/tasks is a task, with its sentences, what is done for each, what is seen then, and the commands that
do the same. The page holds the sentences and the commands between two comments:

    <!-- steps: segment -->
    <!-- /steps -->

A name in **bold** is one of a control, and one in *italics > with an arrow* a menu: a task whose hand does not use what its
sentence names, or looks at nothing after it, fails when it is run.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import re
import shlex
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 138
_BLOCK = re.compile(r"<!-- steps: (?P<name>[\w-]+) -->\n.*?<!-- /steps -->", re.DOTALL)
_BOLD, _MENU = re.compile(r"\*\*(.+?)\*\*"), re.compile(r"(?<!\*)\*([^*]+ > [^*]+)\*(?!\*)")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One sentence, what it stands for, and what is seen after it."""

    text: str
    sees: str
    act: Callable[[Any, Path], None]


@dataclass(frozen=True, kw_only=True)
class Command:
    """Lines of a shell, and what has to hold after them."""

    lines: str
    check: Callable[[Path, str], None]
    code: int = 0


@dataclass(kw_only=True)
class Task:
    """The steps of a page.

    Attributes
    ----------
    prepare : callable
        Makes the files that the steps name, in a folder.
    begin : callable
        Brings a window to where the steps begin; the page does not show it.
    """

    name: str
    prepare: Callable[[Path], None]
    begin: Callable[[Any, Path], None] = lambda hand, folder: None
    intro: str = "The same as a command:"
    steps: list[Step] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)

    def step(self, text: str, sees: str) -> Callable:
        """Add a step; the function gets a hand and the folder, and looks for what is seen."""
        return lambda act: self.steps.append(Step(text=text, sees=sees, act=act)) or act

    def command(self, lines: str, code: int = 0) -> Callable:
        """Add commands; the function gets the folder and what they printed."""
        return lambda check: self.commands.append(Command(lines=lines, check=check, code=code)) or check

    def markdown(self) -> str:
        """What the page shows."""
        lines = [
            textwrap.fill(
                f"{number}. {step.text} {step.sees}".strip(),
                WIDTH,
                subsequent_indent="   ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            for number, step in enumerate(self.steps, 1)
        ]
        if self.commands:
            lines += ["", self.intro, "", "```sh", *(command.lines for command in self.commands), "```"]
        return "\n".join(lines)


def names() -> list[str]:
    """All tasks."""
    return sorted(path.stem for path in (Path(__file__).parent / "tasks").glob("*.py") if not path.stem.startswith("_"))


def load(name: str) -> Task:
    """A task by its name."""
    if str(Path(__file__).parent) not in sys.path:
        sys.path.insert(0, str(Path(__file__).parent))
    return importlib.import_module(f"tasks.{name}").task


def written(text: str) -> str:
    """A page with the steps of its tasks."""

    def block(match: re.Match[str]) -> str:
        return f"<!-- steps: {match['name']} -->\n\n{load(match['name']).markdown()}\n\n<!-- /steps -->"

    return _BLOCK.sub(block, text)


def pages(root: Path = ROOT) -> list[Path]:
    """All pages that could hold steps."""
    return sorted((root / "docs").glob("*.md"))


def faults(root: Path = ROOT) -> list[str]:
    """Pages that say something else than their scripts do, and tasks that no page shows, or several do."""
    found, shown = [], []
    for page in pages(root):
        text = page.read_text(encoding="utf-8")
        shown += [match["name"] for match in _BLOCK.finditer(text)]
        if written(text) != text:
            found.append(f"{page.name}: the steps are not those of the script; run docs/scripts/steps.py --write.")
    for name in names():
        if shown.count(name) != 1:
            found.append(f"{name}: {shown.count(name)} pages show the task; one should, between <!-- steps: {name} --> marks.")
    return found


def promised(text: str) -> set[str]:
    """Names of controls and menus that a sentence says are used."""
    return {*_BOLD.findall(text), *(_MENU.findall(text))}


# -- run ------------------------------------------------------------------------------------------------------------------


def enter() -> Any:
    """A new napari window, as wide and high as a small screen."""
    import napari

    viewer = napari.Viewer(show=True)
    viewer.window._qt_window.resize(1380, 960)
    return viewer


def run(task: Task, folder: Path, out: Path | None = None) -> None:
    """Do all steps in a new window, then the commands; AssertionError where something is not as the page says."""
    from hand import Hand
    from napari.utils.notifications import NotificationSeverity, notification_manager

    task.prepare(folder)
    hand = Hand(enter())
    # what slots of Qt raise, nobody else hears of
    sys.excepthook = lambda kind, value, trace: hand.broken.append("".join(traceback.format_exception(kind, value, trace)))
    with contextlib.chdir(folder), contextlib.ExitStack() as end:
        end.callback(setattr, sys, "excepthook", sys.__excepthook__)
        task.begin(hand, folder)
        for number, step in enumerate(task.steps, 1):
            hand.used, before = set(), hand.checks
            print(f"{task.name} {number}: {step.text}", flush=True)
            try:
                step.act(hand, folder)
            finally:
                if out is not None:
                    hand.shoot(out / f"{task.name}-{number:02d}.png")
            bad = [note for note in notification_manager.records if note.severity >= NotificationSeverity.WARNING]
            hand.broken += [f"{note.severity}: {note.message}" for note in bad]
            notification_manager.records.clear()
            assert not hand.broken, f"step {number} of {task.name} raised: {hand.broken}"
            missing = {name for name in promised(step.text) if _named(name) not in {_named(one) for one in hand.used}}
            assert not missing, f"step {number} of {task.name} names {missing} and does not use it: {hand.used}"
            assert hand.checks > before, f"step {number} of {task.name} looks at nothing"
        hand.viewer.close()
        run_commands(task, folder)


def run_commands(task: Task, folder: Path) -> None:
    """Run the commands of a page in a folder, without a shell, and check each."""
    from napari_shiftseg.cli import main

    for command in task.commands:
        printed = io.StringIO()
        for line in command.lines.replace("\\\n", " ").splitlines():
            program, *arguments = shlex.split(line, comments=True)
            assert program == "shiftseg", line
            with contextlib.redirect_stdout(printed):
                code = main(arguments)
            print(f"{task.name}: {line}\n{printed.getvalue()}", flush=True)
            assert code == command.code, f"{line} ended with exit code {code}"
        command.check(folder, printed.getvalue())


def _named(name: str) -> str:
    return name.rstrip(". \u2026")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true")
    what.add_argument("--list", action="store_true")
    what.add_argument("--run", nargs="+", metavar="TASK")
    parser.add_argument("--out", type=Path, help="folder for a picture of each step")
    wishes = parser.parse_args()
    if wishes.list:
        print(*names(), sep="\n")
        return 0
    if wishes.write:
        for page in pages():
            text = page.read_text(encoding="utf-8")
            if written(text) != text:
                page.write_text(written(text), encoding="utf-8")
                print(page.relative_to(ROOT))
        return 0
    if not wishes.run:
        found = faults()
        print(*found, sep="\n", end="\n" if found else "")
        return 1 if found else 0
    if wishes.out is not None:
        wishes.out = wishes.out.resolve()
        wishes.out.mkdir(parents=True, exist_ok=True)
    for name in wishes.run:
        with tempfile.TemporaryDirectory() as folder:
            os.environ.update(HOME=folder, XDG_CONFIG_HOME=f"{folder}/.config", XDG_CACHE_HOME=f"{folder}/.cache")
            (Path(folder) / "work").mkdir()
            run(load(name), Path(folder) / "work", wishes.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
