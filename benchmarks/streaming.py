"""Whole image against stream: time, memory and difference, and the memory of streams over images of growing height.

One image of 1024 x 1024 px (and one volume of 192 x 96 x 96) through a U-Net of 3 levels, in one pass of the whole image and in
strips, each with the same weights, layout and number format. The two take turns in one process; the ratio is the median of the
turns' ratios. Peak memory is that of a process of its own, above what it held before. `difference` is the largest one, relative
to the largest value; `flops` are the counted operations over those of the same pixels in an endless image.

The tall images are 1024 px wide, made row by row when they are read, and their result is thrown away: what is left is what the
stream itself takes.

    python benchmarks/streaming.py --out docs/measurements/streaming.json
    python benchmarks/streaming.py --threads 1 --turns 2 --rows 512 4096     # quick
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from napari_shiftseg import UNet, UNetSpec, plan_tiles, predict
from napari_shiftseg.geometry import Pass, StreamPlan, plan_stream
from napari_shiftseg.network import unet
from napari_shiftseg.network.device import channels_last
from napari_shiftseg.network.stream import StreamNet
from napari_shiftseg.network.unet import InferenceNet

PLANE = UNetSpec(levels=3, features=16, embedding_dim=8)
VOLUME = UNetSpec(ndim=3, levels=3, features=8, embedding_dim=8)
SHAPES = {2: (1024, 1024), 3: (192, 96, 96)}
CASES = {
    "plane, float32": (PLANE, "plain", torch.float32),
    "plane, float32, channels last": (PLANE, "last", torch.float32),
    "plane, bfloat16, channels last": (PLANE, "last", torch.bfloat16),
    "volume, float32, channels last": (VOLUME, "last", torch.float32),
    "volume, bfloat16, channels last": (VOLUME, "last", torch.bfloat16),
}
STRIPS = {2: (16, 32, 64, 128, 256), 3: (8, 16, 32, 64)}
WIDTH = 1024
# Share of the memory of one pass that a stream may take here.
MEMORY_OF_WHOLE = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rows", nargs="*", type=int, default=[512, 2048, 8192, 65_536], help="heights of the tall images")
    parser.add_argument("--out", type=Path, help="JSON")
    parser.add_argument("--peak", nargs=2, metavar=("CASE", "STRIP"), help=argparse.SUPPRESS)
    parser.add_argument("--tall", type=int, metavar="ROWS", help=argparse.SUPPRESS)
    wishes = parser.parse_args()
    torch.set_num_threads(wishes.threads)
    if wishes.peak:
        case, strip = Case(wishes.peak[0]), int(wishes.peak[1]) or None
        print(json.dumps(peak_of(lambda: case.run(strip))))
        return
    if wishes.tall:
        print(json.dumps(tall(wishes.tall)))
        return
    found = {
        "date": time.strftime("%Y-%m-%d"),
        "command": "python benchmarks/streaming.py " + " ".join(sys.argv[1:]),
        "machine": {"threads": wishes.threads, "processor": platform.machine(), "platform": platform.platform()},
        "versions": {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()},
        "cases": [],
        "tall": [],
    }
    for name in wishes.cases:
        for row in compared(name, wishes):
            found["cases"].append(row)
            print(json.dumps(row), flush=True)
    for rows in wishes.rows:
        found["tall"].append(in_a_process(wishes, "--tall", rows))
        print(json.dumps(found["tall"][-1]), flush=True)
    if wishes.out:
        wishes.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


class Case:
    """A network and an image."""

    def __init__(self, name: str) -> None:
        self.spec, layout, dtype = CASES[name]
        self.layout = channels_last(self.spec.ndim) if layout == "last" else torch.contiguous_format
        self.shape = SHAPES[self.spec.ndim]
        torch.manual_seed(0)
        self.net = UNet(self.spec).eval().requires_grad_(False).to(dtype).to(memory_format=self.layout)
        self.net.head.float()
        self.parts = InferenceNet(self.net, fold=False)
        self.tiles = plan_tiles(self.spec, self.shape, 10**6)
        (self.tile,) = self.tiles
        self.image = torch.rand(1, 1, *(part.stop for part in self.tile.read))
        self.one_step = unet.one_step_works(self.spec.ndim, dtype)
        self.out = np.ones((self.spec.out_channels, *self.shape), np.float32)  # there before memory is measured

    def plan(self, strip: int) -> StreamPlan:
        return plan_stream(self.tiles, strip=strip, width=10**4 * self.spec.period[1], memory=1 << 50)

    def run(self, strip: int | None) -> np.ndarray:
        """The result of a stream, or with None of one pass."""
        return self.whole() if strip is None else self.streamed(self.plan(strip))

    @torch.inference_mode()
    def whole(self) -> np.ndarray:
        x = self.image.to(next(self.net.parameters()).dtype).contiguous(memory_format=self.layout)
        self.out[:] = self.net(x)[(0, slice(None), *self.tile.keep)].numpy()
        return self.out

    def streamed(self, plan: StreamPlan) -> np.ndarray:
        (column,) = plan.columns
        one = Pass.of(self.spec, [part.stop - part.start for part in column.read], column.keep)
        stream = StreamNet(self.parts, one, plan.strip, self.layout, one_step=self.one_step)
        pixels = self.image[(slice(None), slice(None), *one.read)]
        for strip in plan.strips():
            y = stream.push(pixels[:, :, strip.read])
            if y is not None:
                self.out[:, strip.write] = y[0].numpy()
        return self.out


def compared(name: str, wishes: argparse.Namespace) -> list[dict]:
    case = Case(name)
    strips = STRIPS[case.spec.ndim]
    # what is taken where memory is short
    chosen = plan_stream(case.tiles, memory=int(case.spec.peak_bytes(case.image.shape[2:]) * MEMORY_OF_WHOLE)).strip
    kinds = [None, *sorted({*strips, chosen})]
    seconds: dict[int | None, list[float]] = {kind: [] for kind in kinds}
    busy: dict[int | None, list[float]] = {kind: [] for kind in kinds}
    results = {kind: case.run(kind).copy() for kind in kinds}  # warm
    for _ in range(wishes.turns):
        for kind in kinds:
            wall, cpu = time.perf_counter(), time.process_time()
            case.run(kind)
            seconds[kind].append(time.perf_counter() - wall)
            busy[kind].append(time.process_time() - cpu)
    rows = []
    for kind in kinds:
        peak = in_a_process(wishes, "--peak", name, kind or 0)
        plan = None if kind is None else case.plan(kind)
        flops = case.spec.flops(case.tile.read[k].stop for k in range(case.spec.ndim)) if plan is None else plan.flops
        rows.append(
            {
                "case": name,
                "strip": kind,
                "chosen": kind == chosen,
                "seconds": round(statistics.median(seconds[kind]), 3),
                "ratio": round(statistics.median(a / b for a, b in zip(seconds[kind], seconds[None], strict=True)), 3),
                "cpu_ratio": round(statistics.median(a / b for a, b in zip(busy[kind], busy[None], strict=True)), 3),
                "difference": float(np.abs(results[kind] - results[None]).max() / np.abs(results[None]).max()),
                "flops": round(flops / (case.spec.flops_per_pixel * np.prod(case.shape)), 4),
                "peak_memory": peak,
                "state": None if plan is None else plan.state_bytes,
            }
        )
    return rows


class Rows:
    """An image that is made when it is read."""

    dtype = np.dtype(np.float32)

    def __init__(self, rows: int) -> None:
        self.shape = (1, rows, WIDTH)

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        rows, columns = (np.arange(*part.indices(size)) for part, size in zip(key[1:], self.shape[1:], strict=True))
        return (np.sin(rows[:, None] * 0.13) * np.cos(columns * 0.21 + rows[:, None] * 0.01))[None].astype(np.float32)


class Nowhere:
    """A result that nobody keeps; a checksum says that there was one."""

    dtype = np.dtype(np.float32)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.sum = shape, 0.0

    def __len__(self) -> int:
        return self.shape[0]

    def __setitem__(self, key: tuple[slice, ...], block: np.ndarray) -> None:
        self.sum += float(block.sum(dtype=np.float64))


def tall(rows: int) -> dict:
    torch.manual_seed(0)
    net = UNet(PLANE).eval()
    plan = plan_tiles(PLANE, (rows, WIDTH))
    out = Nowhere((PLANE.embedding_dim, rows, WIDTH))
    memory = int(PLANE.peak_bytes(PLANE.input_size(SHAPES[2])) * MEMORY_OF_WHOLE)
    started = time.perf_counter()
    peak = peak_of(lambda: predict(net, Rows(rows), plan, device="cpu", out=out, method="stream", memory=memory))
    seconds = time.perf_counter() - started
    return {
        "rows": rows,
        "width": WIDTH,
        "peak_memory": peak,
        "seconds": round(seconds, 2),
        "megapixels_per_second": round(rows * WIDTH / 1e6 / seconds, 3),
        "mean": out.sum / (PLANE.embedding_dim * rows * WIDTH),
    }


def peak_of(call) -> int:
    """Memory that a call takes at most above what was there before, bytes (Linux)."""
    torch.nn.functional.conv2d(torch.rand(1, 8, 64, 64), torch.rand(8, 8, 3, 3))  # the library itself is there before
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    call()
    return status("VmHWM") - before


def status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def in_a_process(wishes: argparse.Namespace, *what: object) -> object:
    command = [sys.executable, __file__, "--threads", str(wishes.threads), *map(str, what)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(run.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
