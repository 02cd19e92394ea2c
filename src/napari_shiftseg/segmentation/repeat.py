"""A job, or the record of a result, in words that run it again: a Python script, and a line for a shell."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from napari_shiftseg.analysis.traits import sample_windows
from napari_shiftseg.errors import ImageError, ModelError, ResultError
from napari_shiftseg.io import Image, load_model, read_image
from napari_shiftseg.io.image import describe_file
from napari_shiftseg.segmentation.constants import EVERYTHING, LINE
from napari_shiftseg.segmentation.decision import pixel_digest
from napari_shiftseg.segmentation.job import Job, gather
from napari_shiftseg.segmentation.settings import SegmentSettings

# Fields of the settings whose option has another name than they have; the others have theirs.
_OPTIONS = {"write": "tile", "keep_embedding": "embedding"}


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """A job that is to be put into words, and what a record adds to it."""

    job: Job
    pixels: str | None = None  # digest of those of its image, where the image is not open
    store: Path | None = None  # a result, which may hold the image
    changed: Mapping[str, Any] = field(default_factory=dict)  # in labels that were made anew: what no run has as a setting
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Origin:
    """Where the image of a job can be read."""

    path: str = ""  # "" where no file holds its pixels
    scene: int | None = None
    axes: str | None = None  # what the axes of the file are, where it does not say so itself
    channels: tuple[int, ...] | None = None  # those of the file that the network gets
    flat: bool = False  # whether the labels lack axes of one pixel that those of the job have
    note: str = ""  # why there is no path


def job_of(record: Mapping[str, Any]) -> Job:
    """The job of a record, without its image and model.

    ResultError if the record is no record of a run, or one of an older version.
    """
    if not isinstance(record, Mapping) or "job" not in record:
        raise ResultError("the result does not say how it was made, since an older version made it; segment the image again.")
    return Job.from_dict(record["job"])


def as_code(record: Mapping[str, Any], store: str | Path | None = None) -> str:
    """A Python script that gives the labels of a result again.

    Parameters
    ----------
    record : mapping
        Of a result: `Segmentation.record`, `open_result(...).record`, or what ``shiftseg segment --json`` prints.
    store : path, optional
        Where the result lies. It may hold the image, which is read there if the file of the run is gone.

    Returns
    -------
    str
        As of `Job.to_code`, with comments on what it does not repeat: edits by hand, an image that no file holds, a model that
        is not there any more. Labels that `relabel` made are made by it again where no setting of a run gives them.

    Raises
    ------
    ResultError
        If the record does not say how the result was made.

    >>> from napari_shiftseg import decide, segment, synthetic
    >>> result = segment(synthetic.disks((96, 64), 40, 12).image, "nuclei", SegmentSettings(write=32))
    >>> as_code(result.record) == decide(result.image, "nuclei", SegmentSettings(write=32)).to_code()
    True
    """
    return _code(_wanted(record, store))


def as_command(record: Mapping[str, Any], store: str | Path | None = None) -> str:
    """A line for a shell that gives the labels of a result again; parameters, comments above it and errors as in `as_code`."""
    return _command(_wanted(record, store))


def code_of(job: Job) -> str:
    """A script that runs the job again; see `Job.to_code`."""
    return _code(_Wanted(job=job))


def command_of(job: Job) -> str:
    """A line for a shell that runs the job again; see `Job.to_command`."""
    return _command(_Wanted(job=job))


def _wanted(record: Mapping[str, Any], store: str | Path | None) -> _Wanted:
    job, changed, notes = job_of(record), {}, []
    told = record.get("relabelled")
    if told:
        pairs: dict[str, Any] = told["changed"]
        if told["from"] != "embedding" or set(pairs) - set(SegmentSettings.__dataclass_fields__):
            changed = {name: _plain(new) for name, (_, new) in pairs.items()}
            first = {name: old for name, (old, _) in pairs.items() if name in SegmentSettings.__dataclass_fields__}
            job = replace(job, settings=replace(job.settings, **first))
    if edits := len(record.get("edits") or ()):
        notes.append(f"# The labels were edited by hand ({edits} edit{'s' * (edits != 1)}), which this does not repeat.")
    if record.get("linked"):
        notes.append("# The labels were linked through planes or frames, which this does not repeat: shiftseg link does.")
    notes += _other_model(job)
    pixels = (record.get("image") or {}).get("pixels")
    # the store of the run is there; labels that are made anew out of core need a place all the same
    source = job.image.source if Path(job.image.source).exists() else ""
    place = f"{_stem(source, job.image.name)}_again.ome.zarr" if job.large else None
    where = None if store is None else Path(store)
    return _Wanted(job=replace(job, out=place), pixels=pixels, store=where, changed=changed, notes=tuple(notes))


def _other_model(job: Job) -> list[str]:
    """A comment where the model of a run is not there any more."""
    source, digest = job.model.source, job.model.sha256
    if not source:
        return []
    try:
        same = load_model(source).hash == digest
    except ModelError:
        return [f"# The model {_text(source)} is not there any more: name its file (SHA-256 {digest[:12]})."]
    return [] if same else [f"# The model {_text(source)} is another one now: name the file of SHA-256 {digest[:12]}."]


def _code(wanted: _Wanted) -> str:
    job, origin = wanted.job, _origin(wanted)
    names, notes, facts = ["SegmentSettings", "load_model", "segment"], [*wanted.notes], job.image
    if origin.path:
        given = {"scene": origin.scene, "axes": origin.axes}
        image = [_call("image = read_image", _text(origin.path), {k: v for k, v in given.items() if v is not None})]
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
    anew = []
    if wanted.changed:
        names.insert(-1, "relabel")
        place = {"out": _relabelled(job.out)} if job.large and job.out is not None else {}
        anew = [_call("result = relabel", "result", {**wanted.changed, **place})]
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
            *anew,
            f"labels = result.labels{f'.reshape{shape}' * origin.flat}  # uint32, axes {job.axes}, shape {shape}",
            "",
        ]
    )


def _command(wanted: _Wanted) -> str:
    job, origin = wanted.job, _origin(wanted)
    model = job.model.source or "MODEL.safetensors"
    words = ["shiftseg", "segment", origin.path or "IMAGE.tif"]
    words += [] if model == "nuclei" else ["--model", model]
    words += [] if origin.scene is None else ["--scene", str(origin.scene)]
    axes = origin.axes if origin.path else job.image.axes
    words += [] if axes is None else ["--axes", axes]
    for name, value in _changed(job.settings, origin.channels):
        words += _option(_OPTIONS.get(name, name).replace("_", "-"), value)
    stem = _stem(origin.path, job.image.name)
    labels, store = f"{stem}_labels.tif", job.out or f"{stem}_shiftseg.ome.zarr"
    lines = [[*words, "--out", store] if job.out or job.large or wanted.changed else [*words, "--labels-tiff", labels]]
    if wanted.changed:
        options = [word for name, value in wanted.changed.items() for word in _option(name.replace("_", "-"), value)]
        place = ["--out", _relabelled(store)] if job.large else ["--labels-tiff", labels]
        lines.append(["shiftseg", "relabel", store, *options, *place])
    notes = [*wanted.notes] + ([] if origin.path else [f"# {origin.note}: save it, and name its file instead of IMAGE.tif."])
    if not job.model.source:
        notes.append(f"# The model {_text(job.model.name)} was never saved: save it, and name its file instead of {model}.")
    return "\n".join([*notes, " && ".join(map(shlex.join, lines))])


def _stem(path: str, name: str) -> str:
    return Path(path or name).name.partition(".")[0] or "image"


def _relabelled(store: str) -> str:
    """A store beside one."""
    return f"{store.removesuffix('.ome.zarr')}_relabelled.ome.zarr"


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


def _origin(wanted: _Wanted) -> _Origin:
    """Where the image can be read: its file, if the pixels there are those of the job, else the result that holds it."""
    job = wanted.job
    facts, path = job.image, Path(job.image.source)
    shown = f"{_text(facts.name)} ({facts.dtype}, {' x '.join(map(str, facts.shape))}, axes {facts.axes})"
    why = f"The image {shown} {f'is not what {path.name} holds' if path.exists() else 'lies in memory alone'}"
    found: list[_Origin] = []
    for place in (path, wanted.store):
        if place is None or not place.exists() or found:
            continue
        try:
            known = facts.scene if place is path else None
            file = describe_file(place) if known is None else read_image(place, scene=known)
            readings = _readings(job, file, place) if place is path else _copies(job, file, place)
            found = [origin for image, origin in readings if _is_same(wanted, image, origin.channels)]
        except ImageError:
            found = []
    if len(found) == 1:  # of several channels that look the same nobody knows which it was
        return found[0]
    return _Origin(channels=job.channels, note=why)


def _copies(job: Job, file: Image, path: Path) -> Iterator[tuple[Image, _Origin]]:
    """The copy of an image in a result, whose axes are in the order of files."""
    if sorted(file.axes) == sorted(job.image.axes):
        yield file, _Origin(path=str(path.absolute()), channels=job.channels)


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


def _is_same(wanted: _Wanted, image: Image, channels: tuple[int, ...] | None) -> bool:
    """Whether a run on the image would see what that of the job sees."""
    job = wanted.job
    have = image.sizes.get("c", 1)
    if job.plan.lattice.in_channels != (have if channels is None else len(channels)) or max(channels or (0,)) >= have:
        return False
    if job.inputs is None:
        return wanted.pixels is None or _is_known(wanted, image, channels)
    own = job.inputs.frames
    there = gather(image, job.inputs.model, channels).frames
    if len(there) != len(own) or any(a.view.shape != b.view.shape for a, b in zip(there, own, strict=True)):
        return False
    shape = own[0].view.shape[1:]
    small = prod(shape) * len(own) <= EVERYTHING
    windows = [(slice(None),) * len(shape)] if small else sample_windows(shape)
    numbers = range(len(own)) if small else sorted({0, len(own) // 2, len(own) - 1})
    parts = [(frame, (slice(None), *window)) for frame in numbers for window in windows]
    return all(_are_equal(there[frame].view[part], own[frame].view[part]) for frame, part in parts)


def _is_known(wanted: _Wanted, image: Image, channels: tuple[int, ...] | None) -> bool:
    """Whether the pixels are those that a record remembers."""
    job = wanted.job
    frames = image.frames(job.plan.lattice.ndim, channels)
    same = len(frames) == job.frames and frames[0].view.shape[1:] == job.plan.image_shape
    return same and pixel_digest(frames) == wanted.pixels


def _are_equal(some: Any, others: Any) -> bool:
    some, others = np.asarray(some), np.asarray(others)
    return some.dtype == others.dtype and np.array_equal(some, others, equal_nan=some.dtype.kind == "f")
