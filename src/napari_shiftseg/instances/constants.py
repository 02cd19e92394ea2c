"""The numbers of this room, and where each comes from; lengths of codes are in bandwidths, of images in pixels."""

from __future__ import annotations

from typing import Final

import numpy as np

# -- windows and windows' surroundings, by number of axes -------------------------------------------------------------

# Core of a clustering window: codes are few in a small one, and in 3D the points of a larger one would take a gigabyte.
WINDOW: Final = {1: 4096, 2: 256, 3: 64}
# Votes of places meet only near their place, so a larger window finds the same and computes less margin.
WINDOW_OF_PLACES: Final = {**WINDOW, 2: 512}
# What a window sees around its core, so that it knows the objects at its border by more than their rims.
HALO: Final = {1: 256, 2: 64, 3: 24}
# Windows that are clustered side by side; more would wait for each other's Python.
MOST_THREADS: Final = 4

# -- cells: points are counted in them --------------------------------------------------------------------------------

# Edge of a cell: small against the kernel, so that cells do not show; wider where many dimensions spread the points thin.
EDGE: Final = 0.5
# Cells from 0 to the farthest value: beyond, double precision does not tell neighbours apart.
FARTHEST_CELL: Final = 1 << 52
WIDE_EDGE: Final = 0.9
# Points from which float32 is kept: as float64 a million of 8 components take 32 MB more.
FLOAT32_POINTS: Final = 1 << 20
# Points per cell, in the mean, from which it pays to send a cell to its mode as a whole.
CROWDED: Final = 4

# -- kernels and modes ------------------------------------------------------------------------------------------------

# Radius at which the kernel is cut: exp(-4.5) = 0.011.
KERNEL_REACH: Final = 3.0
# The heaviest cells carry the density: one for so many points, within these bounds; of few points more, up to this product of
# both numbers; of very many points fewer, if they are a large enough share of them.
POINTS_PER_CELL: Final = 64
FEWEST_CELLS: Final = 2000
MOST_CELLS: Final = 12_000
POINTS_TIMES_CELLS: Final = 20_000_000
ENOUGH: Final = 0.9
# Half the extent of the kernels up to which products in float32 give distances to three digits: 40^2 is rounded by 1e-4.
FLOAT32_EXTENT: Final = 40.0
# The exponent of a kernel beyond its reach: e to it is next to nothing, and not yet one of the slow smallest numbers.
NOTHING: Final = -60.0
# Nodes of a grid: 16 MB in float32.
MOST_NODES: Final = 4_000_000
# Density of a start on a grid of points. A point alone has 0.88 or more at its nearest node, where three axes share it with
# others; maxima of less are of the tails of kernels alone.
LONE: Final = 0.5
# Distance within which only the densest cell is a start.
APART: Final = 1.0
# Steps of a climb at most, and the length of a step that ends it, far below what tells two modes apart.
STEPS: Final = 60
STILL: Final = 2e-3
# Places on the way between two modes where the density is looked at, its ends left out.
WAY: Final = np.linspace(0, 1, 9)[1:-1]
# A mixture of two modes lies this close to the line between them (where two such lines cross, between both), and between them,
# as the cosine says; they are this many times denser, and on the way to both, but for a gap or so, the density is more than
# this share of its own. What that does to all presets and samples is told by `benchmarks/lost_objects.py`.
OFF: Final = 0.75
OPPOSITE: Final = -0.8
DENSER: Final = 3.0
THIN: Final = 0.15
GAPS: Final = 1
# Modes around a mode that are looked at, and modes whose surroundings are looked at at once: 16 x 256 x 256 float32 are 4 MB.
NEAREST: Final = 256
TOGETHER: Final = 16

# -- neighbours: trees and products -----------------------------------------------------------------------------------

# Dimensions up to which a tree finds the few neighbours of a position faster than products with all others. No way serves all:
# of windows of 384 to 1024 px, in pairs on one thread of a CPU, products everywhere take 0.9 of the time for codes of 2 and 3
# dimensions, but 2.6 to 14 times as long for places, whose modes are hundreds; trees everywhere take 1.1 to 1.25 times as long
# for 33 modes in 4 and 8 dimensions, 0.7 to 1.0 for 300, and up to 4340 pixels of a window get another label. All distances, as
# on a GPU, take up to 20 times as long. Without a grid, whose tops are the starts, other modes are found.
TREE_DIMENSIONS: Final = 3
# In more dimensions, modes up to which all are looked at, and kernels up to which products are faster at finding near pairs.
FEW_MODES: Final = 512
MANY_KERNELS: Final = 4096
# Positions whose near kernels a tree finds at once, and the share of the kernels up to which it pays.
TREE_ROWS: Final = 256
FEW_KERNELS: Final = 0.04
# Values of a table that is worked on at once: 2 MB beside a processor's cache, 128 MB on a GPU.
CPU_VALUES: Final = 1 << 18
GPU_VALUES: Final = 1 << 24

# -- votes with seeds and bandwidths ----------------------------------------------------------------------------------
# Chosen on training images of nuclei (2D fluorescence and 16-bit tissue), in units of the bandwidths that a network says.

# Width of a vote's kernel: votes of an object scatter by 0.1 of its bandwidth, so that what it says separates the kernels.
KERNEL: Final = 0.25
# Ratio of the widths of two classes of votes; a vote in between is shared by both.
CLASS_STEP: Final = 1.5
# Share of the votes that say less than a bandwidth that counts as narrow.
NARROW: Final = 0.05
# Modes nearer than this are one, whatever is between them.
SAME: Final = 0.5
# Share of the lower of two modes above which the density between them stays where they are one, by default: of this kind are
# models of fluorescent nuclei, on whose training images more joins and less splits. Other models say their own.
VALLEY: Final = 0.35
# Farthest from a mode that its votes lie.
WITHIN: Final = 1.6
# Difference in the logarithm of the bandwidth that counts as much as a bandwidth of distance; within an object it is 0.02.
ALIKE: Final = 0.3
# Share of a distance within which rounding could decide: differences of squares in float64 keep half of their digits.
NOISE: Final = 1e-5
# Modes that a vote can go to: the nearest of all.
CANDIDATES: Final = 6
# Seeds of an object, summed, in bandwidths to the power of the axes: those of a disk of 0.56 bandwidths. Whole objects have 5;
# those smaller than a network knows have less, since it says no bandwidth below the least that it learnt.
LEAST_MASS: Final = 1.0
# Seed below which a pixel does not vote.
FAINT: Final = 0.05
# Mean seed of a piece, by default: half is the border of an object's Gaussian.
LEAST_SEED: Final = 0.5
# Density of a mode on a grid of votes: an object of the least mass has it in the plane if its votes scatter by as much as their
# kernels, which widens these to twice the area.
LEAST_PEAK: Final = LEAST_MASS / 2
# Density at a cell's mean, of the mass of an object, from which it is climbed from there.
CLIMBED: Final = 0.25
# Least bandwidth of places, pixels: that of an object of a few.
LEAST_WIDTH: Final = 0.5
# Cells that carry the density in many dimensions, and steps of a climb there.
MOST_KERNELS: Final = 4000
VOTE_STEPS: Final = 12

# In place of a mode, of votes whose mode their cell does not decide.
ASKED: Final = -2

# -- pieces, islands and the rest -------------------------------------------------------------------------------------

# Steps from pixel to pixel by which instances grow into what is undecided: the borders where codes mix are so wide.
REACH: Final = 3
# Pixels around a block that decide its labels: those of the next pixels decide what the rest touches.
RIM: Final = REACH + 1
# Code of a foreground pixel that belongs to no piece; 0 is the background, fragment k has code k + 2.
UNDECIDED: Final = 1
# What becomes an instance, and what stays without a label, among the labels that parts of the rest join.
NEW: Final = -1
NONE: Final = 0
# Pixels of a mode that lie apart from the others may be none of its own where they are this many times as far from it.
ELSEWHERE: Final = 1.5
# Share of its border from which pixels are a part of the piece that lies there. Half of a disk has 2 / (2 + pi) = 0.39 of its
# border on the other half, and a smaller piece has more; what merely touches has less.
PART: Final = 0.375

# -- blocks, tables and scores ----------------------------------------------------------------------------------------

# Pixels of a face that are looked at at once, so that they stay in the cache.
STRIP: Final = 1 << 17
# Face pixels that are held at once while blocks are joined: 128 MB.
FACE_PIXELS: Final = 1 << 25
# Of the number of a fragment in its block, whose codes are int32.
FRAGMENT_BITS: Final = 32
# Objects of an edit that are named in a line; of more it says how many.
MOST_NAMED: Final = 6
# What 32-bit labels can count.
MOST_INSTANCES: Final = 2**32 - 1
# Pixels of a table of objects that are looked at at once; each takes about 60 bytes on the way.
TABLE_PIXELS: Final = 1 << 22
# Of a true object's area, from which a predicted piece counts as a part of it; the rim that a neighbour takes is less.
SPLIT_SHARE: Final = 0.2
# Pixels of a block whose objects are measured or outlined at once, and its edge of 2,048 in 2D and 161 in 3D: some 100 MB with
# the copies that scikit-image makes, and few objects that a window reads twice.
PART_PIXELS: Final = 1 << 22

# What the clustering of one window takes, and per pixel that it sees, and per channel of those (measured: 90 to 790 bytes per
# pixel for 2 to 16 channels).
WINDOW_BYTES: Final = (40 << 20, 100, 45)

# -- objects that are split by hand -----------------------------------------------------------------------------------

# The codes of two seeds are told apart when they lie this many times as far from each other as the pixels of a part usually lie
# from their seed: training wants three times at least (2 delta_dist of 1.5 against delta_var of 0.5), noise about one code has
# half a time.
TOLD_APART: Final = 2.0
# Share of the pixels that hang together with the seed of their code, and lie on its side of a stroke, from which codes are
# believed more than the stroke.
COHERENT: Final = 0.75
# Sides of a stroke below this share of the object are bits of a rough outline, unless there are no others.
CRUMB: Final = 0.05
# A stroke may end this share of its length before the outline; one that links the middles of two disks lacks a half.
LONGER: Final = 0.2

# -- objects of planes that become objects of a stack ------------------------------------------------------------------

# Codes are summed in steps of so many embedding units, so that sums are exact in whatever order: an object of 10^8 pixels at a
# coordinate of 10^5 stays below 2^63.
CODE_STEP: Final = 2.0**-16

# -- outlines ---------------------------------------------------------------------------------------------------------

# Sides of a pixel in the order in which a ring goes round it: along the top to the right, down, back, up. Per side: the step of
# the ring, the step to the pixel beyond the side, and the corner at which the side begins; each as (row, column).
AHEAD: Final = ((0, 1), (1, 0), (0, -1), (-1, 0))
BEYOND: Final = ((-1, 0), (0, 1), (1, 0), (0, -1))
CORNER: Final = ((0, 0), (0, 1), (1, 1), (1, 0))
