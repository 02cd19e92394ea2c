"""From embedding to labels, and how good they are."""

from napari_shiftseg.instances.label import LabelSettings, label_instances, label_steps
from napari_shiftseg.instances.match import MatchScore, match_score, pool_scores, split_objects
from napari_shiftseg.instances.mean_shift import MeanShift, mean_shift
from napari_shiftseg.instances.table import ObjectTable, object_table

__all__ = [
    "LabelSettings",
    "MatchScore",
    "MeanShift",
    "ObjectTable",
    "label_instances",
    "label_steps",
    "match_score",
    "mean_shift",
    "object_table",
    "pool_scores",
    "split_objects",
]
