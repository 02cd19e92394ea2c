"""`shiftseg demo`: the sample that comes with the package, segmented, scored, drawn, and shown in napari."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_shiftseg.cli.console import Console
from napari_shiftseg.cli.options import add_run_options, run_settings
from napari_shiftseg.cli.prepare import Targets, check_free, decide_run, describe_image, describe_model
from napari_shiftseg.cli.segment import document, report_result, write_results
from napari_shiftseg.errors import ResultError
from napari_shiftseg.files import Found

if TYPE_CHECKING:
    from napari_shiftseg.segmentation import Segmentation

EXAMPLE = "shiftseg demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--out", type=Path, default=Path("shiftseg-demo"), help="folder (default: %(default)s)")
    parser.add_argument("--model", default="nuclei", help="bundled name or file (default: %(default)s)")
    parser.add_argument("--no-viewer", action="store_true", help="do not open napari")
    add_run_options(parser)
    parser.set_defaults(method="tiles")  # a stream of so small an image has no seams to look at


def run(args: argparse.Namespace, console: Console) -> None:
    """Segment the sample, write the result and a picture, score it, and open napari where that can be done."""
    from napari_shiftseg.events import drain
    from napari_shiftseg.instances import match_score
    from napari_shiftseg.io import load_model, read_image
    from napari_shiftseg.segmentation import look, run_steps

    settings, model = run_settings(args), load_model(args.model)
    targets, found = _targets(args.out)
    console.field("model", describe_model(model))
    samples = files("napari_shiftseg") / "samples"
    with as_file(samples / "nuclei.tif") as sample, as_file(samples / "nuclei_truth.tif") as truth_file:
        image = read_image(sample)
        truth = read_image(truth_file).data[...]
        console.field("image", describe_image(image))
        job = look(decide_run(image, model, settings))
        for name, text in job.lines():
            console.field(name, text)
        with console.progress() as show:
            result = drain(run_steps(job), show)
        written = write_results(result, targets, overwrite=True, found=found)
    score = match_score(result.labels, truth, 0.5)
    report_result(result.record, written, console)
    experts = f"{score.tp + score.fn} outlines drawn by experts"
    console.field("score", f"AP {score.ap:.3f}, F1 {score.f1:.3f} at IoU 0.5 against {experts}")
    console.field("mistakes", f"{score.text}.")
    reason = "--no-viewer was given" if args.no_viewer else _no_viewer()
    console.document({**document(result, written), "score": score.row(), "viewer": not reason and not args.json})
    if reason or args.json:
        console.field("napari", f"not opened: {reason}. The result opens there by drag and drop." if reason else "")
    else:
        console.field("napari", "opens now; close its window to finish")
        _open_napari(result)
        import_module("napari").run()


def _targets(folder: Path) -> tuple[Targets, dict[Path, Found]]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ResultError(f"{folder} cannot be the folder of the demo ({exc.strerror}); choose another with --out.") from exc
    targets = Targets(store=folder / "nuclei.ome.zarr", labels=None, picture=folder / "nuclei.png")
    return targets, check_free(targets.files(), stores=targets.stores(), overwrite=True)


def _no_viewer() -> str:
    """Why napari cannot be opened; "" where it can."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display (DISPLAY and WAYLAND_DISPLAY are not set)"
    if find_spec("napari") is None:
        return "napari is not installed (pip install 'napari-shiftseg[napari]')"
    return ""


def _open_napari(result: Segmentation) -> Any:
    """A viewer with the sample, its truth and the result."""
    napari = import_module("napari")
    from napari_shiftseg.plugin.layers import draw, layer_tuples
    from napari_shiftseg.plugin.replacement import put_layers
    from napari_shiftseg.plugin.samples import nuclei
    from napari_shiftseg.plugin.source import placement_of

    viewer = napari.Viewer(title="shiftseg demo")
    image, *_ = [viewer.add_layer(napari.layers.Layer.create(*layer)) for layer in nuclei()]
    place = placement_of(image, result.axes, result.axes)
    put_layers(viewer, layer_tuples(draw(result), place, image.name, source_id=image.unique_id))
    return viewer
