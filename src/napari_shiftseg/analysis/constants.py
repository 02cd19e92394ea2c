"""The numbers of this room, and where each comes from."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

# -- period, margin and reach of a network ----------------------------------------------------------------------------

# Below this share of the largest output two outputs are equal; rounding is 1e-16 and 1e-7, real differences 1e-6 and more.
EQUAL: Final = {torch.float64: 1e-10, torch.float32: 2e-6}
# Shifts to try on a network that declares nothing, pixels: all small ones, then the periods of poolings by 2, 3 and 5.
SHIFTS: Final = (*range(1, 17), 18, 20, 24, 25, 27, 32)
# Edges that are tried until one passes, pixels.
SIZES: Final = range(8, 320)

# -- effective period -------------------------------------------------------------------------------------------------

# Change of the output, over its spread, that is taken for none.
SLIGHT: Final = 0.05
# Least edge of the output that is compared, pixels, by number of axes: a few objects.
COMPARED: Final = {1: 512, 2: 96, 3: 24}

# Images that two output functions are compared on.
DRAWS: Final = 3

# -- tiles against one pass -------------------------------------------------------------------------------------------

# Largest rounding difference between passes of different size, relative to the largest embedding value: ten times what
# float32 shows on CPUs, two to three units in the last place for the short formats.
TOLERANCE: Final = {"float32": 1e-5, "tf32": 2e-3, "float16": 2e-3, "bfloat16": 2e-2}
# Memory of the single pass where a device does not say what it has free.
DEFAULT_MEMORY: Final = 2 << 30

# -- seams ------------------------------------------------------------------------------------------------------------

# Length of a line segment, by number of axes: longer than most objects, so that segments are nearly independent of each other.
SEGMENT: Final = {1: 1, 2: 64, 3: 32}
# What is read at once around a seam.
SLAB_BYTES: Final = 64 << 20
# An edge is straight if this many pixels of an instance lie along a line, and most of them end there.
STRAIGHT_PIXELS: Final = 5
STRAIGHT_SHARE: Final = 0.8
# Lines nearby that a seam's instances are compared with.
CONTROLS: Final = 8
# Draws of a bootstrap, so that the spread of their logarithms is known within 2 %.
RESAMPLES: Final = 999
# Fewer segments have no spread; with fewer lines their spread says little, and then the segments alone decide.
FEWEST_SEGMENTS: Final = 3
FEWEST_LINES: Final = 4

# -- what images and objects look like --------------------------------------------------------------------------------

# Bands of detail, each of twice the size of the one before: about 2, 4, 8, 16, 32 and 64 px.
LEVELS: Final = 6
# Edge of a window and most windows per axis, by number of axes: 0.6 million pixels, 2 million voxels.
SAMPLE_EDGE: Final = {1: 4096, 2: 256, 3: 64}
MOST_SAMPLES: Final = {1: 9, 2: 3, 3: 2}
# Gaussian of variance 1, as in the pyramid of Burt and Adelson (1983).
KERNEL: Final = np.array([1, 4, 6, 4, 1]) / 16
# Shares below this are all the same: a background without noise is not infinitely cleaner than one with a little.
FLOOR: Final = 0.01
# Smallest region that counts, pixels, and reach of what is called the background nearby.
SMALLEST: Final = 16
NEARBY: Final = 8.0
# Width of the ring around an object that it is compared with, pixels.
RING: Final = 3
# Probabilities between these are undecided; pixels below the lower one are background without a doubt.
UNSURE: Final = (0.1, 0.9)
# With fewer whole objects, those that the border cuts count as well.
FEWEST_OBJECTS: Final = 5
# Half an object per megapixel, so that none has a logarithm.
NEXT_TO_NONE: Final = 0.005

# -- whether an image is like those that are known --------------------------------------------------------------------

# Tails of the training data that a known range leaves out.
TAIL: Final = 0.005
# Parts of the training data of which each is judged by the others, and the share of them that may be found unlike then.
PARTS: Final = 10
ALARMS: Final = 0.02
# Margins that are tried, in widths of the range between the tails: 0.2 to 1.
MARGINS: Final = tuple(step / 20 for step in range(4, 21))
# Sentences of a line; the record holds all.
SAID: Final = 2

# -- lattices ---------------------------------------------------------------------------------------------------------

# Peaks of the autocorrelation that count: so high, and so far above the valley before them.
HEIGHT: Final = 0.5
PROMINENCE: Final = 0.3
# Pixels per axis that are looked at, and how often a lattice repeats in them at least.
MIDDLE: Final = 512
REPEATS: Final = 3

# -- measuring objects ------------------------------------------------------------------------------------------------

# Steps that differ less are those of square pixels, written with rounding.
SAME_STEP: Final = 1e-6
# Of the units of length that files give, as OME-NGFF names them.
METERS: Final = {
    "angstrom": 1e-10,
    "picometer": 1e-12,
    "nanometer": 1e-9,
    "micrometer": 1e-6,
    "millimeter": 1e-3,
    "centimeter": 1e-2,
    "decimeter": 1e-1,
    "meter": 1.0,
    "inch": 0.0254,
}
