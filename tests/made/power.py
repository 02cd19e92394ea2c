"""A power cut: what a folder can look like after it, from a record of all that was written, renamed and synced."""

import os
import random
import threading
from dataclasses import dataclass, field
from pathlib import Path

ROOT = 0
CALLS = ("fsync", "rename", "replace", "link", "unlink", "remove", "mkdir", "rmdir")


@dataclass
class Record:
    """Steps of a process in a folder, in their order, seen between its calls of the system.

    A step is ("write", file, bytes), ("names", folders, ((folder, name, what or None), ...)) or ("sync", what); files and
    folders have numbers.
    """

    root: Path
    steps: list = field(default_factory=list)
    folders: set = field(default_factory=lambda: {ROOT})
    _numbers: dict = field(default_factory=dict)  # by what the system calls it
    _names: dict = field(default_factory=dict)  # (folder, name): what
    _seen: dict = field(default_factory=dict)  # size, time and content of a file
    _count: int = ROOT

    def watch(self, monkeypatch):
        """Record from now on."""
        turn = threading.RLock()
        self._numbers[self._key(os.stat(self.root))] = ROOT
        for name in CALLS:
            monkeypatch.setattr(os, name, self._watched(name, getattr(os, name), turn))

    def _watched(self, name, call, turn):
        def watched(*args, **kwargs):
            with turn:
                self._look()
                if name == "fsync":
                    result = call(*args, **kwargs)
                    number = self._numbers.get(self._key(os.fstat(args[0])))
                    if number is not None:
                        self.steps.append(("sync", number))
                    return result
                try:
                    return call(*args, **kwargs)
                finally:
                    self._look()

        return watched

    @staticmethod
    def _key(stat):
        return stat.st_dev, stat.st_ino

    def _look(self):
        """Write down what is new since the last look; the names that a call changes change at once."""
        found, there, contents = {}, {}, []
        waiting = [(self.root, ROOT)]
        while waiting:
            folder, number = waiting.pop()
            try:
                entries = list(os.scandir(folder))
            except FileNotFoundError:
                continue
            for entry in entries:
                try:
                    stat = entry.stat(follow_symlinks=False)
                    key = self._key(stat)
                    what = self._numbers.get(key)
                    if what is None:
                        self._count += 1
                        what = self._count
                    if entry.is_dir(follow_symlinks=False):
                        self.folders.add(what)
                        waiting.append((Path(entry.path), what))
                    elif self._seen.get(what, ((), b""))[0] != (stat.st_size, stat.st_mtime_ns):
                        contents.append((what, (stat.st_size, stat.st_mtime_ns), Path(entry.path).read_bytes()))
                except FileNotFoundError:
                    continue
                self._numbers[key] = there[key] = what
                found[number, entry.name] = what
        changed = [(*place, what) for place, what in found.items() if self._names.get(place) != what]
        changed += [(*place, None) for place in self._names if place not in found]
        for what, seen, content in contents:
            self._seen[what] = (seen, content)
            self.steps.append(("write", what, content))
        if changed:
            self.steps.append(("names", {folder for folder, _, _ in changed}, tuple(changed)))
        self._names = found
        self._numbers = {**there, self._key(os.stat(self.root)): ROOT}

    def after(self, count, target, chance):
        """Make a folder as a power cut after `count` steps can leave it: of what was not synced, any part is lost."""
        steps = self.steps[:count]
        last = {what: at for at, (kind, what, *_) in enumerate(steps) if kind == "sync"}
        likely = chance.choice([0.0, 0.5, 0.9, 1.0])
        contents, names = {}, {}
        for at, (kind, what, *more) in enumerate(steps):
            if kind == "write":
                kept = last.get(what, -1) > at
                if kept or chance.random() < likely:
                    contents[what] = more[0] if kept else torn(more[0], chance)
            elif kind == "names" and (all(last.get(f, -1) > at for f in what) or chance.random() < likely):
                for folder, name, number in more[0]:
                    names.pop((folder, name), None)
                    if number is not None:
                        names[folder, name] = number
        target.mkdir()
        self._fill(target, ROOT, names, contents)

    def _fill(self, place, folder, names, contents):
        for (where, name), what in names.items():
            if where == folder and what in self.folders:
                (place / name).mkdir()
                self._fill(place / name, what, names, contents)
            elif where == folder:
                (place / name).write_bytes(contents.get(what, b""))


def torn(content, chance):
    """What may be there of a file that was not synced."""
    half = len(content) // 2
    return chance.choice([content, b"", content[:half], content[:half] + bytes(len(content) - half), bytes(len(content))])


def cuts(count, amount, seed):
    """Moments for power cuts, spread over all steps, each with its own chance."""
    chance = random.Random(seed)
    return [(round((k + chance.random()) * count / amount), random.Random(seed + k)) for k in range(amount)]
