"""What the paper measures: the period of a network, jumps at the seams of tiles, tiles against one pass."""

from napari_shiftseg.analysis.ratio import Ratio
from napari_shiftseg.analysis.seams import SeamReport, SeamRow, seam_report
from napari_shiftseg.analysis.verify import TilingCheck, verify_steps, verify_tiling

__all__ = [
    "Ratio",
    "SeamReport",
    "SeamRow",
    "TilingCheck",
    "seam_report",
    "verify_steps",
    "verify_tiling",
]
