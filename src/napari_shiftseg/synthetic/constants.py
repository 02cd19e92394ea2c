"""The numbers of this room, and where each comes from; lengths in pixels."""

from __future__ import annotations

from typing import Final

# Labels are int32, whose largest number is this.
LARGEST_LABEL: Final = 2**31 - 1
# Up to this float32 has all whole numbers, so that the ranks of a ramp differ.
LARGEST_EXACT_FLOAT32: Final = 2**24
# Squared distances then fit 32-bit integers in three dimensions.
LARGEST_RADIUS: Final = 10_000
# Between the control points of a deformation, as in the paper's elastic experiment.
CONTROL_SPACING: Final = 20
# What stays free around a blob that is not meant to touch: one pixel of blur on either side.
GAP: Final = 2
# Share of a touching blob that its neighbours may hide, so that it keeps its form.
OVERLAP: Final = 0.1
# Places that are tried for a blob before the image counts as full.
TRIES: Final = 300
# Grey value where no blob is: three times the usual noise of 0.02, so that hardly a pixel of it is clipped.
BACKGROUND: Final = 0.06
# Of the image, as a microscope does.
BLUR: Final = 0.7

# Bytes of a pixel at least while it is drawn: image and labels, and one double for what is added to them.
PIXEL_BYTES: Final = 16
