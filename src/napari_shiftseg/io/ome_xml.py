"""What the OME-XML of a TIFF file says of one of its images, and where it does not fit the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from napari_shiftseg.io.axes import unit_name

__all__ = ["Described", "describe_series"]

# The OME schema's own units, where an attribute names none.
_STEPS = (*((axis, f"PhysicalSize{axis.upper()}", "µm") for axis in "zyx"), ("t", "TimeIncrement", "s"))


@dataclass(frozen=True, kw_only=True)
class Described:
    """Of one image: step and unit per axis letter, names of its channels, and what has to be said.

    Attributes
    ----------
    scale, units : mapping
        As far as the XML gives them.
    channels : tuple of str
        () where none has a name.
    notes : tuple of str
        Sentences.
    """

    scale: Mapping[str, float]
    units: Mapping[str, str | None]
    channels: tuple[str, ...]
    notes: tuple[str, ...]


def describe_series(xml: str, series: Sequence[Any], number: int, path: Path, *, pages: int) -> Described:
    """What the XML says of series `number` of a file.

    Images that are described and have no pixels in the file are passed over, as tifffile does, so that a series is not taken
    for another image.

    Parameters
    ----------
    xml : str
    series : sequence of tifffile.TiffPageSeries
    number : int
    path : Path
        Of the file, beside which the others of a set lie.
    pages : int
        Planes in the file.
    """
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as exc:
        return _nothing(f"The OME-XML of the file cannot be read ({exc}), so its pixel sizes and channel names are not known.")
    binary = root.find("{*}BinaryOnly")
    if binary is not None:
        master = binary.attrib.get("MetadataFile", "another file")
        return _nothing(f"The file is a part of a set that {master} describes; only the planes in this part were read.")
    images = [pixels for pixels in root.findall("{*}Image/{*}Pixels") if pixels.find("{*}TiffData") is not None]
    names = [image.attrib.get("Name", "") for image in root.findall("{*}Image")]
    if series[number].kind != "ome":
        return _nothing("The OME-XML does not fit the pixels of the file, so its axes and pixel sizes were left aside.")
    found = _image_of(series, number, images, root)
    if found is None:
        return _nothing(
            f"The OME-XML describes {len(names)} images and does not say which of them this is; its steps were left."
        )
    notes = _absent(len(names), len(series)) + _missing(found, series[number], path) + _more(series, pages)
    scale, units, faults = _steps(found)
    return Described(scale=scale, units=units, channels=_channels(found), notes=(*notes, *faults))


def _nothing(note: str) -> Described:
    return Described(scale={}, units={}, channels=(), notes=(note,))


def _image_of(series: Sequence[Any], number: int, images: list[Any], root: Any) -> Any | None:
    """Pixels element of a series: in order, each series is the next image of its size and name."""
    names = {image.find("{*}Pixels"): image.attrib.get("Name") for image in root.findall("{*}Image")}
    if len(images) == len(series):
        return images[number]
    left = list(images)
    for index, one in enumerate(series):
        fits = [pixels for pixels in left if _fits(pixels, one) and names.get(pixels) in (one.name, None)]
        if not fits:
            return None
        if index == number:
            return fits[0]
        del left[: left.index(fits[0]) + 1]
    return None


def _fits(pixels: Any, series: Any) -> bool:
    try:
        return bool(prod(int(pixels.attrib[f"Size{axis}"]) for axis in "XYZCT") == prod(series.shape))
    except (KeyError, ValueError):
        return False


def _absent(described: int, there: int) -> list[str]:
    if described <= there:
        return []
    return [f"The OME-XML describes {described} images, and the file holds {there} of them."]


def _more(series: Sequence[Any], pages: int) -> list[str]:
    described = sum(len(one.pages) for one in series)
    if pages <= described:
        return []
    return [f"The file holds {pages} planes, of which its OME-XML describes {described}; the others were not read."]


def _missing(pixels: Any, series: Any, path: Path) -> list[str]:
    """A sentence on planes that the XML names and that are in no file; they are read as zeros."""
    planes = list(series.pages)
    blank = sum(plane is None for plane in planes)
    if not blank:
        return []
    files = {uuid.attrib.get("FileName", "") for uuid in pixels.iterfind("{*}TiffData/{*}UUID")}
    gone = sorted(name for name in files if name and not (path.parent / name).is_file())
    why = "not in the file" if not gone else f"{gone[0]} is not there" if len(gone) == 1 else f"{len(gone)} files are not there"
    return [f"{blank} of {len(planes)} planes {'is' if blank == 1 else 'are'} missing ({why}); zeros stand in their place."]


def _steps(pixels: Any) -> tuple[dict[str, float], dict[str, str | None], list[str]]:
    scale, units, faults = {}, {}, []
    for axis, key, unit in _STEPS:
        if key not in pixels.attrib:
            continue
        text = pixels.attrib[key]
        try:
            scale[axis] = float(text.replace(",", "."))  # some writers follow the decimal sign of their country
        except ValueError:
            faults.append(f"The OME-XML gives {key} as {text!r}, which is no number; 1 pixel was taken.")
            continue
        units[axis] = unit_name(pixels.attrib.get(f"{key}Unit", unit))
    return scale, units, faults


def _channels(pixels: Any) -> tuple[str, ...]:
    names = tuple(channel.attrib.get("Name", "") for channel in pixels.findall("{*}Channel"))
    return names if any(names) else ()
