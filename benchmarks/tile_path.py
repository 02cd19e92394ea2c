"""What each part of the tile path is worth here: both ways in turns, medians, the ratio, and the difference of the results.

- form: a network of 3 levels over tiles, as it was trained against its inference form (cropped early, convolution and ReLU in
  one step), in float32 and bfloat16; channels last against contiguous.
- fold: nearest-neighbour upsampling folded into the next convolution, against the upsampled map.
- compiled: what runs against `torch.compile` of the inference form without its merged operators, which a compiler merges
  itself, and against CUDA graphs (on GPUs). The warm-up is the time of the first call over that of a later one; a plan with
  tiles at its far borders has up to four kinds of tiles in 2D, and each kind is compiled or captured apart.

    python benchmarks/tile_path.py [--turns 5] [--clock wall|cpu] [--out docs/measurements/tile_path.json]
    python benchmarks/tile_path.py --only compiled [--device cuda] [--out docs/measurements/compiled.json]

Where other programs run, take `--clock cpu` with OMP_NUM_THREADS=1: processor time of one thread.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import numpy as np
import torch
from bench import in_turns, keep, off, origin, parser, ratio, told
from torch import Tensor

from napari_shiftseg import UNet, UNetSpec, plan_tiles
from napari_shiftseg.geometry import Window
from napari_shiftseg.network import Device, choose_device, unet
from napari_shiftseg.network.device import arranged, channels_last, choose_precision
from napari_shiftseg.network.unet import InferenceNet, PlainNet
from napari_shiftseg.network.windows import ready_network

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Compare = Callable[[dict[str, Callable[[], np.ndarray]]], dict[str, object]]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--turns", type=int, default=5)
    made.add_argument("--clock", choices=CLOCKS, default="wall")
    made.add_argument("--only", nargs="+", choices=("form", "fold", "compiled"), default=["form", "fold"])
    made.add_argument("--device", default="cpu", help="of what is compiled")
    wishes = made.parse_args()
    both = partial(compare, turns=wishes.turns, clock=CLOCKS[wishes.clock])
    device, document = choose_device(wishes.device), origin()
    document["machine"]["device"] = device.describe()
    parts = {"form": partial(forms, both), "fold": partial(fold, both), "compiled": partial(compiled, device, wishes.turns)}
    keep(wishes.out, {**document, "rows": [told({"part": part, **row}) for part in wishes.only for row in parts[part]()]})


def compare(ways: dict[str, Callable[[], np.ndarray]], *, turns: int, clock: Callable[[], float]) -> dict[str, object]:
    """Medians, their ratio to the first way's, and largest difference to its result, relative to its largest value."""
    results = {name: way() for name, way in ways.items()}  # warms up
    seconds = {name: statistics.median(values) for name, values in in_turns(ways, turns, clock).items()}
    first = next(iter(ways))
    return {
        name: {
            "seconds": round(seconds[name], 5),
            "ratio": round(seconds[name] / seconds[first], 3),
            "difference": float(f"{off(results[name], results[first]):.1e}"),
        }
        for name in ways
    }


def seeded(**wishes: object) -> UNet:
    torch.manual_seed(0)
    return UNet(UNetSpec(**{"levels": 3, "embedding_dim": 8, **wishes})).eval().requires_grad_(False)


def tile_of(spec: UNetSpec, edge: int) -> tuple[Tensor, tuple[slice, ...]]:
    """An input, and what a plan keeps of the output."""
    tile = next(iter(plan_tiles(spec, (4 * edge,) * spec.ndim, edge)))
    return torch.rand((1, spec.in_channels, *(s.stop - s.start for s in tile.read))), tile.keep


def ready(form: torch.nn.Module, dtype: torch.dtype, layout: torch.memory_format) -> torch.nn.Module:
    form = form.to(dtype)
    form.head.float()
    return arranged(form, layout)


@torch.inference_mode()
def forms(compare: Compare) -> Iterator[dict[str, object]]:
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
        yield {"ndim": ndim, "features": features, "levels": levels, "tile": edge, **compare(ways)}


def whole(net: UNet) -> PlainNet:
    return PlainNet(copy.deepcopy(net), net.spec.lattice, net.spec.out_channels).eval()


def one_step(net: UNet) -> InferenceNet:
    return InferenceNet(net, one_step=True)


@torch.inference_mode()
def fold(compare: Compare) -> Iterator[dict[str, object]]:
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
            yield {"ndim": ndim, "features": features, "tile": edge, "dtype": str(dtype)[6:], **compare(ways)}


@torch.inference_mode()
def compiled(device: Device, turns: int) -> Iterator[dict[str, object]]:
    numbers = ("float32",) if device.kind == "cpu" else ("float32", "bfloat16")
    for features, dtype, edge in product((16, 32), numbers, (64, 256, 512)):
        net, layout = seeded(features=features), channels_last(2)
        x, keep = tile_of(net.spec, edge)
        x = x.to(device.torch_device, choose_precision(dtype, device, 2).dtype).contiguous(memory_format=layout)
        passes, warm, results = {}, {}, {}
        for name, make in {"ours": own, "torch.compile": by_compiler, "CUDA graph": captured}.items():
            if name == "CUDA graph" and device.kind != "cuda":
                continue
            torch.compiler.reset()
            started = time.perf_counter()
            passes[name] = make(net, device, dtype, keep, x)
            results[name] = finished(passes[name], x, device).float().clone().cpu().numpy()
            warm[name] = time.perf_counter() - started
        seconds = in_turns({name: partial(finished, run, x, device) for name, run in passes.items()}, turns)
        for name, values in seconds.items():
            yield {
                "features": features, "levels": net.spec.levels, "dtype": dtype, "tile": edge, "way": name,
                "seconds": statistics.median(values), "ratio": ratio(values, seconds["ours"]),
                "warm_up": max(0.0, warm[name] - statistics.median(values)),
                "difference": off(results[name], results["ours"]),
            }  # fmt: skip


def finished(run: Callable[[Tensor], Tensor], x: Tensor, device: Device) -> Tensor:
    """A pass that is done when the call returns."""
    y = run(x)
    if device.kind == "cuda":
        torch.cuda.synchronize(device.torch_device)
    return y


def own(net: UNet, device: Device, dtype: str, keep: Window, x: Tensor) -> Callable[[Tensor], Tensor]:
    form = ready_network(net, device, dtype, tiled=True)
    return lambda x: form(x, keep)


def by_compiler(net: UNet, device: Device, dtype: str, keep: Window, x: Tensor) -> Callable[[Tensor], Tensor]:
    form = ready(InferenceNet(net).to(device.torch_device), x.dtype, channels_last(2))
    return torch.compile(lambda x: form(x, keep), dynamic=False)


def captured(net: UNet, device: Device, dtype: str, keep: Window, x: Tensor) -> Callable[[Tensor], Tensor]:
    """One pass as a CUDA graph: one launch for all its kernels."""
    form, given = ready_network(net, device, dtype, tiled=True), x.clone()
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
