"""From embedding to labels, and how good they are."""

from napari_shiftseg.instances.edit import Edit, delete, free_numbers, merge
from napari_shiftseg.instances.faces import BlockFaces, BlockRest, faces_of
from napari_shiftseg.instances.join import Numbers, Settling, join_blocks, join_rest
from napari_shiftseg.instances.label import label_instances, label_steps
from napari_shiftseg.instances.match import match_score, mistaken_objects
from napari_shiftseg.instances.mean_shift import MeanShift, mean_shift
from napari_shiftseg.instances.outlines import outlines
from napari_shiftseg.instances.parts import whole_parts
from napari_shiftseg.instances.pieces import (
    Fragments,
    LabelSettings,
    Pieces,
    fragments_of,
    labels_of,
    mask_of,
    numbered,
    piece_steps,
    said_by,
)
from napari_shiftseg.instances.planes import Codes, JoinSettings, Renumbered, Renumbering, join_planes, join_planes_steps
from napari_shiftseg.instances.score import MatchScore, pool_scores
from napari_shiftseg.instances.split import split
from napari_shiftseg.instances.table import block_table, object_table, whole_table
from napari_shiftseg.instances.undecided import settled

__all__ = [
    "BlockFaces",
    "BlockRest",
    "Codes",
    "Edit",
    "Fragments",
    "JoinSettings",
    "LabelSettings",
    "MatchScore",
    "MeanShift",
    "Numbers",
    "Pieces",
    "Renumbered",
    "Renumbering",
    "Settling",
    "block_table",
    "delete",
    "faces_of",
    "fragments_of",
    "free_numbers",
    "join_blocks",
    "join_planes",
    "join_planes_steps",
    "join_rest",
    "label_instances",
    "label_steps",
    "labels_of",
    "mask_of",
    "match_score",
    "mean_shift",
    "merge",
    "mistaken_objects",
    "numbered",
    "object_table",
    "outlines",
    "piece_steps",
    "pool_scores",
    "said_by",
    "settled",
    "split",
    "whole_parts",
    "whole_table",
]
