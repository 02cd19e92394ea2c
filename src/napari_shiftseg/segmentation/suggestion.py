"""`suggest_models`: which of the bundled models know images of a kind, the one that knows them best first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from napari_shiftseg.analysis.likeness import evidence
from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.io import bundled_models, load_model, read_image, read_record
from napari_shiftseg.network import Known, Normalisation
from napari_shiftseg.segmentation.decision import decide
from napari_shiftseg.segmentation.intensity import scale_frames
from napari_shiftseg.segmentation.job import Job
from napari_shiftseg.segmentation.seen import Traits, sampled, traits_of, unlike
from napari_shiftseg.segmentation.settings import SegmentSettings

# Of the settings, those that change what the network sees in the same way for all models.
_INTENSITIES = ("percentiles", "limits", "limits_per", "invert", "no_data")


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
