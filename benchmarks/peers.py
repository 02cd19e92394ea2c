"""Our prediction against the tilers of other packages: time, memory, and how far each is from its own whole image.

    python benchmarks/peers.py --out docs/measurements/peers.json

needs MONAI beside PyTorch, NumPy, SciPy, scikit-image, tifffile and safetensors, and this package on PYTHONPATH; nothing else.

Both sides run the same weights in one process and in turns, from an image in main memory to an embedding there: ours a U-Net
with valid convolutions, the peers its zero-padded twin. Each row has the seconds of each turn; a ratio is taken turn by turn.
Peak memory and the operations (by PyTorch's counter) come from a process of its own for each row, in which nothing is timed.
The difference is that to the whole image in one pass of the same network in the same number format; where that does not fit
the memory, to tiles with all the context that there is.

At last, an image of 1003 px, which is no multiple of any period: where each tiler puts its windows, and what it changes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from flop_counter import flop_counter
from machine import processor
from odd_image import odd_image
from peer_runs import (
    CONFIGS,
    PADDED_WHOLE,
    WHOLE,
    Config,
    Subject,
    difference,
    ideal_flops,
    methods,
    planned_flops,
    runners,
    synchronise,
    versions,
)

from napari_shiftseg import geometry
from napari_shiftseg.network import choose_device, measure_rates

TF32 = Config(dtype="fp32", layout="contiguous", tf32=True)
# what a user gets: ours in its default and in bfloat16, theirs in PyTorch's default layout and format
OURS_OUT_OF_THE_BOX = ("fp32 channels_last", "bf16 channels_last")


def main() -> None:
    wishes = arguments()
    if wishes.one:
        ndim, edge, config, name = wishes.one
        print(json.dumps(memory_of(subject_of(int(ndim), int(edge), wishes), Config.of(config), name, wishes)))
        return
    load = os.getloadavg()
    rates = [measure_rates(wishes.device)]
    rows, ratios = [], []
    for ndim, edges in ((2, wishes.sizes), (3, wishes.volumes)):
        for edge in edges:
            found = compare(ndim, edge, wishes)
            rows += found
            ratios += ratios_of(found)
            show(found)
    rates.append(measure_rates(wishes.device))
    odd = [] if wishes.no_odd_image else odd_image(wishes.device, wishes.models)
    matrix = {dtype: max(one.matrix[dtype] for one in rates) for dtype in rates[0].matrix}
    for row in rows:
        row["share_of_matrix_rate"] = row["flops_per_second"] / matrix["float32" if row["config"][:4] == "fp32" else "bfloat16"]
    document = {
        "date": time.strftime("%Y-%m-%d"),
        "command": "python benchmarks/peers.py " + shlex.join(sys.argv[1:]),
        "machine": {
            "platform": platform.machine(),
            "processor": processor(),
            "device": choose_device(wishes.device).describe(),
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load": [round(load[0], 2), round(os.getloadavg()[0], 2)],
        },
        "versions": versions(),
        "rates": {"bandwidth": max(one.bandwidth for one in rates), "matrix": matrix},
        "settings": {
            "levels": {"2": wishes.levels[0], "3": wishes.levels[1]},
            "features": {"2": wishes.features[0], "3": wishes.features[1]},
            "window": {"2": wishes.window[0], "3": wishes.window[1]},
            "batch": wishes.batch,
            "turns": wishes.turns,
        },
        "rows": rows,
        "ratios": ratios,
        "odd_image": odd,
    }
    if wishes.out:
        wishes.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    mine = {(row["ndim"], row["edge"], row["name"]) for row in rows if row["ours"] and row["chosen"]}
    for one in (one for one in ratios if (one["ndim"], one["edge"], one["ours"]) in mine):
        sides = f"{one['peer']} ({one['peer_config']}) over {one['ours']} ({one['config']})"
        print(f"{one['ndim']}D {one['edge']}: {sides}: {one['median']:.2f} ({one['lowest']:.2f} to {one['highest']:.2f})")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", type=int, default=[512, 1024], help="edges of 2D images, px")
    parser.add_argument("--volumes", nargs="*", type=int, default=[96], help="edges of 3D images, px")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--configs", nargs="*", default=[config.name for config in CONFIGS], metavar="'fp32 contiguous'")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="only these peers")
    parser.add_argument("--levels", nargs=2, type=int, default=[3, 2], metavar=("IN2D", "IN3D"))
    parser.add_argument("--features", nargs=2, type=int, default=[16, 8], metavar=("IN2D", "IN3D"))
    parser.add_argument("--window", nargs=2, type=int, default=[256, 64], metavar=("IN2D", "IN3D"), help="of the peers, px")
    parser.add_argument("--batch", type=int, default=1, help="windows per call, for MONAI")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-memory", action="store_true", help="no process for each row, so no memory and no operations")
    parser.add_argument("--no-odd-image", action="store_true")
    parser.add_argument("--models", nargs="*", default=["nuclei", "disks-fig3"], help="trained ones, for the image of 1003 px")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=4, metavar=("NDIM", "EDGE", "CONFIG", "NAME"), help=argparse.SUPPRESS)
    return parser.parse_args()


def subject_of(ndim: int, edge: int, wishes: argparse.Namespace) -> Subject:
    return Subject.random(ndim, edge, wishes.levels[ndim - 2], wishes.features[ndim - 2], wishes.device)


def compare(ndim: int, edge: int, wishes: argparse.Namespace) -> list[dict]:
    """Rows of one size: all methods in all configurations, in turns."""
    subject = subject_of(ndim, edge, wishes)
    calls = runners(subject, wishes.window[ndim - 2], wishes.batch)
    if not fits(subject):
        calls = {name: call for name, call in calls.items() if name not in (WHOLE, PADDED_WHOLE)}
    if wishes.only:
        calls = {name: call for name, call in calls.items() if name in (WHOLE, PADDED_WHOLE, *methods(), *wishes.only)}
    configs = [Config.of(name) for name in wishes.configs]
    if subject.device.type == "cuda":
        configs.append(TF32)
    wanted = [(name, config) for config in configs for name in calls if not (config.tf32 and name in (WHOLE, *methods()))]
    seconds: dict[tuple[str, str], list[float]] = {(name, config.name): [] for name, config in wanted}
    differences = {}
    warm = subject_of(ndim, 64, wishes)
    for call in runners(warm, wishes.window[ndim - 2], wishes.batch).values():
        call(configs[0])
    references: dict[tuple[bool, str], np.ndarray] = {}
    for turn in range(wishes.turns):
        # every other turn goes backwards, so that a drift of the machine does not favour one side
        for name, config in wanted if turn % 2 == 0 else reversed(wanted):
            synchronise(subject.device)
            started = time.perf_counter()
            result = calls[name](config)
            synchronise(subject.device)
            seconds[name, config.name].append(time.perf_counter() - started)
            if turn == 0:
                key = (name in (WHOLE, *methods()), config.name)
                references = {k: v for k, v in references.items() if k[1] == config.name}
                if key not in references:
                    references[key] = result if name in (WHOLE, PADDED_WHOLE) else exact(subject, key[0], config)
                differences[name, config.name] = difference(result, references[key], border=subject.net.spec.reach[0] + 1)
            del result
    rows = []
    for name, config in wanted:
        row = {"ndim": ndim, "edge": edge, "name": name, "ours": name in (WHOLE, *methods()), "config": config.name}
        row |= {"seconds": seconds[name, config.name], "median": statistics.median(seconds[name, config.name])}
        row |= {"difference": differences[name, config.name], "result_bytes": 32 * edge**ndim}
        if not wishes.no_memory:
            row |= in_own_process(row, wishes)
        row |= flops_of(subject, name, wishes.window[ndim - 2], row)
        row["chosen"] = name == chosen(subject)
        rows.append(row)
    return rows


def fits(subject: Subject) -> bool:
    """Whether one pass over the whole image leaves half of the memory free."""
    spec = subject.net.spec
    free = choose_device(str(subject.device)).free
    return spec.peak_bytes(spec.input_size(subject.shape)) < free / 2


def exact(subject: Subject, ours: bool, config: Config) -> np.ndarray:
    """What the whole image would give, where it does not fit: tiles on the lattice with all their context."""
    from peer_runs import run_ours

    return run_ours(subject if ours else Subject.of(subject.twin, subject.image, str(subject.device)), "tiles", config)


def chosen(subject: Subject) -> str:
    """What `predict` takes unless it is told otherwise."""
    if not hasattr(geometry, "describe_methods"):
        return "tiles"
    return next(cost.method for cost in geometry.describe_methods(subject.net.spec, subject.shape) if cost.chosen)


def flops_of(subject: Subject, name: str, window: int, row: dict) -> dict[str, object]:
    """Operations over those of the same pixels in a large image; by formula where nothing was counted."""
    ideal, planned = ideal_flops(subject), planned_flops(subject, name, window)
    flops = row.get("counted") or planned
    return {"flops": flops, "planned": planned, "over_ideal": flops / ideal, "flops_per_second": flops / row["median"]}


def in_own_process(row: dict, wishes: argparse.Namespace) -> dict[str, int]:
    one = ["--one", str(row["ndim"]), str(row["edge"]), row["config"], row["name"], "--device", wishes.device]
    for name in ("levels", "features", "window"):
        one += [f"--{name}", *map(str, getattr(wishes, name))]
    command = [sys.executable, "-W", "ignore", __file__, *one, "--batch", str(wishes.batch)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(run.stdout.splitlines()[-1])


def memory_of(subject: Subject, config: Config, name: str, wishes: argparse.Namespace) -> dict[str, int]:
    """Peak memory above the start, result included, and counted operations."""
    ndim = len(subject.shape)
    window = wishes.window[ndim - 2]
    small = subject_of(ndim, 8 * subject.net.spec.period[0], wishes)
    runners(small, 32, wishes.batch)[WHOLE if name == WHOLE or name in methods() else PADDED_WHOLE](config)
    call = runners(subject, window, wishes.batch)[name]
    if subject.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(subject.device)
    device_before, before = device_memory(subject.device), forget_peak()
    with flop_counter() as counter:
        call(config)
    found = {"counted": counter.get_total_flops(), "peak_memory": peak_memory() - before}
    if subject.device.type == "cuda":
        found["device_memory"] = torch.cuda.max_memory_allocated(subject.device) - device_before
    return found


def device_memory(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def forget_peak() -> int:
    """Start the peak anew (Linux) and give the memory in use, bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def peak_memory() -> int:
    return status("VmHWM")


def status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def ratios_of(rows: list[dict]) -> list[dict]:
    """Seconds of each peer over ours, turn by turn."""
    found = []
    plain = TF32.name if any(row["config"] == TF32.name for row in rows) else CONFIGS[0].name
    for mine in (row for row in rows if row["ours"]):
        for peer in (row for row in rows if not row["ours"]):
            alike = peer["config"] == mine["config"]
            if not alike and (peer["config"] != plain or mine["config"] not in OURS_OUT_OF_THE_BOX):
                continue
            turns = [a / b for a, b in zip(peer["seconds"], mine["seconds"], strict=True)]
            found.append(
                {
                    "ndim": mine["ndim"],
                    "edge": mine["edge"],
                    "kind": "like for like" if alike else "out of the box",
                    "ours": mine["name"],
                    "config": mine["config"],
                    "peer": peer["name"],
                    "peer_config": peer["config"],
                    "median": statistics.median(turns),
                    "lowest": min(turns),
                    "highest": max(turns),
                }
            )
    return found


def show(rows: list[dict]) -> None:
    for row in rows:
        error = row["difference"]
        print(
            f"{row['ndim']}D {row['edge']:5d} {row['config']:19s} {row['name']:26s} {row['median']:8.3f} s "
            f"{row['flops_per_second'] / 1e9:7.1f} GFLOP/s, {row['over_ideal']:5.2f} of ideal, "
            f"{row.get('peak_memory', 0) / 1e6:7.0f} MB; off by {error['inside_max']:.1e}, {error['inside_relative_l2']:.1e}, "
            f"{100 * error['inside_share_above_1_percent']:.2f} %",
            flush=True,
        )


if __name__ == "__main__":
    main()
