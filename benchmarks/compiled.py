"""Whether compilers pay for a tile: seconds of a pass against those of `predict`'s own form, in turns.

Compilers are `torch.compile`, OpenVINO (on CPUs, where it is installed) and CUDA graphs (on GPUs). The first two start from the
inference form without its merged operators, which a compiler merges itself. The warm-up is the time of the first call over that
of a later one; a plan with tiles at its far borders has up to four kinds of tiles in 2D, and each kind is compiled or captured
apart.

With `--images`, whole images too: `predict` with PyTorch's own choice of tiles or stream, and with OpenVINO.

    python benchmarks/compiled.py [--device cuda] [--out docs/measurements/compiled.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from machine import processor
from torch import Tensor

from napari_shiftseg import UNet, UNetSpec, plan_tiles, predict
from napari_shiftseg.geometry import Window
from napari_shiftseg.network import Device, choose_device
from napari_shiftseg.network.compiled import compiled_net, forget
from napari_shiftseg.network.device import arranged, channels_last, choose_dtype
from napari_shiftseg.network.unet import InferenceNet
from napari_shiftseg.network.windows import ready_network

Pass = Callable[[Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", nargs="+", type=int, default=[64, 256, 512])
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--features", nargs="+", type=int, default=[16, 32])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--images", nargs="*", type=int, default=[], help="edges of whole 2D images, px")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--out", type=Path)
    wishes = parser.parse_args()
    device = choose_device(wishes.device)
    rows, images = [], []
    for features in wishes.features:
        torch.manual_seed(0)
        net = UNet(UNetSpec(levels=wishes.levels, features=features, embedding_dim=8)).eval().requires_grad_(False)
        for dtype in wishes.dtypes:
            for edge in wishes.tiles:
                what = {"features": features, "levels": wishes.levels, "dtype": dtype, "tile": edge}
                for row in compare(net, device, dtype, edge, wishes.turns):
                    rows.append({**what, **row})
                    print(json.dumps(rows[-1]), flush=True)
            for edge in wishes.images:
                for row in whole(net, dtype, edge, wishes.turns):
                    images.append({"features": features, "levels": wishes.levels, "dtype": dtype, "edge": edge, **row})
                    print(json.dumps(images[-1]), flush=True)
    if wishes.out:
        document = {
            "date": time.strftime("%Y-%m-%d"),
            "command": " ".join(["python", "benchmarks/compiled.py", *sys.argv[1:]]),
            "machine": {"processor": processor(), "device": device.describe(), "threads": torch.get_num_threads()},
            "versions": {"torch": torch.__version__, "openvino": version("openvino") if find_spec("openvino") else None},
            "rows": rows,
            "images": images,
        }
        wishes.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def ways(device: Device) -> dict[str, Callable[[UNet, Device, str, Window, Tensor], Pass]]:
    """All that is compared; the first is what runs in the product."""
    found = {"ours": own, "torch.compile": compiled}
    if device.kind == "cuda":
        found["CUDA graph"] = captured
    if device.kind == "cpu" and find_spec("openvino"):
        found["OpenVINO"] = by_openvino
    return found


@torch.inference_mode()
def compare(net: UNet, device: Device, dtype: str, edge: int, turns: int) -> list[dict[str, object]]:
    tile = next(iter(plan_tiles(net.spec, (4 * edge,) * 2, edge)))
    number, layout = choose_dtype(dtype, device), channels_last(2)
    x = torch.rand((1, 1, *(part.stop - part.start for part in tile.read)))
    x = x.to(device.torch_device, number).contiguous(memory_format=layout)
    passes, warm, results = {}, {}, {}
    for name, make in ways(device).items():
        torch.compiler.reset()
        started = time.perf_counter()
        passes[name] = make(net, device, dtype, tile.keep, x)
        results[name] = timed(passes[name], x, device)[1].float()
        warm[name] = time.perf_counter() - started
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(turns):
        for name, run in passes.items():
            seconds[name].append(timed(run, x, device)[0])
    reference = results["ours"]
    return [
        {
            "way": name,
            "seconds": statistics.median(seconds[name]),
            "ratio": statistics.median(a / b for a, b in zip(seconds[name], seconds["ours"], strict=True)),
            "warm_up": max(0.0, warm[name] - statistics.median(seconds[name])),
            "difference": float((results[name] - reference).abs().max() / reference.abs().max()),
        }
        for name in passes
    ]


def whole(net: UNet, dtype: str, edge: int, turns: int) -> list[dict[str, object]]:
    """Whole images by `predict` on the CPU, from main memory to main memory."""
    image = np.random.default_rng(0).random((1, edge, edge), np.float32)
    runs: dict[str, Callable[[], np.ndarray]] = {}
    for name, where, tile in (
        ("PyTorch", "cpu", None),
        ("OpenVINO", "openvino", None),
        ("OpenVINO, tiles of 1024 px", "openvino", 1024),
    ):
        plan = plan_tiles(net.spec, image.shape[1:], tile)
        runs[name] = partial(predict, net, image, plan, where, dtype=dtype)
    forget()
    first, seconds, results = {}, {name: [] for name in runs}, {}
    for name, run in runs.items():
        started = time.perf_counter()
        results[name] = run()
        first[name] = time.perf_counter() - started
    for _ in range(turns):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    reference = results["PyTorch"]
    return [
        {
            "way": name,
            "seconds": statistics.median(seconds[name]),
            "ratio": statistics.median(a / b for a, b in zip(seconds[name], seconds["PyTorch"], strict=True)),
            "first": first[name],
            "difference": float(np.abs(results[name] - reference).max() / np.abs(reference).max()),
        }
        for name in runs
    ]


def timed(run: Pass, x: Tensor, device: Device) -> tuple[float, Tensor]:
    finish(device)
    started = time.perf_counter()
    y = run(x)
    finish(device)
    return time.perf_counter() - started, y.clone()


def finish(device: Device) -> None:
    if device.kind == "cuda":
        torch.cuda.synchronize(device.torch_device)


def own(net: UNet, device: Device, dtype: str, keep: Window, x: Tensor) -> Pass:
    ready = ready_network(net, device, dtype, tiled=True)
    return lambda x: ready(x, keep)


def plain(net: UNet, device: Device, dtype: str) -> torch.nn.Module:
    """The inference form, of PyTorch's own layers alone."""
    form = InferenceNet(net).to(device.torch_device, choose_dtype(dtype, device))
    form.head.float()
    return arranged(form, channels_last(2))


def compiled(net: UNet, device: Device, dtype: str, keep: Window, x: Tensor) -> Pass:
    form = plain(net, device, dtype)
    run: Pass = torch.compile(lambda x: form(x, keep), dynamic=False)
    return run


def by_openvino(net: UNet, device: Device, dtype: str, keep: Window, x: Tensor) -> Pass:
    forget()
    ready = compiled_net(net, dtype)
    return lambda x: ready(x, keep)


def captured(net: UNet, device: Device, dtype: str, keep: Window, x: Tensor) -> Pass:
    """One pass as a CUDA graph: one launch for all its kernels."""
    form = ready_network(net, device, dtype, tiled=True)
    given = x.clone()
    side = torch.cuda.Stream(device.torch_device)
    side.wait_stream(torch.cuda.current_stream(device.torch_device))
    with torch.cuda.stream(side):
        for _ in range(3):  # cuDNN chooses its algorithms and takes its memory before the capture
            form(given, keep)
    torch.cuda.current_stream(device.torch_device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = form(given, keep)

    def run(x: Tensor) -> Tensor:
        given.copy_(x)
        graph.replay()
        return made

    return run


if __name__ == "__main__":
    main()
