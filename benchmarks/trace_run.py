"""How often one `shiftseg segment` decides, and how many files of the package it enters.

    python benchmarks/trace_run.py
    python benchmarks/trace_run.py --files

One run of a 700 px image in this process, all threads, under a profiler: calls of `decide`, `plan_tiles`, `choose_method`,
`choose_device`, `judge` and `violations`, each with its callers, and the files of which any function was called. What runs
while a module is being imported does not count, nor does what packages do to import late. `--files` lists those files with
their calls.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections import Counter
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from tifffile import imread, imwrite

import napari_shiftseg
from napari_shiftseg.cli import main as command

DECISIONS = ("decide", "plan_tiles", "choose_method", "choose_device", "judge", "violations")
ROOT = Path(napari_shiftseg.__file__).parent


class Trace:
    """Counts calls of the package's functions; a context in which they are counted, in threads that begin in it too.

    Attributes
    ----------
    files : Counter
        Calls by file, relative to the package; a generator that goes on counts as a call.
    callers : dict of Counter
        For each name of `DECISIONS` the functions that called it.
    """

    def __init__(self) -> None:
        self.files: Counter[str] = Counter()
        self.callers: dict[str, Counter[str]] = {name: Counter() for name in DECISIONS}
        self._known: dict[str, str | None] = {}  # code's file -> file in the package
        self._importing = threading.local()
        self._lock = threading.Lock()

    def __enter__(self) -> Trace:
        threading.setprofile(self._see)
        sys.setprofile(self._see)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def calls(self, name: str) -> int:
        """How often one of `DECISIONS` was called."""
        return sum(self.callers[name].values())

    def _see(self, frame: FrameType, event: str, _: Any) -> None:
        if event not in ("call", "return") or (file := self._ours(frame)) is None:
            return
        depth = getattr(self._importing, "depth", 0)
        if frame.f_code.co_name == "<module>":
            self._importing.depth = depth + (1 if event == "call" else -1)
        elif event == "call" and not depth and frame.f_code.co_qualname != "__getattr__":  # of a package that imports late
            with self._lock:
                self.files[file] += 1
                if frame.f_code.co_qualname in self.callers:  # functions, and no methods of the same name
                    self.callers[frame.f_code.co_qualname][_told(frame.f_back)] += 1

    def _ours(self, frame: FrameType) -> str | None:
        name = frame.f_code.co_filename
        if name not in self._known:
            path = Path(name)
            self._known[name] = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else None
        return self._known[name]


def _told(frame: FrameType | None) -> str:
    if frame is None:
        return "a thread"
    path = Path(frame.f_code.co_filename)
    return f"{path.parent.name}/{path.stem}.{frame.f_code.co_name}"


def traced(size: int = 700, *words: str) -> Trace:
    """The trace of `shiftseg segment IMAGE --out STORE` with more words, for an image of `size` x `size` px."""
    sample = imread(str(files("napari_shiftseg") / "samples" / "nuclei.tif"))
    with tempfile.TemporaryDirectory(prefix="trace-") as folder:
        image = Path(folder) / "image.tif"
        imwrite(image, np.pad(sample, [(0, max(0, size - n)) for n in sample.shape], mode="reflect")[:size, :size])
        with Trace() as trace:
            code = command(["segment", str(image), "--out", str(Path(folder) / "result.ome.zarr"), *words])
    if code:
        raise SystemExit(f"the command ended with {code}.")
    return trace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=700, help="edge of the image, px (default: %(default)s)")
    parser.add_argument("--files", action="store_true", help="list the files with their calls")
    wishes, words = parser.parse_known_args()
    trace = traced(wishes.size, *words)
    for name in DECISIONS:
        callers = ", ".join(f"{caller}{f' x {n}' * (n > 1)}" for caller, n in trace.callers[name].most_common())
        print(f"{name:14}{trace.calls(name):4}  {callers}")
    print(f"{'files entered':14}{len(trace.files):4}")
    if wishes.files:
        for file, count in sorted(trace.files.items()):
            print(f"  {file:44}{count:9}")


if __name__ == "__main__":
    main()
