"""`shiftseg paper`: the experiments of the paper, each with its expected outcome."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from napari_shiftseg.cli.console import Console
from napari_shiftseg.cli.options import whole
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.files import check_folder

if TYPE_CHECKING:
    from napari_shiftseg.paper import Experiment, Finding

EXAMPLE = "shiftseg paper fig5a"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help="names as the command without any lists them, or all")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="size", action="store_const", const="quick", default="quick",
                      help="small networks, up to eight minutes each (default)")  # fmt: skip
    size.add_argument("--full", dest="size", action="store_const", const="full", help="networks of the paper's size: hours")
    parser.add_argument(
        "--seed", type=whole(0), nargs="+", default=[0], metavar="N", help="one run each, where anything is random (default: 0)"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="keep the trainings there, so that they can go on")


def run(args: argparse.Namespace, console: Console) -> int:
    """Run the experiments; 3 if an expectation is not met."""
    import torch

    from napari_shiftseg.paper import EXPERIMENTS

    if not args.figures:
        return _list(console)
    unknown = [name for name in args.figures if name not in EXPERIMENTS and name != "all"]
    if unknown:
        raise SettingsError(f"there is no experiment {unknown[0]}; give all, or some of {', '.join(EXPERIMENTS)}.")
    chosen = list(EXPERIMENTS) if "all" in args.figures else list(dict.fromkeys(args.figures))
    findings = []
    with ExitStack() as stack:
        # such small networks train up to twice as fast on one core, and runs of several seeds fit side by side
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)
        # even without --out, experiments that share a network train it once
        if args.out is not None:
            check_folder(args.out)
        folder = args.out or Path(stack.enter_context(TemporaryDirectory(prefix="shiftseg-paper-")))
        folder.mkdir(parents=True, exist_ok=True)
        for name in chosen:
            # a run with nothing random in it is one run, whatever its seed
            for seed in args.seed if EXPERIMENTS[name].setups[args.size].random else args.seed[:1]:
                finding = _run_one(EXPERIMENTS[name], args.size, seed, folder=folder, console=console)
                findings.append(finding)
                _say(EXPERIMENTS[name], finding, console)
    rows = [{**_said(EXPERIMENTS[finding.name]), **asdict(finding)} for finding in findings]
    console.document({**_machine(), "size": args.size, "findings": rows})
    return 0 if all(finding.met for finding in findings) else 3


def _said(experiment: Experiment) -> dict[str, object]:
    return {"source": experiment.source, "claim": experiment.claim, "certain": experiment.certain}


def _machine() -> dict[str, object]:
    import platform
    import time

    import torch

    return {"date": time.strftime("%Y-%m-%d"), "machine": f"{platform.machine()}, torch {torch.__version__}"}


def _list(console: Console) -> int:
    from napari_shiftseg.paper import EXPERIMENTS

    for name, experiment in EXPERIMENTS.items():
        console.say(f"{name:13} {experiment.claim}")
    console.document({"experiments": {name: one.claim for name, one in EXPERIMENTS.items()}})
    return 0


def _run_one(experiment: Experiment, size: str, seed: int, *, folder: Path, console: Console) -> Finding:
    from napari_shiftseg.events import drain
    from napari_shiftseg.paper import run_steps

    with console.progress() as show:
        return drain(run_steps(experiment, size, seed, folder=folder), show)  # type: ignore[arg-type]


def _say(experiment: Experiment, finding: Finding, console: Console) -> None:
    measured = ", ".join(f"{name} {value}" for name, value in finding.measured.items())
    met = "met" if finding.met else "NOT MET"
    certain = ", as it has to be: a check of the code" if experiment.certain and finding.met else ""
    console.say(f"{finding.name}, seed {finding.seed}: {met}{certain} ({finding.seconds:g} s)")
    console.field("  claim", experiment.claim)
    console.field("  expected", finding.expected)
    console.field("  measured", measured)
