"""What a network sees of an image, in windows: their traits, and in which respects these are not like what a model knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from napari_shiftseg.analysis.constants import SAMPLE_EDGE
from napari_shiftseg.analysis.likeness import Difference, differences, ground_of
from napari_shiftseg.analysis.traits import image_traits, sample_windows
from napari_shiftseg.network import Known
from napari_shiftseg.network.scaled import scaled_pixels
from napari_shiftseg.segmentation.constants import FRAMES
from napari_shiftseg.segmentation.job import Job

Windows = Sequence[npt.NDArray[np.floating]]
Traits = tuple[Mapping[str, float], ...]
"""Of an image, per channel."""


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
