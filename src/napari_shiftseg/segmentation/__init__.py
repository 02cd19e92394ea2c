"""The main verb: image -> embedding -> instances, in memory or out of core, with a record of what happened."""

from napari_shiftseg.segmentation.forecast import Forecast, forecast
from napari_shiftseg.segmentation.large import layout_of
from napari_shiftseg.segmentation.learned import learned_steps
from napari_shiftseg.segmentation.likeness import compare_image, likeness
from napari_shiftseg.segmentation.pace import Pace, duration, take_pace
from napari_shiftseg.segmentation.prepare import plan_image, prepare, promises, status
from napari_shiftseg.segmentation.preview import Preview, preview_steps
from napari_shiftseg.segmentation.run import Segmentation, out_of_core, segment, segment_steps
from napari_shiftseg.segmentation.settings import SegmentSettings, Status
from napari_shiftseg.segmentation.unfinished import kept_of

__all__ = [
    "Forecast",
    "Pace",
    "Preview",
    "SegmentSettings",
    "Segmentation",
    "Status",
    "compare_image",
    "duration",
    "forecast",
    "kept_of",
    "layout_of",
    "learned_steps",
    "likeness",
    "out_of_core",
    "plan_image",
    "prepare",
    "preview_steps",
    "promises",
    "segment",
    "segment_steps",
    "status",
    "take_pace",
]
