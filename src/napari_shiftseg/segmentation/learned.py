"""`learned_steps`: what a model knows, from its training images, their truth, and what it finds in them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.analysis.likeness import known_ranges, polarity_of
from napari_shiftseg.analysis.traits import (
    FoundWindow,
    found_traits,
    image_traits,
    object_contrasts,
    object_diameters,
    sample_windows,
)
from napari_shiftseg.events import Event, Stage
from napari_shiftseg.geometry import plan_tiles
from napari_shiftseg.instances import LabelSettings, label_steps, said_by
from napari_shiftseg.network import Known, Limits, Model, TrainImage, predict_steps
from napari_shiftseg.segmentation.constants import FEW, FOUND_EDGE, RUNS, SMALL
from napari_shiftseg.segmentation.likeness import codes_of


def learned_steps(
    images: Sequence[TrainImage], model: Model, kind: str = "", *, demonstration: bool = False, runs: int = RUNS
) -> Generator[Event, None, Known]:
    """The statement for a model file: yields events, returns the `Known`.

    Parameters
    ----------
    images : sequence of TrainImage
        All that it was trained on.
    kind : str
        What they show, in words.
    runs : int
        Most images that the network runs over, at even distances.
    """
    yield Stage(done=0, total=len(images), text="what it was trained on")
    ndim, channels = model.lattice.ndim, model.lattice.in_channels
    rows: list[list[dict[str, float]]] = [[] for _ in range(channels)]
    sizes, contrasts = [], []
    for number, image in enumerate(images):
        pixels, labels = image.pixels.numpy(), image.labels.numpy()
        for channel in range(channels):
            rows[channel].extend(_rows(pixels[channel], few=len(images) < FEW))
        truth = FoundWindow(pixels=pixels.mean(axis=0), labels=np.maximum(labels, 0))
        sizes.append(np.unique(truth.labels[truth.labels > 0], return_counts=True)[1])
        contrasts.append(object_contrasts(truth))
        yield Event(done=number + 1, total=len(images))
    chosen = [images[i] for i in np.unique(np.linspace(0, len(images) - 1, min(runs, len(images))).round().astype(int))]
    yield Stage(done=0, total=len(chosen), text="what it finds in that")
    found: list[dict[str, float]] = []
    for number, image in enumerate(chosen):
        found.extend((yield from _found(image, model, few=len(chosen) < FEW)))
        yield Event(done=number + 1, total=len(chosen))
    diameters = object_diameters(np.concatenate(sizes), ndim)
    low, middle, high = np.percentile(diameters, (1, 50, 99)) if diameters.size else (0.0, 0.0, 0.0)
    return Known(
        kind=kind,
        ndim=ndim,
        channels=channels,
        polarity=polarity_of(np.concatenate(contrasts)),
        diameters=(round(float(low), 1), round(float(high), 1)),
        median=round(float(middle), 1),
        images=len(images),
        objects=int(diameters.size),
        demonstration=demonstration,
        traits=tuple(known_ranges(part) for part in rows),
        found=known_ranges(found),
    )


def _rows(pixels: npt.NDArray[np.floating], *, few: bool) -> list[dict[str, float]]:
    """Traits of an image, and of its parts where there are few images."""
    whole = [pixels[part] for part in sample_windows(pixels.shape)]
    parts = [pixels[part] for part in sample_windows(pixels.shape, SMALL[pixels.ndim], 3)] if few else []
    return [image_traits(whole), *(image_traits([part]) for part in parts if len(parts) > 1 and np.ptp(part) > 0)]


def _found(image: TrainImage, model: Model, *, few: bool) -> Generator[Event, None, list[dict[str, float]]]:
    """Traits of what the model finds in an image, and in its windows where there are few images."""
    edge = 2 * FOUND_EDGE[model.lattice.ndim]
    pixels = image.pixels[(slice(None), *(slice(0, edge) for _ in image.labels.shape))].numpy()
    shape = pixels.shape[1:]
    clustering = LabelSettings(coordinates=model.embedding.meaning == "offset", seeds=bool(said_by(model.outputs)))
    if model.record is not None:
        clustering = replace(clustering, **asdict(model.record.clustering))
    # they are normalised already
    limits = Limits(low=(0.0,) * len(pixels), high=(1.0,) * len(pixels), clip=None)
    plan = plan_tiles(model.lattice, shape, allow_noncompliant=True, trained=model.record)
    made = yield from predict_steps(model, pixels, plan, limits=limits, method="tiles")
    labels = yield from label_steps(made.embedding, made.foreground, clustering, **said_by(made.outputs))

    def window(part: tuple[slice, ...]) -> FoundWindow:
        foreground: Any = made.foreground
        return FoundWindow(
            pixels=pixels[(slice(None), *part)].mean(axis=0),
            labels=labels[part],
            foreground=None if foreground is None else foreground[part],
            codes=codes_of(made.embedding[(slice(None), *part)], model.embedding),
        )

    windows = [window(part) for part in sample_windows(shape, FOUND_EDGE[model.lattice.ndim], 2)]
    parts = [window(part) for part in sample_windows(shape, SMALL[model.lattice.ndim], 3)] if few else []
    groups = [windows, *([part] for part in parts if len(parts) > 1)]
    return [found_traits(group, clustering.bandwidth) for group in groups if any(part.labels.any() for part in group)]
