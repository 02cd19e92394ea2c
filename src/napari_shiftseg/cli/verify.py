"""`shiftseg verify`: the tiles of an image against one pass of the network."""

from __future__ import annotations

import argparse
from dataclasses import replace

from napari_shiftseg.cli.console import Console
from napari_shiftseg.cli.options import add_image_options, add_run_options, indices, run_settings, whole
from napari_shiftseg.cli.prepare import decide_run, describe_image, describe_model
from napari_shiftseg.errors import SettingsError

EXAMPLE = "shiftseg verify image.tif --model nuclei --tile 200"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("image", metavar="IMAGE", help="image to compute twice")
    parser.add_argument("--model", default="nuclei", help="bundled name or file (default: %(default)s)")
    parser.add_argument("--channels", type=indices, metavar="0,2", help="channels for the network, from 0")
    add_image_options(parser)
    parser.add_argument("--frame", type=whole(0), default=0, metavar="N", help="which frame of a series or stack, from 0")
    parser.add_argument("--max-pixels", type=whole(64), default=1 << 22, metavar="N",
                        help="of the single pass; a window of a larger result is compared (default: %(default)s)")  # fmt: skip
    add_run_options(parser, clustering=False)


def run(args: argparse.Namespace, console: Console) -> int:
    """Compare; 3 if tiles and one pass differ."""
    from napari_shiftseg.analysis import verify_steps
    from napari_shiftseg.events import drain
    from napari_shiftseg.io import load_model, read_image
    from napari_shiftseg.segmentation import look

    model = load_model(args.model)
    image = read_image(args.image, scene=args.scene, axes=args.axes)
    wish = replace(run_settings(args), keep_embedding=False, out_of_core=False)
    job = look(decide_run(image, model, wish), likeness=False)
    plan, frames = job.plan, job.opened.frames
    if args.frame >= len(frames):
        raise SettingsError(f"--frame {args.frame} was given, but {image.name} has {len(frames)}; give 0 to {len(frames) - 1}.")
    assert job.intensity is not None
    console.field("model", describe_model(model))
    console.field("image", describe_image(image))
    console.field("plan", plan.describe())
    console.field("device", dict(job.lines())["device"])
    console.field("intensity", job.intensity.describe())
    with console.progress() as show:
        steps = verify_steps(
            model, frames[args.frame].view, plan, device=args.device, dtype=job.dtype, max_pixels=args.max_pixels,
            normalisation=job.limits(args.frame),
            method="stream" if args.method == "stream" else "tiles",
        )  # fmt: skip
        check = drain(steps, show)
    console.field("result", check.text)
    names = ("ok", "dtype", "tolerance", "max_difference", "mean_difference", "where", "differing", "compared", "whole", "text")
    document = {name: getattr(check, name) for name in names}
    document["window"] = [[part.start, part.stop] for part in check.window]
    document["first"] = None if check.first is None else [[part.start, part.stop] for part in check.first.write]
    console.document({"model": model.name, "plan": plan.to_dict(), **document})
    return 0 if check.ok else 3
