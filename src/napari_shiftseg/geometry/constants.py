"""The numbers of this room, by number of axes where they differ, and where each comes from."""

from __future__ import annotations

from typing import Final

# -- networks of which only the lattice is known ----------------------------------------------------------------------

# What a U-Net with four poolings and 64 features takes (Ronneberger et al. 2015), by the counts of `UNetSpec`: of a network
# of which nothing is known it is better to expect too much.
FLOPS_PER_PIXEL: Final = 1.5e6
BYTES_PER_PIXEL: Final = 1504.0

# -- tiles ------------------------------------------------------------------------------------------------------------

# What a pass may take where nobody says, bytes.
DEFAULT_MEMORY: Final = 2 << 30
# Larger tiles gain little (redundancy 1.13 at 512 px, levels=3) and make progress and cancelling coarse.
LARGEST_EDGE: Final = {1: 1 << 20, 2: 512, 3: 96}
# Tiles of deterministic runs: large enough for speed, small enough for any memory.
CANONICAL_EDGE: Final = {1: 4096, 2: 192, 3: 48}

# Pixels of an image along an axis: a hundred times the largest slides (1e6), and a plan of it still takes about a second.
LARGEST_IMAGE: Final = 1 << 27

# -- streams ----------------------------------------------------------------------------------------------------------

# Strips of about this many pixels, where memory allows: at 1024 px, 32 rows take 8 to 45 % longer than 128, in a third of it.
STRIP_PIXELS: Final = {1: 1 << 15, 2: 1 << 17, 3: 1 << 15}
# Rows of a strip, at least and at most, and periods at least, where memory allows.
STRIP_ROWS: Final = {1: (1 << 12, 1 << 16), 2: (32, 256), 3: (1, 64)}
STRIP_PERIODS: Final = {1: 1, 2: 1, 3: 2}
# So many times the pixels and the rows where each call has to be worth its start: a strip takes some 20 kernels per level.
TALL: Final = 16
# Share of time that strips of a single period cost more than high ones (2D: measured on a CPU; 3D: none was seen).
THIN: Final = {1: 0.2, 2: 0.2, 3: 0.05}
# Share of the memory that a stream must not exceed to be worth another try.
NARROWER: Final = 0.75

# -- networks on a scaled image ---------------------------------------------------------------------------------------

# Network pixels per image pixels: steps of a quarter to a third from 1/8 to 8. Ratios of small numbers, so that few pixels of
# the image are whole periods of the network: at most 8 of its own.
FACTORS: Final = (
    (1, 8), (1, 6), (1, 5), (1, 4), (1, 3), (3, 8), (1, 2), (5, 8), (3, 4),
    (1, 1), (5, 4), (3, 2), (2, 1), (5, 2), (3, 1), (4, 1), (5, 1), (6, 1), (8, 1),
)  # fmt: skip
# Of the numbers of a ratio that is given: eight times as large as those above. What a pixel is made of is counted one by one.
LARGEST_RATIO: Final = 64
# Values per image pixel that resampling holds beside the image: an output of some four channels, twice.
RESAMPLED: Final = 8

# -- networks on turned images ----------------------------------------------------------------------------------------

# Values per image pixel held beside the turned image: an output of some four channels, the sum of all turns and the next one.
TURNED: Final = 8

# -- descriptions of networks -----------------------------------------------------------------------------------------

# No network has more, whatever a file says: the period of 27 poolings by two is as long as the largest image.
MOST_LEVELS: Final = 27
MOST_CONVS: Final = 256

# -- steps of pixels --------------------------------------------------------------------------------------------------

# In whatever unit: the prefixes of SI go from quecto to quetta. The fifth power, of which moments are made, is a number.
LEAST_STEP: Final = 1e-30
MOST_STEP: Final = 1e30
