"""`shiftseg probe`: period, margin, reach and effective period of a network, found by moving its input."""

from __future__ import annotations

import argparse

from napari_shiftseg.cli.console import Console
from napari_shiftseg.cli.options import add_image_options, indices, number, whole
from napari_shiftseg.cli.prepare import describe_image, describe_model

EXAMPLE = "shiftseg probe --model nuclei"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("image", nargs="?", metavar="IMAGE", help="image for the effective period (default: noise)")
    parser.add_argument("--model", default="nuclei", help="bundled name or file (default: %(default)s)")
    parser.add_argument("--shifts", type=indices, metavar="4,8", help="shifts to test, px (default: divisors of the period)")
    parser.add_argument("--channels", type=indices, metavar="0,2", help="channels for the network, from 0")
    add_image_options(parser)
    parser.add_argument("--tolerance", type=number(positive=True), metavar="X",
                        help="change that is none for the effective period, share of the spread (default: 0.05)")  # fmt: skip
    parser.add_argument("--seed", type=whole(0), default=0, metavar="N", help="of the random images (default: %(default)s)")


def run(args: argparse.Namespace, console: Console) -> int:
    """Probe; 3 if the network does not keep what its file declares."""
    from napari_shiftseg.analysis import effective_steps, probe_steps
    from napari_shiftseg.analysis.constants import SLIGHT
    from napari_shiftseg.events import drain
    from napari_shiftseg.io import load_model, read_image

    model = load_model(args.model)
    console.field("model", describe_model(model))
    image = None
    if args.image is not None:
        opened = read_image(args.image, scene=args.scene, axes=args.axes)
        console.field("image", describe_image(opened))
        image = opened.frames(model.lattice.ndim, args.channels)[0].view
    with console.progress() as show:
        probe = drain(probe_steps(model, shifts=args.shifts, seed=args.seed), show)
    console.field("result", probe.text)
    for axis, felt in enumerate(probe.sensitivity):
        listed = ", ".join(f"{shift} px: {value:.1e}" for shift, value in felt.items())
        console.field("change" if axis == 0 else "", f"axis {axis}, by shift: {listed}")
    with console.progress() as show:
        effective = drain(effective_steps(model, image, tolerance=args.tolerance or SLIGHT, seed=args.seed), show)
    console.field("tiles", effective.text)
    for axis, felt in enumerate(effective.change):
        listed = ", ".join(f"{step} px: {value:.1%}" for step, value in felt.items())
        console.field("grid" if axis == 0 else "", f"axis {axis}, by step: {listed or 'none'}")
    names = ("period", "margin", "reach", "sensitivity", "distinct", "location_aware", "agrees", "size", "precision", "text")
    document = {"model": model.name, "sha256": model.hash, **{name: getattr(probe, name) for name in names}}
    parts = ("period", "declared", "change", "shares", "tolerance", "size", "text")
    document["effective"] = {"image": args.image, **{name: getattr(effective, name) for name in parts}}
    console.document(document)
    # a probe of chosen shifts may leave the period out
    return 3 if probe.agrees is False and args.shifts is None else 0
