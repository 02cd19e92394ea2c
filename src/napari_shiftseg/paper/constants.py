"""The numbers of this room, and where each comes from."""

from __future__ import annotations

from typing import Final

# Distance that the loss wants between two instances, embedding units; that of the paper's notebooks.
MARGIN: Final = 6.0
# Trained codes nearer than this are one, embedding units.
GAP: Final = 0.5
# Outputs nearer than this share of the largest are equal; double precision rounds at 1e-16.
EQUAL: Final = 1e-10
# Steps of a training, and seeds, below which no two images share their noise: those that are measured have seeds from here on,
# those that are trained on from twice that on, and each seed of a training as many of its own.
MOST_STEPS: Final = 1_000_000
TEST_SEED: Final = MOST_STEPS
# Standard deviation of the mean-shift kernel, embedding units; the paper's notebooks have 0.2 to 1.1, with the same loss.
BANDWIDTH: Final = 0.5
# Edges of tiles around a multiple of 16, pixels, that the seams of noisy and deformed images are judged at.
SIZES: Final = (49, 50, 51, 52, 53)
# Narrow networks are often born dead: one unit in the way is 0 for all pixels, and no gradient passes. So many are begun.
STARTS: Final = 16
# Untrained networks of three features often have dead units too, so the best of several is reported.
UNTRAINED_STARTS: Final = 8
