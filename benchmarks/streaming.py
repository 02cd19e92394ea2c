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
import statistics
import time
from functools import partial

import numpy as np
import torch
from bench import in_own_process, in_turns, keep, off, origin, parser, peak_of, ratio, told

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
    made = parser(__doc__)
    made.add_argument("--turns", type=int, default=5)
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    made.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    made.add_argument("--rows", nargs="*", type=int, default=[512, 2048, 8192, 65_536], help="heights of the tall images")
    made.add_argument("--peak", nargs=2, metavar=("CASE", "STRIP"), help=argparse.SUPPRESS)
    made.add_argument("--tall", type=int, metavar="ROWS", help=argparse.SUPPRESS)
    wishes = made.parse_args()
    torch.set_num_threads(wishes.threads)
    if wishes.peak:
        case, strip = Case(wishes.peak[0]), int(wishes.peak[1]) or None
        told(peak_of(lambda: case.run(strip)))
    elif wishes.tall:
        told(tall(wishes.tall))
    else:
        own = partial(in_own_process, "--threads", wishes.threads)
        cases = [told(row) for name in wishes.cases for row in compared(name, wishes.turns, own)]
        keep(wishes.out, {**origin(), "cases": cases, "tall": [told(own("--tall", rows)) for rows in wishes.rows]})


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


def compared(name: str, turns: int, own: partial) -> list[dict]:
    case = Case(name)
    # what is taken where memory is short
    chosen = plan_stream(case.tiles, memory=int(case.spec.peak_bytes(case.image.shape[2:]) * MEMORY_OF_WHOLE)).strip
    ways = {kind: partial(case.run, kind) for kind in (None, *sorted({*STRIPS[case.spec.ndim], chosen}))}
    results = {kind: way().copy() for kind, way in ways.items()}  # warm
    seconds, busy = in_turns(ways, turns), in_turns(ways, turns, time.process_time)
    rows = []
    for kind in ways:
        plan = None if kind is None else case.plan(kind)
        flops = case.spec.flops(case.tile.read[k].stop for k in range(case.spec.ndim)) if plan is None else plan.flops
        rows.append(
            {
                "case": name,
                "strip": kind,
                "chosen": kind == chosen,
                "seconds": round(statistics.median(seconds[kind]), 3),
                "ratio": round(ratio(seconds[kind], seconds[None]), 3),
                "cpu_ratio": round(ratio(busy[kind], busy[None]), 3),
                "difference": off(results[kind], results[None]),
                "flops": round(flops / (case.spec.flops_per_pixel * np.prod(case.shape)), 4),
                "peak_memory": own("--peak", name, kind or 0),
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


if __name__ == "__main__":
    main()
