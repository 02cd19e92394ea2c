"""The numbers of this room, and where each comes from; lengths are in pixels."""

from __future__ import annotations

from typing import Final

# -- windows: batches and what is read ahead -----------------------------------------------------------------------------

# Small tiles share a pass of a GPU up to this many input pixels. On a CPU with several threads a tile's bits would depend on
# the tiles beside it, and a preview would differ from the run.
BATCH_PIXELS: Final = 1 << 22
MOST_TILES: Final = 8
# Batches and strips that are read, or being read, before they are needed.
AHEAD: Final = 2

# -- number formats ------------------------------------------------------------------------------------------------------

# First version of cuDNN, as PyTorch counts, whose bfloat16 convolutions of volumes are right again (pytorch #163539).
RIGHT_VOLUMES: Final = 91500
WRONG_SINCE: Final = 90800
# Compute capability of the first GPUs of NVIDIA with matrix units for bfloat16 (Ampere).
BFLOAT16_SINCE: Final = 8

# -- the trial of a tile -------------------------------------------------------------------------------------------------

# Share of the free memory that a pass may take: the blocks of the next and of the last tile lie beside it.
TRIAL_SHARE: Final = 0.9

# -- scaled intensities --------------------------------------------------------------------------------------------------

# Range that scaled intensities are cut to, in training and after it.
CLIP: Final = (-1.0, 4.0)
# Pixels that are scaled at once, since that is done in double precision.
SLAB: Final = 1 << 18

# -- the sample, and what decides the scale ------------------------------------------------------------------------------

# Pixels per channel that decide the limits of a large image; a regular lattice of them is the same for every tiling.
SAMPLE: Final = 1 << 22
# Largest edge of a patch by number of axes, and fewest patches.
PATCH: Final = {1: 4096, 2: 64, 3: 16}
FEWEST: Final = 256
# Frames of a long series that are looked at, evenly spread.
FRAMES: Final = 64
# Integers up to here are exact in double precision.
EXACT: Final = 1 << 53
# A scaled intensity above this is cut off, in training too (`Limits.clip`): what is brighter than that many times the objects
# pushes these below the contrast of anything that the network was trained on.
SEEN: Final = 4.0
# Edge of the squares that tell whether an area is thick, pixels.
SQUARE: Final = 16
# Areas without data: smallest and largest share of the pixels, and the gap between them and the data, in widths of the data.
LEAST_EMPTY: Final = 0.004
MOST_EMPTY: Final = 0.95
GAP: Final = 0.15
# Few bright things: the largest share of the pixels that they can have, how far their surroundings reach, pixels, and the
# smallest object, pixels (that of `Clustering.min_size`).
FEW: Final = 0.15
AROUND: Final = 5
SMALLEST: Final = 16
HALVINGS: Final = 8
# Scaled values beyond this are all the same.
FARTHEST: Final = 1e6
# How many bright things are few, how many times as many objects are many, below which share of the area of an object a thing
# is too small to be one, and how many gray levels an object spans at least.
FEW_PIECES: Final = 4
MANY: Final = 3
SMALL: Final = 0.25
LEVELS: Final = 8

# -- training ------------------------------------------------------------------------------------------------------------

# Label of pixels that lie outside the image.
IGNORE: Final = -1
# Bandwidth of an object's embedding before the training: of free codes about the pull's reach (`discriminative_loss`), of
# offsets the radius in pixels that Neven et al. 2019 begin near.
FIRST_BANDWIDTH: Final = {False: 0.5, True: 5.0}
# Greatest exponent of a bandwidth: e^20 is far above any embedding, and its square below the largest float32.
LARGEST_EXPONENT: Final = 20.0
# Surroundings of an object whose pixels it has to keep off, pixels per number of axes, or as a share of its extent.
SURROUNDINGS: Final = {2: 24, 3: 8}
SURROUNDINGS_SHARE: Final = 0.75
# An object of fewer pixels, such as the corner of one that the window cuts, says nothing of its shape.
FEWEST_PIXELS: Final = 8
# Weights of the terms of `gaussian_loss`: with them each contributes about alike in the first hundred steps on nuclei.
SPREAD_WEIGHT: Final = 4.0
SEED_WEIGHT: Final = 10.0
# An object of this size weighs one per pixel where objects are balanced, pixels per number of axes; none weighs more than so
# much, or less than its inverse.
USUAL_SIZE: Final = {2: 400, 3: 4000}
MOST_WEIGHT: Final = 4.0
# Instances of which all pairs are compared at once: up to 2 million pairs, 130 MB at 8 channels.
MOST_AT_ONCE: Final = 2048
# Seeds are below this: what generators of PyTorch, numpy and Python all take.
MOST_SEED: Final = 1 << 63
# Power of an instance's size up to which the chance to draw one of 10^9 px is a number above 0.
MOST_POWER: Final = 16
# Random zoom up to which an object of one pixel does not yet fill a window.
MOST_ZOOM: Final = 100
# Batches from which batch normalisation takes its statistics after the training.
STATISTICS_BATCHES: Final = 100

# -- rates of a device ---------------------------------------------------------------------------------------------------

# A copy of this size does not fit a cache; a product of this edge fills any device. Both shrink where memory is short.
COPY_BYTES: Final = {"cuda": 1 << 30, "mps": 1 << 28, "cpu": 1 << 28}
LARGEST_EDGE: Final = 8192
# Steps of a training up to which it ends in a lifetime, at thirty a second.
MOST_STEPS: Final = 10**9
