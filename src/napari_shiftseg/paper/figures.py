"""The figures of the paper, by name."""

from __future__ import annotations

from collections.abc import Mapping

from napari_shiftseg.paper.codes import CODES
from napari_shiftseg.paper.experiment import Experiment
from napari_shiftseg.paper.seams import SEAMS

EXPERIMENTS: Mapping[str, Experiment] = {one.name: one for one in (*CODES, *SEAMS)}
