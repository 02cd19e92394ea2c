"""What each part of the tile path is worth here: both ways in turns, medians, the ratio, and the difference of the results.

- form: a network of 3 levels over tiles, as it was trained against its inference form (cropped early, convolution and ReLU in
  one step), in float32 and bfloat16; channels last against contiguous.
- fold: nearest-neighbour upsampling folded into the next convolution, against the upsampled map.
- border: an image that is no multiple of its tiles, with the last tiles cropped early and not.
- batches: tiles of 48 px one by one and several in a pass, as on GPUs; on CPUs a tile keeps its bits and runs alone.
- prefetch: an image whose reads wait as for a disk, read ahead and not.
- bfloat16: the model "nuclei" on its sample: labels and embedding against float32.

    python benchmarks/tile_path.py [--turns 5] [--clock wall|cpu] [--out docs/measurements/tile_path.json]

Where other programs run, take `--clock cpu` with OMP_NUM_THREADS=1: processor time of one thread.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from napari_shiftseg import SegmentSettings, UNet, UNetSpec, load_model, plan_tiles, predict, segment
from napari_shiftseg.network import unet
from napari_shiftseg.network.device import arranged, channels_last
from napari_shiftseg.network.unet import InferenceNet, PlainNet

TILES = import_module("napari_shiftseg.network.windows")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path)
    wishes = parser.parse_args()
    rows = []
    for part in wishes.only:
        for row in PARTS[part](Bench(wishes.turns, wishes.clock)):
            rows.append({"part": part, **row})
            print(json.dumps(rows[-1]), flush=True)
    if wishes.out:
        machine = {"threads": torch.get_num_threads(), "platform": platform.platform(), "torch": torch.__version__}
        document = {
            "date": time.strftime("%Y-%m-%d"),
            "command": " ".join(["python", "benchmarks/tile_path.py", *sys.argv[1:]]),
            "machine": machine,
            "rows": rows,
        }
        wishes.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


class Bench:
    """Runs several ways in turns."""

    def __init__(self, turns: int, clock: str) -> None:
        self.turns, self.clock = turns, CLOCKS[clock]

    def compare(self, ways: dict[str, Callable[[], np.ndarray]]) -> dict[str, object]:
        """Medians, their ratio to the first way's, and largest difference to its result, relative to its largest value."""
        results = {name: way() for name, way in ways.items()}  # warms up
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(self.turns):
            for name, way in ways.items():
                started = self.clock()
                way()
                seconds[name].append(self.clock() - started)
        first = next(iter(ways))
        base, reference = statistics.median(seconds[first]), results[first]
        return {
            name: {
                "seconds": round(statistics.median(values), 5),
                "ratio": round(statistics.median(values) / base, 3),
                "difference": float(f"{np.abs(results[name] - reference).max() / np.abs(reference).max():.1e}"),
            }
            for name, values in seconds.items()
        }


def seeded(**wishes: object) -> UNet:
    torch.manual_seed(0)
    return UNet(UNetSpec(**{"levels": 3, "embedding_dim": 8, **wishes})).eval().requires_grad_(False)


def tile_of(spec: UNetSpec, edge: int) -> tuple[torch.Tensor, tuple[slice, ...]]:
    """An input, and what a plan keeps of the output."""
    tile = next(iter(plan_tiles(spec, (4 * edge,) * spec.ndim, edge)))
    return torch.rand((1, spec.in_channels, *(s.stop - s.start for s in tile.read))), tile.keep


def ready(form: torch.nn.Module, dtype: torch.dtype, layout: torch.memory_format) -> torch.nn.Module:
    form = form.to(dtype)
    form.head.float()
    return arranged(form, layout)


@torch.inference_mode()
def forms(bench: Bench):
    for ndim, features, edge, levels in ((2, 16, 512, 3), (2, 32, 512, 3), (2, 32, 64, 3), (3, 16, 48, 2)):
        net = seeded(ndim=ndim, features=features, levels=levels)
        x, keep = tile_of(net.spec, edge)
        ways = {}
        for name, make, dtype, layout in (
            ("plain", whole, torch.float32, channels_last(ndim)),
            ("plain, contiguous", whole, torch.float32, torch.contiguous_format),
            ("cropped", InferenceNet, torch.float32, channels_last(ndim)),
            ("cropped, one step", one_step, torch.float32, channels_last(ndim)),
            ("plain, bfloat16", whole, torch.bfloat16, channels_last(ndim)),
            ("cropped, one step, bfloat16", one_step, torch.bfloat16, channels_last(ndim)),
        ):
            if make is one_step and not unet.one_step_works(ndim, dtype):
                continue
            form, given = ready(make(net), dtype, layout), x.to(dtype).contiguous(memory_format=layout)
            ways[name] = lambda form=form, given=given, keep=keep: form(given, keep).float().numpy()
        yield {"ndim": ndim, "features": features, "levels": levels, "tile": edge, **bench.compare(ways)}


def whole(net: UNet) -> PlainNet:
    return PlainNet(copy.deepcopy(net), net.spec.lattice, net.spec.out_channels).eval()


def one_step(net: UNet) -> InferenceNet:
    return InferenceNet(net, one_step=True)


@torch.inference_mode()
def fold(bench: Bench):
    for ndim, features, edge in ((2, 16, 256), (2, 32, 256), (3, 16, 32)):
        net = seeded(ndim=ndim, features=features, upsampling="fixed", levels=5 - ndim)
        x, keep = tile_of(net.spec, edge)
        for dtype in (torch.float32, torch.bfloat16):
            given = x.to(dtype).contiguous(memory_format=channels_last(ndim))
            one = unet.one_step_works(ndim, dtype)
            ways = {}
            for name, folded in (("upsampled", False), ("folded", True)):
                form = ready(InferenceNet(net, fold=folded, one_step=one), dtype, channels_last(ndim))
                ways[name] = lambda form=form, given=given, keep=keep: form(given, keep).float().numpy()
            yield {"ndim": ndim, "features": features, "tile": edge, "dtype": str(dtype)[6:], **bench.compare(ways)}


def border(bench: Bench):
    net, size, edge = seeded(features=16), 600, 512
    image, plan = np.random.default_rng(0).random((1, size, size), np.float32), plan_tiles(net.spec, (size, size), edge)

    def run(kind: str) -> np.ndarray:
        form = TILES.inference_form
        if kind == "whole tiles":
            TILES.inference_form = lambda given, **_: whole(given)
        try:
            return predict(net, image, plan, device="cpu", method="tiles")
        finally:
            TILES.inference_form = form

    flops = sum(net.spec.flops([s.stop - s.start for s in tile.read]) for tile in plan)
    found = bench.compare({kind: (lambda kind=kind: run(kind)) for kind in ("whole tiles", "cropped early")})
    yield {"image": size, "tile": edge, "operations": round(plan.flops / flops, 3), **found}


def batches(bench: Bench):
    for features, edge, dtype in ((16, 48, "float32"), (16, 48, "bfloat16"), (32, 64, "float32"), (32, 64, "bfloat16")):
        net, size = seeded(features=features), 8 * edge
        image, plan = np.random.default_rng(0).random((1, size, size), np.float32), plan_tiles(net.spec, (size, size), edge)

        def run(most: int, net=net, image=image, plan=plan, dtype=dtype) -> np.ndarray:
            before, TILES.batch_size = TILES.batch_size, lambda plan, device: most
            try:
                return predict(net, image, plan, device="cpu", dtype=dtype, method="tiles")
            finally:
                TILES.batch_size = before

        ways = {f"{most} in a pass": (lambda most=most, run=run: run(most)) for most in (1, 4, 8)}
        yield {"features": features, "tile": edge, "dtype": dtype, **bench.compare(ways)}


class Disk:
    """An image whose windows come after a while."""

    def __init__(self, data: np.ndarray, wait: float) -> None:
        self.data, self.shape, self.dtype, self.wait = data, data.shape, data.dtype, wait

    def __getitem__(self, key):
        time.sleep(self.wait)
        return self.data[key]


def prefetch(bench: Bench):
    bench = Bench(bench.turns, "wall")  # a wait is no processor time
    net = seeded(features=16)
    data = np.random.default_rng(0).random((1, 1024, 1024), np.float32)
    plan = plan_tiles(net.spec, (1024, 1024), 256)
    started = time.perf_counter()
    predict(net, data, plan, device="cpu", method="tiles")
    wait = 0.5 * (time.perf_counter() - started) / len(plan)

    def run(kind: str) -> np.ndarray:
        before = TILES.ahead
        if kind == "in turn":
            TILES.ahead = lambda items, most: items
        try:
            return predict(net, Disk(data, wait), plan, device="cpu", method="tiles")
        finally:
            TILES.ahead = before

    found = bench.compare({kind: (lambda kind=kind: run(kind)) for kind in ("in turn", "ahead")})
    yield {"wait_seconds": round(wait, 4), "share_of_network": 0.5, **found}


def bfloat16(bench: Bench):
    model = load_model("nuclei")
    image = Path(sys.modules["napari_shiftseg"].__file__).parent / "samples" / "nuclei.tif"
    exact, rough = (segment(image, model, SegmentSettings(device="cpu", dtype=dtype)) for dtype in ("float32", "bfloat16"))
    difference = np.abs(exact.embedding - rough.embedding)
    yield {
        "model": model.name,
        "image": list(exact.labels.shape),
        "instances": [int(exact.labels.max()), int(rough.labels.max())],
        "embedding_largest_relative": float(difference.max() / np.abs(exact.embedding).max()),
        "embedding_mean_relative": float(np.sqrt((difference**2).mean()) / np.sqrt((exact.embedding**2).mean())),
        "foreground_flips": float(((exact.foreground > 0.5) != (rough.foreground > 0.5)).mean()),
        "adjusted_rand": adjusted_rand(np.asarray(exact.labels), np.asarray(rough.labels)),
    }


def adjusted_rand(a: np.ndarray, b: np.ndarray) -> float:
    """Adjusted Rand index of two labellings, background as one object (Hubert and Arabie 1985)."""

    def pairs(labels: np.ndarray) -> float:
        counts = np.unique(labels, return_counts=True)[1].astype(float)
        return float((counts * (counts - 1) / 2).sum())

    both = pairs(a.astype(np.int64).ravel() * (int(b.max()) + 1) + b.ravel())
    first, second, everything = pairs(a), pairs(b), a.size * (a.size - 1) / 2
    expected = first * second / everything
    return (both - expected) / ((first + second) / 2 - expected)


PARTS = {
    "form": forms,
    "fold": fold,
    "border": border,
    "batches": batches,
    "prefetch": prefetch,
    "bfloat16": bfloat16,
}


if __name__ == "__main__":
    main()
