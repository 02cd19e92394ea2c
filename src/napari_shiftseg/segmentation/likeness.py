"""Whether an image, and what was found in it, is like what its model knows: the windows that are looked at, and the remedy.

The same windows tell which of the bundled models knows an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.analysis.constants import SAMPLE_EDGE
from napari_shiftseg.analysis.likeness import Difference, Likeness, differences, evidence, ground_of
from napari_shiftseg.analysis.traits import FoundWindow, found_traits, image_traits, sample_windows
from napari_shiftseg.arguments import told
from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.files import stamp_of
from napari_shiftseg.geometry import Output
from napari_shiftseg.io import Image, bundled_models, load_model, read_image, read_record
from napari_shiftseg.network import Known, Model, Normalisation
from napari_shiftseg.network.scaled import scaled_pixels
from napari_shiftseg.segmentation.constants import FOUND_EDGE, FRAMES, SCALES
from napari_shiftseg.segmentation.decision import decide
from napari_shiftseg.segmentation.intensity import scale_frames
from napari_shiftseg.segmentation.job import Job
from napari_shiftseg.segmentation.settings import SegmentSettings

Windows = Sequence[npt.NDArray[np.floating]]
Traits = tuple[Mapping[str, float], ...]
"""Of an image, per channel."""

_OTHERWISE = "Use a model of such images, or train one on a few of them (shiftseg train)"
_REMEDIES = {
    "channels": "Choose the channels that the model knows",
    "dimensions": "Its planes are segmented one by one; use a 3D model for objects that reach through several",
}
# Of the settings, those that change what the network sees in the same way for all models.
_INTENSITIES = ("percentiles", "limits", "limits_per", "invert", "no_data")


def look(job: Job, *, likeness: bool = True) -> Job:
    """The job with what only the pixels tell: which intensities become 0 and 1, and whether the model knows such images.

    ShiftsegError if the image cannot be scaled as wished. `likeness`: whether to compare the image with what the model knows.
    """
    inputs = job.opened
    stamp = stamp_of(inputs.image.data)
    if job.intensity is None or (inputs.stamp is not None and stamp != inputs.stamp):  # or the image changed since it was seen
        if inputs.reader is not None and stamp != inputs.stamp:
            inputs.reader.forget()
        intensity = scale_frames(inputs.model.record, inputs.frames, job.settings)
        job = replace(job, intensity=intensity, likeness="", inputs=replace(inputs, stamp=stamp))
    return replace(job, likeness=compare_image(job).text) if likeness and not job.likeness else job


def likeness(image: Any, model: Model | str | Path, settings: SegmentSettings | None = None) -> Likeness:
    """Whether an image is like those that a model was trained on; the network does not run.

    ShiftsegError for images and models that cannot work together. `image`, `model`, `settings`: as in `segment`.
    """
    chosen = model if isinstance(model, Model) else load_model(model)
    picture = read_image(image) if isinstance(image, str | Path) else image
    wish = replace(settings or SegmentSettings(), allow_noncompliant=True)
    have, wanted = picture.sizes.get("c", 1) if isinstance(picture, Image) else 0, chosen.lattice.in_channels
    if not have or wish.channels is not None or have == wanted:
        return _of_pixels(picture, chosen, wish)
    words = f"it has {have} channel{'s' * (have > 1)}, and the model knows {wanted}"
    told: tuple[Difference, ...] = (Difference(trait="channels", text=words, value=have, low=wanted, high=wanted),)
    if have > wanted:  # those that a user would try first
        found = _of_pixels(picture, chosen, replace(wish, channels=tuple(range(wanted))))
        told = (*told, *found.differences)
    others = tuple(name for name in suggest_models(picture, wish) if name != chosen.source)
    remedy = _remedy(told, "", others)
    return Likeness(model=chosen.name, known=_known(chosen), differences=told, remedy=remedy, suggested=others)


def _of_pixels(image: Any, model: Model, settings: SegmentSettings) -> Likeness:
    return compare_image(look(decide(image, model, settings, refuse=False), likeness=False))


def compare_image(job: Job) -> Likeness:
    """Before a run: the image alone, as the network will see it.

    `job`: opened and looked at.

    Returns
    -------
    Likeness
        From at most nine windows of 256 px (or eight of 64 in 3D) of at most five frames.
    """
    known = _known(job.opened.model)
    if known is None:
        return Likeness(model=job.opened.model.name, known=None)
    windows = sampled(job)
    traits = traits_of(windows)
    told = (*_stack(job.opened.image, known), *unlike(known, traits))
    others = others_that_know(job, traits) if told else ()
    alike = {one.trait for one in told} <= {*_REMEDIES}  # no change of the pixels is called for
    changed, sure = ("", -np.inf) if alike or not told else _changed(known, windows, resize=job.size is None)
    if changed and others and sure > others[0][1] and job.channels is None:  # a model of all channels sees more than a part
        others = ()
    names = tuple(name for name, _ in others)
    remedy = _remedy(told, changed, names)
    return Likeness(model=job.opened.model.name, known=known, differences=told, remedy=remedy, suggested=names)


def compare_result(job: Job, labels: Any, foreground: Any = None, *, embedding: Any = None) -> Likeness:
    """After a run: the image and the objects that were found in it.

    Parameters
    ----------
    labels : array-like
        ([t], [z], y, x), in memory or on disk; read window by window.
    foreground : array-like, optional
        Of the same shape.
    embedding : array-like, optional
        (E, *labels.shape).
    """
    before = compare_image(job)
    if before.known is None:
        return before
    found = _found(job, before.known, labels, foreground=foreground, embedding=embedding)
    told = (*before.differences, *found)
    remedy = before.remedy or (_OTHERWISE + "." if found else "")
    return replace(before, differences=told, objects=True, remedy=remedy)


def codes_of(embedding: Any, output: Output) -> npt.NDArray[np.float32]:
    """What the pixels of a window are clustered by: where the embedding holds offsets, their places in the window are added."""
    codes = np.array(embedding, np.float32)
    if output.meaning == "offset":
        codes[: codes.ndim - 1] += np.indices(codes.shape[1:], dtype=np.float32)
    return codes


def _known(model: Model) -> Known | None:
    return None if model.record is None else model.record.known


def _stack(image: Image, known: Known) -> tuple[Difference, ...]:
    planes = image.sizes.get("z", 1)
    if known.ndim != 2 or planes == 1:
        return ()
    return (Difference(trait="dimensions", text=f"it is a stack of {planes} planes, and the model knows single planes"),)


def _found_window(job: Job, pixels: npt.NDArray[np.float32], labels: Any, *, foreground: Any, embedding: Any) -> FoundWindow:
    """What was found in a window, in pixels of the network; arrays as of `compare_result`."""
    labels, foreground = np.asarray(labels), None if foreground is None else np.asarray(foreground)
    output, scaling = job.opened.model.embedding, job.plan.lattice.scaling
    codes = None if embedding is None else codes_of(embedding, output)
    if scaling is not None:
        middles: Any = np.ix_(*(axis.middles(size) for axis, size in zip(scaling.axes, labels.shape, strict=True)))
        labels = labels[middles]
        foreground = None if foreground is None else foreground[middles]
        if codes is not None:
            codes = np.stack([channel[middles] for channel in codes])
            for axis, scale in enumerate(scaling.scale if output.meaning == "offset" else ()):
                codes[axis] *= scale
    return FoundWindow(pixels=pixels.mean(axis=0), labels=labels, foreground=foreground, codes=codes)


def _changed(known: Known, frames: Sequence[Windows], *, resize: bool) -> tuple[str, float]:
    """A change of the image that makes it like what is known, as a remedy, with its `evidence`; "" where there is none."""
    traits = traits_of([[1 - window for window in windows] for windows in frames])
    if not unlike(known, traits):
        text = "Invert it (Intensities > Dark objects on bright, or --invert): the inverted image is like that"
        return text, evidence(traits, known.traits)
    for scale in SCALES if resize else ():
        traits = traits_of([[_scaled(window, scale) for window in windows] for windows in frames])
        if not unlike(known, traits):
            text = f"Scale it by {scale:g} (Object diameter, or --diameter auto): it is like that then"
            return text, evidence(traits, known.traits)
    return "", -np.inf


def _scaled(window: npt.NDArray[np.floating], scale: float) -> npt.NDArray[np.floating]:
    """A window (C, *shape) with pixels of another size."""
    from skimage.transform import resize

    shape = (window.shape[0], *(max(8, round(edge * scale)) for edge in window.shape[1:]))
    if scale > 1:  # no more pixels than before
        window = window[(slice(None), *(slice(0, max(8, int(edge / scale))) for edge in window.shape[1:]))]
        shape = (window.shape[0], *(round(edge * scale) for edge in window.shape[1:]))
    scaled: npt.NDArray[np.floating] = resize(window, shape, order=1, anti_aliasing=scale < 1, preserve_range=True)
    return scaled


def _remedy(told: Sequence[Difference], changed: str, others: Sequence[str] = ()) -> str:
    """What to do, in sentences; the names of models that know such images come first, then a change of the image."""
    if not told:
        return ""
    if others:
        return f"Use the model {others[0]}: it is like what that knows."
    words = [_REMEDIES[one.trait] for one in told if one.trait in _REMEDIES]
    if any(one.trait not in _REMEDIES for one in told):
        words.append(changed or _OTHERWISE)
    return ". ".join(words) + "."


def _found(job: Job, known: Known, labels: Any, *, foreground: Any, embedding: Any) -> tuple[Difference, ...]:
    """Traits of the objects that are not known."""
    rows, most = [], 0
    # of an embedding in pixels, those of the network
    length = float(np.prod(job.plan.lattice.scale)) ** (1 / known.ndim) if job.clustering.coordinates else 1.0
    for frame in picked(len(job.opened.frames)):
        at = tuple(job.opened.frames[frame].index.values())
        windows = []
        for part in parts_of(job, job.plan.result_shape, FOUND_EDGE[known.ndim], most=2):
            read = tuple(slice(p.start + o, p.stop + o) for p, o in zip(part, job.plan.origin, strict=True))
            windows.append(
                _found_window(
                    job,
                    seen(job, frame, read),
                    labels[(*at, *part)],
                    foreground=None if foreground is None else foreground[(*at, *part)],
                    embedding=None if embedding is None else embedding[(slice(None), *at, *part)],
                )
            )
        most = max(most, *(int(window.labels.max()) for window in windows))
        rows.append(found_traits(windows, job.clustering.bandwidth * length))
    if not most:
        return (Difference(trait="objects", text="no object was found"),)
    return differences(medians(rows), known.found)


# -- which model knows an image ------------------------------------------------------------------------------------------


@told
def suggest_models(image: Any, settings: SegmentSettings | None = None) -> tuple[str, ...]:
    """The bundled models that know images like this one, the one that knows them best first; no network runs.

    A model is named if it takes as many channels and axes as the image has and the image is like those that it was trained on
    (`likeness`). Which of several knows it best is decided by how often the traits of their training images are those of this
    one. Models that only demonstrate something are never named.

    Parameters
    ----------
    image : path, Image or array
        As in `segment`.
    settings : SegmentSettings, optional
        Of its wishes, those on intensities count.

    Returns
    -------
    tuple of str
        Names for `load_model`; empty where no bundled model knows such images.

    Raises
    ------
    ImageError
        If a file cannot be read.

    >>> from importlib.resources import files
    >>> suggest_models(files("napari_shiftseg") / "samples" / "nuclei.tif")[0]
    'nuclei'
    """
    picture = read_image(image) if isinstance(image, str | Path) else image
    return tuple(name for name, _ in _ranked(picture, settings or SegmentSettings(), {}))


def others_that_know(job: Job, traits: Traits) -> tuple[tuple[str, float], ...]:
    """The bundled models but that of a job which know its image, as `suggest_models` orders them, each with its `evidence`.

    `traits`: of the image, as the network of the job sees it.
    """
    view = _view(job.opened.model.lattice.ndim, len(traits), job.opened.model.record)
    same = job.plan.lattice.scaling is None and job.channels is None
    found = _ranked(job.opened.image, job.settings, {view: traits} if same else {})
    return tuple(one for one in found if one[0] != job.model.source)


def _ranked(image: Any, settings: SegmentSettings, known_views: dict[Any, Traits]) -> tuple[tuple[str, float], ...]:
    """Names of the models that know an image, with their evidence; the traits of a view are taken once for all that have it."""
    wish = SegmentSettings(
        **{name: getattr(settings, name) for name in _INTENSITIES}, device="cpu", out_of_core=False, allow_noncompliant=True
    )
    views: dict[Any, Traits | None] = {**known_views}
    found = []
    for name, known, view in _cards():
        if not _may_fit(image, known):
            continue
        if view not in views:
            views[view] = _traits(image, name, settings=wish, known=known)
        traits = views[view]
        if traits is not None and not unlike(known, traits):
            found.append((name, evidence(traits, known.traits)))
    return tuple(sorted(found, key=lambda one: (-one[1], one[0])))


def _traits(image: Any, name: str, *, settings: SegmentSettings, known: Known) -> Traits | None:
    """Of an image as a model sees it; None where it has other axes or channels than the network takes."""
    try:
        job = decide(image, load_model(name), settings, refuse=False)
        if not _may_fit(job.opened.image, known):  # an array, whose axes nobody knew before
            return None
        inputs = job.opened
        job = replace(job, intensity=scale_frames(inputs.model.record, inputs.frames, job.settings))
        return traits_of(sampled(job))
    except ShiftsegError:
        return None


def _may_fit(image: Any, known: Known) -> bool:
    """Whether the axes of an image are those of a model; of an array they are not known yet."""
    sizes = getattr(image, "sizes", None)
    if sizes is None:
        return True
    volume = sizes.get("z", 1) > 1
    return bool(volume == (known.ndim == 3) and sizes.get("c", 1) == known.channels)


def _view(ndim: int, channels: int, record: Any) -> tuple[int, int, Normalisation]:
    """Models of one view see the same pixels."""
    return ndim, channels, Normalisation() if record is None else record.normalisation


@cache
def _cards() -> tuple[tuple[str, Known, tuple[int, int, Normalisation]], ...]:
    """Name, knowledge and view of the bundled models that are meant for images of users."""
    return tuple(_read_cards())


def _read_cards() -> Iterator[tuple[str, Known, tuple[int, int, Normalisation]]]:
    for name in bundled_models():
        record = read_record(name)
        if record is not None and record.known is not None and not record.known.demonstration and record.known.traits:
            yield name, record.known, _view(record.known.ndim, record.known.channels, record)


# -- what a network sees of an image ---------------------------------------------------------------------------------------


def sampled(job: Job) -> list[Windows]:
    """Windows (C, *shape) of the frames that are looked at, as the network sees them; `job`: opened and looked at."""
    return [_windows(job, number) for number in picked(len(job.opened.frames))]


def traits_of(frames: Sequence[Windows]) -> Traits:
    """Medians over the frames."""
    return tuple(
        medians([image_traits([window[channel] for window in windows]) for windows in frames])
        for channel in range(len(frames[0][0]))
    )


def medians(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of each number, over the rows that have it."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: float(np.median([row[name] for row in rows if name in row])) for name in names}


def unlike(known: Known, traits: Traits) -> tuple[Difference, ...]:
    """All traits of the image that are not known, of all channels."""
    found: list[Difference] = []
    for channel, (own, ranges) in enumerate(zip(traits, known.traits, strict=False)):
        where = f"in channel {channel} " if known.channels > 1 else ""
        told = differences(own, ranges, where)
        ground = ground_of(own)
        if told and known.polarity and ground and ground != known.polarity and known.channels == 1:
            words = "dark objects on a bright background" if ground == "dark" else "bright objects on a dark background"
            found.append(Difference(trait="polarity", text=words))
        found.extend(told)
    return tuple(sorted(found, key=lambda one: (one.trait != "polarity", -one.excess)))


def picked(frames: int) -> list[int]:
    """Frames at even distances, none of them at an end of a longer series, where stacks are empty."""
    count = min(FRAMES, frames)
    return [int((number + 0.5) / count * frames) for number in range(count)]


def _windows(job: Job, frame: int) -> list[npt.NDArray[np.float32]]:
    """Windows (C, *shape) of a frame as the network sees them."""
    shape = job.opened.frames[frame].view.shape[1:]
    return [seen(job, frame, part) for part in parts_of(job, shape, SAMPLE_EDGE[len(shape)])]


def parts_of(job: Job, shape: Sequence[int], edge: int, *, most: int = 0) -> list[tuple[slice, ...]]:
    """As `sample_windows`, of so many pixels of the network; each begins with one."""
    scaling = job.plan.lattice.scaling
    if scaling is None:
        return sample_windows(shape, edge, most)
    return [
        tuple(slice(p.start // axis.per * axis.per, p.stop) for p, axis in zip(part, scaling.axes, strict=True))
        for part in sample_windows(shape, int(edge / min(scaling.scale)), most)
    ]


def seen(job: Job, frame: int, part: tuple[slice, ...]) -> npt.NDArray[np.float32]:
    """A window (C, *shape) of a frame as the network sees it."""
    pixels = job.limits(frame).apply(np.asarray(job.opened.frames[frame].view[(slice(None), *part)]))
    scaling = job.plan.lattice.scaling
    return pixels if scaling is None else scaled_pixels(pixels, scaling)
