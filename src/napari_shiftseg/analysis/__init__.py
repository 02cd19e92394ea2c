"""What the paper measures: the period of a network, jumps at the seams of tiles, tiles against one pass."""

from napari_shiftseg.analysis.constructions import passing_network, prime_network
from napari_shiftseg.analysis.effective import EffectivePeriod, effective_period, effective_steps
from napari_shiftseg.analysis.equality import absolutely_equal, relatively_equal
from napari_shiftseg.analysis.likeness import Difference, Likeness
from napari_shiftseg.analysis.lines import Cuts, Ratio
from napari_shiftseg.analysis.measure import measure, measure_steps
from napari_shiftseg.analysis.probe import PeriodProbe, probe_period, probe_steps
from napari_shiftseg.analysis.seams import SeamReport, SeamRow, seam_report
from napari_shiftseg.analysis.verify import TilingCheck, verify_steps, verify_tiling

__all__ = [
    "Cuts",
    "Difference",
    "EffectivePeriod",
    "Likeness",
    "PeriodProbe",
    "Ratio",
    "SeamReport",
    "SeamRow",
    "TilingCheck",
    "absolutely_equal",
    "effective_period",
    "effective_steps",
    "measure",
    "measure_steps",
    "passing_network",
    "prime_network",
    "probe_period",
    "probe_steps",
    "relatively_equal",
    "seam_report",
    "verify_steps",
    "verify_tiling",
]
