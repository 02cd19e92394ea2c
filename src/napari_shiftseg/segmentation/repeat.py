"""A job in words that run it again: a Python script, and a line for a shell."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from napari_shiftseg.analysis.traits import sample_windows
from napari_shiftseg.errors import ImageError
from napari_shiftseg.io import Image, read_image
from napari_shiftseg.io.image import describe_file
from napari_shiftseg.segmentation.constants import EVERYTHING, LINE
from napari_shiftseg.segmentation.job import Job, gather
from napari_shiftseg.segmentation.settings import SegmentSettings

# Fields of the settings whose option has another name than they have; the others have theirs.
_OPTIONS = {"write": "tile", "keep_embedding": "embedding"}


@dataclass(frozen=True, kw_only=True)
class _Origin:
    """Where the image of a job can be read."""

    path: str = ""  # "" where no file holds its pixels
    scene: int | None = None
    axes: str | None = None  # what the axes of the file are, where it does not say so itself
    channels: tuple[int, ...] | None = None  # those of the file that the network gets
    flat: bool = False  # whether the labels lack axes of one pixel that those of the job have
    note: str = ""  # why there is no path


def code_of(job: Job) -> str:
    """A script that runs the job again; see `Job.to_code`."""
    origin = _origin(job)
    names, notes, facts = ["SegmentSettings", "load_model", "segment"], [], job.image
    if origin.path:
        wanted = {"scene": origin.scene, "axes": origin.axes}
        image = [_call("image = read_image", _text(origin.path), {k: v for k, v in wanted.items() if v is not None})]
        names.insert(2, "read_image")
    else:
        notes.append(f"# {origin.note}: put the array in the place of the dots.")
        image = [
            f"array = ...  # {facts.dtype}, shape {facts.shape}",
            f"image = Image.from_array(array, axes={_text(facts.axes)})",
        ]
    if not job.model.source:
        notes.append(f"# The model {_text(job.model.name)} was never saved: save it with save_model, and name its file.")
    changed = dict(_changed(job.settings, origin.channels))
    shape = (*job.lengths, *job.plan.result_shape)
    asked = ["image", "model", *(["settings"] if changed else []), *([] if job.out is None else [f"out={_text(job.out)}"])]
    return "\n".join(
        [
            *notes,
            f"from napari_shiftseg import {', '.join(names if changed else names[1:])}",
            *([] if origin.path else ["from napari_shiftseg.io import Image"]),
            "",
            *image,
            f"model = load_model({_text(job.model.source or 'MODEL.safetensors')})",
            *([_call("settings = SegmentSettings", "", changed)] if changed else []),
            f"result = segment({', '.join(asked)})",
            f"labels = result.labels{f'.reshape{shape}' * origin.flat}  # uint32, axes {job.axes}, shape {shape}",
            "",
        ]
    )


def command_of(job: Job) -> str:
    """A line for a shell that runs the job again; see `Job.to_command`."""
    origin = _origin(job)
    model = job.model.source or "MODEL.safetensors"
    words = ["shiftseg", "segment", origin.path or "IMAGE.tif"]
    words += [] if model == "nuclei" else ["--model", model]
    words += [] if origin.scene is None else ["--scene", str(origin.scene)]
    axes = origin.axes if origin.path else job.image.axes
    words += [] if axes is None else ["--axes", axes]
    for name, value in _changed(job.settings, origin.channels):
        words += _option(_OPTIONS.get(name, name).replace("_", "-"), value)
    stem = Path(origin.path or job.image.name).name.partition(".")[0] or "image"
    place = f"{stem}_shiftseg.ome.zarr" if job.large else f"{stem}_labels.tif"
    words += ["--out", job.out or place] if job.out or job.large else ["--labels-tiff", place]
    notes = [] if origin.path else [f"# {origin.note}: save it, and name its file instead of IMAGE.tif."]
    if not job.model.source:
        notes.append(f"# The model {_text(job.model.name)} was never saved: save it, and name its file instead of {model}.")
    return "\n".join([*notes, shlex.join(words)])


def _changed(settings: SegmentSettings, channels: tuple[int, ...] | None) -> Iterator[tuple[str, Any]]:
    """Those of the settings that are not as by default, as plain Python values."""
    for known in fields(settings):
        value = channels if known.name == "channels" else getattr(settings, known.name)
        if value != known.default:
            yield known.name, _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(map(_plain, value))
    return value.item() if hasattr(value, "item") else value


def _option(name: str, value: Any) -> list[str]:
    """A setting as options of the command."""
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", _joined(value)]


def _joined(value: Any) -> str:
    """Numbers with commas between them, and pairs with colons."""
    if not isinstance(value, tuple):
        return str(value)
    return (":" if value and isinstance(value[0], tuple) else ",").join(map(_joined, value))


def _call(name: str, first: str, named: dict[str, Any]) -> str:
    """A call with named values, on one line where it fits."""
    given = [*filter(None, [first]), *(f"{key}={_value(value)}" for key, value in named.items())]
    line = f"{name}({', '.join(given)})"
    return line if len(line) <= LINE or len(given) == 1 else "\n".join([f"{name}(", *(f"    {part}," for part in given), ")"])


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    return f'float("{value}")' if isinstance(value, float) and not math.isfinite(value) else repr(value)


def _text(value: str) -> str:
    plain = value.isprintable() and not set(value) & set('"\\')
    return f'"{value}"' if plain else repr(value)


def _origin(job: Job) -> _Origin:
    """Where the image can be read: its file, if the pixels there are those of the job."""
    facts, path = job.image, Path(job.image.source)
    shown = f"{_text(facts.name)} ({facts.dtype}, {' x '.join(map(str, facts.shape))}, axes {facts.axes})"
    if not path.exists():
        return _Origin(channels=job.channels, note=f"The image {shown} lies in memory alone")
    try:
        file = describe_file(path) if facts.scene is None else read_image(path, scene=facts.scene)
        found = [origin for image, origin in _readings(job, file, path) if _is_same(job, image, origin.channels)]
    except ImageError:
        found = []
    if len(found) == 1:  # of several channels that look the same nobody knows which it was
        return found[0]
    return _Origin(channels=job.channels, note=f"The image {shown} is not what {path.name} holds")


def _readings(job: Job, file: Image, path: Path) -> Iterator[tuple[Image, _Origin]]:
    """The file as the job can have seen it: with its own axes, with those that the user named, or one of its channels."""
    facts = job.image
    origin = _Origin(path=str(path.absolute()), scene=facts.scene, channels=job.channels)
    if len(file.axes) == len(facts.axes):
        says = file.axes == facts.axes and not file.assumed
        yield (file, origin) if says else (file.called(facts.axes), replace(origin, axes=facts.axes))
    elif facts.sizes.get("c", 1) == 1:  # viewers make a layer of each channel, and keep axes of one pixel
        count, looped = file.sizes.get("c", 1), [size for axis, size in file.sizes.items() if axis in job.axes]
        for channel in range(count):
            yield file, replace(origin, channels=(channel,) if count > 1 else None, flat=len(looped) < len(job.axes))


def _is_same(job: Job, image: Image, channels: tuple[int, ...] | None) -> bool:
    """Whether a run on the image would see what that of the job sees."""
    if job.inputs is None:
        return True  # nothing tells otherwise
    model, own = job.inputs.model, job.inputs.frames
    have = image.sizes.get("c", 1)
    if model.lattice.in_channels != (have if channels is None else len(channels)) or max(channels or (0,)) >= have:
        return False
    there = gather(image, model, channels).frames
    if len(there) != len(own) or any(a.view.shape != b.view.shape for a, b in zip(there, own, strict=True)):
        return False
    shape = own[0].view.shape[1:]
    small = prod(shape) * len(own) <= EVERYTHING
    windows = [(slice(None),) * len(shape)] if small else sample_windows(shape)
    numbers = range(len(own)) if small else sorted({0, len(own) // 2, len(own) - 1})
    parts = [(frame, (slice(None), *window)) for frame in numbers for window in windows]
    return all(_are_equal(there[frame].view[part], own[frame].view[part]) for frame, part in parts)


def _are_equal(some: Any, others: Any) -> bool:
    some, others = np.asarray(some), np.asarray(others)
    return some.dtype == others.dtype and np.array_equal(some, others, equal_nan=some.dtype.kind == "f")
