"""`shiftseg info`: what is here: versions, devices, models and what they cost, images."""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_shiftseg.cli.console import Console
from napari_shiftseg.cli.constants import ITEMSIZES, LISTED
from napari_shiftseg.cli.options import add_image_options, byte_count, edges, shape
from napari_shiftseg.cli.prepare import describe_image, describe_model, record_at
from napari_shiftseg.errors import DeviceError, ResultError, SettingsError

if TYPE_CHECKING:
    from napari_shiftseg.network import Device, Known, Model

EXAMPLE = "shiftseg info --model nuclei --image image.tif"

_PACKAGES = ["torch", "numpy", "scipy", "scikit-image", "zarr", "tifffile", "safetensors", "napari", "dask"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("result", nargs="?", type=Path, metavar="RESULT",
                        help="show how a result was made: a store, or what shiftseg segment --json printed")  # fmt: skip
    parser.add_argument("--code", action="store_true", help="print a Python script that gives the labels of RESULT again")
    parser.add_argument("--command", action="store_true", help="print a line for a shell that does so")
    parser.add_argument("--model", help="show the card of a model: bundled name or file")
    parser.add_argument("--image", help="show axes, sizes and steps of an image")
    add_image_options(parser)
    parser.add_argument("--devices", action="store_true", help="only the devices, each with its memory")
    group = parser.add_argument_group("speed of a model")
    group.add_argument("--plan", action="store_true", help="what tiles cost: of --image, --shape or a usual one")
    group.add_argument("--shape", type=shape, metavar="1024x1024", help="image to plan for, px")
    group.add_argument("--memory", type=byte_count, metavar="2GB", help="what a tile may take")
    group.add_argument("--tile", type=edges, metavar="N", help="edge of what a tile writes, px: one, or y,x or z,y,x")
    group.add_argument("--measure", action="store_true", help="run a test tile and say how near to the floor it comes")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: %(default)s)")


def run(args: argparse.Namespace, console: Console) -> None:
    """Say what was asked for, and without a question all about the installation."""
    if (args.plan or args.measure) and not args.model:
        raise SettingsError("--plan and --measure are about a model; name it with --model.")
    if (args.code or args.command) and args.result is None:
        raise SettingsError("--code and --command are about a result; name it: shiftseg info RESULT.")
    values: dict[str, object] = {}
    if args.result is not None:
        values |= _result_card(args, console)
        if args.code or args.command:
            console.document(values)
            return
    if not (args.result or args.model or args.image or args.devices):
        values |= _installation(console)
    if args.devices or not (args.result or args.model or args.image):
        values |= _devices(console)
    if args.model:
        from napari_shiftseg.io import load_model

        model = load_model(args.model)
        values |= _model_card(model, console)
        values |= _limits(model, args, console)
    if args.image:
        values |= _image_card(args, console)
    console.document(values)


def _installation(console: Console) -> dict[str, object]:
    from napari_shiftseg import __version__
    from napari_shiftseg.io import bundled_models, demonstrations

    versions = {"napari-shiftseg": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    for name, text in versions.items():
        console.field("version", f"{name} {text}")
    console.field("system", platform.platform())
    shown = demonstrations()
    models = tuple(name for name in bundled_models() if name not in shown)
    console.field("models", ", ".join(models) or "none are bundled")
    console.field("demos", f"{', '.join(shown)}: models that only show something" if shown else "none are bundled")
    return {"versions": versions, "system": platform.platform(), "models": models, "demonstrations": shown}


def _devices(console: Console) -> dict[str, object]:
    import torch

    from napari_shiftseg.network import choose_device

    chosen = choose_device("auto")
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    found: list[tuple[str, Device]] = []
    for name in [*names, "mps", "cpu"]:
        try:
            found.append((name, choose_device(name)))
        except DeviceError:
            continue
    for name, device in found:
        mine = name in (chosen.kind, f"{chosen.kind}:0")
        console.field("device", f"{name} = {device.describe()}" + "; used unless --device says otherwise" * mine)
    reason = ""
    if not names:
        built = torch.version.cuda
        reason = (
            f"PyTorch {torch.__version__} is a build without CUDA" if built is None
            else f"PyTorch {torch.__version__} is built for CUDA {built}, but finds no driver or no GPU"
        )  # fmt: skip
        console.field("no CUDA", reason)
    listed = [{"device": name, "kind": d.kind, "name": d.name, "free_bytes": d.free} for name, d in found]
    return {"devices": listed, "default": chosen.kind, "no_cuda": reason}


def _limits(model: Model, args: argparse.Namespace, console: Console) -> dict[str, object]:
    from napari_shiftseg.cli.cost import measured_share, network_limits, plan_limits, plan_shape
    from napari_shiftseg.network import measure_rates

    rates = measure_rates(args.device, tuple(ITEMSIZES))
    found: dict[str, object] = {"limits": network_limits(model.spec, rates, console)}
    if args.plan:
        wanted = plan_shape(args, model.spec)
        found["plan"] = plan_limits(
            model.spec, wanted, rates, console=console, memory=args.memory, write=args.tile, trained=model.record
        )
    if args.measure:
        found["measured"] = measured_share(model.unet, rates, console, write=args.tile)
    return found


def _model_card(model: Model, console: Console) -> dict[str, object]:
    from napari_shiftseg.cli.check import report_rules, training_rules
    from napari_shiftseg.io import to_plain

    spec, record = model.spec, model.record
    parameters = sum(p.numel() for p in model.unet.parameters())
    console.field("model", describe_model(model))
    console.field("sha256", model.hash)
    console.field("network", ", ".join(f"{key} {value}" for key, value in spec.to_dict().items() if value is not None))
    console.field("sizes", f"margin {_times(spec.margin)} px, reach {_times(spec.reach)} px, {parameters} parameters")
    if record is None:
        console.field("training", "no record")
    else:
        windows = f"{record.batch} windows of {_times(record.window)} px"
        console.field("training", f"{record.steps} steps of {windows}, seed {record.seed}")
        console.field("data", record.data or "not recorded")
        console.field("losses", ", ".join(f"{key} {value:.4g}" for key, value in record.losses.items()) or "not recorded")
        console.field("settings", json.dumps(to_plain(record.settings, beyond="none")) if record.settings else "not recorded")
        console.field("intensity", f"percentiles {record.normalisation.low:g} and {record.normalisation.high:g} become 0 and 1")
        clustering = asdict(record.clustering)
        console.field("clustering", ", ".join(f"{key} {value:g}" for key, value in clustering.items()))
        console.field("note", record.note or "none")
        console.field("knows", _knows(record.known))
    rules = training_rules(spec, record)
    report_rules(rules, console)
    return {
        "model": {
            "name": model.name,
            "sha256": model.hash,
            "spec": spec.to_dict(),
            "period": spec.period,
            "margin": spec.margin,
            "reach": spec.reach,
            "parameters": parameters,
            "record": record.to_dict() if record else None,
            "rules": rules,
        }
    }


def _knows(known: Known | None) -> str:
    """What the model says of its training images."""
    if known is None:
        return "not stated, so no image can be said to be like its training images"
    return f"{'a demonstration: ' * known.demonstration}{known.describe()}"


def _result_card(args: argparse.Namespace, console: Console) -> dict[str, object]:
    """How a result was made; with --code and --command nothing but these, so that a file or a shell can take them."""
    from napari_shiftseg.segmentation import as_code, as_command

    record = record_at(args.result)
    store = args.result if args.result.suffix != ".json" else None
    wanted = {"code": as_code, "command": as_command}
    said = {name: make(record, store) for name, make in wanted.items() if getattr(args, name)}
    for text in said.values():
        console.say(text.rstrip())
    if not said:
        try:
            _tell_result(record, as_command(record, store), console)
        except (LookupError, TypeError, AttributeError) as exc:
            what = f"{type(exc).__name__}: {exc}"
            raise ResultError(f"the record of {args.result} is damaged ({what}); run the segmentation again.") from exc
    return {"result": said or record}


def _tell_result(record: dict[str, Any], again: str, console: Console) -> None:
    from napari_shiftseg.cli.segment import report_result
    from napari_shiftseg.segmentation import job_of

    job = job_of(record)
    console.field("image", f"{job.image.name}: {job.image.source}")
    console.field("model", f"{job.model.name} (sha256 {job.model.sha256[:12]})")
    report_result(record, {}, console)
    console.field("made", f"{record['time']} on {record['device']['name']}")
    if edits := record.get("edits"):
        console.field("edits", f"{len(edits)} by hand")
    console.field("again", again.splitlines()[-1])


def _image_card(args: argparse.Namespace, console: Console) -> dict[str, object]:
    from napari_shiftseg.io import read_image, scene_names
    from napari_shiftseg.segmentation import suggest_models

    image = read_image(args.image, scene=args.scene, axes=args.axes)
    console.field("image", describe_image(image))
    scenes = scene_names(args.image)
    if len(scenes) > 1:
        told = ", ".join(f"{number} {name}".strip() for number, name in _few(scenes))
        console.field("scenes", f"{len(scenes)}, of which --scene takes one: {told}")
    known = suggest_models(image)
    first, *others = known or ("no bundled model knows such images",)
    console.field("suggested", first + (f" (also {', '.join(others)})" if others else ""))
    return {
        "suggested": known,
        "image": {
            "name": image.name,
            "source": image.source,
            "axes": image.axes,
            "shape": image.data.shape,
            "dtype": str(image.data.dtype),
            "scale": image.scale,
            "units": image.units,
            "translation": image.translation,
            "channels": image.channels,
            "note": image.note,
            "scenes": scenes,
        },
    }


def _few(scenes: tuple[str, ...]) -> list[tuple[int | str, str]]:
    """Numbers and names of scenes, the middle of a long list left out."""
    listed: list[tuple[int | str, str]] = list(enumerate(scenes))
    return listed if len(listed) <= LISTED else [*listed[: LISTED - 2], ("\u2026", ""), listed[-1]]


def _times(values: tuple[int, ...]) -> str:
    return " x ".join(map(str, values))
