"""The numbers of this room, and where each comes from."""

from __future__ import annotations

from typing import Final

# -- exit codes -------------------------------------------------------------------------------------------------------

# As argparse and most programs say it; scripts rely on the others, which the page of the command lists.
BAD_INPUT: Final = 2
BROKEN_RULE: Final = 3
NO_MEMORY: Final = 4
# Of an error inside of a program, as sysexits.h has it.
OUR_MISTAKE: Final = 70
# Of signals, as shells have it: 128 and the number of SIGINT and SIGTERM.
INTERRUPTED: Final = 130
TERMINATED: Final = 143

# -- sentences of errors ----------------------------------------------------------------------------------------------

# Links of a chain of errors that are looked at.
DEEPEST: Final = 20
# Letters of a message that a sentence has room for.
MOST_LETTERS: Final = 200

# -- reports ----------------------------------------------------------------------------------------------------------

# Width of the first column: the longest name, as "clustering", and a space.
LABEL_WIDTH: Final = 11
# Seams that are listed; all are in the table that `--csv` writes.
WORST_SEAMS: Final = 5

# -- images that stand in ---------------------------------------------------------------------------------------------

# Edge of an image that is planned where none was given, by its number of axes, pixels: 4 to 16 million pixels, and a long line.
PLANNED_EDGE: Final = {1: 1 << 16, 2: 2048, 3: 256}
# Edge of the tile that is timed where none was given, pixels: a quarter of a million pixels, which take a second or less.
TIMED_EDGE: Final = {1: 4096, 2: 512, 3: 64}
# Edge of a tile that is larger than any image, pixels.
WHOLE_EDGE: Final = 1 << 30
# Bytes of a value in the formats whose cost is told.
ITEMSIZES: Final = {"float32": 4, "bfloat16": 2}

# -- amounts of memory ------------------------------------------------------------------------------------------------

# Bytes of a unit, which is followed by a B or not: decimal ones, and with an i binary ones.
UNITS: Final = {
    "": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40,
}  # fmt: skip

# -- synthetic images that nobody describes ---------------------------------------------------------------------------

# Pixels per axis, as the form of the plugin begins.
DRAWN_SHAPE: Final = (256, 256)
# From centre to centre, pixels: a multiple of the usual periods, so that objects look alike to a network.
DRAWN_SPACING: Final = 16
# Pixels, as in the disks of the paper.
DRAWN_RADIUS: Final = 5.0
# Share of the pixels that blobs cover: dense, and there is room for each.
DRAWN_COVER: Final = 0.2

# Images of a file that are listed; of more the first ones and the last.
LISTED: Final = 12

# Bytes of a table of training or test images: 100 letters for each of 160,000.
LARGEST_TABLE: Final = 16 << 20
# Pixels of an edge that no image has, as in `io`: slides have some 10^5.
MOST_EDGE: Final = 1 << 24
# Whole numbers of a word are below this: what processors count with.
MOST_WHOLE: Final = 1 << 64
