"""The main verb: image -> embedding -> instances, in memory or out of core, with a record of what happened."""

from napari_shiftseg.segmentation.prepare import plan_image, status
from napari_shiftseg.segmentation.preview import Preview, preview_steps
from napari_shiftseg.segmentation.run import Segmentation, segment, segment_steps
from napari_shiftseg.segmentation.settings import SegmentSettings, Status

__all__ = [
    "Preview",
    "SegmentSettings",
    "Segmentation",
    "Status",
    "plan_image",
    "preview_steps",
    "segment",
    "segment_steps",
    "status",
]
