"""Whether compilers pay for a tile: seconds of a pass against those of `predict`'s own form, in turns.

They are `torch.compile` and CUDA graphs (on GPUs). The former starts from the inference form without its merged operators,
which a compiler merges itself. The warm-up is the time of the first call over that of a later one; a plan with tiles at its far
borders has up to four kinds of tiles in 2D, and each kind is compiled or captured apart.

    python benchmarks/compiled.py [--device cuda] [--out docs/measurements/compiled.json]
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from bench import in_turns, keep, off, origin, parser, ratio, told
from torch import Tensor

from napari_shiftseg import UNet, UNetSpec, plan_tiles
from napari_shiftseg.geometry import Window
from napari_shiftseg.network import Device, choose_device
from napari_shiftseg.network.device import arranged, channels_last, choose_precision
from napari_shiftseg.network.unet import InferenceNet
from napari_shiftseg.network.windows import ready_network

Pass = Callable[[Tensor], Tensor]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--tiles", nargs="+", type=int, default=[64, 256, 512])
    made.add_argument("--levels", type=int, default=3)
    made.add_argument("--features", nargs="+", type=int, default=[16, 32])
    made.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    made.add_argument("--device", default="cpu")
    made.add_argument("--turns", type=int, default=7)
    wishes = made.parse_args()
    device, document = choose_device(wishes.device), {**origin(), "rows": []}
    document["machine"]["device"] = device.describe()
    for features in wishes.features:
        torch.manual_seed(0)
        net = UNet(UNetSpec(levels=wishes.levels, features=features, embedding_dim=8)).eval().requires_grad_(False)
        for dtype in wishes.dtypes:
            what = {"features": features, "levels": wishes.levels, "dtype": dtype}
            for edge in wishes.tiles:
                found = compare(net, device, dtype, edge, wishes.turns)
                document["rows"] += [told({**what, "tile": edge, **row}) for row in found]
    keep(wishes.out, document)


def ways(device: Device) -> dict[str, Callable[[UNet, Device, str, Window, Tensor], Pass]]:
    """All that is compared; the first is what runs in the product."""
    found = {"ours": own, "torch.compile": compiled}
    if device.kind == "cuda":
        found["CUDA graph"] = captured
    return found


@torch.inference_mode()
def compare(net: UNet, device: Device, dtype: str, edge: int, turns: int) -> list[dict[str, object]]:
    tile = next(iter(plan_tiles(net.spec, (4 * edge,) * 2, edge)))
    number, layout = choose_precision(dtype, device, 2).dtype, channels_last(2)
    x = torch.rand((1, 1, *(part.stop - part.start for part in tile.read)))
    x = x.to(device.torch_device, number).contiguous(memory_format=layout)
    passes, warm, results = {}, {}, {}
    for name, make in ways(device).items():
        torch.compiler.reset()
        started = time.perf_counter()
        passes[name] = make(net, device, dtype, tile.keep, x)
        results[name] = finished(passes[name], x, device).float().clone().cpu().numpy()
        warm[name] = time.perf_counter() - started
    seconds = in_turns({name: partial(finished, run, x, device) for name, run in passes.items()}, turns)
    return [
        {
            "way": name,
            "seconds": statistics.median(seconds[name]),
            "ratio": ratio(seconds[name], seconds["ours"]),
            "warm_up": max(0.0, warm[name] - statistics.median(seconds[name])),
            "difference": off(results[name], results["ours"]),
        }
        for name in passes
    ]


def finished(run: Pass, x: Tensor, device: Device) -> Tensor:
    """A pass that is done when the call returns."""
    y = run(x)
    if device.kind == "cuda":
        torch.cuda.synchronize(device.torch_device)
    return y


def own(net: UNet, device: Device, dtype: str, keep: Window, x: Tensor) -> Pass:
    ready = ready_network(net, device, dtype, tiled=True)
    return lambda x: ready(x, keep)


def plain(net: UNet, device: Device, dtype: str) -> torch.nn.Module:
    """The inference form, of PyTorch's own layers alone."""
    form = InferenceNet(net).to(device.torch_device, choose_precision(dtype, device, 2).dtype)
    form.head.float()
    return arranged(form, channels_last(2))


def compiled(net: UNet, device: Device, dtype: str, keep: Window, x: Tensor) -> Pass:
    form = plain(net, device, dtype)
    run: Pass = torch.compile(lambda x: form(x, keep), dynamic=False)
    return run


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
