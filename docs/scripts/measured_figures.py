"""Figures that take minutes or days: measured once, kept in docs/measurements, with the commit that they were measured on.

docs/measurements/measured.json says of each measurement its files, its command, the commit, and its rooms: the paths whose code
decides what comes out. A measurement is stale once the content of one of its rooms has changed. Commits may be rebased away, so
the content of the rooms is kept too, as git's own hashes.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["GROUPS", "INDEX", "Stale", "explained", "load", "measure", "stale"]

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "measurements"
INDEX = FOLDER / "measured.json"


def load(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """One measurement file."""
    document: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return document


# -- what pages quote -------------------------------------------------------------------------------------------------


def accuracy() -> dict[str, str]:
    """Scores of the bundled model on the two validation sets."""
    found = {}
    for name in ("dsb2018", "dapi16"):
        values = load(f"nuclei_{name}_val")
        pooled = values["pooled"]
        found |= {f"{name}.ap": f"{pooled['ap']:.3f}", f"{name}.baseline": f"{values['baseline']['ap']:.3f}"}
        found |= {f"{name}.objects": f"{pooled['tp'] + pooled['fn']:,}", f"{name}.missed": f"{pooled['fn']:,}"}
    return found


def independence() -> dict[str, str]:
    """Pixels that a tile size labels otherwise."""
    values = load("tile_independence")
    images = {row["image"] for row in values["rows"]}
    sizes = {row["tile"] for row in values["rows"]}
    counts = {"otherwise": values["pixels_decided_otherwise"], "pixels": values["pixels"]}
    return {name: f"{count:,}" for name, count in counts.items()} | {"images": word(len(images)), "sizes": word(len(sizes))}


def bfloat16() -> dict[str, str]:
    """The bundled model in bfloat16 against float32."""
    values = load("precision")
    summary = values["summary"]
    return {
        "images": str(summary["images"]),
        "lowest": f"{summary['lowest_adjusted_rand']:.4f}",
        "ap": f"{summary['largest_ap_difference']:.2g}",
        "units": f"{max(row['units'] for row in values['orders']):.2f}",
    }


def kills() -> dict[str, str]:
    """What killed runs and killed workers change."""
    run, workers = load("sigkills"), load("worker_kills")
    return {
        "kills": str(run["kills"]),
        "pixels": f"{run['pixels']:,}",
        "otherwise": f"{run['different_pixels']:,}",
        "workers": str(workers["kills"]),
        "workers.otherwise": f"{workers['different_pixels']:,}",
    }


def fig3b() -> dict[str, str]:
    """Seams of the paper's Fig. 3b in quick size, inside the disks."""
    (row,) = [row for row in load("paper_quick")["findings"] if (row["name"], row["seed"]) == ("fig3b", 0)]
    ratio, (low, high) = row["measured"]["ratio"], row["measured"]["interval"]
    return {"ratio": f"{ratio:.0f}", "low": f"{low:.0f}", "high": f"{high:.0f}"}


def plans() -> dict[str, str]:
    """Tiles of random plans against one pass."""
    values = load("random_plans")
    single, half = values["float32"], values["bfloat16"]
    return {
        "float32": str(single["plans"]),
        "largest": f"{single['largest']:.1e}",
        "bfloat16": str(half["plans"]),
        "bfloat16.equal": str(half["equal"]),
    }


def compiled() -> dict[str, str]:
    """torch.compile against the form that runs."""
    rows = [row for row in load("compiled")["rows"] if row["way"] == "torch.compile"]
    ratios = [row["ratio"] for row in rows]
    longest = max(row["warm_up"] for row in rows)
    return {"low": f"{min(ratios):.2f}", "high": f"{max(ratios):.2f}", "seconds": f"{longest:.0f}"}


def stages() -> dict[str, str]:
    """The network of the bundled model's size on 20,000 px: alone, and beside the clustering."""
    rows = [row for row in load("large_images")["rows"] if (row["edge"], row["network"]) == (20_000, [3, 32])]
    (together,), (alone,) = ([row for row in rows if row["alone"] == one] for one in (False, True))
    network = alone["stages"]["network"] / together["seconds"]
    return {"share": f"{100 * network:.0f}", "times": f"{1 / network:.2f}"}


def word(count: int) -> str:
    """A small number as people write it."""
    return ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")[count]


GROUPS = {
    "accuracy": accuracy,
    "independence": independence,
    "bfloat16": bfloat16,
    "kills": kills,
    "fig3b": fig3b,
    "plans": plans,
    "compiled": compiled,
    "stages": stages,
}
"""What looks up the figures whose names begin so."""


# -- where they come from ---------------------------------------------------------------------------------------------


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


def measure(name: str, data: Path, root: Path = ROOT) -> None:
    """Run the command of a measurement, keep what it says, and note the commit; nothing of its rooms may be uncommitted."""
    index = load("measured", root / "docs" / "measurements")
    entry = index[name]
    rooms = list(entry["rooms"])
    if git(root, "status", "--porcelain", "--", *rooms):
        raise SystemExit(f"{name}: commit the changes of {', '.join(rooms)} first; a figure stands with a commit.")
    command = [
        word.replace("data/", f"{data}/", 1) if word.startswith("data/") else word for word in shlex.split(entry["command"])
    ]
    printed = "--json" in command
    done = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE if printed else None, text=True)
    if printed:
        (file,) = entry["files"]
        (root / file).write_text(json.dumps(json.loads(done.stdout), indent=1) + "\n", encoding="utf-8")
    for file in entry["files"]:  # where the data lay on this machine is nobody's business
        if (root / file).suffix == ".json":
            text = (root / file).read_text(encoding="utf-8")
            (root / file).write_text(text.replace(str(data), "data"), encoding="utf-8")
    entry["commit"], entry["rooms"] = git(root, "rev-parse", "HEAD"), contents(rooms, root)
    (root / "docs/measurements/measured.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
