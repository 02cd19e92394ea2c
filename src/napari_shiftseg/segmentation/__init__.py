"""The main verb: image -> embedding -> instances, in memory or out of core, with a record of what happened."""

from napari_shiftseg.segmentation.decision import decide, pixel_digest, plan_image, promises, status, sum_of
from napari_shiftseg.segmentation.job import Job, open_job
from napari_shiftseg.segmentation.large import kept_of
from napari_shiftseg.segmentation.learned import learned_steps
from napari_shiftseg.segmentation.likeness import likeness, look, suggest_models
from napari_shiftseg.segmentation.linking import Linked, link, link_steps
from napari_shiftseg.segmentation.measuring import measure_steps
from napari_shiftseg.segmentation.pace import Pace, duration, take_pace
from napari_shiftseg.segmentation.preview import Preview, view_steps
from napari_shiftseg.segmentation.relabelling import RelabelSettings, relabel, relabel_steps
from napari_shiftseg.segmentation.repeat import as_code, as_command, job_of
from napari_shiftseg.segmentation.run import Segmentation, run_steps, segment, segment_steps
from napari_shiftseg.segmentation.settings import SegmentSettings
from napari_shiftseg.segmentation.tracking import Tracks, TrackSettings
from napari_shiftseg.segmentation.tunable import Tunable, tunable

__all__ = [
    "Job",
    "Linked",
    "Pace",
    "Preview",
    "RelabelSettings",
    "SegmentSettings",
    "Segmentation",
    "TrackSettings",
    "Tracks",
    "Tunable",
    "as_code",
    "as_command",
    "decide",
    "duration",
    "job_of",
    "kept_of",
    "learned_steps",
    "likeness",
    "link",
    "link_steps",
    "look",
    "measure_steps",
    "open_job",
    "pixel_digest",
    "plan_image",
    "promises",
    "relabel",
    "relabel_steps",
    "run_steps",
    "segment",
    "segment_steps",
    "status",
    "suggest_models",
    "sum_of",
    "take_pace",
    "tunable",
    "view_steps",
]
