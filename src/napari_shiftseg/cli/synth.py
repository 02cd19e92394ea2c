"""`shiftseg synth`: draw a synthetic image and its truth, from a kind with options or from a preset."""

from __future__ import annotations

import argparse
import io
import math
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_shiftseg.cli.console import Console
from napari_shiftseg.cli.constants import DRAWN_COVER, DRAWN_RADIUS, DRAWN_SHAPE, DRAWN_SPACING
from napari_shiftseg.cli.options import edges, number, pooling, whole
from napari_shiftseg.cli.prepare import check_free, replace_file
from napari_shiftseg.errors import SettingsError

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_shiftseg.synthetic import Recipe

EXAMPLE = "shiftseg synth disks --shape 512,512 --spacing 15 --radius 5 --noise 0.1 --out disks.tif --labels truth.tif"

_OPTIONS = (
    "shape", "spacing", "radius", "offset", "jitter", "light", "value", "count", "touching", "noise", "elastic", "seed"
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("what", nargs="?", metavar="KIND|PRESET", help="disks, squares, constant, ramp, blobs, or of --list")
    parser.add_argument("--list", action="store_true", help="list the presets and what they show")
    parser.add_argument("--out", type=Path, metavar="FILE", help="TIFF of the image; holds the recipe as JSON")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="TIFF of the truth")
    parser.add_argument("--overwrite", action="store_true", help="replace earlier files")
    group = parser.add_argument_group("recipe (default: 256,256 px, spacing 16, radius 5; those of the preset)")
    group.add_argument("--shape", type=edges, metavar="Y,X", help="edges, px: x, y,x or z,y,x")
    group.add_argument("--spacing", type=edges, metavar="N", help="between neighbours, px: one, or one per axis")
    group.add_argument("--radius", type=_numbers, metavar="R", help="of an object, px; of blobs the smallest,largest")
    group.add_argument("--offset", type=_integers, metavar="N", help="of the first object, px: one, or one per axis")
    group.add_argument("--jitter", type=whole(0), metavar="N", help="farthest step of an object off its place, px")
    group.add_argument("--light", type=number(0, 1), metavar="P", help="share of the brightness lost across the image")
    group.add_argument("--value", type=number(0, 1), metavar="V", help="of a constant")
    group.add_argument("--count", type=whole(0), metavar="N", help="of blobs")
    group.add_argument("--touching", type=number(0, 1), metavar="P", help="share of the blobs that touch another one")
    group.add_argument("--noise", type=number(), metavar="S", help="standard deviation")
    group.add_argument("--elastic", type=number(), metavar="S", help="standard deviation of the deformation, px")
    group.add_argument("--seed", type=whole(0), metavar="N", help="of everything random")
    group = parser.add_argument_group("network that has to tell the objects apart (default: 3 and 2; those of the preset)")
    group.add_argument("--levels", type=whole(1), metavar="L", help="poolings")
    group.add_argument("--pool", type=pooling, metavar="F", help="factor of each pooling, or 1,2,2:2,2,2")


def run(args: argparse.Namespace, console: Console) -> None:
    """Draw, write, and say how many objects a network can tell apart."""
    from napari_shiftseg import synthetic

    if args.list:
        return _list(console)
    if args.what is None:
        raise SettingsError("nothing to draw was named; give a kind or a preset, or --list.")
    if args.out is None:
        raise SettingsError("no file was named for the image; add --out image.tif.")
    targets = [path for path in (args.out, args.labels) if path is not None]
    if len({path.absolute() for path in targets}) < len(targets):
        raise SettingsError(f"--out and --labels are both {args.out}; give two names.")
    found = check_free(targets, overwrite=args.overwrite)
    recipe = choose_recipe(args)
    capacity = _capacity(args, recipe)
    drawn = synthetic.make(recipe)
    written = {"image": replace_file(args.out, encode_tiff(drawn.image, recipe), found).absolute()}
    if args.labels is not None:
        written["labels"] = replace_file(args.labels, encode_tiff(drawn.labels, recipe), found).absolute()
    for name, path in written.items():
        console.field(name, path)
    console.field("recipe", ", ".join(f"{key} {_plainly(value)}" for key, value in asdict(recipe).items()))
    console.field("capacity", capacity)
    console.document({**written, "recipe": asdict(recipe), "objects": int(drawn.labels.max()), "capacity": capacity})
    return None


def choose_recipe(args: argparse.Namespace) -> Recipe:
    """The recipe that the arguments ask for; a preset gives way to what is said beside it.

    SettingsError if the kind is unknown, has no such option, or a value is bad.
    """
    from napari_shiftseg import synthetic

    known = synthetic.presets()
    if args.what not in synthetic.KINDS and args.what not in known:
        names = ", ".join((*synthetic.KINDS, *known))
        raise SettingsError(f"{args.what!r} is neither a kind nor a preset; use one of {names}.")
    kind = known[args.what].recipe.kind if args.what in known else args.what
    given = {name: getattr(args, name) for name in _OPTIONS if getattr(args, name) is not None}
    takes = [field.name for field in fields(synthetic.KINDS[kind]) if field.init]
    if wrong := [name for name in given if name not in takes]:
        options = ", ".join(f"--{name}" for name in takes)
        raise SettingsError(f"--{wrong[0]} does not apply to {args.what}; its options are {options}.")
    if "shape" in given:
        given["shape"] = given["shape"] if isinstance(given["shape"], tuple) else (given["shape"],)
    if "radius" in given and kind != "blobs":
        if len(given["radius"]) > 1:
            raise SettingsError(f"--radius has {len(given['radius'])} numbers; {kind} take one.")
        given["radius"] = given["radius"][0]
    values = {**(_values(known[args.what].recipe) if args.what in known else _defaults(kind, given)), **given}
    return synthetic.recipe_of(kind, values.pop("shape"), **values)


def _defaults(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    shape = given.get("shape", DRAWN_SHAPE)
    if kind in ("disks", "squares"):
        return {"shape": shape, "spacing": DRAWN_SPACING, "radius": DRAWN_RADIUS, "offset": 0}
    if kind == "blobs":
        edge = sum(given.get("radius", (6.0, 10.0)))  # mean diameter
        return {"shape": shape, "count": max(1, round(DRAWN_COVER * math.prod(shape) / edge ** len(shape)))}
    return {"shape": shape}


def _values(recipe: Recipe) -> dict[str, Any]:
    values = asdict(recipe)
    del values["kind"]
    # presets are alike on all axes, so they take a shape of any dimension
    return {name: value[0] if name in ("spacing", "offset") else value for name, value in values.items()}


def encode_tiff(pixels: npt.NDArray[Any], recipe: Recipe) -> bytes:
    """A TIFF whose ImageDescription is JSON with the recipe under "recipe"."""
    import tifffile

    file = io.BytesIO()
    axes = "ZYX"[-max(pixels.ndim, 2) :]
    pixels = pixels[None] if pixels.ndim == 1 else pixels
    if pixels.dtype.kind == "i":  # Fiji reads no signed labels
        pixels = pixels.astype("uint16" if pixels.max() < 2**16 else "uint32")
    metadata = {"axes": axes, "recipe": asdict(recipe)}
    tifffile.imwrite(file, pixels, photometric="minisblack", compression="zlib", metadata=metadata)
    return file.getvalue()


def _capacity(args: argparse.Namespace, recipe: Recipe) -> str:
    from napari_shiftseg import synthetic
    from napari_shiftseg.geometry import UNetSpec

    known = synthetic.presets().get(args.what)
    if known is not None and (args.levels, args.pool) == (None, None) and len(recipe.shape) == len(known.recipe.shape):
        return replace(known, recipe=recipe).capacity
    levels = args.levels or (known.spec.levels if known else 3)
    pool = args.pool or 2
    spec = UNetSpec(ndim=len(recipe.shape), levels=levels, pool=pool)
    name = f"l = {levels}, f = {pool}" if isinstance(pool, int) else ""
    return synthetic.capacity_line(recipe, spec.period, name)


def _list(console: Console) -> None:
    from napari_shiftseg import synthetic

    known = synthetic.presets()
    width = max(map(len, known))
    for preset in known.values():
        console.say(f"{preset.name:{width}}  {_plainly(preset.recipe.shape)} px. {preset.shows}")
        console.say(f"{'':{width}}  {preset.capacity[:1].upper()}{preset.capacity[1:]}.")
    console.document({p.name: {"recipe": asdict(p.recipe), "shows": p.shows, "capacity": p.capacity} for p in known.values()})


def _plainly(value: object) -> str:
    return " x ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _integers(text: str) -> int | tuple[int, ...]:
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} was given; give whole pixels such as 4 or 4,-2") from None
    return values[0] if len(values) == 1 else values


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(number(positive=True), text.split(",")))
