"""`forecast`: before a run, whether it will go out of core and in which blocks; no pixel is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from napari_shiftseg.io import Image
from napari_shiftseg.network import Device, Model, free_memory
from napari_shiftseg.segmentation.large import layout_of
from napari_shiftseg.segmentation.layout import Layout, bytes_in_memory
from napari_shiftseg.segmentation.prepare import outline
from napari_shiftseg.segmentation.run import out_of_core
from napari_shiftseg.segmentation.settings import SegmentSettings

__all__ = ["Forecast", "forecast"]


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """How a run will go.

    Attributes
    ----------
    large : bool
        Whether it goes out of core, given a place to write.
    needed, free : int
        Bytes that the result takes in memory, and that are free (0: not known).
    layout : Layout or None
        The blocks of a run out of core.
    """

    large: bool
    needed: int
    free: int
    layout: Layout | None


def forecast(
    image: Image, model: Model, settings: SegmentSettings, device: Device | None = None, out: Path | None = None
) -> Forecast:
    """How a run with these values would go, from shapes alone.

    Parameters
    ----------
    image, model, settings
        As in `segment`.
    device : Device, optional
        What `settings.device` stands for, if that is known already.
    out : Path, optional
        Where the run will write; beside it may lie one that is to go on.

    Raises
    ------
    ShiftsegError
        Where `segment` would refuse, such as for a memory in which not even the smallest blocks fit.
    """
    task = outline(image, model, replace(settings, allow_noncompliant=True), device)
    large = out_of_core(task, settings, out)
    return Forecast(
        large=large,
        needed=bytes_in_memory(task, embedding=settings.keep_embedding is not False),
        free=free_memory(),
        layout=layout_of(task, settings) if large else None,
    )
