"""`LabelSettings`: a wish for labels."""

from __future__ import annotations

from dataclasses import dataclass

from napari_shiftseg.instances.constants import HALO, WINDOW, WINDOW_OF_PLACES


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """A wish for labels."""

    bandwidth: float = 0.75  # standard deviation of the mean-shift kernel, embedding units (pixels for coordinates)
    threshold: float = 0.5  # foreground probability from which a pixel can belong to an instance
    # smaller instances go to one that they touch; where they touch none, they are background. A connected piece of foreground
    # of so many pixels or more ends with a label, pixels.
    min_size: int = 16
    coordinates: bool = False  # whether the first `ndim` channels are offsets to which the pixel's coordinates are to be added
    radius: float = 3.0  # a pixel farther than this many bandwidths from all modes is decided last, by its neighbours
    # see `mean_shift`. Below 1, pixels that only pass by the mode of an instance elsewhere are undecided, too, if they are a
    # part of what they touch or mix the codes of two (with coordinates in any case).
    dip: float = 0.95
    min_density: float = 4.0  # see `mean_shift`; kernel-weighted pixels
    # window, halo: core edge and margin of a clustering window, pixels
    window: int | None = None
    halo: int | None = None

    def lattice(self, ndim: int) -> tuple[int, int]:
        """Core edge of the clustering windows, which start at multiples of it, and the margin that each sees, pixels."""
        usual = WINDOW_OF_PLACES if self.coordinates else WINDOW
        return self.window or usual[ndim], HALO[ndim] if self.halo is None else self.halo
