"""Options that several commands have, and how their values are written."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_shiftseg.cli.constants import MOST_EDGE, MOST_WHOLE, UNITS

if TYPE_CHECKING:
    from napari_shiftseg.segmentation import SegmentSettings


def edges(text: str) -> int | tuple[int, ...]:
    """One edge, or one per axis.

    >>> edges("200"), edges("96,200")
    (200, (96, 200))
    """
    values = _integers(text, "200 or 96,200")
    return values[0] if len(values) == 1 else values


def indices(text: str) -> tuple[int, ...]:
    """Positions from 0, separated by commas."""
    return _integers(text, "0 or 0,2", least=0)


def shape(text: str) -> tuple[int, ...]:
    """Size of an image, px per axis.

    >>> shape("1024x512"), shape("64,256,256")
    ((1024, 512), (64, 256, 256))
    """
    edges = _integers(text.lower().replace("x", ","), "1024x1024")
    if max(edges) > MOST_EDGE:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} was given; give edges of {MOST_EDGE} px or less")
    return edges


def pooling(text: str) -> int | tuple[tuple[int, ...], ...]:
    """One factor, or factors per level (finest first) and axis.

    >>> pooling("2"), pooling("1,2,2:2,2,2")
    (2, ((1, 2, 2), (2, 2, 2)))
    """
    levels = [_integers(level, "2 or 1,2,2:2,2,2") for level in text.split(":")]
    return levels[0][0] if len(levels) == 1 and len(levels[0]) == 1 else tuple(levels)


def words(text: str) -> str:
    """Any text; a byte of a shell's word that is no letter cannot be written anywhere.

    >>> words("micrometer")
    'micrometer'
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{text[:40]!a} was given, which is no text in UTF-8; give other letters") from None
    return text


def whole(least: int) -> Callable[[str], int]:
    """Reader of an integer of `least` or more."""

    def read(text: str) -> int:
        values = _integers(text, str(max(least, 1)), least)
        if len(values) > 1:
            raise argparse.ArgumentTypeError(f"{text!r} was given; give one integer")
        return values[0]

    return read


def number(least: float = 0.0, most: float = math.inf, *, positive: bool = False) -> Callable[[str], float]:
    """Reader of a number from `least` to `most`."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most or not math.isfinite(value) or (positive and value == 0):
            bound = f"from {least:g} to {most:g}" if math.isfinite(most) else f"{'above' if positive else 'of'} {least:g}"
            more = "" if math.isfinite(most) or positive else " or more"
            raise argparse.ArgumentTypeError(f"{text!r} was given; give a number {bound}{more}")
        return value

    return read


def diameter(text: str) -> float | Literal["auto", "pixel-size"]:
    """Of objects, px, or how it is to be found.

    >>> diameter("40"), diameter("auto")
    (40.0, 'auto')
    """
    if text == "auto":
        return "auto"
    if text == "pixel-size":
        return "pixel-size"
    value = _float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r} was given; give pixels above 0, auto or pixel-size")
    return float(value)


def byte_count(text: str) -> int:
    """Bytes, with a decimal or binary unit.

    >>> byte_count("2GB"), byte_count("512 MiB")
    (2000000000, 536870912)
    """
    found = re.fullmatch(r"([\d.]+)\s*([kmgt]?i?)b?", text.strip().lower())
    try:
        count = float(found[1]) * UNITS[found[2]] if found else 0
    except (KeyError, ValueError):
        count = 0
    if not 1 <= count < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount of memory; give one such as 2GB or 512MiB")
    return int(count)


def limits(text: str) -> tuple[float, float] | tuple[tuple[float, float], ...]:
    """Two intensities, or two for each channel.

    >>> limits("100,4000"), limits("100,4000:0,255")
    ((100, 4000), ((100, 4000), (0, 255)))
    """
    pairs = tuple(_pair(part, "100,4000 or 100,4000:0,255") for part in text.split(":"))
    return pairs[0] if len(pairs) == 1 else pairs


def percentiles(text: str) -> tuple[float, float]:
    """Two percentiles.

    >>> percentiles("1,99.8")
    (1, 99.8)
    """
    return _pair(text, "1,99.8")


def finite(text: str) -> float:
    """Any number that is one."""
    value = _float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} was given; give a number such as 0 (NaN and infinite values never count)")
    return value


def _pair(text: str, example: str) -> tuple[float, float]:
    values = [_float(part) for part in text.split(",")]
    if len(values) != 2 or not all(map(math.isfinite, values)) or values[0] >= values[1]:
        raise argparse.ArgumentTypeError(f"{text!r} was given; give two numbers, the lower one first, such as {example}")
    return values[0], values[1]


def _float(text: str) -> float:
    """A number, an integer where it is written as one, since floats do not hold the largest of them; NaN for anything else."""
    try:
        value = int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return math.nan
    return value if abs(value) < MOST_WHOLE else math.nan


def _integers(text: str, example: str, least: int = 1) -> tuple[int, ...]:
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or min(values) < least or max(values) >= MOST_WHOLE:
        raise argparse.ArgumentTypeError(f"{text!r} was given; give integers of {least} or more such as {example}")
    return values


def axes(text: str) -> str:
    """Letters of the axes of an image.

    >>> axes("TYX")
    'tyx'
    """
    letters = text.strip().lower()
    if not set(letters) <= set("tczyx") or len(set(letters)) < len(letters) or not {"y", "x"} <= set(letters):
        raise argparse.ArgumentTypeError(f'{text!r} was given; give a letter of "tczyx" per axis, y and x always, such as tyx')
    return letters


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Options of all commands that open an image."""
    parser.add_argument("--scene", type=int, metavar="N", help="which image of a file that holds several, from 0")
    parser.add_argument("--axes", type=axes, metavar="tyx",
                        help="what its axes are: time, channel, z, y, x (default: as the file says)")  # fmt: skip


def add_run_options(parser: argparse.ArgumentParser, *, clustering: bool = True) -> None:
    """Options of all commands that run a network over an image."""
    group = parser.add_argument_group("running")
    group.add_argument("--tile", type=edges, metavar="N", help="edge of what a tile writes, px: one, or y,x or z,y,x")
    group.add_argument(
        "--memory", type=byte_count, metavar="2GB", help="what the run may take; it goes out of core where that is too little"
    )
    group.add_argument("--method", choices=("auto", "tiles", "stream"), default="auto",
                       help="tile by tile, or in strips that compute no row twice; auto: what costs less")  # fmt: skip
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: %(default)s)")
    group.add_argument(
        "--dtype",
        default="auto",
        help="auto (bfloat16 where the processor or GPU has matrix units for it), float32, bfloat16 or float16",
    )
    group.add_argument(
        "--diameter",
        type=diameter,
        metavar="PX",
        help="of the objects, px of the image: the network runs at the scale at which it knows such; auto: measure it; "
        "pixel-size: the pixel sizes of image and model say the scale",
    )
    group.add_argument(
        "--augment",
        action="store_true",
        help="run the network on the image flipped and turned in all ways, and average what it says (8 times the time in 2D)",
    )
    group.add_argument("--deterministic", action="store_true", help="equal bits whatever the tile size")
    group.add_argument("--allow-noncompliant", action="store_true", help="run though a rule is broken; marks the result")
    add_intensity_options(parser)
    if clustering:
        group = parser.add_argument_group("instances (default: as the model says)")
        group.add_argument("--bandwidth", type=number(positive=True), metavar="X", help="of the mean shift, embedding units")
        group.add_argument(
            "--min-size", type=whole(0), metavar="N", help="smaller instances go to one that they touch, or away, px"
        )
        group.add_argument("--threshold", type=number(0, 1), metavar="P", help="foreground probability, 0 to 1")


def add_intensity_options(parser: argparse.ArgumentParser) -> None:
    """Options that say which intensities become 0 and 1."""
    group = parser.add_argument_group("intensities (default: percentiles as the model says, without outliers)")
    wish = group.add_mutually_exclusive_group()
    wish.add_argument("--limits", type=limits, metavar="LOW,HIGH", help="that become 0 and 1; for each channel: 0,255:90,4000")
    wish.add_argument("--percentiles", type=percentiles, metavar="LOW,HIGH",
                      help="of all pixels that become 0 and 1, such as 1,99.8")  # fmt: skip
    group.add_argument("--limits-per", choices=("image", "frame"), default="image",
                       help="one scaling for all frames, or one for each, as for a series that bleaches")  # fmt: skip
    group.add_argument("--invert", action="store_true", help="dark objects on a bright background")
    group.add_argument("--no-data", type=finite, metavar="VALUE", help="of pixels without data, such as 0; NaN always is")


def add_batch_options(parser: argparse.ArgumentParser) -> None:
    """Options for many images."""
    group = parser.add_argument_group("many images")
    group.add_argument("--pattern", default="*", metavar="GLOB",
                       help='which files of a folder, such as "*.tif" or "*.tif;*.png" (default: all images)')  # fmt: skip
    group.add_argument("--recursive", action="store_true", help="look in the folders of a folder as well")
    group.add_argument("--summary", type=Path, metavar="FILE",
                       help="one table of all images (.csv, .parquet): objects, area, seconds, verdict, error")  # fmt: skip
    group.add_argument("--features", type=Path, metavar="FILE",
                       help="one table of all objects (.csv, .parquet): image, and what shiftseg measure measures")  # fmt: skip
    group.add_argument("--resume", action="store_true",
                       help="take a store that is there for done, if it is of the same image, model and settings")  # fmt: skip


def run_settings(args: argparse.Namespace) -> SegmentSettings:
    """Settings from the options of `add_run_options`."""
    from napari_shiftseg.segmentation import SegmentSettings

    return SegmentSettings(
        write=args.tile,
        method=getattr(args, "method", "auto"),
        memory=args.memory,
        device=args.device,
        dtype=args.dtype,
        deterministic=args.deterministic,
        allow_noncompliant=args.allow_noncompliant,
        bandwidth=getattr(args, "bandwidth", None),
        min_size=getattr(args, "min_size", None),
        threshold=getattr(args, "threshold", None),
        channels=getattr(args, "channels", None),
        limits=args.limits,
        percentiles=args.percentiles,
        limits_per=args.limits_per,
        invert=args.invert,
        no_data=args.no_data,
        diameter=args.diameter,
        augment=args.augment,
        keep_embedding=not getattr(args, "no_embedding", False),
    )
