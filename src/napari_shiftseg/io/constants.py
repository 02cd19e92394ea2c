"""The numbers of this room, and where each comes from."""

from __future__ import annotations

from typing import Final

# -- images -----------------------------------------------------------------------------------------------------------

# An unnamed leading axis up to this size is taken for channels when a further unnamed axis can be the depth: microscopes have
# up to four or five detectors, and stacks more planes than that.
MOST_CHANNELS: Final = 5
# Up to this size a TIFF is decoded once on opening: each strip is unpacked once however many tiles cross it, and the file can
# be closed. Larger files stay on disk.
EAGER_BYTES: Final = 256 << 20
# A larger pixel means that the resolution was written for a printer (72 dpi are 353 micrometers), not by a microscope.
LARGEST_PIXEL_UM: Final = 100.0
# A resolution in TIFF is a fraction of 32-bit integers: up to this step, and down to its inverse, it is good to 13 digits.
LARGEST_STEP: Final = 1e6

# Bytes that a file of a chunk may have beside twice its values: index and checksums of a shard.
CHUNK_SPARE: Final = 1 << 20
# Bytes of a compressed part that are unpacked at once to see whether they can be: to 17 MB at most, by deflate's limit of 1032.
INFLATED: Final = 1 << 14
# Bytes of a description: one of 100,000 objects in its record has some 10 MB.
LARGEST_METADATA: Final = 64 << 20
# Lists and tables in a description: a pair for each of a million tracks is one, and so many take a quarter of a gigabyte.
MOST_PARTS: Final = 1 << 22
# Bytes of the header of a .npy file: what numpy itself reads of a file that nobody vouches for.
LARGEST_HEADER: Final = 10_000
# Files of an array that are listed when it is first read, so that one that goes missing is known: some tenths of a second.
MOST_LISTED: Final = 100_000
# Pixels and chunks that a store may announce where it has no file for a thousandth of its chunks: those that were never written
# are read at 10^8 pixels and 2,000 chunks a second, so this takes some ten seconds. Labels without an object are such a store.
MOST_ABSENT_PIXELS: Final = 1 << 30
MOST_ABSENT_CHUNKS: Final = 1 << 14
LEAST_SHARE: Final = 1000
# As much more in arrays that have some of their chunks, or say that this package wrote no more files: the labels of a slide of
# 131,072 px with few objects, in minutes.
SLIDES: Final = 16

# Planes that a file may announce without being asked for their bytes, and bytes that each of more takes at least: a directory
# of ten tags has 126.
MOST_PLANES: Final = 1 << 16
PLANE_BYTES: Final = 100
# Levels of the XML of a TIFF, and its elements: the schema of OME has some ten, and an image of 100,000 planes three for each.
DEEPEST_XML: Final = 100
MOST_ELEMENTS: Final = 1 << 19
# Pixels of an edge that no image has: slides have some 10^5.
LARGEST_EDGE: Final = 1 << 24
# Bytes of a checksum: among 2^64 parts, two would have the same.
DIGEST: Final = 16

# -- results ----------------------------------------------------------------------------------------------------------

# Raised when older versions of this package could no longer read a store.
STORE_VERSION: Final = 1
# Labels are stored as uint32.
LARGEST_LABEL: Final = 2**32 - 1
# Planes from which on a stack is read as a volume rather than plane by plane.
DEEP: Final = 16
# Edges of a chunk (z, y, x), each of a million bytes of float32 or four: few requests for what a screen shows, and little else
# read with it.
PLANE_CHUNK: Final = (1, 512, 512)
STACK_CHUNK: Final = (64, 128, 128)
# A pyramid ends with a level that is smaller, on y and x: a screen shows it whole.
SMALLEST_LEVEL: Final = 256
# Rows of the table of instances in a chunk: half a megabyte of a column.
TABLE_ROWS: Final = 1 << 16
# Largest coordinate of a region that ImageJ reads: 16 bits, of which the topmost 5,000 values stand for negative ones.
LARGEST_ROI: Final = 60_535
# Segments of the path of a composite region, as java.awt.geom.PathIterator numbers them.
ROI_MOVE: Final = 0.0
ROI_LINE: Final = 1.0
ROI_CLOSE: Final = 4.0
