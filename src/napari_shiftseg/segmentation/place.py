"""Where a run writes its result: looked at before a pixel is read."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from napari_shiftseg.files import Found, check_room, check_targets
from napari_shiftseg.geometry import value_count
from napari_shiftseg.segmentation.job import Job


def check_place(job: Job) -> Found:
    """Refuse a place that would cost the image, that cannot be written or that is too small; else what is there now.

    ResultError.
    """
    if job.out is None:
        return None
    source = job.image.source
    found = check_targets(stores=[job.out], inputs=[source] if Path(source).exists() and source != "memory" else ())
    if job.layout is None:  # a run out of core needs room for its fragments too, unless it goes on
        check_room(job.out, written_bytes(job))
    return found[Path(job.out)]


def written_bytes(job: Job) -> int:
    """Most that the result of a run in memory takes on a disk, without the coarse levels of its pyramids."""
    model, image = job.opened.model, job.opened.image
    channels = value_count(job.settings.kept(model.outputs, large=False))
    pixels = prod((*job.lengths, *job.plan.result_shape))
    return int(4 * pixels * (1 + channels) + prod(image.data.shape) * np.dtype(image.data.dtype).itemsize)
