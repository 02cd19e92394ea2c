"""What the benchmarks share: wishes, turns, own processes, memory, operations, scores, and the file of a measurement."""

from __future__ import annotations

import csv
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import processor
from torch.utils.flop_counter import FlopCounterMode

from napari_shiftseg import read_image

# -- what is asked for, and what is kept ------------------------------------------------------------------------------


def parser(doc: str | None) -> ArgumentParser:
    """Wishes of a script, the first of which is its file."""
    made = ArgumentParser(description=doc, formatter_class=RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, help="JSON")
    return made


def data_parser(doc: str | None) -> ArgumentParser:
    """Wishes of a script that runs a model on labelled images."""
    made = parser(doc)
    made.add_argument("data", nargs="+", type=Path)
    made.add_argument("--model", default="nuclei", help="bundled name or file")
    made.add_argument("--split", default="train")
    made.add_argument("--every", type=int, default=1)
    return made


def split_parser(doc: str | None, images: int | None) -> ArgumentParser:
    """Wishes of a script that runs a model on some images of a split of a folder (see `named`)."""
    made = parser(doc)
    made.add_argument("data", type=Path)
    made.add_argument("--model", default="nuclei")
    made.add_argument("--split", default="val")
    made.add_argument("--images", type=int, default=images)
    return made


def told(row: Any) -> Any:
    """A row, printed as soon as it is there."""
    print(json.dumps(row), flush=True)
    return row


def origin(*packages: str) -> dict[str, Any]:
    """Date, command, machine and versions."""
    script = Path(sys.argv[0]).name
    return {
        "date": time.strftime("%Y-%m-%d"),
        "command": shlex.join(["python", f"benchmarks/{script}", *sys.argv[1:]]),
        "machine": {"processor": processor(), "cpus": os.cpu_count(), "threads": torch.get_num_threads()},
        "versions": {name: installed(name) for name in ("torch", "numpy", *packages)},
    }


def keep(out: Path | None, document: dict[str, Any]) -> None:
    """Write a measurement, if a file was named."""
    if out:
        out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


# -- time and memory --------------------------------------------------------------------------------------------------


def in_turns(
    ways: Mapping[Any, Callable[[], object]], turns: int, clock: Callable[[], float] = time.perf_counter
) -> dict[Any, list[float]]:
    """Seconds of each way in each turn; every other turn goes backwards, so that a drift of the machine favours none."""
    seconds: dict[Any, list[float]] = {name: [] for name in ways}
    for turn in range(turns):
        for name in list(ways) if turn % 2 == 0 else reversed(ways):
            started = clock()
            ways[name]()
            seconds[name].append(clock() - started)
    return seconds


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Median of the ratios of the turns."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def off(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference, relative to the largest value."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def in_own_process(*words: object, **environment: str) -> Any:
    """What the script prints last as JSON when it is called with these words."""
    command = [sys.executable, "-W", "ignore", sys.argv[0], *map(str, words)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    return json.loads(run.stdout.splitlines()[-1])


def peak_of(call: Callable[[], object]) -> int:
    """Memory that a call takes at most above what was there before, bytes (Linux)."""
    torch.nn.functional.conv2d(torch.rand(1, 8, 64, 64), torch.rand(8, 8, 3, 3))  # the library itself is there before
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    call()
    return status("VmHWM") - before


def status(name: str) -> int:
    """A size that Linux tells of this process, bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def flop_counter() -> FlopCounterMode:
    """PyTorch's counter, told about oneDNN's fused convolutions, which it does not know; a multiply-add counts as two."""
    mapping = {}
    for name, count in (("_convolution_pointwise", _plain), ("_convolution_transpose_pointwise", _transposed)):
        if hasattr(torch.ops.mkldnn, name):
            mapping[getattr(torch.ops.mkldnn, name)] = count
    return FlopCounterMode(display=False, custom_mapping=mapping)


def _plain(x: Sequence[int], weight: Sequence[int], *rest: Any, out_shape: Sequence[int], **more: Any) -> int:
    """Each output value has a tap for each weight of its channel."""
    return 2 * prod(out_shape) * prod(weight[1:])


def _transposed(x: Sequence[int], weight: Sequence[int], *rest: Any, out_shape: Sequence[int], **more: Any) -> int:
    """Each input value goes through all weights of its channel."""
    return 2 * prod(x) * prod(weight[1:])


# -- images and scores ------------------------------------------------------------------------------------------------


def named(data: Path, split: str) -> list[str]:
    """Images of a split of a folder with `images/`, `masks/` and `meta.csv` (columns id, split)."""
    with open(data / "meta.csv", encoding="utf-8") as lines:
        return [row["id"] for row in csv.DictReader(lines) if row["split"] == split]


def read(data: Path, name: str) -> Iterator[np.ndarray]:
    """An image of such a folder, and its truth."""
    for kind in ("images", "masks"):
        yield np.asarray(read_image(data / kind / f"{name}.tif").reordered().data[...])


def adjusted_rand(labels: np.ndarray, truth: np.ndarray) -> float:
    """Over all pixels, the background as one more instance (Hubert and Arabie 1985)."""
    pairs = labels.ravel().astype(np.int64) * (int(truth.max()) + 1) + truth.ravel()
    counts = [np.unique(values, return_counts=True)[1].astype(float) for values in (pairs, labels, truth)]
    both, first, second = (float((n * (n - 1) / 2).sum()) for n in counts)
    expected = first * second / (labels.size * (labels.size - 1) / 2)
    most = (first + second) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)
