"""What the machine gives this process: main memory and processor cores, within the limits of a container or a batch system."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from math import ceil
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

_ROOT = Path("/")  # of the system's own files
# Files of a control group that hold limits, by version; a limit that is none is a word, or a number beyond any memory.
_LIMITS = {1: ("memory.limit_in_bytes",), 2: ("memory.max", "memory.high")}
_USED = {1: "memory.usage_in_bytes", 2: "memory.current"}
_CACHED = {1: "total_inactive_file", 2: "inactive_file"}


class _Group(NamedTuple):
    """A control group of Linux: its folder, and the version of the interface that is spoken there."""

    folder: Path
    version: int


def free_memory() -> int:
    """Bytes of main memory that this process can still have; 0 where that is not known.

    What the machine has available, or less where a control group (of a container, a batch system), one of the groups around
    it, or the process's own limit of addresses allows less. Pages of files that nobody used lately count as free: the system
    gives them away before memory runs out.

    >>> 0 <= free_memory() <= total_memory()
    True
    """
    total, available = _of_the_machine()
    allowed = [limit - used for limit, used in _allowances()]
    return max(0, min([available, *allowed])) if total else 0


def total_memory() -> int:
    """Bytes of main memory that this process can have at most, with nothing in use; 0 where that is not known."""
    total, _ = _of_the_machine()
    return min([total, *(limit for limit, _ in _allowances())]) if total else 0


def cores() -> int:
    """Processor cores that this process may use: those that it is bound to, or fewer where a control group grants less time."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = [ceil(share) for group in _groups("cpu") if (share := _share(group)) is not None]
    return max(1, min([bound, *granted]))


def processor_flags() -> frozenset[str]:
    """What the processor can do, by the names of Linux such as "avx2"; nothing where that is not told."""
    lines = _text(_ROOT / "proc/cpuinfo").splitlines()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ()))


def byte_text(count: float) -> str:
    """An amount of memory in words.

    >>> byte_text(524_288_000)
    '524 MB'
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def give_back_memory() -> None:
    """Return what was freed to the system: glibc keeps it, for each thread apart, and a long run would seem to grow."""
    trim = _trim()
    if trim is not None:
        trim(0)


@lru_cache(maxsize=1)
def _trim() -> Any:
    """`malloc_trim`, None where the C library has none."""
    try:
        return ctypes.CDLL(None).malloc_trim if sys.platform == "linux" else None
    except (OSError, AttributeError):
        return None


def _of_the_machine() -> tuple[int, int]:
    """Bytes in all, and those that processes can have; zeros where nobody tells."""
    try:
        import psutil

        memory = psutil.virtual_memory()
        return int(memory.total), int(memory.available)
    except (ImportError, OSError):  # a bare GPU machine; one that shows no files of the system
        lines = [line.split() for line in _text(_ROOT / "proc/meminfo").splitlines()]
        told = {words[0]: int(words[1]) * 1024 for words in lines if len(words) > 1 and words[1].isdigit()}
        return told.get("MemTotal:", 0), told.get("MemAvailable:", 0)


def _allowances() -> Iterator[tuple[int, int]]:
    """Limits on the memory of this process, bytes, each with what is in use of it."""
    for group in _groups("memory"):
        limits = [int(text) for name in _LIMITS[group.version] if (text := _text(group.folder / name).strip()).isdigit()]
        used = _text(group.folder / _USED[group.version]).strip()
        if limits and used.isdigit():
            lines = [line.split() for line in _text(group.folder / "memory.stat").splitlines()]
            cached = sum(int(words[1]) for words in lines if words[:1] == [_CACHED[group.version]] and words[-1].isdigit())
            yield min(limits), max(0, int(used) - cached)
    yield from _addresses()


def _addresses() -> Iterator[tuple[int, int]]:
    """The limit that `ulimit -v` sets, where it does."""
    try:
        import resource  # not on Windows
    except ImportError:
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _text(_ROOT / "proc/self/statm").partition(" ")[0]
    if limit != resource.RLIM_INFINITY and pages.isdigit():
        yield limit, int(pages) * resource.getpagesize()


def _groups(controller: str) -> Iterator[_Group]:
    """The control group of this process, and those around it, that govern memory or processors."""
    paths = {}
    for line in _text(_ROOT / "proc/self/cgroup").splitlines():
        _, first, told = line.partition(":")
        controllers, second, path = told.partition(":")
        if first and second:
            paths.update(dict.fromkeys(controllers.split(","), path))  # version 2 names none
    for line in _text(_ROOT / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        places, kinds = before.split(" "), after.split(" ")
        if len(places) < 5 or len(kinds) < 3:
            continue
        (root, point), (kind, _, options) = places[3:5], kinds[:3]
        name = {"cgroup": controller, "cgroup2": ""}.get(kind)
        if name in paths and (kind == "cgroup2" or controller in options.split(",")):
            top = _ROOT / point.lstrip("/")
            for folder in _up(top, root, paths[name]):
                yield _Group(folder, 2 if kind == "cgroup2" else 1)
                if _text(folder.parent / "memory.use_hierarchy").strip() == "0":  # version 1: what is around does not count
                    break


def _up(top: Path, root: str, path: str) -> Iterator[Path]:
    """Folders from a group up to the one where the groups are mounted, whose path is `root`.

    A container may see a part of the groups alone, and may be told of its own by a path from outside.
    """
    group = PurePosixPath(path)
    inner = group.relative_to(root) if group.is_relative_to(root) else PurePosixPath()
    folder = top / inner
    folder = folder if ".." not in inner.parts and folder.is_dir() else top
    while folder != top:
        yield folder
        folder = folder.parent
    yield top


def _share(group: _Group) -> float | None:
    """Processors whose time a group may use up; None where there is no limit."""
    if group.version == 2:
        quota, _, period = _text(group.folder / "cpu.max").strip().partition(" ")
    else:
        quota, period = (_text(group.folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _text(path: Path) -> str:
    """What a file of the system says; nothing where it is not there or not for this process."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
