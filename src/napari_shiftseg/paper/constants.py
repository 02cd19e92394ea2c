"""The numbers of this room, and where each comes from."""

from __future__ import annotations

from typing import Final

# Trained codes nearer than this are one, embedding units; the loss wants 6 between instances.
GAP: Final = 0.5
# Outputs nearer than this share of the largest are equal; double precision rounds at 1e-16.
EQUAL: Final = 1e-10
# Images that are trained on never share their noise with the one that is measured.
TEST_SEED: Final = 1_000_000
# Narrow networks are often born dead: one unit in the way is 0 for all pixels, and no gradient passes. So many are begun.
STARTS: Final = 16
# Untrained networks of three features often have dead units too, so the best of several is reported.
UNTRAINED_STARTS: Final = 8
