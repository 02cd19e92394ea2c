"""Our prediction against the tilers of other packages: time, memory, and how far each is from its own whole image.

    python benchmarks/peers.py --out docs/measurements/peers.json          # needs MONAI beside this package

Both sides run the same weights in one process and in turns, from an image in main memory to an embedding there: ours a U-Net
with valid convolutions, the peers its zero-padded twin. Each row has the seconds of each turn; a ratio is taken turn by turn.
Peak memory and the operations (by PyTorch's counter) come from a process of its own for each row, in which nothing is timed.
The difference is that to the whole image in one pass of the same network in the same number format; where that does not fit
the memory, to tiles with all the context that there is.

At last, an image of 1003 x 1003 px, which is no multiple of any period: where each tiler puts its windows, and what it changes,
for an untrained network and the bundled ones. `inside` and the labels leave out all pixels that can see the border of the
image. A window is off the lattice where its first pixel and that of the whole image are no whole periods apart.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from math import prod
from typing import Any

import numpy as np
import tifffile
import torch
from bench import adjusted_rand, flop_counter, in_own_process, in_turns, keep, origin, parser, peak_of, told
from peer_tilers import Network, Starts, Tiler, shifted_blocks, tilers
from scipy.special import expit

from napari_shiftseg import geometry, label_instances, load_model, synthetic
from napari_shiftseg.events import drain
from napari_shiftseg.geometry import TilePlan, UNetSpec, plan_tiles
from napari_shiftseg.instances import LabelSettings
from napari_shiftseg.network import Normalisation, UNet, choose_device, measure_rates, predict_steps
from napari_shiftseg.network.device import channels_last
from napari_shiftseg.network.windows import computed_strips

WHOLE, PADDED_WHOLE = "whole image", "whole image, zero-padded"
OURS = (WHOLE, "tiles", "stream")
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
# number of axes -> poolings, features, and window of the peers, px
NETWORKS = {2: (3, 16, 256), 3: (2, 8, 64)}
# the image that is no multiple, tiles and strips that it is cut into
EDGE, TILES, STRIPS = 1003, (48, 64, 128, 192, 256, 320, 512), (16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Config:
    """Number format and memory layout, equal on both sides."""

    name: str

    @property
    def dtype(self) -> str:
        return DTYPES[self.name.split()[0]]

    def layout(self, ndim: int) -> torch.memory_format:
        return channels_last(ndim) if self.name.endswith("last") else torch.contiguous_format


CONFIGS = (Config("fp32 contiguous"), Config("fp32 channels_last"), Config("bf16 channels_last"))
PLAIN = CONFIGS[1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A network with its zero-padded twin of the same weights, and an image."""

    net: UNet
    twin: UNet
    image: np.ndarray
    forms: dict[Config, Network] = field(default_factory=dict)

    @classmethod
    def random(cls, ndim: int, edge: int) -> Subject:
        """An untrained network: times do not depend on the weights."""
        torch.manual_seed(0)
        spec = UNetSpec(ndim=ndim, levels=NETWORKS[ndim][0], features=NETWORKS[ndim][1], embedding_dim=8)
        return cls.of(UNet(spec), np.random.default_rng(0).random((1, *(edge,) * ndim), np.float32))

    @classmethod
    def of(cls, net: UNet, image: np.ndarray) -> Subject:
        twin = UNet(replace(net.spec, padding="zero"))
        twin.load_state_dict(net.state_dict())
        return cls(net=net.eval(), twin=twin.eval(), image=image)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.image.shape[1:]

    @property
    def border(self) -> int:
        return self.net.spec.reach[0] + 1


# -- both sides -------------------------------------------------------------------------------------------------------


def run_ours(subject: Subject, method: str, config: Config, write: Any = None, strip: int | None = None) -> np.ndarray:
    """Our prediction, (out_channels, *shape): `WHOLE` is one tile, `PADDED_WHOLE` the same of the twin."""
    net = subject.twin if method == PADDED_WHOLE else subject.net
    plan = plan_tiles(net.spec, subject.shape, 1 << 30 if method in (WHOLE, PADDED_WHOLE) else write)
    with laid_out(config):
        if strip is not None:
            return run_strips(net, subject.image, plan, strip, config)
        way = "stream" if method == "stream" else "tiles"
        found = drain(predict_steps(net, subject.image, plan, device="cpu", dtype=config.dtype, method=way))
    return found.embedding if found.foreground is None else np.concatenate([found.embedding, found.foreground[None]])


def run_strips(net: UNet, image: np.ndarray, plan: TilePlan, strip: int, config: Config) -> np.ndarray:
    """The stream with strips of a height that `predict` does not let one choose."""
    stream, limits = geometry.plan_stream(plan, strip=strip), Normalisation(low=0, high=0).limits(image)
    found = np.empty((net.spec.out_channels, *plan.result_shape), np.float32)
    for write, block in computed_strips(net, image, stream, device=choose_device("cpu"), dtype=config.dtype, limits=limits):
        found[(slice(None), *write)] = block
    if net.spec.foreground:
        found[-1] = expit(found[-1])
    return found


@contextmanager
def laid_out(config: Config) -> Iterator[None]:
    """Our prediction always takes channels last; for the comparison it can be told to take contiguous maps."""
    modules = [module for name, module in sys.modules.items() if name.startswith("napari_shiftseg.network")]
    held = [module for module in modules if getattr(module, "channels_last", None) is channels_last]
    try:
        for module in held:
            module.channels_last = config.layout
        yield
    finally:
        for module in held:
            module.channels_last = channels_last


@torch.inference_mode()
def run_peer(subject: Subject, tiler: Tiler, config: Config) -> np.ndarray:
    """A peer's tiler over the twin, (out_channels, *shape)."""
    found = tiler.run(subject.image, prepared(subject, config))
    if subject.net.spec.foreground:
        found[-1] = expit(found[-1])
    return found


def prepared(subject: Subject, config: Config) -> Network:
    """The twin in a number format and a layout, made once; its head stays in float32, as ours does."""
    if config not in subject.forms:
        dtype, layout = getattr(torch, config.dtype), config.layout(subject.twin.spec.ndim)
        net = UNet(subject.twin.spec).eval().requires_grad_(False)
        net.load_state_dict(subject.twin.state_dict())
        net = net.to(dtype).to(memory_format=layout)
        net.head.float()
        subject.forms[config] = lambda x: net(x.to(dtype).contiguous(memory_format=layout)).float()
    return subject.forms[config]


def runners(subject: Subject) -> dict[str, Callable[[Config], np.ndarray]]:
    """All that is compared, by name: first ours, then the peers."""
    ndim = len(subject.shape)
    found: dict[str, Callable[[Config], np.ndarray]] = {
        name: lambda config, name=name: run_ours(subject, name, config) for name in (*OURS, PADDED_WHOLE)
    }
    for name, tiler in tilers(ndim, NETWORKS[ndim][2]).items():
        found[name] = lambda config, tiler=tiler: run_peer(subject, tiler, config)
    return found


def difference(found: np.ndarray, wanted: np.ndarray, border: int) -> dict[str, float]:
    """How far (E, *shape) is from that of the whole image, with all pixels and without those next to the border.

    The error of a pixel is the length of the difference of its two embeddings, over the root mean square length of all
    embeddings of the whole image.
    """
    squares, total = np.zeros(found.shape[1:], np.float64), 0.0
    for one, other in zip(found, wanted, strict=True):
        squares += np.square(one.astype(np.float64) - other)
        total += float(np.square(other, dtype=np.float64).mean())
    error = np.sqrt(squares / total)
    inner = error[tuple(slice(border, max(border + 1, size - border)) for size in error.shape)]
    values = {}
    for name, part in (("", error), ("inside_", inner)):
        values[f"{name}max"], values[f"{name}relative_l2"] = float(part.max()), float(np.sqrt(np.square(part).mean()))
        values[f"{name}share_above_1_percent"] = float((part > 0.01).mean())
    return values


# -- like for like ----------------------------------------------------------------------------------------------------


def compare(ndim: int, edge: int, wishes: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of one size: all methods in all configurations, in turns."""
    subject = Subject.random(ndim, edge)
    spec, calls = subject.net.spec, runners(subject)
    fits = spec.peak_bytes(spec.input_size(subject.shape)) < choose_device("cpu").free / 2
    if not fits:
        calls = {name: call for name, call in calls.items() if name not in (WHOLE, PADDED_WHOLE)}
    ways = {(name, config): call for config in map(Config, wishes.configs) for name, call in calls.items()}
    for call in runners(Subject.random(ndim, 64)).values():  # warms up
        call(PLAIN)
    differences: dict[Any, dict[str, float]] = {}
    for config in map(Config, wishes.configs):
        for ours in (True, False):
            mine = [name for name in calls if (name in OURS) == ours]
            judge = (WHOLE if ours else PADDED_WHOLE) if fits else "tiles"
            twin = subject if fits or ours else Subject.of(subject.twin, subject.image)
            reference = run_ours(twin, judge, config)
            differences |= {(name, config): difference(calls[name](config), reference, subject.border) for name in mine}
    seconds = in_turns({way: lambda way=way, call=call: call(way[1]) for way, call in ways.items()}, wishes.turns)
    chosen = next(cost.method for cost in geometry.describe_methods(spec, subject.shape) if cost.chosen)
    rows = []
    for name, config in ways:
        row = {"ndim": ndim, "edge": edge, "name": name, "ours": name in OURS, "config": config.name, "chosen": name == chosen}
        row |= {"seconds": seconds[name, config], "median": statistics.median(seconds[name, config])}
        row |= {"difference": differences[name, config]}
        row |= {} if wishes.no_memory else in_own_process("--one", ndim, edge, config.name, name)
        flops = row.get("counted") or planned_flops(subject, name)
        row |= {"flops": flops, "over_ideal": flops / spec.flops_per_pixel / edge**ndim}
        rows.append(told(row | {"flops_per_second": flops / row["median"]}))
    return rows


def planned_flops(subject: Subject, name: str) -> float:
    """Operations by formula: of our plans, or of all windows of a peer."""
    spec, shape = (subject.twin if name == PADDED_WHOLE else subject.net).spec, subject.shape
    if name in (*OURS, PADDED_WHOLE):
        plan = plan_tiles(spec, shape, 1 << 30 if name in (WHOLE, PADDED_WHOLE) else None)
        return geometry.plan_stream(plan).flops if name == "stream" else plan.flops
    tiler = tilers(len(shape), NETWORKS[len(shape)][2])[name]
    return prod(len(axis) for axis in tiler.starts(shape)) * subject.twin.spec.flops((tiler.window,) * len(shape))


def memory_of(ndim: int, edge: int, config: Config, name: str) -> dict[str, int]:
    """Peak memory above the start, result included, and counted operations."""
    runners(Subject.random(ndim, 64))[name if name in OURS else PADDED_WHOLE](config)  # warms up
    call = runners(Subject.random(ndim, edge))[name]
    with flop_counter() as counter:
        peak = peak_of(lambda: call(config))
    return {"counted": counter.get_total_flops(), "peak_memory": peak}


def ratios_of(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Seconds of each peer over ours, turn by turn; out of the box a peer runs as PyTorch does if nobody touches it."""
    for mine in (row for row in rows if row["ours"]):
        for peer in (row for row in rows if not row["ours"]):
            alike = peer["config"] == mine["config"]
            if alike or (peer["config"] == CONFIGS[0].name and mine["config"] != CONFIGS[0].name):
                turns = [a / b for a, b in zip(peer["seconds"], mine["seconds"], strict=True)]
                yield {
                    "ndim": mine["ndim"], "edge": mine["edge"], "kind": "like for like" if alike else "out of the box",
                    "ours": mine["name"], "config": mine["config"], "peer": peer["name"], "peer_config": peer["config"],
                    "median": statistics.median(turns), "lowest": min(turns), "highest": max(turns),
                }  # fmt: skip


# -- the image of 1003 px ---------------------------------------------------------------------------------------------


def odd_image(names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One entry for an untrained network, and one for each trained model."""
    yield examine("untrained", Subject.random(2, EDGE), None)
    for name in names:
        model = load_model(name)
        image = model.record.normalisation.limits(picture(name)).apply(picture(name))
        settings = LabelSettings(coordinates=model.spec.coordinates, **asdict(model.record.clustering))
        yield examine(name, Subject.of(model.module, image), settings)


def picture(name: str) -> np.ndarray:
    """An image for a model, (1, 1003, 1003): the sample of nuclei, mirrored beyond its borders, or disks on a lattice."""
    if name.startswith("disks"):
        return synthetic.disks((EDGE, EDGE), 13, 5).image[None].astype(np.float32)
    sample = tifffile.imread(str(files("napari_shiftseg") / "samples" / "nuclei.tif"))
    return np.pad(sample, [(0, EDGE - size) for size in sample.shape], mode="reflect")[None].astype(np.float32)


def examine(name: str, subject: Subject, settings: LabelSettings | None) -> dict[str, Any]:
    """All tilers on one network, each against the whole image in one pass."""
    spec, period = subject.net.spec, subject.net.spec.period[0]
    start, rows = first_pixels(spec, 1 << 30), []
    judge = judging(run_ours(subject, WHOLE, PLAIN), subject, settings)
    for edge in (edge // period * period for edge in TILES):
        judged = judge(run_ours(subject, "tiles", PLAIN, edge))
        rows.append({"name": f"tiles of {edge} px", "ours": True, **judged, **phases(first_pixels(spec, edge), spec, start)})
    for strip in STRIPS:
        judged = judge(run_ours(subject, "stream", PLAIN, strip=max(strip, period)))
        rows.append({"name": f"stream, strips of {strip} rows", "ours": True, **judged})
    judge = judging(whole_of_twin(subject), subject, settings)
    for peer in (*tilers(2, 256).values(), *shifted_blocks(256, (48,)).values()):
        judged = judge(run_peer(subject, peer, PLAIN))
        rows.append({"name": peer.name, "ours": False, **judged, **phases(peer.starts(subject.shape), spec, ((0,), (0,)))})
    return told({"network": name, "edge": EDGE, "period": period, "border": subject.border, "rows": rows})


def judging(whole: np.ndarray, subject: Subject, settings: LabelSettings | None) -> Callable[[np.ndarray], dict[str, Any]]:
    """What compares results with one of the whole image."""
    spec, border = subject.net.spec, subject.border

    def labelled(found: np.ndarray) -> np.ndarray:
        """Without what sees the border, where padding differs from tiler to tiler."""
        found = found[(slice(None), *(slice(border, size - border) for size in found.shape[1:]))]
        foreground = found[spec.embedding_dim] if spec.foreground else None
        return label_instances(found[: spec.embedding_dim], foreground, settings=settings)

    wanted = labelled(whole) if settings else None

    def judge(found: np.ndarray) -> dict[str, Any]:
        values: dict[str, Any] = {"difference": difference(found[: spec.embedding_dim], whole[: spec.embedding_dim], border)}
        if wanted is not None:
            labels = labelled(found)
            values |= {"instances": int(labels.max()), "instances_whole": int(wanted.max())}
            values |= {"ari": adjusted_rand(labels, wanted), "pixels_decided_otherwise": otherwise(labels, wanted)}
        return values

    return judge


def whole_of_twin(subject: Subject) -> np.ndarray:
    """One pass of the zero-padded network over the image, which is filled with zeros up to whole periods."""
    fill = [(0, -edge % period) for edge, period in zip(subject.shape, subject.twin.spec.period, strict=True)]
    padded = torch.from_numpy(np.pad(subject.image, [(0, 0), *fill]))[None]
    one = Tiler(name=PADDED_WHOLE, window=0, run=lambda image, net: net(padded)[0].numpy(), starts=lambda shape: ())
    return run_peer(subject, one, PLAIN)[(slice(None), *(slice(0, edge) for edge in subject.shape))]


def first_pixels(spec: UNetSpec, edge: int) -> Starts:
    """Where our tiles begin to read, image pixels per axis."""
    plan = plan_tiles(spec, (EDGE, EDGE), edge)
    return tuple(
        tuple(read.start - before for read, _, _ in tiles) for tiles, (before, _) in zip(plan.axes, plan.pad, strict=True)
    )


def phases(starts: Starts, spec: UNetSpec, whole: Starts) -> dict[str, Any]:
    """Phases of the windows relative to the whole image per axis, and how many windows are off the lattice."""
    found = [
        [(start - first[0]) % period for start in axis] for axis, first, period in zip(starts, whole, spec.period, strict=True)
    ]
    count, on = prod(map(len, found)), prod(axis.count(0) for axis in found)
    return {"windows": count, "off_lattice": count - on, "phases": [sorted(set(map(int, axis))) for axis in found]}


def otherwise(labels: np.ndarray, truth: np.ndarray) -> int:
    """Pixels outside the largest overlap of their instance with one of the whole image's, whatever the numbers."""
    pairs, counts = np.unique(labels.ravel().astype(np.int64) * (int(truth.max()) + 1) + truth.ravel(), return_counts=True)
    best = np.zeros(int(labels.max()) + 1, np.int64)
    np.maximum.at(best, pairs // (int(truth.max()) + 1), counts)
    return int(labels.size - best.sum())


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--sizes", nargs="*", type=int, default=[512, 1024], help="edges of 2D images, px")
    made.add_argument("--volumes", nargs="*", type=int, default=[96], help="edges of 3D images, px")
    made.add_argument("--turns", type=int, default=3)
    made.add_argument("--configs", nargs="*", default=[config.name for config in CONFIGS], metavar="'fp32 contiguous'")
    made.add_argument("--no-memory", action="store_true", help="no process for each row, so no memory and no operations")
    made.add_argument("--no-odd-image", action="store_true")
    made.add_argument("--models", nargs="*", default=["nuclei", "disks-fig3"], help="trained ones, for the image of 1003 px")
    made.add_argument("--one", nargs=4, metavar=("NDIM", "EDGE", "CONFIG", "NAME"), help=argparse.SUPPRESS)
    wishes = made.parse_args()
    if wishes.one:
        ndim, edge, config, name = wishes.one
        told(memory_of(int(ndim), int(edge), Config(config), name))
        return
    load, rates = os.getloadavg()[0], [measure_rates("cpu")]
    sizes = [compare(ndim, edge, wishes) for ndim, edges in ((2, wishes.sizes), (3, wishes.volumes)) for edge in edges]
    rates.append(measure_rates("cpu"))
    matrix = {dtype: max(one.matrix[dtype] for one in rates) for dtype in rates[0].matrix}
    for row in (row for rows in sizes for row in rows):
        row["share_of_matrix_rate"] = row["flops_per_second"] / matrix[Config(row["config"]).dtype]
    settings: dict[str, Any] = {"turns": wishes.turns}
    for place, name in enumerate(("levels", "features", "window")):
        settings[name] = {str(ndim): NETWORKS[ndim][place] for ndim in NETWORKS}
    document = origin("monai", "scipy") | {
        "rates": {"bandwidth": max(one.bandwidth for one in rates), "matrix": matrix},
        "settings": settings,
        "rows": [row for rows in sizes for row in rows],
        "ratios": [ratio for rows in sizes for ratio in ratios_of(rows)],
        "odd_image": [] if wishes.no_odd_image else list(odd_image(wishes.models)),
    }
    document["machine"]["load"] = [round(load, 2), round(os.getloadavg()[0], 2)]
    keep(wishes.out, document)


if __name__ == "__main__":
    main()
