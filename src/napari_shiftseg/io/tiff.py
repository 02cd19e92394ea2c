"""TIFF in: plain, ImageJ, OME and whole-slide files, with their axes and pixel sizes."""

from __future__ import annotations

import logging
import math
import re
import struct
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
import tifffile
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, RESUNIT

from napari_shiftseg.errors import ImageError
from napari_shiftseg.io.axes import name_axes, steps_of, unit_name
from napari_shiftseg.io.constants import (
    DEEPEST_XML,
    EAGER_BYTES,
    LARGEST_EDGE,
    LARGEST_PIXEL_UM,
    MOST_ELEMENTS,
    MOST_PLANES,
    PLANE_BYTES,
)
from napari_shiftseg.io.image import Image, native
from napari_shiftseg.io.raw_file import RawFile
from napari_shiftseg.views import ArrayLike, View

# The OME schema's own units, where an attribute names none.
_STEPS = (*((axis, f"PhysicalSize{axis.upper()}", "µm") for axis in "zyx"), ("t", "TimeIncrement", "s"))


@dataclass(frozen=True, kw_only=True)
class _Pixels:
    """Step and unit per axis letter and names of channels, as far as the file knows them, and what has to be said."""

    scale: Mapping[str, float]
    units: Mapping[str, str | None]
    channels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_tiff(path: Path, scene: int | None, *, lazy: bool = False) -> Image:
    """Image number `scene` of a TIFF file, the first one when it is None.

    ImageError if the scene is not there or the axes cannot be named. `lazy`: decode nothing before it is asked for, also where
    the file is small.
    """
    with _listening() as said, _opened(path) as file:
        number, notes = _choose(file, scene, path)
        series = file.series[number]
        page = series.keyframe
        letters, guess = name_axes(series.axes, series.shape)
        alpha = _has_alpha(page, series.axes)
        pixels = _pixels(file, number, page, path=path)
        notes += [guess, *_page_notes(page, dropped_alpha=alpha, imagej=file.is_imagej), *pixels.notes]
        _check_size(series, path)
        _check_ends(series.keyframe, path.name)
        notes += _cut_short(file, series) + _without_pixels(series)
        data = _open(file, path, series, number=number, eager=not lazy and series.nbytes <= EAGER_BYTES)
    notes += [f"tifffile says: {text}." for text in said[:1]]  # what follows the first fault follows from it
    data = _select(native(data, path.name), letters, drop_last_channel=alpha, name=path.name)
    axes = "".join(letter for letter in letters if letter)
    if alpha and len(data.shape) < len(axes):  # gray with alpha: one sample is left
        axes = axes.replace("c", "")
    scale, changed = steps_of([pixels.scale.get(axis, 1.0) for axis in axes], axes)
    known = [pixels.scale.get(axis) == step or pixels.scale.get(axis) == -step for axis, step in zip(axes, scale, strict=True)]
    sizes = dict(zip(axes, data.shape, strict=True))
    return Image(
        data=data,
        axes=axes,
        scale=scale,
        units=tuple(pixels.units.get(axis) if there else None for axis, there in zip(axes, known, strict=True)),
        name=path.name.split(".")[0],
        source=str(path),
        note=" ".join(note for note in (*notes, changed) if note),
        channels=pixels.channels if len(pixels.channels) == sizes.get("c") else (),
        assumed=guess,
    )


def tiff_scenes(path: Path) -> tuple[str, ...]:
    """Names of the images of a TIFF file."""
    with _listening(), _opened(path) as file:
        return tuple(series.name or f"image {number}" for number, series in enumerate(file.series))


@contextmanager
def _listening() -> Iterator[list[str]]:
    """What tifffile logs meanwhile, which would stand beside our own sentence on stderr."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage().rstrip("."))  # type: ignore[method-assign]
    logger = logging.getLogger("tifffile")
    before, level = logger.propagate, logger.level
    logger.propagate = False
    logger.setLevel(logging.WARNING)  # who has silenced it still wants to know of a damaged file
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = before


def _opened(path: Path) -> tifffile.TiffFile:
    """The file; as a plain one where its OME-XML is so wrong that its planes cannot be put in order."""
    file = tifffile.TiffFile(path)
    try:
        _check_xml(file.pages.first.description, path)
        _check_chain(file)
        _check_announced(file, path)
        _ = file.series
    except ImageError:
        file.close()
        raise
    except Exception:
        file.close()
        if not file.is_ome:
            raise
        file = tifffile.TiffFile(path, is_ome=False)
    return file


def _check_xml(text: str, path: Path) -> None:
    """Refuse XML that is deeper, or of more elements, than any that describes an image, before a tree is made of it.

    ImageError. `text`: of any kind; what is no XML is for others to judge.
    """
    depth = count = 0

    def begin(*_: object) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > DEEPEST_XML or count > MOST_ELEMENTS:
            what = f"is more than {DEEPEST_XML} levels deep" if depth > DEEPEST_XML else f"has over {MOST_ELEMENTS} elements"
            raise ImageError(f"the XML in {path.name} {what}, which describes no image; the file is damaged.")

    def end(*_: object) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    with suppress(expat.ExpatError):
        parser.Parse(text, True)


def _check_chain(file: tifffile.TiffFile) -> None:
    """Refuse pages of which one names an earlier one as the next: tifffile would go round for ever. ImageError."""
    tiff, handle = file.tiff, file.filehandle
    offset, seen = file.pages.first.offset, set[int]()
    while 0 < offset < handle.size:
        if offset in seen:
            raise ImageError(f"page {len(seen)} of {file.filename} names an earlier page as the next; the file is damaged.")
        seen.add(offset)
        handle.seek(offset)
        head = handle.read(tiff.tagnosize)
        if len(head) < tiff.tagnosize:
            return  # tifffile says so
        handle.seek(offset + tiff.tagnosize + struct.unpack(tiff.tagnoformat, head)[0] * tiff.tagsize)
        following = handle.read(tiff.offsetsize)
        if len(following) < tiff.offsetsize:
            return
        offset = int(struct.unpack(tiff.offsetformat, following)[0])


def _check_announced(file: tifffile.TiffFile, path: Path) -> None:
    """Refuse OME-XML that announces more planes than its files can hold: tifffile makes a list of them. ImageError."""
    try:
        root = ElementTree.fromstring(file.ome_metadata or "<OME/>")
    except ElementTree.ParseError:
        return
    names = {uuid.attrib.get("FileName", "") for uuid in root.iterfind("{*}Image/{*}Pixels/{*}TiffData/{*}UUID")}
    files = [path, *(path.parent / name for name in names if name and Path(name).name == name and name != path.name)]
    there = sum(place.stat().st_size for place in files if place.is_file())
    for place in filter(Path.is_file, files[1:]):
        with suppress(tifffile.TiffFileError), tifffile.TiffFile(place, is_ome=False) as other:
            _check_chain(other)
    for pixels in root.iterfind("{*}Image/{*}Pixels"):
        try:
            planes = prod(int(pixels.attrib.get(f"Size{axis}", 1)) for axis in "ZCT")
            largest = max(int(pixels.attrib.get(f"Size{axis}", 1)) for axis in "XY")
            counts = [int(data.attrib.get("PlaneCount", 1)) for data in pixels.iterfind("{*}TiffData")]
        except ValueError:
            continue  # what tifffile says of that has its own sentence
        announced = max([planes, *counts])
        if announced > MOST_PLANES and announced * PLANE_BYTES > there:
            raise ImageError(
                f"the OME-XML of {path.name} announces {announced} planes, and {there} bytes are there; the file is damaged."
            )
        if largest > LARGEST_EDGE:
            raise ImageError(f"the OME-XML of {path.name} announces planes of {largest} px; the file is damaged.")


def _choose(file: tifffile.TiffFile, scene: int | None, path: Path) -> tuple[int, list[str]]:
    count = len(file.series)
    if not count:
        raise ImageError(f"{path.name} is a TIFF file without an image.")
    if scene is not None and not 0 <= scene < count:
        raise ImageError(f"{path.name} has {count} scenes (0-{count - 1}), scene {scene} was asked for.")
    note = f"The file holds {count} images; the first was read." if scene is None and count > 1 else ""
    return scene or 0, [note]


def _has_alpha(page: Any, axes: str) -> bool:
    samples = tuple(int(sample) for sample in page.extrasamples or ())
    return "S" in axes and len(samples) == 1 and samples[0] in (EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA)


def _page_notes(page: Any, *, dropped_alpha: bool, imagej: bool) -> list[str]:
    notes = ["The alpha channel was dropped."] if dropped_alpha else []
    # The colour tables of ImageJ are display settings of channels, and a table of grays changes nothing.
    coloured = page.photometric == PHOTOMETRIC.PALETTE and not imagej and not (page.colormap == page.colormap[0]).all()
    if coloured:
        notes.append("The colour table was left out: the stored values are the gray values.")
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        notes.append("The file says that low values are bright; the stored values were kept.")
    return notes


def _cut_short(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> list[str]:
    """A sentence where the file announces more planes than there are: a copy of it broke off."""
    announced = (file.imagej_metadata or {}).get("images", 1) if file.is_imagej else 1
    there = math.prod(size for size, axis in zip(series.shape, series.axes, strict=True) if axis not in "YXS")
    if file.is_imagej and isinstance(announced, int) and announced > there and series.kind != "imagej":
        read = "1 is" if there == 1 else f"{there} are"
        return [f"The file announces {announced} planes and {read} there: it was cut short."]
    if not file.is_ndpi and _chain_breaks(file):
        return [f"The list of planes breaks off after {len(file.pages)}: the file was cut short."]
    return []


def _check_size(series: tifffile.TiffPageSeries, path: Path) -> None:
    """Refuse planes larger than any image, and gigabytes of which the file holds nothing: both are damage. ImageError."""
    largest = max((size for size, axis in zip(series.shape, series.axes, strict=True) if axis in "YX"), default=0)
    if largest > LARGEST_EDGE:
        raise ImageError(f"{path.name} announces planes of {largest} px; the file is damaged.")
    planes = [page for page in series.pages if page is not None]
    stored = series.dataoffset is not None or any(page.dataoffsets and sum(page.databytecounts) for page in planes)
    if series.nbytes > EAGER_BYTES and not stored:
        size = f"{series.nbytes / 1e9:.3g} GB"
        raise ImageError(f"{path.name} announces {size} of pixels and holds none; the file is damaged.")


def _without_pixels(series: tifffile.TiffPageSeries) -> list[str]:
    """A sentence on planes of which a strip or a tile is said to be of no bytes, or nowhere; it is read as zeros."""
    if series.dataoffset is not None:  # one piece
        return []
    planes = [page for page in series.pages if page is not None]
    holes = sum(not page.dataoffsets or 0 in (page.databytecounts or (0,)) or 0 in page.dataoffsets for page in planes)
    if not holes:
        return []
    verb = "lacks" if holes == 1 else "lack"
    return [f"{holes} of {len(planes)} planes {verb} pixels in the file; zeros stand in their place."]


def _check_ends(page: Any, name: str) -> None:
    """Let no strip or tile of a JPEG be decoded that is cut: what lacks would be grey, and nothing would say so.

    Then reading is an ImageError. Parts of a plane that is one JPEG, as in NDPI, have no ends of their own.
    """
    if page.compression not in (COMPRESSION.JPEG, COMPRESSION.JPEG2000) or page.jpegheader is not None:
        return
    decode = page.decode

    def checked(data: bytes | None, *args: Any, **named: Any) -> Any:
        # the end of the image comes after the last scan; neither mark can be among its values
        if data is not None and data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda"):
            raise ImageError(f"{name} holds a strip or a tile that was cut short; get the whole file.")
        return decode(data, *args, **named)

    page.__dict__["decode"] = checked  # where tifffile looks for it, since it makes its own but once


def _chain_breaks(file: tifffile.TiffFile) -> bool:
    """Whether the last page that is there names a next one, which is not."""
    page = file.pages[-1]
    handle, form = file.filehandle, file.tiff
    try:
        handle.seek(page.offset)
        (tags,) = struct.unpack(form.tagnoformat, handle.read(form.tagnosize))
        handle.seek(page.offset + form.tagnosize + tags * form.tagsize)
        (following,) = struct.unpack(form.offsetformat, handle.read(form.offsetsize))
    except struct.error:
        return True
    return bool(following >= handle.size)


def _open(file: tifffile.TiffFile, path: Path, series: tifffile.TiffPageSeries, *, number: int, eager: bool) -> ArrayLike:
    """Pixels of the series: in memory when it is small, as they lie on the disk when it is large."""
    if eager:
        return np.asarray(series.asarray(level=0))
    if series.dataoffset is not None and series.keyframe.is_memmappable:
        dtype = np.dtype(file.byteorder + np.dtype(series.dtype).str[1:])
        return RawFile(path, dtype=dtype, offset=int(series.dataoffset), shape=series.shape)
    import zarr

    # Opened anew, so that the store and not the caller's `with` owns the open file.
    store: Any = tifffile.imread(path, aszarr=True, series=number, level=0, is_ome=bool(file.is_ome))
    _check_ends(store._data[0].keyframe, path.name)  # tifffile has no other name for it
    array = zarr.open_array(store, mode="r")
    weakref.finalize(array, store.close)  # the store itself leaves the file open until the interpreter complains
    return array


def _select(data: ArrayLike, letters: tuple[str | None, ...], *, drop_last_channel: bool, name: str) -> ArrayLike:
    """The data without the axes that mean nothing and without the alpha channel; untouched where nothing is to drop."""
    if None not in letters and not drop_last_channel:
        return data
    picks: list[int | range] = [range(size) if letter else 0 for letter, size in zip(letters, data.shape, strict=True)]
    if drop_last_channel:
        channel = letters.index("c")
        picks[channel] = range(data.shape[channel] - 1) if data.shape[channel] > 2 else 0
    view = View(data, picks, [axis for axis, pick in enumerate(picks) if not isinstance(pick, int)], name=name)
    return view[...] if isinstance(data, np.ndarray) else view


def _pixels(file: tifffile.TiffFile, number: int, page: Any, *, path: Path) -> _Pixels:
    if file.is_ome and file.ome_metadata:
        return _described(file.ome_metadata, file.series, number, path=path, pages=len(file.pages))
    if file.is_imagej and file.imagej_metadata:
        return _imagej_pixels(file.imagej_metadata, page)
    plain = _tag_pixels(page)
    if "<OME " in (file.pages.first.description or "")[:4096]:
        return replace(plain, notes=("The OME-XML of the file cannot be read, so its axes and pixel sizes are not known.",))
    return plain


def _imagej_pixels(metadata: Mapping[str, Any], page: Any) -> _Pixels:
    scale, notes = {}, []
    for axis, key in (("z", "spacing"), ("t", "finterval")):
        try:
            scale[axis] = float(metadata.get(key, 1.0))
        except (TypeError, ValueError):
            notes.append(f"The file gives {key} as {metadata[key]!r}, which is no number; 1 pixel was taken.")
    for axis, per_unit in zip("xy", page.resolution, strict=True):
        scale[axis] = 1 / per_unit if per_unit else 1.0
    given = {key: _unescaped(value) for key, value in metadata.items() if key.endswith("unit")}
    unit = unit_name(given.get("unit"))
    units = {"x": unit, "y": unit_name(given.get("yunit", unit)), "z": unit_name(given.get("zunit", unit))}
    time = unit_name(given.get("tunit", "s")) if "finterval" in metadata else None
    return _Pixels(scale=scale, units={**units, "t": time}, notes=tuple(notes))


def _tag_pixels(page: Any) -> _Pixels:
    if page.resolutionunit != RESUNIT.CENTIMETER or not all(page.resolution):
        return _Pixels(scale={}, units={})
    steps = {axis: 1e4 / per_cm for axis, per_cm in zip("xy", page.resolution, strict=True)}
    if max(steps.values()) > LARGEST_PIXEL_UM:
        return _Pixels(scale={}, units={})
    return _Pixels(scale=steps, units=dict.fromkeys(steps, "micrometer"))


def _described(xml: str, series: Sequence[Any], number: int, *, path: Path, pages: int) -> _Pixels:
    """What the OME-XML says of series `number` of a file of so many planes, beside which the others of a set lie.

    Images that are described and have no pixels in the file are passed over, as tifffile does, so that a series is not taken
    for another image.
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
    found = _image_of(series, number, images, root=root)
    if found is None:
        return _nothing(
            f"The OME-XML describes {len(names)} images and does not say which of them this is; its steps were left."
        )
    notes = _absent(len(names), len(series)) + _missing(found, series[number], path) + _more(series, pages)
    scale, units, faults = _steps(found)
    return _Pixels(scale=scale, units=units, channels=_channels(found), notes=(*notes, *faults))


def _nothing(note: str) -> _Pixels:
    return _Pixels(scale={}, units={}, notes=(note,))


def _image_of(series: Sequence[Any], number: int, images: list[Any], *, root: Any) -> Any | None:
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


def _unescaped(unit: object) -> object:
    if not isinstance(unit, str):
        return unit
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), unit)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
