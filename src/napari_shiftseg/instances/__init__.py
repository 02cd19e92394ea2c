"""From embedding to labels, and how good they are."""

from napari_shiftseg.instances.label import LabelSettings, label_instances, label_steps
from napari_shiftseg.instances.match import MatchScore, match_score, pool_scores, split_objects
from napari_shiftseg.instances.mean_shift import MeanShift, mean_shift

__all__ = [
    "LabelSettings",
    "MatchScore",
    "MeanShift",
    "label_instances",
    "label_steps",
    "match_score",
    "mean_shift",
    "pool_scores",
    "split_objects",
]
