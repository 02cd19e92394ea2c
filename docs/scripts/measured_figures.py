"""Where figures come from that take minutes or days: measured once, kept in docs/measurements, with the commit of that time.

docs/measurements/measured.json says of each measurement its files, its command, the commit, and its rooms: the paths whose code
decides what comes out. A measurement is stale once the content of one of its rooms has changed. Commits may be rebased away, so
the content of the rooms is kept too, as git's own hashes.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Stale", "explained", "load", "measure", "stale"]

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "measurements"


def load(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """One measurement file."""
    document: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return document


@dataclass(frozen=True, kw_only=True)
class Stale:
    """A measurement and the rooms that changed since, with the commits that changed them."""

    name: str
    commit: str
    rooms: tuple[str, ...]
    commits: tuple[str, ...]


def stale(index: dict[str, Any], root: Path = ROOT) -> Iterator[Stale]:
    """Measurements of which a room is not what it was."""
    for name, entry in sorted(index.items()):
        now = contents(entry["rooms"], root)
        changed = tuple(room for room, content in entry["rooms"].items() if now[room] != content)
        if changed:
            since = git(root, "log", "--format=%h %s", f"{entry['commit']}..HEAD", "--", *changed)
            commits = ("its commit is not in this history",) if since is None else tuple(since.splitlines())
            yield Stale(name=name, commit=entry["commit"], rooms=changed, commits=commits)


def contents(rooms: Any, root: Path = ROOT, commit: str = "HEAD") -> dict[str, str]:
    """git's hash of each path at a commit, "absent" where there is none."""
    return {room: git(root, "rev-parse", "--verify", "--quiet", f"{commit}:{room}") or "absent" for room in rooms}


def git(root: Path, *words: str) -> str | None:
    """What git says, None if it fails."""
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def explained(changelog: str) -> set[str]:
    """Measurements that the changes of the coming release name, as `name`."""
    coming = re.search(r"^## Unreleased$(.*?)(?=^## |\Z)", changelog, re.DOTALL | re.MULTILINE)
    return set(re.findall(r"`([\w-]+)`", coming[1])) if coming else set()


def measure(name: str, folders: Mapping[str, Path], root: Path = ROOT) -> None:
    """Run the command of a measurement, keep what it says, and note the commit; nothing of its rooms may be uncommitted.

    `folders` says where those lie that the command names, such as `data/`.
    """
    index = load("measured", root / "docs" / "measurements")
    entry = index[name]
    rooms = list(entry["rooms"])
    if git(root, "status", "--porcelain", "--", *rooms):
        raise SystemExit(f"{name}: commit the changes of {', '.join(rooms)} first; a figure stands with a commit.")
    command = []
    for word in shlex.split(entry["command"]):
        first, slash, rest = word.partition("/")
        command.append(f"{folders[first]}/{rest}" if slash and first in folders else word)
    printed = "--json" in command
    done = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE if printed else None, text=True)
    if printed:
        (file,) = entry["files"]
        (root / file).write_text(json.dumps(json.loads(done.stdout), indent=1) + "\n", encoding="utf-8")
    for file in entry["files"]:  # where the data lay on this machine is nobody's business
        if (root / file).suffix == ".json":
            text = (root / file).read_text(encoding="utf-8")
            for named, folder in folders.items():
                text = text.replace(str(folder), named)
            (root / file).write_text(text, encoding="utf-8")
    entry["commit"], entry["rooms"] = git(root, "rev-parse", "HEAD"), contents(rooms, root)
    (root / "docs/measurements/measured.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
