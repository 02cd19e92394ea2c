"""`shiftseg probe`: period, margin and reach of a network, found by moving its input."""

from __future__ import annotations

import argparse

from napari_shiftseg.cli.console import Console
from napari_shiftseg.cli.options import indices
from napari_shiftseg.cli.prepare import describe_model

EXAMPLE = "shiftseg probe --model nuclei"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--model", default="nuclei", help="bundled name or file (default: %(default)s)")
    parser.add_argument("--shifts", type=indices, metavar="4,8", help="shifts to test, px (default: divisors of the period)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random images (default: %(default)s)")


def run(args: argparse.Namespace, console: Console) -> int:
    """Probe; 3 if the network does not keep what its file declares."""
    from napari_shiftseg.analysis import probe_steps
    from napari_shiftseg.events import drain
    from napari_shiftseg.io import load_model

    model = load_model(args.model)
    console.field("model", describe_model(model))
    with console.progress() as show:
        probe = drain(probe_steps(model, shifts=args.shifts, seed=args.seed), show)
    console.field("result", probe.text)
    for axis, felt in enumerate(probe.sensitivity):
        listed = ", ".join(f"{shift} px: {value:.1e}" for shift, value in felt.items())
        console.field("change" if axis == 0 else "", f"axis {axis}, by shift: {listed}")
    names = ("period", "margin", "reach", "sensitivity", "distinct", "location_aware", "agrees", "size", "precision", "text")
    console.document({"model": model.name, "sha256": model.hash, **{name: getattr(probe, name) for name in names}})
    # a probe of chosen shifts may leave the period out
    return 3 if probe.agrees is False and args.shifts is None else 0
